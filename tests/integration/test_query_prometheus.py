"""`agent.query` gives the numbers of a real Prometheus 3.5 that has the same samples, and refuses what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.query.parse import parse
from agent.query.printer import formatted
from agent.query.tree import QueryError, kind
from agent.query.value import Steps
from tests.support import expressions, queried
from tests.support.prometheus import Prometheus
from tests.support.queried import START_MS, Memory
from tests.support.server import ServerFailed

INSTANTS = tuple(
    START_MS + second * 1000 + ms for second, ms in ((45, 0), (647, 123), (1800, 0), (3570, 1), (3899, 0))
)
RANGES = (
    Steps(START_MS + 1000, START_MS + 3_800_000, 97_000),
    Steps(START_MS + 600_000, START_MS + 1_205_500, 10_000),
)


class Both(NamedTuple):
    """A Prometheus and ourselves, with the same samples."""

    server: Prometheus
    memory: Memory


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, prometheus_program: Path) -> Iterator[Both]:
    series = queried.stored()
    folder = tmp_path_factory.mktemp("prometheus")
    config = folder / "own.yml"
    config.write_text("global: {evaluation_interval: 1m}")  # the step of a subquery that names none
    with Prometheus(prometheus_program, folder, config=config) as server:
        queried.send(server, series)
        yield Both(server, Memory(series))


def test_the_answers_are_those_of_prometheus(both: Both) -> None:
    asked = expressions.expressions()
    assert len(asked) >= 400
    wrong = []
    for i, expression in enumerate(asked):
        at_ms = INSTANTS[i % len(INSTANTS)]
        found = [compared(both, expression, steps) for steps in (Steps(at_ms, at_ms, 1), *RANGES)]
        wrong += [f"{expression}: {one}" for one in found if one]
        if found == [None, None, None]:
            wrong.append(f"{expression}: it has no answer at any time")
    assert not wrong, "\n".join(wrong[:60]) + f"\n{len(wrong)} differ"


def compared(both: Both, expression: str, steps: Steps) -> str | None:
    """Return where the answers differ. At some times a valid expression is an error: None where both say so."""
    try:
        theirs = queried.theirs(expression, steps, both.server)
    except ServerFailed:
        with pytest.raises(QueryError):
            queried.ours(expression, steps, both.memory)
        return None
    try:
        return queried.difference(queried.ours(expression, steps, both.memory), theirs)
    except QueryError as error:
        return str(error)


@pytest.mark.parametrize("at_ms", INSTANTS)
def test_the_order_and_the_types_of_an_instant_are_those_of_prometheus(both: Both, at_ms: int) -> None:
    for expression in expressions.at_an_instant():
        steps = Steps(at_ms, at_ms, 1)
        theirs, ours = (
            queried.theirs(expression, steps, both.server),
            queried.ours(expression, steps, both.memory),
        )
        assert queried.difference(ours, theirs) == "", expression
        if expression.startswith(expressions.ORDERED) and "special" not in expression:
            assert list(ours.series) == list(theirs.series), expression


@pytest.mark.parametrize("expression", expressions.refused())
def test_what_prometheus_refuses_is_refused(both: Both, expression: str) -> None:
    steps = Steps(INSTANTS[2], INSTANTS[2], 1)
    with pytest.raises(ServerFailed, match="HTTP 4"):
        queried.theirs(expression, steps, both.server)
    with pytest.raises(QueryError, match="character"):
        queried.ours(expression, steps, both.memory)


FORMATS = r"""
x[90m] offset 25h
x[36h:90s] offset -400d
x offset 370d
x{a="\u00ad\u200b\U0001F40C\x07\x7f\"\\",b='"',c=`\`}
{a="1",__name__=~"x",__name__="y"}
x{"y"="1"}
{"x", "a b"="1", a=""}
x @ -1.0005
x @ 0
-5m
- - 1h30m # a comment
1e-7
1e22 + 0.1 + 123456789.125 - 0x10
-0
(((x)))
-(+(-x))
a and on () b or ignoring (c) d unless on (e, f) g
a == bool on (b) group_right (c) d
SUM(x) BY (a, "b c")
Count_Values Without () ("a", x)
2 ^ -x ^ 3 Atan2 y
x[5m:]
label_join(x, "", "", "", "\n")
"""


def test_an_expression_is_written_as_prometheus_writes_it(both: Both) -> None:
    known = [*expressions.expressions(), *expressions.at_an_instant(), *FORMATS.strip().splitlines()]
    # A long one breaks into lines, and a comment ends where its line does.
    vectors = [f"{one}\n" for one in known if kind(parse(one)) == "vector"]
    head = "sum without (instance, a_label_with_a_long_name, another_label_with_a_long_name)"
    known += [
        f"{head} (clamp_max({one}, 1000000000)) / on (job) group_left (team) topk(3, -({one}))"
        for one in vectors
    ]
    known += [
        f"max_over_time(({one})[10m:] @ end()) or +abs({one} != bool 1) > quantile(.5, {one})"
        for one in vectors
    ]
    wrong, broken = [], 0
    for text in known:
        theirs = json.loads(both.server.get("/api/v1/format_query", {"query": text}))["data"]
        ours = formatted(text)
        broken += "\n" in ours
        if ours != theirs:
            wrong.append(f"{text}:\n  {theirs}\n  {ours}")
        elif formatted(ours) != ours:
            wrong.append(f"{text}: written again, it is another one")
    assert broken > 400
    assert not wrong, "\n".join(wrong[:30]) + f"\n{len(wrong)} of {len(known)} differ"


def test_a_difference_would_be_seen(both: Both) -> None:
    steps = RANGES[1]
    ours = queried.ours("rate(requests_total[5m])", steps, both.memory)
    for other in (
        "rate(requests_total[5m]) * 1.00000000001",
        "rate(requests_total[5m:1s])",
        "increase(requests_total[5m])",
    ):
        assert queried.difference(ours, queried.theirs(other, steps, both.server))
