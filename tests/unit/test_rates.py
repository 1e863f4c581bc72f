from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.kernel import Growth, deltas, mean, percent, rate

counter = st.integers(0, 2**64 - 1)
seconds = st.floats(0.001, 1e6)


def representable(value: float, digits: int) -> bool:
    return float(round(value * 10**digits) / 10**digits) == value


@given(st.lists(st.tuples(counter, counter), max_size=8))
def test_deltas_are_the_differences_or_nothing(pairs: list[tuple[int, int]]) -> None:
    before, now = [a for a, _ in pairs], [b for _, b in pairs]
    grown = deltas(before, now)
    if any(b < a for a, b in pairs):
        assert grown is None
    else:
        assert grown == [b - a for a, b in pairs]


def test_counters_of_another_shape_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError):
        deltas([1, 2], [1])


@given(st.integers(0, 10**14), seconds, st.integers(0, 2))
def test_a_rate_is_finite_never_negative_and_close(grown: int, interval: float, digits: int) -> None:
    found = rate(grown, interval, digits)
    assert found >= 0
    assert math.isfinite(found)
    assert math.copysign(1, found) == 1
    assert found == pytest.approx(grown / interval, rel=1e-9, abs=0.501 * 10**-digits)


@given(st.floats(0, 1e11), st.integers(0, 2))
def test_a_rounded_rate_is_a_small_decimal(exact: float, digits: int) -> None:
    assert representable(rate(exact, 1.0, digits), digits)


@given(st.integers(0, 10**9), st.integers(0, 10**6))
def test_a_mean_is_zero_only_over_nothing_or_of_nothing(total: int, count: int) -> None:
    found = mean(total, count)
    assert representable(found, 2)
    assert found == (pytest.approx(total / count, rel=1e-9, abs=0.00501) if count else 0)


@given(st.floats(0, 1e15), st.floats(1e-3, 1e15))
def test_a_percentage_stays_in_its_range(part: float, whole: float) -> None:
    found = percent(part, whole)
    assert 0 <= found <= 100
    assert representable(found, 2)
    if part <= whole:
        assert found == pytest.approx(100 * part / whole, abs=0.006)


runs = st.lists(
    st.tuples(
        st.floats(0, 100),  # seconds since the run before
        st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), st.lists(counter, min_size=2, max_size=2)),
    ),
    max_size=12,
)


@given(runs)
def test_growth_is_told_for_a_device_seen_twice_in_a_row_and_never_backwards(
    script: list[tuple[float, dict[bytes, list[int]]]],
) -> None:
    growth, now, before = Growth(), 0.0, dict[bytes, list[int]]()
    for turn, (wait, counters) in enumerate(script):
        interval = wait if turn else 0.0
        now += interval
        told, grown = growth.step(now, counters)
        if turn:
            assert told == pytest.approx(interval, abs=1e-9)
        expected = {
            name: [b - a for a, b in zip(before[name], values, strict=True)]
            for name, values in counters.items()
            if name in before and all(b >= a for a, b in zip(before[name], values, strict=True))
        }
        assert grown == (expected if told > 0 else {})
        before = counters


def test_no_time_no_rate_and_the_next_interval_starts_there() -> None:
    growth = Growth()
    assert growth.step(5.0, {b"a": (1,)})[1] == {}
    assert growth.step(5.0, {b"a": (3,)}) == (0.0, {})
    assert growth.step(7.0, {b"a": (4,)}) == (2.0, {b"a": [1]})
