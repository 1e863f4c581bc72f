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
    with marks: `>` to the right, `=` never narrower than its widest cell, `~` on one line, and cut where there is no
    room. In the other columns, what has no room is folded.
    """

    columns: str
    rows: Sequence[Sequence[Cell]]


View = list[Cell | Table]


def properties(rows: Sequence[tuple[str, Cell]]) -> Table:
    """Return a table of names and values."""
    return Table("~,", [(Styled(name, DIM), value) for name, value in rows])
