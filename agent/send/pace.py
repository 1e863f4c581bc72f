"""How fast a lane may send: pure functions and one small value; no clock of its own.

Promises:
1. `max_bandwidth`: over any time the bytes on the wire are at most that rate, and one request more.
2. After an outage a host does not burst. The first request goes out as before; before each further full one there
   is a pause, FIRST_PAUSE at first (less after a short outage), each half as long as the one before, each with
   jitter. So in the first seconds each host of a fleet sends no more than in steady state, and none of them at
   the same moment; some ten seconds later all speed is there.
"""

from __future__ import annotations

from typing import NamedTuple

FIRST_PAUSE = 4.0
"""Seconds before the second full request after an outage, give or take a half of it."""
OUTAGE_SHARE = 10.0
"""The first pause is at most this part of the time that the outage lasted."""
SHORTEST = 0.05
"""Seconds; a pause that would be shorter is none."""


class Pace(NamedTuple):
    """When the next request may go out. Times are monotonic seconds."""

    paid_until: float = 0.0
    """By then the bytes sent so far are within the bandwidth."""
    pause: float = 0.0
    """Before the next full request, but for the jitter."""
    not_before: float = 0.0
    """The end of that pause."""

    def wait(self, now: float, *, full: bool) -> float:
        """Seconds that a request has to wait; the pauses are for full ones."""
        return max(0.0, self.paid_until - now, self.not_before - now if full else 0.0)


def resumed(pace: Pace, outage: float, now: float, random: float, longest: float = FIRST_PAUSE) -> Pace:
    """The pace after an outage of so many seconds, with the request that ended it. `random` is in 0..1."""
    return _paused(pace._replace(pause=min(longest, outage / OUTAGE_SHARE)), now, random)


def sent(pace: Pace, began: float, spent: int, bandwidth: int | None, random: float) -> Pace:
    """The pace after a request that began then, with `spent` bytes on the wire."""
    if bandwidth is not None:
        pace = pace._replace(paid_until=max(pace.paid_until, began) + spent / bandwidth)
    return _paused(pace, began, random)


def _paused(pace: Pace, now: float, random: float) -> Pace:
    if pace.pause < SHORTEST:
        return pace._replace(pause=0.0)
    return pace._replace(pause=pace.pause / 2, not_before=now + pace.pause * (0.5 + random))
