"""`limpet buffer quarantine`: what receivers refused for good, to be looked at, sent again, or dropped.

Works with the agent running, stopped or dead. Exit status: 0 all is fine, 1 something was refused, is missing or
could not be done, 130 after Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agent.cli import backlog, output
from agent.ops import jsonl
from agent.ops.replay.source import ItemHistory
from agent.text import human
from buffer.errors import LimpetError
from buffer.model import Series
from buffer.quarantine import Item, Quarantine

if TYPE_CHECKING:
    from agent.config import Config, RemoteWrite
    from agent.ops.replay.run import Replayed

Samples = dict[Series, list[tuple[int, float]]]


def listing(data_dir: str | None, config: str | None, *, as_json: bool) -> int:
    """Show every item, oldest refusal first."""
    _, quarantine = _open(data_dir, config)
    found = quarantine.items()
    if as_json:
        output.write_json([item._asdict() for item in found])
        return 0
    from agent.cli import show, show_replay

    output.write(show.text(show_replay.items(found)))
    return 0


def detail(data_dir: str | None, config: str | None, name: str, *, as_json: bool) -> int:
    """Show one item: the receiver's words, and its series."""
    _, quarantine = _open(data_dir, config)
    item = quarantine.get(name)
    if item is None:
        return _missing(name)
    found: Samples = {}
    for piece in ItemHistory(quarantine, item).pieces(0):
        for tick in piece.ticks:
            for series, value in zip(tick.series, tick.values, strict=True):
                found.setdefault(series, []).append((tick.at.wall_ms, value))
    if as_json:
        document = [
            {
                **one._asdict(),
                "labels": dict(one.labels),
                "samples": [[t, jsonl.special(v)] for t, v in samples],
            }
            for one, samples in found.items()
        ]
        output.write_json({**item._asdict(), "series": document}, one_line=True)
        return 0
    from agent.cli import show, show_replay

    output.write(show.text(show_replay.item(item, found)))
    return 0


def drop(
    data_dir: str | None, config: str | None, names: Sequence[str], *, all_: bool, yes: bool, as_json: bool
) -> int:
    """Remove items for good, after asking. Raises LimpetError where nobody can be asked."""
    _, quarantine = _open(data_dir, config)
    items, status = _chosen(quarantine, names, all_=all_)
    if items and not yes and not _agreed(items):
        return 1
    dropped: list[Item] = []
    for item in items:
        try:
            if quarantine.drop(item.id):
                dropped.append(item)
        except OSError as error:
            print(f"{item.id}: it cannot be removed: {error}", file=sys.stderr)
            status = 1
    if as_json:
        output.write_json([item._asdict() for item in dropped])
    else:
        samples = human.count(sum(item.samples for item in dropped))
        output.write(f"dropped {len(dropped)} of {len(items)}: {samples} samples\n")
    return status


def replay(
    data_dir: str | None,
    config: str | None,
    names: Sequence[str],
    *,
    all_: bool,
    to: str | None,
    give_up_after: float,
    as_json: bool,
) -> int:
    """Send items again, each to where it was refused or all to `to`, and remove what is delivered."""
    from agent.cli.progress import Bar
    from agent.cli.replay import INTERRUPTED, document
    from agent.ops.replay.run import Ended

    settings, quarantine = _open(data_dir, config)
    if settings is None and to is None:
        what = "the way to the destinations is not known"
        raise LimpetError("replay", what, "Give --config instead of --data-dir, or --to with a URL.")
    items, status = _chosen(quarantine, names, all_=all_)
    unreachable: dict[str, str] = {}
    done: list[dict[str, Any]] = []
    for item in items:
        wanted = to or item.destination
        if wanted in unreachable:
            print(f"{item.id}: kept, not tried: {unreachable[wanted]}", file=sys.stderr)
            status = 1
            continue
        try:
            there = _destination(wanted, settings)
            with Bar(item.samples) as bar:
                report = _send(quarantine, item, there, bar, give_up_after)
        except LimpetError as error:
            print(f"{item.id}: kept: {error}", file=sys.stderr)
            status = 1
            continue
        delivered = report.ended is Ended.COMPLETE and not report.refusals and not report.tally.damaged
        removed = delivered and _remove(quarantine, item)
        done.append({"id": item.id, "destination": there.name, "removed": removed, **document(report)})
        if not as_json:
            output.write(_told(item, there, report, removed=removed))
        if report.ended is Ended.GAVE_UP:
            unreachable[wanted] = report.error or "it was given up"
        status = status if removed else 1
        if report.ended is Ended.INTERRUPTED:
            status = INTERRUPTED
            break
    if as_json:
        output.write_json(done)
    return status


def _send(quarantine: Quarantine, item: Item, to: RemoteWrite, bar: Any, give_up_after: float) -> Replayed:
    from agent import __version__
    from agent.cli.replay import watcher
    from agent.ops.replay.run import replay as send
    from agent.ops.replay.selection import Selection
    from agent.send.client import Client

    source, wire = ItemHistory(quarantine, item), Client(to, __version__)
    return send(source, Selection(), to, wire, watcher(bar), give_up_after=give_up_after)


def _destination(name: str, config: Config | None) -> RemoteWrite:
    from agent.cli.replay import destination

    return destination(name, config)


def _remove(quarantine: Quarantine, item: Item) -> bool:
    try:
        return quarantine.drop(item.id)
    except OSError as error:
        print(f"{item.id}: delivered, but it cannot be removed: {error}", file=sys.stderr)
        return False


def _told(item: Item, to: RemoteWrite, report: Replayed, *, removed: bool) -> str:
    tally = report.tally
    text = f"{item.id}: {human.count(tally.delivered)} of {human.count(item.samples)} samples delivered to {to.name}"
    if removed:
        return f"{text}, removed\n"
    words = [one.message for one in report.refusals] or [report.error or ""]
    if report.tally.damaged:
        words.append("the rest of it cannot be read")
    return human.plain(f"{text}, kept: {'; '.join(filter(None, words))}") + "\n"


def _open(data_dir: str | None, config: str | None) -> tuple[Config | None, Quarantine]:
    settings = None
    if data_dir is None:
        from agent.config import load_file

        settings = load_file(config or "").config
        data_dir = settings.data_dir
    backlog.where(data_dir, None)
    return settings, Quarantine(data_dir)


def _chosen(quarantine: Quarantine, names: Sequence[str], *, all_: bool) -> tuple[list[Item], int]:
    """The items that are meant, and the exit status so far."""
    if all_:
        return quarantine.items(), 0
    items, status = [], 0
    for name in dict.fromkeys(names):
        item = quarantine.get(name)
        if item is None:
            status = _missing(name)
        else:
            items.append(item)
    return items, status


def _missing(name: str) -> int:
    print(
        f"{human.plain(name)}: there is no such item; `limpet buffer quarantine list` has them",
        file=sys.stderr,
    )
    return 1


def _agreed(items: Sequence[Item]) -> bool:
    if not sys.stdin.isatty():
        raise LimpetError("drop", "there is no terminal to ask at", "Add --yes if it is meant.")
    batches = "1 refused batch" if len(items) == 1 else f"{human.count(len(items))} refused batches"
    samples = human.count(sum(item.samples for item in items))
    print(f"Drop {batches} with {samples} samples for good? [y/N] ", end="", file=sys.stderr)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
