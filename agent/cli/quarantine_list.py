"""`limpet buffer quarantine list`: every batch that a receiver refused for good, oldest refusal first. Read-only."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from agent.cli import arguments as common
from agent.cli import output
from buffer.quarantine import Quarantine


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = "Shows all items, oldest refusal first; an item is a refused batch."
    common.buffer(parser)
    common.json(parser)


def run(args: Namespace) -> int:
    """Show every item."""
    found = Quarantine(common.place(args).data_dir).items()
    if args.json:
        output.write_json([item._asdict() for item in found])
    else:
        from agent.cli import show, show_replay

        output.write(show.text(show_replay.items(found)))
    return 0
