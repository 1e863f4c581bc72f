"""Results as Prometheus's HTTP API has them. Source: "Format overview" and "Expression query result formats" of its
documentation (querying/api).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from agent.query.engine import Result
from agent.query.value import Line
from buffer.model import Labels


def document(data: Any, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Return an answer; what people must know about it is in `warnings`."""
    return {"status": "success", "data": data} | ({"warnings": list(warnings)} if warnings else {})


def of_result(result: Result) -> dict[str, Any]:
    """Return the data of the answer to an expression."""
    if result.type == "string":
        return {"resultType": "string", "result": [seconds(result.times[0]), result.text]}
    if result.type == "scalar":
        ((_, values),) = result.lines
        return {"resultType": "scalar", "result": [seconds(result.times[0]), number(values[0] or 0.0)]}
    if result.type == "vector":
        at = seconds(result.times[0])
        found = [
            {"metric": dict(line.labels), "value": [at, number(value)]}
            for line in result.lines
            for value in line.values
            if value is not None
        ]
        return {"resultType": "vector", "result": found}
    matrix = [(line.labels, points(line, result.times)) for line in result.lines]
    matrix += [(one.labels, list(zip(one.times, one.values, strict=True))) for one in result.raw]
    return {"resultType": "matrix", "result": [series(labels, pairs) for labels, pairs in matrix]}


def points(line: Line, times: Sequence[int]) -> list[tuple[int, float]]:
    """Return the times and values of a line, without the steps at which it has none."""
    return [(ms, value) for ms, value in zip(times, line.values, strict=True) if value is not None]


def series(labels: Labels, pairs: Iterable[tuple[int, float]]) -> dict[str, Any]:
    """Return an entry of a matrix."""
    return {"metric": dict(labels), "values": [[seconds(ms), number(value)] for ms, value in pairs]}


def seconds(ms: int) -> float | int:
    """Return a time as Unix seconds, whole where it is."""
    return ms / 1000 if ms % 1000 else ms // 1000


def number(value: float) -> str:
    """Return a value as the API writes it: a string with as many digits as it takes."""
    if not math.isfinite(value):
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        text = repr(value)
        if "e" in text:
            from decimal import Decimal

            text = format(Decimal(text), "f")
        return text.removesuffix(".0")
    mantissa, _, exponent = repr(value).partition("e")
    if not exponent:
        return repr(value)
    return f"{mantissa.removesuffix('.0')}e{exponent}"
