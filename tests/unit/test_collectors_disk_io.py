from __future__ import annotations

from pathlib import Path

import pytest

from agent.collectors import COLLECTORS, HostPaths, Trouble
from agent.collectors.base import ignore
from agent.collectors.disk_io import is_partition
from tests.support.hosts import Host, Values, labeled, of, values

COUNTERS = {
    "disk_read_bytes_total",
    "disk_written_bytes_total",
    "disk_reads_completed_total",
    "disk_writes_completed_total",
    "disk_io_time_seconds_total",
}


def test_a_vm(tmp_path: Path) -> None:
    _, second = Host("vm", tmp_path).both("disk_io")
    assert labeled(second, "device") == {"vda"}
    assert of(second, device="vda") == {
        "disk_read_bytes_total": 4945778 * 512,
        "disk_written_bytes_total": 2553792 * 512,
        "disk_reads_completed_total": 52109,
        "disk_writes_completed_total": 7989,
        "disk_io_time_seconds_total": 6.124,
        "disk_read_bytes_per_sec": 71817626,
        "disk_write_bytes_per_sec": 2675917,
        "disk_read_ops_per_sec": 217.1,
        "disk_write_ops_per_sec": 5.6,
        "disk_read_time_ms": 2.36,
        "disk_write_time_ms": 16.05,
        "disk_await_time_ms": 2.7,
        "disk_io_util_percent": 11.04,
        "disk_queue_length": 0.6,
    }


def test_a_busy_disk(tmp_path: Path) -> None:
    _, second = Host("server", tmp_path).both("disk_io")
    assert of(second, device="sda") == {
        "disk_read_bytes_total": 220480 * 512,
        "disk_written_bytes_total": 440960 * 512,
        "disk_reads_completed_total": 1100,
        "disk_writes_completed_total": 5300,
        "disk_io_time_seconds_total": 32.5,
        "disk_read_bytes_per_sec": 2**20,
        "disk_write_bytes_per_sec": 2**21,
        "disk_read_ops_per_sec": 10,
        "disk_write_ops_per_sec": 30,
        "disk_read_time_ms": 5,
        "disk_write_time_ms": 9,
        "disk_await_time_ms": 8,  # (500 + 2700) ms for 400 requests
        "disk_io_util_percent": 25,
        "disk_queue_length": 0.5,
    }


def test_an_idle_disk_has_rates_of_zero(tmp_path: Path) -> None:
    _, second = Host("server", tmp_path).both("disk_io")
    idle = of(second, device="nvme0n1")
    assert len(idle) == 14
    assert {value for name, value in idle.items() if name not in COUNTERS} == {0}


def test_whole_disks_only_and_rates_only_where_they_are_known(tmp_path: Path) -> None:
    first, second = Host("server", tmp_path).both("disk_io")
    assert labeled(first, "device") == {
        "sda", "sdb", "sdc", "nvme0n1", "md0", "dm-0", "dm-10", "mmcblk0", "xvda1",
    }  # fmt: skip
    assert {name for name, _ in first} == COUNTERS
    assert labeled(second, "device") == labeled(first, "device") - {"sdc"} | {"sdd"}
    assert set(of(second, device="sdb")) == COUNTERS  # plugged out and in again
    assert set(of(second, device="sdd")) == COUNTERS  # new
    assert of(second, device="md0")["disk_read_ops_per_sec"] == 1  # neighbors continue


def test_the_run_after_has_rates_again(tmp_path: Path) -> None:
    host = Host("server", tmp_path)
    collect = host.collector("disk_io")
    collect(0.0)
    host.show("second")
    collect(10.0)
    third = values(collect(20.0))
    assert of(third, device="sdb")["disk_read_ops_per_sec"] == 0
    assert values(collect(20.0)).keys() == {key for key in third if key[0] in COUNTERS}  # no time passed


def test_exclusions_match_the_whole_name_and_replace_the_default(tmp_path: Path) -> None:
    first, _ = Host("server", tmp_path).both("disk_io", exclude_devices=("sd", "dm-.*", "md0|nvme.*"))
    assert labeled(first, "device") == {
        "sda", "sdb", "sdc", "mmcblk0", "mmcblk0boot0", "xvda1", "loop0", "zram0",
    }  # fmt: skip  # ram0, sr0 and fd0 have never completed a request


def test_forty_disks_that_fill_more_than_a_page(tmp_path: Path) -> None:
    host = Host("vm", tmp_path)
    names = [f"sd{chr(97 + n)}" for n in range(26)] + [f"sda{chr(97 + n)}" for n in range(14)]
    rows = "".join(
        f"{8 + n} 0 {name}{part} {' '.join([str(10**15 + n)] * 17)}\n"
        for n, name in enumerate(names)
        for part in ("", "1", "2")
    )
    assert len(rows) > 3 * 4096
    host.file("proc/diskstats").write_text(rows)
    collect = host.collector("disk_io")
    collect(0.0)
    found = values(collect(10.0))
    assert labeled(found, "device") == set(names)
    assert len(found) == 40 * 14


def test_no_file_is_an_error(tmp_path: Path) -> None:
    host = Host("vm", tmp_path)
    host.file("proc/diskstats").unlink()
    with pytest.raises(FileNotFoundError):
        host.collector("disk_io")(0.0)


@pytest.mark.parametrize(
    ("name", "known", "answer"),
    [
        (b"sda1", [b"sda"], True), (b"sda15", [b"sda"], True), (b"sda", [b"sda"], False),
        (b"nvme0n1p2", [b"nvme0n1"], True), (b"nvme0n12", [b"nvme0n1"], False),
        (b"nvme0n1", [b"nvme0n1"], False), (b"dm-10", [b"dm-1", b"dm-0"], False),
        (b"md127p1", [b"md127"], True), (b"mmcblk0boot0", [b"mmcblk0"], False),
        (b"cciss/c0d0p3", [b"cciss/c0d0"], True), (b"xvda1", [], False), (b"vdp1", [b"vdp"], True),
        (b"sdp1", [b"sd"], False), (b"7", [b""], False),
    ],
)  # fmt: skip
def test_partitions(name: bytes, known: list[bytes], answer: bool) -> None:
    assert is_partition(name, known) is answer


def line(name: str, *, reads: int = 0, io_ms: int = 0, weighted_ms: int = 0) -> str:
    """A device in /proc/diskstats that has read 4096 bytes in 2 ms, so often."""
    return f"8 0 {name} {reads} 0 {8 * reads} {2 * reads} 0 0 0 0 0 {io_ms} {weighted_ms} 0 0 0 0 0 0\n"


def runs(folder: Path, *contents: str, told: list[Trouble] | None = None) -> list[Values]:
    """What the collector returns for these contents of /proc/diskstats, 10 s apart."""
    file = folder / "diskstats"
    paths = HostPaths(str(folder), report=ignore if told is None else told.append)
    collect, found = COLLECTORS["disk_io"].build(COLLECTORS["disk_io"].options(), paths), []
    for turn, content in enumerate(contents):
        file.write_text(content)
        found.append(values(collect(10.0 * turn)))
    return found


@pytest.mark.parametrize(
    "twice",
    ["nvme0c0n1", "nvme1c33n2", "nvme0c0n1p1", "mmcblk0boot0", "mmcblk1boot1", "mmcblk0rpmb"],
)
def test_a_disk_is_there_once(tmp_path: Path, twice: str) -> None:
    """NVMe multipath lists its paths next to the disk (drivers/nvme/host/multipath.c), eMMC its boot areas."""
    disks = ["nvme0n1", "nvme1n2", "mmcblk0", "mmcblk1", "mmcblk0gp0"]
    content = "".join(line(name, reads=5) for name in [*disks, twice])
    assert labeled(runs(tmp_path, content)[0], "device") == set(disks)


@pytest.mark.parametrize("idle", ["nbd", "rbd", "drbd", "mtdblock"])
def test_a_device_that_was_never_used_has_no_series_before_it_is(tmp_path: Path, idle: str) -> None:
    """`modprobe nbd` makes 16 devices that nobody has connected."""
    unused = "".join(line(f"{idle}{n}") for n in range(16))
    used = unused.replace(line(f"{idle}3"), line(f"{idle}3", reads=20, io_ms=40))
    before, after, unchanged = runs(tmp_path, line("sda", reads=1) + unused, used, used)
    assert labeled(before, "device") == {"sda"}
    assert labeled(after, "device") == labeled(unchanged, "device") == {f"{idle}3"}
    assert of(after, device=f"{idle}3")["disk_read_ops_per_sec"] == 2


def test_milliseconds_wrap_at_32_bits_and_the_counter_does_not_fall(tmp_path: Path) -> None:
    """50 days of a busy disk: `unsigned int` in diskstats_show() on every kernel."""
    found = runs(
        tmp_path,
        line("sda", reads=1, io_ms=2**32 - 2000, weighted_ms=2**32 - 8000),
        line("sda", reads=2, io_ms=3000, weighted_ms=2000),
        line("sda", reads=3, io_ms=4000, weighted_ms=4000),
        line("sda", reads=1, io_ms=5, weighted_ms=5),
    )
    times = [of(one, device="sda")["disk_io_time_seconds_total"] for one in found]
    assert times == [4294965.296, 4294970.296, 4294971.296, 0.005]  # the last: plugged out and in again
    assert [of(one, device="sda").get("disk_io_util_percent") for one in found] == [None, 50, 10, None]
    assert [of(one, device="sda").get("disk_queue_length") for one in found] == [None, 1, 0.2, None]


def test_more_busy_time_than_there_was_is_no_utilization(tmp_path: Path) -> None:
    told: list[Trouble] = []
    _, late, impossible = runs(
        tmp_path,
        line("sda", reads=1),
        line("sda", reads=2, io_ms=10_400),
        line("sda", reads=3, io_ms=40_000),
        told=told,
    )
    assert of(late, device="sda")["disk_io_util_percent"] == 100
    assert "disk_io_util_percent" not in of(impossible, device="sda")
    assert of(impossible, device="sda")["disk_read_ops_per_sec"] == 0.1
    assert told == [Trouble("device", "sda", "it was busy for longer than the interval")]
