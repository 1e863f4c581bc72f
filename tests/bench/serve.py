"""What `limpet serve` takes: memory and CPU at rest, and the CPU of a request: `python -m tests.bench.serve`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.bench import replay
from tests.support.serving import Serving

HOURS = 24
REST_SECONDS = 20


def requests(now: float) -> Iterator[tuple[str, str, dict[str, object], int]]:
    """Yield a name, a path, its parameters, and how often it is requested."""
    day: dict[str, object] = {"start": now - HOURS * 3600, "end": now}
    five = {"query": "avg_over_time(load_average_1m[5m])", "step": 300}
    yield "an expression at one time", "/api/v1/query", {"query": "load_average_1m"}, 50
    yield (
        "a day of one series at 10 s",
        "/api/v1/query_range",
        {**day, "query": "load_average_1m", "step": 10},
        10,
    )
    yield "a day of means of 5 minutes", "/api/v1/query_range", {**day, **five}, 10
    yield "`/metrics`", "/metrics", {}, 50
    yield "`/api/v1/labels`", "/api/v1/labels", {}, 10
    yield "`/api/v1/buffer`", "/api/v1/buffer", {}, 10
    yield "`/api/v1/forecast`", "/api/v1/forecast", {}, 5
    yield "`/-/healthy`", "/-/healthy", {}, 200


def main() -> int:
    """Measure, and print a table."""
    recording = replay.load()
    with tempfile.TemporaryDirectory(prefix="limpet-serve-") as folder:
        rounds = replay.repeated(recording, recording.samples * HOURS, round(time.time() * 1000))
        replay.fill(Path(folder) / "data", rounds, ["central"])
        with Serving(Path(folder), Path(folder) / "data") as server:
            process = psutil.Process(server.pid)
            time.sleep(2)
            before = seconds(process)
            time.sleep(REST_SECONDS)
            print(
                f"| at rest | {resident(process):.1f} MB, {seconds(process) - before:.2f} s of CPU in 20 s |"
            )
            for name, path, parameters, times in requests(time.time()):
                server.ask(path, parameters)
                before = seconds(process)
                for _ in range(times):
                    assert server.ask(path, parameters).status == 200, name
                print(f"| {name} | {(seconds(process) - before) / times * 1000:.1f} ms |")
            print(f"| afterwards | {resident(process):.1f} MB |")
    return 0


def seconds(process: psutil.Process) -> float:
    """Return the CPU time of a process so far."""
    times = process.cpu_times()
    return times.user + times.system


def resident(process: psutil.Process) -> float:
    """Return the resident memory of a process in MB (2^20 bytes)."""
    return process.memory_info().rss / 2**20


if __name__ == "__main__":
    sys.exit(main())
