"""What may happen often is bounded by the hour: requests, and lines of the log. Without a clock of its own.

Promises, whatever a receiver does:
1. A `Budget` grants `burst` at once, and `hourly` in each hour after that.
2. `Quiet` lets the same words of an event through once in an hour, and of an event at most LINES in an hour.
3. Neither takes more memory with time.
"""

from __future__ import annotations

import re
from collections.abc import Callable

HOUR = 3600.0
LINES = 10
MOST_WORDS = 64

_WORD = re.compile(r"[\w-]+")


class Budget:
    """So many at once, and so many in an hour."""

    def __init__(self, burst: float, hourly: float, clock: Callable[[], float]) -> None:
        self._burst, self._hourly, self._clock = burst, hourly, clock
        self._left, self._at = burst, clock()

    @property
    def left(self) -> int:
        """How many there are now."""
        now = self._clock()
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._hourly / HOUR)
        self._at = now
        return int(self._left)

    def take(self, count: int = 1) -> bool:
        """Take so many, if there are."""
        if self.left < count:
            return False
        self._left -= count
        return True


class Quiet:
    """Says what is worth a line."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._budgets: dict[str, Budget] = {}
        self._said: dict[tuple[str, str], float] = {}

    def is_news(self, event: str, words: str | None = None) -> bool:
        """Return whether an event is to be logged aloud now; with words, if they are new."""
        now, key = self._clock(), (event, kind(words or ""))
        if words is not None and now - self._said.get(key, now - HOUR) < HOUR:
            return False
        if not self._budgets.setdefault(event, Budget(LINES, LINES, self._clock)).take():
            return False
        if words is not None:
            if len(self._said) >= MOST_WORDS:
                self._said.clear()
            self._said[key] = now
        return True


def kind(words: str) -> str:
    """Return words without what differs from one answer to the next: those with a digit in them."""
    return _WORD.sub(lambda found: "0" if any(map(str.isdigit, found[0])) else found[0], words)
