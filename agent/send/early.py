"""When a destination that waits is tried before its time: the network is another one, or an operator asks for it.

Promises:

1. `ask` (a reload) ends any wait, once; a storm of them does so once in GAP, and the last one counts.
2. News of the system ends a wait for an answer that never came, and that of a held destination, whose answer may be of something on
   the way (a portal). A receiver that answered 503 or 429 is left alone.
3. A flood of news does little: after a try that was in vain, the next one for the same reason waits for GAP, then for twice as
   long each time, up to the wait that there would be anyway. What came meanwhile is not forgotten.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from agent.destinations.base import Outcome, Verdict
from agent.send.state import LONGEST_UNREACHED, Rules, Situation, State

GAP = 1.0
EVERY = 1.0
"""Seconds between two looks at the news, while there is trouble."""


class News(Protocol):
    """What a wait listens to (`agent.system.news`)."""

    def heard(self) -> bool:
        """Return whether there is news since the last call."""

    def close(self) -> None:
        """Listen no more."""


class Early:
    """The early tries of one destination. Used from the thread of its lane; `ask` from any.

    `listen` opens the news; None: there are none. `clock` is monotonic seconds.
    """

    def __init__(self, listen: Callable[[], News] | None, clock: Callable[[], float]) -> None:
        self._listen, self._clock, self._asked = listen, clock, threading.Event()
        self._news: News | None = None
        self._counts = self._is_pending = False
        self._gap, self._longest, self._not_before, self._next = GAP, GAP, 0.0, 0.0

    @property
    def every(self) -> float:
        """Seconds after which the news has to be looked at again, while a destination waits."""
        return EVERY if self._news is not None or self._asked.is_set() else float("inf")

    def ask(self) -> None:
        """Let the next try go out now."""
        self._asked.set()

    def take(self, after: Situation, outcome: Outcome, rules: Rules) -> None:
        """Take what came of a try, and listen while there is trouble. `after` is the situation that followed."""
        state = after.state
        if state is State.IDLE:
            if outcome.verdict is Verdict.DELIVERED and not after.answered:
                self.close()
            return
        self._counts = state is State.HELD or not outcome.status
        self._longest = rules.max_probe if state is State.HELD else LONGEST_UNREACHED
        if self._news is None and self._listen is not None:
            self._news = self._listen()

    def hurried(self, now: Situation) -> Situation:
        """Return the situation with the wait over, where there is a reason; to be called before each step."""
        return now._replace(not_before=0.0) if self._is_due() else now

    def _is_due(self) -> bool:
        now = self._clock()
        if self._asked.is_set() and now >= self._next:
            self._asked.clear()
            self._next = now + GAP
            return True
        if self._news is None:
            return False
        self._is_pending = (self._news.heard() or self._is_pending) and self._counts
        if not self._is_pending or now < self._not_before:
            return False
        self._not_before, self._gap = now + self._gap, min(2 * self._gap, self._longest)
        self._is_pending = False
        return True

    def close(self) -> None:
        """Take it that the trouble is over."""
        if self._news is not None:
            self._news.close()
        self._news, self._is_pending, self._gap = None, False, GAP
