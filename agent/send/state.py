"""What follows from each outcome: one table, and the waits. No clock, no socket, no randomness of its own.

`TABLE` is the table that docs/sender.md shows. Promises:

- Samples leave a destination only by being settled: delivered, or refused for good by the receiver.
- HELD and WAITING have no way out that loses something; both end by themselves.
- A request size that was too large is never tried again in this run.
- Probes become rarer until something was delivered, so that a receiver that takes an empty write and refuses every
  other is not asked more often than one that refuses both.
- A wait is never shorter than the minimum and, but for what a receiver asks for, never longer than the maximum; what a
  receiver asks for is honored up to LONGEST_WISH. Hosts that failed at the same moment, or were given the same time, do
  not come back at the same moment (full jitter; `random` is 0 <= r < 1).
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple

from agent.destinations.base import Outcome, Verdict
from agent.send.pace import FIRST_PAUSE

LONGEST_WISH = 900.0
"""Seconds of a Retry-After that are honored: beyond that, asking again costs less than a wrong header."""

_MAX_DOUBLINGS = 63  # a larger power would overflow a float at some point


class State(StrEnum):
    """What a destination's lane is doing."""

    IDLE = "idle"
    """Everything that is due has been sent."""
    SENDING = "sending"
    WAITING = "waiting"
    """A request failed and will be repeated."""
    HELD = "held"
    """An operator has to correct something; nothing is sent but probes."""
    STOPPED = "stopped"


class Wait(Enum):
    """How long until the next request."""

    NONE = "none"
    BACKOFF = "`min_backoff` to `max_backoff`, or `Retry-After`"
    PROBE = "30 s to 5 minutes"


class Row(NamedTuple):
    """A row of the table."""

    state: State
    verdict: Verdict
    then: State
    wait: Wait
    samples: str
    """What happens to the samples of the request."""


TABLE = (
    Row(State.SENDING, Verdict.DELIVERED, State.IDLE, Wait.NONE, "settled"),
    Row(State.SENDING, Verdict.REJECTED, State.IDLE, Wait.NONE, "sent in parts until the culprits are found"),
    Row(State.SENDING, Verdict.REWRITE, State.IDLE, Wait.NONE, "sent again in another format"),
    Row(State.SENDING, Verdict.TOO_LARGE, State.IDLE, Wait.NONE, "sent again in requests of half the size"),
    Row(State.SENDING, Verdict.RETRY, State.WAITING, Wait.BACKOFF, "sent again, the same request"),
    Row(State.SENDING, Verdict.HELD, State.HELD, Wait.PROBE, "kept"),
    Row(State.HELD, Verdict.DELIVERED, State.IDLE, Wait.NONE, "sent"),
    Row(State.HELD, Verdict.REJECTED, State.IDLE, Wait.NONE, "sent"),
    Row(State.HELD, Verdict.REWRITE, State.IDLE, Wait.NONE, "sent in another format"),
    Row(State.HELD, Verdict.TOO_LARGE, State.IDLE, Wait.NONE, "sent"),
    Row(State.HELD, Verdict.RETRY, State.HELD, Wait.PROBE, "kept"),
    Row(State.HELD, Verdict.HELD, State.HELD, Wait.PROBE, "kept"),
)
"""By state and outcome. In HELD it is a probe that is answered: one that finds fault with the empty write itself shows
that the way to the receiver is open again."""

_ROWS = {(row.state, row.verdict): row for row in TABLE}


class Rules(NamedTuple):
    """Seconds: the minimum and the maximum between tries, and between probes; the first pause after an outage."""

    min_backoff: float
    max_backoff: float
    min_probe: float = 30.0
    max_probe: float = 300.0
    first_pause: float = FIRST_PAUSE


class Situation(NamedTuple):
    """What a delivery knows of its receiver's mood. Times are monotonic seconds."""

    limit: int
    """Samples in a request."""
    state: State = State.IDLE
    failures: int = 0
    """Failed tries of the request at hand, in a row."""
    probes: int = 0
    """Times it was held since something was delivered."""
    not_before: float = 0.0
    """When the next request may go out."""
    error: str | None = None
    """What is or was wrong last; None after a delivery."""


def after(
    was: Situation, samples: int, outcome: Outcome, now: float, rules: Rules, random: float
) -> Situation:
    """Return the situation after a request was answered: a probe in HELD, else one of `samples` samples."""
    state = State.HELD if was.state is State.HELD else State.SENDING
    verdict, limit = outcome.verdict, was.limit
    if verdict is Verdict.TOO_LARGE and state is State.SENDING:
        if 1 < samples <= limit:
            limit = samples // 2
        else:  # a single record, which only the receiver's limit can help
            verdict = Verdict.HELD
    row = _ROWS[state, verdict]
    if verdict is Verdict.DELIVERED and state is State.SENDING:
        return Situation(limit)
    found = was._replace(limit=limit, state=row.then, failures=0, error=outcome.error)
    if row.wait is Wait.BACKOFF:
        failures = was.failures + 1
        wait = retry_wait(failures, rules.min_backoff, rules.max_backoff, outcome.after, random)
        return found._replace(failures=failures, not_before=now + wait)
    if row.wait is Wait.PROBE:
        probes, wish = was.probes + 1, outcome.after if verdict is Verdict.RETRY else None
        wait = retry_wait(probes, rules.min_probe, rules.max_probe, wish, random)
        return found._replace(probes=probes, not_before=now + wait)
    return found._replace(error=was.error) if row.state is State.HELD or verdict is Verdict.REWRITE else found


def backoff(attempt: int, least: float, most: float, random: float) -> float:
    """Return seconds to wait after failure number `attempt` (from 1): full jitter over least..least * 2^attempt."""
    ceiling = min(most, least * 2.0 ** min(attempt, _MAX_DOUBLINGS))
    return least + (ceiling - least) * random


def retry_wait(attempt: int, least: float, most: float, wish: float | None, random: float) -> float:
    """Return seconds to wait before the next try; `wish` is what the receiver asked for, jitter comes on top."""
    return min(max(wish or 0.0, 0.0), LONGEST_WISH) + backoff(attempt, least, most, random)
