"""What of a source is replayed: a span of time, and the series that a selector picks."""

from __future__ import annotations

from collections.abc import Iterable

from agent.ops.selector import Selector
from buffer.model import Series, Tick

FIRST_MS, LAST_MS = -(1 << 62), 1 << 62
KEPT = 64


class Selection:
    """Picks from ticks. The span includes both its ends, in UTC milliseconds."""

    def __init__(
        self, since_ms: int = FIRST_MS, until_ms: int = LAST_MS, selector: Selector | None = None
    ) -> None:
        self.since_ms, self.until_ms, self._selector = since_ms, until_ms, selector
        # By identity: the same set of series gives the same picked set, which makes encoding cheap. The key
        # is held too, so that no other set can come to have its address.
        self._picked: dict[int, tuple[tuple[Series, ...], list[int], tuple[Series, ...]]] = {}

    def of(self, ticks: Iterable[Tick]) -> list[Tick]:
        """Return the selected ticks, each with its selected series; none without a sample."""
        inside = [tick for tick in ticks if self.since_ms <= tick.at.wall_ms <= self.until_ms and tick.values]
        if self._selector is None:
            return inside
        return [picked for tick in inside if (picked := self._pick(tick)) is not None]

    def _pick(self, tick: Tick) -> Tick | None:
        known = self._picked.get(id(tick.series))
        if known is None:
            assert self._selector is not None
            matches = self._selector.matches
            indices = [i for i, series in enumerate(tick.series) if matches(series)]
            if len(self._picked) >= KEPT:
                self._picked.clear()
            known = tick.series, indices, tuple(tick.series[i] for i in indices)
            self._picked[id(tick.series)] = known
        _, indices, series = known
        return tick._replace(series=series, values=[tick.values[i] for i in indices]) if indices else None
