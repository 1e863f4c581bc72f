"""Evaluates an expression at one or more steps, as Prometheus 3.5 does: the same numbers, the same errors.

    tree = parse("rate(cpu_user_seconds_total[5m])")
    result = evaluate(tree, text, Steps(start_ms, end_ms, step_ms), read, Budget(limits, clock))

`read` is called once, with every selector and the span of time that its samples come from; so a log is read in one
pass. Nothing else is called: evaluation is a function of the samples. It has no state of its own, and any number of
evaluations may run at once.

What selectors see is in `agent.query.selecting`. Subqueries are evaluated at the multiples of their step, one minute
where none is given. Source: "Subquery" of Prometheus's documentation (querying/basics), and `eval` of
promql/engine.go of Prometheus 3.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from agent.query import aggregate, binary, functions, ranges, selecting
from agent.query.arithmetic import INF
from agent.query.limits import Budget
from agent.query.selecting import Data, Span, needs
from agent.query.tree import (
    SETS,
    Aggregation,
    Binary,
    Call,
    Matchers,
    Negation,
    Node,
    Number,
    Selector,
    Subquery,
    Text,
    bare,
    kind,
    wrong,
)
from agent.query.value import Column, Fail, Line, Samples, Steps, distinct, merged, nameless

Read = Callable[[Mapping[Matchers, Span]], Data]
_UNCHECKED = 4096
"""Samples of a series that are touched before the budget is checked again."""


class Result(NamedTuple):
    """What an expression is: the lines of a vector (one step) or a matrix, with a scalar a single line.

    Attributes:
        type: as in the answers of Prometheus's API.
        times: the steps in UTC milliseconds.
        lines: the values at these steps. By labels; of a single step in the order of `sort` and `topk`.
        raw: the samples of a range vector, which has no steps.
        text: the string, where it is one.
    """

    type: Literal["matrix", "vector", "scalar", "string"]
    times: Sequence[int]
    lines: list[Line]
    raw: list[Samples]
    text: str = ""


def evaluate(tree: Node, text: str, steps: Steps, read: Read, budget: Budget) -> Result:
    """Return the value of a tree that was parsed from `text`. Raises QueryError, and what `read` raises.

    More than one step is a range query, whose result is a matrix.
    """
    budget.points(len(steps.times))
    data = read(needs(tree, steps, budget))
    budget.series(sum(map(len, data.values())))
    evaluation = _Evaluation(text, steps, data, budget)
    ranged, type_ = len(steps.times) > 1, kind(tree)
    if ranged and type_ in ("matrix", "string"):
        raise wrong(
            text, tree.at, "over time only a scalar or an instant vector can be shown", "Use rate(...), say."
        )
    if type_ == "string":
        return Result("string", steps.times, [], [], evaluation.string(tree))
    if type_ == "matrix":
        return Result("matrix", (), [], evaluation.matrix(tree, steps))
    if type_ == "scalar":
        values: Column = list(evaluation.scalar(tree, steps))
        return Result("matrix" if ranged else "scalar", steps.times, [Line((), values)], [])
    lines = evaluation.vector(tree, steps)
    if ranged:
        return Result("matrix", steps.times, sorted(lines), [])
    return Result("vector", steps.times, lines, [])


class _Evaluation:
    """One evaluation: the samples of all selectors, and what may still be spent."""

    def __init__(self, text: str, top: Steps, data: Data, budget: Budget) -> None:
        self._text, self._top, self._data, self._budget = text, top, data, budget

    def _fail(self, node: Node) -> Fail:
        return lambda what, do: wrong(self._text, node.at, what, do)

    # By type.

    def string(self, node: Node) -> str:
        node = bare(node)
        assert isinstance(node, Text)
        return node.value

    def scalar(self, node: Node, steps: Steps) -> list[float]:
        """Return the value at each step."""
        node, times = bare(node), steps.times
        if isinstance(node, Number):
            return [node.value] * len(times)
        if isinstance(node, Negation):
            return [-value for value in self.scalar(node.inner, steps)]
        if isinstance(node, Binary):
            return binary.of_scalars(node, self.scalar(node.left, steps), self.scalar(node.right, steps))
        assert isinstance(node, Call)
        if node.function == "time":
            return [ms / 1000 for ms in times]
        if node.function == "pi":
            return [3.141592653589793] * len(times)
        return functions.scalar(self.vector(node.arguments[0], steps), len(times))

    def vector(self, node: Node, steps: Steps) -> list[Line]:
        """Return the series with a value at any step."""
        node = bare(node)
        if not steps.times:
            return []
        if isinstance(node, Selector):
            return self._newest(node, steps)
        if isinstance(node, Call):
            return self._call(node, steps)
        if isinstance(node, Aggregation):
            return self._aggregation(node, steps)
        if isinstance(node, Negation):
            inner = self.vector(node.inner, steps)
            lines = [Line(nameless(x.labels), [None if v is None else -v for v in x.values]) for x in inner]
            return distinct(lines, self._fail(node))
        assert isinstance(node, Binary)
        return self._binary(node, steps)

    def matrix(self, node: Node, steps: Steps) -> list[Samples]:
        """Return the samples of a range vector at a single step."""
        node = bare(node)
        assert isinstance(node, (Selector, Subquery))
        result = []
        for one in self._stored(node, steps):
            for window in selecting.windows(node, one.times, steps, self._top):
                low, high = window.low, window.high
                self._budget.spend(high - low)
                if high > low:
                    result.append(Samples(one.labels, one.times[low:high], one.values[low:high]))
        return sorted(result)

    # Selectors.

    def _newest(self, node: Selector, steps: Steps, *, want_times: bool = False) -> list[Line]:
        stored = self._data.get(node.matchers, ())
        return selecting.newest(node, stored, steps, self._top, self._budget, want_times=want_times)

    def _stored(self, node: Selector | Subquery, steps: Steps) -> list[Samples]:
        """Return the samples of which a range takes its windows."""
        if isinstance(node, Selector):
            return [selecting.marker_free(one) for one in self._data.get(node.matchers, ())]
        inner = selecting.inner_steps(node, steps, self._top)
        return [selecting.as_samples(line, inner.times) for line in self.vector(node.inner, inner)]

    def _ranged(self, node: Call, steps: Steps, index: int, extra: Sequence[float]) -> list[Line]:
        """Return a function of the range that is argument `index`, with a scalar for each step."""
        argument = bare(node.arguments[index])
        assert isinstance(argument, (Selector, Subquery))
        keep = node.function == "last_over_time"
        result = []
        for one in self._stored(argument, steps):
            if one.times:
                values = self._over_windows(node, argument, one, steps, extra)
                result.append(Line(one.labels if keep else nameless(one.labels), values))
        if node.function == "absent_over_time":
            return functions.absent(argument, result, len(steps.times))
        return distinct(result, self._fail(node))

    def _over_windows(
        self, node: Call, argument: Selector | Subquery, one: Samples, steps: Steps, extra: Sequence[float]
    ) -> Column:
        self._budget.spend(len(one.times))
        self._budget.values(len(steps.times))
        at = ranges.prepare(node.function, one)
        column: Column = []
        spent = 0
        for window, more in zip(selecting.windows(argument, one.times, steps, self._top), extra, strict=True):
            touched = window.high - window.low
            spent += touched
            if spent > _UNCHECKED:
                self._budget.spend(spent)
                spent = 0
            column.append(at(window, more) if touched else None)
        self._budget.spend(spent)
        return column

    # Everything else.

    def _call(self, node: Call, steps: Steps) -> list[Line]:
        name, arguments, count = node.function, node.arguments, len(steps.times)
        fail = self._fail(node)
        types = [kind(one) for one in arguments]
        if "matrix" in types:
            scalars = [one for one in arguments if kind(one) == "scalar"]
            extra = self.scalar(scalars[0], steps) if scalars else [0.0] * count
            return self._ranged(node, steps, types.index("matrix"), extra)
        if name == "vector":
            return [Line((), list(self.scalar(arguments[0], steps)))]
        if name == "timestamp":
            return self._timestamps(arguments[0], steps, fail)
        if name == "histogram_quantile":
            q = self.scalar(arguments[0], steps)
            return functions.histogram_quantile(q, self.vector(arguments[1], steps), fail)
        date = functions.of_date(name)
        if date is not None and not arguments:
            return [Line((), [date(float(ms // 1000)) for ms in steps.times])]
        lines = self.vector(arguments[0], steps)
        self._budget.spend(len(lines) * count)
        if (function := functions.ELEMENTWISE.get(name) or date) is not None:
            return functions.each(lines, function, fail)
        if name in ("sort", "sort_desc"):
            return functions.in_order(lines, descending=name == "sort_desc")
        if name == "absent":
            return functions.absent(arguments[0], lines, count)
        if name in ("label_replace", "label_join"):
            texts = [self.string(one) for one in arguments[1:]]
            change = functions.label_replaced if name == "label_replace" else functions.label_joined
            return change(lines, texts, fail, self._budget.text)
        given = [self.scalar(one, steps) for one in arguments[1:]]
        if name == "round":
            return functions.rounded(lines, given[0] if given else [1.0] * count, fail)
        least = [-INF] * count if name == "clamp_max" else given[0]
        return functions.clamped(lines, least, [INF] * count if name == "clamp_min" else given[-1], fail)

    def _timestamps(self, argument: Node, steps: Steps, fail: Fail) -> list[Line]:
        """Return when the samples of a selector were taken; of any other expression it is the time of the step."""
        inner = bare(argument)
        if isinstance(inner, Selector):
            lines = self._newest(inner, steps, want_times=True)
            return merged([Line(nameless(one.labels), one.values) for one in lines], fail)
        times = steps.times
        return merged(
            [
                Line(
                    nameless(one.labels),
                    [None if v is None else ms / 1000 for v, ms in zip(one.values, times, strict=True)],
                )
                for one in self.vector(inner, steps)
            ],
            fail,
        )

    def _aggregation(self, node: Aggregation, steps: Steps) -> list[Line]:
        lines = self.vector(node.inner, steps)
        self._budget.spend(len(lines) * len(steps.times))
        fail = self._fail(node)
        if node.operator == "count_values":
            assert node.parameter is not None
            name = self.string(node.parameter)
            if not name:
                raise fail("count_values needs the name of a label", 'Write count_values("value", ...).')
            return aggregate.counted_values(node, name, lines, fail)
        parameter = [0.0] * len(steps.times) if node.parameter is None else self.scalar(node.parameter, steps)
        return aggregate.aggregated(node, lines, parameter, fail)

    def _binary(self, node: Binary, steps: Steps) -> list[Line]:
        fail, count = self._fail(node), len(steps.times)
        if kind(node.left) == "scalar" or kind(node.right) == "scalar":
            scalar_is_left = kind(node.left) == "scalar"
            vector, other = (node.right, node.left) if scalar_is_left else (node.left, node.right)
            lines = self.vector(vector, steps)
            self._budget.spend(len(lines) * count)
            return binary.with_scalar(node, lines, self.scalar(other, steps), scalar_is_left, fail)
        left, right = self.vector(node.left, steps), self.vector(node.right, steps)
        self._budget.spend((len(left) + len(right)) * count)
        if node.operator in SETS:
            return binary.of_sets(node, left, right, fail)
        return binary.of_vectors(node, left, right, fail)
