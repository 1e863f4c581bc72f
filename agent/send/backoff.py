"""How long a lane waits: pure functions; the random number (0 <= r < 1) is handed in.

Promise: a wait is never shorter than the least and, but for what a receiver asks for, never longer than
the most; what a receiver asks for is honoured up to LONGEST_WISH. Hosts that failed at the same moment, or
were told the same time, do not come back at the same moment.
"""

from __future__ import annotations

LONGEST_WISH = 900.0
"""Seconds of a Retry-After that are honoured: beyond that, asking again costs less than a wrong header."""

_ENOUGH = 63  # doublings; a larger power would overflow a float at some point


def backoff(attempt: int, least: float, most: float, random: float) -> float:
    """Seconds to wait after failure number `attempt` (from 1): full jitter over least..least * 2^attempt."""
    ceiling = min(most, least * 2.0 ** min(attempt, _ENOUGH))
    return least + (ceiling - least) * random


def retry_wait(attempt: int, least: float, most: float, wish: float | None, random: float) -> float:
    """Seconds to wait before the next try; `wish` is what the receiver asked for, jitter comes on top."""
    return min(max(wish or 0.0, 0.0), LONGEST_WISH) + backoff(attempt, least, most, random)
