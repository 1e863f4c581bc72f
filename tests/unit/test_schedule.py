"""The schedule, on a clock that jumps ahead when nobody has anything to do, and a real buffer."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.collect import grid
from agent.collect.plan import Plan
from agent.collect.schedule import RECORD_SAMPLES, Schedule, SystemClock, records
from agent.collect.series import Columns
from agent.collectors import Metric, Sample
from agent.system.events import Event
from buffer.buffer import Buffer
from buffer.fs import RealFs
from buffer.limits import Limits
from buffer.model import ENDED, Instant, Series, Tick, is_stale
from buffer.reader import Entry, Reader
from buffer.scaled import RAW
from tests.support.net import wait_for

HOST = "web-01"
DAY = 86_400
START = 20_000 * DAY + 4_321.5
BOOT = "0" * 32
METRICS = (Metric("a_total", "counter", "things", "Things."), Metric("b", "gauge", "", "Another."))
DEADLINE = 10.0


class World(threading.Event):
    """A clock that hands itself in as what wakes the schedule: waiting for it is what makes time pass."""

    def __init__(self, wall: float) -> None:
        super().__init__()
        self.now, self._ahead, self._end = 0.0, wall, 0.0
        self._actions: list[tuple[float, Callable[[], object]]] = []
        self.waits: list[float] = []
        self.over: Callable[[], object] = self.set

    def wall(self) -> float:
        return self._ahead + self.now

    def monotonic(self) -> float:
        return self.now

    def step(self, seconds: float) -> None:
        """Set the wall clock ahead, or back."""
        self._ahead += seconds

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Do this so many seconds after the start."""
        self._actions.append((seconds, action))
        self._actions.sort(key=lambda each: each[0])

    def run_until(self, seconds: float) -> None:
        """Call `over` then."""
        self._end = seconds

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        until = min(self.now + timeout, self._end)
        while self._actions and self._actions[0][0] <= until:
            self.now, action = self._actions.pop(0)
            action()
            if self.is_set():  # woken
                return True
        self.now = until
        if self.now >= self._end:
            self.over()
        return True


class Log:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def of(self, event: Event, level: str | None = None) -> list[dict[str, Any]]:
        return [fields for lv, name, fields in self.events if name == event and level in (None, lv)]

    def loud(self) -> list[str]:
        return [name for level, name, _ in self.events if level != "debug"]

    def debug(self, event: str, **fields: Any) -> None:
        self.events.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.events.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.events.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.events.append(("error", event, fields))


class Disk(RealFs):
    """A disk that can be made to fail, or to be full."""

    broken = full = False

    def write(self, fd: int, data: bytes, at: int) -> int:
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(fd, data, at)

    def free(self, folder: str) -> tuple[int, int]:
        return (0, 1 << 30) if self.full else super().free(folder)


class Collector:
    """Returns what it is told to, and can fail or hang."""

    def __init__(self, labels: Sequence[str] = ("x",)) -> None:
        self.labels = labels
        self.calls: list[float] = []
        self.error: Exception | None = None
        self.hang: threading.Event | None = None
        self.during: dict[int, Callable[[], None]] = {}

    def __call__(self, now: float) -> list[Sample]:
        self.calls.append(now)
        count = len(self.calls)
        if count in self.during:
            self.during[count]()
        if self.hang is not None:
            assert self.hang.wait(DEADLINE)
        if self.error is not None:
            raise self.error
        return [Sample("b", count, (("core", label),)) for label in self.labels]


class Rig:
    """A schedule, and everything around it."""

    def __init__(self, folder: Path, wall: float = START) -> None:
        self.world, self.log, self.disk, self.folder = World(wall), Log(), Disk(), folder
        self.buffer = self._open()
        self._plans: list[Plan] = []
        self.schedule: Schedule | None = None

    def _open(self) -> Buffer:
        return Buffer(str(self.folder), Limits(min_free=lambda _: 1), fs=self.disk)

    def add(self, name: str, interval: float = 10, timeout: float = 5, *, apart: bool = False) -> Collector:
        collector = Collector()
        columns = Columns(METRICS, {"hostname": HOST})
        self._plans.append(Plan(name, collector, columns, interval, timeout, HOST, apart=apart))
        return collector

    def run(self, seconds: float, *, series_end: bool = False) -> None:
        """Run from now on, for so long; then all series end, or do not."""
        self.schedule = Schedule(self._plans, self.buffer, BOOT, self.log, self.world)
        self.schedule._wake = self.world
        self.world.over = partial(self.schedule.stop, 0, series_end=series_end)
        self.world.run_until(self.world.now + seconds)
        self.schedule._run()

    def restart(self) -> None:
        """As if the process had been ended and begun anew."""
        self.buffer.close()
        self.buffer = self._open()
        self._plans = [
            Plan(
                p.name,
                p.collect,
                Columns(METRICS, {"hostname": HOST}),
                p.interval_ms / 1000,
                p.timeout,
                HOST,
                apart=p.apart,
            )
            for p in self._plans
        ]

    def release(self, collector: Collector) -> None:
        """Let a collector that hangs return, and wait until it has."""
        assert collector.hang is not None
        hanging, collector.hang = collector.hang, None
        assert self.schedule is not None
        hanging.set()
        # Its thread was left to it, and ends with it.
        wait_for(lambda: len(collecting()) == 1, DEADLINE, "the collector to return")

    def hang(self, collector: Collector) -> None:
        collector.hang = threading.Event()

    def rounds(self) -> list[Entry]:
        """Every append that is in the buffer."""
        reader, found = Reader(RealFs(), f"{self.folder}/segments"), []
        while (entry := reader.next()) is not None:
            found.append(entry)
        reader.close()
        return found

    def times(self, name: str) -> list[int]:
        return [entry.wall_ms for entry in self.rounds() for tick in entry.ticks if tick.group == name]

    def ended(self, name: str) -> list[tuple[int, list[str]]]:
        """When series of a collector ended, and which: their cores."""
        found = []
        for entry in self.rounds():
            for tick in entry.ticks:
                if tick.group == name + ENDED:
                    assert {series.name for series in tick.series} == {"b"}
                    found.append((entry.wall_ms, [dict(series.labels)["core"] for series in tick.series]))
                assert all(is_stale(value) is tick.group.endswith(ENDED) for value in tick.values)
        return found

    def plan(self, name: str) -> Plan:
        return next(plan for plan in self._plans if plan.name == name)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "data")
    yield rig
    for plan in rig._plans:
        assert isinstance(plan.collect, Collector)
        if plan.collect.hang is not None:
            plan.collect.hang.set()
    rig.buffer.close()
    if rig.schedule is not None:
        rig.schedule._workers.close()
    wait_for(lambda: not collecting(), 2 * DEADLINE, "all threads to end")


def collecting() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "collect"]


def slot(wall: float, interval_s: int = 10) -> int:
    interval = interval_s * 1000
    return grid.slot(int(wall * 1000), interval, grid.offset(HOST, interval))


def every_10_s(first: int, rounds: int) -> list[int]:
    return [first + 10_000 * n for n in range(rounds)]


def test_a_round_is_one_append_with_one_time_on_the_grid(rig: Rig) -> None:
    for name in ("cpu", "memory", "network"):
        rig.add(name)
    rig.run(35)
    rounds = rig.rounds()
    assert [entry.wall_ms for entry in rounds] == every_10_s(slot(START), 4)
    for entry in rounds:
        assert [tick.group for tick in entry.ticks] == ["cpu", "memory", "network"]
        assert {tick.at.wall_ms for tick in entry.ticks} == {entry.wall_ms}
        assert len({tick.at for tick in entry.ticks}) == 1
    assert rig.log.events == []


def test_the_first_round_comes_at_once_and_the_others_when_they_are_due(rig: Rig) -> None:
    collector = rig.add("cpu")
    rig.run(35)
    until_second = (slot(START) + 10_000) / 1000 - START
    assert collector.calls == pytest.approx(
        [0, until_second, until_second + 10, until_second + 20], abs=0.002
    )
    assert len(rig.world.waits) == len(collector.calls)  # it wakes up for nothing else


def test_a_tick_says_when_it_was_on_both_clocks(rig: Rig) -> None:
    rig.add("cpu")
    rig.run(35)
    for entry in rig.rounds():
        (tick,) = entry.ticks
        assert tick.at.boot_id == BOOT
        assert tick.at.wall_ms <= START * 1000 + tick.at.mono_ms < tick.at.wall_ms + 10_000


def test_series_carry_the_labels_of_host_and_sample_and_what_the_table_says(rig: Rig) -> None:
    rig.add("cpu").labels = ("0", "1")
    rig.run(5)
    (entry,) = rig.rounds()
    assert entry.ticks[0].series == tuple(
        Series("b", (("core", core), ("hostname", HOST)), "gauge", "", "Another.") for core in "01"
    )
    assert list(entry.ticks[0].values) == [1.0, 1.0]


def test_a_minute_s_collector_joins_the_rounds_of_the_others(rig: Rig) -> None:
    rig.add("cpu")
    slow = rig.add("disk_usage", interval=60)
    rig.run(200)
    minutes = rig.times("disk_usage")
    last = slot(rig.world.wall(), 60)
    assert minutes == [slot(START), *range(slot(START, 60) + 60_000, last + 1, 60_000)]
    assert len(slow.calls) == len(minutes) >= 4
    both = [entry for entry in rig.rounds() if len(entry.ticks) == 2]
    assert [entry.wall_ms for entry in both] == minutes
    assert set(minutes) <= set(rig.times("cpu"))
    assert rig.buffer.log.missed == 0


def test_a_collector_that_returns_nothing_makes_no_tick(rig: Rig) -> None:
    rig.add("cpu")
    rig.add("gpu").labels = ()
    rig.run(15)
    assert [[tick.group for tick in entry.ticks] for entry in rig.rounds()] == [["cpu"], ["cpu"]]


class TestRestart:
    def test_a_slot_that_is_in_the_buffer_is_not_repeated(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.run(0.1)
        rig.restart()
        rig.run(12)
        assert rig.times("cpu") == every_10_s(slot(START), 2)
        assert rig.buffer.log.missed == 0

    def test_one_that_is_not_comes_at_once(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.run(0.1)
        rig.world.now += 11
        rig.restart()
        rig.run(0.1)
        assert rig.times("cpu") == every_10_s(slot(START), 2)
        assert rig.buffer.log.missed == 0

    def test_the_times_at_which_no_agent_ran_are_missed(self, rig: Rig) -> None:
        rig.add("cpu").labels = ("0", "1", "2")
        rig.run(0.1)
        rig.world.now += 65
        rig.restart()
        rig.run(0.1)
        first, last = rig.times("cpu")
        assert rig.buffer.log.missed == 3 * ((last - first) // 10_000 - 1) > 0

    def test_a_minute_s_collector_that_was_restarted_within_it_missed_nothing(self, rig: Rig) -> None:
        rig.add("disk_usage", interval=60)
        rig.run(130)
        rig.world.now += 5
        rig.restart()
        rig.run(130)
        assert rig.buffer.log.missed == 0

    def test_a_last_tick_from_the_future_is_no_reason_to_wait(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.world.step(DAY)
        rig.run(0.1)
        rig.world.step(-DAY)
        rig.restart()
        rig.run(12)
        assert rig.times("cpu") == [slot(START + DAY), *every_10_s(slot(START), 2)]
        assert rig.buffer.log.missed == 0


class TestHanging:
    def test_the_others_go_on(self, rig: Rig) -> None:
        rig.hang(rig.add("nfs"))
        rig.add("cpu")
        rig.run(45)
        assert rig.times("cpu") == every_10_s(slot(START), 5)
        assert rig.times("nfs") == []

    def test_it_is_left_behind_counted_and_logged_once(self, rig: Rig) -> None:
        nfs = rig.add("nfs", timeout=3)
        rig.add("cpu")
        rig.hang(nfs)
        rig.run(120)
        assert len(nfs.calls) == 1  # and not started again
        assert rig.plan("nfs").timeouts == 1
        assert rig.log.events == [
            ("warning", Event.COLLECTOR_TIMED_OUT, {"collector": "nfs", "timeout_seconds": 3})
        ]

    def test_it_is_left_behind_at_its_timeout(self, rig: Rig) -> None:
        seen: list[int] = []
        for timeout in (2.9, 3.6):
            rig.world.at(timeout, lambda: seen.append(rig.plan("nfs").timeouts))
        nfs = rig.add("nfs", timeout=3)
        rig.hang(nfs)
        rig.run(5)
        assert seen == [0, 1]

    def test_a_late_result_within_the_timeout_is_an_append_of_its_own_at_the_round_s_time(
        self, rig: Rig
    ) -> None:
        slow = rig.add("slow")
        rig.add("cpu")
        rig.hang(slow)
        rig.world.at(1.0, lambda: rig.release(slow))
        rig.run(1.9)
        first = slot(START)
        assert [(entry.wall_ms, [t.group for t in entry.ticks]) for entry in rig.rounds()] == [
            (first, ["cpu"]),
            (first, ["slow"]),
        ]
        assert rig.rounds()[0].ticks[0].at == rig.rounds()[1].ticks[0].at
        assert rig.log.events == []
        rig.run(30)
        assert rig.buffer.log.missed == 0

    def test_a_result_that_comes_during_the_next_round_has_its_own_round_s_time(self, rig: Rig) -> None:
        slow, cpu = rig.add("slow", timeout=10), rig.add("cpu")
        rig.hang(slow)
        cpu.during[2] = lambda: rig.release(slow)
        rig.run(8)
        first = slot(START)
        assert [(entry.wall_ms, [t.group for t in entry.ticks]) for entry in rig.rounds()] == [
            (first, ["cpu"]),
            (first, ["slow"]),
            (first + 10_000, ["cpu"]),
        ]

    def test_one_that_returns_after_its_timeout_comes_back_by_itself(self, rig: Rig) -> None:
        nfs = rig.add("nfs")
        nfs.labels = ("0", "1")
        rig.add("cpu")
        rig.hang(nfs)
        rig.world.at(25, lambda: rig.release(nfs))
        rig.run(60)
        first = slot(START)
        begun = rig.times("nfs")[0]
        assert begun == next(at for at in rig.times("cpu") if at >= START * 1000 + 25_000)
        assert rig.times("nfs") == [at for at in rig.times("cpu") if at >= begun]
        # What it returned so late is in no tick: the first one is that of its second run.
        values = [list(t.values) for entry in rig.rounds() for t in entry.ticks if t.group == "nfs"]
        assert values[0] == [2.0, 2.0]
        assert rig.log.loud() == [Event.COLLECTOR_TIMED_OUT, Event.COLLECTOR_RECOVERED]
        assert rig.log.of(Event.COLLECTOR_RECOVERED, "info")[0]["collector"] == "nfs"
        assert first < begun

    def test_it_can_hang_again(self, rig: Rig) -> None:
        nfs = rig.add("nfs")
        rig.hang(nfs)
        rig.world.at(12, lambda: rig.release(nfs))
        rig.world.at(31, lambda: rig.hang(nfs))
        rig.run(80)
        assert rig.plan("nfs").timeouts == 2
        assert len(rig.log.of(Event.COLLECTOR_TIMED_OUT, "warning")) == 2

    def test_what_it_misses_is_counted_when_it_is_back(self, rig: Rig) -> None:
        nfs = rig.add("nfs")
        nfs.labels = ("0", "1")
        rig.world.at(1, lambda: rig.hang(nfs))
        rig.world.at(35, lambda: rig.release(nfs))
        rig.run(70)
        times = rig.times("nfs")
        expected = 2 * ((times[-1] - times[0]) // 10_000 + 1 - len(times))
        assert rig.buffer.log.missed == expected > 0

    def test_a_stop_does_not_wait_for_it(self, rig: Rig) -> None:
        rig.hang(rig.add("nfs"))
        rig.run(0)
        assert rig.schedule is not None
        rig.schedule.stop(0.0)


class TestErrors:
    def test_what_a_collector_raises_is_logged_once_a_row(self, rig: Rig) -> None:
        bad, good = rig.add("disk_io"), rig.add("cpu")
        bad.error = OSError(errno.ENOENT, "No such file", "/proc/diskstats")
        rig.world.at(35, lambda: setattr(bad, "error", None))
        rig.world.at(55, lambda: setattr(bad, "error", ValueError("odd")))
        rig.run(75)
        assert len(bad.calls) == len(good.calls) == len(rig.times("cpu"))
        failures = len(bad.calls) - len(rig.times("disk_io"))
        assert rig.plan("disk_io").failures == failures > 4
        assert rig.log.loud() == [Event.COLLECTOR_FAILED, Event.COLLECTOR_RECOVERED, Event.COLLECTOR_FAILED]
        assert len(rig.log.of(Event.COLLECTOR_FAILED, "debug")) == failures - 2
        first = rig.log.of(Event.COLLECTOR_FAILED, "warning")[0]
        assert first["collector"] == "disk_io"
        assert first["error"] == "FileNotFoundError: [Errno 2] No such file: '/proc/diskstats'"

    @pytest.mark.parametrize("trouble", ["broken", "full"])
    def test_a_disk_that_fails_costs_what_it_does_not_take_and_nothing_else(
        self, rig: Rig, trouble: str
    ) -> None:
        collector = rig.add("cpu")
        rig.world.at(5, lambda: setattr(rig.disk, trouble, True))
        rig.world.at(35, lambda: setattr(rig.disk, trouble, False))
        rig.run(75)
        assert rig.schedule is not None
        failures = rig.schedule.append_failures
        assert failures == 3
        assert len(rig.times("cpu")) == len(collector.calls) - failures
        assert rig.times("cpu")[1] - rig.times("cpu")[0] == 10_000 * (failures + 1)
        assert rig.buffer.log.missed == failures
        assert rig.log.loud() == [Event.APPEND_FAILED, Event.APPEND_RECOVERED]
        assert rig.log.of(Event.APPEND_FAILED, "error")[0]["samples"] == 1
        assert len(rig.log.of(Event.APPEND_FAILED, "debug")) == failures - 1

    def test_a_collector_that_returns_nothing_does_not_say_that_the_disk_is_well_again(
        self, rig: Rig
    ) -> None:
        rig.add("cpu")
        slow = rig.add("slow")
        slow.labels = ()
        rig.hang(slow)
        rig.disk.broken = True
        rig.world.at(1.0, lambda: rig.release(slow))
        rig.run(1.9)
        assert len(slow.calls) == 1
        assert rig.log.loud() == [Event.APPEND_FAILED]

    def test_failed_runs_are_missed_when_the_next_one_is_good(self, rig: Rig) -> None:
        bad = rig.add("disk_io")
        bad.labels = ("sda", "sdb")
        rig.world.at(5, lambda: setattr(bad, "error", OSError()))
        rig.world.at(25, lambda: setattr(bad, "error", None))
        rig.run(40)
        assert rig.buffer.log.missed == 2 * rig.plan("disk_io").failures == 4


def missed_intervals(calls: Sequence[float]) -> list[float]:
    """The pauses that were two intervals of 10 s: until the new grid began."""
    return [b - a for a, b in pairwise(calls) if b - a >= 19]


class TestClock:
    @pytest.mark.parametrize("back", [15, 3_600, 400 * DAY])
    def test_one_that_is_set_back_is_followed(self, rig: Rig, back: int) -> None:
        collector = rig.add("cpu")
        rig.add("disk_usage", interval=60)
        rig.world.at(12, lambda: rig.world.step(-back))
        rig.run(100)
        assert max(b - a for a, b in pairwise(collector.calls)) <= 2 * 10
        assert all(grid.slot(at, 10_000, grid.offset(HOST, 10_000)) == at for at in rig.times("cpu"))
        assert len(rig.log.of(Event.CLOCK_STEPPED, "warning")) == 1
        assert rig.log.loud() == [Event.CLOCK_STEPPED]
        assert rig.times("cpu")[-1] == slot(rig.world.wall())
        assert rig.buffer.log.missed == len(missed_intervals(collector.calls))

    def test_one_that_is_set_back_during_a_round_is_followed(self, rig: Rig) -> None:
        collector = rig.add("cpu")
        collector.during[2] = lambda: rig.world.step(-3_600)
        rig.run(100)
        assert max(b - a for a, b in pairwise(collector.calls)) <= 2 * 10
        assert len(rig.log.of(Event.CLOCK_STEPPED, "warning")) == 1

    def test_one_that_is_set_back_a_little_is_waited_for(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.world.at(12, lambda: rig.world.step(-4))
        rig.run(60)
        times = rig.times("cpu")
        assert times == every_10_s(slot(START), len(times))  # no time twice
        assert rig.log.events == []

    def test_one_that_is_set_forward_is_followed_and_nothing_is_missed(self, rig: Rig) -> None:
        collector = rig.add("cpu")
        rig.world.at(12, lambda: rig.world.step(3_600))
        rig.run(60)
        times = rig.times("cpu")
        assert len(times) == len(set(times)) == len(collector.calls)
        assert max(b - a for a, b in pairwise(times)) in (3_600_000, 3_610_000)
        assert rig.buffer.log.missed == 0

    def test_one_that_is_set_back_and_right_again_misses_only_what_it_cost(self, rig: Rig) -> None:
        collector = rig.add("cpu")
        rig.world.at(12, lambda: rig.world.step(-3_600))
        rig.world.at(52, lambda: rig.world.step(3_600))
        rig.run(100)
        assert rig.buffer.log.missed == len(missed_intervals(collector.calls))

    def test_one_that_was_wrong_by_years_makes_no_number_of_missed_samples(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.world.at(12, lambda: rig.world.step(10_000 * DAY))
        rig.run(60)
        assert rig.buffer.log.missed == 0


class TestSeriesThatEnd:
    def test_one_that_is_gone_gets_a_marker_in_the_record_in_which_it_is_not(self, rig: Rig) -> None:
        disks = rig.add("disk_io")
        disks.labels = ("sda", "sdb", "sdc")
        rig.add("cpu")
        rig.world.at(15, lambda: setattr(disks, "labels", ("sda",)))
        rig.run(55)
        first = slot(START)
        assert rig.ended("disk_io") == [(first + 20_000, ["sdb", "sdc"])]
        (record,) = [entry for entry in rig.rounds() if entry.wall_ms == first + 20_000]
        assert [tick.group for tick in record.ticks] == ["disk_io", "disk_io.ended", "cpu"]
        assert len({tick.at for tick in record.ticks}) == 1
        assert record.samples == 1 + 2 + 1  # they count like any sample
        assert rig.buffer.log.missed == 0

    def test_the_scales_of_the_collector_s_own_group_stay_as_they_are(self, rig: Rig) -> None:
        disks = rig.add("disk_io")
        disks.labels = ("sda", "sdb")
        rig.world.at(15, lambda: setattr(disks, "labels", ("sda",)))
        rig.world.at(35, lambda: setattr(disks, "labels", ("sda", "sdb")))
        rig.run(55)
        groups = rig.buffer.log._encoder._groups
        assert RAW not in groups["disk_io"].modes
        assert set(groups["disk_io.ended"].modes) == {RAW}

    def test_one_that_comes_back_is_simply_there_and_can_end_again(self, rig: Rig) -> None:
        disks = rig.add("disk_io")
        disks.labels = ("sda", "sdb")
        for at, labels in ((5, ("sda",)), (15, ("sda", "sdb")), (25, ("sdb", "sda")), (35, ("sda",))):
            rig.world.at(at, lambda labels=labels: setattr(disks, "labels", labels))  # type: ignore[misc]
        rig.run(75)
        first = slot(START)
        assert rig.ended("disk_io") == [(first + 10_000, ["sdb"]), (first + 40_000, ["sdb"])]

    def test_a_collector_that_finds_nothing_any_more_ends_all_of_them_and_misses_none(self, rig: Rig) -> None:
        disks = rig.add("disk_io")
        disks.labels = ("sda", "sdb")
        rig.world.at(15, lambda: setattr(disks, "labels", ()))
        rig.world.at(65, lambda: setattr(disks, "labels", ("sda", "sdb")))
        rig.run(95)
        first = slot(START)
        assert rig.ended("disk_io") == [(first + 20_000, ["sda", "sdb"])]
        assert rig.times("disk_io") == [first, first + 10_000, *(first + n * 10_000 for n in range(7, 10))]
        assert rig.buffer.log.missed == 0

    @pytest.mark.parametrize("trouble", ["fails", "hangs"])
    def test_a_run_that_fails_or_hangs_ends_nothing_however_long_that_lasts(
        self, rig: Rig, trouble: str
    ) -> None:
        disks = rig.add("disk_io", timeout=3)
        disks.labels = ("sda", "sdb")
        rig.add("cpu")
        if trouble == "fails":
            rig.world.at(15, lambda: setattr(disks, "error", OSError()))
            rig.world.at(1_005, lambda: setattr(disks, "error", None))
        else:
            rig.world.at(15, lambda: rig.hang(disks))
            rig.world.at(1_005, lambda: rig.release(disks))
        meanwhile: list[object] = []
        rig.world.at(1_000, lambda: meanwhile.append(rig.ended("disk_io")))
        rig.world.at(1_001, lambda: setattr(disks, "labels", ("sdb",)))
        rig.run(1_050)
        assert meanwhile == [[]]
        # What is not there when it works again ended meanwhile.
        ((at, labels),) = rig.ended("disk_io")
        assert labels == ["sda"]
        assert at == next(time for time in rig.times("disk_io") if time > (START + 1_000) * 1000)
        assert rig.buffer.log.missed > 0

    @pytest.mark.parametrize("trouble", ["broken", "full"])
    def test_a_marker_that_cannot_be_stored_comes_with_the_next_tick_that_can(
        self, rig: Rig, trouble: str
    ) -> None:
        disks = rig.add("disk_io")
        disks.labels = ("sda", "sdb", "sdc")
        rig.world.at(15, lambda: setattr(disks, "labels", ("sda",)))
        rig.world.at(15, lambda: setattr(rig.disk, trouble, True))
        rig.world.at(25, lambda: setattr(disks, "labels", ("sda", "sdb")))
        rig.world.at(35, lambda: setattr(rig.disk, trouble, False))
        rig.run(65)
        # sdb was gone only while nothing could be stored.
        assert rig.ended("disk_io") == [(slot(START) + 40_000, ["sdc"])]

    def test_one_that_was_gone_while_no_agent_ran_is_not_known_of(self, rig: Rig) -> None:
        """The first run of a process has no rates: what it lacks says nothing."""
        disks = rig.add("disk_io")
        disks.labels = ("sda", "sdb")
        rig.run(15)
        rig.restart()
        disks.labels = ("sda",)
        rig.run(25)
        assert rig.ended("disk_io") == []


class TestStopThatEndsTheSeries:
    def test_every_live_series_gets_one_marker_in_one_last_record(self, rig: Rig) -> None:
        cpu, disks, usage = rig.add("cpu"), rig.add("disk_io"), rig.add("disk_usage", interval=60)
        cpu.labels, disks.labels, usage.labels = ("0", "1"), ("sda", "sdb"), ("/",)
        rig.world.at(15, lambda: setattr(disks, "labels", ("sda",)))
        rig.run(33, series_end=True)
        *_, before, last = rig.rounds()
        assert {tick.group: len(tick.series) for tick in last.ticks} == {
            "cpu.ended": 2,
            "disk_io.ended": 1,
            "disk_usage.ended": 1,
        }
        assert last.wall_ms == int(rig.world.wall() * 1000)
        assert before.wall_ms < last.wall_ms < slot(rig.world.wall()) + 10_000
        (tick, *_) = last.ticks
        assert tick.at.mono_ms == int(rig.world.monotonic() * 1000)
        assert rig.buffer.log.missed == 0
        assert rig.log.events == []

    def test_a_stop_that_does_not_end_them_stores_nothing(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.run(33)
        assert rig.ended("cpu") == []
        assert len(rig.rounds()) == 4

    def test_before_the_first_tick_there_is_nothing_to_end(self, rig: Rig) -> None:
        rig.add("cpu").labels = ()
        rig.run(0.1, series_end=True)
        assert rig.rounds() == []
        assert rig.log.events == []

    def test_a_collector_that_hangs_ends_too(self, rig: Rig) -> None:
        nfs = rig.add("nfs")
        rig.add("cpu")
        rig.world.at(15, lambda: rig.hang(nfs))
        rig.run(45, series_end=True)
        assert len(rig.ended("nfs")) == len(rig.ended("cpu")) == 1

    @pytest.mark.parametrize("trouble", ["broken", "full"])
    def test_a_disk_that_does_not_take_them_costs_the_markers_and_nothing_else(
        self, rig: Rig, trouble: str
    ) -> None:
        rig.add("cpu")
        rig.world.at(12, lambda: setattr(rig.disk, trouble, True))
        rig.run(13, series_end=True)
        setattr(rig.disk, trouble, False)
        assert rig.ended("cpu") == []
        assert len(rig.times("cpu")) == 2
        assert rig.log.loud() == [Event.APPEND_FAILED]
        rig.restart()
        rig.run(25)
        assert rig.buffer.log.missed == 0

    @pytest.mark.parametrize("stop", [0.1, 4, 8.5, 31, 38.4, 59])
    @pytest.mark.parametrize("off", [0, 0.4, 3, 9, 10, 25, 61, 500])
    def test_after_a_restart_every_tick_is_behind_the_markers_and_soon(
        self, rig: Rig, stop: float, off: float
    ) -> None:
        rig.add("cpu")
        rig.add("disk_usage", interval=60)
        rig.run(stop, series_end=True)
        rig.world.now += off
        restarted = rig.world.wall() * 1000
        rig.restart()
        rig.run(130)
        missing = 0
        for name, interval in (("cpu", 10_000), ("disk_usage", 60_000)):
            ((ended, _),) = rig.ended(name)
            times = rig.times(name)
            assert times == sorted(set(times))
            behind = [at for at in times if at > ended]
            assert max(at for at in times if at < ended) <= ended - 1
            assert behind[0] <= restarted + 10_000  # not a minute for the slow one
            assert (ended - grid.offset(HOST, 10_000)) % 10_000 != 0
            last = [at for at in times if at < ended][-1]
            missing += grid.skipped(last, behind[0], interval)
        assert rig.buffer.log.missed == missing

    def test_a_stop_at_a_time_of_the_grid_takes_no_tick_s_place(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.run(1)
        first = slot(START)
        rig.world.step((first + 10_000) / 1000 - rig.world.wall() + 1e-6)
        assert rig.schedule is not None
        rig.schedule._end_all()
        assert [at for at, _ in rig.ended("cpu")] == [first + 10_001]
        rig.restart()
        rig.run(15)
        assert rig.times("cpu") == [first, first + 20_000]

    def test_what_was_missed_is_known_even_where_the_log_begins_with_the_markers(self, rig: Rig) -> None:
        rig.add("cpu").labels = ("0", "1", "2")
        rig.run(13)
        rig.buffer.log._encoder.reset()  # as if a key frame had been due
        assert rig.schedule is not None
        rig.schedule._end_all()
        rig.world.now += 60
        rig.restart()
        assert rig.buffer.last("cpu") is None
        rig.run(0.1)
        *_, last, now = rig.times("cpu")
        assert rig.buffer.log.missed == 3 * ((now - last) // 10_000 - 1) > 0

    @pytest.mark.parametrize(("back", "waits"), [(0.5, True), (4, True), (9, True), (3_600, False)])
    def test_a_clock_that_was_set_back_a_little_is_waited_for(
        self, rig: Rig, back: float, waits: bool
    ) -> None:
        rig.add("cpu")
        rig.run(12)
        rig.world.step(-back)
        assert rig.schedule is not None
        rig.schedule._end_all()
        ((ended, _),) = rig.ended("cpu")
        now, last = int(rig.world.wall() * 1000), rig.times("cpu")[-1]
        assert ended == (max(now, last + 1) if waits else now)
        assert (ended > last) is waits


class TestApart:
    def test_its_tick_is_in_the_record_of_its_round(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.add("scrape", apart=True)
        rig.run(35)
        assert [sorted(tick.group for tick in entry.ticks) for entry in rig.rounds()] == 4 * [
            ["cpu", "scrape"]
        ]

    def test_one_that_hangs_delays_nobody_and_its_late_tick_has_the_time_of_its_round(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.add("quick", apart=True)
        slow = rig.add("slow", timeout=30, apart=True)
        rig.world.at(5, lambda: rig.hang(slow))

        def let_go() -> None:
            assert slow.hang is not None
            hanging, slow.hang = slow.hang, None
            hanging.set()
            assert rig.schedule is not None
            ended = rig.schedule._apart._ended
            wait_for(lambda: not ended.empty(), DEADLINE, "the collector to return")

        rig.world.at(23, let_go)
        rig.run(45)
        first = slot(START)
        everybody = [first + n * 10_000 for n in range(5)]
        assert rig.times("cpu") == rig.times("quick") == everybody
        # The one that began at 10 ended at 23: the one at 20 is missing.
        assert rig.times("slow") == [everybody[0], everybody[1], everybody[3], everybody[4]]
        assert rig.buffer.log.missed == 1

    def test_one_that_fails_is_told_like_any_other(self, rig: Rig) -> None:
        scrape = rig.add("scrape", apart=True)
        scrape.error = OSError("no")
        rig.run(25)
        assert [e["collector"] for e in rig.log.of(Event.COLLECTOR_FAILED, "warning")] == ["scrape"]
        assert rig.plan("scrape").failures == 3


class TestWhatIsReturned:
    def test_something_that_cannot_be_stored_is_a_failed_run(self, rig: Rig) -> None:
        rig.add("cpu")
        odd = rig.add("odd")
        odd.labels = (5,)  # type: ignore[assignment]
        plan = rig.plan("odd")
        plan.columns = Columns((), {})  # which knows none of its metrics
        rig.run(25)
        assert len(rig.times("cpu")) == 3
        assert rig.times("odd") == []
        assert len(rig.log.of(Event.COLLECTOR_FAILED, "warning")) == 1
        assert plan.failures == 3

    def test_very_many_series_are_several_records_of_one_time(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agent.collect.schedule.RECORD_SAMPLES", 10)
        for name, count in (("a", 6), ("b", 6), ("c", 20), ("d", 1)):
            rig.add(name).labels = [str(i) for i in range(count)]
        rig.run(15)
        first = slot(START)
        assert [(entry.wall_ms, [tick.group for tick in entry.ticks]) for entry in rig.rounds()] == [
            (at, groups) for at in (first, first + 10_000) for groups in (["a"], ["b"], ["c"], ["d"])
        ]
        assert rig.buffer.log.missed == 0

    def test_what_does_not_fit_in_a_record_is_divided_further(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("buffer.codec.MAX_SAMPLES", 3)
        for name in ("a", "b", "c"):
            rig.add(name)
        rig.add("large").labels = ("1", "2", "3")
        rig.run(15)
        assert [len(rig.times(name)) for name in ("a", "b", "c", "large")] == [2, 2, 2, 0]
        assert len(rig.log.of(Event.APPEND_FAILED, "error")) == 2
        assert rig.schedule is not None
        assert rig.schedule.append_failures == 2


def test_records_hold_every_tick_once_and_in_order() -> None:
    at = Instant(0, 0, BOOT)
    series = tuple(Series("a", (("b", str(i)),)) for i in range(RECORD_SAMPLES + 1))

    def sizes(*wanted: int) -> list[list[int]]:
        ticks = [Tick(at, str(i), series[:size], [0.0] * size) for i, size in enumerate(wanted)]
        found = list(records(ticks))
        assert [tick for record in found for tick in record] == ticks
        return [[len(tick.series) for tick in record] for record in found]

    most = RECORD_SAMPLES
    assert sizes() == []
    assert sizes(0) == [[0]]
    assert sizes(1, 2, 3) == [[1, 2, 3]]
    assert sizes(most, 0, 1) == [[most, 0], [1]]
    assert sizes(1, most + 1, 1) == [[1], [most + 1], [1]]


def test_a_schedule_without_collectors_starts_and_stops(tmp_path: Path) -> None:
    buffer = Buffer(str(tmp_path))
    schedule = Schedule([], buffer, BOOT, Log(), World(START))
    schedule.start()
    schedule.stop(1, series_end=True)
    assert schedule.plans == []
    buffer.close()


def test_the_thread_begins_and_ends(tmp_path: Path) -> None:
    """The one test on the real clocks: started, ticking, stopped."""
    buffer = Buffer(str(tmp_path))
    plan = Plan("cpu", Collector(), Columns(METRICS, {"hostname": HOST}), 0.1, 0.1, HOST)
    schedule = Schedule([plan], buffer, BOOT, Log(), SystemClock())
    schedule.start()
    wait_for(lambda: buffer.log.end >= 3, DEADLINE, "three rounds")
    schedule.stop(DEADLINE, series_end=True)
    assert not schedule._thread.is_alive()
    end = buffer.log.end
    assert buffer.last("cpu.ended") is not None
    buffer.close()
    assert buffer.log.end == end


class TestAdopt:
    """Plans are put in place of others, in the middle of everything."""

    def adopt(self, rig: Rig, seconds: float, *plans: Plan) -> None:
        def now() -> None:
            assert rig.schedule is not None
            rig.schedule.adopt(plans)

        rig.world.at(seconds, now)

    def other(self, rig: Rig, name: str, interval: float = 10, label: str = "x", **of: Any) -> Plan:
        collector = Collector((label,))
        return Plan(name, collector, Columns(METRICS, {"hostname": HOST}), interval, 5, HOST, **of)

    def test_what_stays_goes_on_and_what_is_gone_ends(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.add("memory")
        cpu, _ = rig._plans
        self.adopt(rig, 15.5, cpu)
        rig.run(45)
        assert rig.times("cpu") == every_10_s(slot(START), 5)
        assert rig.times("memory") == every_10_s(slot(START), 2)
        ((ended, _),) = rig.ended("memory")
        assert ended == int((START + 15.5) * 1000)
        assert rig.ended("cpu") == []
        assert rig.buffer.log.missed == 0
        assert rig.log.events == []

    def test_one_that_is_new_begins_with_its_next_time_and_has_missed_nothing(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.add("memory")
        cpu = rig.plan("cpu")
        self.adopt(rig, 12, cpu)
        again = self.other(rig, "memory", 5)
        self.adopt(rig, 58, cpu, again)  # nobody wanted to have what is not there
        rig.run(75)
        back = [at for at in rig.times("memory") if at > rig.ended("memory")[0][0]]
        assert back == [slot(START + 58, 5) + 5_000 * n for n in range(1, 4)]
        assert rig.buffer.log.missed == 0

    @pytest.mark.parametrize(("before", "after"), [(10, 60), (60, 10), (10, 1), (30, 20)])
    def test_another_interval_misses_nothing(self, rig: Rig, before: int, after: int) -> None:
        rig.add("cpu", before)
        new = self.other(rig, "cpu", after)
        self.adopt(rig, 100.5, new)
        rig.run(300)
        times, at = rig.times("cpu"), int((START + 100.5) * 1000)
        assert {b - a for a, b in pairwise(t for t in times if t <= at)} == {before * 1000}
        behind = [t for t in times if t > at]
        assert behind[0] - at <= after * 1000
        assert {b - a for a, b in pairwise(behind)} == {after * 1000}
        assert rig.buffer.log.missed == 0
        assert rig.ended("cpu") == []

    def test_other_labels_end_the_old_series_with_the_first_tick_that_has_them(self, rig: Rig) -> None:
        collector = rig.add("cpu")
        rig._plans[0]._made_of = "cpu"
        new = self.other(rig, "cpu", label="unused", made_of="cpu")
        new.columns = Columns(METRICS, {"hostname": HOST, "role": "gateway"})
        self.adopt(rig, 15.5, new)
        rig.run(45)
        assert new.collect is collector  # what it remembers for its rates goes on
        assert rig.times("cpu") == every_10_s(slot(START), 5)
        assert [at for at, _ in rig.ended("cpu")] == [slot(START) + 20_000]
        assert rig.buffer.log.missed == 0

    def test_a_collector_that_begins_anew_ends_with_its_second_tick_what_is_gone_then(self, rig: Rig) -> None:
        """Its first one has no rates: they are there again in the second, and nothing has blinked."""
        rig.add("cpu").labels = ("rate", "gone")
        new = self.other(rig, "cpu", label="value")
        assert isinstance(new.collect, Collector)
        new.collect.during[2] = lambda: setattr(new.collect, "labels", ("value", "rate"))
        self.adopt(rig, 15.5, new)
        rig.run(45)
        assert rig.ended("cpu") == [(slot(START) + 30_000, ["gone"])]

    def test_nothing_changes_where_nothing_is_different(self, rig: Rig) -> None:
        collector = rig.add("cpu")
        rig._plans[0]._made_of = rig._plans[0]._shown_as = "cpu"
        for n in range(20):
            self.adopt(rig, n, self.other(rig, "cpu", made_of="cpu", shown_as="cpu"))
        rig.run(45)
        assert len(collector.calls) == 5
        assert rig.times("cpu") == every_10_s(slot(START), 5)

    def test_a_run_that_is_under_way_ends_in_its_own_place(self, rig: Rig) -> None:
        slow = rig.add("slow", timeout=8)
        rig.add("cpu")
        rig.hang(slow)
        new = self.other(rig, "slow", label="new")
        self.adopt(rig, 2, rig.plan("cpu"), new)
        rig.world.at(6, lambda: rig.release(slow))
        rig.run(15)
        assert rig.times("slow") == rig.times("cpu") == every_10_s(slot(START), 2)
        assert rig.buffer.log.missed == 0
        assert rig.log.events == []

    @pytest.mark.parametrize("interval", [10, 5])
    def test_one_that_takes_all_its_time_is_replaced_between_two_runs(self, rig: Rig, interval: int) -> None:
        """As a scrape of a target that does not answer: it ends just before it is to begin again."""
        slow = rig.add("slow", timeout=12)
        rig.add("cpu")
        rig.hang(slow)
        new = self.other(rig, "slow", interval, label="new")
        self.adopt(rig, 2, rig.plan("cpu"), new)
        due = (slot(START) + 9_999) / 1000 - START
        rig.world.at(due, lambda: rig.release(slow))
        rig.run(due + 12)
        assert len(slow.calls) == 1
        assert isinstance(new.collect, Collector)
        if interval == 10:
            assert rig.times("slow") == every_10_s(slot(START), 3)
        assert len(new.collect.calls) == 1 + 12 // interval
        assert rig.buffer.log.missed == 0

    @pytest.mark.parametrize("apart", [False, True])
    def test_one_that_hangs_is_replaced_and_what_it_returns_later_is_thrown_away(
        self, rig: Rig, apart: bool
    ) -> None:
        stuck = rig.add("slow", apart=apart)
        rig.add("cpu")
        rig.hang(stuck)
        hanging = stuck.hang
        assert hanging is not None
        new = self.other(rig, "slow", label="new", apart=apart)
        self.adopt(rig, 12, rig.plan("cpu"), new)

        def release() -> None:
            stuck.hang = None
            hanging.set()
            wait_for(lambda: not [t for t in threading.enumerate() if t.name == "apart slow"], DEADLINE, "it")

        rig.world.at(26, release)
        rig.run(45)
        assert rig.times("slow") == every_10_s(slot(START) + 20_000, 3)
        assert rig.times("cpu") == every_10_s(slot(START), 5)
        assert len(rig.log.of(Event.COLLECTOR_TIMED_OUT)) == 1
        assert not rig.log.of(Event.COLLECTOR_RECOVERED)
        if rig.schedule is not None:
            rig.schedule._apart.close()

    def test_a_host_that_slept_does_not_make_it_overdue(self, tmp_path: Path) -> None:
        """Its clock counts that time, and its waits do not: it comes back when the rest of its pause is over."""

        class Slept(SystemClock):
            ahead = 0.0

            @staticmethod
            def monotonic() -> float:
                return SystemClock.monotonic() + Slept.ahead

        plan = Plan("cpu", Collector(), Columns(METRICS, {"hostname": HOST}), 3600, 1, HOST)
        buffer = Buffer(str(tmp_path))
        schedule = Schedule([plan], buffer, BOOT, Log(), Slept())
        schedule.start()
        wait_for(lambda: schedule.is_ready, DEADLINE, "the first round")
        Slept.ahead = 7200.0
        assert schedule.overdue() < 1
        schedule.stop(DEADLINE)
        buffer.close()

    def test_what_hangs_for_ever_in_the_schedule_itself_is_overdue(self, tmp_path: Path) -> None:
        hanging = threading.Event()

        class Stuck:
            def append(self, ticks: Sequence[Tick], missed: int = 0) -> int:
                hanging.wait(DEADLINE)
                return 0

            def last(self, group: str) -> None:
                return None

        plan = Plan("cpu", Collector(), Columns(METRICS, {"hostname": HOST}), 0.1, 0.1, HOST)
        schedule = Schedule([plan], Stuck(), BOOT, Log(), SystemClock())
        assert schedule.overdue() == 0
        schedule.start()
        wait_for(lambda: schedule.overdue() > 0.5, DEADLINE, "it to be overdue")
        assert not schedule.is_ready
        hanging.set()
        wait_for(lambda: schedule.is_ready and schedule.overdue() < 0.2, DEADLINE, "it to be back")
        schedule.stop(DEADLINE)
