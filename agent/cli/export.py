"""`limpet buffer export`: the samples of a buffer as a file for other programs, or for `limpet buffer replay`.

Read-only but for the file it writes: that one appears under its name when it is whole, or not at all.
Exit status: 0 done, 1 nothing is selected.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.progress import Bar
from agent.text import human
from buffer.errors import LimpetError
from buffer.model import Tick

if TYPE_CHECKING:
    from agent.ops.replay.selection import Selection
    from agent.ops.replay.source import SegmentHistory

_PIECE = 1 << 18


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = "Writes samples as text, delivered or not. The buffer stays as it is."
    common.buffer(parser)
    parser.add_argument(
        "--format",
        choices=("jsonl", "openmetrics", "csv"),
        default="jsonl",
        help="JSON lines (default), which `limpet buffer replay` reads; OpenMetrics, which promtool makes "
        "blocks of; or CSV",
    )
    common.selection(parser)
    common.option(parser, "--output FILE", "the file to write; default: -, standard output", default="-")
    common.option(parser, "--force", "replace an existing file")
    common.json(parser, "print what was written as JSON; needs --output")


class _Count:
    """What went through."""

    def __init__(self) -> None:
        self.samples = self.bytes = 0
        self.oldest_ms: int | None = None
        self.newest_ms: int | None = None

    def see(self, tick: Tick) -> None:
        at = tick.at.wall_ms
        self.samples += len(tick.values)
        self.oldest_ms = at if self.oldest_ms is None else min(at, self.oldest_ms)
        self.newest_ms = at if self.newest_ms is None else max(at, self.newest_ms)


def run(args: Namespace) -> int:
    """Write what is selected. Raises LimpetError."""
    from agent.ops.replay.selection import Selection
    from agent.ops.replay.source import SegmentHistory
    from agent.ops.selector import parse

    if args.output == "-" and args.json:
        raise LimpetError("--json", "the samples go to standard output", "Add --output FILE.")
    since_ms, until_ms = common.span(args, time.time())
    selector = None if args.selector is None else parse(args.selector)
    data_dir = common.place(args).data_dir
    with common.readable(data_dir):
        log = SegmentHistory(data_dir, since_ms, until_ms, unplaced_wanted=True)
    selection, count = Selection(since_ms, until_ms, selector), _Count()
    with _target(args.output, force=args.force) as write, Bar(log.total) as bar:
        ticks = _ticks(data_dir, log, selection, count, bar)
        for text in _pieces(_text(args, ticks)):
            count.bytes += write(text)
    if log.unplaced:
        text = f"{human.plural(log.unplaced, 'sample has', 'samples have')} the times of a clock that was not believed (limpet status)"
        output.complain(text)
    _report(args, count, log.damaged)
    return 0 if count.samples else 1


def _ticks(
    data_dir: str, log: SegmentHistory, selection: Selection, count: _Count, bar: Bar
) -> Iterator[Tick]:
    with common.readable(data_dir):
        for number, piece in enumerate(log.pieces(0)):
            for tick in selection.of(piece.ticks):
                count.see(tick)
                yield tick
            if not number % 256:
                bar.update(piece.done, f"{human.count(count.samples)} samples")


def _text(args: Namespace, ticks: Iterator[Tick]) -> Iterator[str]:
    from agent.text import export

    if args.format == "jsonl":
        return export.json_lines(ticks)
    if args.format == "csv":
        return export.csv(ticks)
    return _openmetrics(args.output, ticks)


def _openmetrics(output_file: str, ticks: Iterator[Tick]) -> Iterator[str]:
    from agent.text.export import openmetrics

    folder = None if output_file == "-" else os.path.dirname(os.path.abspath(output_file))
    with _storing(folder or tempfile.gettempdir()), tempfile.TemporaryFile(dir=folder) as scratch:
        yield from openmetrics(ticks, scratch)


def _pieces(texts: Iterator[str]) -> Iterator[str]:
    """Join small pieces: each one is a call to write."""
    waiting, size = list[str](), 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= _PIECE:
            yield "".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield "".join(waiting)


@contextmanager
def _target(path: str, *, force: bool) -> Iterator[Callable[[str], int]]:
    if path == "-":
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # whatever the locale: so say the formats
        yield _to_stdout
        return
    if not force and os.path.lexists(path):
        raise _exists(path)
    temporary = f"{path}.{os.getpid()}.tmp"
    with _storing(path):
        file = open(temporary, "xb")  # noqa: SIM115
    try:
        with _storing(path), file:
            yield lambda text: _store(file, path, text)
            file.flush()
            os.fsync(file.fileno())
        if not force and os.path.lexists(path):
            raise _exists(path)
        with _storing(path):
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _to_stdout(text: str) -> int:
    output.write(text)
    return len(text.encode())


def _store(file: IO[bytes], path: str, text: str) -> int:
    with _storing(path):
        return file.write(text.encode())


def _exists(path: str) -> LimpetError:
    return LimpetError(path, "the file is there already", "Give another name, or --force to replace it.")


@contextmanager
def _storing(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        do = "Give --output with a place that has room and that this user may write to; no half file is left."
        raise LimpetError(where, f"it cannot be written: {human.reason(error)}", do) from None


def _report(args: Namespace, count: _Count, damaged: int) -> None:
    if damaged:
        text = f"{damaged} stretches of damage were passed over; `limpet buffer verify` says what is missing"
        output.complain(text)
    if args.json:
        output.write_json(
            {
                "output": args.output,
                "format": args.format,
                "samples": count.samples,
                "bytes": count.bytes,
                "oldest_timestamp_ms": count.oldest_ms,
                "newest_timestamp_ms": count.newest_ms,
                "damaged": damaged,
            }
        )
    elif args.output != "-":
        size = human.size(count.bytes)
        output.write(f"{human.count(count.samples)} samples, {size}, in {human.plain(args.output)}\n")
    elif not count.samples:
        output.complain("nothing is selected")
