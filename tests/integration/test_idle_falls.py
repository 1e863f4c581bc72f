"""Processor times that fall, as a real Prometheus takes them: `rate()` never shows more processors than there are.

Idle and iowait may fall (proc_stat(5)); a counter that falls is a reset for Prometheus, which adds its whole value. Each box
is sent twice: as the collector has it, and as /proc/stat has it, to show what would be seen without.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.hosts import Host, of, values
from tests.support.prometheus import Prometheus
from tests.support.receiver import HEADERS
from tests.support.wire import TimeSeries, encode

INTERVAL, TICKS = 10, 1000
"""Seconds between two readings, and the ticks of a core in them."""
FIELDS = ("user", "nice", "system", "idle", "iowait")
SERIES = ("user", "system", "idle", "iowait")


def smallest() -> Iterator[list[list[int]]]:
    """Two readings of one core: a tick goes from iowait to idle."""
    yield [[5, 0, 5, 100, 11]]
    yield [[5, 0, 5, 102, 10]]


def weeks() -> Iterator[list[list[int]]]:
    """Four cores after weeks, of which one moves a tick from iowait to idle each minute: 207 cores are busy then."""
    cores = [[900_000, 0, 300_000, 90_000_000, 310_000 + core] for core in range(4)]
    for reading in range(30):
        yield cores
        for core in cores:
            core[3] += TICKS
        if reading % 6 == 5:
            cores[0][3] += 1
            cores[0][4] -= 1


def busy() -> Iterator[list[list[int]]]:
    """Two cores whose sleeps, up to half an hour long, go from iowait to idle when their task wakes elsewhere; seeded."""
    dice = random.Random(15)
    cores = [[10_000, 0, 5_000, 3_000_000, 400_000] for _ in range(2)]
    for _ in range(60):
        yield cores
        for core in cores:
            used, waited = dice.randrange(TICKS // 2), dice.randrange(TICKS // 2)
            core[0] += used
            core[4] += waited
            core[3] += TICKS - used - waited
            moved = dice.choice((0, 0, 1, dice.randrange(180_000)))
            moved = dice.choice((1, -1)) * min(moved, core[3], core[4])
            core[3] += moved
            core[4] -= moved


BOXES = {"smallest": (smallest, 1), "weeks": (weeks, 4), "busy": (busy, 2)}


def stat(cores: list[list[int]]) -> str:
    together = [sum(fields) for fields in zip(*cores, strict=True)]
    lines = [("cpu ", together), *((f"cpu{i}", core) for i, core in enumerate(cores))]
    return "".join(f"{name} {' '.join(map(str, fields))} 0 0 0\n" for name, fields in lines)


@pytest.mark.parametrize("name", BOXES)
def test_a_rate_is_never_more_than_there_are_processors(
    name: str, tmp_path: Path, prometheus_program: Path
) -> None:
    box, processors = BOXES[name]
    readings = [[list(core) for core in cores] for cores in box()]
    begin = (int(time.time()) - len(readings) * INTERVAL) // INTERVAL * INTERVAL
    host = Host("vm", tmp_path)
    collect = host.collector("cpu")
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for i, cores in enumerate(readings):
        host.file("proc/stat").write_text(stat(cores))
        ours = of(values(collect(float(i * INTERVAL))))
        for field in SERIES:
            series, at = f"cpu_{field}_seconds_total", (begin + i * INTERVAL) * 1000
            kernels = sum(core[FIELDS.index(field)] for core in cores) / 100
            found.setdefault((series, "collected"), []).append((at, ours[series]))
            found.setdefault((series, "kernel"), []).append((at, kernels))
    content = encode(
        [
            TimeSeries((("__name__", series), ("hostname", who)), tuple(samples))
            for (series, who), samples in found.items()
        ]
    )
    (tmp_path / "prometheus").mkdir()
    with Prometheus(prometheus_program, tmp_path / "prometheus") as prometheus:
        answer = httpx.post(prometheus.write_url, content=content, headers=HEADERS["1.0"], timeout=30)
        assert answer.status_code == 204, answer.text

        def most(expression: str) -> dict[str, float]:
            query = f"max_over_time(({expression})[{len(readings) * INTERVAL + 60}s:5s])"
            rates = prometheus.query(query, at=begin + len(readings) * INTERVAL)
            return {dict(labels)["hostname"]: value for labels, value in rates.items()}

        one = most("rate(cpu_iowait_seconds_total[1m])")
        every = most(" + ".join(f"rate(cpu_{field}_seconds_total[1m])" for field in SERIES))
    assert 0 <= one["collected"] <= processors
    assert 0 < every["collected"] <= processors * 1.001
    if len(readings) > 2:
        assert one["kernel"] > 10 * processors, "the box no longer shows what is wrong"
