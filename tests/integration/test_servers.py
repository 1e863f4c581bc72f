"""The helpers that start real servers: if they lie, every test that uses them lies."""

from __future__ import annotations

import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from tests.support.certs import Certs
from tests.support.net import free_port, wait_for
from tests.support.prometheus import CONFIG, Prometheus
from tests.support.real_proxy import Nginx, Tinyproxy
from tests.support.receiver import HEADERS, Answer, Receiver
from tests.support.server import Login, ServerFailed
from tests.support.victoria import VictoriaMetrics
from tests.support.wire import TimeSeries, WireError, Write, decode, decode_message, encode

LOGIN = Login("limpet", "correct horse")


def series(name: str, samples: tuple[tuple[int, float], ...], **labels: str) -> TimeSeries:
    return TimeSeries(tuple(sorted({"__name__": name, **labels}.items())), samples)


def push(url: str, body: bytes, *, ca: Path | None = None, login: Login | None = None) -> httpx.Response:
    verify = ssl.create_default_context(cafile=str(ca)) if ca else True
    return httpx.post(url, content=body, headers=HEADERS["1.0"], auth=login, verify=verify, timeout=10)


@pytest.fixture(scope="module")
def over_tls(
    prometheus_program: Path, certs: Certs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    server = Prometheus(prometheus_program, tmp_path_factory.mktemp("tls"), certs=certs, login=LOGIN)
    with server:
        yield server


def test_prometheus_keeps_a_write_over_tls_with_a_password(over_tls: Prometheus, certs: Certs) -> None:
    now = time.time_ns() // 1_000_000
    # Oldest first and hours back: the out-of-order window of the shipped configuration must be in force.
    samples = ((now - 6 * 3_600_000 + 7, 1.5), (now - 10_001, -2.0), (now, 1e300))
    recent, old = series("up_test", samples[1:], core="0"), series("up_test", samples[:1], core="0")
    for part in (recent, old):
        answer = push(over_tls.write_url, encode([part]), ca=certs.ca, login=LOGIN)
        assert answer.status_code == 204, answer.text

    labels = recent.labels
    assert over_tls.raw_samples("up_test", samples[0][0], now) == {labels: list(samples)}
    assert over_tls.raw_samples("up_test", samples[0][0] + 1, now - 1) == {labels: [samples[1]]}
    assert over_tls.raw_samples("up_test", now, now) == {labels: [samples[2]]}
    assert over_tls.query("up_test", at=now / 1000) == {labels: 1e300}
    assert over_tls.query("1 + 1") == {(): 2.0}
    assert over_tls.series("up_test") == [dict(labels)]
    assert over_tls.own("prometheus_tsdb_head_samples_appended_total") == 3
    start = (now - 10_001) / 1000
    assert over_tls.query_range("up_test", start, start + 9, 9) == {
        labels: [(now - 10_001, -2.0), (now - 1001, -2.0)]
    }


@pytest.mark.parametrize("login", [None, Login("limpet", "wrong"), Login("nobody", "correct horse")])
def test_prometheus_refuses_a_wrong_password(over_tls: Prometheus, certs: Certs, login: Login | None) -> None:
    body = encode([series("refused", ((time.time_ns() // 1_000_000, 1.0),))])
    assert push(over_tls.write_url, body, ca=certs.ca, login=login).status_code == 401
    assert over_tls.series("refused") == []


def test_prometheus_is_of_an_authority_that_must_be_known(over_tls: Prometheus, certs: Certs) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        push(over_tls.write_url, encode([]), ca=certs.unknown_ca, login=LOGIN)


def test_prometheus_asks_for_a_client_certificate(
    prometheus_program: Path, certs: Certs, tmp_path: Path
) -> None:
    with Prometheus(prometheus_program, tmp_path, certs=certs, client_cert=True) as server:
        assert server.query("1") == {(): 1.0}
        with pytest.raises((httpx.ReadError, httpx.ConnectError)):
            push(server.write_url, encode([]), ca=certs.ca)


@pytest.mark.parametrize("end", [Prometheus.stop, Prometheus.kill])
def test_prometheus_has_its_port_and_its_data_after_a_restart(
    prometheus_program: Path, tmp_path: Path, end: Callable[[Prometheus], None]
) -> None:
    now = time.time_ns() // 1_000_000
    kept = series("kept", ((now, 4.0),))
    with Prometheus(prometheus_program, tmp_path) as server:
        assert push(server.write_url, encode([kept])).status_code == 204
        url, pid = server.url, server.pid
        assert pid is not None
        end(server)
        stopped = server.pid
        assert stopped is None
        assert not psutil.pid_exists(pid)
        with pytest.raises(httpx.ConnectError):
            push(server.write_url, encode([kept]))
        server.start()
        assert server.url == url
        assert server.raw_samples("kept", now, now) == {kept.labels: [(now, 4.0)]}
        last = server.pid
    assert last is not None
    assert not psutil.pid_exists(last)


def test_prometheus_that_cannot_start_says_why(prometheus_program: Path, tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text("nonsense: true\n")
    with pytest.raises(ServerFailed, match="nonsense"):
        Prometheus(prometheus_program, tmp_path, config=config).start()


def test_the_example_of_a_web_configuration_works_unchanged(
    prometheus_program: Path, certs: Certs, tmp_path: Path
) -> None:
    shutil.copy(CONFIG.with_name("web.example.yml"), tmp_path / "example.yml")
    shutil.copy(certs.server_cert, tmp_path / "server.pem")
    shutil.copy(certs.server_key, tmp_path / "server.key")
    (user,) = yaml.safe_load((tmp_path / "example.yml").read_text())["basic_auth_users"]
    server = Prometheus(
        prometheus_program,
        tmp_path,
        certs=certs,
        login=Login(user, "change-me"),
        web_config=tmp_path / "example.yml",
    )
    with server:
        assert server.query("1") == {(): 1.0}


def test_victoria_metrics_shows_what_came_twice(victoria_program: Path, certs: Certs, tmp_path: Path) -> None:
    now = time.time_ns() // 1_000_000
    samples = ((now - 6 * 3_600_000, 1.5), (now, 0.1))
    kept = series("kept", samples)
    with VictoriaMetrics(victoria_program, tmp_path, certs=certs, login=LOGIN) as server:
        assert push(server.write_url, encode([kept]), ca=certs.ca).status_code == 401
        for _ in range(2):
            assert push(server.write_url, encode([kept]), ca=certs.ca, login=LOGIN).status_code == 204
        twice = [samples[0], samples[0], samples[1], samples[1]]
        assert server.raw_samples("kept", samples[0][0], now) == {kept.labels: twice}
        assert server.raw_samples("kept", samples[0][0] + 1, now) == {kept.labels: twice[2:]}
        server.stop()
        server.start()
        assert server.raw_samples("kept", now, now) == {kept.labels: twice[2:]}


def test_nginx_asks_for_a_client_certificate(
    victoria_program: Path, nginx_program: Path, certs: Certs, tmp_path: Path
) -> None:
    with (
        VictoriaMetrics(victoria_program, tmp_path / "behind") as behind,
        Nginx(nginx_program, tmp_path / "nginx", behind, certs=certs) as server,
    ):
        assert server.get("/health") == b"OK"
        assert push(server.write_url, encode([]), ca=certs.ca).status_code == 400


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tinyproxy_asks_for_a_password(
    tinyproxy_program: Path, certs: Certs, tmp_path: Path, scheme: str
) -> None:
    login = Login("user", "its-password")
    with (
        Receiver(certs=certs if scheme == "https" else None) as receiver,
        Tinyproxy(tinyproxy_program, tmp_path, login=login) as server,
    ):
        body = encode([series("a", ((1, 1.0),))])
        verify = ssl.create_default_context(cafile=str(certs.ca))
        url = receiver.url if scheme == "https" else f"http://127.0.0.1:{receiver.port}/other"
        try:  # without a body, which it does not read: its answer might be lost in a reset
            refused = str(httpx.get(url, proxy=httpx.Proxy(server.url), verify=verify).status_code)
        except httpx.ProxyError as error:
            refused = str(error)
        assert "407" in refused
        proxy = httpx.Proxy(server.url, auth=login)
        answer = httpx.post(receiver.url, content=body, headers=HEADERS["1.0"], proxy=proxy, verify=verify)
        assert answer.status_code == 204
        tunnel = f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1"
        whole = [f"GET {url} HTTP/1.1", f"POST {receiver.url} HTTP/1.1"]
        assert server.asked() == ([tunnel] * 2 if scheme == "https" else whole)


def test_the_receiver_keeps_what_it_answers_2xx_and_nothing_else() -> None:
    first, second = series("a", ((1, 1.0), (2, 2.0)), host="x"), series("a", ((3, 3.0),), host="x")
    with Receiver([Answer(503, {"Retry-After": "7"}, b"later"), Answer(200)]) as receiver:
        refused = push(receiver.url, encode([first]))
        assert (refused.status_code, refused.text, refused.headers["retry-after"]) == (503, "later", "7")
        assert receiver.received() == {}
        assert push(receiver.url, encode([first])).status_code == 200
        assert push(receiver.url, encode([second])).status_code == 204
        assert receiver.received() == {first.labels: [(1, 1.0), (2, 2.0), (3, 3.0)]}
        assert receiver.latest == {first.labels: (3, 3.0)}
        assert (receiver.samples, receiver.writes) == (3, 2)
        assert [request.write for request in receiver.requests] == [
            Write((first,)),
            Write((first,)),
            Write((second,)),
        ]
        assert receiver.requests[0].headers["content-encoding"] == "snappy"


def test_the_receiver_delays_hangs_and_closes_as_scripted() -> None:
    body = encode([series("a", ((1, 1.0),))])
    with Receiver([Answer(delay_s=0.2), Answer(hang=True), Answer(close=True)]) as receiver:
        start = time.monotonic()
        assert push(receiver.url, body).status_code == 204
        assert time.monotonic() - start >= 0.2
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(receiver.url, content=body, headers=HEADERS["1.0"], timeout=0.3)
        with pytest.raises(httpx.RemoteProtocolError):
            push(receiver.url, body)
        assert len(receiver.requests) == 3
        assert receiver.samples == 1


def test_a_receiver_that_stops_has_not_received_what_it_did_not_answer() -> None:
    body = encode([series("a", ((1, 1.0),))])
    with Receiver([Answer(delay_s=60)]) as receiver, ThreadPoolExecutor(1) as pool:
        pushed = pool.submit(push, receiver.url, body)
        wait_for(lambda: len(receiver.requests), 10, "the request")
        receiver.stop()
        with pytest.raises(httpx.TransportError):
            pushed.result(timeout=10)
        assert (receiver.received(), receiver.samples, len(receiver.requests)) == ({}, 0, 1)


def test_the_receiver_comes_back_on_its_port() -> None:
    body = encode([series("a", ((1, 1.0),))])
    with Receiver() as receiver, httpx.Client() as kept:
        assert kept.post(receiver.url, content=body, headers=HEADERS["1.0"]).status_code == 204
        receiver.stop()
        with pytest.raises(httpx.TransportError):
            kept.post(receiver.url, content=body, headers=HEADERS["1.0"])
        with pytest.raises(httpx.ConnectError):
            push(receiver.url, body)
        receiver.start()
        assert push(receiver.url, body).status_code == 204


def test_the_receiver_speaks_tls_and_asks_for_a_client_certificate(certs: Certs) -> None:
    body = encode([series("a", ((1, 1.0),))])
    with Receiver(certs=certs, client_cert=True) as receiver:
        with pytest.raises((httpx.ReadError, httpx.ConnectError)):
            push(receiver.url, body, ca=certs.ca)
        context = ssl.create_default_context(cafile=str(certs.ca))
        context.load_cert_chain(certs.client_cert, certs.client_key)
        answer = httpx.post(receiver.url, content=body, headers=HEADERS["1.0"], verify=context)
        assert answer.status_code == 204


BROKEN = {  # name: a message that breaks a MUST of remote write
    "labels not sorted": [TimeSeries((("b", "1"), ("__name__", "a")), ((1, 1.0),))],
    "a label twice": [TimeSeries((("__name__", "a"), ("b", "1"), ("b", "2")), ((1, 1.0),))],
    "no name": [TimeSeries((("b", "1"),), ((1, 1.0),))],
    "an empty label": [TimeSeries((("__name__", "a"), ("b", "")), ((1, 1.0),))],
    "no sample": [TimeSeries((("__name__", "a"),), ())],
    "not in order": [TimeSeries((("__name__", "a"),), ((2, 1.0), (1, 1.0)))],
    "a time twice": [TimeSeries((("__name__", "a"),), ((2, 1.0), (2, 1.0)))],
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_the_receiver_refuses_what_breaks_a_rule_of_remote_write(broken: list[TimeSeries]) -> None:
    with Receiver() as receiver:
        assert push(receiver.url, encode(broken)).status_code == 400
        assert len(receiver.broken) == 1
        assert receiver.samples == 0


@pytest.mark.parametrize("body", [b"", b"\xff" * 20, encode([])[:-1] + b"\x05junk"])
def test_what_is_no_snappy_block_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        decode(body)


@pytest.mark.parametrize("message", [b"\x0a\x7f", b"\x12\x01a", b"\x0a\x02\x1a\x00"])
def test_what_is_no_message_or_has_unknown_fields_is_refused(message: bytes) -> None:
    with pytest.raises(WireError):
        decode_message(message)


def test_a_free_port_is_out_of_the_range_of_outgoing_connections() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(1024 < free_port() < first for _ in range(50))


def test_waiting_ends_with_the_value_or_with_what_was_seen() -> None:
    values = iter([0, 0, 7])
    assert wait_for(lambda: next(values), 5, "a number") == 7
    with pytest.raises(AssertionError, match=r"0\.05 s in vain for the sun; last seen: \[\]"):
        wait_for(list, 0.05, "the sun", least_s=0)
