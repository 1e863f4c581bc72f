"""A table: the ticks of one set of series, one row each, in a packed file or in a part of a segment."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import le
from typing import NamedTuple, Protocol, TypeVar

from buffer.model import Series

Number = TypeVar("Number", int, float)
Rows = Sequence[int]
"""The numbers of some rows: a range, where they are one behind the other."""


class Placed(NamedTuple):
    """The rows of a table.

    Attributes:
        times: of each, in UTC milliseconds.
        order: of each; rows of a file that were written later have larger numbers, in all its tables.
        rises: whether no time is before the one of the row before.
    """

    times: array[int]
    order: array[int]
    rises: bool

    def within(self, first_ms: int, last_ms: int) -> Rows:
        """Return the rows of a span of time, both ends included."""
        if self.rises:
            return range(bisect_left(self.times, first_ms), bisect_right(self.times, last_ms))
        return [row for row, ms in enumerate(self.times) if first_ms <= ms <= last_ms]


def placed(times: Iterable[int], order: array[int]) -> Placed:
    """Return rows at these times, which were written in this order."""
    found = array("q", times)
    return Placed(found, order, all(map(le, found, islice(found, 1, None))))


class Table(Protocol):
    """See above. It can be read until the next one is wanted.

    Attributes:
        series: those of the columns.
        placed: its rows.
        step_ms: the time that a row represents; 0 for samples as they were collected.
    """

    # ruff: noqa: D102
    @property
    def series(self) -> tuple[Series, ...]: ...
    @property
    def placed(self) -> Placed: ...
    @property
    def step_ms(self) -> int: ...

    def values(self, index: int) -> array[float] | None:
        """Return the column of a series; None where it is damaged. Raises OSError."""

    def low(self, index: int) -> array[float] | None:
        """Return the minimum of each row; None where it is as the value is. Raises OSError."""

    def high(self, index: int) -> array[float] | None:
        """Return the maximum of each row; None where it is as the value is. Raises OSError."""

    def counts(self) -> array[float] | None:
        """Return of how many samples each row is made; None where that is one, or is not known. Raises OSError."""


def taken(column: array[Number], rows: Rows) -> array[Number]:
    """Return some rows of a column."""
    if isinstance(rows, range):
        return column if len(rows) == len(column) else column[rows.start : rows.stop]
    return array(column.typecode, [column[row] for row in rows])
