"""Binary operators between scalars and vectors, and how the series of two vectors find each other.

Source: `VectorBinop`, `VectorscalarBinop`, `VectorAnd`, `VectorOr` and `VectorUnless` of promql/engine.go of
Prometheus 3.5.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

from agent.ops.selector import NAME
from agent.query.arithmetic import divide, modulo, power
from agent.query.tree import COMPARISONS, Binary
from agent.query.value import Column, Fail, Line, changed, label, merged, nameless, only, without
from buffer.model import Labels

ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": divide,
    "%": modulo,
    "^": power,
    "atan2": math.atan2,
}
COMPARED: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_ONE_TO_ONE = "Name labels that distinguish them in on (...), or aggregate one side."


def of_scalars(node: Binary, left: Sequence[float], right: Sequence[float]) -> list[float]:
    """Return the result at each step; a comparison gives 1 or 0."""
    if node.operator in COMPARISONS:
        compare = COMPARED[node.operator]
        return [float(compare(a, b)) for a, b in zip(left, right, strict=True)]
    return [ARITHMETIC[node.operator](a, b) for a, b in zip(left, right, strict=True)]


def with_scalar(
    node: Binary, lines: Sequence[Line], scalar: Sequence[float], scalar_is_left: bool, fail: Fail
) -> list[Line]:
    """Return each series with the scalar; a comparison without bool keeps the values for which it is true."""
    compute = _elementwise(node, keep_right=scalar_is_left)
    keeps_name = node.operator in COMPARISONS and not node.as_bool
    result = []
    for line in lines:
        values = compute(scalar, line.values) if scalar_is_left else compute(line.values, scalar)
        result.append(Line(line.labels if keeps_name else nameless(line.labels), values))
    return merged(result, fail)


def _elementwise(
    node: Binary, *, keep_right: bool = False
) -> Callable[[Sequence[float | None], Sequence[float | None]], Column]:
    """Return what computes the values of two columns. A comparison keeps the left value, or the right one."""
    if node.operator not in COMPARISONS:
        compute = ARITHMETIC[node.operator]
        return lambda left, right: [
            None if a is None or b is None else compute(a, b) for a, b in zip(left, right, strict=True)
        ]
    compare = COMPARED[node.operator]
    if node.as_bool:
        return lambda left, right: [
            None if a is None or b is None else float(compare(a, b)) for a, b in zip(left, right, strict=True)
        ]
    return lambda left, right: [
        None if a is None or b is None or not compare(a, b) else b if keep_right else a
        for a, b in zip(left, right, strict=True)
    ]


def _signature(node: Binary) -> Callable[[Labels], Labels]:
    """Return the function from a series' labels to those by which it is matched."""
    if node.matching.on:
        names = frozenset(node.matching.labels)
        return lambda labels: only(labels, names)
    ignored = frozenset((*node.matching.labels, NAME))
    return lambda labels: without(labels, ignored)


def _by_signature(node: Binary, lines: Sequence[Line]) -> dict[Labels, list[Line]]:
    signature = _signature(node)
    found: dict[Labels, list[Line]] = {}
    for line in lines:
        found.setdefault(signature(line.labels), []).append(line)
    return found


def of_sets(node: Binary, left: Sequence[Line], right: Sequence[Line], fail: Fail) -> list[Line]:
    """Return `and`, `or` or `unless` of two vectors. Raises QueryError."""
    signature = _signature(node)
    if node.operator == "or":
        present = _present(_by_signature(node, left))
        missing = (_masked(line, present.get(signature(line.labels)), keep=False) for line in right)
        return merged([*left, *missing], fail)
    present = _present(_by_signature(node, right))
    keep = node.operator == "and"
    return merged([_masked(line, present.get(signature(line.labels)), keep=keep) for line in left], fail)


def _present(groups: dict[Labels, list[Line]]) -> dict[Labels, list[bool]]:
    """Return for each signature whether there is a value, step by step."""
    return {
        signature: [
            any(v is not None for v in row) for row in zip(*(one.values for one in lines), strict=True)
        ]
        for signature, lines in groups.items()
    }


def _masked(line: Line, present: list[bool] | None, *, keep: bool) -> Line:
    """Return the line with the values at which something is present (`keep`), or nothing is."""
    if present is None:
        return Line(line.labels, [None] * len(line.values)) if keep else line
    return Line(
        line.labels, [v if there is keep else None for v, there in zip(line.values, present, strict=True)]
    )


def of_vectors(node: Binary, left: Sequence[Line], right: Sequence[Line], fail: Fail) -> list[Line]:
    """Return the operator between the series that match. Raises QueryError where more than one does."""
    many_is_right = node.matching.many == "right"
    many, one = (right, left) if many_is_right else (left, right)
    _check_unique(node, _by_signature(node, one), many, "left" if many_is_right else "right", fail)
    compute = _elementwise(node)
    ones = _by_signature(node, one)
    result: list[Line] = []
    for signature, lines in _by_signature(node, many).items():
        found = [
            Line(
                _result_labels(node, line.labels, other.labels),
                compute(other.values, line.values) if many_is_right else compute(line.values, other.values),
            )
            for line in lines
            for other in ones.get(signature, ())
        ]
        if len(found) > 1:
            _check_results(node, found, fail)
        result.extend(found)
    return merged(result, fail)


def _check_unique(
    node: Binary, groups: dict[Labels, list[Line]], others: Sequence[Line], side: str, fail: Fail
) -> None:
    """Raise QueryError where two series of the side that must have one are matched alike at a step."""
    for signature, lines in groups.items():
        if len(lines) < 2:
            continue
        for step, row in enumerate(zip(*(line.values for line in lines), strict=True)):
            if sum(value is not None for value in row) > 1 and any(
                o.values[step] is not None for o in others
            ):
                labels = ", ".join(f'{name}="{value}"' for name, value in signature)
                what = f"several series on the {side} of {node.operator} match {{{labels}}}"
                raise fail(what, _ONE_TO_ONE)


def _check_results(node: Binary, found: list[Line], fail: Fail) -> None:
    """Raise QueryError where two results of one match have the same labels at a step."""
    lines: dict[Labels, list[Line]] = {}
    for line in found:
        lines.setdefault(line.labels if node.matching.many else (), []).append(line)
    for same in lines.values():
        if any(
            sum(value is not None for value in row) > 1 for row in zip(*(x.values for x in same), strict=True)
        ):
            if node.matching.many:
                raise fail(
                    "several results of a match have the same labels", "Name more labels in the group."
                )
            side = f"several series on the left of {node.operator} match one on the right"
            raise fail(side, "Add group_left or group_right where that is meant.")


def _result_labels(node: Binary, many: Labels, one: Labels) -> Labels:
    matching = node.matching
    compared = node.operator in COMPARISONS
    result = many if compared else nameless(many)
    if not matching.many:
        names = frozenset(matching.labels)
        result = only(result, names) if matching.on else without(result, names)
    for name in matching.include:
        result = changed(result, name, label(one, name))
    return nameless(result) if node.as_bool else result
