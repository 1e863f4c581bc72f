"""Aggregations: from the values of many series at a step to one, or to the best k of them.

Source: `aggregation` and `aggregationK` of promql/engine.go of Prometheus 3.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal

from agent.ops.selector import NAME
from agent.query.arithmetic import NAN, kahan_mean, kahan_sum, quantile
from agent.query.tree import Aggregation
from agent.query.value import Column, Fail, Line, changed, merged, only, without
from buffer.model import Labels


def aggregated(
    node: Aggregation, lines: Sequence[Line], parameter: Sequence[float], fail: Fail
) -> list[Line]:
    """Return the result at each step; `parameter` has the value of the parameter at each step. Raises QueryError."""
    groups: dict[Labels, list[Line]] = {}
    for line in lines:
        groups.setdefault(group(node, line.labels), []).append(line)
    if node.operator in ("topk", "bottomk"):
        return _best(node.operator == "topk", list(groups.values()), parameter, len(lines), fail)
    fold = _FOLDS.get(node.operator)
    result = [Line(labels, _folded(fold, members, parameter)) for labels, members in groups.items()]
    return merged(result, fail)


def group(node: Aggregation, labels: Labels) -> Labels:
    """Return the labels of the group that a series belongs to."""
    if node.without:
        return without(labels, frozenset((*node.labels, NAME)))
    return only(labels, frozenset(node.labels))


def _folded(
    fold: Callable[[Sequence[float]], float] | None, members: Sequence[Line], parameter: Sequence[float]
) -> Column:
    result: Column = []
    for step, row in enumerate(zip(*(line.values for line in members), strict=True)):
        values = [value for value in row if value is not None]
        if not values:
            result.append(None)
        else:
            result.append(quantile(parameter[step], values) if fold is None else fold(values))
    return result


def _variance(values: Sequence[float]) -> float:
    if not math.isfinite(values[0]):
        return NAN
    mean, squares = values[0], 0.0
    for count, value in enumerate(values[1:], 2):
        delta = value - mean
        mean += delta / count
        squares += delta * (value - mean)
    return squares / len(values)


def _stddev(values: Sequence[float]) -> float:
    found = _variance(values)
    return math.sqrt(found) if found >= 0 else NAN


def _max(values: Sequence[float]) -> float:
    found = [value for value in values if value == value]
    return max(found) if found else NAN


def _min(values: Sequence[float]) -> float:
    found = [value for value in values if value == value]
    return min(found) if found else NAN


_FOLDS: dict[str, Callable[[Sequence[float]], float]] = {
    "avg": kahan_mean,
    "count": lambda values: float(len(values)),
    "group": lambda _: 1.0,
    "max": _max,
    "min": _min,
    "stddev": _stddev,
    "stdvar": _variance,
    "sum": kahan_sum,
}


def _best(
    largest: bool, groups: list[list[Line]], parameter: Sequence[float], series: int, fail: Fail
) -> list[Line]:
    """Return the k best series of each group at each step; of a single step the best come first."""
    steps = len(parameter)
    kept: dict[int, Line] = {}
    for members in groups:
        for step in range(steps):
            found = [(i, value) for i, line in enumerate(members) if (value := line.values[step]) is not None]
            k = _k(parameter[step], series, fail) if found else 0
            found.sort(key=lambda one: _rank(one[1], largest))
            for i, value in found[: max(0, k)]:
                line = members[i]
                kept.setdefault(id(line), Line(line.labels, [None] * steps)).values[step] = value
    return list(kept.values())


def _k(value: float, series: int, fail: Fail) -> int:
    if not -(2.0**63) <= value < 2.0**63:
        raise fail(f"{value} is no number of series", "Give topk and bottomk a number such as 5.")
    return min(int(value), series)


def _rank(value: float, largest: bool) -> tuple[bool, float]:
    """Return what sorts the best first, and NaN last."""
    if value != value:
        return True, 0.0
    return False, -value if largest else value


def counted_values(node: Aggregation, name: str, lines: Sequence[Line], fail: Fail) -> list[Line]:
    """Return how many series have each value, which becomes the label `name`, at each step. Raises QueryError."""
    counts: dict[Labels, Column] = {}
    named = node if node.without else node._replace(labels=(*node.labels, name))
    for line in lines:
        for step, value in enumerate(line.values):
            if value is not None:
                labels = group(named, changed(line.labels, name, _text(value)))
                column = counts.setdefault(labels, [None] * len(line.values))
                column[step] = (column[step] or 0.0) + 1.0
    return merged([Line(labels, column) for labels, column in counts.items()], fail)


def _text(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
    return format(Decimal(repr(value)), "f").removesuffix(".0")
