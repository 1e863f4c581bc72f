"""What answers instead of the receiver, with real servers: nothing is dropped, and all of it arrives after the repair.

The first half are refusals that are no judgment of the samples, the second half are 2xx that nobody has stored
anything for. Each ends with a repair: the server's, or a corrected configuration, as after a reload.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agent.config import RemoteWrite, TlsConfig
from agent.send.state import State
from tests.support.certs import Certs
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.protocols import V1
from tests.support.real_proxy import Nginx, Vmauth
from tests.support.receiver import Answer, Receiver
from tests.support.sending import Host, destination, host
from tests.support.tcp import Box, WebServer
from tests.support.victoria import VictoriaMetrics
from tests.support.walks import walked

TICKS = 60
SAMPLES = 2 * TICKS
MESSAGES = ("auto", V1)
PATH = "/api/v1/write"
AT = 1_800_000_000_000, 1_800_002_000_000


@pytest.fixture
def victoria(victoria_program: Path, tmp_path: Path) -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics(victoria_program, tmp_path / "victoria") as server:
        yield server


def stored(server: VictoriaMetrics) -> int:
    """How many samples it has. One that came twice, since an answer did not come in time, counts once."""
    return sum(len(set(found)) for found in server.raw_samples('{hostname="a"}', *AT).values())


def await_stored(server: VictoriaMetrics, count: int) -> None:
    with suppress(AssertionError):
        wait_for(lambda: stored(server) == count, 60, "the samples in the receiver")
    assert stored(server) == count


@contextmanager
def stuck(folder: Path, to: RemoteWrite, *words: str) -> Iterator[Host]:
    """A host with a backlog that is held, for a reason with these words; nothing of it is dropped or delivered."""
    with host(folder, to, ticks=TICKS) as one:
        error = one.held()
        for word in words:
            assert word in error
        before = one.lane.stats.requests
        wait_for(lambda: one.lane.stats.requests >= before + 6, 20, "more probes")
        assert "held" in {one.cursor.ledger.state, one.lane.state}
        assert (one.cursor.ledger.delivered, one.kept()) == (0, {})
        yield one


def arrives(folder: Path, to: RemoteWrite, server: VictoriaMetrics) -> None:
    """After the correction everything is there."""
    with host(folder, to) as one:
        one.settled()
        assert (one.cursor.ledger.delivered, one.kept()) == (SAMPLES, {})
    await_stored(server, SAMPLES)


# Refusals that judge nothing.


@pytest.mark.parametrize("message", MESSAGES)
def test_nginx_that_misses_a_client_certificate(
    tmp_path: Path, victoria: VictoriaMetrics, nginx_program: Path, certs: Certs, message: str
) -> None:
    with Nginx(nginx_program, tmp_path / "nginx", victoria, certs=certs) as front:
        tls = TlsConfig(ca_file=str(certs.ca))
        to = destination(front.write_url, protobuf_message=message, tls_config=tls)
        with stuck(tmp_path, to, "No required SSL certificate", "an empty write is refused as well"):
            pass
        whole = TlsConfig(
            ca_file=str(certs.ca), cert_file=str(certs.client_cert), key_file=str(certs.client_key)
        )
        to = destination(front.write_url, protobuf_message=message, tls_config=whole)
        arrives(tmp_path, to, victoria)


@pytest.mark.parametrize("message", MESSAGES)
def test_plain_http_to_the_tls_port_of_nginx(
    tmp_path: Path, victoria: VictoriaMetrics, nginx_program: Path, certs: Certs, message: str
) -> None:
    with Nginx(nginx_program, tmp_path / "nginx", victoria, certs=certs) as front:
        url = f"http://127.0.0.1:{front.port}{PATH}"
        with stuck(tmp_path, destination(url, protobuf_message=message), "this port speaks TLS"):
            pass
    arrives(tmp_path, destination(victoria.write_url, protobuf_message=message), victoria)


def test_plain_http_to_the_tls_port_of_a_go_server(
    tmp_path: Path, victoria_program: Path, certs: Certs
) -> None:
    with VictoriaMetrics(victoria_program, tmp_path / "victoria", certs=certs) as server:
        url = f"http://127.0.0.1:{server.port}{PATH}"
        with stuck(tmp_path, destination(url, protobuf_message=V1), "HTTP request to an HTTPS server"):
            pass
        tls = TlsConfig(ca_file=str(certs.ca))
        arrives(tmp_path, destination(server.write_url, protobuf_message=V1, tls_config=tls), server)


@pytest.mark.parametrize("message", MESSAGES)
def test_victoriametrics_that_does_not_know_the_path(
    tmp_path: Path, victoria: VictoriaMetrics, message: str
) -> None:
    to = destination(f"{victoria.url}/api/v2/wriet", protobuf_message=message)
    with stuck(tmp_path, to, "unsupported path requested"):
        pass
    arrives(tmp_path, destination(victoria.write_url, protobuf_message=message), victoria)


@pytest.mark.parametrize("message", MESSAGES)
def test_vmauth_that_loses_a_route_and_gets_it_back(
    tmp_path: Path, victoria: VictoriaMetrics, message: str
) -> None:
    """Nobody restarts the agent: it finds out by its probes."""
    program = victoria.program.with_name("vmauth")
    with Vmauth(program, tmp_path / "vmauth", victoria, "/elsewhere") as front:
        to = destination(front.write_url, protobuf_message=message)
        with stuck(tmp_path, to, "missing route") as one:
            front.reload("/api/v1/.*")
            one.settled()
            assert (one.cursor.ledger.delivered, one.kept()) == (SAMPLES, {})
            front.reload("/elsewhere")
            one.collect(TICKS)
            assert "missing route" in one.held()
            front.reload("/api/v1/.*")
            one.settled()
            assert (one.cursor.ledger.delivered, one.kept()) == (2 * SAMPLES, {})
        await_stored(victoria, 2 * SAMPLES)


def test_prometheus_without_its_path(tmp_path: Path, prometheus_program: Path) -> None:
    with Prometheus(prometheus_program, tmp_path / "prometheus") as server:
        with stuck(tmp_path, destination(f"{server.url}/", protobuf_message=V1), "HTTP 405"):
            pass
        with host(tmp_path, destination(server.write_url, protobuf_message=V1)) as one:
            one.settled()
            assert sum([one.cursor.ledger.delivered, *one.cursor.ledger.dropped.values()]) == SAMPLES


# Answers of 2xx from what is no receiver.


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("path", ["/api/v1/import", "/api/v1/import/prometheus", "/health", "/metrics"])
def test_an_endpoint_of_victoriametrics_for_something_else(
    tmp_path: Path, victoria: VictoriaMetrics, path: str, message: str
) -> None:
    to = destination(victoria.url + path, protobuf_message=message)
    with stuck(tmp_path, to, "a body that nobody can read", "correct the url"):
        pass
    assert stored(victoria) == 0
    arrives(tmp_path, destination(victoria.write_url, protobuf_message=message), victoria)


PAGE = b"<!DOCTYPE html><html><title>Log in</title></html>"
PORTALS: dict[str, tuple[Mapping[str, str], bytes]] = {
    "Text/HTML": ({"Content-Type": "Text/HTML; charset=utf-8"}, PAGE),
    "a byte order mark": ({"Content-Type": "text/html"}, b"\xef\xbb\xbf" + PAGE),
    "UTF-16": ({"Content-Type": "text/html"}, ("\ufeff" + PAGE.decode()).encode("utf-16-le")),
    "gzip": ({"Content-Type": "text/html", "Content-Encoding": "gzip"}, gzip.compress(PAGE)),
    "no type": ({}, b"\r\n  " + PAGE),
    "XHTML": ({"Content-Type": "application/xhtml+xml"}, b"<?xml version='1.0'?><html/>"),
    "an empty page": ({"Content-Type": "text/html"}, b""),
    "JSON": ({"Content-Type": "application/json"}, b'{"login": "https://portal.example/"}'),
    "brotli": ({"Content-Type": "text/html", "Content-Encoding": "br"}, b"\x0b\x02\x80page\x03"),
    "just OK": ({"Content-Type": "text/plain"}, b"OK"),
    "nothing": ({}, b""),
}


@contextmanager
def portal(headers: Mapping[str, str], body: bytes) -> Iterator[WebServer]:
    """Something that answers everything so."""

    class Portal(WebServer):
        def take(self, handler: Any) -> None:
            handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
            handler.send_response(200)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)

    with Portal() as server:
        yield server


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize(("headers", "body"), PORTALS.values(), ids=PORTALS)
def test_a_portal(tmp_path: Path, headers: Mapping[str, str], body: bytes, message: str) -> None:
    """At the start, and in the middle of a life; when it lets the host through, everything arrives."""
    with portal(headers, body) as there:
        to = destination(f"{there.url}{PATH}", protobuf_message=message)
        with stuck(tmp_path, to):
            pass
    with Receiver(port=there.port) as receiver, host(tmp_path, to) as one:
        one.settled()
        one.accounted(receiver)


@pytest.mark.parametrize(("headers", "body"), PORTALS.values(), ids=PORTALS)
def test_a_portal_that_comes_later(tmp_path: Path, headers: Mapping[str, str], body: bytes) -> None:
    """One that answers exactly as the receiver did is below, and in test_sender_takeover."""
    with Receiver() as receiver:
        to = destination(receiver.url, protobuf_message=V1)
        with host(tmp_path, to) as one:
            one.collect(5)
            one.settled()
            receiver.default = Answer(200, headers, body)
            receiver.to_unreadable = Answer(200, headers, body)
            before = one.cursor.ledger.delivered
            one.collect(5)
            one.held()
            assert one.cursor.ledger.delivered == before
            receiver.default, receiver.to_unreadable = Answer(), None
            one.settled()


@pytest.mark.parametrize("message", ["auto", "io.prometheus.write.v2.Request"])
def test_a_box_that_takes_everything_comes_later_and_counts_nothing(tmp_path: Path, message: str) -> None:
    """Remote write 2.0 over http: its 204 has no counts, and it takes what nobody can read."""
    with (
        Receiver() as receiver,
        host(tmp_path, destination(receiver.url, protobuf_message=message)) as one,
    ):
        one.collect(5)
        one.settled()
        receiver.counts, receiver.to_foreign = False, "silent"
        receiver.to_unreadable = receiver.to_empty = Answer()
        before = one.cursor.ledger.delivered
        one.collect(5)
        one.held()
        assert (one.cursor.ledger.delivered, one.kept()) == (before, {})
        receiver.counts, receiver.to_foreign = True, "415"
        receiver.to_unreadable = receiver.to_empty = None
        one.settled()
        assert one.cursor.ledger.delivered == sum(map(len, one.expected.values()))


@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_box_that_takes_everything_comes_later_in_place_of_victoriametrics(
    tmp_path: Path, victoria: VictoriaMetrics, *, is_noticed: bool
) -> None:
    """Its 204 has no header that names the host, so it is held although no request has failed."""
    with host(tmp_path, destination(victoria.write_url, protobuf_message=V1), ticks=TICKS // 2) as one:
        one.settled()
        victoria.stop()
        if is_noticed:
            one.collect()
            wait_for(lambda: one.lane.state is State.WAITING, 20, "a failed try")
        with Box(victoria.port, names_itself=False):
            one.collect(TICKS - one.ticks)
            assert "answers in its place" in one.held()
            assert one.cursor.ledger.delivered == SAMPLES // 2
        victoria.start()
        one.settled(60)
    await_stored(victoria, SAMPLES)


def test_a_box_that_takes_everything_comes_later_and_answers_as_prometheus_does(
    tmp_path: Path, stable_prometheus_program: Path
) -> None:
    """With `Date` alone: after an outage that makes no difference."""
    with Prometheus(stable_prometheus_program, tmp_path / "prometheus") as server:
        to = destination(server.write_url, protobuf_message=V1)
        with host(tmp_path, to, ticks=TICKS // 2) as one:
            one.settled()
            server.stop()
            one.collect(10)
            wait_for(lambda: one.lane.state is State.WAITING, 20, "a failed try")
            with Box(server.port, names_itself=False) as box:
                one.collect(TICKS - one.ticks)
                assert "answers in its place" in one.held()
                assert one.cursor.ledger.delivered == SAMPLES // 2
                seen = len(box.bodies)
                wait_for(lambda: len(box.bodies) > seen + 2, 10, "some probes")
            server.start()
            one.settled(60)
        found = server.raw_samples('{hostname="a"}', *AT)
        assert sum(map(len, found.values())) == SAMPLES


# No hold lasts forever by mistake.


def test_a_receiver_that_refuses_empty_writes_and_takes_samples(tmp_path: Path) -> None:
    """A hold ends, and one bad series costs itself."""
    empty = Answer(400, body=b"no time series in the request")
    with Receiver([Answer(403)]) as receiver:
        receiver.to_empty = empty
        with host(tmp_path, destination(receiver.url, protobuf_message=V1), ticks=TICKS) as one:
            one.settled()
            one.accounted(receiver, repeated=True)
            bad = Answer(400, body=b"label of memory is too long")
            receiver.refuse = lambda write: bad if "memory" in str(write.series) else None
            one.collect(20)
            one.settled()
            assert {dict(labels)["__name__"] for labels in one.kept()} == {"memory"}
            one.accounted(receiver, repeated=True)


# The doctor says so before the agent does.


@pytest.mark.parametrize("message", MESSAGES)
def test_the_doctor_writes_a_sample(tmp_path: Path, victoria: VictoriaMetrics, message: str) -> None:
    to = {"url": victoria.write_url, "protobuf_message": message}
    good = walked(tmp_path, to, timeout=2)["sample"]  # which it may show later than the doctor waits
    assert (good.ok is not False, "limpet_doctor_sample was" in good.said) == (True, True)
    for path in ("/api/v1/import", "/health", "/metrics"):
        found = walked(tmp_path, {**to, "url": victoria.url + path})["sample"]
        assert (found.ok, "a body that nobody can read" in found.said) == (False, True)


def test_the_doctor_reads_its_sample_back_from_prometheus(tmp_path: Path, prometheus_program: Path) -> None:
    with Prometheus(prometheus_program, tmp_path / "prometheus") as server:
        found = walked(tmp_path, {"url": server.write_url})["sample"]
    assert (found.ok, found.do, found.said) == (
        True,
        None,
        "a sample of limpet_doctor_sample was written, and read back",
    )
