"""A question to a receiver, where a 2xx may need a check before it counts: `Probe` and `Fresh` are such questions.

Promises:
1. A 2xx that is unproven is followed by its check. When the check has passed, the question counts as taken: it is not sent again.
2. A check without an answer that counts (RETRY) is sent again. Any other answer to it is the answer to the question.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from agent.destinations.base import Outcome, Request, Verdict
from buffer.model import Tick


class Question(ABC):
    """The question at hand. `request` is what to send, and `hear` takes the answer. Used from one thread."""

    def __init__(self) -> None:
        self.asked: Request | None = None
        """The last question, which is no check of an answer."""
        self._taken: Outcome | None = None  # of the question, until its check has been refused

    def request(self, ticks: Sequence[Tick] = ()) -> Request:
        """Return what to send next; `ticks` are the chunk's, or none."""
        if self._taken is not None and self._taken.check is not None:
            return self._taken.check
        self.asked = self._form(ticks)
        return self.asked

    def hear(self, outcome: Outcome, ticks: Sequence[Tick] = ()) -> Outcome | None:
        """Take the answer; return what it shows (DELIVERED: the receiver judges samples), or None: ask again at once."""
        if (taken := self._taken) is not None:
            if outcome.verdict is not Verdict.RETRY:
                self._taken = None
            if outcome.verdict is not Verdict.DELIVERED:
                return outcome
            outcome = taken.proven
        elif outcome.verdict is Verdict.UNPROVEN:
            self._taken = outcome
            return None
        return self._judge(outcome, ticks)

    @abstractmethod
    def _form(self, ticks: Sequence[Tick]) -> Request:
        """Return the question in the form that is next."""

    @abstractmethod
    def _judge(self, outcome: Outcome, ticks: Sequence[Tick]) -> Outcome | None:
        """Return what an answer that counts shows, or None: ask in another form, at once."""
