"""`limpet buffer trim`: give up the oldest segments, after saying what that costs.

The agent does it where one runs, else this process. Exit status: 0 done, 1 nothing to trim or the answer was no.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from typing import Any

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.view import DANGER, GOOD, Cell, Styled, View, properties
from agent.text import human
from buffer.errors import LimpetError
from buffer.inspect.segments import segments
from buffer.trim import PATIENCE, Cut, carry_out, plan


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Drops whole segments, the oldest first and never the newest. The agent does it if one runs. What a "
        "destination had not received yet is counted as evicted."
    )
    common.buffer(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    common.option(
        which, "--before TIME", "segments in which everything is older than this: a date, or 7d (ago)"
    )
    common.option(
        which, "--to-size SIZE", "as many as it takes to get down to a size such as 64MiB", type=common.size
    )
    common.option(parser, "--yes", "do not ask")
    common.json(parser)


def run(args: Namespace) -> int:
    """Show what would go, ask, and do it. Raises LimpetError, also where there is no terminal."""
    before_ms = None if args.before is None else common.parse_time("--before", args.before, time.time())
    place = common.place(args)
    with common.readable(place.data_dir):
        cut = plan(place.data_dir, before_ms=before_ms, to_size=args.to_size)
    if cut is None:
        _report(None, None, as_json=args.json)
        return 1
    if not args.json:
        with common.readable(place.data_dir):
            size = sum(one.bytes for one in segments(place.data_dir))
        output.show(show(cut, size))
    if not args.yes and not output.agreed("trim", f"Drop the oldest {cut.segments} segments for good?"):
        return 1
    patience = 3 * place.config.buffer.sync_interval if place.config else PATIENCE
    _report(cut, _done_by(place.data_dir, cut, patience), as_json=args.json)
    return 0


def _done_by(data_dir: str, cut: Cut, patience: float) -> int | None:
    def waiting(agent: int) -> None:
        if sys.stderr.isatty():
            print(f"process {agent} has the request", file=sys.stderr, flush=True)

    try:
        return carry_out(data_dir, cut.before, patience=max(PATIENCE, patience), waiting=waiting)
    except OSError as error:
        do = "Check that this user may write there; `limpet buffer segments` shows what is left."
        raise LimpetError(data_dir, f"it cannot be trimmed: {human.reason(error)}", do) from None


def _report(cut: Cut | None, agent: int | None, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {"trimmed": cut is not None, "agent_pid": agent}
        output.write_json(document | (cut._asdict() if cut else {"segments": 0, "bytes": 0}))
    elif cut is None:
        output.write("There is nothing to trim: the newest segment is never dropped.\n")
    else:
        by = "" if agent is None else f" by process {agent}"
        output.write(f"Done{by}: {human.size(cut.bytes)} are free.\n")


def show(cut: Cut, size: int) -> View:
    """Return what a trim takes from a buffer of so many bytes."""
    rows: list[tuple[str, Cell]] = [
        ("frees", f"{human.size(cut.bytes)} of {human.size(size)}, in {cut.segments} segments"),
        ("drops", f"{human.count(cut.samples)} samples"),
    ]
    if span := human.span(cut.oldest_timestamp_ms, cut.newest_timestamp_ms):
        rows.append(("from", span))
    for name, lost in cut.evicted.items():
        text = f"never gets {human.count(lost)} of them" if lost else "has all of them"
        rows.append((name, Styled(text, DANGER if lost else GOOD)))
    return [properties(rows)]
