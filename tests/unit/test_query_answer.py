"""Results in the shape of Prometheus's API."""

from __future__ import annotations

import math

import pytest

from agent.query import answer
from agent.query.engine import Result
from agent.query.value import Line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (-0.0, "-0"),
        (0.1, "0.1"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (1.25e-7, "1.25e-07"),
        (123456789.125, "123456789.125"),
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
    ],
)
def test_numbers_are_written_as_prometheus_writes_them(value: float, text: str) -> None:
    assert answer.number(value) == text


def test_documents() -> None:
    lines = [Line((("a", "b"),), [1.0, None]), Line((), [None, 2.5])]
    assert answer.of_result(Result("matrix", (1000, 1500), lines, [])) == {
        "resultType": "matrix",
        "result": [
            {"metric": {"a": "b"}, "values": [[1, "1"]]},
            {"metric": {}, "values": [[1.5, "2.5"]]},
        ],
    }
    assert answer.of_result(Result("scalar", (1000,), [Line((), [3.0])], [])) == {
        "resultType": "scalar",
        "result": [1, "3"],
    }
    assert answer.of_result(Result("string", (1000,), [], [], "x")) == {
        "resultType": "string",
        "result": [1, "x"],
    }
    assert answer.document([], ["careful"]) == {"status": "success", "data": [], "warnings": ["careful"]}
    assert answer.document([]) == {"status": "success", "data": []}
