"""The values of `limpet collect` agree with those of df, free, /proc/stat and iostat on this machine.

Each of these is read before and after the command. The value of a counter is between the two readings. A gauge may
differ by what a busy machine changes in a second or two. What does not change is equal.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.hosts import Values, labeled, of
from tests.support.limpet import LIMPET
from tools.servers import ServerError, ensure

MIB = 1 << 20
T = TypeVar("T")
TICKS = os.sysconf("SC_CLK_TCK")

pytestmark = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux only")


def output(*command: str | Path) -> str:
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not here")
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def collect() -> Values:
    found: Values = {}
    for one in json.loads(output(LIMPET, "collect", "--json")):
        labels = {key: value for key, value in one["labels"].items() if key != "hostname"}
        found[one["name"], tuple(sorted(labels.items()))] = one["value"]
    return found


def between(ask: Callable[[], T]) -> tuple[T, Values, T]:
    before = ask()
    found = collect()
    return before, found, ask()


def test_the_processors() -> None:
    def ask() -> dict[str, list[int]]:
        lines = [
            line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu")
        ]
        return {name: list(map(int, fields)) for name, *fields in lines}

    before, found, after = between(ask)
    for name, at in (("user", 0), ("system", 2), ("idle", 3), ("iowait", 4)):
        mine = round(of(found)[f"cpu_{name}_seconds_total"] * TICKS)
        low, high = sorted((before["cpu"][at], after["cpu"][at]))
        room = len(before)  # the kernel rounds each line for itself, and the series is the sum of the cores
        assert low - room <= mine <= high + room, name
    cores = {name.removeprefix("cpu") or "all" for name in before}
    assert labeled(found, "core") == cores
    usage = {core: next(iter(of(found, core=core).values())) for core in cores}
    assert usage["all"] == pytest.approx(
        sum(v for k, v in usage.items() if k != "all") / (len(cores) - 1), abs=3
    )


def test_the_memory() -> None:
    def ask() -> dict[str, dict[str, float]]:
        head, *rows = (line.split() for line in output("free", "-b", "-w").splitlines())
        return {row[0]: dict(zip(head, map(float, row[1:]), strict=False)) for row in rows}

    before, found, after = between(ask)
    mine = of(found)
    assert mine["memory_total_bytes"] == before["Mem:"]["total"]
    assert mine["swap_total_bytes"] == before["Swap:"]["total"]
    columns = {"free": "free", "available": "available", "cached": "cache", "buffers": "buffers"}
    for name, column in columns.items():
        low, high = sorted((before["Mem:"][column], after["Mem:"][column]))
        assert low - 256 * MIB <= mine[f"memory_{name}_bytes"] <= high + 256 * MIB, name
    assert mine["memory_used_bytes"] == mine["memory_total_bytes"] - mine["memory_available_bytes"]
    share = 100 * mine["memory_used_bytes"] / mine["memory_total_bytes"]
    assert mine["memory_usage_percent"] == pytest.approx(share, abs=0.005)


def test_the_file_systems() -> None:
    columns = (
        "source",
        "fstype",
        "size",
        "used",
        "avail",
        "pcent",
        "itotal",
        "iused",
        "iavail",
        "ipcent",
        "target",
    )

    def ask() -> dict[str, dict[str, str]]:
        rows = output("df", "-B1", f"--output={','.join(columns)}", "-a").splitlines()[1:]
        split = [dict(zip(columns, row.split(maxsplit=len(columns) - 1), strict=False)) for row in rows]
        return {row.get("target", ""): row for row in split}

    before, found, after = between(ask)
    mountpoints = labeled(found, "mountpoint")
    if not mountpoints:
        pytest.skip("no file system of the default kinds is mounted here")
    assert mountpoints <= before.keys()
    for point in mountpoints:
        low, high = before[point], after.get(point, before[point])
        [labels] = {labels for _, labels in found if dict(labels).get("mountpoint") == point}
        assert dict(labels) == {"device": low["source"], "fstype": low["fstype"], "mountpoint": point}
        mine = {name: value for (name, has), value in found.items() if has == labels}
        assert mine["disk_total_bytes"] == float(low["size"])
        moving = {
            "disk_used_bytes": "used",
            "disk_free_bytes": "avail",
            "inode_used": "iused",
            "inode_free": "iavail",
        }
        for name, column in moving.items():
            if name in mine:
                least, most = sorted((float(low[column]), float(high[column])))
                room = 256 * MIB if name.startswith("disk") else 20_000
                assert least - room <= mine[name] <= most + room, (point, name)
        # df rounds Use% up to a whole number.
        used, free = mine["disk_used_bytes"], mine["disk_free_bytes"]
        assert mine["disk_usage_percent"] == pytest.approx(100 * used / (used + free), abs=0.006)
        least, most = sorted(float(row["pcent"].rstrip("%")) for row in (low, high))
        assert least - 1.01 <= mine["disk_usage_percent"] <= most + 0.01


def test_the_disks() -> None:
    try:
        iostat = ensure("iostat").path
    except ServerError as error:
        pytest.skip(str(error))

    def ask() -> dict[str, dict[str, float]]:
        report = json.loads(output(iostat, "-dk", "-o", "JSON"))
        return {one["disk_device"]: one for one in report["sysstat"]["hosts"][0]["statistics"][0]["disk"]}

    before, found, after = between(ask)
    devices = {
        dict(labels)["device"] for name, labels in found if name == "disk_read_bytes_total"
    } & before.keys()
    if not devices:
        pytest.skip("no disk here that both report")
    for device in devices:
        for name, column in (("disk_read_bytes_total", "kB_read"), ("disk_written_bytes_total", "kB_wrtn")):
            kib = of(found, device=device)[name] / 1024
            assert before[device][column] - 1 <= kib <= after[device][column] + 1, (device, name)
