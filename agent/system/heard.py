"""What receivers say of this host's clock, by the Date of their answers: pure functions over values.

A Date has whole seconds (RFC 9110, 6.6.1), and it was written at some time during the exchange.  So an answer says no more than
that the right clock's base (its time minus the monotonic time of this boot) lies in a span.  That stays true when this host's clock is
set.

Promises:
1. Only an answer counts that is no older than KEPT, and no slower than `max_skew`.
2. Receivers that are further apart than `max_skew` count for nothing, all of them: nobody knows which one is right.
3. An answer with which a clock is right by all of the span is agreement.  One with which it is wrong by more than WRONG_MS, and
   `max_skew`, by all of the span is disagreement.  In between nothing is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

KEPT_MS = 86_400_000
"""A clock may drift by some seconds in this time."""
WRONG_MS = 300_000
"""By so much samples are not found where they are looked for: a query of Prometheus looks back for five minutes."""

boottime: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Monotonic seconds.  A host that sleeps is not booted again when it wakes: its time counts (clock_gettime(2))."""


class Heard(NamedTuple):
    """A receiver's Date (Unix seconds), of an answer that came between these times (`boottime`)."""

    date: float
    begun: float
    ended: float


class Receivers(NamedTuple):
    """Between which bases the right clock is, by all receivers, in ms."""

    low: int
    high: int

    def agree(self, base_ms: int, max_skew_ms: int) -> bool:
        """Whether a clock with this base is right, wherever in the span the truth is."""
        return self.high - max_skew_ms <= base_ms <= self.low + max_skew_ms

    def disagree(self, base_ms: int, max_skew_ms: int) -> bool:
        """Whether it is so wrong that its samples would be lost to those who look for them."""
        far = max(WRONG_MS, max_skew_ms)
        return not self.low - far <= base_ms <= self.high + far


def receivers(heard: Iterable[Heard], mono_ms: int, max_skew_ms: int) -> Receivers | None:
    """Return what the receivers say together; None: nothing that counts."""
    spans = [
        (round((one.date - one.ended) * 1000), round((one.date + 1 - one.begun) * 1000))
        for one in heard
        if mono_ms - one.ended * 1000 <= KEPT_MS and one.ended - one.begun <= max_skew_ms / 1000
    ]
    if not spans or max(low for low, _ in spans) - min(high for _, high in spans) > max_skew_ms:
        return None
    return Receivers(min(low for low, _ in spans), max(high for _, high in spans))
