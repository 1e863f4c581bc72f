"""A box that takes over the receiver's address in the middle of a life, and answers exactly as the receiver did.

Plain http, in every type whose 2xx alone proves nothing. What a receiver that closes its connections costs is here, too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.config import DestinationConfig, QueueConfig, Secret, TlsConfig
from agent.destinations.peer import EACH
from agent.destinations.remote_write.protocol import UNREADABLE
from agent.send.state import State
from agent.system.events import Event
from buffer.model import Series
from tests.fault import test_influxdb, test_otlp
from tests.support.certs import Certs
from tests.support.front import Exchange, Front
from tests.support.net import wait_for
from tests.support.protocols import V1
from tests.support.proxy import Proxy
from tests.support.receiver import Answer, Receiver
from tests.support.sending import destination, host
from tests.support.tcp import Box, Handler

TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


class Kind(NamedTuple):
    """How a destination of the type is made, and a receiver of it."""

    to: Callable[..., DestinationConfig]
    receiver: Callable[..., Receiver]


def remote_write(port: int, **settings: Any) -> DestinationConfig:
    return destination(f"http://127.0.0.1:{port}/api/v1/write", protobuf_message=V1, **settings)


KINDS = {
    "remote write 1.0": Kind(remote_write, Receiver),
    "influxdb": Kind(test_influxdb.influxdb, test_influxdb.receiver),
    "otlp": Kind(test_otlp.otlp, test_otlp.receiver),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


class Closing(Receiver):
    """Ends the connection after each answer, as `how` says it."""

    how = "with a header"

    def take(self, handler: Handler) -> None:
        if self.how == "with a header":
            self.default = Answer(204, {"Connection": "close"})
        if self.how == "HTTP/1.0":
            handler.protocol_version = "HTTP/1.0"
        super().take(handler)
        handler.close_connection = True


@every_kind
def test_after_an_outage_it_takes_nothing(kind: Kind, tmp_path: Path) -> None:
    with kind.receiver() as there, host(tmp_path, kind.to(there.port)) as one:
        one.collect(10)
        one.settled()
        there.stop()
        one.collect(10)
        wait_for(lambda: one.lane.state is State.WAITING, 10, "a failed try")
        with Box(there.port) as box:
            assert "this is no receiver, but something that answers in its place" in one.held()
            one.collect(10)
            seen = len(box.bodies)
            wait_for(lambda: len(box.bodies) > seen + 5, 10, "some probes")
            assert one.cursor.pending() == 40
            assert len([body for body in box.bodies if len(body) > 40]) <= 2  # the batch, and nothing else
            assert one.warned(Event.HELD) == 1
        there.start()
        one.settled()
        one.accounted(there)


def test_behind_a_proxy_that_closes_each_connection_it_takes_nothing_either(tmp_path: Path) -> None:
    """And before that one check does for all connections."""
    with (
        Receiver() as there,
        Proxy() as proxy,
        host(tmp_path, remote_write(there.port, proxy_url=Secret(proxy.url))) as one,
    ):
        for _ in range(30):
            one.collect()
            one.settled()
        assert len(there.checks) == 1
        there.stop()
        one.collect(10)
        wait_for(lambda: one.lane.state is State.WAITING, 10, "a failed try")
        with Box(there.port):
            assert "something that answers in its place" in one.held()
            assert one.cursor.pending() == 20
        there.start()
        one.settled()
        one.accounted(there)
        assert len(there.checks) < 5


@every_kind
def test_after_a_connection_that_ended_well_it_takes_a_bounded_part(kind: Kind, tmp_path: Path) -> None:
    """The log says since when, and how that is sent again."""
    queue = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=200)
    series = tuple(Series(f"m{n}", (("hostname", "a"),)) for n in range(40))
    to: Callable[[int], DestinationConfig] = lambda port: kind.to(port, queue_config=queue)  # noqa: E731
    with kind.receiver() as there, host(tmp_path, to(there.port), series=series) as one:
        one.settled()
        there.stop()
        with Box(there.port) as box:
            one.collect(3000)
            assert "replay what it may have taken since 20" in one.held()
            lost = one.cursor.ledger.delivered - len(series)
            checked = next(n for n, body in enumerate(box.bodies) if len(body) < 40)
            assert 0 < sum(map(len, box.bodies[: checked - 1])) < EACH
            assert 0 < lost <= 200 * (checked - 1)
        there.start()
        one.settled(60)
        assert one.cursor.ledger.delivered == 40 * 3001
        assert there.samples == 40 * 3001 - lost


def test_a_large_request_on_a_new_connection_is_checked_at_once(tmp_path: Path) -> None:
    queue = QueueConfig(batch_send_deadline=3600.0, max_samples_per_send=10_000)
    series = tuple(Series(f"m{n}", (("hostname", "a"),)) for n in range(2500))
    with Receiver() as there:
        to = remote_write(there.port, queue_config=queue)
        with host(tmp_path, to, series=series) as one:
            one.settled()
            there.stop()
            with Box(there.port) as box:
                one.collect(4)
                one.held()
                assert len(box.bodies[0]) >= EACH
            there.start()
            one.settled()
            one.accounted(there)


@every_kind
def test_one_that_has_gone_before_the_check_has_taken_nothing(kind: Kind, tmp_path: Path) -> None:
    """What it was given is sent again, since the check went unanswered at first."""

    def cut(exchange: Exchange) -> None:
        exchange.read()

    def take(exchange: Exchange) -> None:
        exchange.read()
        exchange.send(TAKEN)

    with kind.receiver() as there, Front(there) as front, host(tmp_path, kind.to(front.port)) as one:
        one.settled()
        front.acts.extend([cut, cut, take, cut])
        one.collect(5)
        one.settled()
        one.accounted(there)
        assert not front.acts


@pytest.mark.parametrize("how", ["with a header", "without a word", "HTTP/1.0"])
def test_a_receiver_that_closes_each_connection_is_checked_once(tmp_path: Path, how: str) -> None:
    with Closing() as there:
        there.how = how
        with host(tmp_path, remote_write(there.port)) as one:
            for _ in range(100):
                one.collect()
                one.settled()
            one.accounted(there)
        # One that was sent on a connection which was just closed goes out again: that is trouble.
        again = sum("retry-attempt" in request.headers for request in there.requests)
        assert there.connections >= 100
        assert len(there.checks) <= 1 + again


@every_kind
def test_each_failure_costs_one_check_at_most(kind: Kind, tmp_path: Path) -> None:
    def cut(exchange: Exchange) -> None:
        exchange.read()

    with kind.receiver() as there, Front(there) as front, host(tmp_path, kind.to(front.port)) as one:
        for _ in range(20):
            front.acts.extend([cut, cut])  # the second is for the request that goes out again at once
            one.collect()
            wait_for(lambda: not front.acts, 10, "the cuts")
            one.settled()
        one.accounted(there)
        assert 20 <= len(there.checks) <= 41


@pytest.mark.parametrize("how", ["with a header", "without a word", "HTTP/1.0"])
def test_no_probe_is_sent_without_end_to_one_that_closes(tmp_path: Path, how: str) -> None:
    """Each form of it: with samples, since an empty write is refused, and with a sample for now."""
    with Closing([Answer(403)]) as there:
        there.how = how
        there.to_empty = Answer(400, body=b"no time series in the request")
        with host(tmp_path, remote_write(there.port), ticks=5) as one:
            one.settled()
            one.accounted(there, repeated=True)
            refused = Answer(400, body=b"limit exceeded")
            there.to_empty = None
            there.refuse = lambda write: refused if write.samples else None
            one.collect(4)
            one.settled()
            assert one.cursor.ledger.dropped == {"rejected": 8}
            assert one.lane.stats.requests < 60


@pytest.mark.parametrize("verified", [True, False])
def test_tls_that_verifies_the_receiver_is_proof_enough(
    tmp_path: Path, certs: Certs, *, verified: bool
) -> None:
    tls = TlsConfig(ca_file=str(certs.ca)) if verified else TlsConfig(insecure_skip_verify=True)
    with Receiver(certs=certs) as there:
        to = destination(there.url, protobuf_message=V1, tls_config=tls)
        with host(tmp_path, to) as one:
            for _ in range(5):
                one.settled()
                there.stop()
                one.collect()
                wait_for(lambda: one.lane.state is State.WAITING, 10, "a failed try")
                there.start()
            one.settled()
            one.accounted(there)
        assert [body for body in there.checks if body == UNREADABLE] == [UNREADABLE] * (1 if verified else 6)
