"""A delivery: samples on their way to one destination, request by request, until they are settled.

It has no thread, no cursor and no log, and never waits. Its driver (a lane, a replay) reads a chunk of at most
`limit` samples, gives it to `offer`, and calls `attempt` whenever `wait` is 0:

    chunk -> offer -> [ wait -> attempt -> Step ]* -> Settled

Promises:

1. A request that failed is repeated byte by byte, until the question changes (`batch`): it is cut in two where it was
   too large. Or its format has changed, or a part of it is too old by now.
2. One request at a time, and nothing newer of a series before what is older is settled.
3. What a receiver refuses for good is sent in parts until the culprits are found (`culprits`); the rest is delivered.
4. A chunk is settled as a whole: `delivered + dropped` are its samples.
5. A held destination is sent probes alone: slowly, and at once when a file of its credentials has changed.
6. What comes after trouble goes out over a new connection, perhaps to another server of the same name; but not after 429,
   which costs enough.

What an answer means is decided by the destination type, what follows from that in `state`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from agent.config import QueueConfig
from agent.destinations.base import AGED, Outcome, Request, Speaks, Verdict
from agent.http.answer import Answer
from agent.http.failures import Failure
from agent.send.batch import Batch, Settled
from agent.send.state import Rules, Situation, State, after, grown
from agent.send.stats import SendStats
from buffer.model import Chunk, Tick


class Wire(Protocol):
    """How a request travels. Nothing is raised."""

    def exchange(self, request: Request, attempt: int = 0, within: float | None = None) -> Answer | Failure:
        """Send a request, and return what came back. `attempt` counts earlier tries; `within` bounds it, in seconds."""

    def hidden(self, text: str) -> str:
        """Return a text without secrets: a receiver may repeat what it was sent."""

    def wire_bytes(self) -> int:
        """Return the bytes on the wire so far; 0 where they are not counted."""

    def repeats(self) -> int:
        """Return how many requests went out twice so far, at once, because a kept connection was dead."""

    def renew(self) -> None:
        """Let the next request open a connection. Safe from any thread."""

    def changed(self) -> bool:
        """Return whether a file of credentials or certificates has changed since the last request."""

    def interrupt(self) -> None:
        """End the request under way, for good."""

    def close(self) -> None:
        """Close the connection."""


class Clocks(NamedTuple):
    """Monotonic seconds, Unix seconds, and a random number in 0..1."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Callable[[], float] = random.random


class Step(NamedTuple):
    """One request, what came of it, and the situation before and after it."""

    request: Request
    outcome: Outcome
    before: Situation
    after: Situation
    began: float
    """Monotonic seconds."""
    cost: int
    """Bytes on the wire."""
    oldest_ms: int | None = None
    """The time of the chunk's oldest sample (UTC ms); None: the request has no part of a chunk."""
    settled: Settled | None = None


class Delivery:
    """Delivers chunks to the destination that `speaks` returns."""

    def __init__(
        self,
        speaks: Speaks,
        wire: Wire,
        queue: QueueConfig,
        rules: Rules | None = None,
        stats: SendStats | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self.now, self._most = Situation(queue.max_samples_per_send), queue.max_samples_per_send
        self.rules = rules or Rules(queue.min_backoff, queue.max_backoff)
        self.stats = stats or SendStats()
        self._speaks, self._wire, self._clocks = speaks, wire, clocks or Clocks()
        self._age_limit_ms = int(queue.sample_age_limit * 1000)
        self._batch: Batch | None = None
        self._suspects: frozenset[bytes] = frozenset()  # the culprits of the last chunk that had any

    @property
    def limit(self) -> int:
        """The most samples for the next chunk."""
        return min(self.now.limit, self._speaks().max_samples or self.now.limit)

    @property
    def has_chunk(self) -> bool:
        """Whether a chunk is on its way."""
        return self._batch is not None

    def forget_before(self, position: int) -> None:
        """Let go of a chunk that ends there or earlier: the buffer was full, and evicted it."""
        if self._batch is not None and self._batch.chunk.end <= position:
            self._batch = None

    def offer(self, chunk: Chunk) -> Settled | None:
        """Take the next chunk. Return it settled where nothing of it is to be sent."""
        ticks: Sequence[Tick] = chunk.ticks
        if self._age_limit_ms:
            ticks = [tick for tick in ticks if not self._is_too_old(tick)]
        aged = _samples(chunk.ticks) - _samples(ticks)
        batch = Batch(chunk, ticks, self._speaks(), {AGED: aged} if aged else {})
        if (settled := batch.settled) is None:
            self._batch = batch
        return settled

    def is_outdated(self) -> bool:
        """Return whether the chunk at hand has to be read and offered again: its format changed, or it grew too old."""
        batch = self._batch
        if batch is None or batch.format != self._speaks().name:
            return True
        return not batch.is_begun and self._is_too_old(batch.ticks[0])

    def _is_too_old(self, tick: Tick) -> bool:
        limit = self._age_limit_ms
        return bool(limit) and int(self._clocks.wall() * 1000) - tick.at.wall_ms > limit

    def wait(self) -> float:
        """Return the seconds until the next request may go out."""
        left = self.now.not_before - self._clocks.monotonic()
        if left <= 0 or (self.now.state is State.HELD and self._wire.changed()):
            return 0.0
        return left

    def attempt(self, within: float | None = None) -> Step:
        """Make the next request: the chunk's, or a probe where the destination is held. `within` bounds it (s).

        Where the chunk is neither settled nor at hand after it, it has to be read and offered again.
        """
        if self.now.state is State.HELD:
            step = self._exchange(self._speaks().probe(), 0, within)
            self.now = step.after
            return step
        batch = self._batch
        assert batch is not None
        batch.fit(self.limit, self.now.largest)
        oldest_ms = batch.ticks[0].at.wall_ms
        step = self._exchange(batch.request, self.now.failures, within)
        self.now, verdict = step.after, step.outcome.verdict
        step = step._replace(oldest_ms=oldest_ms)
        if verdict in (Verdict.RETRY, Verdict.HELD):
            return step
        self._batch = None  # a defect below costs no more than to send the chunk again, as a whole
        if verdict is Verdict.TOO_LARGE:
            batch.halve()
            self._batch = batch
        elif step.outcome.settles:
            self._suspects = batch.hear(step.outcome, self._suspects)
            if verdict is Verdict.DELIVERED:
                self.now = grown(self.now, step.request.samples, len(step.request.body), self._most)
            if (settled := batch.settled) is None:
                self._batch = batch
            elif settled.culprits:
                self.now = self.now._replace(error=settled.culprits[-1].outcome.error)
            return step._replace(after=self.now, settled=settled)
        return step

    def trial(self, ticks: Sequence[Tick]) -> Step | None:
        """Send ticks that are in no chunk; None: there is nothing to send. Where they are settled nothing changes."""
        request, _ = self._speaks().encode(ticks, True)
        if not request.samples:
            return None
        step = self._exchange(request, 0, None)
        if step.outcome.settles:
            return step._replace(after=step.before)
        self.now = step.after
        return step

    def _exchange(self, request: Request, attempt: int, within: float | None) -> Step:
        clock, was = self._clocks.monotonic, self.now
        began, before, repeats = clock(), self._wire.wire_bytes(), self._wire.repeats()
        answer = self._wire.exchange(request, attempt, within)
        repeats = self._wire.repeats() - repeats
        body = len(request.body) * (1 + repeats)
        cost = self._wire.wire_bytes() - before or body
        outcome = self._speaks().classify(request, answer)
        if outcome.error:
            outcome = outcome._replace(error=self._wire.hidden(outcome.error))
        ended = clock()
        self.stats.count(outcome, ended - began, body, cost, 1 + repeats, repeats + (attempt > 0))
        now = after(was, request, outcome, ended, self.rules, self._clocks.random())
        if now.state is not State.IDLE and outcome.status != 429:
            self._wire.renew()
        return Step(request, outcome, was, now, began, cost)


def _samples(ticks: Iterable[Tick]) -> int:
    return sum(len(tick.values) for tick in ticks)
