"""Packed files: history by columns, format version 1, and nothing else.

    file    := header column* index
    header  := magic "LMPH" | version u16 | level u16 | first_seq u64 | end_seq u64 | samples u64 | oldest_ms u64
               | newest_ms u64 | index_at u64 | index_size u32 | index_crc u32 | crc32 u32                  68 bytes
    index   := zlib(json)
    json    := {"records": n, "times": ref, "tables": [table ..]}
    table   := {"group": .., "series": [[name, type, unit, help, {label: value ..}, stats] ..], "rows": n,
                "at": ref, "counts": ref | null, "values": [ref ..], "low": [ref | null ..], "high": [ref | null ..]}
    ref     := [offset, size, crc32, mode, order]                  a column, see `buffer.history.columns`
    stats   := [samples, minimum, maximum, first, last]            of numbers; null where there is none

Little-endian, no padding.  A file represents the positions from first_seq to before end_seq of the log and has the file name
first_seq, 20 digits, ".col".  A table is the ticks of one set of series, one row each.  A record is what was collected at one
instant: `times` has the time of each in ms, and `at` the number of the record that each row of a table belongs to.

At level 0 values are as they were collected.  At a higher level (`buffer.thin.STEPS_MS`) a row is a step of time:
`values` has the mean of a gauge and the last value of everything else, `low` and `high` the minimum and the maximum of what
is no counter (`buffer.history.tiers`), `counts` how many samples of each series are in the row.  Minimum, maximum and count are
no series and have no name, so nothing can send them as such.

The header's checksum covers the header, the index has one of its own, and so has each column: damage costs the columns that it hits,
or where it hits header or index, the file.  Names are in each file, so that each can be read by itself.

A checksum that is right does not say who wrote the file.  So numbers that no file can have are damage too: columns of more bytes
than there are, more samples or records than positions, more records or rows than MAX_ROWS, more samples than MAX_SAMPLES.
Reading all of a file decodes at most MAX_ROWS numbers for its times, and five for each of MAX_SAMPLES.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

from buffer.fs import TEMPORARY, Fs, write_all
from buffer.history.columns import Column, decode, decode_whole, encode
from buffer.model import Series
from buffer.segment import MAX_POSITION, MAX_SPAN

MAGIC, VERSION = b"LMPH", 1
SUFFIX = ".col"
HEADER = struct.Struct("<4sHHQQQQQQIII")
MAX_INDEX = 64 << 20
MAX_ROWS, MAX_SAMPLES = 1 << 22, 1 << 23
"""Rows of a table and records of a file, and samples of a file: `buffer.history.tiers` makes files of half as many at most."""
MAX_MS = 1 << 48
COUNTS = range(1, MAX_SPAN)
"""So many samples may be in a row."""
Ref = Sequence[int]


class NewerVersion(ValueError):
    """The file is of a version that this program does not know."""


class Damaged(ValueError):
    """A part of the file is not what was written."""


class Head(NamedTuple):
    """The beginning of a packed file."""

    level: int
    first_seq: int
    end_seq: int
    samples: int
    oldest_ms: int
    newest_ms: int


class Table(NamedTuple):
    """A set of series in a file.  The columns of series i are `values[i]`, and `low[i]` and `high[i]` where there are any."""

    group: str
    series: tuple[Series, ...]
    rows: int
    at: Ref
    counts: Ref | None
    values: list[Ref]
    low: list[Ref | None]
    high: list[Ref | None]
    stats: list[Sequence[float | None]]


def name(first_seq: int) -> str:
    """Return the name of the file that begins at this position."""
    return f"{first_seq:020d}{SUFFIX}"


def listed(fs: Fs, folder: str) -> list[int]:
    """Return the first positions of the packed files in a folder, oldest first; nothing where there is no such folder."""
    try:
        stems = [entry.removesuffix(SUFFIX) for entry in fs.list(folder) if entry.endswith(SUFFIX)]
    except FileNotFoundError:
        return []
    numbers = [int(stem) for stem in stems if len(stem) == 20 and stem.isascii() and stem.isdigit()]
    return sorted(number for number in numbers if number <= MAX_POSITION)


class Index(NamedTuple):
    """What is in a file: the number of its records, where their times are, and its tables."""

    records: int
    times: Ref
    tables: list[Table]


class PackedFile:
    """Reads one file.  Raises OSError, NewerVersion, and Damaged where its header is.

    `identity` is the header: it has the checksum of the index, which has those of all columns.
    """

    def __init__(self, fs: Fs, folder: str, first: int) -> None:
        self._fs = fs
        self._fd = fs.open(f"{folder}/{name(first)}")
        try:
            self.identity = fs.read(self._fd, HEADER.size, 0)
            self.head, self._at = _decode_head(self.identity, first)
        except BaseException:
            self.close()
            raise

    @cached_property
    def index(self) -> Index:
        """What is in it.  It can be set by a reader of an earlier file with this `identity`.  Raises Damaged, OSError."""
        at, size, crc = self._at
        data = self._read(at, size, crc)
        try:
            unpacker = zlib.decompressobj()
            fields = json.loads(unpacker.decompress(data, MAX_INDEX))
            tables = [_table(one) for one in fields["tables"]]
            index = Index(_count(fields["records"]), _ref(fields["times"]), tables)
            _check(index, self.head, at - HEADER.size)
            return index
        except (ValueError, TypeError, LookupError, AttributeError, zlib.error, RecursionError) as error:
            raise Damaged(f"the index cannot be read: {error}") from None

    @property
    def records(self) -> int:
        """How many records there are.  Raises Damaged, OSError."""
        return self.index.records

    def tables(self) -> list[Table]:
        """Return its tables.  Raises Damaged, OSError."""
        return self.index.tables

    def times(self) -> array[int]:
        """Return the time of each record in ms.  Raises Damaged, OSError."""
        return self._whole(self.index.times, self.records, range(MAX_MS))

    def records_of(self, table: Table) -> array[int]:
        """Return the number of the record that each row of a table belongs to.  Raises Damaged, OSError."""
        return self._whole(table.at, table.rows, range(self.records))

    def counts_of(self, table: Table) -> array[int] | None:
        """Return how many samples of each series are in each row; None where it is one.  Raises Damaged, OSError."""
        return None if table.counts is None else self._whole(table.counts, table.rows, COUNTS)

    def column(self, ref: Ref, count: int) -> array[float]:
        """Return the values of a column.  Raises Damaged, OSError."""
        try:
            return decode(self._column(ref), count)
        except ValueError as error:
            raise Damaged(str(error)) from None

    def _whole(self, ref: Ref, count: int, among: range) -> array[int]:
        """Return whole numbers that are within a range."""
        try:
            found = decode_whole(self._column(ref), count)
        except ValueError as error:
            raise Damaged(str(error)) from None
        if found and not (among.start <= min(found) and max(found) < among.stop):
            raise Damaged("a column has numbers that cannot be")
        return found

    def _column(self, ref: Ref) -> Column:
        offset, size, crc, mode, order = ref
        return Column(self._read(offset, size, crc), mode, order)

    def check(self, *, deep: bool = False) -> Iterator[tuple[int, int, str]]:
        """Yield offset and size of each damaged column, and what is wrong; `deep` decodes them.  Raises Damaged, OSError."""
        for ref, count, among in _columns(self.index):
            if count:
                try:
                    if deep and among:
                        self._whole(ref, count, among)
                    elif deep:
                        self.column(ref, count)
                    else:
                        self._read(*ref[:3])
                except Damaged as error:
                    yield ref[0], ref[1], str(error)

    def _read(self, offset: int, size: int, crc: int) -> bytes:
        data = self._fs.read(self._fd, size, offset)
        if len(data) != size or zlib.crc32(data) != crc:
            raise Damaged(f"the bytes from {offset} to {offset + size} fail their checksum")
        return data

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._fs.close(fd)


class Writer:
    """Writes one file, column by column; it is there, whole, after `finish`, or not at all."""

    def __init__(self, fs: Fs, folder: str, first: int) -> None:
        self._fs, self._folder, self._first = fs, folder, first
        self._path = f"{folder}/{name(first)}"
        with suppress(FileNotFoundError):
            fs.unlink(self._path + TEMPORARY)
        self._fd = fs.create(self._path + TEMPORARY)
        self.size = HEADER.size

    def add(self, values: array[float]) -> list[int]:
        """Write a column, and return how it is referred to.  Raises OSError."""
        data, mode, order = encode(values)
        at = self.size
        self.size += write_all(self._fs, self._fd, data, at)
        return [at, len(data), zlib.crc32(data), mode, order]

    def finish(self, head: Head, records: int, times: Ref, tables: Sequence[dict[str, Any]]) -> None:
        """Write index and header, make it durable, and give it its name, instead of one that has it.  Raises OSError."""
        text = json.dumps(
            {"records": records, "times": times, "tables": tables}, separators=(",", ":"), ensure_ascii=False
        )
        index = zlib.compress(text.encode("utf-8", "surrogatepass"), 9)
        at = self.size
        self.size += write_all(self._fs, self._fd, index, at)
        write_all(self._fs, self._fd, _encode_head(head, at, index), 0)
        self._fs.sync(self._fd)
        self._close()
        self._fs.rename(self._path + TEMPORARY, self._path)
        self._fs.sync_folder(self._folder)

    def abandon(self) -> None:
        """Remove what was written, if it was not finished."""
        with suppress(OSError):
            self._close()
            self._fs.unlink(self._path + TEMPORARY)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._fs.close(fd)


def stats_of(
    counts: int, low: Sequence[float], high: Sequence[float], values: Sequence[float]
) -> list[float | None]:
    """Return the statistics of a series: of its numbers, not of what is infinite or no number."""
    lows, highs = list(filter(math.isfinite, low)), list(filter(math.isfinite, high))
    numbers = list(filter(math.isfinite, values))
    ends = [numbers[0], numbers[-1]] if numbers else [None, None]
    return [counts, min(lows, default=None), max(highs, default=None), *ends]


def entry_of(series: Series, stats: Sequence[float | None]) -> list[Any]:
    """Return the entry of a series in the index."""
    return [series.name, series.type, series.unit, series.help, dict(series.labels), stats]


def _encode_head(head: Head, index_at: int, index: bytes) -> bytes:
    data = HEADER.pack(MAGIC, VERSION, *head, index_at, len(index), zlib.crc32(index), 0)[:-4]
    return data + zlib.crc32(data).to_bytes(4, "little")


def _decode_head(data: bytes, named: int) -> tuple[Head, tuple[int, int, int]]:
    if len(data) < HEADER.size:
        raise Damaged("the file ends within its header")
    magic, version, *fields, at, size, index_crc, crc = HEADER.unpack(data)
    head = Head(*fields)
    if magic != MAGIC or crc != zlib.crc32(data[:-4]):
        raise Damaged("the header fails its checksum, or is another file's")
    if version > VERSION:
        raise NewerVersion(f"format version {version}; this program knows version {VERSION}")
    span = head.end_seq - named
    is_sound = head.first_seq == named and 0 < span <= MAX_SPAN * 64 and size <= MAX_INDEX
    if not is_sound or head.samples > min(span, MAX_SAMPLES) or not head.oldest_ms <= head.newest_ms < MAX_MS:
        raise Damaged("the header says what cannot be")
    return head, (at, size, index_crc)


def _columns(index: Index) -> Iterator[tuple[Ref, int, range | None]]:
    """Yield each column, how many numbers it has, and between what they are where they are whole ones."""
    yield index.times, index.records, range(MAX_MS)
    for table in index.tables:
        yield table.at, table.rows, range(index.records)
        if table.counts is not None:
            yield table.counts, table.rows, COUNTS
        for ref in (*table.values, *table.low, *table.high):
            if ref is not None:
                yield ref, table.rows, None


def _check(index: Index, head: Head, size: int) -> None:
    """Compare an index with the header, and with how many bytes there are for columns.  Raises ValueError."""
    if sum(one.rows * len(one.series) for one in index.tables) != head.samples:
        raise ValueError("it has not as many samples as the header")
    if index.records > head.end_seq - head.first_seq:
        raise ValueError("it has more records than positions")
    if sum(ref[1] for ref, _, _ in _columns(index)) > size:
        raise ValueError("its columns have more bytes than the file")


def _table(fields: dict[str, Any]) -> Table:
    """Return a table of an index.  Raises ValueError, TypeError, LookupError."""
    series, stats = [], []
    for metric, kind, unit, help_text, labels, found in fields["series"]:
        if not all(isinstance(text, str) for text in (metric, kind, unit, help_text, *labels.values())):
            raise ValueError("a series is not made of strings")
        series.append(Series(metric, tuple(labels.items()), kind, unit, help_text))
        stats.append(_stats(found))
    values = [_ref(one) for one in fields["values"]]
    low, high = ([None if one is None else _ref(one) for one in fields[key]] for key in ("low", "high"))
    if not len(series) == len(values) == len(low) == len(high):
        raise ValueError("a table has not as many columns as series")
    rows = _count(fields["rows"])
    counts = None if fields["counts"] is None else _ref(fields["counts"])
    group = fields["group"]
    if not rows or not series or not isinstance(group, str):
        raise ValueError("a table without rows, series or name")
    return Table(group, tuple(series), rows, _ref(fields["at"]), counts, values, low, high, stats)


def _stats(found: Sequence[Any]) -> Sequence[float | None]:
    numbers = [one for one in found if one is not None]
    if len(found) != 5 or not all(isinstance(one, int | float) and math.isfinite(one) for one in numbers):
        raise ValueError("statistics that are no numbers")
    return found


def _ref(found: Any) -> Ref:
    if (
        len(found) != 5
        or not all(type(one) is int and 0 <= one < 1 << 48 for one in found)
        or found[1] > MAX_INDEX
    ):
        raise ValueError("what refers to a column does not")
    return tuple(found)


def _count(found: Any) -> int:
    if type(found) is not int or not 0 <= found <= MAX_ROWS:
        raise ValueError("an impossible number of rows")
    return found
