"""What waits apart is sent again from time to time: the oldest first, in parts that fit a request.

A part that is refused is half as large at the next try, and twice as large after one that was taken.
"""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from itertools import islice

from agent.destinations.base import Outcome, Verdict
from agent.send.account import Account
from agent.send.delivery import Delivery
from buffer.model import Tick


class Tried(Enum):
    """What came of a try."""

    NOTHING = "nothing waits any more"
    TAKEN = "some was taken, and the next part can follow at once"
    REFUSED = "it was not taken"


class Returning:
    """Sends what waits apart. Used from the thread of the sender."""

    def __init__(self, account: Account, delivery: Delivery) -> None:
        self._account, self._delivery = account, delivery
        self._taken = "", 0  # of which item how many ticks were taken
        self._most = delivery.limit

    def recall(self) -> None:
        """Remember what waits apart since an earlier process; what an ill disk does not return is found out again."""
        with suppress(OSError):
            for item in self._account.apart():
                outcome = Outcome(Verdict.RETRY, item.code, item.message)
                with suppress(OSError):
                    self._delivery.apart.keep(self._account.ticks(item), outcome)

    def attempt(self) -> Tried:
        """Make one request at most. An item whose end was taken is removed from the quarantine. Raises OSError."""
        if not (items := self._account.apart()):
            self._delivery.apart.clear()
            return Tried.NOTHING
        item, before = items[0], self._delivery.now
        taken = self._taken[1] if self._taken[0] == item.id else 0
        samples, ticks = 0, list[Tick]()
        for tick in islice(self._account.ticks(item), taken, None):
            if ticks and samples + len(tick.values) > min(self._most, self._delivery.limit):
                break
            samples += len(tick.values)
            ticks.append(tick)
        if not ticks:
            self._account.returned(item)
            return Tried.TAKEN
        step = self._delivery.trial(ticks)
        self._delivery.now = before  # that it is refused again is nothing new
        if step is not None and step.outcome.verdict is not Verdict.DELIVERED:
            self._most = max(1, samples // 2)
            return Tried.REFUSED
        self._most = 2 * max(self._most, samples)
        self._taken = item.id, taken + len(ticks)
        return Tried.TAKEN
