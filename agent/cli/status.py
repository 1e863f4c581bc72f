"""`limpet buffer status`: how much waits for each destination, and what became of the rest.

Read-only: no lock is taken and no file is changed, whether the agent runs, is stopped, or is dead.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from agent.cli import arguments as common
from agent.cli import output

if TYPE_CHECKING:
    from buffer.inspect.status import Status

WATCH_SECONDS = 2.0


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    common.buffer(parser)
    once = parser.add_mutually_exclusive_group()
    once.add_argument(
        "--fresh",
        metavar="DURATION",
        type=common.duration,
        help="exit status 1 unless an agent runs and its newest sample is at most this old: a health check",
    )
    once.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        const=WATCH_SECONDS,
        type=common.seconds,
        help=f"show it again every so many seconds (default {WATCH_SECONDS:g}), until Ctrl-C",
    )
    common.json(parser, "print JSON; with --watch one document a line")


def run(args: Namespace) -> int:
    """Show the backlog: once, or with `--watch` until Ctrl-C.

    With `--fresh` the exit status is 1 where it is not fresh (`not_fresh`); the reason is on standard error.
    """
    from buffer.inspect.status import status as read_status

    place = common.place(args)

    def read() -> Status:
        with common.readable(place.data_dir):
            os.listdir(place.data_dir)  # it may have gone since
            return read_status(place.data_dir, place.max_bytes, time.time())

    if args.watch is not None and not args.json:
        from agent.cli import show

        show.live(lambda width, _: show.status(read(), time.time(), width), args.watch)
    while args.watch is not None:
        output.write_json(read().document(), one_line=True)
        time.sleep(args.watch)
    found = read()
    if args.json:
        output.write_json(found.document())
    else:
        from agent.cli import show

        output.write(show.text(show.status(found, time.time(), show.width())))
    why = None if args.fresh is None else not_fresh(found, args.fresh, time.time())
    if why is None:
        return 0
    print(f"{place.data_dir}: {why}", file=sys.stderr)
    return 1


def not_fresh(found: Status, within: float, now: float) -> str | None:
    """Why a status does not show an agent that wrote a sample in the last `within` seconds; None where it does.

    A newest sample from the future is one: the clock was set back, and the agent works.
    """
    if found.writer_pid is None:
        return "no agent writes to it"
    if found.newest_timestamp_ms is None:
        return "it has no samples"
    age = now - found.newest_timestamp_ms / 1000
    return f"the newest sample is {age:.0f} s old" if age > within else None
