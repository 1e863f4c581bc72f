"""`limpet buffer segments`: what each segment file holds. Read-only."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.view import DANGER, DIM, Cell, Styled, Table, View
from agent.text import human
from buffer.inspect.segments import SegmentStatus, segments
from buffer.thin import STEPS_MS


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    common.buffer(parser)
    common.json(parser)


def run(args: Namespace) -> int:
    """Show the segments, oldest first."""
    data_dir = common.place(args).data_dir
    with common.readable(data_dir):
        found = segments(data_dir)
    if args.json:
        output.write_json([one._asdict() for one in found])
    else:
        output.show(show(found))
    return 0


def show(found: Sequence[SegmentStatus]) -> View:
    """Return a row for each segment, and the sums."""
    size = human.size(sum(one.bytes for one in found))
    samples = human.count(sum(one.samples for one in found))
    sums = f"{human.plural(len(found), 'segment')}, {size}, {samples} samples"
    titles = "segment, >size, >step, >records, >keys, >samples, oldest, newest, >damage"
    return [Table(titles, [_row(one) for one in found]), Styled(sums, DIM)]


def _row(one: SegmentStatus) -> list[Cell]:
    times = (
        "-" if t is None else human.moment(t) for t in (one.oldest_timestamp_ms, one.newest_timestamp_ms)
    )
    name = one.name.partition(".")[0].lstrip("0") or "0"
    return [
        f"{name} (history)" if one.history else name,
        human.size(one.bytes),
        human.duration(STEPS_MS[one.level] / 1000) if one.level else "full",
        human.count(one.records),
        human.count(one.key_frames),
        human.count(one.samples),
        *times,
        Styled(str(one.damaged), DANGER if one.damaged else ""),
    ]
