"""Lines over time as text, in braille dots: two across and four down in each character.

Pure: values go in, a view comes out. A line has a gap where a step has no value. Each series has a letter, which is
next to the end of its line, and a color on a terminal that has colors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from agent.cli.view import DIM, Cell, Styled, Table
from agent.ops.selector import NAME
from agent.query.value import Line, Samples, label, nameless
from agent.text.exposition import selector
from buffer.model import Labels

MOST = 8
"""Lines in a chart."""
STYLES = ("cyan", "magenta", "yellow", "green", "blue", "red", "bright_cyan", "bright_magenta")
LETTERS = "abcdefgh"
Dot = tuple[int, int]
"""A place on a chart: dots from the left, and from the top."""
_BLANK = 0x2800
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""What each dot of a character adds to its number, by column and row. Source: Unicode, "Braille Patterns"."""
_LARGEST = 1.7976931348623157e308


class Summary(NamedTuple):
    """The numbers next to a line."""

    lowest: float
    mean: float
    highest: float
    last: float


def summary(values: Sequence[float]) -> Summary:
    """Return the summary of one value or more. NaN and infinite values do not count, unless there is nothing else."""
    finite = [value for value in values if math.isfinite(value)] or [values[-1]]
    return Summary(min(finite), math.fsum(finite) / len(finite), max(finite), values[-1])


def summarized(one: Samples) -> Summary:
    """Return the summary of every sample of a series, also of those that a coarser one was made of."""
    found = summary(one.values)
    if one.thinned is None:
        return found
    rows = [
        (value * count, count)
        for value, count in zip(one.values, one.thinned.counts, strict=True)
        if math.isfinite(value)
    ]
    mean = math.fsum(total for total, _ in rows) / sum(count for _, count in rows) if rows else found.mean
    return Summary(summary(one.thinned.low).lowest, mean, summary(one.thinned.high).highest, found.last)


def chart(
    lines: Sequence[Line], times: Sequence[int], width: int, height: int, text: Callable[[float], str]
) -> list[Cell]:
    """Return the rows of a chart of up to `MOST` lines, `width` columns wide; `text` writes the values of the axis."""
    low, high = _limits([v for line in lines for v in line.values if v is not None and math.isfinite(v)])
    share = 1 - (height // 2) / (height - 1)
    titles = {0: text(high), height // 2: text(low * (1 - share) + high * share)}
    titles[height - 1] = text(low)
    left = max(map(len, titles.values()))
    columns = max(10, width - left - 4)
    cells = _cells(lines, times, columns, height, low, high)
    ends = _ends(lines, height, low, high)
    rows: list[Cell] = []
    for row in range(height):
        pieces: list[str | Styled] = [Styled(f"{titles.get(row, ''):>{left}} │", DIM), *cells[row]]
        if row in ends:
            pieces.append(Styled(f" {LETTERS[ends[row]]}", STYLES[ends[row]]))
        rows.append(pieces)
    return [*rows, Styled(" " * left + " └" + _axis(times[0], times[-1], columns), DIM)]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis. Zero is one of them where the values are not far from it."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if 0 <= low <= high / 2:
        low = 0.0
    if high - low <= max(abs(high) * 1e-9, 1e-300):
        room = abs(high) * 0.05 or 1.0
        low, high = max(low - room, -_LARGEST), min(high + room, _LARGEST)
    return low, high


def _heights(line: Line, low: float, high: float) -> list[float | None]:
    """Return where the values are, from 0 to 1. Halves are taken, because the difference may be beyond a float."""
    whole = high / 2 - low / 2
    return [None if v is None or not math.isfinite(v) else (v / 2 - low / 2) / whole for v in line.values]


def _cells(
    lines: Sequence[Line], times: Sequence[int], columns: int, height: int, low: float, high: float
) -> list[list[Styled]]:
    """Return the characters of each row; where lines meet, the last one gives the color."""
    cells = [[_BLANK] * columns for _ in range(height)]
    styles = [[""] * columns for _ in range(height)]
    wide, tall, span = columns * 2 - 1, height * 4 - 1, max(1, times[-1] - times[0])
    for line, style in zip(lines, STYLES, strict=False):
        before: Dot | None = None
        for ms, at in zip(times, _heights(line, low, high), strict=True):
            if at is None:
                before = None
                continue
            dot = round((ms - times[0]) / span * wide), round((1 - at) * tall)
            for x, y in _between(before or dot, dot):
                cells[y // 4][x // 2] |= _BITS[x % 2][y % 4]
                styles[y // 4][x // 2] = style
            before = dot
    return [_pieces(row, style) for row, style in zip(cells, styles, strict=True)]


def _between(a: Dot, b: Dot) -> Iterator[Dot]:
    """Yield the dots of the line from one dot to another, both included."""
    steps = max(abs(b[0] - a[0]), abs(b[1] - a[1]))
    for i in range(steps + 1):
        share = i / steps if steps else 0.0
        yield round(a[0] + (b[0] - a[0]) * share), round(a[1] + (b[1] - a[1]) * share)


def _pieces(row: Sequence[int], styles: Sequence[str]) -> list[Styled]:
    """Return a row as pieces of one style each."""
    pieces: list[Styled] = []
    for dot, style in zip(row, styles, strict=True):
        if pieces and pieces[-1].style == style:
            pieces[-1] = Styled(pieces[-1].text + chr(dot), style)
        else:
            pieces.append(Styled(chr(dot), style))
    return pieces


def _ends(lines: Sequence[Line], height: int, low: float, high: float) -> dict[int, int]:
    """Return the row that has the letter of each line at its end; a single line needs none."""
    rows: dict[int, int] = {}
    if len(lines) < 2:
        return rows
    for number, line in enumerate(lines):
        last = next((at for at in reversed(_heights(line, low, high)) if at is not None), 0.0)
        wanted = round((1 - last) * (height - 1))
        free = sorted(set(range(height)) - set(rows), key=lambda row: abs(row - wanted))
        if free:
            rows[free[0]] = number
    return rows


def _axis(first_ms: int, last_ms: int, columns: int) -> str:
    """Return the times below a chart, in local time: its begin, its middle and its end."""
    form = "%H:%M" if last_ms - first_ms < 20 * 3_600_000 else "%m-%d %H:%M"
    texts = [_local(form, ms) for ms in (first_ms, (first_ms + last_ms) // 2, last_ms)]
    gap = columns - sum(map(len, texts))
    return f"{texts[0]}{' ' * (gap // 2)}{texts[1]}{' ' * (gap - gap // 2)}{texts[2]}"


def _local(form: str, ms: int) -> str:
    try:
        return time.strftime(form, time.localtime(ms / 1000))
    except (ValueError, OverflowError, OSError):
        return "?"


def legend(names: Sequence[str], summaries: Sequence[Summary], text: Callable[[float], str]) -> Table:
    """Return what each line is, with its numbers."""
    several = len(names) > 1
    return Table(
        ",series,>min,>mean,>max,>last",
        [
            [Styled(LETTERS[i] if several else "", STYLES[i]), name, *(text(value) for value in numbers)]
            for i, (name, numbers) in enumerate(zip(names, summaries, strict=True))
        ],
    )


def names_of(labels: Sequence[Labels], host: Labels) -> list[str]:
    """Return the series as people write them, without the labels that every series of this host has."""
    return [_named(tuple(one for one in found if one not in host)) for found in labels]


def legend_names(labels: Sequence[Labels], host: Labels) -> list[str]:
    """Return the names of the lines of a chart: of several, only what they differ in."""
    shared = frozenset.intersection(*map(frozenset, labels)) if len(labels) > 1 else frozenset()
    return names_of([tuple(one for one in found if one not in shared) for found in labels], host)


def _named(labels: Labels) -> str:
    name, rest = label(labels, NAME), nameless(labels)
    return selector(name, rest) if name else selector("x", rest)[1:]
