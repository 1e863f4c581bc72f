"""Samples with timestamps of their own: each once, in groups that stay the same, and none from a clock that is wrong."""

from __future__ import annotations

from agent.scrape.stamped import AHEAD_MS, BEHIND_MS, MOST_SETS, Stamps
from agent.scrape.table import Stamped
from buffer.model import Series

NOW = 1_750_000_000_000
A, B, C = (Series(name, ()) for name in "abc")


def taken(stamps: Stamps, *samples: tuple[int, Series, float]) -> list[tuple[int, dict[str, float]]]:
    rows = stamps([Stamped(NOW + at, series, value) for at, series, value in samples], NOW)
    assert all(len(row.series) == len(row.values) for row in rows)
    return [
        (row.at_ms - NOW, {one.name: v for one, v in zip(row.series, row.values, strict=True)})
        for row in rows
    ]


def test_each_counts_once_and_only_if_it_is_newer() -> None:
    stamps = Stamps()
    assert taken(stamps, (-5, A, 1), (-5, B, 2), (-7, C, 3)) == [(-7, {"c": 3}), (-5, {"a": 1, "b": 2})]
    assert taken(stamps, (-5, A, 1), (-6, B, 2), (-3, C, 4)) == [(-3, {"c": 4})]
    assert taken(stamps, (-4, A, 5), (-5, B, 6), (-3, C, 4)) == [(-4, {"a": 5})]


def test_one_series_can_come_with_several_times() -> None:
    assert taken(Stamps(), (2, A, 2), (1, A, 1), (2, A, 9)) == [(1, {"a": 1}), (2, {"a": 2})]


def test_times_that_are_none_are_left_out() -> None:
    for at in (AHEAD_MS + 1, -BEHIND_MS - 1, -NOW, 1 << 62, -(1 << 62)):
        assert taken(Stamps(), (at, A, 1)) == []
    assert taken(Stamps(), (AHEAD_MS, A, 1), (-BEHIND_MS, B, 1)) == [
        (-BEHIND_MS, {"b": 1}),
        (AHEAD_MS, {"a": 1}),
    ]


def test_a_set_of_series_is_a_group_that_stays_the_same() -> None:
    stamps = Stamps()

    def rows(at: int) -> list[tuple[str, tuple[Series, ...]]]:
        samples = [Stamped(NOW + at, A, 1), Stamped(NOW + at + 1, B, 1), Stamped(NOW + at + 1, C, 1)]
        return [(row.group, row.series) for row in stamps(samples, NOW)]

    first, second = rows(10), rows(20)
    assert [group for group, _ in first] == [group for group, _ in second] == [".stamped0", ".stamped1"]
    assert all(one[1] is other[1] for one, other in zip(first, second, strict=True))


def test_sets_that_come_and_go_are_forgotten() -> None:
    stamps = Stamps()
    for i in range(3 * MOST_SETS):
        (row,) = stamps([Stamped(NOW, Series(f"m{i}", ()), 1)], NOW)
        assert int(row.group.removeprefix(".stamped")) < MOST_SETS
    assert len(stamps._sets) <= MOST_SETS
    assert len(stamps._newest) == 1
