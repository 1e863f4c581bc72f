"""A data budget is kept, whatever clocks, kills and receivers do, and nothing is lost for it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from agent.config import DataBudget, QueueConfig, load
from agent.destinations.base import Request
from agent.http.answer import Answer
from agent.http.failures import Failure
from agent.send.budget import agreed
from agent.send.delivery import Clocks
from agent.send.state import State
from agent.send.thrift import SERIES
from buffer.model import Instant, Series, Tick
from buffer.usage import DAY_MS, Usage, link
from tests.support import wire
from tests.support.scripted import BOOT, NO_ANSWER, QUEUE, RETRY, Rig, Script

START = 1_796_083_200.0
"""2026-12-01 00:00 UTC."""
DAY, MONTH = 86_400.0, 31 * 86_400.0
HEADS = 700
"""What a request costs besides its body."""
SERIES_20 = tuple(Series(f"s{n}", (("hostname", "a"),)) for n in range(20))


class Paid(Script):
    """A receiver that says which time it is, and a wire that counts, with heads and what fails."""

    def __init__(self, date: Callable[[], float]) -> None:
        super().__init__()
        self.date, self.spent, self.beats = date, 0, 0
        self.at: list[float] = []

    def exchange(self, request: Request, attempt: int = 0, within: float | None = None) -> Answer | Failure:
        self.spent += HEADS + len(request.body)
        self.at.append(self.date())
        if request.samples and SERIES in [dict(one.labels)["__name__"] for one in self.read(request).series]:
            self.beats += 1
            self.signed(self.read(request))
            answer: Answer | Failure = Answer(204, {}, b"")
        else:
            answer = super().exchange(request, attempt, within)
        if isinstance(answer, Answer):
            moment = self.date()
            answer = answer._replace(headers={**answer.headers, "date": http_date(moment)})
        return answer

    def wire_bytes(self) -> int:
        return self.spent

    def signed(self, write: wire.Write) -> None:
        """Take a sign of life."""


def http_date(at: float) -> str:
    from email.utils import formatdate

    return formatdate(at, usegmt=True)


class Host:
    """A host on a clock of its own, whose lane is driven until a time."""

    def __init__(self, budget: DataBudget, *, deadline: float = 300.0, wrong: float = 0.0) -> None:
        self.wrong = wrong  # how far its wall clock is off
        clocks = Clocks(lambda: self.rig.now, lambda: self.time + self.wrong, lambda: 0.5)
        self.paid = Paid(lambda: self.time)
        queue = QueueConfig(batch_send_deadline=deadline)
        self.rig = Rig.__new__(Rig)
        self.rig.now = 1000.0
        self.rig.__init__(queue=queue, script=self.paid, clocks=clocks, data_budget=budget)  # type: ignore[misc]
        self._collected = 0.0

    @property
    def time(self) -> float:
        """The true time."""
        return START + self.rig.now - 1000.0

    def run(self, seconds: float, every: float = 600.0) -> None:
        """Let so much time pass, with a tick each so many seconds."""
        end = self.rig.now + seconds
        while self.rig.now < end:
            self.collect(every)
            pause = self.rig.lane.step()
            waits = (
                pause.seconds if pause.position is None or self.rig.buffer.log.end <= pause.position else 0.0
            )
            self.rig.now += min(waits, every, max(0.0, end - self.rig.now))

    def collect(self, every: float) -> None:
        while self._collected + every <= self.time - START:
            self._collected += every
            at = Instant(int((START + self._collected) * 1000), 0, BOOT)
            values = [random.random() if n % 2 else 1.0 for n in range(len(SERIES_20))]
            self.rig.append(Tick(at, "all", SERIES_20, values))

    def balanced(self) -> bool:
        delivered, dropped = self.rig.ledger
        return not dropped and delivered + self.rig.cursor.pending() == self.rig.buffer.log.end


def test_a_month_costs_what_it_may_to_two_percent_and_nothing_is_dropped() -> None:
    host = Host(DataBudget(per_month=1_000_000), deadline=1200.0)
    host.run(MONTH - 1, every=1200.0)
    assert 0.98 * 1_000_000 <= host.paid.spent <= 1.02 * 1_000_000
    assert str(host.rig.lane.state) == State.WAITING
    assert "of 1 MB this month; samples wait for the next one" in str(host.rig.lane.error)
    assert host.paid.beats > 5
    assert host.balanced()
    assert host.rig.cursor.pending() > 0
    before = host.paid.spent
    host.run(DAY, every=1200.0)
    assert str(host.rig.lane.state) != State.WAITING
    assert host.paid.spent - before > 40_000
    assert host.balanced()


def test_each_day_costs_what_it_may_to_two_percent() -> None:
    host = Host(DataBudget(per_day=110_000))
    spent = 0
    for _ in range(4):
        host.run(DAY - 0.5 if not spent else DAY)
        assert 0.97 * 110_000 <= host.paid.spent - spent <= 1.02 * 110_000
        spent = host.paid.spent
        assert host.balanced()


def test_without_a_budget_it_is_counted_all_the_same() -> None:
    host = Host(DataBudget())
    host.run(2 * DAY - 1)
    used = host.rig.lane.stats.used
    assert used is not None
    assert used.month_bytes == host.paid.spent
    assert used.month_bytes / 3 < used.day_bytes < used.month_bytes / 1.5
    assert host.rig.cursor.pending() < 200


def test_from_80_percent_on_requests_are_fewer() -> None:
    host = Host(DataBudget(per_day=110_000), deadline=30.0)
    host.run(3600.0, every=30.0)
    gaps = [b - a for a, b in zip(host.paid.at, host.paid.at[1:], strict=False)]
    assert min(gaps[1:20]) == pytest.approx(30, abs=1)
    spent = 0
    for gap, share in zip(gaps, (n / len(gaps) for n in range(len(gaps))), strict=True):
        spent += share > 0.9 and gap >= 119
    assert spent > 3


@pytest.mark.parametrize("jump", [DAY * 400, -DAY * 400, 2 * DAY, -2 * DAY])
def test_a_clock_that_jumps_neither_ends_a_period_nor_keeps_it(jump: float) -> None:
    host = Host(DataBudget(per_day=110_000))
    host.run(DAY / 2)
    host.wrong = jump
    host.run(DAY / 2 - 1)
    assert host.paid.spent <= 1.02 * 110_000
    host.run(DAY / 2)
    assert 110_000 < host.paid.spent <= 2 * 1.02 * 110_000


def test_a_receiver_whose_clock_jumps_does_not_either() -> None:
    host = Host(DataBudget(per_day=110_000))
    host.paid.date = lambda: host.time + random.choice([0, 3 * DAY, -3 * DAY, 400 * DAY])
    host.run(DAY - 1)
    assert host.paid.spent <= 1.02 * 110_000
    host.run(DAY / 2)
    assert host.paid.spent > 130_000


def test_restarts_do_not_buy_more_and_what_a_kill_costs_is_small() -> None:
    host = Host(DataBudget(per_day=110_000))
    for _ in range(24):
        host.run(DAY / 24 - 0.1)
        host.rig.start_again()  # without a word to the one before, as after a kill
    assert host.paid.spent <= 1.02 * 110_000
    assert host.paid.spent >= 0.6 * 110_000


def test_a_receiver_that_is_down_spends_no_more_than_the_budget() -> None:
    for answer in (RETRY, NO_ANSWER):
        host = Host(DataBudget(per_day=100 << 10), deadline=30.0)
        host.paid.rest = answer
        host.run(DAY - 1)
        assert host.paid.spent <= 1.03 * (100 << 10)
        assert host.balanced()


def test_the_usage_of_another_time() -> None:
    used = Usage(int(START * 1000), 0, 5, 7, 10, 100)
    assert used.share == 0.5
    assert used.at(used.at_ms + DAY_MS - 1) == used._replace(at_ms=used.at_ms + DAY_MS - 1)
    assert used.at(used.at_ms + DAY_MS)[2:4] == (0, 7)
    assert used.at(used.at_ms + 31 * DAY_MS)[2:4] == (0, 0)
    assert used.at(used.at_ms - 40 * DAY_MS)[2:4] == (5, 7)


def test_a_forecast_is_the_pace_so_far() -> None:
    start = int(START * 1000)
    used = Usage(start + DAY_MS // 4, start, 1000, 1000, 0, 50_000)
    found = link(used, used.at_ms)
    assert found is not None
    assert (found.day_forecast_bytes, found.month_forecast_bytes) == (4000, 31 * 4000)
    assert (found.day_budget_bytes, found.month_budget_bytes) == (None, 50_000)
    young = link(used._replace(since_ms=used.at_ms - 60_000), used.at_ms)
    assert young is not None
    assert young.day_forecast_bytes is None


@pytest.mark.parametrize(
    ("clock", "wall", "date", "time"),
    [
        (100.0, 101.0, 102.0, 102.0),
        (100.0, 1e9, 102.0, 102.0),
        (100.0, 1e9, 1e9 + 5, 1e9 + 5),
        (100.0, 101.0, 1e9, 101.0),
        (100.0, 1e9, 2e9, 100.0),
        (100.0, 1e9, None, 100.0),
        (100.0, 101.0, None, 101.0),
    ],
)
def test_two_of_three_clocks(clock: float, wall: float, date: float | None, time: float) -> None:
    assert agreed(clock, wall, date) == time


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"version": 2}', b'{"version": 1, "at_ms": -1}', b"\xff" * 99]
)
def test_a_damaged_note_begins_again(damage: bytes) -> None:
    rig = Rig(queue=QUEUE)
    note = rig.buffer.usage("there")
    note.save(Usage(1, 2, 3, 4, 5, 6))
    assert note.load() == Usage(1, 2, 3, 4, 5, 6)
    rig.fs.unlink(f"{rig.folder}/usage/there.json")
    fd = rig.fs.create(f"{rig.folder}/usage/there.json")
    rig.fs.write(fd, damage, 0)
    rig.fs.close(fd)
    assert note.load() is None


def test_keys() -> None:
    text = "remote_write: [{url: 'https://a/w', data_budget: {per_day: 5MiB, per_month: %s}}]"
    assert load(text % "100MiB", "f").config.remote_write[0].data_budget == DataBudget(
        per_day=5 << 20, per_month=100 << 20
    )
    [warning] = load(text % "4MiB", "f").warnings
    assert "only per_month counts" in warning
