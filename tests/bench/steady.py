"""What the agent costs all the time: memory and CPU of the real process, sending over TLS to a real Prometheus.

Two agents run side by side for the same time: one at the defaults, and one that does everything ten times as
often, so that minutes show what would creep in over an hour.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from buffer.fs import RealFs
from buffer.reader import Reader
from tests.bench.figures import Figure
from tests.bench.process import compiled, cpu_seconds, memory
from tests.support.agent import Agent
from tests.support.certs import Certs
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus

WARM_UP = 40.0
"""Seconds until everything was done once: the first requests, two rounds, a deadline's wait, a sync."""
LOOK_EVERY = 5.0
DELIVERED_WITHIN = 60.0


class Stored(NamedTuple):
    """What is in a buffer's segment files."""

    samples: int
    bytes: int
    series: int


def agent(
    folder: Path,
    server: Prometheus,
    certs: Certs,
    interval: str,
    port: int | None = None,
    protocol: str = "auto",
) -> Agent:
    """An agent at the defaults but for its interval, its labels and its protocol, not started yet."""
    destination = {
        "url": f"https://127.0.0.1:{port or server.port}/api/v1/write",
        "name": "central",
        "protobuf_message": protocol,
        "tls_config": {"ca_file": str(certs.ca)},
    }
    return at_defaults(folder, folder.name, destination, interval)


def at_defaults(folder: Path, hostname: str, destination: Mapping[str, object], interval: str) -> Agent:
    """An agent without any of the settings that make tests quick."""
    made = Agent(folder, [])
    made.environment = compiled(made.environment)
    made.config = {
        "hostname": hostname,
        "labels": {"environment": "production", "region": "eu-west", "role": "gateway"},
        "data_dir": "data",
        "collect": {"interval": interval},
        "remote_write": [destination],
    }
    return made


def figures(folder: Path, server: Prometheus, certs: Certs, seconds: float) -> list[Figure]:
    """Measure for so many seconds after the warm-up."""
    with (
        agent(folder / "web-01", server, certs, "10s") as usual,
        agent(folder / "web-02", server, certs, "1s") as quick,
    ):
        begun = cpu_seconds(usual.pid)
        time.sleep(WARM_UP)
        cpu, quick_cpu, since = cpu_seconds(usual.pid), cpu_seconds(quick.pid), time.monotonic()
        resident: dict[Agent, list[int]] = {usual: [], quick: []}
        while (left := since + seconds - time.monotonic()) > 0:
            time.sleep(min(LOOK_EVERY, left))
            for each, seen in resident.items():
                seen.append(memory(each.pid).now)
        took = time.monotonic() - since
        spent, quick_spent = cpu_seconds(usual.pid) - cpu, cpu_seconds(quick.pid) - quick_cpu
        most, quick_most = memory(usual.pid), memory(quick.pid)
        wait_for(lambda: usual.destination("central")["ledger"]["delivered"], DELIVERED_WITHIN, "delivery")
        stored, quick_stored = look_into(usual.data_dir), look_into(quick.data_dir)
        usual.stop()
        quick.stop()
    everything, kept = "everything: collect, append, sync, send", f"{stored.samples} samples, 10 s"
    often = f"{quick_stored.series} series"
    how = f"{stored.series} series, {took:.0f} s after {WARM_UP:.0f} s of warm-up"
    return [
        Figure("resident memory, 10 s", most.now / 1e6, "MB", 40, how),
        Figure("resident memory, 10 s, peak", most.peak / 1e6, "MB", 40, "from the start"),
        Figure("growth after warm-up, 10 s", growth(resident[usual]) / 1e3, "kB", None, how),
        Figure("growth after warm-up, 1 s", growth(resident[quick]) / 1e3, "kB", None, f"{took:.0f} rounds"),
        Figure("resident memory, 1 s, peak", quick_most.peak / 1e6, "MB", 40, often),
        Figure("CPU of a core, 10 s", 100 * spent / took, "%", 0.05, how),
        Figure("CPU of a round, 10 s", 1e3 * spent / took * 10, "ms", 5, everything),
        Figure("CPU of a core, 1 s", 100 * quick_spent / took, "%", None, "ten times as often"),
        Figure("CPU until it has begun", begun, "s", None, "imports, configuration, first connection"),
        Figure("on disk, this run", stored.bytes / stored.samples, "B/sample", None, kept),
    ]


def growth(seen: Sequence[int]) -> float:
    """Return how much more the last quarter of the values is than the first, by their medians."""
    quarter = max(1, len(seen) // 4)
    return median(seen[-quarter:]) - median(seen[:quarter])


def look_into(data_dir: Path) -> Stored:
    """Read a whole buffer, and count."""
    sizes: dict[str, int] = {}
    samples = 0
    reader = Reader(RealFs(), str(data_dir / "segments"))
    while (entry := reader.next()) is not None:
        samples += entry.end - entry.seq
        sizes |= {tick.group: len(tick.values) for tick in entry.ticks}
    reader.close()
    size = sum(path.stat().st_size for path in (data_dir / "segments").iterdir())
    return Stored(samples, size, sum(sizes.values()))
