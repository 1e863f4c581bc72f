"""What a lane does next: the pure half of the sender. No clock, no socket, no randomness of its own.

    IDLE --work--> SENDING --delivered, rejected--> IDLE
                   SENDING --retry-----> WAITING --time--> SENDING    the same batch
                   SENDING --held------> HELD    --time--> probe --held, retry--> HELD
                                                           probe --any other----> IDLE
                   SENDING --too large-> IDLE with half the batch size, or HELD if it was one record
                   SENDING --fall back-> IDLE, and the same samples go out in another protocol

Promises:
- A batch, or a part of it, leaves a lane only by being settled: delivered, or rejected by the receiver.
- HELD and WAITING have no way out that loses something; both end by themselves.
- A batch size that was too large is never tried again in this run.
- Probing grows slower until something was delivered, so that a receiver that takes an empty write and
  refuses every other is not asked more often than one that refuses both.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from agent.destinations.remote_write.outcome import Outcome, Verdict
from agent.send.backoff import backoff, retry_wait
from agent.send.pace import FIRST_PAUSE


class State(StrEnum):
    """What a destination's lane is doing."""

    IDLE = "idle"
    """Everything that is due has been sent."""
    SENDING = "sending"
    WAITING = "waiting"
    """A request failed and will be repeated."""
    HELD = "held"
    """An operator has to mend something; nothing is sent but probes."""
    STOPPED = "stopped"


class Rules(NamedTuple):
    """Seconds: the least and the most between tries, and between probes; the first pause after an outage."""

    min_backoff: float
    max_backoff: float
    min_probe: float = 30.0
    max_probe: float = 300.0
    first_pause: float = FIRST_PAUSE


class Situation(NamedTuple):
    """All that a lane remembers between requests. Times are the lane's monotonic seconds."""

    limit: int
    """Samples per batch."""
    state: State = State.IDLE
    failures: int = 0
    """Failed tries of the batch at hand, in a row."""
    probes: int = 0
    """Times it was held since something was delivered."""
    not_before: float = 0.0
    """When the next request may go out."""
    error: str | None = None


def settles(outcome: Outcome) -> bool:
    """Whether the request is done with, one way or the other."""
    return outcome.verdict in (Verdict.DELIVERED, Verdict.REJECTED)


def after_batch(
    was: Situation, samples: int, outcome: Outcome, now: float, rules: Rules, random: float
) -> Situation:
    """The situation after a batch of `samples` had this outcome. `random` is in 0..1."""
    verdict = outcome.verdict
    if verdict is Verdict.DELIVERED:
        return Situation(was.limit)
    if verdict is Verdict.REJECTED:
        return was._replace(state=State.IDLE, failures=0, error=outcome.error)
    if verdict is Verdict.FALL_BACK:
        return was._replace(state=State.IDLE, failures=0)
    if verdict is Verdict.RETRY:
        failures = was.failures + 1
        wait = retry_wait(failures, rules.min_backoff, rules.max_backoff, outcome.after, random)
        return was._replace(
            state=State.WAITING, failures=failures, not_before=now + wait, error=outcome.error
        )
    if verdict is Verdict.TOO_LARGE and 1 < samples <= was.limit:
        return was._replace(limit=samples // 2, state=State.IDLE, failures=0, error=outcome.error)
    # Held; or too large although it was a single record, which only the receiver's limit can mend.
    return _held(was, outcome, now, rules, random)


def after_probe(was: Situation, outcome: Outcome, now: float, rules: Rules, random: float) -> Situation:
    """The situation after a held destination was sent an empty write.

    An answer that finds fault with the write itself is good: the way there is open again.
    """
    if outcome.verdict in (Verdict.HELD, Verdict.RETRY):
        return _held(was, outcome, now, rules, random)
    return was._replace(state=State.IDLE, failures=0, not_before=now)


def _held(was: Situation, outcome: Outcome, now: float, rules: Rules, random: float) -> Situation:
    probes = was.probes + 1
    if outcome.verdict is Verdict.RETRY:  # no connection, or asked to come later
        wait = retry_wait(probes, rules.min_probe, rules.max_probe, outcome.after, random)
    else:
        wait = backoff(probes, rules.min_probe, rules.max_probe, random)
    return was._replace(
        state=State.HELD, failures=0, probes=probes, not_before=now + wait, error=outcome.error
    )
