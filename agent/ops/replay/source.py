"""What can be replayed: a buffer, an item of the quarantine, a file of `limpet buffer export`.

A source gives its samples in pieces, in the order in which they are to be sent, and numbers them: a position
counts what lies before it, so an interrupted replay continues at one. All only read. No lock is taken, so
an agent may be writing to the buffer meanwhile; what it appends after the start is not part of the replay.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from io import BufferedReader
from typing import NamedTuple, Protocol

import msgspec

from agent.text import jsonl
from buffer.errors import LimpetError
from buffer.fs import RealFs
from buffer.history.read import WholeReader
from buffer.inspect.segments import segments
from buffer.model import Instant, Series, Tick
from buffer.quarantine import Item, Quarantine

PIECE = 100
"""Samples of a line of a file that stay together; where a receiver takes less at once, it is held."""
LONGEST_LINE = 64 << 20
_GZIP = b"\x1f\x8b"


class Piece(NamedTuple):
    """Some ticks: the position after them, the samples they hold, and how far that is towards `total`."""

    ticks: list[Tick]
    end: int
    samples: int
    done: int


class History(Protocol):
    """Samples to replay."""

    @property
    def total(self) -> int:
        """How far there is to go, in a measure of its own."""

    @property
    def damaged(self) -> int:
        """Stretches that could not be read so far."""

    def pieces(self, position: int) -> Iterator[Piece]:
        """Yield everything from a position on. Raises LimpetError, OSError."""


class SegmentHistory:
    """The history and the log of a buffer, as far as they reach into `since_ms` to `until_ms`, both included.

    `end` is where the log ended when the replay began. Samples whose times are not known yet have those of a clock that nobody
    believed: they are left out where they are not `wanted`. Raises OSError.
    """

    def __init__(
        self,
        data_dir: str,
        since_ms: int,
        until_ms: int,
        end: int | None = None,
        *,
        unplaced_wanted: bool = False,
    ) -> None:
        self._fs, self._data_dir = RealFs(data_dir), data_dir
        everything = segments(data_dir)
        unplaced = [one for one in everything if one.provisional]
        self.unplaced = sum(one.samples for one in unplaced)
        """How many samples have no times yet."""
        self._left_out = [] if unplaced_wanted else [(one.first_seq, one.end_seq) for one in unplaced]
        found = [
            one
            for one in everything
            if one.oldest_timestamp_ms is not None
            and one.newest_timestamp_ms is not None
            and one.oldest_timestamp_ms <= until_ms
            and one.newest_timestamp_ms >= since_ms
        ]
        self._first = found[0].first_seq if found else 0
        self.end = end if end is not None else max((one.end_seq for one in found), default=0)
        self.total = max(0, self.end - self._first)
        self.damaged = 0

    def pieces(self, position: int) -> Iterator[Piece]:
        """Yield the records from a position on."""
        reader = WholeReader(self._fs, self._data_dir, max(position, self._first))
        try:
            while self.total and (entry := reader.next()) is not None and entry.seq < self.end:
                self.damaged = reader.damaged
                if not any(first <= entry.seq < end for first, end in self._left_out):
                    yield Piece(entry.ticks, entry.end, entry.samples, entry.end - self._first)
        finally:
            self.damaged = reader.damaged
            reader.close()


class ItemHistory:
    """An item of the quarantine."""

    def __init__(self, quarantine: Quarantine, item: Item) -> None:
        self._quarantine, self._item = quarantine, item
        self.total, self.damaged = item.samples, 0

    def pieces(self, position: int) -> Iterator[Piece]:
        """Yield the records from a position on."""
        read = 0
        try:
            for entry in self._quarantine.entries(self._item.id):
                if entry.seq >= self._item.samples:  # added since it was listed
                    break
                read += entry.samples
                if entry.end > position:
                    yield Piece(entry.ticks, entry.end, entry.samples, entry.end)
        except (OSError, ValueError) as error:
            do = "Drop it, if it was not dropped meanwhile."
            raise LimpetError(self._item.id, f"the item cannot be read: {error}", do) from None
        self.damaged = int(read != self._item.samples)


class _Line(msgspec.Struct):
    name: str
    labels: dict[str, str]
    samples: list[tuple[int, float | str]]
    type: str = "gauge"
    unit: str = ""
    help: str = ""


class FileHistory:
    """A file of JSON lines (`agent.text.jsonl`), compressed by gzip or not. Raises OSError; its pieces LimpetError too."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.total, self.damaged = os.stat(path).st_size, 0

    def pieces(self, position: int) -> Iterator[Piece]:
        """Yield the samples from a position on."""
        end = 0
        with open(self._path, "rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            lines = gzip.GzipFile(fileobj=raw) if packed else raw
            for number, text in enumerate(self._lines(lines), 1):
                series, samples = self._parse(text, number)
                for at in range(0, len(samples), PIECE):
                    part = samples[at : at + PIECE]
                    end += len(part)
                    if end > position:
                        ticks = [Tick(Instant(ms, 0, ""), "", series, (value,)) for ms, value in part]
                        yield Piece(ticks, end, len(part), raw.tell())

    def _lines(self, file: gzip.GzipFile | BufferedReader) -> Iterator[bytes]:
        number = 0
        try:
            while line := file.readline(LONGEST_LINE):
                number += 1
                yield line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self._wrong(number + 1, f"the compressed file is damaged ({error})") from None

    def _parse(self, text: bytes, number: int) -> tuple[tuple[Series], list[tuple[int, float]]]:
        try:
            line = _decode(text)
            samples = [(ms, jsonl.value(value)) for ms, value in line.samples]
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            raise self._wrong(number, f"expected a series with its samples as JSON ({error})") from None
        if not line.name:
            raise self._wrong(number, "the series has no name")
        labels = tuple(sorted(line.labels.items()))
        return (Series(line.name, labels, line.type, line.unit, line.help),), samples

    def _wrong(self, number: int, what: str) -> LimpetError:
        do = "Use a file that `limpet buffer export --format jsonl` wrote; everything before it is replayed."
        return LimpetError(f"{self._path}, line {number}", what, do)


_decode = msgspec.json.Decoder(_Line).decode
