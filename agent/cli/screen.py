"""Views on a terminal or as text, by rich, which nothing imports but this module and `progress`.

No text of a view reaches the terminal as a command: what cannot be printed is escaped. No word is cut in two, so a path or a
metric's name can be copied: a line is wider than the terminal only where a single word is, and a table that has no room
becomes a block for each of its rows.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.containers import Lines
from rich.live import Live
from rich.text import Text

from agent.cli.view import BREAK, DIM, Cell, Styled, Table, View
from agent.text import human

UNLIMITED = 1000
"""The width of a file or a pipe."""
GAP, INDENT = 2, "  "
LEAST_WORDS = 30
"""The room that words at the end of a table need."""
_WORD = re.compile(r"\S+")


def width() -> int:
    """Return the columns of the terminal."""
    return _console().width


def text(view: View) -> str:
    """Return the view as text for standard output, with colors where it is a terminal that has them."""
    console = _console()
    with console.capture() as captured:
        console.print(renderable(view), crop=False)
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
    """Return whether a table has room in so many columns, with only its words folded."""
    return sum(_widths(table)) <= columns


def renderable(view: View) -> RenderableType:
    """Return the view as rich prints it."""
    return Group(*(_Block(one) for one in view))


class _Block:
    """A text or a table in the width that there is: no word is cut in two, so all of them can be copied."""

    def __init__(self, block: Cell | Table) -> None:
        self._block = block

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        block, room = self._block, options.max_width
        if not isinstance(block, Table):
            lines = _folded(_text(block), room)
        elif fits(block, room) or (not any(_titles(block)) and "~" in _marks(block)[-1]):
            lines = _table(block, room, _widths(block))
        elif not any(_titles(block)):
            lines = _untitled(block, room)
        else:
            lines = _items(block, room)
        for line in lines:
            line.no_wrap, line.overflow = True, "ignore"
            yield line


def _titles(table: Table) -> list[str]:
    return [column.strip().lstrip(">~*") for column in table.columns.split(",")]


def _marks(table: Table) -> list[str]:
    columns = [column.strip() for column in table.columns.split(",")]
    return [column.removesuffix(title) for column, title in zip(columns, _titles(table), strict=True)]


def _widths(table: Table) -> list[int]:
    """Return how wide each column is, with the room between them; one of words as wide as it has to be."""
    titles, marks = _titles(table), _marks(table)
    widths = []
    for at, (title, mark) in enumerate(zip(titles, marks, strict=True)):
        lines = [line.cell_len for row in table.rows for line in _text(row[at]).split("\n")]
        widest = max((len(title), *lines))
        widths.append(min(widest, LEAST_WORDS) if "*" in mark else widest)
    return [width + GAP for width in widths[:-1]] + widths[-1:]


def _untitled(table: Table, room: int) -> Iterator[Text]:
    """Return the lines of a table without titles: the last cell of a row that has no room goes below it."""
    rows = [table._replace(rows=[row]) for row in table.rows]
    narrow = table._replace(rows=[one.rows[0] for one in rows if fits(one, room)])
    is_table, widths = fits(narrow, room), _widths(narrow)
    for one in rows:
        if is_table and fits(one, room):
            yield from _table(one, room, widths)
            continue
        *first, last = (_text(cell) for cell in one.rows[0])
        for cell in first:
            cell.rstrip()
        yield from _folded(Text(" " * GAP).join(cell for cell in first if cell), room)
        for piece in _folded(last, room - 2 * len(INDENT)):
            if piece:
                yield Text.assemble(2 * INDENT, piece)


def _table(table: Table, room: int, widths: list[int]) -> Iterator[Text]:
    """Return the lines of a table; the words at its end take what is left of the room."""
    titles, marks, widths = _titles(table), _marks(table), [*widths]
    if "*" in marks[-1] or "~" in marks[-1]:
        widths[-1] = max(LEAST_WORDS, room - sum(widths[:-1]))
    rows: list[list[Text]] = [[Text(title, style=DIM) for title in titles]] if any(titles) else []
    for row in [*rows, *([_text(cell) for cell in row] for row in table.rows)]:
        cells = [cell.split("\n") for cell in row]
        if "*" in marks[-1]:
            cells[-1] = Lines(_folded(row[-1], widths[-1]))
        if "~" in marks[-1]:
            cells[-1][0].truncate(widths[-1], overflow="ellipsis")
        for number in range(max(map(len, cells))):
            line = Text()
            for at, (of, width, mark) in enumerate(zip(cells, widths, marks, strict=True)):
                piece = of[number] if number < len(of) else Text()
                gap = " " * (width - piece.cell_len - (GAP if at < len(widths) - 1 else 0))
                line = Text.assemble(line, gap if ">" in mark else "", piece, "" if ">" in mark else gap)
                line.append(" " * GAP if at < len(widths) - 1 else "")
            line.rstrip()
            yield line


def _items(table: Table, room: int) -> Iterator[Text]:
    """Return a table that has no room as a block for each row: what it is about, and below it the rest by name."""
    titles, marks = _titles(table), _marks(table)
    for row in table.rows:
        yield Text.assemble((f"{titles[0]} ", DIM), _text(row[0]))
        line = Text(INDENT)
        for title, mark, cell in zip(titles[1:], marks[1:], row[1:], strict=True):
            text = Text(", ").join(_text(cell).split("\n"))
            if not text:
                continue
            piece = Text.assemble((f"{title} ", DIM), text)
            if line.cell_len + piece.cell_len > room and len(line) > len(INDENT):
                line.rstrip()
                yield line
                line = Text(INDENT)
            if "*" in mark:
                line.rstrip()
                if line:
                    yield line
                line = Text(INDENT)
                for each in _folded(piece, room - len(INDENT)):
                    yield Text.assemble(INDENT, each)
                continue
            line = Text.assemble(line, piece, " " * (GAP + 1))
        line.rstrip()
        if line:
            yield line


def _folded(text: Text, room: int) -> Iterator[Text]:
    """Return the lines of a text, folded between words and nowhere else."""
    for line in text.split("\n", allow_blank=True):
        at, cuts = 0, []
        for word in _WORD.finditer(line.plain):
            if cell_len(line.plain[at : word.end()].rstrip()) > room and word.start() > at:
                at = word.start()
                cuts.append(at)
        for piece in line.divide(cuts):
            piece.rstrip()
            yield piece


def _text(cell: Cell) -> Text:
    made = Text()
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
