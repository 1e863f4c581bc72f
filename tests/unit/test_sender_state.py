from __future__ import annotations

import pytest

from agent.destinations.remote_write.outcome import Outcome, Verdict
from agent.send.state import Rules, Situation, State, after_batch, after_probe, settles

RULES = Rules(1.0, 300.0, 30.0, 300.0)
NOW = 1000.0
SENDING = Situation(100, State.SENDING)

DELIVERED = Outcome(Verdict.DELIVERED, 204)
RETRY = Outcome(Verdict.RETRY, 503, "HTTP 503")
LATER = Outcome(Verdict.RETRY, 429, "HTTP 429", 60.0)
HELD = Outcome(Verdict.HELD, 401, "HTTP 401")
TOO_LARGE = Outcome(Verdict.TOO_LARGE, 413, "HTTP 413")
REJECTED = Outcome(Verdict.REJECTED, 400, "HTTP 400: no")

BATCHES = {
    "delivered": (SENDING, 100, DELIVERED, Situation(100)),
    "delivered at last": (
        SENDING._replace(failures=5, probes=3, error="HTTP 503", limit=7),
        7,
        DELIVERED,
        Situation(7),
    ),
    "refused": (
        SENDING._replace(failures=5, probes=3),
        100,
        REJECTED,
        Situation(100, State.IDLE, 0, 3, 0.0, "HTTP 400: no"),
    ),
    "first failure": (SENDING, 100, RETRY, Situation(100, State.WAITING, 1, 0, NOW + 1.5, "HTTP 503")),
    "third failure": (
        SENDING._replace(failures=2),
        100,
        RETRY,
        Situation(100, State.WAITING, 3, 0, NOW + 4.5, "HTTP 503"),
    ),
    "asked to wait": (SENDING, 100, LATER, Situation(100, State.WAITING, 1, 0, NOW + 61.5, "HTTP 429")),
    "held": (SENDING._replace(failures=9), 100, HELD, Situation(100, State.HELD, 0, 1, NOW + 45, "HTTP 401")),
    "held again": (
        SENDING._replace(probes=9),
        100,
        HELD,
        Situation(100, State.HELD, 0, 10, NOW + 165, "HTTP 401"),
    ),
    "too large": (SENDING, 100, TOO_LARGE, Situation(50, State.IDLE, 0, 0, 0.0, "HTTP 413")),
    "too large below the limit": (SENDING, 31, TOO_LARGE, Situation(15, State.IDLE, 0, 0, 0.0, "HTTP 413")),
    "too large, but one record": (
        SENDING._replace(limit=15),
        31,
        TOO_LARGE,
        Situation(15, State.HELD, 0, 1, NOW + 45, "HTTP 413"),
    ),
    "too large, but one sample": (
        SENDING,
        1,
        TOO_LARGE,
        Situation(100, State.HELD, 0, 1, NOW + 45, "HTTP 413"),
    ),
}


@pytest.mark.parametrize(("was", "samples", "outcome", "expected"), BATCHES.values(), ids=BATCHES)
def test_after_a_batch(was: Situation, samples: int, outcome: Outcome, expected: Situation) -> None:
    assert after_batch(was, samples, outcome, NOW, RULES, 0.5) == expected


WAS_HELD = Situation(100, State.HELD, 0, 1, NOW, "HTTP 401")
FREE = Situation(100, State.IDLE, 0, 1, NOW, "HTTP 401")

PROBES = {
    "good": (DELIVERED, FREE),
    "the empty write is refused: the way there is open": (REJECTED, FREE),
    "too large, whatever that means": (TOO_LARGE, FREE),
    "still held": (HELD, Situation(100, State.HELD, 0, 2, NOW + 75, "HTTP 401")),
    "no connection": (RETRY, Situation(100, State.HELD, 0, 2, NOW + 75, "HTTP 503")),
    "asked to wait": (LATER, Situation(100, State.HELD, 0, 2, NOW + 135, "HTTP 429")),
}


@pytest.mark.parametrize(("outcome", "expected"), PROBES.values(), ids=PROBES)
def test_after_a_probe(outcome: Outcome, expected: Situation) -> None:
    assert after_probe(WAS_HELD, outcome, NOW, RULES, 0.5) == expected


def test_only_two_verdicts_settle_a_batch() -> None:
    assert {v for v in Verdict if settles(Outcome(v))} == {Verdict.DELIVERED, Verdict.REJECTED}
