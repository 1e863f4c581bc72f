"""`limpet buffer quarantine show`: one refused batch, with the receiver's message and its series. Read-only.

Exit status: 0 fine, 1 there is no such item.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.quarantine import missing
from buffer.model import Series
from buffer.quarantine import Quarantine

Samples = dict[Series, list[tuple[int, float]]]
"""Timestamps in ms and values, by series."""


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("id", metavar="ID", help="the item, as `list` shows it")
    common.buffer(parser)
    common.json(parser, "print JSON, with all samples")


def run(args: Namespace) -> int:
    """Show the item."""
    from agent.ops import jsonl
    from agent.ops.replay.source import Refused

    quarantine = Quarantine(common.place(args).data_dir)
    item = quarantine.get(args.id)
    if item is None:
        return missing(args.id)
    found: Samples = {}
    for piece in Refused(quarantine, item).pieces(0):
        for tick in piece.ticks:
            for series, value in zip(tick.series, tick.values, strict=True):
                found.setdefault(series, []).append((tick.at.wall_ms, value))
    if args.json:
        document = [
            {
                **one._asdict(),
                "labels": dict(one.labels),
                "samples": [[t, jsonl.special(v)] for t, v in samples],
            }
            for one, samples in found.items()
        ]
        output.write_json({**item._asdict(), "series": document}, one_line=True)
    else:
        from agent.cli import show, show_replay

        output.write(show.text(show_replay.item(item, found)))
    return 0
