from __future__ import annotations

from agent.destinations.columns import merge
from buffer.model import Instant, Series, Tick

UP = Series("up", (("hostname", "a"),))
DOWN = Series("down", (("hostname", "a"),))


def tick(at: int, series: tuple[Series, ...], *values: float, group: str = "group") -> Tick:
    return Tick(Instant(at, 0, "boot"), group, series, values)


def by_name(series: Series) -> str:
    return series.name


def test_series_that_came_in_the_same_ticks_share_a_block() -> None:
    ticks = [tick(at, (UP, DOWN), at, -at) for at in (1, 2)] + [tick(2, (UP._replace(name="late"),), 7)]
    merged = merge(ticks, by_name)
    assert [(block.stamps, block.columns) for block in merged.blocks] == [
        ((1, 2), [("up", UP, (1, 2)), ("down", DOWN, (-1, -2))]),
        ((2,), [("late", UP._replace(name="late"), (7,))]),
    ]
    assert (merged.samples, merged.repeated, merged.relabeled) == (5, 0, 0)


def test_the_rows_of_a_block_are_the_ticks_that_its_values_come_from() -> None:
    first, second = tick(30, (UP,), 3, group="a"), tick(10, (UP,), 1, group="b")
    twice = tick(30, (UP,), 9, group="c")
    [block] = merge([first, second, twice], by_name).blocks
    assert block.rows == (second, first)
    assert block.columns == [("up", UP, (1, 3))]


def test_of_metadata_that_differs_the_last_counts() -> None:
    better = UP._replace(help="Better words.")
    [block] = merge([tick(1, (UP,), 1), tick(2, (better,), 2)], by_name).blocks
    assert block.columns == [("up", better, (1, 2))]


def test_a_series_without_a_key_is_left_out_and_counted() -> None:
    ticks = [tick(1, (UP, DOWN), 1, 2), tick(2, (UP, DOWN), 3, 4), tick(2, (DOWN,), 5)]
    merged = merge(ticks, lambda series: None if series is DOWN else series.name)
    assert [block.columns for block in merged.blocks] == [[("up", UP, (1, 3))]]
    assert (merged.samples, merged.repeated, merged.relabeled) == (2, 0, 3)


def test_series_of_one_key_in_one_tick_become_one() -> None:
    merged = merge([tick(1, (UP, DOWN), 1, 2)], lambda _: "one")
    assert [block.columns for block in merged.blocks] == [[("one", DOWN, (1,))]]
    assert (merged.samples, merged.repeated) == (1, 1)
