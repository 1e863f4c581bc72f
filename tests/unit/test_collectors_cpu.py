from __future__ import annotations

from pathlib import Path

import pytest

from agent.collectors.cpu import Times, parse_loadavg, parse_stat, usage_percent
from tests.support.hosts import Host, of


def test_a_vm(tmp_path: Path) -> None:
    first, second = Host("vm", tmp_path).both("cpu")
    assert not [name for name, _ in first if "usage" in name]
    assert of(second) == {
        "load_average_1m": 0.07,
        "load_average_5m": 0.05,
        "load_average_15m": 0.01,
        "cpu_user_seconds_total": 72.35,
        "cpu_system_seconds_total": 31.78,
        "cpu_idle_seconds_total": 2977.60,
        "cpu_iowait_seconds_total": 3.90,
    }
    assert of(second, core="all") == {"cpu_usage_percent": 23.34}  # 346 + 119 + 2 of 2001 ticks
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


@pytest.mark.parametrize(
    ("now", "usage"),
    [
        (Times(user=110, system=50, idle=930, iowait=30, busy=180), 25),  # 20 of 20 + 70 - 10
        (Times(user=110, system=50, idle=910, iowait=30, busy=180), 33.33),  # iowait became idle
        (Times(user=100, system=50, idle=860, iowait=40, busy=160), None),  # no tick
        (Times(user=90, system=50, idle=960, iowait=40, busy=150), None),  # busy went backwards
        (Times(user=110, system=50, idle=800, iowait=40, busy=180), None),  # idle went backwards
        (Times(user=110, system=50, idle=860, iowait=40, busy=180), 100),
    ],
)
def test_usage(now: Times, usage: float | None) -> None:
    assert usage_percent(Times(user=100, system=50, idle=860, iowait=40, busy=160), now) == usage


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


def test_one_file_missing_costs_its_series_and_the_interval_goes_on(tmp_path: Path) -> None:
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
    assert [sample.value for sample in samples if sample.name == "cpu_usage_percent"] == [23.34]
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
