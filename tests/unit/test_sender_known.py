"""A refusal that lasts is not searched for again and again: what was proven is carried from batch to batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.config import QueueConfig
from agent.http.answer import Answer
from agent.send.known import MOST_BYTES, Known
from agent.send.known import REFUSED as REFUSED_WITH_OTHERS
from agent.system.events import Event
from buffer.model import Series
from tests.support import wire
from tests.support.scripted import Rig, Script

QUEUE = QueueConfig(batch_send_deadline=30.0, min_backoff=1.0, max_backoff=60.0)
REFUSED = Answer(400, {}, b"label value too long")
DUPLICATE = Answer(400, {}, b"duplicate sample for timestamp")
LATE = Answer(400, {}, b"out of order sample")


def many(count: int) -> tuple[Series, ...]:
    return tuple(Series(f"m{i:05}", (("hostname", "a"),)) for i in range(count))


class Host(Rig):
    """A host whose receiver refuses some series; `batch` lets a batch go out, and returns the requests that it took."""

    def __init__(self, refuse: Callable[[wire.Write], Answer | None]) -> None:
        script = Script()
        script.refuse = refuse
        super().__init__(queue=QUEUE, script=script)

    def batch(self, series: tuple[Series, ...], ticks: int = 1) -> int:
        before = len(self.script.bodies)
        self.collect(ticks, series)
        self.drain()
        self.now += 30
        return len(self.script.bodies) - before

    def hour(self, series: tuple[Series, ...]) -> int:
        """Return the requests of an hour."""
        return sum(self.batch(series) for _ in range(120))

    def balances(self) -> None:
        """Each sample is delivered, or in the quarantine, and none is in both."""
        delivered, dropped = self.ledger
        kept = self.kept()
        assert delivered == sum(map(len, self.script.stored.values()))
        assert sum(dropped.values()) == sum(map(len, kept.values()))
        everything = self.everything()
        for labels, samples in kept.items():
            assert not samples.keys() & self.script.stored.get(labels, {}).keys()
            assert samples.items() <= everything[labels].items()
        assert delivered + sum(dropped.values()) == sum(map(len, everything.values()))


def names(write: wire.Write) -> set[str]:
    return {dict(one.labels)["__name__"] for one in write.series}


def refuses(bad: set[str], answer: Answer = REFUSED) -> Callable[[wire.Write], Answer | None]:
    return lambda write: answer if bad & names(write) else None


def test_of_200_series_each_third_is_refused_and_the_others_flow_after_200_requests() -> None:
    series = many(200)
    bad = {one.name for i, one in enumerate(series) if i % 3 == 0}
    host = Host(refuses(bad))
    extra = 0
    for _ in range(12):
        extra += host.batch(series) - 1
    assert extra <= 200
    stored = host.script.stored
    assert {dict(labels)["__name__"] for labels in stored} == {one.name for one in series} - bad
    before = sum(map(len, stored.values()))
    assert host.hour(series) - 120 <= 60  # what the budget had saved
    assert sum(map(len, stored.values())) - before == 120 * (200 - len(bad))
    assert sum(host.batch(series) for _ in range(36)) - 36 <= 3 + 1  # and from now on ten an hour
    host.balances()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(DUPLICATE, "duplicate"), (LATE, "aged")],
    ids=["the second of two agents with one hostname", "late for each series"],
)
def test_what_is_refused_of_each_series_is_tried_again_rarely(answer: Answer, reason: str) -> None:
    host = Host(lambda write: answer if write.series else None)
    series = many(20)
    host.hour(series)
    assert host.hour(series) <= 10
    delivered, dropped = host.ledger
    assert (delivered, set(dropped)) == (0, {reason})
    host.balances()


def test_many_series_that_are_refused_in_words_of_their_own_are_written_together() -> None:
    bad = {one.name for one in many(200)[::3]}

    def refuse(write: wire.Write) -> Answer | None:
        found = sorted(bad & names(write))
        return Answer(400, {}, f"out of order sample for series {found[0]}".encode()) if found else None

    host = Host(refuse)
    host.hour(many(200))
    with capture_logs() as logs:
        host.batch(many(200))
    assert sum(one["event"] == Event.QUARANTINED for one in logs) <= 8 + 1
    host.balances()


def test_one_sample_that_the_receiver_has_is_a_duplicate_and_not_kept() -> None:
    host = Host(refuses({"m00003"}, DUPLICATE))
    host.batch(many(20))
    assert host.ledger == (19, {"duplicate": 1})
    assert host.items() == []
    host.batch(many(20), ticks=3)  # of several it is not known which
    assert host.ledger[1]["duplicate"] == 4
    assert sum(map(len, host.kept().values())) == 3


def test_what_is_fixed_is_taken_again_by_itself() -> None:
    bad = {"m00001", "m00007"}
    host = Host(lambda write: refuses(bad)(write))
    series = many(40)
    host.hour(series)
    bad.clear()
    before = host.ledger[1]
    host.batch(series)
    for _ in range(12):  # six minutes: then the agent tries it again
        host.batch(series)
    assert sum(host.ledger[1].values()) - sum(before.values()) <= 2 * 12
    dropped = host.ledger[1]
    assert host.batch(series) == 1
    assert host.ledger[1] == dropped
    host.balances()


def test_what_is_fixed_of_several_is_taken_again_although_the_others_are_not() -> None:
    bad = {"m00001", "m00007", "m00011"}
    host = Host(lambda write: refuses(bad)(write))
    series = many(20)
    host.hour(series)
    bad.remove("m00007")
    host.hour(series)
    before = sum(host.ledger[1].values())
    host.batch(series)
    assert sum(host.ledger[1].values()) - before == len(bad)
    host.balances()


def test_a_series_that_is_refused_later_is_found_while_others_are_known() -> None:
    bad = {"m00001"}
    host = Host(lambda write: refuses(bad)(write))
    series = many(100)
    host.hour(series)
    bad.add("m00077")
    assert host.batch(series) <= 1 + 14 + 1
    assert host.batch(series) <= 2
    assert {dict(labels)["__name__"] for labels in host.kept()} == bad
    host.balances()


def test_a_receiver_that_refuses_at_random_is_not_asked_without_end() -> None:
    state = 1

    def refuse(write: wire.Write) -> Answer | None:
        nonlocal state
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        return REFUSED if write.series and state >> 16 & 1 else None

    host = Host(refuse)
    series = many(20)
    for _ in range(2):
        host.hour(series)
    assert host.hour(series) - 120 <= 20
    host.balances()


def test_a_way_that_breaks_in_a_search_teaches_nothing() -> None:
    host = Host(refuses({"m00003"}))
    series = many(20)
    host.script.to_empty = Answer(400, {}, b"No required SSL certificate was sent")
    broken = Answer(400, {}, b"No required SSL certificate was sent")
    host.script.answers = [REFUSED, *[broken] * 40]
    host.collect(1, series)
    for _ in range(30):
        host.step()
    assert host.ledger == (0, {})
    host.script.to_empty, host.script.answers = None, []
    host.drain()
    assert host.ledger == (19, {"rejected": 1})


@settings(deadline=None, max_examples=12)
@given(st.sets(st.integers(0, 19)), st.integers(1, 4), st.sampled_from([REFUSED, DUPLICATE, LATE]))
def test_whatever_is_refused_all_innocent_series_flow_in_the_end(
    bad: set[int], ticks: int, answer: Answer
) -> None:
    series = many(20)
    culprits = {series[i].name for i in bad}
    host = Host(refuses(culprits, answer))
    for _ in range(6):
        host.batch(series, ticks)
    innocent = {one.name for one in series} - culprits
    if len(bad) < 20:
        before = {labels: len(samples) for labels, samples in host.script.stored.items()}
        assert {dict(labels)["__name__"] for labels in before} == innocent
        host.batch(series, ticks)
        assert all(len(host.script.stored[labels]) == had + ticks for labels, had in before.items())


def test_what_is_remembered_of_long_names_is_bounded() -> None:
    known = Known(lambda: 0.0)
    for scrape in range(20):
        bad = {b"%d-%d" % (scrape, i) + bytes(1 << 16): REFUSED_WITH_OTHERS for i in range(100)}
        known.learn(bad, {})
        assert known.series >= bad.keys()
    assert sum(map(len, known.series)) <= 2 * MOST_BYTES
