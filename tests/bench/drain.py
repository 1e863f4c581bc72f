"""What sending a backlog costs: the real agent starts upon a recorded host's hours, over TLS, into a real Prometheus.

The bytes are those of the whole connection, counted by a relay: handshake, TLS, HTTP and bodies. The relay lets
nothing through until the agent says that it has begun, so what is counted as the sender's is the agent's CPU
from there to the last delivery, without the start; the first request was made by then and is left out.

The same is measured in each protocol, over no link to speak of and over a long one (`LINKS`).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from buffer.model import Instant, Series, Tick
from tests.bench import replay, steady
from tests.bench.figures import Figure, table
from tests.bench.process import cpu_seconds, memory
from tests.bench.relay import Relay
from tests.support.agent import Agent
from tests.support.certs import Certs, make_certs
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.protocols import PROTOCOLS, V1
from tools.servers import ensure

DESTINATION = "central"
HOSTNAME = "drainer"  # not the recording's
REQUEST = 10_000  # what goes out without waiting for more
LARGE = 5_000
"""Series of the large target."""
QUIET = 2.0
DRAINED_WITHIN = 300.0
TICK_WITHIN = 30.0
LINKS = (0.0, 0.2)
"""Round trips in seconds."""


class Way(NamedTuple):
    """How a backlog is sent."""

    protocol: str
    round_trip: float

    def __str__(self) -> str:
        return f"{'1.0' if self.protocol == V1 else '2.0'}, {1000 * self.round_trip:.0f} ms"


WAYS = tuple(Way(*each) for each in product(PROTOCOLS, LINKS))


class Backlog(NamedTuple):
    """What is sent: `rounds` are made for the time (UTC ms) before which they end. The limits are those of the figures."""

    name: str
    how: str
    rounds: Callable[[int], Iterable[Sequence[Tick]]]
    wire: float = 4.0
    cpu: float = 0.4
    peak: float = 42.0


def of_host(recording: replay.Recording, samples: int) -> Backlog:
    """Return the recorded host's hour, again and again."""
    hours = -(-samples // recording.samples) * recording.span_ms / 3_600_000
    how = f"{recording.series} series, {hours:.1f} hours at 10 s"
    return Backlog("host", how, lambda end_ms: replay.repeated(recording, samples, end_ms))


def of_target(samples: int) -> Backlog:
    """Return a scraped target's LARGE series at 1 s, every value a random double, so that 8 bytes of a sample are its value."""

    def rounds(end_ms: int) -> Iterator[Sequence[Tick]]:
        draw = random.Random(1)
        series = tuple(
            Series(
                f"app_requests_{i % 50}_seconds",
                (
                    ("environment", "production"),
                    ("hostname", HOSTNAME),
                    ("instance", "localhost:9100"),
                    ("job", "app"),
                    ("path", f"/api/v1/items/{i // 50}"),
                ),
                "gauge",
                "",
                f"How long requests of kind {i % 50} take.",
            )
            for i in range(LARGE)
        )
        count = -(-samples // LARGE)
        for n in range(count):
            at = Instant(end_ms - 1000 * (count - n), 1000 * n + replay.UPTIME_MS, replay.BOOT_ID)
            yield [Tick(at, "scrape", series, [draw.random() for _ in series])]

    return Backlog(f"{LARGE:,} series", f"{LARGE:,} series at 1 s, random doubles", rounds, 12, 0.6, 60)


def all_figures(
    folder: Path,
    server: Callable[[Path], Prometheus],
    certs: Certs,
    backlogs: Sequence[Backlog],
    ways: Sequence[Way] = WAYS,
) -> Iterator[Figure]:
    """Measure each of the backlogs in each of the ways, into a new server."""
    for number, (backlog, way) in enumerate(product(backlogs, ways)):
        with server(folder / f"drained-{number}") as prometheus:
            yield from figures(folder / f"drain-{number}", prometheus, certs, backlog, way)


def figures(folder: Path, server: Prometheus, certs: Certs, what: Backlog, way: Way) -> list[Figure]:
    """Measure one of them."""
    with Relay(server.port, way.round_trip) as relay:
        agent = steady.agent(folder / HOSTNAME, server, certs, "10s", relay.port, way.protocol)
        now_ms = int(time.time() * 1000)
        backlog = replay.fill(agent.data_dir, what.rounds(now_ms), [DESTINATION]).samples
        with agent:
            pid = agent.pid
            cpu = cpu_seconds(pid)
            relay.open()

            def drained_all() -> bool:
                # The cursor's file follows within a sync. What is no whole request waits for its deadline.
                return relay.quiet_for() > QUIET and delivered(agent) > backlog - REQUEST

            wait_for(drained_all, DRAINED_WITHIN, "the backlog to be sent")
            cpu = cpu_seconds(pid) - cpu
            sent, answered = relay.sent, relay.received
            peak = memory(pid).peak
            drained = delivered(agent)
            after = int(time.time() * 1000)
            wait_for(lambda: agent.status()["newest_timestamp_ms"] > after, TICK_WITHIN, "a tick after it")
            agent.stop()
    bodies, taken = reported(server, "sent_bytes_total"), reported(server, "delivered_samples_total")
    how = f"{backlog} samples of {what.how}"
    parts = "read, merge, encode, compress, TLS, commit"
    wall = "wall time of the second half, after the gentle start; Prometheus is on the same machine"
    found = [
        Figure(
            "on the wire, draining", sent / drained, "B/sample", what.wire, f"TLS, HTTP and bodies; {how}"
        ),
        Figure("of these request bodies", bodies / taken, "B/sample", None, "as the agent counts them"),
        Figure("answers on the wire", answered / drained, "B/sample", None, "the other way"),
        Figure("sender's CPU for a million samples", cpu / (drained - REQUEST) * 1e6, "s", what.cpu, parts),
        Figure("draining", drained / sent * rate(relay.trace), "samples/s", None, wall),
        Figure("resident memory draining, peak", peak / 1e6, "MB", what.peak, how),
    ]
    return [figure._replace(name=f"{figure.name} ({what.name}, {way})") for figure in found]


def rate(trace: Sequence[tuple[float, int]]) -> float:
    """Return the bytes a second from the half on, but for the last request, which waits for its deadline."""
    whole = trace[-1][1]
    (since, half), (until, most) = (
        next((at, sent) for at, sent in trace if sent >= whole * share) for share in (0.5, 0.95)
    )
    return (most - half) / (until - since)


def delivered(agent: Agent) -> int:
    """Return how many samples the agent's cursor has settled as delivered."""
    found = agent.destination(DESTINATION)
    return int(found["ledger"]["delivered"]) if found else 0


def reported(server: Prometheus, name: str) -> float:
    """Return the newest value of one of the agent's own series, as Prometheus has it."""
    found = server.query(f'last_over_time(limpet_destination_{name}{{hostname="{HOSTNAME}"}}[5m])')
    (value,) = found.values()
    return value


def main() -> int:
    """Measure, and show it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.drain", description="Measure what sending a backlog costs."
    )
    parser.add_argument(
        "--samples", type=int, default=1_500_000, help="of the host; half as many of the large target"
    )
    parser.add_argument(
        "--round-trip", type=float, action="append", help="milliseconds, instead of 0 and 200"
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, action="append", help="instead of both")
    parser.add_argument("--only", choices=("host", "target"), help="one of the backlogs")
    options = parser.parse_args()
    server = ensure("prometheus")
    links = [trip / 1000 for trip in options.round_trip or ()] or LINKS
    ways = [Way(*each) for each in product(options.protocol or PROTOCOLS, links)]
    backlogs = {"host": of_host(replay.load(), options.samples), "target": of_target(options.samples // 2)}
    chosen = [backlog for name, backlog in backlogs.items() if options.only in (None, name)]
    with tempfile.TemporaryDirectory(prefix="limpet-bench-") as name:
        certs = make_certs(Path(name))
        found = all_figures(
            Path(name), lambda below: Prometheus(server.path, below, certs=certs), certs, chosen, ways
        )
        print(table(list(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
