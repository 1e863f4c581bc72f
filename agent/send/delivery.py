"""A delivery: samples on their way to one destination, request by request, until they are settled.

It has no thread, no cursor and no log, and never waits. Its driver (a lane, a replay) reads a chunk of at most
`limit` samples, gives it to `offer`, and calls `attempt` whenever `wait` is 0:

    chunk -> offer -> [ wait -> attempt -> Step ]* -> Settled

Promises:

1. A request that failed is repeated byte by byte, unless its format has changed or a part of it is too old by now.
2. One request at a time, and nothing newer of a series before what is older is settled.
3. What a receiver refuses for good is sent in parts until the culprits are found (`culprits`); the rest is delivered.
   A refusal counts only where the receiver has judged the samples: it says that they are too old, or takes something
   (`probe`) after it has refused. Else the fault is on the way, and the destination is held. Nor does a 2xx count that
   the type cannot tell from a stranger's (Verdict.UNPROVEN).
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
from agent.send.probe import Probe
from agent.send.state import Rules, Sent, Situation, State, after
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


class _Doubt(NamedTuple):
    """The answer to the chunk's last request, which does not count before a check."""

    outcome: Outcome
    settled: Settled | None = None
    """The chunk, if this was the last answer that it needed."""


class _Asked(NamedTuple):
    request: Request
    outcome: Outcome
    began: float
    ended: float
    cost: int


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
        self._probe = Probe(speaks)
        self._doubt: _Doubt | None = None
        self._suspects: frozenset[bytes] = frozenset()  # the culprits of the last chunk that had any

    @property
    def limit(self) -> int:
        """The most samples for the next chunk."""
        return min(self.now.limit, self._speaks().max_samples or self.now.limit)

    @property
    def has_chunk(self) -> bool:
        """Whether a chunk is on its way."""
        return self._batch is not None

    @property
    def is_in_doubt(self) -> bool:
        """Whether the chunk's last request was answered, and the answer does not count yet."""
        return self._batch is not None and self._doubt is not None

    def forget_before(self, position: int) -> None:
        """Let go of a chunk that ends there or earlier: the buffer was full, and evicted it."""
        if self._batch is not None and self._batch.chunk.end <= position:
            self._batch = None

    def offer(self, chunk: Chunk) -> Settled | None:
        """Take the next chunk. Return it settled where nothing of it is to be sent."""
        self._doubt = None
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
        return batch.search is None and self._doubt is None and self._is_too_old(batch.ticks[0])

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
        """Make the next request: the chunk's, a check of its answer, or a probe. `within` bounds it (s).

        Where the chunk is neither settled nor at hand after it, it has to be read and offered again.
        """
        batch = self._batch
        if self.now.state is State.HELD:
            return self._held(batch.ticks if batch is not None else (), within)
        assert batch is not None
        if self._doubt is not None:
            return self._checked(batch, self._doubt, within)
        asked = self._ask(batch.request, self.now.failures, within)
        outcome = asked.outcome
        if outcome.verdict is Verdict.REJECTED and not outcome.age and batch.search is None:
            outcome = outcome._replace(verdict=Verdict.UNPROVEN)
        if outcome.verdict is Verdict.UNPROVEN:
            self._doubt = _Doubt(outcome)
            return self._step(asked, Sent.BATCH, outcome, batch)
        step = self._counted(batch, asked, outcome)
        if (
            step.settled is not None
            and step.settled.culprits
            and outcome.verdict is Verdict.REJECTED
            and not outcome.age
        ):
            # Something was taken before it, but nothing since.
            self._batch, self._doubt = batch, _Doubt(outcome, step.settled)
            return step._replace(outcome=outcome._replace(verdict=Verdict.UNPROVEN), settled=None)
        return step

    def _held(self, ticks: Sequence[Tick], within: float | None) -> Step:
        """Probe."""
        asked = self._ask(self._probe.request(ticks), 0, within)
        heard = self._probe.hear(asked.outcome, ticks)
        if heard is None:
            return self._again(asked)
        return self._step(asked, Sent.PROBE, heard)

    def _checked(self, batch: _Batch, doubt: _Doubt, within: float | None) -> Step:
        """Find out whether the answer to a chunk counts, and let it."""
        doubted, check = doubt.outcome, doubt.outcome.check
        asked = self._ask(check or self._probe.request(batch.ticks), self.now.failures, within)
        heard = asked.outcome if check else self._probe.hear(asked.outcome, batch.ticks)
        if heard is None:
            return self._again(asked)
        if heard.verdict is Verdict.RETRY:
            return self._step(asked, Sent.CHECK, heard, batch)
        self._doubt = None
        if heard.verdict is Verdict.DELIVERED:
            asked = asked._replace(request=batch.request)
            if doubt.settled is not None:
                self._batch = None
                step = self._step(asked, Sent.BATCH, doubted, batch)
                return step._replace(settled=doubt.settled)
            verdict = Verdict.DELIVERED if check else Verdict.REJECTED
            return self._counted(batch, asked, doubted._replace(verdict=verdict, check=None))
        step = self._step(asked, Sent.CHECK, heard, batch)
        # What was refused of a chunk since something was taken is not known: all of it is sent again.
        return step if batch.search is None else step._replace(settled=self.offer(batch.chunk))

    def _again(self, asked: _Asked) -> Step:
        """Ask in another form, at once."""
        was = self.now
        self.now = was._replace(failures=0, not_before=asked.ended)
        return Step(asked.request, asked.outcome, was, self.now, asked.began, asked.cost)

    def _counted(self, batch: _Batch, asked: _Asked, outcome: Outcome) -> Step:
        """Draw the consequences of the answer to a chunk."""
        step = self._step(asked, Sent.BATCH, outcome, batch)
        if outcome.verdict in (Verdict.RETRY, Verdict.HELD):
            return step
        self._batch = None  # a defect below costs no more than to send the chunk again, as a whole
        settled = self._answered(batch, outcome) if outcome.settles else None
        return step._replace(after=self.now, settled=settled)

    def trial(self, ticks: Sequence[Tick]) -> Step | None:
        """Send ticks that are in no chunk; None: there is nothing to send. Where they are settled nothing changes."""
        request, _ = self._speaks().encode(ticks, True)
        if not request.samples:
            return None
        asked = self._ask(request, 0, None)
        if asked.outcome.verdict is Verdict.UNPROVEN:
            asked = asked._replace(outcome=asked.outcome._replace(verdict=Verdict.DELIVERED))
        if asked.outcome.settles:
            return Step(request, asked.outcome, self.now, self.now, asked.began, asked.cost)
        return self._step(asked, Sent.BATCH, asked.outcome)

    def _ask(self, request: Request, attempt: int, within: float | None) -> _Asked:
        clock, began, before = self._clocks.monotonic, self._clocks.monotonic(), self._wire.wire_bytes()
        answer = self._wire.exchange(request, attempt, within)
        cost = self._wire.wire_bytes() - before or len(request.body)
        outcome = self._speaks().classify(request, answer)
        if outcome.error:
            outcome = outcome._replace(error=self._wire.hidden(outcome.error))
        ended = clock()
        self.stats.count(outcome, ended - began, len(request.body), cost, attempt)
        return _Asked(request, outcome, began, ended, cost)

    def _step(self, asked: _Asked, sent: Sent, outcome: Outcome, batch: _Batch | None = None) -> Step:
        """Return the step of a request, and what follows from it."""
        was, samples, oldest_ms = self.now, 1, None
        if batch is not None:
            samples = batch.samples + batch.dropped.get(REJECTED, 0)
            oldest_ms = batch.ticks[0].at.wall_ms
        self.now = after(was, sent, samples, outcome, asked.ended, self.rules, self._clocks.random())
        return Step(asked.request, outcome, was, self.now, asked.began, asked.cost, oldest_ms)

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
