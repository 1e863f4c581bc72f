"""The log events of a lane.

Promise: trouble is logged loudly when it begins or turns into something else, and quietly while it lasts; so an outage
is two lines, however long it is. Events are in `agent.system.events`; no secret and no URL is among their fields.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.destinations.base import AGED, Outcome, Verdict
from agent.send.batch import Settled
from agent.send.culprits import Culprits
from agent.send.delivery import Step
from agent.send.state import Situation, State
from agent.system.events import Event, Logger
from buffer.quarantine import Item


class LaneLog:
    """What happens at the destination `name`. Used from its lane's thread."""

    def __init__(self, name: str, log: Logger) -> None:
        self._name, self._log = name, log
        self._troubled: float | None = None  # since when nothing gets through
        self._aged = self._repeats = False  # whether it was logged last time
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
            self._trouble(Event.RETRY, after, now, loud=after.failures == 1, attempt=after.failures)
        elif after.state is State.HELD:
            loud = after.error != before.error or self._troubled is None
            self._trouble(Event.HELD, after, now, loud=loud)
        elif before.state is State.HELD:
            return
        elif verdict is Verdict.TOO_LARGE:
            log.info(Event.BATCH_HALVED, destination=name, limit=after.limit, error=outcome.error)
        elif verdict is Verdict.REJECTED:
            log.debug(Event.REFUSED, destination=name, samples=request.samples, error=outcome.error)
        elif verdict is Verdict.DELIVERED:
            log.debug(Event.DELIVERED, destination=name, samples=request.samples, bytes=len(request.body))
            if self._troubled is not None:
                log.info(Event.RESUMED, destination=name, seconds=round(now - self._troubled, 1))
                self._troubled = None

    def found(self, outcome: Outcome) -> None:
        """Log which version of the format the receiver was just found to understand, if it was."""
        if outcome.found:
            self._log.info(
                Event.PROTOCOL, destination=self._name, remote_write=outcome.found, error=outcome.error
            )

    def _trouble(self, event: Event, after: Situation, now: float, *, loud: bool, **fields: int) -> None:
        say = self._log.warning if loud else self._log.debug
        wait = round(after.not_before - now, 1)
        say(event, destination=self._name, error=after.error, next_try_seconds=wait, **fields)
        if self._troubled is None:
            self._troubled = now

    def order(self, outcome: Outcome | None) -> None:
        """Log whether the receiver takes samples as old as the backlog behind newer ones; None: no probe was sent."""
        fresh = outcome is not None and outcome.verdict is Verdict.DELIVERED
        order, error = "fresh_first" if fresh else "oldest_first", outcome and outcome.error
        self._log.info(Event.DRAIN_ORDER, destination=self._name, order=order, error=error)

    def culprits(self, culprits: Culprits) -> None:
        """Log that these samples were refused for good."""
        reason, outcome, samples, _ = culprits
        words = outcome.error or ""
        if reason == AGED:
            say = self._log.debug if self._aged else self._log.error
            say(Event.AGED, destination=self._name, samples=samples, error=words, do=outcome.advice)
            self._aged = True
        else:
            self._log.error(Event.REJECTED, destination=self._name, samples=samples, error=words)

    def settled(self, settled: Settled) -> None:
        """Log what is odd about a chunk that is settled."""
        self._aged = any(culprits.reason == AGED for culprits in settled.culprits)
        if settled.repeated:
            say = self._log.debug if self._repeats else self._log.warning
            say(Event.REPEATED, destination=self._name, samples=settled.repeated)
            self._repeats = True

    def quarantined(self, samples: int, error: str, gone: Sequence[Item]) -> None:
        """Log that refused samples are kept, and that these items had to go for them."""
        self._log.info(Event.QUARANTINED, destination=self._name, samples=samples, error=error)
        for item in gone:
            self._log.warning(
                Event.QUARANTINE_FULL, destination=item.destination, item=item.id, samples=item.samples
            )

    def not_quarantined(self, samples: int, error: str) -> None:
        """Log that refused samples could not be kept."""
        self._log.error(Event.QUARANTINE_FAILED, destination=self._name, samples=samples, error=error)

    def disk(self, error: str) -> None:
        """Log that the cursor could not be written, the first time; with no error, it could."""
        if error and error != self._disk_error:
            self._log.error(Event.LANE_FAILED, destination=self._name, error=error)
        self._disk_error = error

    def failed(self, error: str) -> None:
        """Log that the lane met a defect, or could not read."""
        self._log.error(Event.LANE_FAILED, destination=self._name, error=error)
