"""What the engine asks for, where it stops, and that nothing but its own error comes out. Its numbers are compared
with those of a real Prometheus in tests/integration.
"""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from array import array
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.query.engine import evaluate
from agent.query.limits import Budget, Limits, Stopped
from agent.query.parse import parse
from agent.query.selecting import Data, Span
from agent.query.signatures import FUNCTIONS
from agent.query.tree import Matchers, QueryError
from agent.query.value import Samples, Steps
from tests.support.queried import END_MS, START_MS, Memory, ours, stored

SERIES = stored()


@pytest.mark.parametrize(
    ("expression", "first", "last"),
    [
        ("a", -299_999, 600_000),
        ("last_over_time(a[1m])", -59_999, 600_000),
        ("rate(a[1m] offset 30s)", -89_999, 570_000),
        ("a offset -1m", -239_999, 660_000),
        ("a @ 1700000100", -199_999, 100_000),
        ("a @ end() offset 1m", 240_001, 540_000),
        ("sum_over_time(a[10m:1m])", -560_000 - 299_999, 580_000),
        ("a - a offset 1d", -86_400_000 - 299_999, 600_000),
        ("sum by (x) (abs(-(a)))", -299_999, 600_000),
        ("quantile(scalar(a), vector(1))", -299_999, 600_000),
    ],
)
def test_only_the_samples_that_count_are_read(expression: str, first: int, last: int) -> None:
    memory = Memory(())
    steps = Steps(START_MS, START_MS + 600_000, 60_000)
    ours(expression, steps, memory)
    ((begin, end),) = memory.asked.values()
    assert (begin - START_MS, end - START_MS) == (first, last)


def test_what_is_beyond_a_range_does_not_count() -> None:
    """A range begins after its first moment, and more than what was requested changes nothing."""
    for ms, seen in ((START_MS, 1), (START_MS - 59_999, 1), (START_MS - 60_000, 0), (START_MS + 1, 0)):
        stored = Samples((("__name__", "a"),), array("q", [ms]), array("d", [5.0]))
        found = ours("count_over_time(a[1m])", Steps(START_MS, START_MS, 1), Everything((stored,)))
        assert len(found.series) == seen


class Everything(Memory):
    """Gives more than what is requested, as a source may."""

    def read(self, needs: Mapping[Matchers, Span]) -> Data:
        return dict.fromkeys(needs, self.series)


def budget(limits: Limits | None = None) -> Budget:
    return Budget(limits or Limits(), lambda: 0.0)


@pytest.mark.parametrize(
    ("expression", "limits", "says"),
    [
        ("rate(requests_total[5m])", Limits(samples=1000), "touches more than 1,000 samples"),
        ("{job!=''}", Limits(series=10), "series, and 10 are allowed"),
        ("temperature", Limits(points=300), "it has 361 steps, and 300 are allowed"),
        ("sum_over_time(temperature[1h:1s])", Limits(), "it has 7,200 steps, and 5,000 are allowed"),
        ("temperature", Limits(values=2000), "more than 2,000 values at all steps"),
        ("rate(requests_total[5m])", Limits(values=2000), "more than 2,000 values at all steps"),
    ],
)
def test_a_query_beyond_a_limit_is_stopped(expression: str, limits: Limits, says: str) -> None:
    limits = limits if limits.points != Limits().points else limits._replace(points=5000)
    with pytest.raises(Stopped, match=says):
        ours(expression, Steps(START_MS, END_MS, 10_000), Memory(SERIES), limits)


@pytest.mark.parametrize(
    "call",
    [
        'label_join({}, "job", "-", "job", "job", "job", "job")',
        'label_replace({}, "job", "$1$1$1", "job", "(.*)")',
    ],
)
def test_labels_that_grow_with_each_call_are_stopped_before_they_are_made(call: str) -> None:
    expression = "temperature"
    for _ in range(40):
        expression = call.format(expression)
    tracemalloc.start()
    try:
        with pytest.raises(Stopped, match="labels of more than 20,000,000 characters"):
            ours(expression, Steps(END_MS, END_MS, 1), Memory(SERIES))
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_a_query_is_stopped_when_its_time_is_over() -> None:
    """The clock is read often enough: each look at it takes a second here, and far more samples are wanted."""
    now = iter(range(10_000))
    stopped = Budget(Limits(seconds=5), lambda: float(next(now)))
    expression = "sum_over_time(temperature[1h])"
    with pytest.raises(Stopped, match="takes longer than 5 s"):
        evaluate(parse(expression), expression, Steps(START_MS, END_MS, 1000), Memory(SERIES).read, stopped)
    assert stopped.samples < 500_000


def test_two_evaluations_of_one_tree_know_nothing_of_each_other() -> None:
    tree = parse("rate(requests_total[5m])")
    steps, other = Steps(START_MS, END_MS, 60_000), Steps(START_MS, END_MS, 30_000)
    first = evaluate(tree, "", steps, Memory(SERIES).read, budget())
    evaluate(tree, "", other, Memory(SERIES[:5]).read, budget())
    assert evaluate(tree, "", steps, Memory(SERIES).read, budget()) == first


def test_errors_of_evaluation_say_where() -> None:
    says = r"several series on the right of \+ match \{job=\"api\"\}, character 20,"
    with pytest.raises(QueryError, match=says):
        ours("vector(1) + (limit + on (job) temperature)", Steps(END_MS, END_MS, 1), Memory(SERIES))


LEAVES = st.sampled_from(
    ("temperature", "special", "ending", "huge", "requests_total", "vector(1)", "nothing", "special @ end()")
)
RANGES = st.sampled_from(("special[5m]", "ending[3m]", "huge[2m]", "temperature[4m:50s]", "overflowing[1m]"))
NUMBERS = st.sampled_from(("0", "1", "-1", "0.5", "NaN", "Inf", "-Inf", "1e308", "time()", "scalar(special)"))


def _vectors(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    simple = [name for name, text in FUNCTIONS.items() if text in ("v", "v?") and name != "scalar"]
    ranged = [name for name, text in FUNCTIONS.items() if text == "m"]
    operators = [*"+-*/%^<>", "atan2", "==", "!=", "<=", ">=", "and", "or", "unless"]
    return st.one_of(
        st.tuples(st.sampled_from(simple), inner).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(st.sampled_from(ranged), RANGES).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(st.sampled_from(("sum", "avg", "stddev", "min", "count")), inner).map(
            lambda t: f"{t[0]} by (n) ({t[1]})"
        ),
        st.tuples(st.sampled_from(("topk", "bottomk", "quantile")), NUMBERS, inner).map(
            lambda t: f"{t[0]}({t[1]}, {t[2]})"
        ),
        st.tuples(inner, st.sampled_from(operators), inner).map(
            lambda t: f"({t[0]} {t[1]} on (n, job, instance) {t[2]})"
        ),
        st.tuples(inner, st.sampled_from(operators[:13]), NUMBERS).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(("round", "clamp_min", "clamp_max")), inner, NUMBERS).map(
            lambda t: f"{t[0]}({t[1]}, {t[2]})"
        ),
        st.tuples(inner, NUMBERS, NUMBERS).map(lambda t: f"clamp({t[0]}, {t[1]}, {t[2]})"),
        st.tuples(NUMBERS, inner).map(lambda t: f"histogram_quantile({t[0]}, {t[1]})"),
        st.tuples(NUMBERS, RANGES).map(
            lambda t: f"predict_linear({t[1]}, {t[0]}) + quantile_over_time({t[0]}, {t[1]})"
        ),
        inner.map(lambda one: f"max_over_time(({one})[5m:1m])"),
    )


@settings(max_examples=150, deadline=None)
@given(st.recursive(LEAVES, _vectors, max_leaves=6))
def test_an_expression_has_an_answer_or_is_an_error_of_its_own(expression: str) -> None:
    steps = Steps(START_MS + 100_000, START_MS + 1_000_000, 150_000)
    try:
        ours(expression, steps, Memory(SERIES))
    except QueryError as error:
        found = str(error)
        assert "character" in found


def test_the_agent_imports_nothing_of_it() -> None:
    code = "import sys, agent.cli.run, agent.config, agent.process, agent.health; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "agent.process" in loaded
    assert not [name for name in loaded if name.startswith(("agent.query", "agent.ops.selector"))]
