"""When a lane asks a receiver for the time, because nobody knows whether this host's clock is right.

While a clock is not believed nothing is sent, so no answer has a Date.  A probe's answer has one.  NTP answers in seconds, so the first
one waits for FIRST, and each one waits twice as long as the one before, up to LONGEST: a probe costs some kB with its TLS handshake.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.send.delivery import Delivery, aside

FIRST = 30.0
LONGEST = 3600.0


class Dates:
    """Asks while `wanted`, and nothing is to be sent by `delivery`; `clock` is monotonic seconds."""

    def __init__(self, wanted: Callable[[], bool], delivery: Delivery, clock: Callable[[], float]) -> None:
        self._wanted, self._delivery, self._clock = wanted, delivery, clock
        self._pause = FIRST
        self._due: float | None = None

    def ask(self, longest: float) -> float:
        """Send a probe for the Date of its answer, if it is time for one; return the seconds to the next, `longest` at most.

        Whatever else comes of the probe changes nothing.
        """
        now = self._clock()
        if not self._wanted():
            self._pause, self._due = FIRST, None
            return longest
        if self._due is None:
            self._due = now + self._pause
        if now >= self._due:
            aside(self._delivery, self._delivery.speaks().probe())
            self._pause = min(2 * self._pause, LONGEST)
            self._due = self._clock() + self._pause
        return min(longest, max(0.0, self._due - self._clock()))
