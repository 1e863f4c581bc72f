from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.kernel import Growth, deltas, mean, percent, rate, share

counter = st.integers(0, 2**64 - 1)
seconds = st.floats(0.001, 1e6)


def representable(value: float, digits: int) -> bool:
    return float(round(value * 10**digits) / 10**digits) == value


@given(st.lists(st.tuples(counter, counter), max_size=8))
def test_deltas_are_the_differences_or_nothing(pairs: list[tuple[int, int]]) -> None:
    before, now = [a for a, _ in pairs], [b for _, b in pairs]
    assert deltas(before, now) == growth_of(before, now)


def growth_of(before: Sequence[int], now: Sequence[int]) -> list[int] | None:
    """A counter may fall only from the upper half of 32 bits to the lower: then it has wrapped."""
    pairs = list(zip(before, now, strict=True))
    if all(b >= a or (2**31 <= a < 2**32 and a - b > 2**31) for a, b in pairs):
        return [b - a if b >= a else b - a + 2**32 for a, b in pairs]
    return None


@pytest.mark.parametrize(
    ("before", "now", "grown"),
    [
        ([2**32 - 10, 500], [90, 600], [100, 100]),  # wrapped
        ([2**32 - 10, 500], [90, 20], None),  # plugged out and in again
        ([2**31, 500], [0, 600], None),  # half of the range in one interval is no wrap
        ([2**33, 500], [5, 600], None),  # a counter of 64 bits does not wrap
        ([1, 2], [1], None),  # something else is counted
    ],
)
def test_a_wrap_of_32_bits(before: list[int], now: list[int], grown: list[int] | None) -> None:
    assert deltas(before, now) == grown


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


@given(st.floats(0, 1e15), st.floats(1e-3, 1e15))
def test_a_share_of_an_interval_is_a_percentage_or_impossible(part: float, whole: float) -> None:
    assert share(part, whole) == (percent(part, whole) if part <= 1.5 * whole else None)


runs = st.lists(
    st.tuples(
        st.floats(0, 100),  # seconds since the run before
        st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), st.lists(counter, min_size=2, max_size=2)),
    ),
    max_size=12,
)


@given(runs)
def test_growth_is_reported_for_a_device_seen_twice_in_a_row_and_never_backwards(
    script: list[tuple[float, dict[bytes, list[int]]]],
) -> None:
    growth, now, before = Growth(), 0.0, dict[bytes, list[int]]()
    for turn, (wait, counters) in enumerate(script):
        interval = wait if turn else 0.0
        now += interval
        told, grown, whole = growth.step(now, counters)
        assert whole.keys() == counters.keys()
        if turn:
            assert told == pytest.approx(interval, abs=1e-9)
        expected = {
            name: delta
            for name, values in counters.items()
            if name in before and (delta := growth_of(before[name], values)) is not None
        }
        assert grown == (expected if told > 0 else {})
        before = counters


def test_no_time_no_rate_and_the_next_interval_starts_there() -> None:
    growth = Growth()
    assert growth.step(5.0, {b"a": (1,)})[1] == {}
    assert growth.step(5.0, {b"a": (3,)}) == (0.0, {}, {b"a": [3]})
    assert growth.step(7.0, {b"a": (4,)}) == (2.0, {b"a": [1]}, {b"a": [4]})


def test_counters_continue_over_a_wrap_and_begin_again_after_a_reset() -> None:
    growth = Growth()
    found = [growth.step(turn, {b"a": (n, 7)})[2][b"a"][0] for turn, n in enumerate((2**32 - 5, 5, 9, 3, 4))]
    assert found == [2**32 - 5, 2**32 + 5, 2**32 + 9, 3, 4]
