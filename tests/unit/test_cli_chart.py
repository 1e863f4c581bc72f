"""Charts as text: what is drawn where, and what is next to it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cli import chart, screen
from agent.cli.view import Cell
from agent.query.value import Line

HOUR = range(0, 3_600_001, 60_000)


def drawn(
    *columns: Sequence[float | None], times: range = HOUR, width: int = 60, height: int = 8
) -> list[str]:
    lines = [Line((("n", str(i)),), list(column)) for i, column in enumerate(columns)]
    view: list[Cell] = chart.chart(lines, times, width, height, lambda value: f"{value:g}")
    return screen.text([*view]).splitlines()


def dots(rows: list[str]) -> list[str]:
    """The characters of each row of the chart, without what is around it."""
    return [row.partition("│")[2].partition(" ")[0] for row in rows if "│" in row]


def test_a_line_that_rises_goes_from_the_lower_left_to_the_upper_right() -> None:
    rows = dots(drawn([float(i) for i in range(61)]))
    first, last = rows[-1].strip("\u2800"), rows[0].strip("\u2800")
    assert rows[-1].startswith(first)
    assert rows[0].endswith(last)
    assert not rows[-1].endswith(last)


def test_the_axes_have_the_ends_and_the_middle() -> None:
    rows = drawn([10.0 + i for i in range(61)])
    assert rows[0].startswith("70 │")
    assert rows[-2].startswith(" 0 │")  # zero is not far
    assert rows[4].lstrip().startswith("30 │")
    assert rows[-1].count(":") == 3
    far = drawn([1000.0 + i for i in range(61)])
    assert far[0].startswith("   1060 │")
    assert far[-2].startswith("   1000 │")
    days = drawn([1.0] * 61, times=range(0, 61 * 3_600_000, 3_600_000))
    assert days[-1].count("-") == 3


def test_a_gap_stays_a_gap_and_a_single_value_is_seen() -> None:
    column: list[float | None] = [1.0] * 20 + [None] * 20 + [1.0] * 21
    row = next(row for row in dots(drawn(column)) if row.strip("\u2800"))
    assert len(row.strip("\u2800").split("\u2800")) > 5
    alone: list[float | None] = [None] * 30 + [5.0] + [None] * 30
    assert sum(character != "\u2800" for row in dots(drawn(alone)) for character in row) == 1


def test_each_of_several_lines_has_its_letter_where_it_ends() -> None:
    rows = drawn([1.0] * 61, [9.0] * 61, [9.0] * 61)
    assert [row[-1] for row in rows if row[-1] in "abc"] == ["b", "c", "a"]
    assert [row[-1] for row in drawn([1.0] * 61) if row[-1] in "abc"] == []


def test_numbers_that_are_none_draw_nothing_and_break_nothing() -> None:
    for value in (math.nan, math.inf, -math.inf):
        assert "".join(dots(drawn([value] * 61))).strip("\u2800") == ""
    rows = dots(drawn([1.0, math.nan, 3.0] * 20 + [2.0]))
    assert "".join(rows).strip("\u2800")
    assert chart.summary([1.0, math.nan, 3.0]) == (1.0, 2.0, 3.0, 3.0)
    assert repr(chart.summary([math.nan])) == "Summary(lowest=nan, mean=nan, highest=nan, last=nan)"


@settings(max_examples=60)
@given(
    st.lists(st.one_of(st.none(), st.floats()), min_size=61, max_size=61),
    st.integers(20, 150),
    st.integers(4, 30),
)
def test_any_values_are_drawn_within_the_room(column: list[float | None], width: int, height: int) -> None:
    rows = drawn(column, width=width, height=height)
    assert len(rows) == height + 1
    assert len({len(row) for row in dots(rows)}) == 1


def test_names_are_what_differs() -> None:
    host = (("hostname", "a"),)
    root = (("__name__", "disk"), ("fstype", "ext4"), ("hostname", "a"), ("mountpoint", "/"))
    home = (("__name__", "disk"), ("fstype", "ext4"), ("hostname", "a"), ("mountpoint", "/home"))
    assert chart.legend_names([root, home], host) == ['{mountpoint="/"}', '{mountpoint="/home"}']
    assert chart.legend_names([root], host) == ['disk{fstype="ext4",mountpoint="/"}']
    assert chart.names_of([root, ()], host) == ['disk{fstype="ext4",mountpoint="/"}', ""]
