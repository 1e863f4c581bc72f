"""The grid: arithmetic, for any clock and any host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collect import grid

NOW = st.integers(0, 1 << 43)
INTERVAL = st.integers(1, 86_400_000)
HOST = st.text(max_size=80)


@given(HOST, INTERVAL)
def test_a_host_has_one_place_within_the_interval(host: str, interval: int) -> None:
    place = grid.offset(host, interval)
    assert 0 <= place < interval
    assert place == grid.offset(host, interval)


def test_the_place_of_a_host_is_kept_forever() -> None:
    # A change moves every timestamp of every host that is updated.
    assert (grid.offset("web-01", 10_000), grid.offset("web-02", 10_000)) == (9253, 6655)


def test_a_fleet_is_spread_over_the_interval() -> None:
    tenths = [grid.offset(f"host-{n}.example.com", 10_000) // 1_000 for n in range(1_000)]
    assert all(60 <= tenths.count(tenth) <= 140 for tenth in range(10))


@given(NOW, INTERVAL, HOST)
def test_the_slot_is_the_newest_grid_time_that_has_come(now: int, interval: int, host: str) -> None:
    place = grid.offset(host, interval)
    slot = grid.slot(now, interval, place)
    assert slot <= now < slot + interval
    assert slot % interval == place
    assert grid.slot(slot, interval, place) == slot
    assert grid.slot(slot + interval - 1, interval, place) == slot


@given(NOW, INTERVAL, st.integers(1, 100), HOST)
def test_the_times_of_a_wide_grid_are_times_of_the_dense_one(
    now: int, dense: int, times: int, host: str
) -> None:
    wide = dense * times
    slot = grid.slot(now, wide, grid.offset(host, wide))
    assert grid.slot(slot, dense, grid.offset(host, dense)) == slot


@given(NOW, st.lists(st.integers(100, 86_400_000), max_size=8), HOST)
def test_a_time_off_the_grids_is_on_none_of_them_and_near(now: int, intervals: list[int], host: str) -> None:
    grids = [(interval, grid.offset(host, interval)) for interval in intervals]
    found = grid.off_grid(now, grids)
    assert now <= found <= now + len(intervals)
    assert all(grid.slot(found, *each) != found for each in grids)


@given(NOW, INTERVAL, st.integers(1, 1_000), HOST)
def test_between_two_grid_times_lie_those_that_were_skipped(
    now: int, interval: int, steps: int, host: str
) -> None:
    first = grid.slot(now, interval, grid.offset(host, interval))
    expected = steps - 1 if steps * interval < grid.LONGEST_GAP_MS else 0
    assert grid.skipped(first, first + steps * interval, interval) == expected


@given(NOW, INTERVAL, st.integers(1, grid.LONGEST_GAP_MS - 1))
def test_a_tick_off_the_grid_counts_no_time_twice(first: int, interval: int, gap: int) -> None:
    # A restarted collector's first tick may lie between two of its own times.
    middle = first + gap // 2
    whole = grid.skipped(first, first + gap, interval)
    parts = grid.skipped(first, middle, interval) + grid.skipped(middle, first + gap, interval)
    assert whole >= parts


@given(NOW, st.integers(0, 1 << 43), INTERVAL)
def test_no_time_is_skipped_by_a_clock_that_goes_back_or_is_absurd(
    now: int, back: int, interval: int
) -> None:
    assert grid.skipped(now, now - back, interval) == 0
    assert grid.skipped(now, now + grid.LONGEST_GAP_MS, interval) == 0


@pytest.mark.parametrize(
    ("gap", "elapsed", "expected"),
    [
        (10_000, 10_020, 0),
        (30_000, 29_500, 2),
        (20_000, 13_000, 1),  # the first tick came at once, within its interval
        (3_610_000, 10_000, 0),  # set forward
        (-3_590_000, 10_000, 0),  # set back
        (3_630_000, 30_100, 2),  # set forward, and two were skipped
    ],
)
def test_a_clock_that_is_set_skips_no_grid_times(gap: int, elapsed: int, expected: int) -> None:
    assert grid.skipped_in(gap, elapsed, 10_000) == expected
