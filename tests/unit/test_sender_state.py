"""What follows from each outcome: the table, whole, and the waits."""

from __future__ import annotations

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.destinations.base import Outcome, Request, Verdict
from agent.send.state import (
    LONGEST_WISH,
    TABLE,
    Rules,
    Sent,
    Situation,
    State,
    Wait,
    after,
    backoff,
    even,
    honored,
)
from tools import states_table

RULES = Rules(1.0, 300.0, 1.0, 300.0)
NOW = 1000.0
IDLE = Situation(100)

DELIVERED = Outcome(Verdict.DELIVERED, 204)
RETRY = Outcome(Verdict.RETRY, 503, "HTTP 503")
UNREACHED = Outcome(Verdict.RETRY, 0, "refused", is_unreached=True)
LATER = Outcome(Verdict.RETRY, 429, "HTTP 429", 60.0)
HELD = Outcome(Verdict.HELD, 401, "HTTP 401")
TOO_LARGE = Outcome(Verdict.TOO_LARGE, 413, "HTTP 413")
REJECTED = Outcome(Verdict.REJECTED, 400, "HTTP 400: no")
REWRITE = Outcome(Verdict.REWRITE, 415, "HTTP 415")

W, H = State.WAITING, State.HELD
TROUBLED = Situation(7, W, 5, 3, NOW, "HTTP 503", troubles=5)
REQUESTS = {
    "delivered": (IDLE, 100, DELIVERED, IDLE),
    "delivered at last": (TROUBLED, 7, DELIVERED, Situation(7)),
    "refused": (TROUBLED, 7, REJECTED, Situation(7, State.IDLE, 0, 3, NOW, "HTTP 400: no")),
    "another format": (TROUBLED, 7, REWRITE, Situation(7, State.IDLE, 0, 3, NOW, "HTTP 503")),
    "first failure": (IDLE, 100, RETRY, Situation(100, W, 1, 0, NOW + 1.5, "HTTP 503", troubles=1)),
    "third failure": (
        IDLE._replace(failures=2, troubles=2),
        100,
        RETRY,
        Situation(100, W, 3, 0, NOW + 4.5, "HTTP 503", troubles=3),
    ),
    "not reached": (IDLE, 100, UNREACHED, Situation(100, W, 1, 0, NOW + 1.6, "refused")),
    "not reached for long": (
        TROUBLED._replace(failures=99),
        7,
        UNREACHED,
        Situation(7, W, 100, 3, NOW + 6.4, "refused", troubles=5),
    ),
    "trouble of a receiver that is back": (
        IDLE._replace(failures=99),
        100,
        RETRY,
        Situation(100, W, 100, 0, NOW + 1.5, "HTTP 503", troubles=1),
    ),
    "asked to wait": (IDLE, 100, LATER, Situation(100, W, 1, 0, NOW + 61.5, "HTTP 429", troubles=1)),
    "held": (IDLE._replace(failures=9), 100, HELD, Situation(100, H, 0, 1, NOW + 1.6, "HTTP 401")),
    "held again": (IDLE._replace(probes=9), 100, HELD, Situation(100, H, 0, 10, NOW + 240, "HTTP 401")),
    "too large": (IDLE, 100, TOO_LARGE, Situation(50, error="HTTP 413", largest=750, grow=32)),
    "too large below the limit": (IDLE, 31, TOO_LARGE, Situation(15, error="HTTP 413", largest=512, grow=32)),
    "a record above the limit is too large": (
        Situation(15),
        31,
        TOO_LARGE,
        Situation(15, error="HTTP 413", largest=512, grow=32),
    ),
    "too large, but one sample": (IDLE, 1, TOO_LARGE, Situation(100, H, 0, 1, NOW + 1.6, "HTTP 413")),
}
WAS_HELD = Situation(100, H, 0, 1, NOW, "HTTP 401")
FREE = WAS_HELD._replace(state=State.IDLE, answered=True)
PROBES = {
    "a good probe": (WAS_HELD, 0, DELIVERED, FREE),
    "every form is refused": (WAS_HELD, 0, REJECTED, Situation(100, H, 0, 2, NOW + 3.2, "HTTP 400: no")),
    "a probe too large, whatever that means": (
        WAS_HELD,
        0,
        TOO_LARGE,
        Situation(100, H, 0, 2, NOW + 3.2, "HTTP 413"),
    ),
    "a probe in another format": (WAS_HELD, 0, REWRITE, WAS_HELD),
    "still held": (WAS_HELD, 0, HELD, Situation(100, H, 0, 2, NOW + 3.2, "HTTP 401")),
    "a probe without connection": (WAS_HELD, 0, RETRY, Situation(100, H, 0, 2, NOW + 3.2, "HTTP 503")),
    "a probe that reaches nobody": (WAS_HELD, 0, UNREACHED, Situation(100, H, 1, 1, NOW + 1.6, "refused")),
    "a probe asked to wait": (WAS_HELD, 0, LATER, Situation(100, H, 0, 2, NOW + 63.2, "HTTP 429")),
}
IN_VAIN = Situation(100, W, 4, 0, NOW, "HTTP 500", troubles=4)
DOUBTS = {
    "answered while the request fails": (
        IN_VAIN,
        0,
        DELIVERED,
        IN_VAIN._replace(state=State.IDLE, answered=True),
    ),
    "nothing is answered": (IN_VAIN, 0, RETRY, Situation(100, W, 5, 0, NOW + 16.5, "HTTP 503", troubles=5)),
    "held by then": (IN_VAIN, 0, HELD, Situation(100, H, 0, 1, NOW + 1.6, "HTTP 401")),
    "in vain again": (
        IN_VAIN._replace(state=State.IDLE, answered=True),
        100,
        RETRY,
        Situation(100, W, 5, 0, NOW + 16.5, "HTTP 503", troubles=5),
    ),
}
CASES = REQUESTS | PROBES | DOUBTS


def test_when_a_probe_is_sent() -> None:
    assert [IN_VAIN._replace(troubles=n).asks for n in (0, 3, 4, 9)] == [False, False, True, True]
    assert IN_VAIN._replace(troubles=1, doubted=True).asks
    assert not IN_VAIN._replace(answered=True).asks
    assert WAS_HELD.asks


@pytest.mark.parametrize(("was", "samples", "outcome", "expected"), CASES.values(), ids=CASES)
def test_what_follows(was: Situation, samples: int, outcome: Outcome, expected: Situation) -> None:
    sent = Sent.PROBE if was.state is H else Sent.BATCH if samples else Sent.QUESTION
    request = Request(bytes(10 * samples), samples, "1.0")
    assert after(was, sent, request, outcome, NOW, RULES, 0.5) == expected


def test_the_table_has_a_row_for_everything_and_loses_nothing() -> None:
    rows = [(row.sent, row.verdict) for row in TABLE]
    assert len(rows) == len(set(rows))
    assert set(rows) == set(product(Sent, Verdict))
    for row in TABLE:
        assert (row.then is State.IDLE) <= (row.wait is Wait.NONE)
        assert (row.samples == "settled") == ((row.sent, row.verdict) == (Sent.BATCH, Verdict.DELIVERED))


def test_the_page_shows_the_table() -> None:
    page = states_table.PAGE.read_text(encoding="utf-8")
    assert page.count(states_table.BEGIN) == page.count(states_table.END) == 1
    assert states_table.renewed(page) == page, "renew it: python -m tools.states_table"
    assert all(row.samples in page and row.wait.value in page for row in TABLE)


def test_only_two_verdicts_settle_samples() -> None:
    assert {v for v in Verdict if Outcome(v).settles} == {Verdict.DELIVERED, Verdict.REJECTED}


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_lies_between_the_least_and_the_most(attempt: int, chance: float) -> None:
    assert 1.0 <= backoff(attempt, 1.0, 300.0, chance) <= 300.0


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0.01, 600))
def test_even_waits_lie_between_the_least_and_the_most(attempt: int, chance: float, least: float) -> None:
    assert least <= even(attempt, least, 300.0, chance) <= max(least, 300.0)


def test_even_waits_double() -> None:
    assert [even(n, 1.0, 300.0, 0.0) for n in (1, 2, 3, 20)] == pytest.approx([1.2, 2.4, 4.8, 180])
    assert [even(n, 1.0, 300.0, 0.999999) for n in (1, 2, 3, 20)] == pytest.approx([2, 4, 8, 300], rel=1e-3)


def test_waits_grow_and_are_spread() -> None:
    grown = [backoff(n, 1.0, 300.0, 0.999999) for n in (1, 2, 3, 20)]
    assert grown == pytest.approx([2, 4, 8, 300], rel=1e-3)
    assert [backoff(n, 1.0, 300.0, 0.0) for n in (1, 2, 20)] == [1.0, 1.0, 1.0]
    dice = random.Random(1)
    waits = sorted(backoff(10, 1.0, 300.0, dice.random()) for _ in range(1000))
    assert waits[100] < 60  # a fleet does not come back as one
    assert waits[900] > 240


@pytest.mark.parametrize(
    ("wish", "least"), [(None, 0), (-3.0, 0), (60.0, 60), (1e12, LONGEST_WISH), (float("inf"), LONGEST_WISH)]
)
def test_what_a_receiver_asks_for_is_honored_up_to_a_ceiling(wish: float | None, least: float) -> None:
    assert honored(wish) == least
