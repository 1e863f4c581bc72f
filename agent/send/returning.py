"""What waits apart is sent again from time to time: the oldest first, in requests that fit the limits.

Requests are cut as those of a batch are, below a record too. A part that is refused is half as large at the next try, and twice as
large after one that was taken; one that is too large is cut at once.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from enum import Enum
from itertools import islice

from agent.destinations.base import Outcome, Request, Verdict
from agent.send.account import Account
from agent.send.delivery import Delivery, aside
from agent.send.parts import Piece, halves
from buffer.model import Tick


class Tried(Enum):
    """What came of a try."""

    NOTHING = "nothing waits any more"
    TAKEN = "some was taken, and the next part can follow at once"
    CUT = "it was too large, and its first half can follow at once"
    REFUSED = "it was not taken"


class Returning:
    """Sends what waits apart. Used from the thread of the sender."""

    def __init__(self, account: Account, delivery: Delivery) -> None:
        self._account, self._delivery = account, delivery
        self._item, self._taken = "", 0  # of which item how many ticks were taken
        self._parts, self._loaded = (
            deque[Piece](),
            0,
        )  # the ticks after those that were read, and how many there are
        self._most = delivery.limit

    def recall(self) -> None:
        """Remember what waits apart since an earlier process; what an ill disk does not return is found out again."""
        with suppress(OSError):
            for item in self._account.apart():
                outcome = Outcome(Verdict.RETRY, item.code, item.message)
                with suppress(OSError):
                    self._delivery.apart.keep(self._account.ticks(item), outcome)

    def attempt(self) -> Tried:
        """Make one request at most, and the check of its answer. An item whose end was taken is removed from the quarantine. Raises OSError."""
        if not (items := self._account.apart()):
            self._delivery.apart.clear()
            return Tried.NOTHING
        item = items[0]
        if self._item != item.id:
            self._item, self._taken, self._loaded = item.id, 0, 0
            self._parts.clear()
        if not self._parts:
            self._taken += self._loaded
            ticks = self._next(islice(self._account.ticks(item), self._taken, None))
            self._loaded = len(ticks)
            if not ticks:
                self._account.returned(item)
                return Tried.TAKEN
            self._parts.append(Piece(ticks, sum(len(tick.values) for tick in ticks)))
        request = self._fit()
        # That it is refused again is nothing new.
        verdict = aside(self._delivery, request).verdict if request.samples else Verdict.DELIVERED
        part = self._parts[0]
        if verdict is Verdict.DELIVERED:
            self._most = 2 * max(self._most, part.samples)
            self._parts.popleft()
            return Tried.TAKEN
        self._most = max(1, part.samples // 2)
        return Tried.CUT if verdict is Verdict.TOO_LARGE and part.samples > 1 else Tried.REFUSED

    @property
    def _limit(self) -> int:
        return min(self._most, self._delivery.limit)

    def _next(self, left: islice[Tick]) -> list[Tick]:
        """Return the ticks that are sent next: as many as fit a request, and one at least."""
        samples, ticks = 0, list[Tick]()
        for tick in left:
            if ticks and samples + len(tick.values) > self._limit:
                break
            samples += len(tick.values)
            ticks.append(tick)
        return ticks

    def _fit(self) -> Request:
        """Cut the first part until it is within the limits, and return its request."""
        speaks, largest = self._delivery.speaks(), self._delivery.now.largest
        while True:
            part = self._parts[0]
            request = speaks.encode(part.ticks, True).request
            if part.samples <= 1 or not request.samples:
                return request
            if part.samples <= self._limit and len(request.body) <= largest:
                return request
            self._parts.popleft()
            self._parts.extendleft(reversed(halves(part.ticks, speaks.carries)))
