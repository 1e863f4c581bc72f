"""How fast a lane may send: the bandwidth that is kept, and a fleet that returns without a burst."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from agent.send.pace import FIRST_PAUSE, SHORTEST, Pace, resumed, sent


@given(
    st.integers(100, 10**7),
    st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 20)), min_size=1, max_size=50),
)
def test_the_bandwidth_is_kept_over_any_time(bandwidth: int, requests: list[tuple[int, float]]) -> None:
    pace, now = Pace(), 0.0
    times: list[tuple[float, int]] = []
    for size, idle in requests:
        now += idle
        now += pace.wait(now, full=False)
        times.append((now, size))
        pace = sent(pace, now, size, bandwidth, 0.5)
    for first, (begin, _) in enumerate(times):
        for last in range(first + 1, len(times)):
            spent = sum(size for _, size in times[first:last])  # the last one is the one more
            assert spent <= bandwidth * (times[last][0] - begin) * (1 + 1e-9) + 1e-6


def test_without_a_bandwidth_nothing_waits() -> None:
    assert sent(Pace(), 5.0, 10**9, None, 0.5).wait(5.0, full=True) == 0.0


@given(st.floats(0, 1e9), st.lists(st.floats(0, 1, exclude_max=True), min_size=20, max_size=20))
def test_the_pauses_after_an_outage_end(outage: float, random: list[float]) -> None:
    pace, now = resumed(Pace(), outage, 0.0, random[0]), 0.0
    gaps = []
    for r in random[1:]:
        gap = pace.wait(now, full=True)
        assert pace.wait(now, full=False) == 0.0
        gaps.append(gap)
        now += gap
        pace = sent(pace, now, 1, None, r)
    assert gaps[0] <= min(FIRST_PAUSE, outage / 10) * 1.5
    assert gaps[-1] == 0.0
    assert sum(gaps) <= FIRST_PAUSE * 3
    if outage / 10 >= FIRST_PAUSE:
        assert gaps[0] >= FIRST_PAUSE / 2
    if outage / 10 < SHORTEST:
        assert gaps == [0.0] * len(gaps)


def test_a_fleet_that_returns_at_the_same_moment_spreads_itself() -> None:
    """A thousand hosts whose first request gets through at the same moment, each with a long backlog."""
    random = Random(1)
    requests: Counter[int] = Counter()
    for _ in range(1000):
        pace, now = resumed(Pace(), 3600.0, 0.0, random.random()), 0.0
        while now < 20:
            now += pace.wait(now, full=True)
            requests[int(now)] += 1
            pace = sent(pace, now, 30_000, None, random.random())
            now += 0.05  # what a request takes
    assert requests[0] + requests[1] == 0  # nobody sends a second one
    assert all(0 < requests[second] < 600 for second in (2, 3, 4))  # about one of two hosts, in each second
    assert requests[15] == 20 * 1000  # and then all speed is there
