"""The views of `limpet buffer verify` and `trim`; like those in `show`, pure functions from values."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from agent.cli.show import DANGER, DIM, GOOD, WARNING, plain_table, properties
from agent.text import human
from buffer.inspect.verify import Verification, VerifiedSegment
from buffer.segment import SUFFIX
from buffer.thin import STEPS_MS
from buffer.trim import Cut


def verified(report: Verification, *, running: bool) -> RenderableType:
    """The segments, the cursors, what is not the log's, and what all that means."""
    parts: list[RenderableType] = [_segments(report.segments)]
    if report.cursors:
        parts += [Text(), _cursors(report)]
    notes = [
        Text(f"positions {gap.first_seq} to {gap.end_seq}: no file holds them", DANGER) for gap in report.gaps
    ]
    notes += [Text(human.plain(f"{one.path}: {one.what}"), WARNING, overflow="fold") for one in report.notes]
    if notes:
        parts += [Text(), *notes]
    return Group(*parts, Text(), *_summary(report, running=running))


def _segments(found: list[VerifiedSegment]) -> RenderableType:
    table = plain_table()
    for title in ("segment", "size", "step", "records", "readable", "lost", "damaged", "at", "what is wrong"):
        left = title in ("segment", "what is wrong")
        table.add_column(title, justify="left" if left else "right", overflow="fold")
    for one in found:
        what, style = ("covered by a thinned one", DIM) if one.leftover else ("", "")
        if one.damage:
            what, style = one.damage.reason, DANGER
        step = STEPS_MS[one.level] if one.level < len(STEPS_MS) else 0
        table.add_row(
            one.name.removesuffix(SUFFIX).lstrip("0") or "0",
            human.size(one.bytes),
            human.duration(step / 1000) if step else "full",
            human.count(one.records),
            human.count(one.samples),
            Text(human.count(one.samples_lost), DANGER if one.samples_lost else ""),
            human.size(one.damaged_bytes) if one.damaged_bytes else "-",
            f"{one.damage.offset:,}" if one.damage else "-",
            Text(human.plain(what), style),
        )
    return table


def _cursors(report: Verification) -> RenderableType:
    table = plain_table()
    table.add_column("cursor", overflow="fold")
    table.add_column("position", justify="right")
    table.add_column("what is wrong", overflow="fold")
    for one in report.cursors:
        position = "-" if one.position is None else f"{one.position:,}"
        table.add_row(human.plain(one.name), position, Text(human.plain(one.problem or ""), DANGER))
    return table


def _summary(report: Verification, *, running: bool) -> list[RenderableType]:
    oldest, newest = report.span
    whole = report.samples + report.samples_lost
    if not whole or oldest is None or newest is None:
        readable = "No sample is in this buffer." if not whole else f"None of {whole:,} samples is readable."
    else:
        part = f"{report.samples:,} samples are" if report.samples != 1 else "1 sample is"
        if report.samples_lost:
            share = 100 * report.samples / whole
            part = f"{report.samples:,} of {whole:,} samples ({min(share, 99.99):.2f} %) are"
        readable = f"{part} readable, from {human.moment(oldest)} to {human.moment(newest)}."
    if report.ok:
        return [Text(f"{readable} No damage.", GOOD)]
    goes = "The agent goes on" if running else "The agent goes on when it is started"
    what = f"{goes}: it passes over the damage, sends what is readable, and counts the rest as lost."
    return [Text(readable, WARNING), Text(what)]


def cost(cut: Cut, size: int) -> RenderableType:
    """What a trim takes of a buffer of this size."""
    table = properties()
    table.add_row("frees", f"{human.size(cut.bytes)} of {human.size(size)}, in {cut.segments} segments")
    table.add_row("drops", f"{human.count(cut.samples)} samples")
    if cut.oldest_timestamp_ms is not None and cut.newest_timestamp_ms is not None:
        span = f"{human.moment(cut.oldest_timestamp_ms)} to {human.moment(cut.newest_timestamp_ms)}"
        table.add_row("from", span)
    for name, lost in cut.evicted.items():
        told = f"never gets {human.count(lost)} of them" if lost else "has all of them"
        table.add_row(human.plain(name), Text(told, DANGER if lost else GOOD))
    return table
