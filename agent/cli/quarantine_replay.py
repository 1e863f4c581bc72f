"""`limpet buffer quarantine replay`: sends refused batches again, and removes those that are delivered.

Works with the agent running, stopped or dead. Exit status: 0 every item is delivered and removed, 1 one was refused,
is missing or could not be sent, 130 after Ctrl-C.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.quarantine import chosen
from agent.text import human
from buffer.errors import LimpetError
from buffer.quarantine import Item, Quarantine

if TYPE_CHECKING:
    from agent.cli.progress import Bar
    from agent.config import HttpDestination
    from agent.ops.replay.run import Replayed
    from agent.send.known import Known


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    common.items(parser)
    common.buffer(parser)
    common.option(
        parser,
        "--to DESTINATION",
        "the name of a destination of --config, or a URL; default: where it was refused",
    )
    common.give_up_after(parser)
    common.json(parser)


def run(args: Namespace) -> int:
    """Send items again, each to where it was refused or all to `--to`, and remove what is delivered."""
    from agent.cli import sending
    from agent.cli.progress import Bar
    from agent.ops.replay.run import Ended
    from agent.send.known import Known

    place = common.place(args)
    if place.config is None and args.to is None:
        what = "the way to the destinations is not known"
        raise LimpetError("replay", what, "Give --config instead of --data-dir, or --to with a URL.")
    quarantine = Quarantine(place.data_dir)
    items, status = chosen(quarantine, args)
    unreachable: dict[str, str] = {}
    known: dict[str, Known] = {}
    done: list[dict[str, Any]] = []
    for item in items:
        wanted = args.to or item.destination
        if wanted in unreachable:
            output.complain(f"{item.id}: kept, not tried: {unreachable[wanted]}")
            status = 1
            continue
        try:
            to = sending.destination(wanted, place.config)
            with Bar(item.samples) as bar:
                found = known.setdefault(wanted, Known(time.monotonic))
                report = _send(quarantine, item, to, bar, args.give_up_after, found)
        except LimpetError as error:
            output.complain(f"{item.id}: kept: {error}")
            status = 1
            continue
        delivered = report.ended is Ended.COMPLETE and not report.refusals and not report.tally.damaged
        removed = delivered and _remove(quarantine, item)
        done.append({"id": item.id, "destination": to.name, "removed": removed, **sending.document(report)})
        if not args.json:
            output.write(_line(item, to, report, removed=removed))
        if report.ended is Ended.GAVE_UP:
            unreachable[wanted] = report.error or "it was given up"
        status = status if removed else 1
        if report.ended is Ended.INTERRUPTED:
            status = output.INTERRUPTED
            break
    if args.json:
        output.write_json(done)
    return status


def _send(
    quarantine: Quarantine, item: Item, to: HttpDestination, bar: Bar, give_up_after: float, known: Known
) -> Replayed:
    from agent import __version__
    from agent.cli import sending
    from agent.ops.replay.run import replay
    from agent.ops.replay.selection import Selection
    from agent.ops.replay.source import ItemHistory
    from agent.send.client import Client

    source, wire = ItemHistory(quarantine, item), Client(to, __version__)
    watcher = sending.watcher(bar)
    return replay(source, Selection(), to, wire, watcher, give_up_after=give_up_after, known=known)


def _remove(quarantine: Quarantine, item: Item) -> bool:
    try:
        if quarantine.drop(item.id, item) or quarantine.get(item.id) is None:
            return True
        output.complain(f"{item.id}: delivered, but more was refused meanwhile: replay it again")
        return False
    except OSError as error:
        output.complain(f"{item.id}: delivered, but it cannot be removed: {error}")
        return False


def _line(item: Item, to: HttpDestination, report: Replayed, *, removed: bool) -> str:
    tally = report.tally
    text = f"{item.id}: {human.count(tally.delivered)} of {human.count(item.samples)} samples delivered to {to.name}"
    if removed:
        return f"{text}, removed\n"
    reasons = [one.message for one in report.refusals] or [report.error or ""]
    if report.tally.damaged:
        reasons.append("the rest of it cannot be read")
    return human.plain(f"{text}, kept: {'; '.join(filter(None, reasons))}") + "\n"
