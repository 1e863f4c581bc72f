"""What each type of destination costs, from the buffer to its receiver: `python -m tests.bench.types`.

A backlog of a host's recorded hour goes out in one lane, to a real receiver on loopback in plain HTTP, or into a folder of this
disk: CPU is that of the sending process alone, which also reads the buffer. Memory is that of `limpet run` at the defaults, 45 s after
its start, with remote write alone, and with one more destination of the type next to it. Prints figures as `python -m tests.bench` does.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agent.config import OTLP, DestinationConfig, File, InfluxDB, QueueConfig, RemoteWrite
from agent.destinations import types
from agent.destinations.file.medium import MARKER
from agent.send.lane import Lane
from agent.send.state import Rules
from agent.send.wires import wire
from agent.system.log import Silent
from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.quarantine import Quarantine
from tests.bench import replay
from tests.bench.figures import Figure, table
from tests.bench.process import compiled, memory
from tests.support.agent import Agent
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.victoria import VictoriaMetrics
from tools.servers import ensure

SAMPLES = 300_000
WARM_UP = 45.0
V1, V2 = "prometheus.WriteRequest", "io.prometheus.write.v2.Request"
MORE = 4.0
"""MB that a destination of another type may add."""


def sections(
    prometheus: str, another: str, victoria: str, folder: Path
) -> dict[str, tuple[type[DestinationConfig], dict[str, Any]]]:
    """Return by type what is measured: the class of its configuration, and its keys."""
    lines, gateway = {"url": victoria, "db": "limpet"}, {"url": f"{victoria}/opentelemetry/v1/metrics"}
    return {
        "remote_write 1.0": (RemoteWrite, {"url": prometheus, "protobuf_message": V1}),
        "remote_write 2.0": (RemoteWrite, {"url": another, "protobuf_message": V2}),
        "influxdb": (InfluxDB, lines),
        "otlp": (OTLP, gateway),
        "otlp, zstd": (OTLP, {**gateway, "compression": "zstd"}),
        "file, jsonl": (File, {"path": str(folder / "jsonl")}),
        "file, segments": (File, {"path": str(folder / "segments"), "format": "segments"}),
    }


def drained(name: str, to: DestinationConfig, folder: Path) -> Iterator[Figure]:
    """Send the backlog to a destination, and yield what that took."""
    recording = replay.load()
    buffer = Buffer(str(folder / "data"), Limits(), [to.name])
    for ticks in replay.repeated(recording, SAMPLES, int(time.time() * 1000)):
        buffer.append(ticks)
    cursor, quarantine = buffer.cursors[to.name], Quarantine(str(folder / "data"))
    way, logger = wire(to, "0.1.0", "web-01"), Silent()
    rules = Rules(1.0, 60.0, first_pause=0.0)  # nobody has to be spared after an outage
    lane = Lane(to, types.speaks(to), way, buffer, quarantine, logger, rules=rules)
    lane.start()
    wait_for(lambda: lane.stats.bytes_sent > 0, 60, "the first request")
    begun, cpu, before = time.monotonic(), time.process_time(), cursor.ledger.delivered
    size = lane.stats.bytes_sent
    wait_for(lambda: cursor.pending() == 0, 600, f"the backlog ({lane.error})")
    took, spent, samples = (
        time.monotonic() - begun,
        time.process_time() - cpu,
        cursor.ledger.delivered - before,
    )
    assert not cursor.ledger.dropped.get("rejected"), cursor.ledger
    size = lane.stats.bytes_sent - size
    lane.stop(2.0)
    buffer.close()
    how = f"{samples:,} samples of a host, one lane"
    yield Figure(f"{name}: draining", samples / took, "samples/s", None, how)
    yield Figure(
        f"{name}: CPU", spent / samples * 1e6, "s/million", None, "buffer to receiver, without its CPU"
    )
    yield Figure(f"{name}: bodies", size / samples, "B/sample", None, how)


def resident(folder: Path, prometheus: str, victoria: str) -> Iterator[Figure]:
    """Run an agent for each type, all at the same time, and yield the memory of each."""
    plain = {"remote_write": [{"url": prometheus, "name": "central"}]}
    more: dict[str, dict[str, Any]] = {
        "remote_write alone": {},
        "influxdb": {"influxdb": [{"url": victoria, "db": "limpet", "name": "more"}]},
        "otlp": {"otlp": [{"url": f"{victoria}/opentelemetry/v1/metrics", "name": "more"}]},
        "otlp, zstd": {
            "otlp": [{"url": f"{victoria}/opentelemetry/v1/metrics", "name": "more", "compression": "zstd"}]
        },
        "file": {"file": [{"path": str(folder / "stick"), "name": "more"}]},
    }
    (folder / "stick").mkdir()
    (folder / "stick" / MARKER).touch()
    with ExitStack() as stack:
        agents: dict[str, Agent] = {}
        for number, (name, keys) in enumerate(more.items()):
            one = agents[name] = Agent(folder / f"agent-{number}", [])
            one.environment = compiled(one.environment)
            one.config = {
                "hostname": f"web-{number}",
                "data_dir": "data",
                "collect": {"interval": "10s"},
                **plain,
                **keys,
            }
            stack.enter_context(one)
        time.sleep(WARM_UP)
        for name, one in agents.items():
            for to in one.status()["destinations"]:
                assert to["ledger"]["delivered"] > 0, (name, to)
        found = {name: memory(one.pid).now / 1e6 for name, one in agents.items()}
    alone = found.pop("remote_write alone")
    yield Figure("remote_write alone: resident memory", alone, "MB", None, f"{WARM_UP:.0f} s after the start")
    for name, value in found.items():
        yield Figure(f"{name}: memory on top of it", value - alone, "MB", MORE, "one more destination")


def figures(
    server: Callable[[Path], Prometheus], victoria: Callable[[Path], VictoriaMetrics]
) -> Iterator[Figure]:
    """Measure all types, one after another."""
    queue = QueueConfig(batch_send_deadline=0.1)
    with tempfile.TemporaryDirectory(prefix="limpet-bench-") as name:
        folder = Path(name)
        with (
            server(folder / "prometheus") as prometheus,
            server(folder / "another") as another,
            victoria(folder / "victoria") as lines,
        ):
            found = sections(prometheus.write_url, another.write_url, lines.url, folder)
            for number, (what, (kind, keys)) in enumerate(found.items()):
                if kind is File:
                    Path(keys["path"]).mkdir()
                    (Path(keys["path"]) / MARKER).touch()
                below = folder / f"to-{number}"
                below.mkdir()
                yield from drained(what, kind(name="there", queue_config=queue, **keys), below)
            yield from resident(folder, prometheus.write_url, lines.url)


def main() -> int:
    """Measure, and print the table; return 1 where a limit is exceeded."""
    program, other = ensure("prometheus").path, ensure("victoria-metrics").path
    measured = []
    for figure in figures(
        lambda below: Prometheus(program, below), lambda below: VictoriaMetrics(other, below)
    ):
        print(figure.name, figure.value, figure.unit, file=sys.stderr, flush=True)
        measured.append(figure)
    print(table(measured))
    return int(any(figure.verdict == "MISSED" for figure in measured))


if __name__ == "__main__":
    raise SystemExit(main())
