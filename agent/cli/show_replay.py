"""The views of the quarantine and of a replay's ledger; like those in `show`, pure functions from values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.cli.show import DANGER, DIM, plain_table, properties
from agent.ops.replay.run import Report
from agent.text import human
from agent.text.exposition import selector
from buffer.model import Series
from buffer.quarantine import Item


def replayed(report: Report) -> RenderableType:
    """The ledger of a replay, and the receiver's words."""
    ledger = report.ledger
    table = Table.grid(padding=(0, 2))
    table.add_column(style=DIM, no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("read", human.count(ledger.read))
    table.add_row(
        "selected",
        human.count(ledger.selected),
        _span(ledger.oldest_timestamp_ms, ledger.newest_timestamp_ms),
    )
    table.add_row("delivered", human.count(ledger.delivered))
    table.add_row("rejected", Text(human.count(ledger.rejected), DANGER if ledger.rejected else ""))
    if ledger.relabeled:
        table.add_row("relabeled", human.count(ledger.relabeled), "dropped by write_relabel_configs")
    if ledger.repeated:
        table.add_row("repeated", human.count(ledger.repeated), "values for an instant that had one already")
    table.add_row("retried", human.count(ledger.retried), "requests")
    table.add_row("sent", human.size(ledger.bytes), f"in {human.duration(ledger.seconds)}")
    if ledger.damaged:
        table.add_row("damaged", human.count(ledger.damaged), "stretches that cannot be read")
    notes = [
        f"refused: {human.count(one.samples)} samples, "
        f"{_span(one.oldest_timestamp_ms, one.newest_timestamp_ms)}: {one.message}"
        for one in report.refusals
    ]
    notes += [f"{report.ended.value}: {report.error}"] * bool(report.error)
    return Group(table, *(Text(human.plain(note), DANGER, overflow="fold") for note in notes))


def items(found: Sequence[Item]) -> RenderableType:
    """The quarantine, an item a row."""
    table = plain_table()
    for title in ("item", "refused", "samples", "size", "oldest", "newest", "the receiver's words"):
        right = title in ("samples", "size")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for item in found:
        table.add_row(
            item.id,
            human.moment(item.refused_at_ms),
            human.count(item.samples),
            human.size(item.bytes),
            human.moment(item.oldest_timestamp_ms),
            human.moment(item.newest_timestamp_ms),
            Text(human.plain(item.message)),
        )
    samples, size = sum(item.samples for item in found), human.size(sum(item.bytes for item in found))
    total = Text(
        f"{human.plural(len(found), 'refused batch', 'refused batches')}, {human.count(samples)} samples, {size}",
        DIM,
    )
    return Group(table, total) if found else total


def item(one: Item, found: Mapping[Series, Sequence[tuple[int, float]]]) -> RenderableType:
    """One item: the receiver's words, and what is in it by series."""
    head = properties()
    samples, size = human.count(one.samples), human.size(one.bytes)
    for title, text in (
        ("item", one.id),
        ("destination", one.destination),
        ("refused", human.moment(one.refused_at_ms)),
        ("reason", f"{one.reason}, HTTP status {one.status}"),
        ("words", one.message),
        ("samples", f"{samples}, {_span(one.oldest_timestamp_ms, one.newest_timestamp_ms)}, {size} on disk"),
    ):
        head.add_row(title, Text(human.plain(text)))
    table = plain_table()
    table.add_column("series", overflow="fold")
    for title in ("samples", "first", "last"):
        table.add_column(title, justify="right", no_wrap=True)
    for series, of in found.items():
        first, last = (human.quantity(series.name, of[i][1], series.unit) for i in (0, -1))
        table.add_row(
            Text(human.plain(selector(series.name, series.labels))), human.count(len(of)), first, last
        )
    return Group(head, Text(), table)


def _span(oldest_ms: int | None, newest_ms: int | None) -> str:
    if oldest_ms is None or newest_ms is None:
        return ""
    return f"{human.moment(oldest_ms)} to {human.moment(newest_ms)}"
