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
   (`probe`) after it has refused. Else the fault is on the way, and the destination is held. Where all of a chunk was
   refused, that counts only if the receiver takes a sample for now (`fresh`). Nor does a 2xx count that may be a
   stranger's, as the type sees it (Verdict.UNPROVEN).
4. A chunk is settled as a whole: `delivered + dropped` are its samples.
5. A held destination is sent probes alone: slowly, and at once when a file of its credentials has changed.
6. What comes after trouble goes out over a new connection, perhaps to another server of the same name; but not after 429,
   which costs enough.

What an answer means is decided by the destination type, what follows from that in `state`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from agent.config import QueueConfig
from agent.destinations.base import Outcome, Request, Speaks, Verdict
from agent.send.asking import Asked, Asking, Wire
from agent.send.batch import Batch, Settled, error_of
from agent.send.fresh import Fresh
from agent.send.known import Known
from agent.send.probe import Probe
from agent.send.question import Question
from agent.send.selection import Selection
from agent.send.state import USUAL, Rules, Sent, Situation, State, after, grown, shrunk
from agent.send.stats import SendStats
from agent.send.unchanged import Unchanged
from buffer.model import Chunk, Tick


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
    request: Request | None
    """Which was answered; None: all of the chunk was refused, in one request or several."""
    is_last: bool = False
    """The batch knows it already: it was the last one of a search."""


class Delivery:
    """Delivers chunks to the destination that `speaks` returns. Without `fresh` the refusal of a whole chunk counts.

    `unchanged` leaves out samples that say nothing new.
    """

    def __init__(
        self,
        speaks: Speaks,
        wire: Wire,
        queue: QueueConfig,
        rules: Rules | None = None,
        stats: SendStats | None = None,
        clocks: Clocks | None = None,
        fresh: Fresh | None = None,
        unchanged: Unchanged | None = None,
    ) -> None:
        self._most = queue.max_samples_per_send
        self.now = Situation(min(self._most, USUAL))
        self.rules, self.stats = rules or Rules(queue.min_backoff, queue.max_backoff), stats or SendStats()
        self.speaks, self._wire, self._clocks = speaks, wire, clocks or Clocks()
        self._ask = Asking(speaks, wire, self.stats, self._clocks.monotonic).ask
        self._selection = Selection(speaks, queue.sample_age_limit, self._clocks.wall, unchanged)
        self.apart, self._fresh = self._selection.apart, fresh
        self._batch: Batch | None = None
        self._doubt: _Doubt | None = None
        self.affordable = 1 << 30  # samples at once
        self._probe, self.known = Probe(speaks), Known(self._clocks.monotonic)
        self._held_by: Question = self._probe  # what a held destination has to take

    @property
    def limit(self) -> int:
        """The most samples for the next chunk."""
        return min(self.now.limit, self.speaks().max_samples or self.now.limit, self.affordable)

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
        return self._continue(self._selection.batch(chunk, self.known))

    def is_outdated(self) -> bool:
        """Return whether the chunk at hand, none of which went out, has to be read and offered again: its format changed, or it aged."""
        batch = self._batch
        if batch is None or self.is_begun:
            return batch is None
        return batch.format != self.speaks().name or self._selection.is_too_old(batch.ticks[0])

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
        outcome = (asked := self._ask(batch.request, self.now.failures, within)).outcome
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
        asked = self._ask(self._held_by.request(ticks), self.now.failures, within)
        heard = self._held_by.hear(asked.outcome, ticks)
        if heard is None:
            return self._again(asked)
        step = self._step(asked, Sent.PROBE if self.now.state is State.HELD else Sent.QUESTION, heard)
        self._held_by = self._probe if heard.verdict is Verdict.DELIVERED else self._held_by
        if batch is None or self.now.state is not State.IDLE or heard.verdict is not Verdict.DELIVERED:
            return step
        batch.doubt()
        return step._replace(settled=self._continue(batch))._replace(after=self.now)

    def _doubted(self, batch: Batch, asked: Asked, outcome: Outcome, *, is_last: bool = False) -> Step:
        """Let an answer wait for a check."""
        self._doubt = _Doubt(outcome, asked.request, is_last)
        return self._step(asked, Sent.BATCH, outcome._replace(verdict=Verdict.UNPROVEN), batch)

    def _checked(self, batch: Batch, doubt: _Doubt, within: float | None) -> Step:
        """Find out whether an answer counts, and let it."""
        ticks, check = batch.chunk.ticks, doubt.outcome.check
        request, probe = doubt.request, self._probe if doubt.request or not self._fresh else self._fresh
        self.known.spent(request is None)
        asked = self._ask(check or probe.request(ticks), self.now.failures, within)
        heard = asked.outcome if check else probe.hear(asked.outcome, ticks)
        if heard is None:
            return self._again(asked)
        if heard.verdict is Verdict.RETRY:
            return self._step(asked, Sent.CHECK, heard, batch)
        self._doubt = None
        if heard.verdict is Verdict.DELIVERED and request is not None:
            verdict = Verdict.DELIVERED if check else Verdict.REJECTED
            counts = doubt.outcome._replace(verdict=verdict, check=None, found=heard.found)
            return self._counted(batch, asked._replace(request=request), counts, is_heard=doubt.is_last)
        if heard.verdict is Verdict.DELIVERED:
            step = self._step(asked._replace(request=probe.asked or asked.request), Sent.CHECK, heard)
            return step._replace(settled=self._continue(batch, is_judged=True))._replace(after=self.now)
        if heard.verdict is Verdict.REJECTED and request is None:
            self._held_by = probe
            self.known.clear()
        batch.unlearn()
        step = self._step(asked, Sent.CHECK, heard, batch)
        # What was refused of a chunk since something was taken is not known: all of it is sent again.
        return step._replace(settled=self.offer(batch.chunk)) if batch.is_begun or request is None else step

    def _again(self, asked: Asked) -> Step:
        """Ask in another form, at once."""
        was, unproven = self.now, asked.outcome._replace(verdict=Verdict.UNPROVEN)
        self.now = was._replace(failures=was.failures if was.asks else 0, not_before=asked.ended)
        return Step(asked.request, unproven, was, self.now, asked.began, asked.cost)

    def _counted(self, batch: Batch, asked: Asked, outcome: Outcome, *, is_heard: bool = False) -> Step:
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
            if self._fresh is not None and verdict is Verdict.DELIVERED:
                self._fresh.took(() if batch.is_searching else batch.ticks)
            batch.hear(outcome)
        if verdict is Verdict.DELIVERED:
            took = asked.ended - asked.began
            self.now = grown(self.now, step.request, self._most, _series(batch.chunk.ticks), took)
        return step._replace(settled=self._continue(batch))._replace(after=self.now)

    def _continue(self, batch: Batch, *, is_judged: bool = False) -> Settled | None:
        """Continue with the next part, or return the chunk settled. `is_judged`: a refusal of all of it counts."""
        batch.ask()
        self.now = self.now._replace(doubted=batch.was_doubted)
        self._batch = batch
        if (settled := batch.settled) is None:
            return None
        if not is_judged and self._fresh is not None and self._fresh.is_due(settled, self.known):
            self._doubt = _Doubt(settled.culprits[-1].outcome, None)
            return None
        self._batch = None
        settled = self._selection.settled(batch, settled)
        self.now = _concluded(self.now, batch, settled)
        return settled

    def trial(self, request: Request) -> Step:
        """Send samples that are in no chunk, and the check of the answer. If they are settled nothing changes."""
        asked = self._ask(request, 0, None)
        if (check := asked.outcome.check) is not None:
            heard = self._ask(check, 0, None)
            asked = heard._replace(request=request, began=asked.began, cost=asked.cost + heard.cost)
        if asked.outcome.settles:
            return Step(request, asked.outcome, self.now, self.now, asked.began, asked.cost)
        return self._step(asked, Sent.BATCH, asked.outcome)

    def _step(self, asked: Asked, sent: Sent, outcome: Outcome, batch: Batch | None = None) -> Step:
        """Return the step of a request, and let what follows from it be so."""
        was, oldest_ms = self.now, batch.oldest_ms if batch else None
        self.now = after(was, sent, asked.request, outcome, asked.ended, self.rules, self._clocks.random())
        if self.now.state in (State.WAITING, State.HELD) and outcome.status != 429:
            self._wire.renew()
        return Step(asked.request, outcome, was, self.now, asked.began, asked.cost, oldest_ms)


def aside(delivery: Delivery, request: Request) -> Outcome:
    """Send what is in no chunk, like `Delivery.trial`; whatever comes of it changes nothing."""
    before = delivery.now
    outcome = delivery.trial(request).outcome
    delivery.now = before
    return outcome


def _concluded(now: Situation, batch: Batch, settled: Settled) -> Situation:
    """Return the situation after a chunk was settled."""
    if (
        batch.was_doubted and batch.largest_taken and not batch.apart
    ):  # no series was at fault: it was the size
        now = shrunk(now, batch.largest_taken, now.largest)
    error = error_of(settled.culprits[-1]) if settled.culprits else now.error
    return now._replace(doubted=False, error=error)


def _series(ticks: Iterable[Tick]) -> int:
    return sum(map(len, {id(tick.series): tick.series for tick in ticks}.values()))
