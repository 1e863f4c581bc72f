from __future__ import annotations

from pathlib import Path

import pytest

from agent.collectors import Trouble
from agent.collectors.base import ignore
from agent.collectors.cpu import Times, cpu, parse_loadavg, parse_stat
from tests.support.hosts import Host, Values, of, values


def test_a_vm(tmp_path: Path) -> None:
    first, second = Host("vm", tmp_path).both("cpu")
    assert not [name for name, _ in first if "usage" in name]
    assert of(second) == {
        "load_average_1m": 0.07,
        "load_average_5m": 0.05,
        "load_average_15m": 0.01,
        # The first sum of the kernel and what each core counted since, each of which the kernel rounds down to a tick:
        # so within a tick for each core of the kernel's second sum, which is 72.35, 31.78 and 2977.60.
        "cpu_user_seconds_total": 72.36,
        "cpu_system_seconds_total": 31.77,
        "cpu_idle_seconds_total": 2977.61,
        "cpu_iowait_seconds_total": 3.90,
    }
    assert of(second, core="all") == {"cpu_usage_percent": 23.36}  # 347 + 118 + 2 of 1999 ticks
    assert of(second, core="0") == {"cpu_usage_per_core_percent": 21.88}
    assert of(second, core="1") == {"cpu_usage_per_core_percent": 24.85}


def test_what_counts_as_busy(tmp_path: Path) -> None:
    first, second = Host("server", tmp_path).both("cpu")
    assert of(first)["cpu_user_seconds_total"] == 4000.00  # of all cores, without 25 s of nice
    assert of(second)["cpu_user_seconds_total"] == 4010.00
    assert of(second)["load_average_1m"] == 12.34
    assert of(second, core="0")["cpu_usage_per_core_percent"] == 100
    assert of(second, core="1")["cpu_usage_per_core_percent"] == 0
    # 100 ticks of a guest, which are in user too, 400 of iowait and 500 of idle:
    assert of(second, core="2")["cpu_usage_per_core_percent"] == 10
    # 150 nice, 50 irq and softirq each less one, 250 steal, 500 idle:
    assert of(second, core="3")["cpu_usage_per_core_percent"] == 50
    assert of(second, core="all") == {"cpu_usage_percent": 40}


def runs(*stats: bytes, seconds: float = 10, told: list[Trouble] | None = None) -> list[Values]:
    """What the collector returns for these contents of /proc/stat, with 100 ticks a second."""
    left = iter(stats)
    collect = cpu(
        100, lambda: parse_stat(next(left))[0], lambda: (0.0,) * 3, ignore if told is None else told.append
    )
    return [values(collect(turn * seconds)) for turn in range(len(stats))]


@pytest.mark.parametrize(
    ("now", "usage"),
    [
        (b"cpu 110 10 50 930 30", 25),  # 20 of 20 + 70 - 10
        (b"cpu 110 10 50 910 30", 33.33),  # iowait became idle
        (b"cpu 110 10 50 858 40", 100),  # idle fell by no more than rounding explains
        (b"cpu 100 0 50 860 40", None),  # no tick
        (b"cpu 90 0 50 960 40", None),  # busy went backwards
        (b"cpu 110 10 50 800 40", None),  # idle went backwards
        (b"cpu 110 10 50 860 40", 100),
    ],
)
def test_usage(now: bytes, usage: float | None) -> None:
    _, found = runs(b"cpu 100 0 50 860 40", now)
    assert of(found, core="all").get("cpu_usage_percent") == usage


def counted(stats: list[bytes], name: str, seconds: float = 10) -> list[float]:
    return [of(found)[f"cpu_{name}_seconds_total"] for found in runs(*stats, seconds=seconds)]


def test_iowait_that_falls_holds_the_counter() -> None:
    """The kernel moves a sleep from iowait to idle when its task wakes on another core: proc_stat(5)."""
    stats = [b"cpu 5 0 5 100 11 0 0 0", b"cpu 5 0 5 102 10 0 0 0", b"cpu 5 0 5 102 13 0 0 0"]
    assert counted(stats, "iowait") == [0.11, 0.11, 0.13]
    assert counted(stats, "idle") == [1.0, 1.01, 1.02]  # the two grow by what their sum grows


def test_idle_that_falls_holds_the_counter() -> None:
    stats = [b"cpu 5 0 5 100 11", b"cpu 5 0 5 98 14", b"cpu 5 0 5 105 14"]
    assert counted(stats, "idle") == [1.0, 1.0, 1.05]
    assert counted(stats, "iowait") == [0.11, 0.12, 0.14]


def test_a_long_sleep_that_moves_between_the_fields_is_not_counted_in_one_interval() -> None:
    stats = [b"cpu 5 0 5 90000 11", b"cpu 5 0 5 84011 7000", b"cpu 5 0 5 92000 11"]
    assert counted(stats, "idle") == [900, 900, 910]
    assert counted(stats, "iowait") == [0.11, 10.11, 10.11]


TWO = b"cpu 200 0 60 90000 40 0 0 0\ncpu0 100 0 30 45000 20 0 0 0\ncpu1 100 0 30 45000 20 0 0 0\n"
ONE = b"cpu 100 0 30 46000 20 0 0 0\ncpu0 100 0 30 46000 20 0 0 0\n"


def test_a_core_that_goes_offline_and_comes_back_takes_and_adds_nothing() -> None:
    """The sum falls by the core's time and leaps back, as in lxcfs; the counters follow the core that stays."""
    back = b"cpu 200 0 60 92000 40\ncpu0 100 0 30 47000 20 0 0 0\ncpu1 100 0 30 45000 20 0 0 0\n"
    on = b"cpu 300 0 60 93000 40\ncpu0 100 0 30 48000 20 0 0 0\ncpu1 200 0 30 45900 20 0 0 0\n"
    assert counted([TWO, ONE, back, on], "idle") == [900, 910, 920, 939]
    assert counted([TWO, ONE, back, on], "user") == [2, 2, 2, 3]


def test_a_core_that_begins_again_at_0_makes_no_reset() -> None:
    """Before Linux 6.9 the idle time of a core was forgotten while it was offline (kernel commit 71fee48fb772)."""
    fresh = b"cpu 200 0 60 46010 20\ncpu0 100 0 30 46000 20 0 0 0\ncpu1 100 0 30 10 0 0 0 0\n"
    later = b"cpu 210 0 60 48000 20\ncpu0 100 0 30 47000 20 0 0 0\ncpu1 110 0 30 1000 0 0 0 0\n"
    found = runs(TWO, fresh, later)
    assert counted([TWO, fresh, later], "idle") == [900, 910, 929.9]
    assert of(found[1], core="1") == {}
    assert of(found[1], core="all") == {"cpu_usage_percent": 0}
    assert of(found[2], core="1") == {"cpu_usage_per_core_percent": 1.0}


def test_stolen_time_that_wraps_costs_one_interval_of_its_core() -> None:
    """A hypervisor's clock that goes backwards makes 2^64 of it: known after live migrations."""
    wrapped = (
        b"cpu 0 0 0 0 0\ncpu0 200 0 30 45900 20 0 0 0\ncpu1 100 0 30 46000 20 0 0 18446744073709551000\n"
    )
    after = b"cpu 0 0 0 0 0\ncpu0 300 0 30 46800 20 0 0 0\ncpu1 600 0 30 46500 20 0 0 5\n"
    last = b"cpu 0 0 0 0 0\ncpu0 400 0 30 47700 20 0 0 0\ncpu1 1100 0 30 47000 20 0 0 5\n"
    told: list[Trouble] = []
    found = runs(TWO, wrapped, after, last, told=told)
    assert [of(one, core="1").get("cpu_usage_per_core_percent") for one in found] == [None, None, None, 50]
    assert [of(one, core="0").get("cpu_usage_per_core_percent") for one in found] == [None, 10, 10, 10]
    assert [of(one, core="all").get("cpu_usage_percent") for one in found] == [None, 10, 10, 30]
    assert [trouble.why for trouble in told] == ["1 of its cores counted more time than has passed"]
    assert [of(one)["cpu_user_seconds_total"] for one in found] == [2, 3, 4, 10]


@pytest.mark.parametrize(("paused", "trouble"), [(30, False), (0, True)])
def test_a_process_that_was_stopped_after_its_run_began_has_no_trouble(paused: float, trouble: bool) -> None:
    """SIGSTOP between the clock and the file: both cores count 40 s in a run that began 10 s after the last one."""
    stats = iter(
        (
            TWO,
            TWO.replace(b"cpu0 100 0 30 45000", b"cpu0 100 0 30 49000").replace(
                b"cpu1 100 0 30 45000", b"cpu1 100 0 30 49000"
            ),
        )
    )
    clock = iter((500.0, 510.0 + paused))
    told: list[Trouble] = []
    collect = cpu(
        100, lambda: parse_stat(next(stats))[0], lambda: (0.0,) * 3, told.append, lambda: next(clock)
    )
    collect(0)
    found = values(collect(10))
    assert bool(told) == trouble
    assert of(found, core="all") == ({} if trouble else {"cpu_usage_percent": 0})


def test_a_core_that_goes_backwards_costs_its_own_series_only(tmp_path: Path) -> None:
    host = Host("server", tmp_path)
    collect = host.collector("cpu")
    collect(0.0)
    host.show("second")
    stat = host.file("proc/stat")
    stat.write_bytes(stat.read_bytes().replace(b"cpu2 100100 ", b"cpu2 1 "))
    cores = {dict(labels)["core"] for name, _, labels in collect(10.0) if "usage" in name}
    assert cores == {"all", "0", "1", "3"}


def test_a_core_that_is_plugged_in_has_a_usage_from_its_second_run(tmp_path: Path) -> None:
    host = Host("server", tmp_path)
    stat = host.file("proc/stat")
    whole = stat.read_bytes()
    stat.write_bytes(
        b"".join(line for line in whole.splitlines(keepends=True) if not line.startswith(b"cpu3"))
    )
    collect = host.collector("cpu")
    collect(0.0)
    host.show("second")
    assert ("core", "3") not in {pair for sample in collect(10.0) for pair in sample.labels}


def test_one_file_missing_costs_its_series_and_the_interval_continues(tmp_path: Path) -> None:
    host = Host("vm", tmp_path)
    collect = host.collector("cpu")
    collect(0.0)
    host.file("proc/stat").unlink()
    assert {sample.name for sample in collect(5.0)} == {
        "load_average_1m",
        "load_average_5m",
        "load_average_15m",
    }
    host.show("second")
    host.file("proc/loadavg").unlink()
    samples = collect(10.0)
    assert not [sample for sample in samples if sample.name.startswith("load")]
    assert [sample.value for sample in samples if sample.name == "cpu_usage_percent"] == [23.36]
    host.file("proc/stat").unlink()
    with pytest.raises(OSError, match="neither"):
        collect(20.0)


def test_lines_that_are_not_the_kernels() -> None:
    assert parse_stat(b"cpu  1 2 3\ncpu0 a b c d e f\ncpux\nbtime 5\n\n") == ({}, 3)
    assert parse_stat(b"cpu  1 2 3 4 -5\ncpu0 1 2 3 4 99999999999999999999\n") == ({}, 2)
    assert parse_stat(b"") == ({}, 1)
    old = b"cpu  10 1 5 100 7\ncpu0 10 1 5 100 7\n"  # a kernel without irq, softirq and steal
    assert parse_stat(old)[0][b"0"] == Times(user=10, system=5, idle=100, iowait=7, busy=16)
    for bad in (b"0.10 0.20\n", b"a b c\n", b"", b"nan 1 1\n", b"inf 1 1\n", b"-1 0 0\n"):
        assert parse_loadavg(bad) == ((), 1)
