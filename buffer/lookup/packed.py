"""The tables of a packed file: its index says what is where, so that a column is read without the others."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from functools import cache as once
from functools import cached_property

from buffer.history.packed import Damaged, Index, PackedFile, Ref
from buffer.history.packed import Table as Fields
from buffer.lookup.cache import Cache
from buffer.lookup.table import Placed, placed
from buffer.model import Series
from buffer.thin import STEPS_MS

_INDEX = 400
"""Bytes of memory that a series of an index takes."""

Complain = Callable[[], None]
"""Is called for each place that cannot be read."""


class PackedTable:
    """A `buffer.lookup.table.Table`."""

    def __init__(
        self,
        file: PackedFile,
        fields: Fields,
        times: Callable[[], array[int]],
        cache: Cache,
        complain: Complain,
    ) -> None:
        self._file, self._fields, self._all, self._complain = file, fields, times, complain
        self._cache = cache
        self.step_ms = STEPS_MS[min(file.head.level, len(STEPS_MS) - 1)]

    @cached_property
    def placed(self) -> Placed:
        """The rows; none where their times are damaged."""
        # By the column's checksum: tables that were collected together have the same.
        key = self._file.identity, self._fields.rows, *self._fields.at[1:]
        try:
            return self._cache.get(key, self._placed, lambda one: 16 * len(one.times))
        except (OSError, Damaged):
            self._complain()
            return Placed(array("q"), array("q"), rises=True)

    def _placed(self) -> Placed:
        records, times = self._file.records_of(self._fields), self._all()
        return placed([times[record] for record in records], records)

    @property
    def series(self) -> tuple[Series, ...]:
        """The series of its columns."""
        return self._fields.series

    def values(self, index: int) -> array[float] | None:
        """Return a column."""
        return self._column(self._fields.values[index])

    def low(self, index: int) -> array[float] | None:
        """Return the minimum of each row."""
        return self._column(self._fields.low[index])

    def high(self, index: int) -> array[float] | None:
        """Return the maximum of each row."""
        return self._column(self._fields.high[index])

    def counts(self) -> array[float] | None:
        """Return the numbers of samples."""
        try:
            found = self._file.counts_of(self._fields)
            return None if found is None else array("d", found)
        except (OSError, Damaged):
            self._complain()
            return None

    def _column(self, ref: Ref | None) -> array[float] | None:
        try:
            return None if ref is None else self._file.column(ref, self._fields.rows)
        except (OSError, Damaged):
            self._complain()
            return None


def tables(file: PackedFile, cache: Cache, complain: Complain) -> Iterator[PackedTable]:
    """Yield the tables. Raises OSError, and Damaged where nothing of the file can be read."""
    file.index = cache.get(
        file.identity, lambda: _shared(file.index, cache), lambda index: _INDEX * _width(index)
    )
    times = once(file.times)
    for fields in file.index.tables:
        yield PackedTable(file, fields, times, cache, complain)


def _shared(index: Index, cache: Cache) -> Index:
    return index._replace(
        tables=[one._replace(series=cache.same(one.series), stats=[]) for one in index.tables]
    )


def _width(index: Index) -> int:
    return sum(len(one.series) for one in index.tables)
