"""`limpet buffer verify`: is everything in the buffer as it was written?

Read-only. Exit status: 0 no damage, 1 damage, whatever else is readable.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.progress import Bar
from agent.cli.view import DANGER, DIM, GOOD, WARNING, Cell, Styled, Table, View
from agent.text import human
from buffer import lock
from buffer.inspect.verify import Verification, VerifiedSegment, verify
from buffer.thin import STEPS_MS


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    common.buffer(parser)
    common.option(
        parser,
        "--deep",
        "decode every record as well: over ten times slower, and finds what was wrong before it was written",
    )
    common.json(parser)


def run(args: Namespace) -> int:
    """Check every checksum, with `--deep` every record too, and show the result."""
    data_dir = common.place(args).data_dir
    with common.readable(data_dir), Bar(1000) as bar:

        def progress(done: int, total: int) -> None:
            share = 1000 * done // total if total else 1000
            bar.update(share, f"{human.size(done)} of {human.size(total)}")

        report = verify(data_dir, deep=args.deep, progress=progress)
    writer = lock.holder(f"{data_dir}/lock")
    if args.json:
        output.write_json(document(data_dir, report, deep=args.deep, writer=writer))
    else:
        output.show(show(report, running=writer is not None))
    return 0 if report.ok else 1


def document(data_dir: str, report: Verification, *, deep: bool, writer: int | None) -> dict[str, Any]:
    """Return what `--json` prints."""
    oldest, newest = report.span
    segments = [
        {**one._asdict(), "damage": one.damage._asdict() if one.damage else None} for one in report.segments
    ]
    return {
        "data_dir": data_dir,
        "ok": report.ok,
        "deep": deep,
        "writer_pid": writer,
        "bytes": sum(one.bytes for one in report.segments),
        "samples": report.samples,
        "samples_lost": report.samples_lost,
        "damaged_bytes": sum(one.damaged_bytes for one in report.segments),
        "oldest_timestamp_ms": oldest,
        "newest_timestamp_ms": newest,
        "segments": segments,
        "gaps": [gap._asdict() for gap in report.gaps],
        "cursors": [cursor._asdict() for cursor in report.cursors],
        "notes": [note._asdict() for note in report.notes],
    }


def show(report: Verification, *, running: bool) -> View:
    """Return the segments, the cursors, what is not the log's, and what all that means."""
    titles = "segment, >size, >step, >records, >readable, >lost, >damaged, >at, *what is wrong"
    parts: View = [Table(titles, [_row(one) for one in report.segments])]
    if report.cursors:
        cursors = [
            (
                one.name,
                "-" if one.position is None else f"{one.position:,}",
                Styled(one.problem or "", DANGER),
            )
            for one in report.cursors
        ]
        parts += ["", Table("cursor, >position, *what is wrong", cursors)]
    notes = [
        Styled(f"positions {gap.first_seq} to {gap.end_seq}: no file holds them", DANGER)
        for gap in report.gaps
    ]
    notes += [Styled(f"{one.path}: {one.what}", WARNING) for one in report.notes]
    if notes:
        parts += ["", *notes]
    return [*parts, "", *_summary(report, running=running)]


def _row(one: VerifiedSegment) -> list[Cell]:
    what, style = ("covered by a thinned one", DIM) if one.leftover else ("", "")
    if one.damage:
        what, style = one.damage.reason, DANGER
    step = STEPS_MS[one.level] if one.level < len(STEPS_MS) else 0
    name = one.name.partition(".")[0].lstrip("0") or "0"
    return [
        f"{name} (history)" if one.history else name,
        human.size(one.bytes),
        human.duration(step / 1000) if step else "full",
        human.count(one.records),
        human.count(one.samples),
        Styled(human.count(one.samples_lost), DANGER if one.samples_lost else ""),
        human.size(one.damaged_bytes) if one.damaged_bytes else "-",
        f"{one.damage.offset:,}" if one.damage else "-",
        Styled(what, style),
    ]


def _summary(report: Verification, *, running: bool) -> list[Styled]:
    whole = report.samples + report.samples_lost
    span = human.span(*report.span)
    if not whole or not span:
        readable = "No sample is in this buffer." if not whole else f"None of {whole:,} samples is readable."
    else:
        part = f"{report.samples:,} samples are" if report.samples != 1 else "1 sample is"
        if report.samples_lost:
            share = 100 * report.samples / whole
            part = f"{report.samples:,} of {whole:,} samples ({min(share, 99.99):.2f} %) are"
        readable = f"{part} readable, from {span}."
    if report.ok:
        return [Styled(f"{readable} No damage.", GOOD)]
    continues = "The agent continues" if running else "The agent continues when it is started"
    what = f"{continues}: it skips the damage, sends what is readable, and counts the rest as lost."
    return [Styled(readable, WARNING), Styled(what)]
