"""The tables of a segment: what is between two key frames is read, if it has something of the time that is wanted.

An outline has the times of these stretches. It is made of the heads of the records, which say where the next one is; where
something is damaged, it is made as a segment is read (`buffer.reader`). A stretch is decoded whole, because a row has only
differences to the row before, and kept by columns, each deflated: a byte or so a sample.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from buffer.codec import Decoder
from buffer.fs import Fs
from buffer.lookup.cache import Cache
from buffer.lookup.table import Placed, placed
from buffer.model import Series
from buffer.reader import Entries, File, opened
from buffer.segment import HEADER, MARK, MAX_POSITION, RECORD, Record
from buffer.thin import STEPS_MS

WINDOW = 1 << 20
_COLUMN = 40
"""Bytes of memory that an object takes, next to what it holds."""


class Stretch(NamedTuple):
    """The records from a key frame at an offset to before another one, or the end; `mark` is bytes of the last of them."""

    at: int
    end: int
    oldest_ms: int
    newest_ms: int
    end_seq: int
    mark: bytes


class Held(NamedTuple):
    """The ticks of one set of series in a stretch: for each the number of its record, and the columns."""

    series: tuple[Series, ...]
    records: array[int]
    columns: Sequence[bytes]


class Decoded(NamedTuple):
    """A stretch: the position and time of each record, its tables, and how many places of it are damaged."""

    seqs: array[int]
    times: array[int]
    tables: Sequence[Held]
    damaged: int

    @property
    def size(self) -> int:
        """Return how many bytes of memory it takes."""
        columns = [len(column) + _COLUMN for one in self.tables for column in one.columns]
        records = sum(len(one.records) for one in self.tables) + 2 * len(self.times)
        return sum(columns) + 8 * records


class RowTable:
    """A `buffer.lookup.table.Table`."""

    def __init__(self, held: Held, decoded: Decoded, step_ms: int, since_seq: int) -> None:
        self.series, self._held, self._decoded, self.step_ms = held.series, held, decoded, step_ms
        # Positions rise, so what is before the first one that is wanted is at the beginning.
        seqs = decoded.seqs
        self._skipped = sum(seqs[record] < since_seq for record in held.records) if seqs[0] < since_seq else 0

    @cached_property
    def placed(self) -> Placed:
        """The rows; their order is the positions of the records."""
        records = self._held.records[self._skipped :]
        seqs, times = self._decoded.seqs, self._decoded.times
        return placed([times[record] for record in records], array("q", [seqs[record] for record in records]))

    def values(self, index: int) -> array[float]:
        """Return a column."""
        found = array("d")
        found.frombytes(zlib.decompress(self._held.columns[index]))
        return found[self._skipped :] if self._skipped else found

    def low(self, _: int) -> None:
        """Return nothing: a segment has no minima."""

    def high(self, _: int) -> None:
        """Return nothing: a segment has no maxima."""

    def counts(self) -> None:
        """Return nothing: how many samples are in a row is not known."""


class Rows:
    """Reads one segment. Raises OSError, Short and NewerVersion as `File` does.

    Attributes:
        level: its step, see `buffer.thin`.
        end: the position after its last record, or what its header says.
        damaged: places that could not be read.
    """

    def __init__(self, fs: Fs, folder: str, first: int, cache: Cache) -> None:
        self._cache = cache
        self._file = opened(fs, folder, first)
        self.level, self.damaged = self._file.header.level, int(self._file.damaged_header)
        try:
            head = self._file.peek(0, HEADER.size + RECORD.size)
            # The first record's checksum distinguishes a file from another one of its name.
            self._identity = head if len(head) == HEADER.size + RECORD.size else b""
            if self._file.is_unplaced:  # its times will be others
                self._identity = b""
            self.stretches = self._outline()
        except BaseException:
            self.close()
            raise
        ends = [one.end_seq for one in self.stretches]
        self.end = max([first, self._file.header.end_seq, *ends])

    def _outline(self) -> list[Stretch]:
        """Return the stretches. All but the last one are remembered, because a segment only grows."""
        known: list[Stretch] = self._cache.known(self._identity) or [] if self._identity else []
        at = known[-1].end if known else HEADER.size
        # What is provisional has its times by a note, which `File` knows.
        more = _by_heads(self._file, at) if self._file.header.base_ms is None else None
        found = known + (_by_records(self._file, at) if more is None else more)
        if self._identity and len(found) > max(1, len(known)):
            self._cache.put(self._identity, found[:-1], 200 * len(found))
        return found

    def tables(self, first_ms: int, last_ms: int, since_seq: int) -> Iterator[RowTable]:
        """Yield the tables with something of a time, from a position on. Raises OSError."""
        step_ms = STEPS_MS[min(self.level, len(STEPS_MS) - 1)]
        for stretch in self.stretches:
            if stretch.end_seq <= since_seq:
                continue
            if stretch.oldest_ms <= last_ms and stretch.newest_ms + step_ms >= first_ms:
                decoded = self._decoded(stretch)
                self.damaged += decoded.damaged
                for held in decoded.tables:
                    yield RowTable(held, decoded, step_ms, since_seq)

    def _decoded(self, stretch: Stretch) -> Decoded:
        def load() -> Decoded:
            return _decode(self._file, stretch, self._cache.same)

        key = self._identity, stretch.at, stretch.end, stretch.mark
        return self._cache.get(key, load, lambda one: one.size) if self._identity else load()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _by_heads(file: File, at: int) -> list[Stretch] | None:
    """Return the stretches from an offset on; None where the heads of the records do not lead to the end."""
    found: list[Stretch] = []
    unpack, size, first_seq = RECORD.unpack_from, RECORD.size, file.header.first_seq
    data, base, here = b"", at, 0
    start, oldest, newest, end_seq, mark = at, 0, 0, 0, b""
    while True:
        if here + size > len(data):
            data, base, here = file.peek(base + here, WINDOW), base + here, 0
            if len(data) < size:
                break
        first, _, offset, low, high, bits = unpack(data, here)
        after = here + size + (first >> 8)
        if first & 0xFF != MARK:
            return None
        if after > len(data):
            data, base, here = file.peek(base + here, max(WINDOW, after - here)), base + here, 0
            after = size + (first >> 8)
            if after > len(data):
                break
        ms, count = high << 32 | low, bits >> 2
        if bits & 1 and mark:
            found.append(Stretch(start, base + here, oldest, newest, end_seq, mark))
            start, mark = base + here, b""
        oldest, newest = (min(oldest, ms), max(newest, ms)) if mark else (ms, ms)
        mark, end_seq = data[here : here + size], max(end_seq, first_seq + offset + count)
        if bits & 2:
            span = int.from_bytes(data[here + size : here + size + 4], "little")
            end_seq = max(end_seq, first_seq + offset + span)
        here = after
    if mark:
        found.append(Stretch(start, base + here, oldest, newest, end_seq, mark))
    # What is left is a torn tail, or something before it is not what it says: `_by_records` finds out.
    return found if not data else None


def _by_records(file: File, at: int) -> list[Stretch]:
    """Return the stretches from an offset on, by reading every record."""
    found: list[Stretch] = []
    file.seek(at)
    start, times, end_seq, here, mark = at, list[int](), 0, at, b""
    for one in file:
        if isinstance(one, Record):
            if one.key and times:
                found.append(Stretch(start, here, min(times), max(times), end_seq, mark))
                start, times = here, []
            times.append(one.wall_ms)
            end_seq, mark = max(end_seq, one.end), one.body[-RECORD.size :]
        here = file.offset
    if times or here > start:
        span = (min(times), max(times)) if times else (0, MAX_POSITION)
        found.append(Stretch(start, here, *span, max(end_seq, 1), mark))
    return found


def _decode(
    file: File, stretch: Stretch, same: Callable[[tuple[Series, ...]], tuple[Series, ...]]
) -> Decoded:
    file.seek(stretch.at)
    entries = Entries(file, Decoder())
    entries.damaged = 0  # that of the header is counted once
    seqs, times = array("q"), array("q")
    tables: dict[int, tuple[tuple[Series, ...], array[int], array[float]]] = {}
    while file.offset < stretch.end and (entry := entries.next()) is not None:
        for tick in entry.ticks:
            if tick.series:
                # By identity: the decoder returns one object for as long as the set stays the same.
                _, records, flat = tables.setdefault(id(tick.series), (tick.series, array("q"), array("d")))
                records.append(len(seqs))
                flat.extend(tick.values)
        seqs.append(entry.seq)
        times.append(entry.wall_ms)
    held = [
        Held(
            same(series),
            records,
            [zlib.compress(flat[i :: len(series)].tobytes(), 1) for i in range(len(series))],
        )
        for series, records, flat in tables.values()
    ]
    return Decoded(seqs, times, held, entries.damaged)
