"""For how long nothing was delivered to a destination, and why: reported from one outage to the next.

An outage begins with the first try that fails, and ends when samples are settled. Promises:

1. Each second of it counts for one cause: that of the last try that failed. So what is reported at a time is true of that time.
2. A counter is first reported as 0, so that its rise is never lost, however short the outage was.
3. An outage continues after a restart (`remember`), with its begin. Seconds in which no agent ran count for nothing: whether the
   way was there, nobody knows.
4. Begin and end are by the wall clock as it is at the end, so a clock that is set meanwhile makes no outage longer.

Any thread may call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from agent.destinations.base import Outcome
from agent.http.failures import Cause as Failed
from agent.system.way import Way, way


class Cause(StrEnum):
    """Why nothing is delivered, from the cable to the receiver."""

    LINK = "link"
    """No interface has a carrier."""
    ADDRESS = "address"
    """There is a carrier, and no default route, which comes with an address."""
    DNS = "dns"
    TCP = "tcp"
    """Nobody answers at the address, refuses the connection, or cuts it."""
    PROXY = "proxy"
    TLS = "tls"
    AUTH = "auth"
    THROTTLED = "throttled"
    REFUSED = "refused"
    """An answer that takes nothing: another 4xx, a redirection, a web page, or somebody else than the receiver."""
    SERVER = "server"
    """A 5xx, or an answer that is no HTTP."""
    MEDIUM = "medium"
    """Of a destination that is a folder: it cannot be written."""
    CLOCK = "clock"
    """This host's clock is not believed, so samples wait for their times."""
    BUDGET = "budget"


_CAUSES = {
    Failed.ADDRESS: Cause.DNS,
    Failed.PROXY: Cause.PROXY,
    Failed.TLS: Cause.TLS,
    Failed.TOKEN: Cause.AUTH,
    Failed.FILE: Cause.AUTH,
    Failed.PROTOCOL: Cause.SERVER,
}
_BY_LINK = (Failed.ADDRESS, Failed.UNREACHABLE, Failed.TIMEOUT, Failed.CUT)
_BY_ADDRESS = (Failed.ADDRESS, Failed.UNREACHABLE)
"""Failures that a missing link, or default route, explains better."""


def cause(outcome: Outcome, kind: str, look: Callable[[], Way] = way) -> Cause:
    """Return why this was no delivery. `kind` is the destination's type; `look` says what way out the host has."""
    if kind == "file":
        return Cause.MEDIUM
    if outcome.cause is not None:
        found = look() if outcome.cause in _BY_LINK else Way.THERE
        if found is Way.NO_LINK:
            return Cause.LINK
        if found is Way.NO_ADDRESS and outcome.cause in _BY_ADDRESS:
            return Cause.ADDRESS
        return _CAUSES.get(outcome.cause, Cause.TCP)
    if outcome.status in (401, 403, 407):
        return Cause.AUTH
    if outcome.status == 429:
        return Cause.THROTTLED
    return Cause.SERVER if outcome.status >= 500 or outcome.status in (0, 408) else Cause.REFUSED


class Outage(NamedTuple):
    """The last one. Times are Unix seconds; 0: there was none. It lasts while `end` is before `start`."""

    start: float = 0.0
    end: float = 0.0
    """Of the last one that has ended."""
    backfilled: int = 0
    """The samples that waited when it ended."""


class Outages:
    """The outages of one destination. `mono` and `wall` are clocks in seconds."""

    def __init__(
        self, mono: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._mono, self._wall, self._lock = mono, wall, threading.Lock()
        self._seconds: dict[str, float] = {}
        self._told: set[str] = set()
        self._cause: str | None = None  # None: all is well
        self._began = self._counted = 0.0  # monotonic
        self._last, self._is_new = Outage(), True

    def remember(self, cause: str | None, began_ms: int | None) -> None:
        """Continue an outage that an earlier process has left, once in the life of this one."""
        with self._lock:
            is_new, self._is_new = self._is_new, False
            if is_new and cause in list(Cause) and began_ms is not None and self._cause is None:
                self._begin(cause, max(0.0, self._wall() - began_ms / 1000), 0.0)

    def failed(self, cause: str, seconds: float = 0.0) -> None:
        """Take it that nothing was delivered, for this cause, in a try that took so many seconds."""
        with self._lock:
            if self._cause is None:
                self._begin(cause, seconds, seconds)
            else:
                self._count()
                self._cause = cause
                self._seconds.setdefault(cause, 0.0)

    def delivered(self, waiting: int) -> None:
        """Take it that samples were settled, and that so many have waited until then."""
        with self._lock:
            if self._cause is not None:
                self._count()
                self._cause, start, now = None, self._start(), self._wall()
                self._last = Outage(start, max(start, round(now)), waiting)

    @property
    def at_hand(self) -> tuple[str | None, int | None]:
        """The cause of the outage at hand, and when it began (UTC ms); None: there is none."""
        with self._lock:
            return (None, None) if self._cause is None else (self._cause, int(self._start() * 1000))

    def report(self) -> tuple[Mapping[str, float], Outage | None]:
        """Return the seconds by cause since the start, and the last outage, if there was one. For one caller."""
        with self._lock:
            if self._cause is not None:
                self._count()
                self._last = self._last._replace(start=self._start())
            seconds = {cause: total if cause in self._told else 0.0 for cause, total in self._seconds.items()}
            self._told.update(seconds)
            return seconds, self._last if self._seconds else None

    def _begin(self, cause: str, ago: float, counted: float) -> None:
        now = self._mono()
        self._cause, self._began, self._counted = cause, now - ago, now - counted
        self._seconds.setdefault(cause, 0.0)
        self._last = self._last._replace(start=round(self._wall() - ago))

    def _count(self) -> None:
        now = self._mono()
        if self._cause is not None:
            self._seconds[self._cause] += max(0.0, now - self._counted)
        self._counted = now

    def _start(self) -> float:
        """Return when the outage began, by the clock of now: the same number unless the clock was set."""
        start = self._wall() - (self._mono() - self._began)
        return self._last.start if abs(start - self._last.start) <= 1.0 else round(start)
