"""What of a chunk is sent: neither what is too old, nor what waits apart, nor what did not change."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.destinations.base import AGED, UNCHANGED, Speaks
from agent.send.apart import Apart
from agent.send.batch import Batch, Settled
from agent.send.known import Known
from agent.send.unchanged import Unchanged
from buffer.model import Chunk, Tick


class Selection:
    """Makes a batch of a chunk, in which the rest is counted. `age_limit` is in seconds (0: none), `wall` is Unix seconds."""

    def __init__(
        self, speaks: Speaks, age_limit: float, wall: Callable[[], float], unchanged: Unchanged | None
    ) -> None:
        self._speaks, self._age_limit_ms, self._wall = speaks, int(age_limit * 1000), wall
        self.apart, self._unchanged = Apart(speaks), unchanged

    def is_too_old(self, tick: Tick) -> bool:
        """Return whether a tick is older than the limit by now."""
        return bool(self._age_limit_ms) and int(self._wall() * 1000) - tick.at.wall_ms > self._age_limit_ms

    def batch(self, chunk: Chunk, known: Known) -> Batch:
        """Return what is to be sent of a chunk."""
        aged = [tick for tick in chunk.ticks if self.is_too_old(tick)]
        young = [tick for tick in chunk.ticks if not self.is_too_old(tick)] if aged else chunk.ticks
        ticks, kept, why = self.apart.split(young)
        dropped = {AGED: _samples(aged)}
        if self._unchanged is not None:
            ticks, dropped[UNCHANGED] = self._unchanged.split(chunk, ticks, [*aged, *kept])
        counts = {reason: count for reason, count in dropped.items() if count}
        batch = Batch(chunk, ticks, self._speaks(), known, counts)
        batch.keep_apart(kept, why)
        return batch

    def settled(self, batch: Batch, settled: Settled) -> Settled:
        """Take it that a batch is done with; return what became of its chunk."""
        if batch.apart:
            self.apart.learn(batch.apart, settled.culprits[-1].outcome)
        return settled if self._unchanged is None else self._unchanged.settled(settled)


def _samples(ticks: Iterable[Tick]) -> int:
    return sum(len(tick.values) for tick in ticks)
