"""The recorded hosts as iostat, mpstat and free see them, and what iostat measures on this machine.

They have no option for where the kernel's files are, so they are shown the recorded ones in a mount namespace; after
the first report these are replaced by those of ten seconds later.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.collectors import COLLECTORS, HostPaths
from tests.support.hosts import HOSTS, KINDS, expected, of, values
from tests.support.namespaces import inside
from tools.servers import ServerError, ensure

COLUMNS = {  # iostat's column, and what its value is made of ours by
    "disk_read_bytes_per_sec": ("rkB/s", 1024),
    "disk_write_bytes_per_sec": ("wkB/s", 1024),
    "disk_read_ops_per_sec": ("r/s", 1),
    "disk_write_ops_per_sec": ("w/s", 1),
    "disk_read_time_ms": ("r_await", 1),
    "disk_write_time_ms": ("w_await", 1),
    "disk_io_util_percent": ("util", 1),
    "disk_queue_length": ("aqu-sz", 1),
}
SCRIPT = """
mount --bind "$FAKE/proc/stat" /proc/stat
mount --bind "$FAKE/proc/uptime" /proc/uptime
mount --bind "$FAKE/sys" /sys
"""


@pytest.fixture(scope="module")
def iostat() -> Path:
    try:
        return ensure("iostat").path
    except ServerError as error:
        pytest.skip(str(error))


def show(folder: Path, host: str, at: str, uptime: float) -> None:
    """Write the instant of a host as iostat looks for it: a file for each whole disk."""
    proc = HOSTS / host / at / "proc"
    for path, text in (("stat", (proc / "stat").read_text()), ("uptime", f"{uptime:.2f} 1.00\n")):
        file = folder / "proc" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for line in (proc / "stat").read_text().splitlines():
        if line.startswith("cpu") and not line.startswith("cpu "):
            (folder / "sys/devices/system/cpu" / line.split()[0]).mkdir(parents=True, exist_ok=True)
    (folder / "sys/block").mkdir(exist_ok=True)
    there = set()
    for line in (proc / "diskstats").read_text().splitlines():
        _, _, name, fields = line.split(maxsplit=3)
        there.add(name)
        file = folder / "sys/block" / name / "stat"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(fields + "\n")
    for gone in {path.name for path in (folder / "sys/block").iterdir()} - there:
        (folder / "sys/block" / gone / "stat").unlink()
        (folder / "sys/block" / gone).rmdir()


def second_report(folder: Path, host: str, last: str, *command: object) -> dict[str, Any]:
    """What the command reports of the ten seconds, as JSON; `last` is in the last line of a report."""
    show(folder, host, "first", 1_000_000.0)
    words, environment = inside(SCRIPT, command=["stdbuf", "-oL", *command, "-o", "JSON", "2", "2"])
    environment = {**environment, "FAKE": str(folder)}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        text = ""
        while last not in text:  # it has read, and will again in two seconds
            line = process.stdout.readline()
            assert line, text
            text += line
        show(folder, host, "second", 1_000_010.0)
        text += process.stdout.read()
    statistics: list[dict[str, Any]] = json.loads(text)["sysstat"]["hosts"][0]["statistics"]
    return statistics[-1]


@pytest.mark.parametrize("host", ["laptop", "storage", "raspberrypi", "container", "noswap"])
def test_the_disks_of_the_recorded_hosts(iostat: Path, tmp_path: Path, host: str) -> None:
    report = second_report(tmp_path, host, '"aqu-sz"', iostat, "-dxk")
    reported = {disk["disk_device"]: disk for disk in report["disk"]}
    second = expected(host, "second")
    compared = 0
    for device in {dict(labels).get("device", "") for name, labels in second if name == "disk_queue_length"}:
        mine = of(second, device=device)
        for name, (column, unit) in COLUMNS.items():
            told = reported[device][column] * unit
            if name == "disk_io_util_percent":
                told = min(told, 100)  # the kernel's clocks may make it a little more
            # Both round, bytes to the whole and the rest to two digits.
            assert mine[name] == pytest.approx(told, abs=0.0051 * unit + 0.5 * (unit > 1)), (device, name)
            compared += 1
    assert compared >= len(COLUMNS)


@pytest.mark.parametrize("host", KINDS)
def test_the_cores_of_the_recorded_hosts(iostat: Path, tmp_path: Path, host: str) -> None:
    mpstat = iostat.with_name("mpstat")
    cores = (HOSTS / host / "second/proc/stat").read_text().count("\ncpu")
    report = second_report(tmp_path, host, f'"cpu": "{cores - 1}"', mpstat, "-P", "ALL")
    reported = {core["cpu"]: core for core in report["cpu-load"]}
    second = expected(host, "second")
    busy = {
        dict(labels)["core"]: value
        for (name, labels), value in second.items()
        if name.startswith("cpu_usage")
    }
    assert "all" in busy
    for core, value in busy.items():
        idle = reported[core]["idle"] + reported[core]["iowait"]
        assert value == pytest.approx(100 - idle, abs=0.016), core  # both of theirs are rounded


@pytest.mark.parametrize("host", KINDS)
def test_the_memory_of_the_recorded_hosts(host: str) -> None:
    mine = of(expected(host, "second"))
    command, environment = inside('mount --bind "$FAKE" /proc/meminfo\n', command=["free", "-b", "-w"])
    environment = {**environment, "FAKE": str(HOSTS / host / "second/proc/meminfo")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    head, memory, swap = (line.split() for line in done.stdout.splitlines())
    told = dict(zip(head, map(float, memory[1:]), strict=True))
    assert told["total"] == mine["memory_total_bytes"]
    assert told["free"] == mine["memory_free_bytes"]
    assert told["buffers"] == mine["memory_buffers_bytes"]
    assert told["cache"] == mine["memory_cached_bytes"]
    if host != "noswap":  # without MemAvailable there are as many guesses as programs
        assert told["available"] == mine["memory_available_bytes"]
        assert told["used"] == mine["memory_used_bytes"]  # procps 4
    names = ("swap_total_bytes", "swap_used_bytes", "swap_free_bytes")
    assert [float(word) for word in swap[1:]] == [mine[name] for name in names]


def test_this_machines_counters_lie_between_two_reports(iostat: Path) -> None:
    """`iostat -d` shows kB read and written since boot; ours are read between two of its reports."""

    def report() -> dict[str, dict[str, float]]:
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(
            [iostat, "-dk", "-o", "JSON"], env=environment, capture_output=True, text=True, check=True
        )
        disks = json.loads(done.stdout)["sysstat"]["hosts"][0]["statistics"][0]["disk"]
        return {disk.pop("disk_device"): disk for disk in disks}

    kind = COLLECTORS["disk_io"]
    before = report()
    found = values(kind.build(kind.options(), HostPaths())(0.0))
    after = report()
    devices = {dict(labels)["device"] for _, labels in found} & before.keys() & after.keys()
    if not devices:
        pytest.skip("no disk here that both report")
    for device in devices:
        for name, column in (("disk_read_bytes_total", "kB_read"), ("disk_written_bytes_total", "kB_wrtn")):
            kib = of(found, device=device)[name] / 1024
            assert before[device][column] - 1 <= kib <= after[device][column] + 1, name
