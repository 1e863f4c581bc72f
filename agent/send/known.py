"""What refusals have shown of series is carried from batch to batch: pure, but for a clock that is handed in.

    a series -> refused with others -> asked about -> good, or bad -> asked about again, now and then -> good

Series are named by the identity that a destination gives them. What is unknown or good goes out as before; bad and unproven series
are kept apart from it, so that they do not make a request fail. Promises:

1. No question is repeated in the same state: the innocent among n series that were refused together flow after n requests at
   most. They are sent in twos: of two that are refused, one alone says what both are, or that one is bad.
2. All searches, and questions about what is known already, are at most BURST requests at once and HOURLY in an hour.
3. Bad series are sent again: all together, and every other time one of them in its turn. What is taken is good.
4. At most MOST series are remembered, and MOST_BYTES of their identities before those of the last search.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, KeysView, Mapping, Sequence

from agent.destinations.base import Outcome, Verdict
from agent.send.quiet import Budget

BURST, HOURLY = 64, 10
RESERVE = 32
"""Requests that are left for searches, when bad series are sent again."""
QUESTIONS = 50
"""About unproven series, in one batch."""
MOST = 50_000
MOST_BYTES = 8 << 20

REFUSED = Outcome(Verdict.REJECTED, 0, "refused with others before")


class Known:
    """Series of one destination that were refused. Used from one thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._budget = Budget(BURST, HOURLY, clock)
        self._why: dict[bytes, Outcome] = {}
        self._unproven: dict[
            bytes, None
        ] = {}  # those of `_why` that are not known to be bad, in the order of their turn
        self._asked: set[bytes] = set()  # those that had their turn once
        self._two: tuple[bytes, ...] = ()  # refused together, and the first one is next
        self._times = 0  # that bad ones were sent again

    @property
    def series(self) -> KeysView[bytes]:
        """The series that are kept apart."""
        return self._why.keys()

    @property
    def requests(self) -> int:
        """How many requests a search may take now."""
        return self._budget.left

    def spent(self, requests: int) -> None:
        """Take it that a search took so many requests."""
        self._budget.take(min(requests, self._budget.left))

    def why(self, key: bytes) -> Outcome:
        """Return what was answered to a series."""
        return self._why.get(key, REFUSED)

    def learn(self, bad: Mapping[bytes, Outcome], unproven: Mapping[bytes, Outcome]) -> None:
        """Take what a search has found: series that were refused alone, and with others."""
        if len(self._why) + len(bad) + len(unproven) > MOST or sum(map(len, self._why)) > MOST_BYTES:
            self.clear()
        self._why.update(bad)
        self._why.update(unproven)
        self._unproven.update(dict.fromkeys(unproven))
        self._asked.update(bad)

    def clear(self) -> None:
        """Take it that nothing is known of any series."""
        self._why.clear()
        self._unproven.clear()
        self._asked.clear()
        self._two = ()

    def forget(self, keys: Collection[bytes]) -> None:
        """Take it that nothing is known of these."""
        for key in keys:
            self._why.pop(key, None)
            self._unproven.pop(key, None)
            self._asked.discard(key)

    def question(self, keys: Sequence[bytes], asked: Collection[bytes]) -> list[bytes]:
        """Return which of these to send next, apart from the others; `asked` were sent in this batch. Empty: none."""
        here = set(keys)
        if self._two and here.issuperset(self._two):
            return [self._two[0]]
        self._two = ()
        left = [key for key in self._unproven if key in here and key not in asked]
        for few in (left[:2], left[:1]):
            is_first = not any(key in self._asked for key in few)
            if few and (is_first or (len(few) == 1 and self._budget.take())):
                return few
        bad = [key for key in keys if key in self._why and key not in self._unproven]
        is_done = not bad or any(key in asked for key in bad)
        if is_done or self._budget.left < RESERVE or not self._budget.take():
            return []
        self._times += 1
        return bad if self._times % 2 else [bad[self._times // 2 % len(bad)]]

    def taken(self, keys: Collection[bytes]) -> None:
        """Take it that these were delivered."""
        rest = [key for key in self._two if key not in keys]
        if self._two and len(rest) == 1:  # so it was the other one
            self._is_bad(rest[0], self.why(rest[0]))
        self._two = ()
        for key in keys:
            self._why.pop(key, None)
            self._unproven.pop(key, None)
            self._asked.add(key)

    def refused(self, keys: Sequence[bytes], outcome: Outcome) -> bool:
        """Take it that these were refused; return whether all is known that this can show."""
        if len(keys) == 1:
            others = [key for key in self._two if key not in keys]
            self._two = ()
            self._is_bad(keys[0], outcome)
            for key in others:  # its turn comes again
                self._unproven.pop(key, None)
                self._unproven[key] = None
            return True
        if len(keys) == 2 and all(key in self._unproven for key in keys):
            self._two = tuple(keys)
            return False
        return True

    def _is_bad(self, key: bytes, outcome: Outcome) -> None:
        self._why[key] = outcome
        self._unproven.pop(key, None)
        self._asked.add(key)
