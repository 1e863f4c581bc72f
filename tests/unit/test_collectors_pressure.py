"""Pressure: shares of an interval, from sums of microseconds."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.collectors import HostPaths, Options, Trouble, pressure
from agent.collectors.pressure import parse, share
from tests.support.hosts import values


def write(folder: Path, totals: Sequence[int]) -> None:
    (folder / "pressure").mkdir(exist_ok=True)
    for kind, some, full in zip(("cpu", "memory", "io"), totals[::2], totals[1::2], strict=True):
        lines = (
            f"{name} avg10=9.99 avg60=9.99 avg300=9.99 total={total}\n"
            for name, total in (("some", some), ("full", full))
        )
        (folder / "pressure" / kind).write_text("".join(lines))


def test_shares_are_of_the_interval_and_not_the_kernels_averages(tmp_path: Path) -> None:
    told: list[Trouble] = []
    collect = pressure.build(Options(), HostPaths(proc=str(tmp_path), report=told.append), clock=lambda: 0.0)
    write(tmp_path, (100, 0, 0, 0, 7, 7))
    assert collect(100.0) == []
    write(tmp_path, (2_500_100, 0, 1_000_000, 123, 10_000_007, 5_000_007))
    found = {name: value for (name, _), value in values(collect(110.0)).items()}
    assert found == {
        "pressure_cpu_some_ratio": 0.25,
        "pressure_memory_some_ratio": 0.1,
        "pressure_memory_full_ratio": 0.0,
        "pressure_io_some_ratio": 1.0,
        "pressure_io_full_ratio": 0.5,
    }
    write(tmp_path, (0, 0, 0, 0, 0, 0))  # sums that fell: another kernel's, in a container that was moved
    assert collect(120.0) == []
    write(tmp_path, (1_000_000, 0, 0, 0, 0, 0))
    assert values(collect(130.0))["pressure_cpu_some_ratio", ()] == 0.1
    assert told == []


def test_a_run_that_reads_late(tmp_path: Path) -> None:
    """The process was stopped for 20 s after its run began: the sum has grown in them."""
    times = iter([0.0] * 3 + [30.0] * 3)
    collect = pressure.build(Options(), HostPaths(proc=str(tmp_path)), clock=lambda: next(times))
    write(tmp_path, (0,) * 6)
    collect(0.0)
    write(tmp_path, (15_000_000,) * 6)
    assert set(values(collect(10.0)).values()) == {0.5}


@pytest.mark.parametrize(
    ("microseconds", "seconds", "found"),
    [(5, 0.0, None), (5, -1.0, None), (-1, 10.0, None), (12_000_000, 10.0, 1.0), (16_000_000, 10.0, None),
     (2**64, 10.0, None), (1, 60.0, 0.0), (333_333, 1.0, 0.3333)],
)  # fmt: skip
def test_what_is_a_share(microseconds: int, seconds: float, found: float | None) -> None:
    assert share(microseconds, seconds) == found


def test_garbage_is_none() -> None:
    assert parse(b"") == parse(b"\n \nsome\nsome total=\nsome total=-1\nsome total=x\nother total=1\n") == {}
    assert parse(b"full avg10=0.00 total=18446744073709551615\n") == {"full": 2**64 - 1}


@pytest.mark.parametrize("error", [errno.ENOENT, errno.EOPNOTSUPP, errno.EACCES])
def test_a_kernel_that_was_booted_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(path: str) -> bytes:
        raise OSError(error, os.strerror(error), path)

    told: list[Trouble] = []
    monkeypatch.setattr(pressure, "read", refuse)
    collect = pressure.build(Options(), HostPaths(proc=str(tmp_path), report=told.append))
    assert collect(0.0) == collect(10.0) == []
    assert len(told) == (6 if error == errno.EACCES else 0)
