"""Ticks, which are rows, turned into the columns that a request is made of: the samples of each series.

What is promised, for any ticks:

1. Series that `key` calls the same become one. Where their metadata differs, that of the last one counts.
2. The samples of a series are in time order, no instant twice. Where ticks hold several values for one
   (a clock was set back), the first of those that came with the same set of series is kept.
3. `samples + repeated + relabeled` is what the ticks hold, so that a ledger balances.
4. The same ticks always give the same columns in the same order.

Speed comes from work per series instead of per sample: rows become columns in one `zip`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from operator import lt
from typing import Generic, NamedTuple, TypeVar

from buffer.model import Series, Tick

K = TypeVar("K", bound=Hashable)
Stamps = tuple[int, ...]
Values = tuple[float, ...]
Columns = list[tuple[K, Series, Values]]
"""A series by its key, as it came, and its values, oldest first."""


class Block(NamedTuple, Generic[K]):
    """Series that came in the same ticks. `rows` are these ticks by time, `stamps` their times."""

    rows: tuple[Tick, ...]
    stamps: Stamps
    columns: Columns[K]


class Merged(NamedTuple, Generic[K]):
    """The samples of some ticks by series, and how many were left out: as a repeated instant, by the key."""

    blocks: list[Block[K]]
    samples: int
    repeated: int
    relabeled: int


def merge(ticks: Iterable[Tick], key: Callable[[Series], K | None]) -> Merged[K]:
    """Turn ticks into columns. A series for which `key` gives None is left out."""
    return merged(ticks, lambda series: [key(one) for one in series])


def merged(ticks: Iterable[Tick], keys: Callable[[tuple[Series, ...]], Sequence[K | None]]) -> Merged[K]:
    """Turn ticks into columns. `keys` gives the keys of a set of series, None for those that are left out."""
    by_set: dict[int, tuple[tuple[Series, ...], list[Tick]]] = {}
    for tick in ticks:
        by_set.setdefault(id(tick.series), (tick.series, []))[1].append(tick)
    sets = list(by_set.values())
    names = [keys(series) for series, _ in sets]
    kept = [[name for name in those if name is not None] for those in names]
    if len(set().union(*kept)) == sum(map(len, names)):  # as nearly always: none is in two sets, or left out
        return _settled(
            [
                (tuple(rows), list(zip(those, series, _columns(rows), strict=True)))
                for those, (series, rows) in zip(kept, sets, strict=True)
                if series
            ],
            0,
        )

    relabeled = 0
    by_key: dict[K, tuple[tuple[int, ...], Series, Values]] = {}  # the sets that it came in, in their order
    for number, (those, (series, rows)) in enumerate(zip(names, sets, strict=True)):
        source: tuple[int, ...] = (number,)
        for name, one, values in zip(those, series, _columns(rows), strict=True):
            if name is None:
                relabeled += len(values)
            elif (before := by_key.get(name)) is None:
                by_key[name] = source, one, values
            else:
                by_key[name] = before[0] + source, one, before[2] + values

    shared: dict[tuple[int, ...], list[tuple[K, Series, Values]]] = {}
    for name, (source, one, values) in by_key.items():
        shared.setdefault(source, []).append((name, one, values))

    return _settled(
        [
            (tuple([row for number in source for row in sets[number][1]]), columns)
            for source, columns in shared.items()
        ],
        relabeled,
    )


def _columns(rows: Iterable[Tick]) -> Iterable[Values]:
    return zip(*[row.values for row in rows], strict=True)


def _settled(found: Iterable[tuple[tuple[Tick, ...], Columns[K]]], relabeled: int) -> Merged[K]:
    """Return columns with what came of their ticks, in time order and without repeated instants."""
    blocks, samples, repeated = [], 0, 0
    for came, columns in found:
        stamps = tuple([row.at.wall_ms for row in came])
        order = _time_order(stamps)
        if order is not None:
            repeated += (len(stamps) - len(order)) * len(columns)
            columns = [(name, one, tuple([values[i] for i in order])) for name, one, values in columns]
            came, stamps = tuple([came[i] for i in order]), tuple([stamps[i] for i in order])
        samples += len(stamps) * len(columns)
        blocks.append(Block(came, stamps, columns))
    return Merged(blocks, samples, repeated, relabeled)


def _time_order(stamps: Stamps) -> list[int] | None:
    """The indices that put `stamps` in order, the first of equal ones only; None: they are."""
    if all(map(lt, stamps, stamps[1:])):
        return None
    first: dict[int, int] = {}
    for i, stamp in enumerate(stamps):
        first.setdefault(stamp, i)
    return [first[stamp] for stamp in sorted(first)]
