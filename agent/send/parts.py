"""Ticks cut into parts, each of which can be a request of its own: pure functions.

    ticks -> columns (the samples of each series) -> any spans of any columns -> ticks

Promises, for any ticks:
1. The halves of ticks have each of their samples once, but for repeated instants and for series without a key.
2. Ticks of several series are halved by series, so neither half has a series of the other. Only ticks of one series are
   halved by time, and then the older half is the first. So parts that are sent in their order keep every series in order.
3. Halving ends with a single sample.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from agent.destinations.columns import Stamps, Values, merge
from buffer.model import Series, Tick

Key = Callable[[Series], bytes | None]
"""The identity by which a receiver knows a series; None: it cannot be sent."""


class Column(NamedTuple):
    """The samples of a series. `rows` are the ticks that they came in, `block` is the number of that set of ticks."""

    key: bytes
    series: Series
    block: int
    rows: tuple[Tick, ...]
    stamps: Stamps
    values: Values


class Piece(NamedTuple):
    """Ticks to be sent. `lone` is the identity of the series where they are a part that has no other."""

    ticks: Sequence[Tick]
    samples: int
    lone: bytes | None = None


def columns_of(ticks: Iterable[Tick], key: Key) -> list[Column]:
    """Return the columns of ticks, without repeated instants."""
    return [
        Column(name, series, number, block.rows, block.stamps, values)
        for number, block in enumerate(merge(ticks, key).blocks)
        for name, series, values in block.columns
    ]


def ticks_of(spans: Iterable[tuple[Column, int, int]]) -> list[Tick]:
    """Return the ticks that hold these samples, `start` up to `end` of each column."""
    shared: dict[tuple[int, int, int], list[Column]] = {}
    for column, start, end in spans:
        shared.setdefault((column.block, start, end), []).append(column)
    ticks: list[Tick] = []
    for (_, start, end), columns in shared.items():
        names = tuple([column.series for column in columns])
        values = zip(*[column.values[start:end] for column in columns], strict=True)
        rows = columns[0].rows[start:end]
        ticks += [row._replace(series=names, values=cut) for row, cut in zip(rows, values, strict=True)]
    return ticks


def halves(ticks: Iterable[Tick], key: Key) -> list[Piece]:
    """Return two pieces; one where there is a single sample."""
    columns = columns_of(ticks, key)
    if len(columns) == 1:
        [column] = columns
        middle, end = (len(column.stamps) + 1) // 2, len(column.stamps)
        spans = [[(column, 0, middle)], [(column, middle, end)]] if end > 1 else [[(column, 0, end)]]
    else:
        whole, half = sum(len(column.stamps) for column in columns), 0
        cut = 0
        while cut < len(columns) - 1 and (not cut or 2 * half < whole):
            half += len(columns[cut].stamps)
            cut += 1
        spans = [[(one, 0, len(one.stamps)) for one in part] for part in (columns[:cut], columns[cut:])]
    return [piece(part) for part in spans]


def piece(spans: Sequence[tuple[Column, int, int]]) -> Piece:
    """Return the piece that holds these samples, `start` up to `end` of each column."""
    samples = sum(end - start for _, start, end in spans)
    return Piece(ticks_of(spans), samples, spans[0][0].key if len(spans) == 1 else None)


def cut(tick: Tick, low: int, high: int) -> Tick:
    """Return a tick with some of its series."""
    return tick._replace(series=tick.series[low:high], values=tick.values[low:high])


def split(ticks: Iterable[Tick], key: Key, keys: Collection[bytes]) -> tuple[list[Tick], list[Tick]]:
    """Return the ticks without the series of these identities, and the ticks of these alone."""
    return parted(ticks, lambda series: key(series) in keys)


def parted(ticks: Iterable[Tick], is_other: Callable[[Series], bool]) -> tuple[list[Tick], list[Tick]]:
    """Return the ticks without certain series, and the ticks of these alone."""
    sets: dict[int, list[tuple[list[int], tuple[Series, ...]]]] = {}
    found: tuple[list[Tick], list[Tick]] = [], []
    for tick in ticks:
        if id(tick.series) not in sets:
            places: list[list[int]] = [[], []]
            for i, series in enumerate(tick.series):
                places[is_other(series)].append(i)
            # One object for the same series, since that is what makes columns of ticks cheap.
            sets[id(tick.series)] = [(kept, tuple([tick.series[i] for i in kept])) for kept in places]
        for to, (kept, names) in zip(found, sets[id(tick.series)], strict=True):
            if len(kept) == len(tick.series):
                to.append(tick)
            elif kept:
                to.append(tick._replace(series=names, values=[tick.values[i] for i in kept]))
    return found
