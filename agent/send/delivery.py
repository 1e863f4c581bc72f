"""A delivery: samples on their way to one destination, request by request, until they are settled.

It has no thread, no cursor and no log, and never waits. Its driver (a lane, a replay) reads a chunk of at most
`limit` samples, gives it to `offer`, and calls `attempt` whenever `wait` is 0:

    chunk -> offer -> [ wait -> attempt -> Step ]* -> Settled

Promises:

1. A request that failed is repeated byte by byte, unless its format has changed or a part of it is too old by now.
2. One request at a time, and nothing newer of a series before what is older is settled.
3. What a receiver refuses for good is sent in parts until the culprits are found (`culprits`); the rest is delivered.
4. A chunk is settled as a whole: `delivered + dropped` are its samples.
5. A held destination is sent probes alone: slowly, and at once when a file of its credentials has changed.

What an answer means is decided by the destination type, what follows from that in `state`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.config import QueueConfig
from agent.destinations.base import AGED, REJECTED, Outcome, Request, Speaks, Verdict
from agent.http.answer import Answer
from agent.http.failures import Failure
from agent.send.culprits import Culprits, Search
from agent.send.state import Rules, Situation, State, after
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


class Settled(NamedTuple):
    """A chunk that is done with; counts are samples, `dropped` by its reason with the culprits among them."""

    chunk: Chunk
    delivered: int
    dropped: Mapping[str, int]
    repeated: int = 0
    """Of the rejected ones, those that repeat an instant of their series: they were never sent."""
    culprits: Sequence[Culprits] = ()


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


class _Batch(NamedTuple):
    chunk: Chunk
    ticks: Sequence[Tick]
    """The chunk's, without those that are too old."""
    request: Request
    """With all samples of the ticks, or with `search` those that it asks about."""
    samples: int
    dropped: Mapping[str, int]
    search: Search | None = None


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
        self.now = Situation(queue.max_samples_per_send)
        self.rules = rules or Rules(queue.min_backoff, queue.max_backoff)
        self.stats = stats or SendStats()
        self._speaks, self._wire, self._clocks = speaks, wire, clocks or Clocks()
        self._age_limit_ms = int(queue.sample_age_limit * 1000)
        self._batch: _Batch | None = None
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
        request, dropped = self._speaks().encode(ticks, False)
        if len(ticks) < len(chunk.ticks):
            dropped = {**dropped, AGED: _samples(chunk.ticks) - _samples(ticks)}
        if not request.samples:
            return Settled(chunk, 0, dropped, dropped.get(REJECTED, 0))
        self._batch = _Batch(chunk, ticks, request, request.samples, dropped)
        return None

    def is_outdated(self) -> bool:
        """Return whether the chunk at hand has to be read and offered again: its format changed, or it grew too old."""
        batch = self._batch
        if batch is None or batch.request.format != self._speaks().name:
            return True
        return batch.search is None and self._is_too_old(batch.ticks[0])

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
            step = self._exchange(self._speaks().probe(), 0, within, 0)
            self.now = step.after
            return step
        batch = self._batch
        assert batch is not None
        whole = batch.samples + batch.dropped.get(REJECTED, 0)
        step = self._exchange(batch.request, self.now.failures, within, whole)
        step = step._replace(oldest_ms=batch.ticks[0].at.wall_ms)
        self.now, verdict = step.after, step.outcome.verdict
        if verdict in (Verdict.RETRY, Verdict.HELD):
            return step
        self._batch = None  # a defect below costs no more than to send the chunk again, as a whole
        settled = self._answered(batch, step.outcome) if step.outcome.settles else None
        return step._replace(after=self.now, settled=settled)

    def trial(self, ticks: Sequence[Tick]) -> Step | None:
        """Send ticks that are in no chunk; None: there is nothing to send. Where they are settled nothing changes."""
        request, _ = self._speaks().encode(ticks, True)
        if not request.samples:
            return None
        step = self._exchange(request, 0, None, 1)
        if step.outcome.settles:
            return step._replace(after=step.before)
        self.now = step.after
        return step

    def _exchange(self, request: Request, attempt: int, within: float | None, samples: int) -> Step:
        clock, was = self._clocks.monotonic, self.now
        began, before = clock(), self._wire.wire_bytes()
        answer = self._wire.exchange(request, attempt, within)
        cost = self._wire.wire_bytes() - before or len(request.body)
        outcome = self._speaks().classify(request, answer)
        if outcome.error:
            outcome = outcome._replace(error=self._wire.hidden(outcome.error))
        ended = clock()
        self.stats.count(outcome, ended - began, len(request.body), cost, attempt)
        now = after(was, samples, outcome, ended, self.rules, self._clocks.random())
        return Step(request, outcome, was, now, began, cost)

    def _answered(self, batch: _Batch, outcome: Outcome) -> Settled | None:
        """Settle a chunk that was delivered or refused, or prepare what of it is sent next."""
        search, speaks = batch.search, self._speaks()
        if search is not None:
            search.hear(outcome)
        elif outcome.verdict is Verdict.REJECTED:
            search = Search(batch.ticks, speaks.carries, outcome, self._suspects)
        repeated = batch.dropped.get(REJECTED, 0)
        if search is None:
            return Settled(batch.chunk, batch.samples, batch.dropped, repeated)
        if ticks := search.ask():
            self._batch = batch._replace(request=speaks.encode(ticks, True).request, search=search)
            return None
        self._suspects, culprits = search.suspects(), search.culprits()
        dropped = dict(batch.dropped)
        for one in culprits:
            dropped[one.reason] = dropped.get(one.reason, 0) + one.samples
        if culprits:
            self.now = self.now._replace(error=culprits[-1].outcome.error)
        return Settled(batch.chunk, search.delivered, dropped, repeated, culprits)


def _samples(ticks: Iterable[Tick]) -> int:
    return sum(len(tick.values) for tick in ticks)
