"""One request to a destination: what comes back is given its meaning, and what it cost is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from agent.destinations.base import Outcome, Request, Speaks
from agent.http.answer import Answer
from agent.http.failures import Failure
from agent.send.stats import SendStats
from agent.system.heard import boottime


class Wire(Protocol):
    """How a request travels. Nothing is raised."""

    def exchange(self, request: Request, attempt: int = 0, within: float | None = None) -> Answer | Failure:
        """Send a request, and return what came back. `attempt` counts earlier tries; `within` bounds it, in seconds."""

    def hidden(self, text: str) -> str:
        """Return a text without secrets: a receiver may repeat what it was sent."""

    def wire_bytes(self) -> int:
        """Return the bytes on the wire so far; 0 where they are not counted."""

    def repeats(self) -> int:
        """Return how many requests went out twice so far, at once, because a kept connection was dead."""

    def expires(self) -> float | None:
        """Return when the first certificate in use ends (Unix seconds); None where there is none, or not known yet."""

    def renew(self) -> None:
        """Let the next request open a connection. Safe from any thread."""

    def changed(self) -> bool:
        """Return whether a file of credentials or certificates has changed since the last request."""

    def interrupt(self) -> None:
        """End the request under way, for good."""

    def close(self) -> None:
        """Close the connection."""


class Asked(NamedTuple):
    """A request and its outcome; times are monotonic seconds, `cost` is bytes on the wire."""

    request: Request
    outcome: Outcome
    began: float
    ended: float
    cost: int


class Asking:
    """Sends requests over `wire`. `speaks` says what an answer means, `stats` counts, and `clock` is monotonic seconds."""

    def __init__(self, speaks: Speaks, wire: Wire, stats: SendStats, clock: Callable[[], float]) -> None:
        self._speaks, self._wire, self._stats, self._clock = speaks, wire, stats, clock

    def ask(self, request: Request, attempt: int, within: float | None) -> Asked:
        """Send a request, and return what came of it. `attempt` counts earlier tries; `within` bounds it (s)."""
        clock, wire = self._clock, self._wire
        began, begun, before, repeats = clock(), boottime(), wire.wire_bytes(), wire.repeats()
        answer = wire.exchange(request, attempt, within)
        repeats = wire.repeats() - repeats
        body = len(request.body) * (1 + repeats)
        cost = wire.wire_bytes() - before or body
        self._stats.certificate_expires = wire.expires() or self._stats.certificate_expires
        outcome = self._speaks().classify(request, answer)
        outcome = outcome._replace(error=outcome.error and wire.hidden(outcome.error))
        ended = clock()
        self._stats.hear(outcome.date, begun)
        self._stats.count(outcome, ended - began, body, cost, 1 + repeats, repeats + (attempt > 0))
        return Asked(request, outcome, began, ended, cost)
