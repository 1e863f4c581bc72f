"""A delivery: samples on their way to one destination, request by request, until they are settled.

It has no thread, no cursor and no log, and never waits. Its driver (a lane, a replay) reads a chunk of at most
`limit` samples, gives it to `offer`, and calls `attempt` whenever `wait` is 0:

    chunk -> offer -> [ wait -> attempt -> Step ]* -> Settled

Promises:

1. A request that failed is repeated byte by byte, until the question changes (`batch`): it is cut in two where it was
   too large, or fails while probes are answered. Or its format has changed, or a part of it is too old by now.
2. One request at a time, and nothing newer of a series before what is older is settled.
3. What a receiver refuses for good is sent in parts until the culprits are found (`culprits`); the rest is delivered.
   A refusal counts only where the receiver has judged the samples: it says that they are too old, or takes something
   (`probe`) after it has refused. Else the fault is on the way, and the destination is held. Nor does a 2xx count that
   may be a stranger's, as the type sees it (Verdict.UNPROVEN).
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
from agent.send.apart import Apart
from agent.send.batch import Batch, Settled, error_of
from agent.send.known import Known
from agent.send.probe import Probe
from agent.send.state import Rules, Sent, Situation, State, after, grown, shrunk
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


class _Doubt(NamedTuple):
    """An answer that does not count before a check."""

    outcome: Outcome
    request: Request
    is_last: bool = False
    """The batch knows it already: it was the last one of a search."""


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
        self.now, self._most = Situation(queue.max_samples_per_send), queue.max_samples_per_send
        self.rules, self.stats = rules or Rules(queue.min_backoff, queue.max_backoff), stats or SendStats()
        self._speaks, self._wire, self._clocks = speaks, wire, clocks or Clocks()
        self._age_limit_ms = int(queue.sample_age_limit * 1000)
        self._batch: Batch | None = None
        self._doubt: _Doubt | None = None
        self.apart, self._probe = Apart(speaks), Probe(speaks)
        self.known = Known(self._clocks.monotonic)

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

    @property
    def is_begun(self) -> bool:
        """Whether a part of the chunk may be stored by the receiver already, and the rest is still to be sent."""
        return self._batch is not None and (self._doubt is not None or self._batch.is_begun)

    def forget_before(self, position: int) -> None:
        """Let go of a chunk that ends there or earlier: the buffer was full, and evicted it."""
        if self._batch is not None and self._batch.chunk.end <= position:
            self._batch = None

    def offer(self, chunk: Chunk) -> Settled | None:
        """Take the next chunk. Return it settled where nothing of it is to be sent."""
        self._doubt = None
        limit_ms, wall = self._age_limit_ms, self._clocks.wall()
        ticks: Sequence[Tick] = [tick for tick in chunk.ticks if not _is_too_old(tick, limit_ms, wall)]
        aged = _samples(chunk.ticks) - _samples(ticks)
        ticks, kept, why = self.apart.split(ticks)
        batch = Batch(chunk, ticks, self._speaks(), self.known, {AGED: aged} if aged else {})
        batch.keep_apart(kept, why)
        return self._continue(batch)

    def is_outdated(self) -> bool:
        """Return whether the chunk at hand has to be read and offered again: its format changed, or it grew too old."""
        batch = self._batch
        if batch is None or batch.format != self._speaks().name:
            return True
        return not self.is_begun and _is_too_old(batch.ticks[0], self._age_limit_ms, self._clocks.wall())

    def wait(self) -> float:
        """Return the seconds until the next request may go out."""
        left = self.now.not_before - self._clocks.monotonic()
        return 0.0 if left <= 0 or (self.now.state is State.HELD and self._wire.changed()) else left

    def attempt(self, within: float | None = None) -> Step:
        """Make the next request: the chunk's, a check of its answer, or a probe. `within` bounds it (s).

        Where the chunk is neither settled nor at hand after it, it has to be read and offered again.
        """
        batch = self._batch
        if self.now.state is State.HELD or (self.now.asks and self._doubt is None):
            return self._held(batch, within)
        assert batch is not None
        if self._doubt is not None:
            return self._checked(batch, self._doubt, within)
        batch.fit(self.limit, self.now.largest)
        asked = self._ask(batch.request, self.now.failures, within)
        outcome = asked.outcome
        is_refusal = outcome.verdict is Verdict.REJECTED and not outcome.age
        if outcome.verdict is Verdict.UNPROVEN or (is_refusal and not batch.is_searching):
            return self._doubted(batch, asked, outcome)
        step = self._counted(batch, asked, outcome)
        if is_refusal and not batch.is_searching:  # something was taken before it, but nothing since
            self._batch = batch
            return self._doubted(batch, asked, outcome, is_last=True)._replace(before=step.before)
        return step

    def _held(self, batch: Batch | None, within: float | None) -> Step:
        """Probe: a held destination, or one that does not take the request at hand."""
        ticks = batch.chunk.ticks if batch is not None else ()
        sent = Sent.PROBE if self.now.state is State.HELD else Sent.QUESTION
        asked = self._ask(self._probe.request(ticks), self.now.failures, within)
        heard = self._probe.hear(asked.outcome, ticks)
        if heard is None:
            return self._again(asked)
        step = self._step(asked, sent, heard)
        if batch is None or self.now.state is not State.IDLE or heard.verdict is not Verdict.DELIVERED:
            return step
        batch.doubt()
        return step._replace(settled=self._continue(batch))._replace(after=self.now)

    def _doubted(self, batch: Batch, asked: _Asked, outcome: Outcome, *, is_last: bool = False) -> Step:
        """Let an answer wait for a check."""
        self._doubt = _Doubt(outcome, asked.request, is_last)
        return self._step(asked, Sent.BATCH, outcome._replace(verdict=Verdict.UNPROVEN), batch)

    def _checked(self, batch: Batch, doubt: _Doubt, within: float | None) -> Step:
        """Find out whether an answer counts, and let it."""
        ticks, check = batch.chunk.ticks, doubt.outcome.check
        asked = self._ask(check or self._probe.request(ticks), self.now.failures, within)
        heard = asked.outcome if check else self._probe.hear(asked.outcome, ticks)
        if heard is None:
            return self._again(asked)
        if heard.verdict is Verdict.RETRY:
            return self._step(asked, Sent.CHECK, heard, batch)
        self._doubt = None
        if heard.verdict is Verdict.DELIVERED:
            verdict = Verdict.DELIVERED if check else Verdict.REJECTED
            counts = doubt.outcome._replace(verdict=verdict, check=None)
            return self._counted(batch, asked._replace(request=doubt.request), counts, is_heard=doubt.is_last)
        batch.unlearn()
        step = self._step(asked, Sent.CHECK, heard, batch)
        # What was refused of a chunk since something was taken is not known: all of it is sent again.
        return step._replace(settled=self.offer(batch.chunk)) if batch.is_begun else step

    def _again(self, asked: _Asked) -> Step:
        """Ask in another form, at once."""
        was, failures = self.now, self.now.failures if self.now.asks else 0
        self.now = was._replace(failures=failures, not_before=asked.ended)
        return Step(asked.request, asked.outcome, was, self.now, asked.began, asked.cost)

    def _counted(self, batch: Batch, asked: _Asked, outcome: Outcome, *, is_heard: bool = False) -> Step:
        """Draw the consequences of an answer for the chunk. `is_heard`: the batch knows it."""
        step, verdict = self._step(asked, Sent.BATCH, outcome, batch), outcome.verdict
        if step.after.state in (State.WAITING, State.HELD):
            if not outcome.is_unreached:  # which says nothing about the request
                batch.failed(step.outcome)
            return step
        self._batch = None  # a defect below costs no more than to send the chunk again, as a whole
        if verdict is Verdict.REWRITE:
            return step
        if verdict is Verdict.TOO_LARGE:
            batch.halve()
        elif not is_heard:
            batch.hear(outcome)
        if verdict is Verdict.DELIVERED:
            self.now = grown(self.now, step.request, self._most)
        return step._replace(settled=self._continue(batch))._replace(after=self.now)

    def _continue(self, batch: Batch) -> Settled | None:
        """Continue with the next part, or return the chunk settled."""
        batch.ask()
        self.now = self.now._replace(doubted=batch.was_doubted)
        self._batch = batch if (settled := batch.settled) is None else None
        if settled is None:
            return None
        if batch.apart:
            self.apart.learn(batch.apart, settled.culprits[-1].outcome)
        self.now = _concluded(self.now, batch, settled)
        return settled

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
        clock, wire = self._clocks.monotonic, self._wire
        began, before, repeats = clock(), wire.wire_bytes(), wire.repeats()
        answer = wire.exchange(request, attempt, within)
        repeats = wire.repeats() - repeats
        body = len(request.body) * (1 + repeats)
        cost = wire.wire_bytes() - before or body
        outcome = self._speaks().classify(request, answer)
        outcome = outcome._replace(error=outcome.error and wire.hidden(outcome.error))
        ended = clock()
        self.stats.count(outcome, ended - began, body, cost, 1 + repeats, repeats + (attempt > 0))
        return _Asked(request, outcome, began, ended, cost)

    def _step(self, asked: _Asked, sent: Sent, outcome: Outcome, batch: Batch | None = None) -> Step:
        """Return the step of a request, and let what follows from it be so."""
        was, random = self.now, self._clocks.random()
        oldest_ms = batch.oldest_ms if batch is not None else None
        self.now = after(was, sent, asked.request, outcome, asked.ended, self.rules, random)
        if self.now.state in (State.WAITING, State.HELD) and outcome.status != 429:
            self._wire.renew()
        return Step(asked.request, outcome, was, self.now, asked.began, asked.cost, oldest_ms)


def _concluded(now: Situation, batch: Batch, settled: Settled) -> Situation:
    """Return the situation after a chunk was settled."""
    if (
        batch.was_doubted and batch.largest_taken and not batch.apart
    ):  # no series was at fault: it was the size
        now = shrunk(now, batch.largest_taken, now.largest)
    error = error_of(settled.culprits[-1]) if settled.culprits else now.error
    return now._replace(doubted=False, error=error)


def _is_too_old(tick: Tick, limit_ms: int, wall: float) -> bool:
    return bool(limit_ms) and int(wall * 1000) - tick.at.wall_ms > limit_ms


def _samples(ticks: Iterable[Tick]) -> int:
    return sum(len(tick.values) for tick in ticks)
