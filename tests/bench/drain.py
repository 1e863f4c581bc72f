"""What sending a backlog costs: the real agent starts upon a recorded host's hours, over TLS, into a real Prometheus.

The bytes are those of the whole connection, counted by a relay: handshake, TLS, HTTP and bodies. The relay lets
nothing through until the agent says that it has begun, so what is counted as the sender's is the agent's CPU
from there to the last delivery, without the start; the first request was made by then and is left out.

The same is measured in each protocol, over no link to speak of and over a long one (`LINKS`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tests.bench import replay, steady
from tests.bench.figures import Figure
from tests.bench.process import cpu_seconds, memory
from tests.bench.relay import Relay
from tests.support.agent import Agent
from tests.support.certs import Certs
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.protocols import PROTOCOLS, V1

DESTINATION = "central"
HOSTNAME = "drainer"  # not the recording's
REQUEST = 10_000  # queue_config.max_samples_per_send
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


def all_figures(
    folder: Path,
    server: Callable[[Path], Prometheus],
    certs: Certs,
    recording: replay.Recording,
    samples: int,
) -> Iterator[Figure]:
    """Measure each of the ways, with a backlog of at least so many samples, into a new server."""
    for number, way in enumerate(WAYS):
        with server(folder / f"drained-{number}") as prometheus:
            yield from figures(folder / f"drain-{number}", prometheus, certs, recording, samples, way)


def figures(
    folder: Path, server: Prometheus, certs: Certs, recording: replay.Recording, samples: int, way: Way
) -> list[Figure]:
    """Measure one of them."""
    with Relay(server.port, way.round_trip) as relay:
        agent = steady.agent(folder / HOSTNAME, server, certs, "10s", relay.port, way.protocol)
        now_ms = int(time.time() * 1000)
        rounds = list(replay.repeated(recording, samples, now_ms))
        backlog = sum(len(tick.values) for ticks in rounds for tick in ticks)
        replay.fill(agent.data_dir, rounds, [DESTINATION])
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
    hours = backlog / recording.samples * recording.span_ms / 3_600_000
    how = f"{backlog} samples of {recording.series} series, {hours:.1f} hours at 10 s"
    parts = "read, merge, encode, compress, TLS, commit"
    wall = "wall time of the second half, after the gentle start; Prometheus is on the same machine"
    found = [
        Figure("on the wire, draining", sent / drained, "B/sample", 4, f"TLS, HTTP and bodies; {how}"),
        Figure("of these request bodies", bodies / taken, "B/sample", 4, "as the agent counts them"),
        Figure("answers on the wire", answered / drained, "B/sample", None, "the other way"),
        Figure("sender's CPU for a million samples", cpu / (drained - REQUEST) * 1e6, "s", 0.6, parts),
        Figure("draining", drained / sent * rate(relay.trace), "samples/s", None, wall),
        Figure("resident memory draining, peak", peak / 1e6, "MB", 40, how),
    ]
    return [figure._replace(name=f"{figure.name} ({way})") for figure in found]


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
