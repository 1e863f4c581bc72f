"""Which samples an expression needs, and what its selectors see at each step.

A vector selector sees the newest sample of the last five minutes, without their beginning; a stale marker there means no
value. A sample that represents a longer step, since it was thinned, is seen for that step more. A range takes the samples from after its beginning to its end, without stale markers.

Source: "Staleness" and "Range vector selectors" of Prometheus's documentation (querying/basics), and `vectorSelectorSingle`
and `matrixIterSlice` of promql/engine.go of Prometheus 3.5.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import ne
from typing import Self

from agent.query.limits import Budget
from agent.query.ranges import WHOLE, Window
from agent.query.tree import (
    Aggregation,
    Binary,
    Call,
    Matchers,
    Moment,
    Negation,
    Node,
    Paren,
    Selector,
    Subquery,
)
from agent.query.value import Column, Line, Samples, Steps, rows_of
from buffer.model import is_stale

LOOKBACK_MS = 5 * 60_000
SUBQUERY_STEP_MS = 60_000

Span = tuple[int, int]
"""From when to when samples are needed, in UTC milliseconds, both included; of what was thinned also from its step before."""


class Whole(tuple[int, int]):
    """A span of which minimum (`low`), maximum (`high`) or number (`counts`) are needed too, where samples were made coarser."""

    columns: frozenset[str]

    def __new__(cls, first_ms: int, last_ms: int, columns: Iterable[str] = ("low", "high", "counts")) -> Self:
        """Return the span."""
        made = super().__new__(cls, (first_ms, last_ms))
        made.columns = frozenset(columns)
        return made


Data = Mapping[Matchers, Sequence[Samples]]


def needs(node: Node, steps: Steps, budget: Budget) -> dict[Matchers, Span]:
    """Return the span of time of the samples of each selector. Raises QueryError where a subquery has too many steps."""
    found: dict[Matchers, Span] = {}
    _needs(node, steps, steps, found, budget)
    return found


def _needs(
    node: Node, steps: Steps, top: Steps, found: dict[Matchers, Span], budget: Budget, column: str = ""
) -> None:
    if isinstance(node, Selector):
        first, last = _looked_at(node, steps, top)
        begin = first - (node.range_ms or LOOKBACK_MS) + 1
        known = found.get(node.matchers, (begin, last))
        first, last = min(known[0], begin), max(known[1], last)
        columns = {column} - {""} | (known.columns if isinstance(known, Whole) else set())
        found[node.matchers] = Whole(first, last, columns) if columns else (first, last)
    elif isinstance(node, Subquery):
        within = inner_steps(node, steps, top)
        budget.points(len(within.times))
        if within.times:
            _needs(node.inner, within, top, found, budget)
    elif isinstance(node, Call):
        for argument in node.arguments:
            _needs(argument, steps, top, found, budget, WHOLE.get(node.function, ""))
    elif isinstance(node, Binary):
        _needs(node.left, steps, top, found, budget)
        _needs(node.right, steps, top, found, budget)
    elif isinstance(node, Aggregation):
        for part in (node.inner, node.parameter):
            if part is not None:
                _needs(part, steps, top, found, budget)
    elif isinstance(node, Paren):
        _needs(node.inner, steps, top, found, budget, column)
    elif isinstance(node, Negation):
        _needs(node.inner, steps, top, found, budget)


def moment_of(moment: Moment, top: Steps) -> int | None:
    """Return the time that `@` names. start() and end() are those of the whole query, in a subquery too."""
    return top.start_ms if moment == "start" else top.end_ms if moment == "end" else moment


def _looked_at(node: Selector | Subquery, steps: Steps, top: Steps) -> Span:
    """Return the first and the last time at which a selector looks."""
    moment = moment_of(node.moment, top)
    if moment is not None:
        return moment - node.offset_ms, moment - node.offset_ms
    return steps.start_ms - node.offset_ms, steps.times[-1] - node.offset_ms


def inner_steps(node: Subquery, steps: Steps, top: Steps) -> Steps:
    """Return the steps of a subquery: the multiples of its own step, from after the beginning of its first range."""
    first, last = _looked_at(node, steps, top)
    step = node.step_ms or SUBQUERY_STEP_MS
    return Steps(((first - node.range_ms) // step + 1) * step, last, step)


def newest(
    node: Selector,
    stored: Sequence[Samples],
    steps: Steps,
    top: Steps,
    budget: Budget,
    *,
    want_times: bool = False,
) -> list[Line]:
    """Return what a vector selector sees at each step: the value, or when it was taken, in seconds."""
    moment, count = moment_of(node.moment, top), len(steps.times)
    times = range(moment, moment + 1) if moment is not None else steps.times
    result = []
    for one in stored:
        budget.spend(len(times))
        budget.values(count)
        column = _newest(one, times, node.offset_ms, want_times=want_times)
        if any(value is not None for value in column):
            result.append(Line(one.labels, column if moment is None else column * count))
    return result


def _newest(one: Samples, steps: range, offset_ms: int, *, want_times: bool) -> Column:
    times, values = one.times, one.values
    steps_ms = None if one.thinned is None else one.thinned.steps
    column: Column = []
    index = 0
    for ms in steps:
        ms -= offset_ms
        index = bisect_right(times, ms, index)
        seen_for = LOOKBACK_MS if steps_ms is None or not index else LOOKBACK_MS + steps_ms[index - 1]
        value = values[index - 1] if index and times[index - 1] > ms - seen_for else None
        if value is not None and value != value and is_stale(value):
            value = None
        column.append(times[index - 1] / 1000 if want_times and value is not None else value)
    return column


def marker_free(one: Samples) -> Samples:
    """Return the samples without stale markers."""
    if not any(map(ne, one.values, one.values)):  # a marker is a NaN, and there is none
        return one
    return rows_of(one, [i for i, value in enumerate(one.values) if value == value or not is_stale(value)])


def as_samples(line: Line, times: range) -> Samples:
    """Return the values of a line as the samples of a subquery."""
    pairs = [(ms, value) for ms, value in zip(times, line.values, strict=True) if value is not None]
    return Samples(
        line.labels, array("q", [ms for ms, _ in pairs]), array("d", [value for _, value in pairs])
    )


def windows(node: Selector | Subquery, times: array[int], steps: Steps, top: Steps) -> Iterator[Window]:
    """Yield the window of a range at each step, also where it is empty."""
    moment = moment_of(node.moment, top)
    low = high = 0
    for ms in steps.times:
        end = (ms if moment is None else moment) - node.offset_ms
        start = end - node.range_ms
        high = bisect_right(times, end, high)
        low = bisect_right(times, start, low, high)
        yield Window(low, high, start, end, ms)
