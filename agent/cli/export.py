"""`limpet buffer export`: the samples of a buffer as a file for other programs, or for `limpet buffer replay`.

Read-only but for the file it writes: that one appears under its name when it is whole, or not at all.
Exit status: 0 done, 1 nothing is selected.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import IO, NamedTuple

from agent.cli import backlog, output
from agent.cli.progress import Bar
from agent.cli.when import parse_time
from agent.ops import export as formats
from agent.ops.replay.selection import FIRST_MS, LAST_MS, Selection
from agent.ops.replay.source import SegmentHistory
from agent.ops.selector import parse
from agent.text import human
from buffer.errors import LimpetError
from buffer.model import Tick

_PIECE = 1 << 18


class Options(NamedTuple):
    """What was typed."""

    data_dir: str | None
    config: str | None
    form: str
    since: str | None
    until: str | None
    selector: str | None
    output: str
    force: bool
    as_json: bool


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


def export(options: Options) -> int:
    """Write what is selected. Raises LimpetError."""
    to_stdout = options.output == "-"
    if to_stdout and options.as_json:
        raise LimpetError("--json", "the samples go to standard output", "Add --output FILE.")
    now = time.time()
    since = FIRST_MS if options.since is None else parse_time("--since", options.since, now)
    until = LAST_MS if options.until is None else parse_time("--until", options.until, now)
    selector = None if options.selector is None else parse(options.selector)
    place = backlog.where(options.data_dir, options.config)
    with backlog.readable(place.data_dir):
        log = SegmentHistory(place.data_dir, since, until)
    selection, count = Selection(since, until, selector), _Count()
    with _target(options) as write, Bar(log.total) as bar:
        ticks = _ticks(place.data_dir, log, selection, count, bar)
        for text in _pieces(_text(options, ticks)):
            count.bytes += write(text)
    _told(options, count, log.damaged)
    return 0 if count.samples else 1


def _ticks(
    data_dir: str, log: SegmentHistory, selection: Selection, count: _Count, bar: Bar
) -> Iterator[Tick]:
    with backlog.readable(data_dir):
        for number, piece in enumerate(log.pieces(0)):
            for tick in selection.of(piece.ticks):
                count.see(tick)
                yield tick
            if not number % 256:
                bar.update(piece.done, f"{human.count(count.samples)} samples")


def _text(options: Options, ticks: Iterator[Tick]) -> Iterator[str]:
    if options.form == "jsonl":
        return formats.json_lines(ticks)
    if options.form == "csv":
        return formats.csv(ticks)
    return _openmetrics(options, ticks)


def _openmetrics(options: Options, ticks: Iterator[Tick]) -> Iterator[str]:
    folder = None if options.output == "-" else os.path.dirname(os.path.abspath(options.output))
    with _storing(folder or tempfile.gettempdir()), tempfile.TemporaryFile(dir=folder) as scratch:
        yield from formats.openmetrics(ticks, scratch)


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
def _target(options: Options) -> Iterator[Callable[[str], int]]:
    if options.output == "-":
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # whatever the locale: so say the formats
        yield _to_stdout
        return
    path = options.output
    if not options.force and os.path.lexists(path):
        raise _exists(path)
    temporary = f"{path}.{os.getpid()}.tmp"
    with _storing(path):
        file = open(temporary, "xb")  # noqa: SIM115
    try:
        with _storing(path), file:
            yield lambda text: _store(file, path, text)
            file.flush()
            os.fsync(file.fileno())
        if not options.force and os.path.lexists(path):
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
        reason = (error.strerror or str(error)).lower()
        do = "Give --output with a place that has room and that this user may write to; no half file is left."
        raise LimpetError(where, f"it cannot be written: {reason}", do) from None


def _told(options: Options, count: _Count, damaged: int) -> None:
    if damaged:
        text = f"{damaged} stretches of damage were passed over; `limpet buffer verify` says what is missing"
        print(text, file=sys.stderr)
    if options.as_json:
        output.write_json(
            {
                "output": options.output,
                "format": options.form,
                "samples": count.samples,
                "bytes": count.bytes,
                "oldest_timestamp_ms": count.oldest_ms,
                "newest_timestamp_ms": count.newest_ms,
                "damaged": damaged,
            }
        )
    elif options.output != "-":
        size = human.size(count.bytes)
        output.write(f"{human.count(count.samples)} samples, {size}, in {human.plain(options.output)}\n")
    elif not count.samples:
        print("nothing is selected", file=sys.stderr)
