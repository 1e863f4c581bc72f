"""What the commands of `limpet buffer quarantine` share: the items that the arguments name."""

from __future__ import annotations

from argparse import Namespace

from agent.cli import output
from buffer.quarantine import Item, Quarantine


def chosen(quarantine: Quarantine, args: Namespace) -> tuple[list[Item], int]:
    """Return the items that `id` or `--all` names, and the exit status so far: 1 where one does not exist."""
    if args.all:
        return quarantine.items(), 0
    items, status = [], 0
    for name in dict.fromkeys(args.id):
        item = quarantine.get(name)
        if item is None:
            status = missing(name)
        else:
            items.append(item)
    return items, status


def missing(name: str) -> int:
    """Report that there is no such item; return the exit status."""
    text = f"{name}: there is no such item; `limpet buffer quarantine list` has them"
    output.complain(text)
    return 1
