"""`limpet retry`: have the agent that runs try now what waits and what is held.

Exit status: 0 every destination is well, 1 one is still in trouble, or no agent can try.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace

from agent.cli import arguments as common
from agent.cli import output

WAIT_SECONDS = 10.0


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Asks the agent that runs (by SIGHUP, as `systemctl reload limpet` does) to read its configuration again, and to try "
        "each destination that waits or is held at once; then says what came of it. Exit status 1 where a destination is "
        "still in trouble, or no agent can try."
    )
    common.buffer(parser)
    common.option(
        parser,
        "--wait DURATION",
        "how long to look at what comes of it (default 10s)",
        type=common.duration,
        default=WAIT_SECONDS,
    )
    common.json(parser)


def run(args: Namespace) -> int:
    """Ask, look, and say what came of it. Raises NotAsked."""
    from agent import running
    from agent.ops import retry, seen, verdict

    path = args.config or (None if args.data_dir else common.default_config())
    found = seen.look(args.data_dir, path, common.DEFAULT_CONFIG, time.time(), running.boot_id())
    before, asked_ms = retry.troubled(found), int(time.time() * 1000)
    pid = retry.ask(found)
    loaded = verdict.configuration(found)
    if not args.json:
        output.write(f"process {pid} reads its configuration again, and tries now\n")
        if loaded.ok and loaded.do:
            output.write(f"  before that, {loaded.said}\n")
    with common.readable(found.data_dir):
        tried = retry.follow(found.data_dir, before, asked_ms, args.wait)
    if args.json:
        output.write_json(
            {"pid": pid, "data_dir": found.data_dir, "destinations": [one._asdict() for one in tried]}
        )
    else:
        output.write("".join(f"{_line(*one)}\n" for one in tried) or "no destination was in trouble\n")
    return 0 if all(one.is_well for one in tried) else 1


def _line(name: str, before: str, state: str, error: str | None) -> str:
    from agent.ops.retry import TROUBLED
    from agent.text import human

    if state not in TROUBLED:
        return human.plain(f"{name}: takes samples again")
    return human.plain(f"{name}: still {state}: {error or 'no answer yet'}")
