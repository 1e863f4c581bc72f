from __future__ import annotations

from pathlib import Path

import pytest

from agent.collectors.memory import Arc, memory_samples, oom_samples, parse_arcstats, parse_meminfo
from tests.support.hosts import Host, of, values

KIB = 1024


def test_a_host_with_swap(tmp_path: Path) -> None:
    first, second = Host("server", tmp_path).both("memory")
    assert of(second) == {
        "memory_total_bytes": 8_000_000 * KIB,
        "memory_free_bytes": 1_000_000 * KIB,
        "memory_available_bytes": 2_000_000 * KIB,
        "memory_used_bytes": 6_000_000 * KIB,
        "memory_usage_percent": 75,
        "memory_cached_bytes": 1_750_000 * KIB,
        "memory_buffers_bytes": 100_000 * KIB,
        "memory_zfs_arc_bytes": 64_000_000,  # its minimum, of which it gives back nothing
        "swap_total_bytes": 4_000_000 * KIB,
        "swap_used_bytes": 1_000_000 * KIB,
        "swap_free_bytes": 3_000_000 * KIB,
        "swap_usage_percent": 25,
        "memory_oom_kills_total": 3,
    }
    assert of(first)["memory_oom_kills_total"] == 2


def test_a_host_without_swap(tmp_path: Path) -> None:
    _, second = Host("vm", tmp_path).both("memory")
    swap = {name: value for name, value in of(second).items() if name.startswith("swap")}
    assert swap == dict.fromkeys(
        ("swap_total_bytes", "swap_used_bytes", "swap_free_bytes", "swap_usage_percent"), 0
    )
    assert of(second)["memory_usage_percent"] == 1.63  # 24684084 - 24280656 of 24684084
    assert of(second)["memory_cached_bytes"] == (838060 + 89584) * KIB


@pytest.mark.parametrize("missing", ["meminfo", "vmstat"])
def test_one_file_missing_costs_its_series(tmp_path: Path, missing: str) -> None:
    host = Host("server", tmp_path)
    host.file(f"proc/{missing}").unlink()
    kept = {"meminfo": {"memory_oom_kills_total"}, "vmstat": {"memory_total_bytes", "swap_free_bytes"}}
    names = {sample.name for sample in host.collector("memory")(0.0)}
    assert names >= kept[missing]
    assert not names & next(names for file, names in kept.items() if file != missing)


def test_both_files_missing_is_an_error(tmp_path: Path) -> None:
    host = Host("server", tmp_path)
    host.file("proc/meminfo").unlink()
    host.file("proc/vmstat").unlink()
    with pytest.raises(OSError, match="meminfo"):
        host.collector("memory")(0.0)


def test_a_kernel_without_available() -> None:
    fields, _ = parse_meminfo(b"MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\nCached: 25 kB\n")
    found = of(values(memory_samples(fields)))
    assert found["memory_available_bytes"] == 40 * KIB
    assert found["memory_usage_percent"] == 60
    assert not [name for name in found if name.startswith("swap")]


def test_a_container_that_sees_more_available_than_it_has() -> None:
    found = of(values(memory_samples(parse_meminfo(b"MemTotal: 100 kB\nMemAvailable: 900 kB\n")[0])))
    assert found["memory_used_bytes"] == 0
    assert found["memory_usage_percent"] == 0


@pytest.mark.parametrize(
    "content", [b"", b"MemTotal\n", b"MemTotal:\n", b"MemTotal: -5 kB\n", b"MemTotal: x kB\n"]
)
def test_lines_that_are_not_the_kernels(content: bytes) -> None:
    fields, wrong = parse_meminfo(content)
    assert memory_samples(fields) == []
    assert wrong == 1


@pytest.mark.parametrize(
    ("vmstat", "kills", "wrong"),
    [
        (b"a 1\noom_kill 7\nb 2\n", [7], 0),
        (b"a 1\noom_kill 7", [7], 0),
        (b"a 1\nnot_oom_kill 7\n", [], 0),
        (b"a 1\noom_kill_other 7\n", [], 0),
        (b"a 1\noom_kill x\n", [], 1),
        (b"a 1\noom_kill 99999999999999999999999\n", [], 1),
        (b"", [], 0),
    ],
)
def test_oom_kills(vmstat: bytes, kills: list[int], wrong: int) -> None:
    samples, wrong_lines = oom_samples(vmstat)
    assert [sample.value for sample in samples] == kills
    assert wrong_lines == wrong


GIB = 1 << 30
BOX = b"MemTotal: 16777216 kB\nMemAvailable: 1048576 kB\n"
ARCSTATS = b"""13 1 0x01 147 39984 4361237219 6109829734152
name                            type data
hits                            4    3180467
c                               4    %d
c_min                           4    %d
size                            4    %d
"""


@pytest.mark.parametrize(
    ("size", "minimum", "available"),
    [
        (12 * GIB, GIB // 2, 12.5 * GIB),  # 94 % in use for the kernel, 22 % in fact
        (GIB // 2, GIB // 2, GIB),  # it does not shrink below c_min (htop issue 1002)
        (GIB // 4, GIB // 2, GIB),  # nor is it there yet
    ],
)
def test_the_cache_of_zfs_is_available_beyond_its_minimum(
    tmp_path: Path, size: int, minimum: int, available: float
) -> None:
    host = Host("vm", tmp_path)
    host.file("proc/meminfo").write_bytes(BOX)
    arcstats = host.file("proc/spl/kstat/zfs/arcstats")
    arcstats.parent.mkdir(parents=True)
    arcstats.write_bytes(ARCSTATS % (size, minimum, size))
    found = of(values(host.collector("memory")(0.0)))
    assert found["memory_zfs_arc_bytes"] == size
    assert found["memory_available_bytes"] == available
    assert found["memory_used_bytes"] == 16 * GIB - available
    assert found["memory_usage_percent"] == round(100 - 100 * available / (16 * GIB), 2)


def test_a_container_does_not_count_the_cache_of_its_host(tmp_path: Path) -> None:
    """LXC: meminfo is lxcfs' and so the container's; /proc/spl is the host's (htop: Running_containerized)."""
    host = Host("vm", tmp_path)
    arcstats = host.file("proc/spl/kstat/zfs/arcstats")
    arcstats.parent.mkdir(parents=True)
    arcstats.write_bytes(ARCSTATS % (12 * GIB, GIB, 12 * GIB))
    host.file("proc/meminfo").unlink()
    host.file("proc/meminfo").symlink_to("/proc/meminfo")  # any file of another file system
    assert "memory_zfs_arc_bytes" not in of(values(host.collector("memory")(0.0)))


def test_shared_memory_is_no_cache() -> None:
    """Cached includes Shmem, tmpfs too, which nobody gets back (filesystems/proc.rst); MemAvailable knows that."""
    fields, _ = parse_meminfo(
        b"MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\nCached: 45 kB\nShmem: 40 kB\n"
    )
    assert of(values(memory_samples(fields)))["memory_available_bytes"] == 20 * KIB


@pytest.mark.parametrize(
    ("content", "arc"),
    [
        (ARCSTATS % (3, 1, 2), Arc(2, 1)),
        (b"", None),
        (b"size 4 1\n", None),
        (b"size 4 -1\nc_min 4 1\n", None),
        (b"size 4 x\nc_min 4 1\n", None),
    ],
)
def test_arcstats(content: bytes, arc: Arc | None) -> None:
    assert parse_arcstats(content) == (arc, int(arc is None))
