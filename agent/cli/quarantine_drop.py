"""`limpet buffer quarantine drop`: removes refused batches for good, after asking. Works while the agent runs.

Exit status: 0 done, 1 an item is missing or cannot be removed, or the answer was no.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.quarantine import chosen
from agent.text import human
from buffer.quarantine import Item, Quarantine


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    common.items(parser)
    common.buffer(parser)
    common.option(parser, "--yes", "do not ask")
    common.json(parser)


def run(args: Namespace) -> int:
    """Ask, and remove the items. Raises LimpetError where there is no terminal."""
    quarantine = Quarantine(common.place(args).data_dir)
    items, status = chosen(quarantine, args)
    if items and not args.yes and not output.agreed("drop", f"Drop {_batches(items)} for good?"):
        return 1
    dropped: list[Item] = []
    for item in items:
        try:
            if quarantine.drop(item.id):
                dropped.append(item)
        except OSError as error:
            output.complain(f"{item.id}: it cannot be removed: {error}")
            status = 1
    if args.json:
        output.write_json([item.document() for item in dropped])
    else:
        samples = human.count(sum(item.samples for item in dropped))
        output.write(f"dropped {len(dropped)} of {len(items)}: {samples} samples\n")
    return status


def _batches(items: Sequence[Item]) -> str:
    samples = human.count(sum(item.samples for item in items))
    return f"{human.plural(len(items), 'refused batch', 'refused batches')} with {samples} samples"
