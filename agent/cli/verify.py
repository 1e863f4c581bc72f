"""`limpet buffer verify`: is everything in the buffer as it was written?

Read-only. Exit status: 0 no damage, 1 damage, whatever else is readable.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.progress import Bar
from agent.text import human
from buffer import lock
from buffer.inspect.verify import Verification
from buffer.inspect.verify import verify as read


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    common.buffer(parser)
    parser.add_argument(
        "--deep",
        action="store_true",
        help="decode every record as well: over ten times slower, and finds what was wrong before it was written",
    )
    common.json(parser)


def run(args: Namespace) -> int:
    """Check every checksum, with `--deep` every record too, and show the result."""
    data_dir = common.place(args).data_dir
    with common.readable(data_dir), Bar(1000) as bar:

        def progress(done: int, total: int) -> None:
            share = 1000 * done // total if total else 1000
            bar.update(share, f"{human.size(done)} of {human.size(total)}")

        report = read(data_dir, deep=args.deep, progress=progress)
    writer = lock.holder(f"{data_dir}/lock")
    if args.json:
        output.write_json(document(data_dir, report, deep=args.deep, writer=writer))
    else:
        from agent.cli import show, show_tools

        output.write(show.text(show_tools.verified(report, running=writer is not None)))
    return 0 if report.ok else 1


def document(data_dir: str, report: Verification, *, deep: bool, writer: int | None) -> dict[str, Any]:
    """What `--json` prints."""
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
