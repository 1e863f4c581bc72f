"""Two clocks, compared by the Date of answers."""

from __future__ import annotations

import random
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.destinations.base import Verdict
from agent.destinations.clocks import skew
from agent.destinations.remote_write.outcome import classify
from agent.http.answer import date

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("begun", "ended", "before", "expected"),
    [
        (NOW, NOW, 0.0, 0.0),
        (NOW + 0.9, NOW + 0.95, 0.0, 0.0),  # a Date has whole seconds
        (NOW + 7, NOW + 8, 0.0, 6.0),
        (NOW - 7, NOW - 6, 0.0, -6.0),
        (NOW - 30, NOW + 30, 41.0, 30.0),  # a slow answer says little, but not nothing
        (NOW - 30, NOW + 30, 5.0, 5.0),
        (NOW, NOW + 0.1, 41.0, 0.1),  # the clock was set
    ],
)
def test_the_skew_lies_where_every_answer_allows_it(
    begun: float, ended: float, before: float, expected: float
) -> None:
    assert skew(NOW, begun, ended, before) == pytest.approx(expected)


@given(st.floats(-1e5, 1e5), st.integers(0, 1 << 30))
def test_it_becomes_exact(off: float, seed: int) -> None:
    some, found, now = random.Random(seed), 0.0, NOW
    for _ in range(200):
        now += 30 + some.random()
        took = some.random() / 10
        found = skew(float(int(now + took / 2)), now + off, now + off + took, found)
        assert abs(found) <= abs(off) + 1e-6 or abs(found - off) <= 1
    assert found == pytest.approx(off, abs=0.2) or abs(off) < 1


def test_only_the_time_of_the_receiver_itself_counts() -> None:
    headers = {"date": formatdate(NOW, usegmt=True)}
    told = {status: classify(status, headers, b"", NOW).date for status in (204, 400, 401, 302, 407, 503)}
    assert told == {204: NOW, 400: NOW, 401: None, 302: None, 407: None, 503: None}
    portal = classify(200, {**headers, "content-type": "text/html"}, b"<html>", NOW)
    assert (portal.verdict, portal.date) == (Verdict.HELD, None)


@pytest.mark.parametrize("text", ["", "yesterday", "Sun, 99 Jun 99999 15:06:40 GMT", "0"])
def test_what_is_no_date_says_nothing(text: str) -> None:
    assert date(text) is None
    assert classify(204, {"date": text}, b"", NOW).date is None
