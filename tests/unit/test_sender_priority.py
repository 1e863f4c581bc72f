"""`data_budget.priority`: what has it goes out to the end of the period, the rest in the next one, and nothing twice."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from agent.config import ConfigErrors, DataBudget, load
from agent.send.course import Course
from agent.send.thrift import NEXT
from buffer import hints
from buffer.ledger import load_hints
from tests.support import wire
from tests.support.scripted import NO_ANSWER, OLD, RETRY, Samples
from tests.unit.test_sender_budget import DAY, MONTH, START, Host

FIRST = ("s1", '{__name__=~"s[23]"}')
MONTHLY = DataBudget(per_month=1_000_000, priority=FIRST)
DAILY = DataBudget(per_day=110_000, priority=FIRST)
NAMES = frozenset(("s1", "s2", "s3"))


class Ordered(Host):
    """A host whose receiver takes nothing twice, and nothing of a series that is older than what it has.

    `signs` are the signs of life. While it is not `is_strict`, the same samples may come again.
    """

    def __init__(self, budget: DataBudget, *, deadline: float = 300.0) -> None:
        super().__init__(budget, deadline=deadline)
        self.arrived: list[tuple[float, str]] = []
        self.is_strict = True
        self.signs: Samples = {}
        self.paid.store = self.store  # type: ignore[method-assign]
        self.paid.signed = self.signed  # type: ignore[method-assign]

    def store(self, write: wire.Write) -> None:
        for labels, samples, *_ in write.series:
            known = self.paid.stored.setdefault(labels, {})
            for at, value in samples:
                if self.is_strict:
                    assert at > max(known, default=-1), "sent twice, or out of order"
                assert known.setdefault(at, value) == value
                self.arrived.append((self.time, dict(labels)["__name__"]))

    def signed(self, write: wire.Write) -> None:
        for labels, samples, *_ in write.series:
            self.signs.setdefault(labels, {}).update(samples)

    @property
    def is_waiting(self) -> bool:
        return "priority" in (self.rig.lane.error or "")

    def goes_ahead(self) -> bool:
        """Whether something with priority is settled before the rest."""
        return self.rig.cursor.priority is not None

    def until(self, reached: Callable[[], bool], *, every: float = 600.0) -> None:
        for _ in range(2000):
            if reached():
                return
            self.run(every, every)
        raise AssertionError("it does not come to that")

    def newest(self, names: frozenset[str]) -> list[int]:
        """The newest sample of each of these series (s since START)."""
        found = {dict(labels)["__name__"]: max(samples) for labels, samples in self.paid.stored.items()}
        return [int(at / 1000 - START) for name, at in found.items() if name in names]

    def misses(self) -> int:
        """How many samples did not arrive as they were collected."""
        stored = self.paid.stored
        wanted = self.rig.everything()
        assert stored.keys() == wanted.keys()
        return sum(
            1
            for labels, samples in wanted.items()
            for at, value in samples.items()
            if stored[labels].get(at) != value
        )


def test_a_month_costs_what_it_may_and_what_has_priority_arrives_to_its_end() -> None:
    host = Ordered(MONTHLY, deadline=1200.0)
    host.until(lambda: host.is_waiting, every=1200.0)
    spent, began = host.paid.spent, host.time - START
    assert began < 29 * DAY
    assert spent == pytest.approx(900_000, rel=0.02)
    host.run(MONTH - began - 600, every=1200.0)
    assert 0.97 * 1_000_000 <= host.paid.spent <= 1.02 * 1_000_000
    later = [name for at, name in host.arrived if at > START + began + 1]
    assert set(later) == NAMES
    assert min(host.newest(NAMES)) > MONTH - DAY
    assert host.rig.cursor.pending() == pytest.approx((MONTH - began) / 1200 * 20, rel=0.02)
    assert host.balanced()


def test_the_rest_follows_in_the_next_period_and_nothing_is_sent_twice() -> None:
    host = Ordered(DAILY)
    for day in range(1, 4):
        host.until(lambda: host.is_waiting)
        host.run(day * DAY - 600 - (host.time - START))
        assert min(host.newest(NAMES)) > day * DAY - DAY / 8
        assert max(host.newest(frozenset(["s4"]))) < day * DAY - DAY / 8
        assert host.goes_ahead()
        host.run(4200)
        assert not host.goes_ahead()
        assert host.rig.cursor.pending() <= 40
        assert host.balanced()
    assert host.rig.ledger[1] == {}
    assert host.misses() <= 40


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_any_time_lose_nothing(seed: int) -> None:
    chance = random.Random(seed)
    host = Ordered(DAILY)
    host.is_strict = False  # what was sent since the cursor was written goes out again, the same samples
    for _ in range(60):
        host.run(chance.uniform(0.1, 1) * DAY / 24)
        host.rig.start_again()
    host.until(lambda: host.rig.cursor.pending() <= 40 and not host.is_waiting)
    assert host.paid.spent <= 1.03 * 110_000 * ((host.time - START) // DAY + 1)
    assert host.balanced()
    assert host.misses() <= 40


def test_what_is_refused_of_it_is_counted_once_the_rest_is_done_with() -> None:
    host = Ordered(DAILY)
    host.until(lambda: host.is_waiting)
    host.paid.answers = [OLD]
    host.run(4 * 3600)
    assert not host.paid.answers
    assert host.rig.ledger[1] == {}
    kept = sum(map(len, host.rig.kept().values()))
    assert kept > 0
    assert host.rig.cursor.priority is not None
    assert host.rig.cursor.priority.dropped == {"aged": kept}
    host.run(DAY)
    assert host.rig.ledger[1] == {"aged": kept}
    assert host.misses() <= host.rig.cursor.pending() + kept
    delivered, dropped = host.rig.ledger
    assert delivered + sum(dropped.values()) + host.rig.cursor.pending() == host.rig.buffer.log.end


def test_a_receiver_that_is_down_costs_no_more_and_nothing_is_lost() -> None:
    host = Ordered(DAILY)
    host.until(lambda: host.is_waiting)
    host.is_strict = False
    host.paid.answers = [RETRY, NO_ANSWER] * 15
    host.run(DAY - 600 - (host.time - START))
    assert host.paid.spent <= 1.02 * 110_000
    host.run(DAY / 2)
    assert host.balanced()
    assert host.misses() <= 40 + host.rig.cursor.pending()


@pytest.mark.parametrize("budget", [DAILY, DataBudget(per_day=110_000)], ids=["some", "none"])
def test_signs_of_life_say_when_the_next_one_is_due(budget: DataBudget) -> None:
    host = Ordered(budget)
    host.until(lambda: "budget" in (host.rig.lane.error or ""))
    host.run(DAY - 60 - (host.time - START))
    [signs] = [samples for labels, samples in host.signs.items() if dict(labels)["__name__"] == NEXT]
    assert len(signs) > 1
    for (_, due), following in zip(signs.items(), list(signs)[1:], strict=False):
        assert following / 1000 <= due


def test_selectors_that_change_count_when_what_waits_is_done_with() -> None:
    host = Ordered(DAILY)
    host.until(lambda: host.is_waiting)
    host.run(3 * 3600)
    was = host.rig.cursor.priority
    assert was is not None
    assert was.selectors == FIRST
    other = Course(host.rig.cursor, ("s4",))
    assert other.read(10_000).before > 0
    assert NAMES.isdisjoint(one.name for tick in other.read(10_000).ticks for one in tick.series)
    other.only = True
    assert {one.name for tick in other.read(10_000).ticks for one in tick.series} <= NAMES
    host.until(lambda: host.rig.cursor.priority is None)
    assert {one.name for tick in other.read(10_000).ticks for one in tick.series} <= {"s4"}


def test_it_is_kept_with_the_cursor() -> None:
    host = Ordered(DAILY)
    host.until(lambda: host.is_waiting)
    host.run(3 * 3600)
    host.rig.buffer.sync()
    assert (
        load_hints(host.rig.fs, f"{host.rig.folder}/cursors/there.json").priority == host.rig.cursor.priority
    )


@pytest.mark.parametrize(
    "priority",
    [
        1,
        [],
        {},
        {"until": -1, "selectors": [], "dropped": {}},
        {"until": 5, "selectors": "s", "dropped": {}},
        {"until": 5, "selectors": [1], "dropped": {}},
        {"until": 5, "selectors": [], "dropped": {"aged": None}},
    ],
)
def test_a_damaged_hint_is_none(priority: object) -> None:
    assert hints.read({"samples": 7, "bytes": 5, "priority": priority}).priority is None


def test_keys() -> None:
    text = "remote_write: [{url: 'https://a/w', data_budget: {%s}}]"
    found = load(text % "per_day: 5MiB, priority: [up, '{job=\"a\"}']", "f").config.remote_write[0]
    assert found.data_budget.priority == ("up", '{job="a"}')
    [warning] = load(text % "priority: [up]", "f").warnings
    assert "there is none" in warning
    for wrong, words in (
        ("['{']", "expected a label name"),
        (f"[{'x' * 1000}]", "more than 1000 characters"),
    ):
        with pytest.raises(ConfigErrors, match=words):
            load(text % f"per_day: 5MiB, priority: {wrong}", "f")
