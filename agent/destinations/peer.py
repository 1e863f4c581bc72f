"""Whether somebody else may answer than before: when a receiver that nobody verifies has to give its proof again (`proof`).

A box on the way that takes over cannot continue a TCP connection, and mostly it comes with trouble. So a 2xx to samples needs a proof

| over                                                                 | when                                                    |
|----------------------------------------------------------------------|---------------------------------------------------------|
| TLS that verified the receiver, or the connection of the last proof  | never                                                   |
| another connection, after trouble or between addresses without proof | at once                                                 |
| any other connection                                                 | EACH bytes of samples or EVERY seconds after the last   |

Trouble is a request without an answer, an answer that delays or holds, and a connection that was found dead. Promises:

1. Without trouble a proof follows EACH bytes at the most often, or an hour. With trouble there is at most one for each failure.
2. What is taken without a proof is less than EACH bytes, and none of it is older than EVERY seconds when more is taken.
3. A proof counts for the samples before it if nothing went unanswered between the two. Else these are sent again, once: a box
   may have come and gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.destinations.base import Verdict
from agent.http.answer import Answer
from agent.http.failures import Failure
from agent.system.heard import boottime

EACH = 60_000
"""Bytes of requests, compressed: 70 to 90 times what a proof costs on the wire (docs/decisions/0109)."""
EVERY = 3600.0
MOST_ENDS = 64

_TROUBLE = (Verdict.RETRY, Verdict.HELD)


class Peer:
    """The other end of one destination. `clock` is monotonic seconds, also while the host sleeps; `wall` is Unix seconds."""

    def __init__(self, clock: Callable[[], float] = boottime, wall: Callable[[], float] = time.time) -> None:
        self._clock, self._wall = clock, wall
        self._number: int | None = None  # of the connection of the last proof
        self._ends: dict[tuple[str, str], None] = {}
        self._taken = 0
        self._proven_at: float | None = None
        self._unproven_since: float | None = None
        self._is_shaken = self._is_parted = self._was_parted = False

    def saw(self, answer: Answer | Failure, verdict: Verdict) -> None:
        """Note what came of a request."""
        self._is_shaken = self._is_shaken or verdict in _TROUBLE
        via = answer.via if isinstance(answer, Answer) else None
        if via is not None and via.is_after_death and via.number != self._number:
            self._is_shaken = True

    def is_due(self, answer: Answer, size: int) -> bool:
        """Return whether this answer needs a proof, by which samples of so many bytes were taken."""
        via = answer.via
        if via is None:
            return False
        self._taken += size
        if via.number == self._number:
            return False
        if self._proven_at is None or self._is_shaken or via.ends not in self._ends:
            return True
        return self._taken >= EACH or self._clock() - self._proven_at >= EVERY

    def counts(self, answer: Answer) -> None:
        """Take it that samples count for which this is the answer."""
        if answer.via is not None and answer.via.number != self._number and self._unproven_since is None:
            self._unproven_since = self._wall()

    def asks(self) -> None:
        """Take it that the request for a proof goes out."""
        self._is_parted = False

    def is_silent(self) -> None:
        """Take it that the request for the proof had no answer."""
        self._is_parted = True

    def stranger(self) -> str:
        """Take it that the other end is no receiver; return what to say."""
        self._is_shaken, self._number = True, None
        if self._proven_at is None:
            return "correct the url, this is no receiver"
        said = "this is no receiver, but something that answers in its place"
        if self._unproven_since is None:
            return said
        since = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(self._unproven_since))
        return f"{said}: replay what it may have taken since {since}"

    def has_proven(self, answer: Answer, *, samples: bool) -> bool:
        """Take a proof; return whether it counts for the `samples` before it, where there were any."""
        via, parted = answer.via, samples and self._is_parted and not self._was_parted
        self._is_shaken, self._taken, self._proven_at = False, 0, self._clock()
        self._unproven_since, self._is_parted = None, False
        if via is None:
            return True
        if via.ends not in self._ends and len(self._ends) >= MOST_ENDS:
            self._ends.clear()
        self._number, self._ends[via.ends] = via.number, None
        self._was_parted = parted
        return not parted
