"""The newest sample of each series, from the end of the log.

Promises: a series counts as long as Prometheus would show it, which is LOOKBACK_MS after its newest sample, and not from
its stale marker on. What was read is kept, so a request reads what was appended since the last one. Nothing of the log
stays open in between.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import closing
from typing import NamedTuple

from agent.ops import tail
from agent.query.selecting import LOOKBACK_MS
from buffer.fs import RealFs
from buffer.model import ENDED, Labels, Series, Tick, is_stale
from buffer.reader import Reader

FIRST_TICKS = 256
"""How many ticks are read at first; four times as many where they do not reach back far enough."""
MOST_TICKS = 1 << 14


class Newest(NamedTuple):
    """The newest sample of a series: UTC milliseconds, the value, and the group that it is collected in."""

    series: Series
    ms: int
    value: float
    group: str


class NewestSamples:
    """The newest samples of the buffer in a folder, for any thread. Its method raises OSError."""

    def __init__(self, data_dir: str) -> None:
        self._folder, self._fs = f"{data_dir}/segments", RealFs(data_dir)
        self._lock = threading.Lock()
        self._found: dict[tuple[str, Labels], Newest] = {}
        self._next: int | None = None
        """The position behind what was read."""
        self._read_ms = 0

    def at(self, now_ms: int) -> list[Newest]:
        """Return what there is at a time in UTC milliseconds, in the order in which it was collected."""
        with self._lock:
            if self._next is None or not 0 <= now_ms - self._read_ms <= LOOKBACK_MS:
                self._begin(now_ms)
            else:
                self._continue(self._next)
            self._read_ms = now_ms
            self._found = {key: one for key, one in self._found.items() if one.ms > now_ms - LOOKBACK_MS}
            if not self._found:
                self._next = None  # the log may be another one by now, with other positions
            return list(self._found.values())

    def _begin(self, now_ms: int) -> None:
        number = FIRST_TICKS
        while True:
            reader, ticks = tail.last(self._folder, number, self._fs)
            with closing(reader):
                ticks = list(ticks)
            is_all = len(ticks) < number or number >= MOST_TICKS
            if is_all or ticks[0].at.wall_ms <= now_ms - LOOKBACK_MS:
                break
            number *= 4
        self._found = {}
        self._next = reader.position
        self._take(ticks)

    def _continue(self, position: int) -> None:
        with closing(Reader(self._fs, self._folder, position)) as reader:
            while (entry := tail.following(reader)) is not None:
                self._take(entry.ticks)
            self._next = reader.position

    def _take(self, ticks: Iterable[Tick]) -> None:
        for tick in ticks:
            group = tick.group.removesuffix(ENDED)
            for series, value in zip(tick.series, tick.values, strict=True):
                key = series.name, series.labels
                if is_stale(value):
                    self._found.pop(key, None)
                else:
                    self._found[key] = Newest(series, tick.at.wall_ms, value, group)
