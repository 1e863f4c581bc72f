"""The log events of a lane.

Promise: trouble is logged loudly when it begins or turns into something else, once an hour while it lasts, and else
quietly; so an outage is two lines, and one for each of its hours. Whatever a receiver does, what is logged above debug is at most some lines an hour for each
event, and the same refusal is logged once an hour (`quiet`). Events are in `agent.system.events`; no secret is among their
fields, and of a URL only what is no secret.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.config.urls import public_url
from agent.destinations import clocks
from agent.destinations.base import AGED, APART, DUPLICATE, Outcome, Verdict
from agent.send.batch import Settled, error_of
from agent.send.culprits import Culprits
from agent.send.delivery import Step
from agent.send.quiet import HOUR, Quiet
from agent.send.state import Situation, State
from agent.system.events import Event, Logger
from agent.text import advice
from buffer.quarantine import Item

Say = Callable[..., object]


class LaneLog:
    """What happens at the destination `name`. Used from its lane's thread."""

    def __init__(
        self,
        name: str,
        url: str,
        log: Logger,
        clock: Callable[[], float],
        skew: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`clock` is monotonic seconds; `skew` returns by how many seconds the host's clock is ahead of the receiver's."""
        self._name, self._url, self._log, self._quiet, self._skew = name, url, log, Quiet(clock), skew
        self._has_delivered = False
        self._troubled: float | None = None  # since when nothing gets through
        self._told = 0.0  # when that was said last
        self._repeats = False  # whether it was logged last time
        self._disk_error = ""

    @property
    def is_troubled(self) -> bool:
        """Whether the last thing logged was trouble."""
        return self._troubled is not None

    def step(self, step: Step, now: float) -> None:
        """Log what came of a request; `now` is monotonic seconds."""
        request, outcome, before, after, *_ = step
        log, name, verdict = self._log, self._name, outcome.verdict
        if after.state is State.WAITING:
            self._trouble(Event.RETRY, after, now, loud=after.failures == 1)
        elif after.state is State.HELD:
            loud = after.error != before.error or self._troubled is None
            self._trouble(Event.HELD, after, now, loud=loud)
        elif before.asks:
            return
        elif verdict is Verdict.TOO_LARGE:
            self._say(log.info, Event.BATCH_HALVED, limit=after.limit, error=outcome.error)
        elif verdict is Verdict.REJECTED:
            log.debug(Event.REFUSED, destination=name, samples=request.samples, error=outcome.error)
        elif verdict is Verdict.DELIVERED:
            log.debug(Event.DELIVERED, destination=name, samples=request.samples, bytes=len(request.body))
            if not self._has_delivered:
                self._has_delivered = True
                self._say(log.info, Event.FIRST_DELIVERED, url=public_url(self._url), samples=request.samples)
            if self._troubled is not None:
                self._say(log.info, Event.RESUMED, seconds=round(now - self._troubled, 1))
                self._troubled = None

    def found(self, outcome: Outcome) -> None:
        """Log which version of the format the receiver was just found to understand, if it was."""
        if outcome.found:
            self._say(self._log.info, Event.PROTOCOL, remote_write=outcome.found, error=outcome.error)

    def _trouble(self, event: Event, after: Situation, now: float, *, loud: bool) -> None:
        fields: dict[str, object] = {
            "destination": self._name,
            "error": after.error,
            "next_try_seconds": round(after.not_before - now, 1),
            "attempt": after.failures or after.probes,
        }
        if self._troubled is None:
            self._troubled = now
        elif now - self._told >= HOUR:
            fields["troubled_seconds"], loud = round(now - self._troubled), True
        if is_told := loud and self._quiet.is_news(event):
            self._told = now
        (self._log.warning if is_told else self._log.debug)(event, **fields)

    def order(self, outcome: Outcome | None) -> None:
        """Log whether the receiver takes samples as old as the backlog behind newer ones; None: no probe was sent."""
        fresh = outcome is not None and outcome.verdict is Verdict.DELIVERED
        order, error = "fresh_first" if fresh else "oldest_first", outcome and outcome.error
        self._say(self._log.info, Event.DRAIN_ORDER, order=order, error=error)

    def culprits(self, culprits: Culprits) -> None:
        """Log that these samples were refused for good."""
        reason, outcome, samples, *_ = culprits
        words = outcome.error or ""
        if reason == APART:
            self._say(self._log.warning, Event.APART, words, samples=samples, error=error_of(culprits))
        elif reason in (AGED, DUPLICATE):
            do = (clocks.advice(self._skew()) if reason == AGED else None) or outcome.advice
            self._say(self._log.error, Event.AGED, do, samples=samples, error=words, do=do)
        else:
            self._say(self._log.error, Event.REJECTED, words, samples=samples, error=words)

    def settled(self, settled: Settled) -> None:
        """Log what is odd about a chunk that is settled."""
        if settled.repeated:
            say = self._log.debug if self._repeats else self._log.warning
            say(Event.REPEATED, destination=self._name, samples=settled.repeated)
            self._repeats = True

    def quarantined(self, samples: int, error: str, gone: Sequence[Item]) -> None:
        """Log that refused samples are kept, and that these items had to go for them."""
        self._say(self._log.info, Event.QUARANTINED, error, samples=samples, error=error)
        for item in gone:
            self._say(
                self._log.warning,
                Event.QUARANTINE_FULL,
                destination=item.destination,
                item=item.id,
                samples=item.samples,
            )

    def not_quarantined(self, samples: int, error: Exception) -> None:
        """Log that refused samples could not be kept."""
        do = advice.about(error)
        self._say(self._log.error, Event.QUARANTINE_FAILED, samples=samples, error=str(error), do=do)

    def disk(self, error: OSError | None) -> None:
        """Log that the cursor could not be written, the first time; None: it could."""
        words = str(error) if error else ""
        if error and words != self._disk_error:
            self._say(self._log.error, Event.LANE_FAILED, error=words, do=advice.about(error))
        self._disk_error = words

    def spent(self, error: str) -> None:
        """Log that the data budget is spent."""
        self._say(self._log.warning, Event.BUDGET_SPENT, error=error)

    def failed(self, error: str) -> None:
        """Log that the lane met a defect, or could not read."""
        self._say(self._log.error, Event.LANE_FAILED, error=error)

    def _say(self, say: Say, event: Event, words: str | None = None, **fields: object) -> None:
        """Log an event: quietly where it was logged often enough."""
        say = say if self._quiet.is_news(event, words) else self._log.debug
        say(event, **{"destination": self._name, **fields})
