"""How soon hosts are back after an outage, and what their receiver sees of them: the waits of `state`, in simulated time.

Each host sends at its own moment of the deadline, as in steady flow, and meets the outage there.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from statistics import median
from typing import NamedTuple

import pytest

from agent.config import QueueConfig
from agent.destinations.base import Outcome, Request, Verdict
from agent.send.state import Rules, Sent, Situation, State, after

RULES = Rules(QueueConfig().min_backoff, QueueConfig().max_backoff)
SAMPLES, EMPTY = Request(bytes(1000), 1000, "2.0"), Request(b"", 0, "2.0")
REFUSED = Outcome(Verdict.RETRY, 0, "connection refused", is_unreached=True)
TROUBLE = Outcome(Verdict.RETRY, 503, "HTTP 503")
MISSING = Outcome(Verdict.HELD, 404, "HTTP 404")
DELIVERED = Outcome(Verdict.DELIVERED, 204)


class Seen(NamedTuple):
    """When each host was back, in seconds, and the requests in each second since the receiver was."""

    back: list[float]
    requests: Counter[int]
    tries: int
    """During the outage, of all hosts."""


def returned(hosts: int, outage: float, outcome: Outcome, deadline: float, seed: int = 1) -> Seen:
    """An outage that ends at 0, in which every request has this outcome, and a minute behind the last return."""
    dice, back, requests, tries = Random(seed), list[float](), Counter[int](), 0
    for _ in range(hosts):
        situation, now, is_back = Situation(10_000), deadline * dice.random() - outage, False
        while now < 120:
            asks = situation.asks
            sent = Sent.PROBE if situation.state is State.HELD else Sent.QUESTION if asks else Sent.BATCH
            answer = outcome if now < 0 else DELIVERED
            request = EMPTY if asks else SAMPLES
            situation = after(situation, sent, request, answer, now, RULES, dice.random())
            if now < 0:
                tries += 1
            else:
                requests[int(now)] += 1
            if now < 0:
                now = situation.not_before
            elif not asks:
                back += [] if is_back else [now]
                is_back, now = True, now + deadline
    return Seen(back, requests, tries)


def test_one_host_is_back_within_seconds_of_a_receiver_that_refused_connections() -> None:
    back = [returned(1, 120, REFUSED, 30.0, seed).back[0] for seed in range(500)]
    assert median(back) < 4
    assert max(back) < 10


@pytest.mark.parametrize("outage", [20, 120, 7_200])
@pytest.mark.parametrize("deadline", [5.0, 30.0])
def test_a_fleet_whose_receiver_refused_connections(outage: float, deadline: float) -> None:
    seen = returned(150, outage, REFUSED, deadline)
    assert max(seen.back) < 10
    assert median(seen.back) < 4.5
    # At most 150 hosts in 6.4 seconds, by chance some more in one of them.
    assert max(seen.requests.values()) <= max(3 * 150 / deadline, 1.6 * 150 / 6.4)
    assert seen.tries < 150 * (outage / 6 + 5)  # a try is the refusal of a connection


def test_a_fleet_after_an_hour_of_503() -> None:
    seen = returned(150, 3600, TROUBLE, 30.0)
    assert max(seen.back) < 90
    assert max(seen.requests.values()) <= 5 * 150 / 30  # an empty write first, and then the batch
    assert seen.tries < 150 * 3600 / 25


def test_a_short_trouble_costs_seconds() -> None:
    for outcome in (TROUBLE, MISSING):
        back = [returned(1, 32, outcome, 30.0, seed).back[0] for seed in range(300)]
        assert median(back) < 10
        assert max(back) < 60


def test_a_receiver_that_starts_behind_a_closed_port_is_not_waited_for_as_if_it_were_in_trouble() -> None:
    situation = Situation(10_000)
    for _ in range(500):
        situation = after(situation, Sent.BATCH, SAMPLES, REFUSED, 0.0, RULES, 0.5)
    assert not situation.asks
    situation = after(situation, Sent.BATCH, SAMPLES, TROUBLE, 0.0, RULES, 0.999)
    assert situation.not_before < 2
