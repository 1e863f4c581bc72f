"""Tiers: packing what the log left, and making coarser what is old enough.  Pure but for the files that are read and written.

Promises:
- Packing (`packing`) keeps every sample of the entries that it is given, bit for bit.  Times of a boot's monotonic clock and the
  boot's identity are not kept: they matter to who sends what he collected, and that is done.
- Coarser (`coarser`): of each series one row for each step in which it has samples, at the time of the last one.  For a gauge its
  mean, to six significant digits, for everything else the last value; for gauges, and for what says no type, the minimum and the
  maximum too; and the number of samples.  From a coarser step to a coarser one still: means are weighed by their samples.  A step
  with one sample, or with one value, keeps it bit for bit.
- Work is done in small pieces, at each of which a generator yields: a column, or some records.  One that is closed leaves nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

from buffer.fs import Fs
from buffer.history.packed import Head, PackedFile, Ref, Table, Writer, entry_of, stats_of
from buffer.limits import Tiers
from buffer.model import ENDED, Series
from buffer.reader import Entry
from buffer.thin import STEPS_MS

MINUTE, HOUR = 1, 3
"""The levels of the tiers; level 2 is what a full buffer has thinned twice, and counts as level 1."""
BLOCK_ROWS, BLOCK_LEAST, BLOCK_MOST = 360, 1 << 18, 1 << 20
"""A packed file has so many rows at 10 s, but at least and at most so many samples, which are in memory while it is written."""
MOST_SOURCES, MOST_MERGED = 16, 1 << 22
"""So many files become one at most, and so many samples, where it is more than one file."""
SPAN_MS = {MINUTE: 12 * 3_600_000, HOUR: 7 * 86_400_000}
"""So much of a tier is made coarser at once, so that its files do not get small."""
RECORDS = 64
"""Entries in one piece of work."""
EXTREMES = ("gauge", "unknown", "")
"""Types of which the minimum and the maximum of a step are kept."""

Work = Generator[None, None, Head]


class _Source(Protocol):
    """A table that is to be written."""

    group: str
    series: tuple[Series, ...]
    at: array[int]
    counts: array[int] | None

    def column(self, index: int) -> tuple[array[float], array[float] | None, array[float] | None]:
        """Return the values of a series, and their minima and maxima where they are others."""


class _Collected:
    """The ticks of one set of series, as they were collected."""

    def __init__(self, group: str, series: tuple[Series, ...]) -> None:
        self.group, self.series = group, series
        self.at = array("q")
        self.counts: array[int] | None = None
        self.flat = array("d")

    def column(self, index: int) -> tuple[array[float], array[float] | None, array[float] | None]:
        return self.flat[index :: len(self.series)], None, None


class Block:
    """Entries that become one packed file."""

    def __init__(self, first_seq: int, level: int) -> None:
        self.first_seq, self.end_seq, self.level = first_seq, first_seq, level
        self.times, self.samples = array("q"), 0
        self._tables: dict[tuple[str, int], _Collected] = {}
        self._widths: dict[str, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether it has as many samples as a file should."""
        wanted = BLOCK_ROWS * sum(self._widths.values())
        return self.samples >= min(BLOCK_MOST, max(BLOCK_LEAST, wanted))

    def add(self, entry: Entry) -> None:
        """Add what comes next."""
        for tick in entry.ticks:
            if not tick.series:
                continue
            # By identity: the decoder returns one object for as long as the set stays the same.
            key = tick.group, id(tick.series)
            if (table := self._tables.get(key)) is None:
                table = self._tables[key] = _Collected(tick.group, tick.series)
                self._widths[tick.group] = len(tick.series)
            table.at.append(len(self.times))
            table.flat.extend(tick.values)
        self.times.append(entry.wall_ms)
        self.samples += entry.samples
        self.end_seq = entry.end

    def write(self, fs: Fs, folder: str) -> Work:
        """Write the file, and return its head.  Raises OSError."""
        return _write(
            fs, folder, self.first_seq, self.end_seq, self.level, self.times, list(self._tables.values())
        )


def _write(
    fs: Fs, folder: str, first: int, end: int, level: int, times: array[int], sources: Sequence[_Source]
) -> Work:
    writer, tables, samples = Writer(fs, folder, first), list[dict[str, Any]](), 0
    try:
        times_ref = writer.add(array("d", times))
        for source in sources:
            rows, series = len(source.at), []
            columns: dict[str, list[Ref | None]] = {"values": [], "low": [], "high": []}
            count = sum(source.counts) if source.counts is not None else rows
            for index, one in enumerate(source.series):
                values, low, high = source.column(index)
                series.append(entry_of(one, stats_of(count, low or values, high or values, values)))
                for key, column in (("values", values), ("low", low), ("high", high)):
                    is_own = column is not None and (key == "values" or column.tobytes() != values.tobytes())
                    columns[key].append(writer.add(column) if is_own and column is not None else None)
                yield
            samples += rows * len(series)
            tables.append(
                {
                    "group": source.group,
                    "series": series,
                    "rows": rows,
                    "at": writer.add(array("d", source.at)),
                    "counts": None if source.counts is None else writer.add(array("d", source.counts)),
                    **columns,
                }
            )
        head = Head(level, first, end, samples, min(times, default=0), max(times, default=0))
        writer.finish(head, len(times), times_ref, tables)
        return head
    finally:
        writer.abandon()


# Coarser.


class _Part(NamedTuple):
    """A table of one of the files that become one, and the number of the file's first record among all of them."""

    file: PackedFile
    table: Table
    records: int


class _Coarse:
    """The tables of one set of series in several files, in steps of time."""

    def __init__(self, parts: list[_Part], times: Sequence[int], step_ms: int) -> None:
        self.group, self.series = parts[0].table.group, parts[0].table.series
        self._parts = parts
        rows, numbers = array("q"), array("q")
        for file, table, records in parts:
            rows.extend(records + at for at in file.records_of(table))
            numbers.extend(file.counts_of(table) or [1] * table.rows)
        self._bounds = _bounds([times[row] for row in rows], step_ms)
        self._numbers = numbers
        self.at = array("q", [rows[end - 1] for _, end in self._bounds])
        self.counts: array[int] | None = array("q", [sum(numbers[start:end]) for start, end in self._bounds])
        if not step_ms and all(part.table.counts is None for part in parts):
            self.counts = None

    def column(self, index: int) -> tuple[array[float], array[float] | None, array[float] | None]:
        kind = self.series[index].type
        values, low, high = array("d"), array("d"), array("d")
        for file, table, _ in self._parts:
            found = file.column(table.values[index], table.rows)
            values += found
            for column, ref in (low, table.low[index]), (high, table.high[index]):
                column += found if ref is None else file.column(ref, table.rows)
        if kind == "gauge" and not self.group.endswith(ENDED):
            means = array("d", [_mean(values[a:b], self._numbers[a:b]) for a, b in self._bounds])
        else:
            means = array("d", [values[b - 1] for _, b in self._bounds])
        if kind not in EXTREMES or self.group.endswith(ENDED):
            return means, None, None
        return (
            means,
            array("d", [_extreme(min, low[a:b]) for a, b in self._bounds]),
            array("d", [_extreme(max, high[a:b]) for a, b in self._bounds]),
        )


def _bounds(times: Sequence[int], step_ms: int) -> list[tuple[int, int]]:
    """Return the rows of each step, which are one behind the other: the first, and the one after the last."""
    if not step_ms:
        return [(row, row + 1) for row in range(len(times))]
    found, start = [], 0
    for row in range(1, len(times) + 1):
        if row == len(times) or times[row] // step_ms != times[start] // step_ms:
            found.append((start, row))
            start = row
    return found


def _mean(values: array[float], numbers: array[int]) -> float:
    last = values[-1]
    if last != last or values.count(last) == len(values):
        return last
    known = [(value, count) for value, count in zip(values, numbers, strict=True) if value == value]
    total = sum(value * count for value, count in known) / sum(count for _, count in known)
    return float(f"{total:.6g}")


def _extreme(which: Any, values: array[float]) -> float:
    """Return the minimum or maximum of the numbers; the last value where there is none."""
    return float(which((value for value in values if value == value), default=values[-1]))


def coarser(fs: Fs, folder: str, heads: Sequence[Head], level: int) -> Work:
    """Write one file in place of the first of these consecutive ones, in steps of the level; return its head.

    With the level that they have, it holds what they hold.  Raises OSError, and ValueError where one of them is damaged: then
    all of them stay as they are.
    """
    with ExitStack() as stack:
        files = []
        for head in heads:
            files.append(PackedFile(fs, folder, head.first_seq))
            stack.callback(files[-1].close)
        times, tables = array("q"), dict[tuple[str, tuple[Series, ...]], list[_Part]]()
        for file in files:
            for table in file.tables():
                tables.setdefault((table.group, table.series), []).append(_Part(file, table, len(times)))
            times += file.times()
            yield
        step_ms = STEPS_MS[level] if level != heads[0].level else 0
        sources = []
        for parts in tables.values():
            sources.append(_Coarse(parts, times, step_ms))
            yield
        kept = sorted({row for source in sources for row in source.at})
        numbers = {row: number for number, row in enumerate(kept)}
        for source in sources:
            source.at = array("q", [numbers[row] for row in source.at])
        left = array("q", [times[row] for row in kept])
        return (yield from _write(fs, folder, heads[0].first_seq, heads[-1].end_seq, level, left, sources))


# What is due.


def due(
    heads: Sequence[Head | None], tiers: Tiers, now_ms: float, *, is_tight: bool
) -> tuple[int, list[Head]]:
    """Return which consecutive packed files are to become coarser next, the oldest first, and to which level; none if none are.

    None among the heads is a file that has to stay as it is.  `is_tight`: room is short, so that age does not matter.
    """
    for level, keep, targets in ((0, tiers.raw, (MINUTE, HOUR)), (MINUTE, tiers.minute, (HOUR,))):
        target = next((one for one in targets if _keep(tiers, one)), 0)
        run: list[Head] = []
        for head in heads:
            good = head is not None and min(head.level, MINUTE) == level and head.level < target
            if head is None or not good:
                if run:  # it will not get longer
                    return target, run
            elif not is_tight and head.newest_ms >= now_ms - keep * 1000:
                break
            elif run and sum(one.samples for one in run) + head.samples > MOST_MERGED:
                return target, run
            else:
                run.append(head)
                if len(run) == MOST_SOURCES:
                    return target, run
        if run and (is_tight or run[-1].newest_ms - run[0].oldest_ms >= SPAN_MS[target]):
            return target, run
    return 0, []


def small(heads: Sequence[Head | None]) -> list[Head]:
    """Return consecutive files that hold so little that they should be one: as a box makes them that restarts often."""
    run: list[Head] = []
    for head in heads:
        samples = sum(one.samples for one in run)
        if head is None or (run and (head.level != run[0].level or samples + head.samples > BLOCK_LEAST)):
            run = []
        if head is not None:
            run.append(head)
        if len(run) == MOST_SOURCES:
            return run
    return []


def is_over(head: Head, tiers: Tiers, now_ms: float) -> bool:
    """Whether a file is older than its tier, and than every coarser one that it could go to."""
    levels = {0: (0, MINUTE, HOUR), MINUTE: (MINUTE, HOUR), 2: (MINUTE, HOUR)}.get(head.level, (HOUR,))
    return head.newest_ms < now_ms - max(_keep(tiers, level) for level in levels) * 1000


def _keep(tiers: Tiers, level: int) -> float:
    return {0: tiers.raw, MINUTE: tiers.minute, HOUR: tiers.hour}[level]
