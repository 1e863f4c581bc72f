"""The readers for platforms without /proc, run on this one: they must agree with those of Linux where both can."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from agent.collectors import COLLECTORS, Collect, HostPaths, Options, cpu, disk_io, memory, network, portable
from agent.collectors.kernel import Names, read
from agent.collectors.links import Links
from tests.support.hosts import READING, Values, of, values

ONLY_LINUX = {
    "memory_oom_kills_total",
    "disk_io_time_seconds_total",
    "disk_io_util_percent",
    "disk_queue_length",
    "network_connections",
    "network_missed_in_total",
    "network_unwanted_in_total",
    "host_open_files",
    "host_open_files_max",
    "host_conntrack_entries",
    "host_conntrack_entries_max",
    "host_entropy_bits",
    "sensor_temperature_celsius",
    "sensor_throttled",
    "sensor_undervoltage",
    *(metric.name for name in ("pressure", "link") for metric in COLLECTORS[name].metrics),
}
STEADY = (
    "disk_total_bytes",
    "inode_total",
    "memory_total_bytes",
    "swap_total_bytes",
    "host_boot_time_seconds",
    "host_uptime_seconds",
)


def two_runs(name: str, build: Callable[[Any, HostPaths], Collect]) -> Values:
    collect = build(COLLECTORS[name].options(), HostPaths())
    first = collect(time.monotonic())
    deadline = time.monotonic() + 5
    seen = values(first)
    while time.monotonic() < deadline:  # until the clock ticked, which makes the rates of the processors
        seen = values(collect(time.monotonic()))
        if name != "cpu" or any(series == "cpu_usage_percent" for series, _ in seen):
            break
        time.sleep(0.02)
    return seen


@pytest.mark.parametrize("name", READING)
def test_the_same_series_but_for_what_only_linux_reports(name: str) -> None:
    linux, other = two_runs(name, COLLECTORS[name].build), two_runs(name, portable.BUILD[name])
    assert other or name == "pressure"
    usual = {key for key in linux if key[0] not in ONLY_LINUX and key[0] != "cpu_usage_per_core_percent"}
    if name == "disk_io":  # psutil lists partitions of Linux too, and orders by nothing
        usual = {key for key in usual if key in other}
        assert usual
    if name == "disk_usage":  # psutil does not distinguish a bind mount from another
        usual = {key for key in usual if dict(key[1])["mountpoint"] == "/"}
    assert usual <= other.keys()
    assert not {series for series, _ in other} & ONLY_LINUX
    assert {series for series, _ in other} <= {metric.name for metric in COLLECTORS[name].metrics}
    for key in usual:
        if key[0] in STEADY:
            assert other[key] == pytest.approx(linux[key], abs=1)


def test_interfaces_and_disks_are_those_that_linux_reports() -> None:
    """Psutil's numbers lie between two readings of the files, field by field."""
    nics, disks = (
        Names("interface", lambda name: name != "lo"),
        Names("device", lambda name: not name.startswith("loop"), disk_io.is_partition),
    )

    def files() -> dict[bytes, tuple[int, ...]]:
        devices, _ = disk_io.parse_diskstats(read("/proc/diskstats"), disks)
        interfaces, _ = network.parse_dev(read("/proc/net/dev"), nics, Links("/sys/class/net"))
        return {name: interface[:8] for name, interface in interfaces.items()} | {
            name: disk[:6] for name, disk in devices.items()
        }

    before = files()
    told = portable.interfaces(nics) | portable.disks(disks)
    after = files()
    both = before.keys() & after.keys() & told.keys()
    assert both
    for name in both:
        for low, value, high in zip(before[name], told[name], after[name], strict=True):
            assert low <= value <= high, name


def test_memory_is_what_linux_reports() -> None:
    mine, files = (
        of(values(collect(0.0))) for collect in (portable.memory, memory.build(Options(), HostPaths()))
    )
    assert mine.keys() == files.keys() - ONLY_LINUX
    for series, value in mine.items():
        assert value == pytest.approx(files[series], abs=128 * 2**20), series


def test_a_guests_time_is_not_busy_twice() -> None:
    seconds = {
        "user": 3.0,
        "nice": 1.0,
        "system": 2.0,
        "idle": 50.0,
        "iowait": 4.0,
        "guest": 2.0,
        "guest_nice": 1.0,
    }
    assert portable.times_of(seconds) == cpu.Times(user=300, system=200, idle=5000, iowait=400, busy=600)


def test_platforms_without_statvfs(monkeypatch: pytest.MonkeyPatch) -> None:
    vfs = os.statvfs("/")
    monkeypatch.delattr(os, "statvfs")
    with monkeypatch.context():
        import psutil

        usage = (vfs.f_blocks * vfs.f_frsize, vfs.f_bavail * vfs.f_frsize)
        monkeypatch.setattr(
            psutil,
            "disk_usage",
            lambda path: type("usage", (), {"total": usage[0], "used": usage[0] // 2, "free": usage[1]}),
        )
        space = portable.space(b"/")
    assert (space.frsize, space.blocks, space.bavail) == (1, *usage)
    assert space.files == 0


def test_times_of_a_platform_that_knows_little() -> None:
    times = portable.times_of({"user": 1.5, "system": 0.5, "idle": 10.0, "interrupt": 0.25, "dpc": 0.25})
    assert times == cpu.Times(user=150, system=50, idle=1000, iowait=None, busy=250)
    assert [sample.name for sample in cpu.counters(cpu.counted(times), 100)] == [
        "cpu_user_seconds_total",
        "cpu_system_seconds_total",
        "cpu_idle_seconds_total",
    ]


def test_names_are_left_out() -> None:
    assert portable.interfaces(Names("interface", lambda name: False)) == {}
    assert portable.disks(Names("device", lambda name: False)) == {}
