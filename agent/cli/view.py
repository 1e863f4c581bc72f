"""What people see, as plain values: commands make views, and only `screen` knows how they become text.

    view  := block*                  one below the other
    block := cell | Table
    cell  := str | Styled | [piece]  a text; pieces follow each other, on the next line after BREAK

A text may come from outside (a mount point, a receiver's message): `screen` escapes all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

DANGER, WARNING, GOOD, DIM, HEAD = "red", "yellow", "green", "dim", "bold"


class Styled(NamedTuple):
    """A text with a style of rich."""

    text: str
    style: str = ""


BREAK = Styled("\n", "break")

Cell = str | Styled | list[str | Styled]


class Table(NamedTuple):
    """A table without lines.

    `columns` are the titles, separated by commas; where all are empty there is no row of titles. A column may begin
    with marks: `>` to the right; the last one also `*`, words that are folded where there is no room, or `~`, cut there.
    Nothing else is folded or cut: a table with titles that has no room is shown as a block for each row, and in one without
    titles the last cell of a row that has no room goes below it.
    """

    columns: str
    rows: Sequence[Sequence[Cell]]


View = list[Cell | Table]


def properties(rows: Sequence[tuple[str, Cell]]) -> Table:
    """Return a table of names and values."""
    return Table(", *", [(Styled(name, DIM), value) for name, value in rows])
