from __future__ import annotations

from pathlib import Path

import pytest

from agent.collectors.memory import memory_samples, oom_samples, parse_meminfo
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
