"""Counters of what was sent to a destination, for the health series and the ledger of a replay."""

from __future__ import annotations

import time

from agent.destinations.base import Outcome
from agent.destinations.clocks import skew
from agent.send.outages import Outages
from agent.system.heard import Heard, boottime
from buffer.usage import Usage

SLOW = 5.0
"""Seconds within which a Date shows which clock is right."""


class SendStats:
    """Written by the thread that sends, read by anybody."""

    def __init__(self) -> None:
        self.outages = Outages()
        """For how long nothing was delivered, and why."""
        self.kind = ""
        """The destination's type."""
        self.deadline = self.unchanged_every = 0.0
        """Seconds that a sample may wait for its request to fill, and between two samples of a value that does not change."""
        self.requests = 0
        """Requests sent, probes among them."""
        self.retries = 0
        self.bytes_sent = 0
        """Bytes of request bodies."""
        self.wire_bytes = 0
        """Bytes on the wire, both ways; of the bodies alone where the kernel does not count."""
        self.send_seconds_total = 0.0
        self.date: float | None = None
        """The receiver's time at the last answer that had it (Unix seconds)."""
        self.dates = 0
        """How many there were."""
        self.certificate_expires: float | None = None
        """When the first certificate ends that was in use last, the receiver's or this host's own (Unix seconds); None: not known."""
        self.used: Usage | None = None
        """What the destination has cost on this day and in this month, and what it may; None: not counted yet."""
        self.clock_skew: float | None = None
        """Seconds by which this host's clock is ahead of the receiver's, see `clocks`; None: not known yet."""
        self.proves_itself = False
        """Whether the receiver has to show by TLS that it is the one."""
        self.heard: Heard | None = None
        """The last Date of a receiver that has proved who it is, and when it came."""

    def hear(self, date: float | None, begun: float) -> None:
        """Note the Date of an answer to a request that began then (`boottime`); one that was slow says too little."""
        ended = boottime()
        if date is not None and self.proves_itself and ended - begun <= SLOW:
            self.heard = Heard(date, begun, ended)

    def count(
        self, outcome: Outcome, seconds: float, body: int, wire: int, requests: int, retries: int
    ) -> None:
        """Count requests of `body` bytes together that took so long and cost `wire` bytes; the last had this outcome."""
        self.send_seconds_total += seconds
        self.requests += requests
        self.retries += retries
        self.bytes_sent += body
        self.wire_bytes += wire
        if outcome.date is not None:
            now = time.time()
            self.date, self.dates = outcome.date, self.dates + 1
            self.clock_skew = skew(outcome.date, now - seconds, now, self.clock_skew or 0.0)
