"""One request after another to one receiver: in the protocol that it speaks, at the pace that is allowed.

Promise: every write request to a destination goes through `ask`, so that the counters, the bandwidth and what is known
of the receiver are about all of them. (The requests for a token go to another server, and are not counted.) Decided in
`protocol` and `pace`; used from the lane's thread.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.config import RemoteWrite
from agent.destinations.remote_write import protocol
from agent.destinations.remote_write.outcome import Outcome
from agent.send import pace
from agent.send.batch import Request
from agent.send.needs import Wire
from agent.send.pace import Pace
from agent.send.report import LaneStats, Report


class Exchange:
    """The requests of one lane."""

    def __init__(
        self,
        to: RemoteWrite,
        wire: Wire,
        stats: LaneStats,
        report: Report,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._wire, self._stats, self._report, self._clock, self._random = wire, stats, report, clock, random
        self._bandwidth, self._pace = to.max_bandwidth, Pace()
        self._speech = protocol.begin(to.protobuf_message)

    def speaks(self) -> protocol.Protocol:
        """What the next batch is to be written in."""
        self._speech = protocol.now(self._speech, self._clock())
        return self._speech.protocol

    def limit(self, limit: int) -> int:
        """The most samples for the next batch, where `limit` is what the receiver takes."""
        return min(limit, protocol.UNPROVEN) if self._speech.is_open else limit

    def ask(self, request: Request, attempt: int = 0, within: float | None = None) -> Outcome:
        """Send a request, written in what `speaks` says, and say what became of it; nothing is raised."""
        body, written_in, samples = request
        began, before = self._clock(), self._wire.wire_bytes()
        outcome = self._wire.post(body, written_in, attempt, within)
        cost = self._wire.wire_bytes() - before or len(body)
        was = self._speech
        self._speech, outcome = protocol.heard(was, samples, outcome, self._clock())
        self._report.speaks(was, self._speech, outcome.error)
        self._stats.asked(outcome, self._clock() - began, len(body), cost, attempt)
        self._pace = pace.sent(self._pace, began, cost, self._bandwidth, self._random())
        return outcome

    def probe(self) -> Outcome:
        """Send a request without series, in what the next batch would be written in."""
        spoken = self.speaks()
        return self.ask(Request(protocol.EMPTY[spoken], spoken, 0))

    def wait(self, *, full: bool) -> float:
        """Seconds that the next request has to wait; `full`: there is a whole batch, or a backlog."""
        return self._pace.wait(self._clock(), full=full)

    def resumed(self, outage: float, longest: float) -> None:
        """The first request got through, after an outage of so many seconds: go on gently, see `pace`."""
        self._pace = pace.resumed(self._pace, outage, self._clock(), self._random(), longest)
