"""Samples that have timestamps of their own: which of them are stored, and together with which.

As Prometheus does it with `honor_timestamps`: of a series a sample counts once, and only if it is newer than the one before;
a time that is more than AHEAD_MS in the future is no time. What is older than BEHIND_MS is left out, too: a server without a
window for old samples refuses it. Such series get no stale markers.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.collect.series import Row
from agent.collectors.base import Labels
from agent.scrape.table import Stamped
from buffer.model import Series

AHEAD_MS = 600_000
BEHIND_MS = 3_600_000
MOST_SETS = 64
"""Sets of series that came with one timestamp and are remembered; each is a group of the buffer (`buffer.codec`)."""


class Stamps:
    """Turns the stamped samples of one target into rows, one for each time."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, Labels], int] = {}
        self._sets: dict[tuple[Series, ...], tuple[int, tuple[Series, ...]]] = {}

    def __call__(self, samples: Sequence[Stamped], now_ms: int) -> list[Row]:
        """Return what is new among the samples of one exposition, oldest first. `now_ms` is UTC."""
        newest: dict[tuple[str, Labels], int] = {}
        rows: dict[int, dict[Series, float]] = {}
        for at_ms, series, value in sorted(samples, key=lambda sample: sample.at_ms):
            if not now_ms - BEHIND_MS <= at_ms <= now_ms + AHEAD_MS:
                continue
            key = series[:2]
            before = newest.get(key, self._newest.get(key))
            newest[key] = at_ms if before is None else max(before, at_ms)
            if before is None or at_ms > before:
                rows.setdefault(at_ms, {})[series] = value
        self._newest = newest
        return [self._row(at_ms, row) for at_ms, row in rows.items()]

    def _row(self, at_ms: int, row: dict[Series, float]) -> Row:
        series = tuple(row)
        if series not in self._sets:
            if len(self._sets) >= MOST_SETS:
                self._sets.clear()
            self._sets[series] = len(self._sets), series
        number, series = self._sets[series]
        return Row(at_ms, f".stamped{number}", series, list(row.values()))
