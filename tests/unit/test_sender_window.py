"""`send_window`: outside of it a backlog waits, and what is fresh does not."""

from __future__ import annotations

import time

import pytest

from agent.config import ConfigErrors, load
from agent.send.delivery import Clocks
from agent.send.window import Window, is_open
from buffer.model import Instant, Tick
from tests.support import wire
from tests.support.scripted import BOOT, SERIES, Rig, Script

NIGHT: Window = (22 * 60, 6 * 60)
MIDNIGHT = time.mktime((2026, 12, 1, 0, 0, 0, 0, 0, -1))


class Late(Script):
    """A receiver that takes samples out of order; `arrived` has the ticks in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: list[int] = []

    def store(self, write: wire.Write) -> None:
        self.arrived += [at // 10_000 for one in write.series[:1] for at, _ in one.samples]


@pytest.mark.parametrize(
    ("minute", "window", "found"),
    [
        (0, NIGHT, True),
        (359, NIGHT, True),
        (360, NIGHT, False),
        (1319, NIGHT, False),
        (1320, NIGHT, True),
        (60, (60, 120), True),
        (120, (60, 120), False),
        (1439, (0, 1440), True),
    ],
)
def test_the_times_of_a_day(minute: int, window: Window, found: bool) -> None:
    assert is_open([window], MIDNIGHT + 60 * minute) is found
    assert is_open([], MIDNIGHT + 60 * minute)


def test_a_backlog_waits_for_the_window_and_what_is_fresh_does_not() -> None:
    clock, mono = [MIDNIGHT + 12 * 3600], [1000.0]
    script = Late()
    host = Rig(
        script=script,
        clocks=Clocks(lambda: mono[0], lambda: clock[0], lambda: 0.5),
        drain_order="fresh_first",
        send_window=(NIGHT,),
    )
    arrived = script.arrived

    def collect(first: int, last: int) -> None:
        for n in range(first, last + 1):
            host.append(Tick(Instant(n * 10_000, 0, BOOT), "all", SERIES, [float(n), float(-n)]))

    collect(1, 50)  # a backlog: more than a request of 10 samples
    for n in range(51, 60):
        for _ in range(3):
            host.lane.step()
        collect(n, n)
        mono[0] += 31
    for _ in range(3):
        host.lane.step()
    assert arrived == list(range(50, 60))
    assert host.cursor.pending() == 2 * 49
    clock[0] = MIDNIGHT + 22 * 3600
    for _ in range(100):
        host.lane.step()
        mono[0] += 1
    assert sorted(arrived) == list(range(1, 60))
    assert host.ledger == (2 * 59, {})


def test_it_needs_fresh_samples_to_go_first() -> None:
    text = "remote_write: [{url: 'https://a/w', send_window: ['%s']%s}]"
    found = load(text % ("22:00-06:00", ", drain_order: fresh_first"), "f").config.remote_write[0]
    assert found.send_window == (NIGHT,)
    with pytest.raises(ConfigErrors, match="drain_order does not allow that"):
        load(text % ("22:00-06:00", ""), "f")
    for wrong in ("22-6", "24:00-06:00", "22:00", "22:60-23:00", "22:00-06:00-"):
        with pytest.raises(ConfigErrors, match="expected two times of the day"):
            load(text % (wrong, ", drain_order: fresh_first"), "f")
