"""Views on a terminal or as text, by rich, which nothing imports but this module and `progress`.

No text of a view reaches the terminal as a command: what cannot be printed is escaped.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from agent.cli.view import BREAK, DIM, Cell, Styled, Table, View
from agent.text import human

UNLIMITED = 1000
"""The width of a file or a pipe."""


def width() -> int:
    """Return the columns of the terminal."""
    return _console().width


def text(view: View) -> str:
    """Return the view as text for standard output, with colors where it is a terminal that has them."""
    console = _console()
    with console.capture() as captured:
        console.print(renderable(view))
    lines = captured.get().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def live(view: Callable[[int, int], View], every: float) -> None:
    """Show the view, given columns and lines, every so many seconds until Ctrl-C or SIGTERM ends the process.

    It has the whole screen, which is then restored. Returns at once where standard output has no screen.
    """
    console = _console()
    if not console.is_terminal or console.is_dumb_terminal:
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    with Live(console=console, screen=True, auto_refresh=False) as screen:
        while True:
            note = f"{human.moment(time.time() * 1000)}, every {human.duration(every)}; Ctrl-C ends it"
            room = console.size
            shown = [*view(room.width, room.height - 2), "", Styled(note, DIM)]
            screen.update(renderable(shown), refresh=True)
            time.sleep(every)


def fits(table: Table, columns: int) -> bool:
    """Return whether a table has room in so many columns, with no cell folded."""
    console = Console(width=UNLIMITED)
    return Measurement.get(console, console.options, _table(table)).maximum <= columns


def renderable(view: View) -> RenderableType:
    """Return the view as rich prints it."""
    return Group(*(_table(one) if isinstance(one, Table) else _text(one, "fold") for one in view))


def _table(table: Table) -> RichTable:
    columns = [column.strip() for column in table.columns.split(",")]
    titles = [column.lstrip(">=~") for column in columns]
    made = RichTable(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=DIM, show_header=any(titles)
    )
    cells = [[_text(cell) for cell in row] for row in table.rows]
    for at, (column, title) in enumerate(zip(columns, titles, strict=True)):
        mark = column.removesuffix(title)
        one_line = "=" in mark or "~" in mark
        least = max((row[at].cell_len for row in cells), default=0) if "=" in mark else None
        made.add_column(
            title,
            justify="right" if ">" in mark else "left",
            no_wrap=one_line,
            min_width=least,
            overflow="ellipsis" if one_line else "fold",
        )
    for row in cells:
        made.add_row(*row)
    return made


def _text(cell: Cell, overflow: OverflowMethod | None = None) -> Text:
    made = Text(overflow=overflow)
    for piece in cell if isinstance(cell, list) else [cell]:
        if piece is BREAK:
            made.append("\n")
        elif isinstance(piece, Styled):
            made.append(human.plain(piece.text), piece.style)
        else:
            made.append(human.plain(piece))
    return made


def _console() -> Console:
    whole = None if sys.stdout.isatty() or "COLUMNS" in os.environ else UNLIMITED
    return Console(file=sys.stdout, width=whole, highlight=False, markup=False, emoji=False)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
