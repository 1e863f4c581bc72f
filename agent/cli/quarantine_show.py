"""`limpet buffer quarantine show`: one refused batch, with the receiver's message and its series. Read-only.

Exit status: 0 fine, 1 there is no such item.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.quarantine import missing
from agent.cli.view import Table, View, properties
from agent.text import human
from agent.text.exposition import selector
from buffer.model import Series
from buffer.quarantine import Item, Quarantine

Samples = dict[Series, list[tuple[int, float]]]
"""Timestamps in ms and values, by series."""


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("id", metavar="ID", help="the item, as `list` shows it")
    common.buffer(parser)
    common.json(parser, "print JSON, with all samples")


def run(args: Namespace) -> int:
    """Show the item."""
    from agent.ops.replay.source import ItemHistory
    from agent.text import jsonl

    quarantine = Quarantine(common.place(args).data_dir)
    item = quarantine.get(args.id)
    if item is None:
        return missing(args.id)
    found: Samples = {}
    for piece in ItemHistory(quarantine, item).pieces(0):
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
        output.write_json({**item.document(), "series": document}, one_line=True)
    else:
        output.show(show(item, found))
    return 0


def show(one: Item, found: Samples) -> View:
    """Return the item, the receiver's message, and the series with their first and last value."""
    samples, size = human.count(one.samples), human.size(one.bytes)
    span = human.span(one.oldest_timestamp_ms, one.newest_timestamp_ms)
    head = properties(
        [
            ("item", one.id),
            ("destination", one.destination),
            ("refused", human.moment(one.refused_at_ms)),
            ("reason", f"{one.reason}, HTTP status {one.code}"),
            ("words", one.message),
            ("samples", f"{samples}, {span}, {size} on disk"),
        ]
    )
    rows = [
        (
            selector(series.name, series.labels),
            human.count(len(of)),
            *(human.quantity(series.name, of[i][1], series.unit) for i in (0, -1)),
        )
        for series, of in found.items()
    ]
    return [head, "", Table("series, >samples, >first, >last", rows)]
