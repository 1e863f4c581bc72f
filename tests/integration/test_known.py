"""A refusal that lasts, and a real Prometheus: the agent tries it again rarely, and nobody else has to wait for it.

The requests and the answers are real; the clock of the sender is the test's, so hours take seconds. The samples are of the last hour,
since that is what Prometheus takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.config import MetadataConfig, QueueConfig, RemoteWrite
from agent.destinations.base import Request
from agent.destinations.remote_write.formats import remote_write
from agent.http.answer import Answer
from agent.http.failures import Failure
from agent.send.client import Client
from buffer.model import Instant, Series, Tick
from tests.support import wire
from tests.support.prometheus import Prometheus
from tests.support.protocols import PROTOCOLS, V1
from tests.support.scripted import BOOT, Rig, Samples, Script
from tests.support.sending import destination

QUEUE = QueueConfig(batch_send_deadline=30.0, min_backoff=1.0, max_backoff=60.0)
BEFORE_S = 3000
"""Seconds before now at which the samples begin."""
STEP_MS = 10_000
FIRST, HOUR = 12, 30
"""Batches: 30 s apart at first, while it is found out who is at fault, and then two minutes apart."""
ALL = FIRST + 2 * HOUR


class Passing(Script):
    """A proxy in front of a real receiver: what `refuse` has no answer for is passed on. `bodies` has all that has samples."""

    def __init__(self, to: RemoteWrite) -> None:
        super().__init__()
        self.client = Client(to, "0.0.0")
        self.version: wire.Version = "1.0" if to.protobuf_message == V1 else "2.0"

    def exchange(self, request: Request, attempt: int = 0, within: float | None = None) -> Answer | Failure:
        if not request.samples:
            return self.client.exchange(request, attempt, within)
        self.bodies.append(request.body)
        return self.refuse(wire.decode(request.body, self.version)) or self.client.exchange(
            request, attempt, within
        )

    def close(self) -> None:
        self.client.close()


class Host(Rig):
    """A host that sends to a real Prometheus."""

    def __init__(self, server: Prometheus, protocol: str, first_ms: int) -> None:
        self.server = server
        to = destination(
            server.write_url,
            protobuf_message=protocol,
            queue_config=QUEUE,
            metadata_config=MetadataConfig(send=False),
        )
        self.first_ms, self.batches = first_ms, 0
        super().__init__(queue=QUEUE, script=Passing(to), speaks=remote_write(to, clock=lambda: 0.0))

    def batch(self, series: tuple[Series, ...], ticks: int = 1, value: float = 0.0) -> int:
        """Let a batch go out, and return the requests with samples that it took."""
        before = len(self.script.bodies)
        for _ in range(ticks):
            self.ticks += 1
            at = Instant(self.first_ms + self.ticks * STEP_MS, 0, BOOT)
            self.append(Tick(at, "all", series, [value + 1000 * self.ticks + i for i in range(len(series))]))
        self.drain()
        self.batches += 1
        self.now += 30 if self.batches < FIRST else 120
        return len(self.script.bodies) - before


Start = Callable[..., Host]


@pytest.fixture
def start(prometheus_program: Path, tmp_path: Path) -> Iterator[Start]:
    """Start a host, ticks late; all send to one Prometheus without a window for samples out of order, which scrapes nothing."""
    config = tmp_path / "prometheus.yml"
    config.write_text("{}\n")
    first_ms, hosts = (int(time.time()) - BEFORE_S) // 10 * 10_000, list[Host]()
    with Prometheus(prometheus_program, tmp_path / "prometheus", config=config) as server:

        def start(protocol: str, late: int = 0) -> Host:
            hosts.append(Host(server, protocol, first_ms + late * STEP_MS))
            return hosts[-1]

        yield start
        for host in hosts:
            host.script.close()


def many(count: int) -> tuple[Series, ...]:
    return tuple(Series(f"m{i:05}", (("hostname", "a"),)) for i in range(count))


def stored(server: Prometheus) -> Samples:
    """What it has, whatever host sent it."""
    now_ms = int(time.time() * 1000)
    found = server.raw_samples('{hostname="a"}', now_ms - 2 * BEFORE_S * 1000, now_ms + 600_000)
    return {labels: dict(samples) for labels, samples in found.items()}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("ticks", [1, 3])
def test_the_second_of_two_hosts_with_one_hostname(start: Start, protocol: str, ticks: int) -> None:
    first, second, series, extra = start(protocol), start(protocol), many(20), list[int]()
    for _ in range(ALL):
        assert first.batch(series, ticks) == 1
        extra.append(second.batch(series, ticks, value=0.5) - 1)
    assert sum(extra) <= 64 + 30
    assert sum(extra[-HOUR:]) <= 10
    samples = ALL * ticks * len(series)
    delivered, dropped = second.ledger
    assert first.ledger == (samples, {})
    assert (delivered, sum(dropped.values())) == (0, samples)
    # Prometheus has a newer sample of each series than the older ones of a batch, and says so.
    assert dropped.keys() == ({"duplicate"} if ticks == 1 else {"duplicate", "aged"})
    assert stored(first.server) == first.everything()


def named(write: wire.Write) -> set[str]:
    return {dict(one.labels)["__name__"] for one in write.series}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("reason", ["aged", "rejected"])
def test_each_third_of_200_series_is_refused(start: Start, protocol: str, reason: str) -> None:
    series, host = many(200), start(protocol)
    bad = series[::3]
    names = {one.name for one in bad}
    if reason == "aged":  # somebody whose clock is ahead has sent these series
        ahead = start(protocol, late=ALL + 10)
        ahead.batch(bad)
        assert ahead.ledger == (len(bad), {})
    else:  # a proxy does not like them
        refusal = Answer(400, {}, b"label value too long")
        host.script.refuse = lambda write: refusal if names & named(write) else None
    extra = [host.batch(series) - 1 for _ in range(ALL)]
    assert sum(extra[:FIRST]) <= 200
    assert sum(extra[-HOUR:]) <= 10

    innocent = {labels for labels in host.everything() if dict(labels)["__name__"] not in names}
    assert len(innocent) == 133
    found, kept, everything = stored(host.server), host.kept(), host.everything()
    for labels, samples in everything.items():  # each sample is stored or kept
        both = {**kept.get(labels, {}), **(found[labels] if labels in innocent else {})}
        assert both == samples
        if labels in innocent:  # and all have arrived since it is known who is at fault
            assert list(samples)[FIRST:] == list(found[labels])[-2 * HOUR :]
    delivered, dropped = host.ledger
    assert dropped == {reason: sum(map(len, kept.values()))}
    assert delivered + dropped[reason] == ALL * len(series)
    # A part that is refused by remote write 2.0 may be stored but for a sample of it, and is kept as a whole.
    assert delivered <= sum(len(found[labels]) for labels in innocent)
