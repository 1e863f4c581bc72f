"""What a lane tells of itself: counters for the health series, and log events.

Promise: trouble is told aloud when it begins or turns into something else, and quietly while it lasts; so an
outage is two lines, however long it is. Events are in `events`; no secret and no URL is among their fields.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from agent.destinations.remote_write.clocks import skew
from agent.destinations.remote_write.outcome import Outcome, Verdict
from agent.destinations.remote_write.protocol import Speech
from agent.send.poison import AGED, Culprits
from agent.send.state import Situation
from agent.send.too_old import advice
from agent.system.events import Event, Logger
from buffer.quarantine import Item


class LaneStats:
    """Counters for the health series. Written by the lane, read by anybody."""

    def __init__(self) -> None:
        self.requests = 0
        """Requests sent, probes among them."""
        self.retries = 0
        self.samples_sent = 0
        """Samples in requests that were answered 2xx."""
        self.samples_repeated = 0
        """Samples of settled batches that were left out, since they repeat an instant."""
        self.bytes_sent = 0
        """Bytes of request bodies."""
        self.wire_bytes = 0
        """Bytes on the wire, both ways, see `transport`; of the bodies alone where the kernel does not count."""
        self.last_send_seconds = 0.0
        self.send_seconds_total = 0.0
        self.last_status = 0
        """HTTP status of the last answer; 0: there was none."""
        self.consecutive_failures = 0
        self.last_success = 0.0
        """Unix time in seconds; 0: not since the start."""
        self.clock_skew: float | None = None
        """Seconds by which this host's clock is ahead of the receiver's, see `clocks`; None: not known yet."""

    def asked(self, outcome: Outcome, seconds: float, body: int, wire: int, attempt: int) -> None:
        """Count a request of `body` bytes that took so long and cost `wire` bytes."""
        self.last_send_seconds = seconds
        self.send_seconds_total += seconds
        self.requests += 1
        self.retries += attempt > 0
        self.bytes_sent += body
        self.wire_bytes += wire
        self.last_status = outcome.status
        now = time.time()
        if outcome.date is not None:
            self.clock_skew = skew(outcome.date, now - seconds, now, self.clock_skew or 0.0)
        if outcome.verdict is Verdict.DELIVERED:
            self.consecutive_failures = 0
            self.last_success = now
        else:
            self.consecutive_failures += 1


class Report:
    """Tells what happens at one destination. Used from its lane's thread."""

    def __init__(self, name: str, log: Logger, clock: Callable[[], float]) -> None:
        self._name, self._log, self._clock = name, log, clock
        self._troubled: float | None = None  # since when nothing gets through
        self._aged = self._repeats = False  # whether it was told last time
        self._disk_error = ""

    @property
    def is_troubled(self) -> bool:
        """Whether the last thing told was trouble."""
        return self._troubled is not None

    def delivered(self, samples: int, size: int) -> None:
        """A request was answered by a 2xx."""
        self._log.debug(Event.DELIVERED, destination=self._name, samples=samples, bytes=size)
        if self._troubled is not None:
            lasted = round(self._clock() - self._troubled, 1)
            self._log.info(Event.RESUMED, destination=self._name, seconds=lasted)
            self._troubled = None

    def refused(self, samples: int, error: str | None) -> None:
        """A request was refused for good; what of it is at fault is not known yet."""
        self._log.debug(Event.REFUSED, destination=self._name, samples=samples, error=error)

    def retry(self, now: Situation) -> None:
        """A request will be repeated."""
        self._trouble(Event.RETRY, now, loud=now.failures == 1, attempt=now.failures)

    def held(self, now: Situation, before: str | None) -> None:
        """An operator has to mend something; the error before was another one, or not."""
        self._trouble(Event.HELD, now, loud=now.error != before or self._troubled is None)

    def _trouble(self, event: Event, now: Situation, *, loud: bool, **fields: int) -> None:
        say = self._log.warning if loud else self._log.debug
        wait = round(now.not_before - self._clock(), 1)
        say(event, destination=self._name, error=now.error, next_try_seconds=wait, **fields)
        if self._troubled is None:
            self._troubled = self._clock()

    def halved(self, limit: int, error: str | None) -> None:
        """The receiver takes only smaller requests."""
        self._log.info(Event.BATCH_HALVED, destination=self._name, limit=limit, error=error)

    def speaks(self, was: Speech, speech: Speech, error: str | None) -> None:
        """It was found out what the receiver speaks."""
        if (was.protocol, was.proven) != (speech.protocol, speech.proven):
            version = speech.protocol.version
            self._log.info(Event.PROTOCOL, destination=self._name, remote_write=version, error=error)

    def order(self, *, fresh_first: bool, error: str | None) -> None:
        """It was found out whether the receiver takes samples as old as the backlog behind newer ones."""
        order = "fresh_first" if fresh_first else "oldest_first"
        self._log.info(Event.DRAIN_ORDER, destination=self._name, order=order, error=error)

    def culprits(self, culprits: Culprits) -> None:
        """These samples were refused for good."""
        reason, outcome, samples, _ = culprits
        words = outcome.error or ""
        if reason == AGED:
            say = self._log.debug if self._aged else self._log.error
            say(Event.AGED, destination=self._name, samples=samples, error=words, do=advice(words))
            self._aged = True
        else:
            self._log.error(Event.REJECTED, destination=self._name, samples=samples, error=words)

    def settled(self, found: Sequence[Culprits], repeated: int) -> None:
        """A batch is settled, with these culprits and so many samples for instants that were there already."""
        self._aged = any(culprits.reason == AGED for culprits in found)
        if repeated:
            say = self._log.debug if self._repeats else self._log.warning
            say(Event.REPEATED, destination=self._name, samples=repeated)
            self._repeats = True

    def quarantined(self, samples: int, error: str, gone: Sequence[Item]) -> None:
        """Refused samples are kept, and these items had to go for them."""
        self._log.info(Event.QUARANTINED, destination=self._name, samples=samples, error=error)
        for item in gone:
            self._log.warning(
                Event.QUARANTINE_FULL, destination=item.destination, item=item.id, samples=item.samples
            )

    def not_quarantined(self, samples: int, error: str) -> None:
        """Refused samples could not be kept."""
        self._log.error(Event.QUARANTINE_FAILED, destination=self._name, samples=samples, error=error)

    def disk(self, error: str) -> None:
        """The cursor could not be written, or, with no error, could."""
        if error and error != self._disk_error:
            self._log.error(Event.LANE_FAILED, destination=self._name, error=error)
        self._disk_error = error

    def failed(self, error: str) -> None:
        """The lane met a defect, or could not read."""
        self._log.error(Event.LANE_FAILED, destination=self._name, error=error)
