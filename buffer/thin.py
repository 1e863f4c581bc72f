"""Thinning: ticks at a coarser step, so that a month offline leaves a coarse month, not a fine week.

Promises: of each bucket of `step_ms` the thinned log keeps, for every series that was in it, one
sample: the mean of a gauge, the last value of everything else.  It stands at the time of the series' last
tick in the bucket, so it is on the collection grid and no time occurs twice.  Mean values have six
significant digits, because more would cost space and say nothing; a value that never changed, and one
of a bucket with a single tick, is kept bit for bit.  A stale marker stays what it is, and takes no
value's place, because it is in a group of its own (`buffer.model.ENDED`).

The positions of all records of a bucket are those of its last record: what a cursor in between has
settled already may be sent again as part of a mean, at a time that it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from buffer.model import Instant, Series, Tick
from buffer.reader import Entry

STEPS_MS = (0, 60_000, 600_000)
"""The step of each level; level 0 is as collected."""


class Thinned(NamedTuple):
    """A record of a thinned segment: the ticks of one instant for the positions up to `end`."""

    seq: int
    end: int
    ticks: list[Tick]
    missed: int


class _Group:
    """The ticks of one set of series in one bucket."""

    def __init__(self, tick: Tick) -> None:
        self.name, self.series = tick.group, tick.series
        self.at = tick.at
        self.rows: list[list[float]] = []

    def add(self, tick: Tick) -> None:
        self.at = tick.at
        self.rows.append(list(tick.values))

    def tick(self) -> Tick:
        columns = zip(*self.rows, strict=True)
        values = [_one(series, column) for series, column in zip(self.series, columns, strict=True)]
        return Tick(self.at, self.name, self.series, values)


def thin(entries: Iterable[Entry], step_ms: int) -> Iterator[Thinned]:
    """Return the thinned records of consecutive entries, in order, their positions without a gap."""
    for _, bucket in groupby(entries, key=lambda e: (e.wall_ms // step_ms, e.ticks[0].at.boot_id)):
        yield from _bucket(list(bucket))


def _bucket(entries: list[Entry]) -> Iterator[Thinned]:
    groups: dict[tuple[str, int], _Group] = {}
    for entry in entries:
        for tick in entry.ticks:
            # By identity: the decoder hands out one object for as long as the set stays the same.
            groups.setdefault((tick.group, id(tick.series)), _Group(tick)).add(tick)
    instants: dict[Instant, list[Tick]] = {}
    for group in groups.values():
        instants.setdefault(group.at, []).append(group.tick())
    seq, end, missed = entries[0].seq, entries[-1].end, entries[-1].missed
    ordered = sorted(instants.items())
    for number, (_, ticks) in enumerate(ordered, 1):
        # At least one position for each record, and all the rest for the last one.
        upto = end if number == len(ordered) else seq + sum(len(tick.values) for tick in ticks)
        yield Thinned(seq, upto, ticks, missed)
        seq = upto


def _one(series: Series, column: tuple[float, ...]) -> float:
    last = column[-1]
    if series.type != "gauge" or last != last or column.count(last) == len(column):
        return last
    numbers = [value for value in column if value == value]
    return float(f"{sum(numbers) / len(numbers):.6g}")
