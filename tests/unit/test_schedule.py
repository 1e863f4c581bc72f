"""The schedule, on a clock that jumps ahead when nobody has anything to do, and a real buffer."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.collect import grid
from agent.collect.plan import CREWS
from agent.collect.recorder import RECORD_SAMPLES, records
from agent.collect.schedule import Schedule, SystemClock
from agent.collect.series import Columns
from agent.system.events import Event
from buffer.buffer import Buffer
from buffer.model import Doubted, Instant, Series, Tick
from buffer.scaled import RAW
from tests.support.collecting import (
    BOOT,
    DAY,
    DEADLINE,
    HOST,
    START,
    Log,
    Rig,
    World,
    a_plan,
    collector,
    every_10_s,
    slot,
)
from tests.support.net import wait_for

FIRST = slot(START)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "data")
    yield rig
    rig.close()


def test_a_round_is_one_append_with_one_time_on_the_grid(rig: Rig) -> None:
    for name in ("cpu", "memory", "network"):
        rig.add(name)
    rig.run(35)
    rounds = rig.rounds()
    assert [entry.wall_ms for entry in rounds] == every_10_s(FIRST, 4)
    for entry in rounds:
        assert [tick.group for tick in entry.ticks] == ["cpu", "memory", "network"]
        assert {tick.at.wall_ms for tick in entry.ticks} == {entry.wall_ms}
        assert len({tick.at for tick in entry.ticks}) == 1
    assert rig.log.events == []


def test_the_first_round_comes_at_once_and_the_others_when_they_are_due(rig: Rig) -> None:
    collector = rig.add("cpu")
    rig.run(35)
    until_second = (FIRST + 10_000) / 1000 - START
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
    rig.add("cpu", "0", "1")
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
    assert minutes == [FIRST, *range(slot(START, 60) + 60_000, last + 1, 60_000)]
    assert len(slow.calls) == len(minutes) >= 4
    both = [entry for entry in rig.rounds() if len(entry.ticks) == 2]
    assert [entry.wall_ms for entry in both] == minutes
    assert set(minutes) <= set(rig.times("cpu"))
    assert rig.missed == 0


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
        assert rig.times("cpu") == every_10_s(FIRST, 2)
        assert rig.missed == 0

    def test_one_that_is_not_comes_at_once(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.run(0.1)
        rig.world.now += 11
        rig.restart()
        rig.run(0.1)
        assert rig.times("cpu") == every_10_s(FIRST, 2)
        assert rig.missed == 0

    def test_the_times_at_which_no_agent_ran_are_missed(self, rig: Rig) -> None:
        rig.add("cpu", "0", "1", "2")
        rig.run(0.1)
        rig.world.now += 65
        rig.restart()
        rig.run(0.1)
        first, last = rig.times("cpu")
        assert rig.missed == 3 * ((last - first) // 10_000 - 1) > 0

    def test_a_minute_s_collector_that_was_restarted_within_it_missed_nothing(self, rig: Rig) -> None:
        rig.add("disk_usage", interval=60)
        rig.run(130)
        rig.world.now += 5
        rig.restart()
        rig.run(130)
        assert rig.missed == 0

    def test_a_last_tick_from_the_future_is_no_reason_to_wait(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.world.step(DAY)
        rig.run(0.1)
        rig.world.step(-DAY)
        rig.restart()
        rig.run(12)
        assert rig.times("cpu") == [slot(START + DAY), *every_10_s(FIRST, 2)]
        assert rig.missed == 0


class TestHanging:
    def test_the_others_continue(self, rig: Rig) -> None:
        rig.hang(rig.add("nfs"))
        rig.add("cpu")
        rig.run(45)
        assert rig.times("cpu") == every_10_s(FIRST, 5)
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
        rig.release(slow, 1.0)
        rig.run(1.9)
        assert rig.groups() == [(FIRST, ["cpu"]), (FIRST, ["slow"])]
        assert rig.rounds()[0].ticks[0].at == rig.rounds()[1].ticks[0].at
        assert rig.log.events == []
        rig.run(30)
        assert rig.missed == 0

    def test_while_the_process_is_stopped_no_timeout_runs(self, rig: Rig) -> None:
        slow, remote = rig.add("slow", timeout=5), rig.add("scrape", timeout=8, crew="remote")
        rig.hang(slow)
        rig.hang(remote)
        rig.world.stop(2, 60)
        rig.release(slow, 64)
        rig.run(69)  # nine seconds without those away
        assert rig.groups()[0] == (FIRST, ["slow"])
        assert rig.plan("slow").timeouts == 0
        assert rig.log.of(Event.COLLECTOR_TIMED_OUT) == [{"collector": "scrape", "timeout_seconds": 8}]

    def test_a_result_that_comes_during_the_next_round_has_its_own_round_s_time(self, rig: Rig) -> None:
        slow, cpu = rig.add("slow", timeout=10), rig.add("cpu")
        rig.hang(slow)
        cpu.during[2] = lambda: rig.release(slow)
        rig.run(8)
        assert rig.groups() == [(FIRST, ["cpu"]), (FIRST, ["slow"]), (FIRST + 10_000, ["cpu"])]

    def test_one_that_returns_after_its_timeout_comes_back_by_itself(self, rig: Rig) -> None:
        nfs = rig.add("nfs", "0", "1")
        rig.add("cpu")
        rig.hang(nfs)
        rig.release(nfs, 25)
        rig.run(60)
        begun = rig.times("nfs")[0]
        assert begun == next(at for at in rig.times("cpu") if at >= START * 1000 + 25_000)
        assert rig.times("nfs") == [at for at in rig.times("cpu") if at >= begun]
        # What it returned so late is in no tick: the first one is that of its second run.
        values = [list(t.values) for entry in rig.rounds() for t in entry.ticks if t.group == "nfs"]
        assert values[0] == [2.0, 2.0]
        assert rig.log.loud() == [Event.COLLECTOR_TIMED_OUT, Event.COLLECTOR_RECOVERED]
        assert rig.log.of(Event.COLLECTOR_RECOVERED, "info")[0]["collector"] == "nfs"
        assert begun > FIRST

    def test_it_can_hang_again(self, rig: Rig) -> None:
        nfs = rig.add("nfs")
        rig.hang(nfs)
        rig.release(nfs, 12)
        rig.hang(nfs, 31)
        rig.run(80)
        assert rig.plan("nfs").timeouts == 2
        assert len(rig.log.of(Event.COLLECTOR_TIMED_OUT, "warning")) == 2

    def test_what_it_misses_is_counted_when_it_is_back(self, rig: Rig) -> None:
        nfs = rig.add("nfs", "0", "1")
        rig.hang(nfs, 1)
        rig.release(nfs, 35)
        rig.run(70)
        times = rig.times("nfs")
        expected = 2 * ((times[-1] - times[0]) // 10_000 + 1 - len(times))
        assert rig.missed == expected > 0

    def test_a_stop_does_not_wait_for_it(self, rig: Rig) -> None:
        rig.hang(rig.add("nfs"))
        rig.run(0)
        rig.schedule.stop(0.0)


class TestErrors:
    def test_what_a_collector_raises_is_logged_once_a_row(self, rig: Rig) -> None:
        bad, good = rig.add("disk_io"), rig.add("cpu")
        bad.raises = OSError(errno.ENOENT, "No such file", "/proc/diskstats")
        rig.set(35, bad, raises=None)
        rig.set(55, bad, raises=ValueError("odd"))
        rig.run(75)
        assert len(bad.calls) == len(good.calls) == len(rig.times("cpu"))
        failures = len(bad.calls) - len(rig.times("disk_io"))
        assert rig.plan("disk_io").failures == failures > 4
        assert rig.log.loud() == [Event.COLLECTOR_FAILED, Event.COLLECTOR_RECOVERED, Event.COLLECTOR_FAILED]
        assert len(rig.log.of(Event.COLLECTOR_FAILED, "debug")) == failures
        first = rig.log.of(Event.COLLECTOR_FAILED, "warning")[0]
        assert first["collector"] == "disk_io"
        words = r"FileNotFoundError: \[Errno 2\] No such file: '/proc/diskstats' \(collecting.py:\d+\)"
        assert re.fullmatch(words, first["error"])

    @pytest.mark.parametrize("trouble", ["broken", "full"])
    def test_a_disk_that_fails_costs_what_it_does_not_take_and_nothing_else(
        self, rig: Rig, trouble: str
    ) -> None:
        collector = rig.add("cpu")
        rig.set(5, rig.disk, **{trouble: True})
        rig.set(35, rig.disk, **{trouble: False})
        rig.run(75)
        failures = rig.schedule.append_failures
        assert failures == 3
        assert len(rig.times("cpu")) == len(collector.calls) - failures
        assert rig.times("cpu")[1] - rig.times("cpu")[0] == 10_000 * (failures + 1)
        assert rig.missed == failures
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
        rig.release(slow, 1.0)
        rig.run(1.9)
        assert len(slow.calls) == 1
        assert rig.log.loud() == [Event.APPEND_FAILED]

    def test_failed_runs_are_missed_when_the_next_one_is_good(self, rig: Rig) -> None:
        bad = rig.add("disk_io", "sda", "sdb")
        rig.set(5, bad, raises=OSError())
        rig.set(25, bad, raises=None)
        rig.run(40)
        assert rig.missed == 2 * rig.plan("disk_io").failures == 4


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
        assert rig.missed == len(missed_intervals(collector.calls))

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
        assert times == every_10_s(FIRST, len(times))  # no time twice
        assert rig.log.events == []

    def test_one_that_is_set_forward_is_followed_and_nothing_is_missed(self, rig: Rig) -> None:
        collector = rig.add("cpu")
        rig.world.at(12, lambda: rig.world.step(3_600))
        rig.run(60)
        times = rig.times("cpu")
        assert len(times) == len(set(times)) == len(collector.calls)
        assert max(b - a for a, b in pairwise(times)) in (3_600_000, 3_610_000)
        assert rig.missed == 0

    def test_one_that_is_set_back_and_right_again_misses_only_what_it_cost(self, rig: Rig) -> None:
        collector = rig.add("cpu")
        rig.world.at(12, lambda: rig.world.step(-3_600))
        rig.world.at(52, lambda: rig.world.step(3_600))
        rig.run(100)
        assert rig.missed == len(missed_intervals(collector.calls))

    def test_one_that_was_wrong_by_years_makes_no_number_of_missed_samples(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.world.at(12, lambda: rig.world.step(10_000 * DAY))
        rig.run(60)
        assert rig.missed == 0


class TestSeriesThatEnd:
    def test_one_that_is_gone_gets_a_marker_in_the_record_in_which_it_is_not(self, rig: Rig) -> None:
        disks = rig.add("disk_io", "sda", "sdb", "sdc")
        rig.add("cpu")
        rig.set(15, disks, labels=("sda",))
        rig.run(55)
        assert rig.ended("disk_io") == [(FIRST + 20_000, ["sdb", "sdc"])]
        (record,) = [entry for entry in rig.rounds() if entry.wall_ms == FIRST + 20_000]
        assert [tick.group for tick in record.ticks] == ["disk_io", "disk_io.ended", "cpu"]
        assert len({tick.at for tick in record.ticks}) == 1
        assert record.samples == 1 + 2 + 1  # they count like any sample
        assert rig.missed == 0

    def test_the_scales_of_the_collector_s_own_group_stay_as_they_are(self, rig: Rig) -> None:
        disks = rig.add("disk_io", "sda", "sdb")
        rig.set(15, disks, labels=("sda",))
        rig.set(35, disks, labels=("sda", "sdb"))
        rig.run(55)
        groups = rig.buffer.log._encoder._groups
        assert RAW not in groups["disk_io"].modes
        assert set(groups["disk_io.ended"].modes) == {RAW}

    def test_one_that_comes_back_is_simply_there_and_can_end_again(self, rig: Rig) -> None:
        disks = rig.add("disk_io", "sda", "sdb")
        for at, labels in ((5, ("sda",)), (15, ("sda", "sdb")), (25, ("sdb", "sda")), (35, ("sda",))):
            rig.set(at, disks, labels=labels)
        rig.run(75)
        assert rig.ended("disk_io") == [(FIRST + 10_000, ["sdb"]), (FIRST + 40_000, ["sdb"])]

    def test_a_collector_that_finds_nothing_any_more_ends_all_of_them_and_misses_none(self, rig: Rig) -> None:
        disks = rig.add("disk_io", "sda", "sdb")
        rig.set(15, disks, labels=())
        rig.set(65, disks, labels=("sda", "sdb"))
        rig.run(95)
        assert rig.ended("disk_io") == [(FIRST + 20_000, ["sda", "sdb"])]
        assert rig.times("disk_io") == [FIRST, FIRST + 10_000, *(FIRST + n * 10_000 for n in range(7, 10))]
        assert rig.missed == 0

    @pytest.mark.parametrize("trouble", ["fails", "hangs"])
    def test_a_run_that_fails_or_hangs_ends_nothing_however_long_that_lasts(
        self, rig: Rig, trouble: str
    ) -> None:
        disks = rig.add("disk_io", "sda", "sdb", timeout=3)
        rig.add("cpu")
        if trouble == "fails":
            rig.set(15, disks, raises=OSError())
            rig.set(1_005, disks, raises=None)
        else:
            rig.hang(disks, 15)
            rig.release(disks, 1_005)
        meanwhile: list[object] = []
        rig.world.at(1_000, lambda: meanwhile.append(rig.ended("disk_io")))
        rig.set(1_001, disks, labels=("sdb",))
        rig.run(1_050)
        assert meanwhile == [[]]
        # What is not there when it works again ended meanwhile.
        ((at, labels),) = rig.ended("disk_io")
        assert labels == ["sda"]
        assert at == next(time for time in rig.times("disk_io") if time > (START + 1_000) * 1000)
        assert rig.missed > 0

    @pytest.mark.parametrize("trouble", ["broken", "full"])
    def test_a_marker_that_cannot_be_stored_comes_with_the_next_tick_that_can(
        self, rig: Rig, trouble: str
    ) -> None:
        disks = rig.add("disk_io", "sda", "sdb", "sdc")
        rig.set(15, disks, labels=("sda",))
        rig.set(15, rig.disk, **{trouble: True})
        rig.set(25, disks, labels=("sda", "sdb"))
        rig.set(35, rig.disk, **{trouble: False})
        rig.run(65)
        # sdb was gone only while nothing could be stored.
        assert rig.ended("disk_io") == [(FIRST + 40_000, ["sdc"])]

    def test_one_that_was_gone_while_no_agent_ran_is_not_known_of(self, rig: Rig) -> None:
        """The first run of a process has no rates: what it lacks says nothing."""
        disks = rig.add("disk_io", "sda", "sdb")
        rig.run(15)
        rig.restart()
        disks.labels = ("sda",)
        rig.run(25)
        assert rig.ended("disk_io") == []


class TestStopThatEndsTheSeries:
    def test_every_live_series_gets_one_marker_in_one_last_record(self, rig: Rig) -> None:
        cpu, disks, usage = rig.add("cpu"), rig.add("disk_io"), rig.add("disk_usage", interval=60)
        cpu.labels, disks.labels, usage.labels = ("0", "1"), ("sda", "sdb"), ("/",)
        rig.set(15, disks, labels=("sda",))
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
        assert rig.missed == 0
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
        rig.hang(nfs, 15)
        rig.run(45, series_end=True)
        assert len(rig.ended("nfs")) == len(rig.ended("cpu")) == 1

    @pytest.mark.parametrize("trouble", ["broken", "full"])
    def test_a_disk_that_does_not_take_them_costs_the_markers_and_nothing_else(
        self, rig: Rig, trouble: str
    ) -> None:
        rig.add("cpu")
        rig.set(12, rig.disk, **{trouble: True})
        rig.run(13, series_end=True)
        setattr(rig.disk, trouble, False)
        assert rig.ended("cpu") == []
        assert len(rig.times("cpu")) == 2
        assert rig.log.loud() == [Event.APPEND_FAILED]
        rig.restart()
        rig.run(25)
        assert rig.missed == 0

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
        assert rig.missed == missing

    def test_a_stop_at_a_time_of_the_grid_takes_no_tick_s_place(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.world.at(1, lambda: rig.world.step((FIRST + 10_000) / 1000 - rig.world.wall() + 1e-6))
        rig.run(1, series_end=True)
        assert [at for at, _ in rig.ended("cpu")] == [FIRST + 10_001]
        rig.restart()
        rig.run(15)
        assert rig.times("cpu") == [FIRST, FIRST + 20_000]

    def test_what_was_missed_is_known_even_where_the_log_begins_with_the_markers(self, rig: Rig) -> None:
        rig.add("cpu", "0", "1", "2")
        rig.world.at(13, lambda: rig.buffer.log._encoder.reset())  # as if a key frame had been due
        rig.run(13, series_end=True)
        rig.world.now += 60
        rig.restart()
        assert rig.buffer.last("cpu") is None
        rig.run(0.1)
        *_, last, now = rig.times("cpu")
        assert rig.missed == 3 * ((now - last) // 10_000 - 1) > 0

    @pytest.mark.parametrize(("back", "waits"), [(0.5, True), (4, True), (9, True), (3_600, False)])
    def test_a_clock_that_was_set_back_a_little_is_waited_for(
        self, rig: Rig, back: float, waits: bool
    ) -> None:
        rig.add("cpu")
        rig.world.at(12, lambda: rig.world.step(-back))
        rig.run(12, series_end=True)
        ((ended, _),) = rig.ended("cpu")
        now, last = int(rig.world.wall() * 1000), rig.times("cpu")[-1]
        assert ended == (max(now, last + 1) if waits else now)
        assert (ended > last) is waits


class TestRemote:
    def test_its_tick_is_in_the_record_of_its_round(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.add("scrape", crew="remote")
        rig.run(35)
        assert [groups for _, groups in rig.groups()] == 4 * [["cpu", "scrape"]]

    def test_one_that_hangs_delays_nobody_and_its_late_tick_has_the_time_of_its_round(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.add("quick", crew="remote")
        slow = rig.add("slow", timeout=30, crew="remote")
        rig.hang(slow, 5)
        rig.release(slow, 23)
        rig.run(45)
        everybody = every_10_s(FIRST, 5)
        assert rig.times("cpu") == rig.times("quick") == everybody
        # The one that began at 10 ended at 23: the one at 20 is missing.
        assert rig.times("slow") == [everybody[0], everybody[1], everybody[3], everybody[4]]
        assert rig.missed == 1

    def test_one_that_fails_is_logged_like_any_other(self, rig: Rig) -> None:
        scrape = rig.add("scrape", crew="remote")
        scrape.raises = OSError("no")
        rig.run(25)
        assert [e["collector"] for e in rig.log.of(Event.COLLECTOR_FAILED, "warning")] == ["scrape"]
        assert rig.plan("scrape").failures == 3


class TestWhatIsReturned:
    def test_something_that_cannot_be_stored_is_a_failed_run(self, rig: Rig) -> None:
        rig.add("cpu")
        odd = rig.add("odd")
        odd.labels = (5,)
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
        monkeypatch.setattr("agent.collect.recorder.RECORD_SAMPLES", 10)
        for name, count in (("a", 6), ("b", 6), ("c", 20), ("d", 1)):
            rig.add(name).labels = [str(i) for i in range(count)]
        rig.run(15)
        assert rig.groups() == [
            (at, groups) for at in (FIRST, FIRST + 10_000) for groups in (["a"], ["b"], ["c"], ["d"])
        ]
        assert rig.missed == 0

    def test_what_does_not_fit_in_a_record_is_divided_further(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("buffer.codec.MAX_SAMPLES", 3)
        for name in ("a", "b", "c"):
            rig.add(name)
        rig.add("large", "1", "2", "3")
        rig.run(15)
        assert [len(rig.times(name)) for name in ("a", "b", "c", "large")] == [2, 2, 2, 0]
        assert len(rig.log.of(Event.APPEND_FAILED, "error")) == 1  # once in a row
        assert rig.schedule.append_failures == 2

    def test_what_cannot_be_stored_costs_itself_once_in_the_log_and_is_missed(self, rig: Rig) -> None:
        rig.add("cpu")
        bad = rig.add("bad", "c")
        rig.set(5, bad, labels=("caf\udce9",))
        rig.set(35, bad, labels=("c",))
        rig.run(75)
        stored = rig.times("bad")
        assert stored[1] - stored[0] == 40_000
        assert len(rig.times("cpu")) == len(stored) + 3
        assert rig.missed == 3
        assert rig.log.loud() == [Event.APPEND_FAILED, Event.APPEND_RECOVERED]
        assert rig.log.of(Event.APPEND_FAILED, "error")[0]["collector"] == "bad"
        assert rig.buffer.log.written < 3000  # a key frame each time would take more


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
    schedule = Schedule([a_plan("cpu", interval=0.1)], buffer, BOOT, Log(), SystemClock())
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

    def test_what_stays_continues_and_what_is_gone_ends(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.add("memory")
        cpu, _ = rig.plans
        rig.adopt(15.5, cpu)
        rig.run(45)
        assert rig.times("cpu") == every_10_s(FIRST, 5)
        assert rig.times("memory") == every_10_s(FIRST, 2)
        ((ended, _),) = rig.ended("memory")
        assert ended == int((START + 15.5) * 1000)
        assert rig.ended("cpu") == []
        assert rig.missed == 0
        assert rig.log.events == []

    def test_one_that_is_new_begins_with_its_next_time_and_has_missed_nothing(self, rig: Rig) -> None:
        rig.add("cpu")
        rig.add("memory")
        cpu = rig.plan("cpu")
        rig.adopt(12, cpu)
        rig.adopt(58, cpu, a_plan("memory", interval=5))  # nobody wanted to have what is not there
        rig.run(75)
        back = [at for at in rig.times("memory") if at > rig.ended("memory")[0][0]]
        assert back == [slot(START + 58, 5) + 5_000 * n for n in range(1, 4)]
        assert rig.missed == 0

    @pytest.mark.parametrize(("before", "after"), [(10, 60), (60, 10), (10, 1), (30, 20)])
    def test_another_interval_misses_nothing(self, rig: Rig, before: int, after: int) -> None:
        rig.add("cpu", interval=before)
        rig.adopt(100.5, a_plan("cpu", interval=after))
        rig.run(300)
        times, at = rig.times("cpu"), int((START + 100.5) * 1000)
        assert {b - a for a, b in pairwise(t for t in times if t <= at)} == {before * 1000}
        behind = [t for t in times if t > at]
        assert behind[0] - at <= after * 1000
        assert {b - a for a, b in pairwise(behind)} == {after * 1000}
        assert rig.missed == 0
        assert rig.ended("cpu") == []

    def test_other_labels_end_the_old_series_with_the_first_tick_that_has_them(self, rig: Rig) -> None:
        old = rig.add("cpu", identity="cpu")
        new = a_plan("cpu", "unused", identity="cpu", host={"role": "gateway"})
        rig.adopt(15.5, new)
        rig.run(45)
        assert new.collect is old  # what it remembers for its rates is kept
        assert rig.times("cpu") == every_10_s(FIRST, 5)
        assert [at for at, _ in rig.ended("cpu")] == [FIRST + 20_000]
        assert rig.missed == 0

    def test_a_collector_that_begins_again_ends_with_its_second_tick_what_is_gone_then(
        self, rig: Rig
    ) -> None:
        """Its first one has no rates: they are there again in the second, and nothing has blinked."""
        rig.add("cpu", "rate", "gone")
        new = a_plan("cpu", "value")
        collector(new).during[2] = lambda: setattr(new.collect, "labels", ("value", "rate"))
        rig.adopt(15.5, new)
        rig.run(45)
        assert rig.ended("cpu") == [(FIRST + 30_000, ["gone"])]

    def test_nothing_changes_where_nothing_is_different(self, rig: Rig) -> None:
        same: dict[str, Any] = {"identity": "cpu", "view_identity": "cpu"}
        cpu = rig.add("cpu", **same)
        for n in range(20):
            rig.adopt(n, a_plan("cpu", **same))
        rig.run(45)
        assert len(cpu.calls) == 5
        assert rig.times("cpu") == every_10_s(FIRST, 5)

    def test_a_run_that_is_under_way_ends_in_its_own_place(self, rig: Rig) -> None:
        slow = rig.add("slow", timeout=8)
        rig.add("cpu")
        rig.hang(slow)
        new = a_plan("slow", "new")
        rig.adopt(2, rig.plan("cpu"), new)
        rig.release(slow, 6)
        rig.run(15)
        assert rig.times("slow") == rig.times("cpu") == every_10_s(FIRST, 2)
        assert rig.missed == 0
        assert rig.log.events == []

    @pytest.mark.parametrize("interval", [10, 5])
    def test_one_that_takes_all_its_time_is_replaced_between_two_runs(self, rig: Rig, interval: int) -> None:
        """As a scrape of a target that does not answer: it ends just before it is to begin again."""
        slow = rig.add("slow", timeout=12)
        rig.add("cpu")
        rig.hang(slow)
        new = a_plan("slow", "new", interval=interval)
        rig.adopt(2, rig.plan("cpu"), new)
        due = (FIRST + 9_999) / 1000 - START
        rig.release(slow, due)
        rig.run(due + 12)
        assert len(slow.calls) == 1
        if interval == 10:
            assert rig.times("slow") == every_10_s(FIRST, 3)
        assert len(collector(new).calls) == 1 + 12 // interval
        assert rig.missed == 0

    @pytest.mark.parametrize("crew", CREWS)
    def test_one_that_hangs_is_replaced_and_what_it_returns_later_is_thrown_away(
        self, rig: Rig, crew: str
    ) -> None:
        stuck = rig.add("slow", crew=crew)
        rig.add("cpu")
        rig.hang(stuck)
        rig.adopt(12, rig.plan("cpu"), a_plan("slow", "new", crew=crew))
        rig.release(stuck, 26)
        rig.run(45)
        assert rig.times("slow") == every_10_s(FIRST + 20_000, 3)
        assert rig.times("cpu") == every_10_s(FIRST, 5)
        assert len(rig.log.of(Event.COLLECTOR_TIMED_OUT)) == 1
        assert not rig.log.of(Event.COLLECTOR_RECOVERED)

    def test_a_host_that_slept_does_not_make_it_overdue(self, tmp_path: Path) -> None:
        """Its clock counts that time, and its waits do not: it comes back when the rest of its pause is over."""

        class Slept(SystemClock):
            ahead = 0.0

            @staticmethod
            def monotonic() -> float:
                return SystemClock.monotonic() + Slept.ahead

        buffer = Buffer(str(tmp_path))
        schedule = Schedule([a_plan("cpu", interval=3600)], buffer, BOOT, Log(), Slept())
        schedule.start()
        wait_for(lambda: schedule.is_ready, DEADLINE, "the first round")
        Slept.ahead = 7200.0
        assert schedule.overdue() < 1
        schedule.stop(DEADLINE)
        buffer.close()

    def test_what_hangs_forever_in_the_schedule_itself_is_overdue(self, tmp_path: Path) -> None:
        hanging = threading.Event()

        class Stuck:
            def append(self, ticks: Sequence[Tick], missed: int = 0, clock: Doubted | None = None) -> int:
                hanging.wait(DEADLINE)
                return 0

            def last(self, group: str) -> None:
                return None

        schedule = Schedule([a_plan("cpu", interval=0.1)], Stuck(), BOOT, Log(), SystemClock())
        assert schedule.overdue() == 0
        schedule.start()
        wait_for(lambda: schedule.overdue() > 0.5, DEADLINE, "it to be overdue")
        assert not schedule.is_ready
        hanging.set()
        wait_for(lambda: schedule.is_ready and schedule.overdue() < 0.2, DEADLINE, "it to be back")
        schedule.stop(DEADLINE)
