"""A request that fails while the receiver answers: after some failures the question changes, and nothing is lost for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import QueueConfig
from agent.http.answer import Answer
from agent.http.failures import Cause, Failure
from agent.send.state import PATIENCE, State
from buffer.model import Series
from tests.support import wire
from tests.support.scripted import DELIVERED, NO_ANSWER, RETRY, TOO_LARGE, Rig, Script

QUEUE = QueueConfig(max_samples_per_send=10_000, batch_send_deadline=30.0, min_backoff=1.0, max_backoff=60.0)
TIMEOUT = Failure(Cause.TIMEOUT, "timeout: no answer within 30 s")


def many(count: int) -> tuple[Series, ...]:
    return tuple(Series(f"m{i:05}", (("hostname", "a"),)) for i in range(count))


def rig(refuse: Callable[[wire.Write, int], Answer | Failure | None], lost: bool = False) -> Rig:
    """A host whose receiver answers as `refuse` says, given what is in a request and its bytes."""
    script = Script(lost=lost)
    script.refuse = lambda write: refuse(write, len(script.bodies[-1])) if write.series else None
    return Rig(queue=QUEUE, script=script)


SIZES = {
    "429, since a request exceeds the burst": lambda write, _: (
        Answer(429, {}, b"ingestion rate limit (1111) exceeded") if write.samples > 3333 else None
    ),
    "a gateway is slower than the timeout": lambda write, _: TIMEOUT if write.samples > 700 else None,
    "504 of a gateway": lambda write, _: Answer(504, {}, b"") if write.samples > 2500 else None,
    "403 of a firewall, by size": lambda _, size: Answer(403, {}, b"blocked") if size > 8000 else None,
    "a connection reset, by size": lambda _, size: Failure(Cause.CUT, "reset") if size > 16_000 else None,
    "500 by size": lambda write, _: Answer(500, {}, b"out of memory") if write.samples > 100 else None,
    "404 of a web application firewall": lambda _, size: Answer(404, {}, b"") if size > 4000 else None,
}


@pytest.mark.parametrize("refuse", SIZES.values(), ids=SIZES)
def test_what_fails_for_its_size_goes_out_in_smaller_requests(
    refuse: Callable[[wire.Write, int], Answer | Failure | None],
) -> None:
    one = rig(refuse)
    one.collect(25, many(161))
    one.drain()
    assert one.ledger == (4025, {})
    assert one.script.stored == one.everything()
    before = len(one.script.bodies)
    one.collect(25, many(161))  # the size is known now
    one.drain()
    refused = [n for n, body in enumerate(one.script.bodies[before:]) if refuse(wire.decode(body), len(body))]
    assert len(refused) <= 6  # a larger one now and then
    assert one.ledger == (8050, {})


def test_a_size_that_was_learned_grows_back() -> None:
    small = True
    one = rig(lambda write, _: RETRY if small and write.samples > 100 else None)
    one.collect(20, many(50))
    one.drain()
    small = False
    one.collect(300, many(50))
    one.drain()
    assert max(one.script.sizes[-20:]) >= 300


@pytest.mark.parametrize("answer", [Answer(500, {}, b"panic"), TIMEOUT, Answer(403, {}, b"blocked")])
def test_one_series_that_makes_the_receiver_fail_waits_apart(answer: Answer | Failure) -> None:
    bad = {"m00077"}
    one = rig(lambda write, _: answer if bad & {dict(s.labels)["__name__"] for s in write.series} else None)
    one.collect(6, many(161))
    one.drain()
    assert one.ledger == (960, {"apart": 6})
    assert "m00077: 6 samples wait apart" in (one.lane.error or "")
    assert [(reason, status) for _, reason, status, _ in one.items()] == [
        ("apart", answer.status),
    ]
    assert len(one.script.bodies) <= PATIENCE + 5 * 8 + 4
    before = len(one.script.bodies)
    one.collect(6, many(161))
    one.drain()
    assert len(one.script.bodies) == before + 1  # it is not asked about again
    assert one.ledger == (1920, {"apart": 12})
    stored = {k: v for k, v in one.everything().items() if dict(k)["__name__"] not in bad}
    assert one.script.stored == stored


def test_two_series_that_make_the_receiver_fail_wait_apart() -> None:
    bad = {"m00000", "m00001"}
    one = rig(lambda write, _: RETRY if bad & {dict(s.labels)["__name__"] for s in write.series} else None)
    one.collect(3, many(40))
    one.drain()
    assert one.ledger == (114, {"apart": 6})


def test_an_outage_that_answers_probes_sets_nothing_apart() -> None:
    out = True
    one = rig(lambda write, _: RETRY if out else None)
    one.collect(3, many(20))
    for _ in range(300):
        one.step()
    assert one.ledger == (0, {})
    assert one.lane.state is not State.STOPPED
    out = False
    one.drain()
    assert one.ledger == (60, {})
    assert one.script.stored == one.everything()


def test_an_outage_changes_nothing() -> None:
    one = Rig([NO_ANSWER] * 30, queue=QUEUE)
    one.collect(3, many(20))
    one.drain()
    assert one.script.sizes[:PATIENCE] == [60] * PATIENCE
    assert one.script.sizes[PATIENCE:] == [0] * (31 - PATIENCE) + [60]


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(0, 29), max_size=20), st.integers(6, 200), st.booleans())
def test_whatever_fails_the_rest_arrives_in_order(bad: set[int], size: int, lost: bool) -> None:
    names = {f"m{i:05}" for i in bad}
    one = rig(
        lambda write, _: (
            NO_ANSWER
            if write.samples > size or names & {dict(s.labels)["__name__"] for s in write.series}
            else None
        ),
        lost,
    )
    one.collect(6, many(30))
    one.drain()
    delivered, dropped = one.ledger
    kept = {dict(labels)["__name__"] for labels in one.kept()}
    assert kept <= names
    assert delivered + dropped.get("apart", 0) == 180
    assert sum(map(len, one.kept().values())) == dropped.get("apart", 0)


@pytest.mark.parametrize("restart", [False, True])
def test_what_waited_apart_is_sent_in_order_when_it_is_taken_again(restart: bool) -> None:
    bad = True
    one = rig(
        lambda write, _: (
            RETRY if bad and any(dict(s.labels)["__name__"] == "m00003" for s in write.series) else None
        )
    )
    for _ in range(3):
        one.collect(2, many(20))
        one.drain()
    assert one.ledger == (114, {"apart": 6})
    if restart:
        one.start_again()
    requests = len(one.script.bodies)
    for _ in range(5):
        one.now += 3600
        one.collect(1, many(20))
        one.drain()
        one.step()
    assert len(one.script.bodies) <= requests + 10  # one try in an hour
    bad = False
    one.now += 3600
    one.collect(1, many(20))
    one.drain()
    for _ in range(12):
        one.step()
    one.collect(1, many(20))
    one.now += 30
    one.drain()
    assert one.ledger == (len(one.appended) * 20, {})
    assert one.script.stored == one.everything()  # which checks the order of each series
    assert not one.items()


def test_what_waited_apart_for_long_returns_in_requests_that_fit() -> None:
    bad = True
    one = rig(
        lambda write, _: (
            RETRY
            if write.samples > 60
            or (bad and any(dict(s.labels)["__name__"] == "m00003" for s in write.series))
            else None
        )
    )
    for _ in range(40):
        one.collect(3, many(20))
        one.drain()
    assert one.ledger == (120 * 19, {"apart": 120})
    [item] = one.quarantine.items()  # one for all of them
    assert item.samples == 120
    bad = False
    for _ in range(12):
        one.now += 3600
        one.step()
    assert one.ledger == (120 * 20, {})
    assert one.script.stored == one.everything()
    assert not one.items()


@pytest.mark.parametrize(
    "small",
    [
        pytest.param(lambda write, _: write.samples > 8, id="in samples"),
        pytest.param(lambda _, size: size > 300, id="in bytes"),
    ],
)
@pytest.mark.parametrize("restart", [False, True])
def test_a_tick_that_waited_apart_returns_to_a_receiver_that_takes_less_by_now(
    small: Callable[[wire.Write, int], bool], restart: bool
) -> None:
    bad, is_small = True, False
    names = {f"m{i:05}" for i in range(40)}

    def refuse(write: wire.Write, size: int) -> Answer | None:
        if is_small and small(write, size):
            return TOO_LARGE
        return RETRY if bad and names & {dict(s.labels)["__name__"] for s in write.series} else None

    one = rig(refuse)
    for _ in range(3):
        one.collect(2, many(120))
        one.drain()
    assert one.ledger == (6 * 80, {"apart": 6 * 40})
    if restart:
        one.start_again()
    bad, is_small, since = False, True, one.now
    for _ in range(200):
        one.step()
        if not one.items():
            break
    assert one.now - since <= 2 * 3600  # with the next try, and not half as large each hour
    assert one.ledger == (6 * 120, {})
    assert one.script.stored == one.everything()


def test_what_a_search_has_settled_is_not_sent_again_when_the_rest_of_it_fails() -> None:
    refused, held = Answer(400, {}, b"label value too long"), Answer(404, {}, b"")
    answers = [
        refused,
        DELIVERED,
        held,
        DELIVERED,
        held,
        DELIVERED,
        RETRY,
        DELIVERED,
        DELIVERED,
        RETRY,
        DELIVERED,
        RETRY,
    ]
    one = Rig(answers)
    one.collect(40)
    one.drain()
    delivered, dropped = one.ledger
    assert delivered == sum(map(len, one.script.stored.values()))
    assert delivered + sum(dropped.values()) == 80
