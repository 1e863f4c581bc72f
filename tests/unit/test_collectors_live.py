"""What the collectors say of this machine, against the tools that operators trust."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from agent.collectors import COLLECTORS, HostPaths
from tests.support.hosts import Values, of, values

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="Linux only")

MIB = 1024 * 1024


def collected(name: str) -> Values:
    kind = COLLECTORS[name]
    return values(kind.build(kind.options(), HostPaths())(time.monotonic()))


def output(*command: str) -> list[list[str]]:
    """The words of each line."""
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not here")
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}
    )
    return [line.split() for line in done.stdout.splitlines()]


def test_memory_is_what_free_says() -> None:
    words = output("free", "-b", "-w")
    free = dict(zip(words[0], map(float, words[1][1:]), strict=True))
    found = of(collected("memory"))
    assert found["memory_total_bytes"] == free["total"]
    for series, column in (
        ("free", "free"),
        ("available", "available"),
        ("cached", "cache"),
        ("buffers", "buffers"),
    ):
        assert found[f"memory_{series}_bytes"] == pytest.approx(free[column], abs=128 * MIB), series
    assert found["memory_used_bytes"] == pytest.approx(free["total"] - free["available"], abs=128 * MIB)
    swap = dict(zip(words[0], map(float, words[2][1:]), strict=False))
    assert found["swap_total_bytes"] == swap["total"]
    assert found["swap_used_bytes"] == pytest.approx(swap["used"], abs=128 * MIB)


def test_disk_usage_is_what_df_says() -> None:
    found = collected("disk_usage")
    mountpoints = {dict(labels)["mountpoint"] for _, labels in found}
    if not mountpoints:
        pytest.skip("no file system of the default kind is mounted here")
    for mountpoint in mountpoints:
        mine = {
            name: value for (name, labels), value in found.items() if dict(labels)["mountpoint"] == mountpoint
        }
        total, used, free, use = output("df", "-B1", "--output=size,used,avail,pcent", mountpoint)[1]
        assert mine["disk_total_bytes"] == float(total)
        assert mine["disk_used_bytes"] == pytest.approx(float(used), abs=256 * MIB)
        assert mine["disk_free_bytes"] == pytest.approx(float(free), abs=256 * MIB)
        assert float(use.rstrip("%")) - 1.5 < mine["disk_usage_percent"] <= float(use.rstrip("%")) + 0.5
        inodes, taken = output("df", "--output=itotal,iused", mountpoint)[1]
        if inodes not in ("0", "-"):
            assert mine["inode_total"] == pytest.approx(float(inodes), rel=0.01)
            assert mine["inode_used"] == pytest.approx(float(taken), abs=20_000)


def test_counters_lie_between_two_readings_of_psutil() -> None:
    """The same kernel counters read before and after, by other code: cpu, disks, interfaces."""
    cpu, disks, net = (
        psutil.cpu_times(),
        psutil.disk_io_counters(perdisk=True),
        psutil.net_io_counters(pernic=True),
    )
    found = collected("cpu") | collected("disk_io") | collected("network")
    cpu2, disks2, net2 = (
        psutil.cpu_times(),
        psutil.disk_io_counters(perdisk=True),
        psutil.net_io_counters(pernic=True),
    )
    room = 0.01 * (
        (os.cpu_count() or 1) + 1
    )  # the kernel rounds each line for itself, and the series is the sum of the cores
    for field in ("user", "system", "idle"):
        low, high = getattr(cpu, field), getattr(cpu2, field)
        assert low - room <= of(found)[f"cpu_{field}_seconds_total"] <= high + room
    for (name, labels), value in found.items():
        device, interface = dict(labels).get("device"), dict(labels).get("interface")
        if device and device in disks and name == "disk_read_bytes_total":
            assert disks[device].read_bytes <= value <= disks2[device].read_bytes
        if interface and name == "network_received_bytes_total":
            assert net[interface].bytes_recv <= value <= net2[interface].bytes_recv
    assert {dict(labels)["device"] for name, labels in found if name.startswith("disk")} <= set(disks)


def test_whole_disks_are_those_of_sysfs() -> None:
    """The naming rule against the kernel's own answer, without the disks that have never been used."""
    used = [
        name
        for name in os.listdir("/sys/block")
        if any(map(int, Path(f"/sys/block/{name}/stat").read_text().split()[:11]))
    ]
    kind = COLLECTORS["disk_io"]
    samples = kind.build(kind.options(exclude_devices=()), HostPaths())(0.0)
    devices = {dict(sample.labels)["device"] for sample in samples}
    assert devices == {name.replace("!", "/") for name in used}


def test_usage_follows_a_busy_core() -> None:
    """A process that keeps one core busy is seen by the usage of all of them."""
    collect = COLLECTORS["cpu"].build(COLLECTORS["cpu"].options(), HostPaths())
    collect(0.0)
    spent = time.process_time()
    while time.process_time() - spent < 0.3:
        pass
    started = psutil.cpu_count() or 1
    usage = of(values(collect(1.0)), core="all")["cpu_usage_percent"]
    assert usage > 50 / started


def test_boot_time_and_load() -> None:
    assert of(collected("host"))["host_boot_time_seconds"] == pytest.approx(psutil.boot_time(), abs=2)
    assert of(collected("cpu"))["load_average_15m"] == pytest.approx(os.getloadavg()[2], abs=0.5)
