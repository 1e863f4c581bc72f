"""What expressions are evaluated to: lines, which have a value or none at each step of the query.

Labels are sorted by name, and the name of the metric is one of them. None of the labels is empty.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from agent.ops.selector import NAME
from agent.query.tree import QueryError
from buffer.model import Labels

Column = list[float | None]
Fail = Callable[[str, str], QueryError]
"""Returns the error of a place in the expression: what is wrong, and what to do."""
_RESERVED = frozenset((NAME, "__type__", "__unit__"))
SAME = "two series of the result have the same labels"
_DISTINCT = "Keep a label that distinguishes them, or aggregate them, with sum by (...) for instance."


class Thinned(NamedTuple):
    """What each sample of a series represents, where some of them were made coarser.

    Attributes:
        steps: the time in milliseconds; 0 for a sample as it was collected.
        low, high, counts: the minimum, the maximum and the number of the samples that one was made of.
    """

    steps: array[int]
    low: array[float]
    high: array[float]
    counts: array[float]


class Samples(NamedTuple):
    """A series as it is stored: UTC milliseconds, strictly rising, and the values; stale markers are among them."""

    labels: Labels
    times: array[int]
    values: array[float]
    thinned: Thinned | None = None


def rows_of(one: Samples, rows: Sequence[int]) -> Samples:
    """Return some of the samples of a series."""

    def taken(column: array[Any]) -> array[Any]:
        return array(column.typecode, [column[row] for row in rows])

    extra = one.thinned
    if extra is not None:
        extra = Thinned(taken(extra.steps), taken(extra.low), taken(extra.high), taken(extra.counts))
    return Samples(one.labels, taken(one.times), taken(one.values), extra)


class Line(NamedTuple):
    """A series of a result: its value at each step, None where it has none."""

    labels: Labels
    values: Column


class Steps(NamedTuple):
    """The times of an evaluation, in UTC milliseconds, both ends included. An instant is a single step."""

    start_ms: int
    end_ms: int
    step_ms: int

    @property
    def times(self) -> range:
        """The times."""
        return range(self.start_ms, self.end_ms + 1, self.step_ms)


def label(labels: Labels, name: str) -> str:
    """Return the value of a label, empty where it is missing."""
    for key, value in labels:
        if key == name:
            return value
    return ""


def nameless(labels: Labels) -> Labels:
    """Return the labels without the name of the metric."""
    return tuple(one for one in labels if one[0] not in _RESERVED)


def only(labels: Labels, names: frozenset[str]) -> Labels:
    """Return the labels that are named."""
    return tuple(one for one in labels if one[0] in names)


def without(labels: Labels, names: frozenset[str]) -> Labels:
    """Return the labels that are not named."""
    return tuple(one for one in labels if one[0] not in names)


def changed(labels: Labels, name: str, value: str) -> Labels:
    """Return the labels with another value of one of them; an empty value removes it."""
    rest = without(labels, frozenset((name,)))
    return tuple(sorted((*rest, (name, value)))) if value else rest


def some(line: Line) -> bool:
    """Return whether the line has a value at any step."""
    return any(value is not None for value in line.values)


def merged(lines: Iterable[Line], fail: Fail) -> list[Line]:
    """Return the lines with a value, those of the same labels as one. Raises QueryError if two have a value at a step."""
    found: dict[Labels, Line] = {}
    for line in filter(some, lines):
        known = found.setdefault(line.labels, line)
        if known is not line:
            if any(a is not None and b is not None for a, b in zip(known.values, line.values, strict=True)):
                raise fail(SAME, _DISTINCT)
            both = zip(known.values, line.values, strict=True)
            found[line.labels] = Line(line.labels, [b if a is None else a for a, b in both])
    return list(found.values())


def distinct(lines: Sequence[Line], fail: Fail) -> list[Line]:
    """Return the lines with a value. Raises QueryError where two of them have the same labels."""
    found = [line for line in lines if some(line)]
    if len({line.labels for line in found}) < len(found):
        raise fail(SAME, _DISTINCT)
    return found
