from __future__ import annotations

from pathlib import Path

import pytest

from agent.collectors.disk_io import is_partition
from tests.support.hosts import Host, labeled, of, values

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
        "sda", "sdb", "sdc", "nvme0n1", "md0", "dm-0", "dm-10", "mmcblk0", "mmcblk0boot0", "xvda1",
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
        "sda", "sdb", "sdc", "mmcblk0", "mmcblk0boot0", "xvda1", "loop0", "ram0", "zram0", "sr0", "fd0",
    }  # fmt: skip


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
