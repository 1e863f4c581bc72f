"""`limpet buffer quarantine list`: every batch that a receiver refused for good, oldest refusal first. Read-only."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.view import DIM, Styled, Table, View
from agent.text import human
from buffer.quarantine import Item, Quarantine


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = "Shows all items, oldest refusal first; an item is a refused batch."
    common.buffer(parser)
    common.json(parser)


def run(args: Namespace) -> int:
    """Show every item."""
    found = Quarantine(common.place(args).data_dir).items()
    if args.json:
        output.write_json([item.document() for item in found])
    else:
        output.show(show(found))
    return 0


def show(found: Sequence[Item]) -> View:
    """Return a row for each item, and the sums."""
    samples, size = sum(item.samples for item in found), human.size(sum(item.bytes for item in found))
    batches = human.plural(len(found), "refused batch", "refused batches")
    sums = Styled(f"{batches}, {human.count(samples)} samples, {size}", DIM)
    titles = "item, refused, >samples, >size, oldest, newest, *the receiver's words"
    rows = [
        (
            item.id,
            human.moment(item.refused_at_ms),
            human.count(item.samples),
            human.size(item.bytes),
            human.moment(item.oldest_timestamp_ms),
            human.moment(item.newest_timestamp_ms),
            item.message,
        )
        for item in found
    ]
    return [Table(titles, rows), sums] if found else [sums]
