"""The sender over real sockets, with receivers and networks that misbehave, on the real buffer."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs
from structlog.typing import EventDict

from agent.config import Authorization, BasicAuth, QueueConfig, RemoteWrite, Secret, TlsConfig
from agent.sender.client import LARGEST_ANSWER, Client
from agent.sender.events import Event
from agent.sender.lane import EMPTY, Lane, stop_all
from agent.sender.outcome import Verdict
from agent.sender.state import Rules, State
from buffer.buffer import Buffer
from buffer.cursor import Cursor
from buffer.model import Instant, Series, Tick
from buffer.quarantine import Quarantine
from tests.support import wire
from tests.support.certs import Certs, make_certs
from tests.support.net import free_port, wait_for
from tests.support.receiver import Answer, Receiver

PASSWORD = "hunter2"
QUICK = Rules(0.01, 0.05, 0.01, 0.05)
SERIES = tuple(Series(name, (("hostname", "a"),)) for name in ("cpu", "memory"))
BOOT = "0123456789abcdef0123456789abcdef"
FIRST_MS = 1_800_000_000_000


class Host:
    """A buffer with one destination and its lane; what it logs is in `logs`."""

    def __init__(self, folder: Path, to: RemoteWrite, logs: list[EventDict]) -> None:
        self.buffer = Buffer(str(folder / "data"), [to.name])
        self.logs = logs
        self.wire = Client(to, "0.0.0")
        self.quarantine = Quarantine(str(folder / "data"))
        self.lane = Lane(
            to.name,
            to.queue_config,
            self.cursor,
            self.buffer,
            self.quarantine,
            self.wire,
            structlog.get_logger(),
            rules=QUICK,
        )
        self.expected: dict[wire.Labels, dict[int, float]] = {}

    @property
    def cursor(self) -> Cursor:
        [cursor] = self.buffer.cursors.values()
        return cursor

    def collect(self, count: int = 1) -> None:
        for _ in range(count):
            n = len(next(iter(self.expected.values()), ()))
            at, values = FIRST_MS + n * 10_000, (float(n), float(-n))
            self.buffer.append([Tick(Instant(at, n * 10_000, BOOT), "all", SERIES, values)])
            for (name, labels, *_), value in zip(SERIES, values, strict=True):
                key = tuple(sorted([("__name__", name), *labels]))
                self.expected.setdefault(key, {})[at] = value

    def settled(self, deadline_s: float = 10.0) -> None:
        wait_for(lambda: self.cursor.pending() == 0, deadline_s, f"all to be sent ({self.lane.error})")

    def held(self) -> str:
        # The ledger is told last.
        wait_for(lambda: self.cursor.ledger.state == "held", 10, "the destination to be held")
        assert self.cursor.pending() > 0
        assert self.lane.state is State.HELD
        assert self.cursor.ledger.error == self.lane.error
        return str(self.lane.error)

    def told(self, event: Event) -> list[EventDict]:
        return [entry for entry in self.logs if entry["event"] == event]


def destination(url: str, **settings: Any) -> RemoteWrite:
    queue = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=20)
    return RemoteWrite(
        **{"url": url, "name": "there", "remote_timeout": 5.0, "queue_config": queue, **settings}
    )


@contextmanager
def host(folder: Path, to: RemoteWrite) -> Iterator[Host]:
    with capture_logs() as logs:
        one = Host(folder, to, logs)
        one.collect()
        one.lane.start()
        try:
            yield one
        finally:
            one.lane.stop(2.0)
            one.buffer.close()
        ledger = one.cursor.ledger
        assert one.buffer.log.end == ledger.delivered + sum(ledger.dropped.values()) + one.cursor.pending()
        assert PASSWORD not in repr(logs)
        assert "sender.failed" not in repr(logs)


def arrived(receiver: Receiver) -> dict[wire.Labels, dict[int, float]]:
    """What a receiver has stored; repeated samples must have the same value, new ones be newer."""
    found: dict[wire.Labels, dict[int, float]] = {}
    assert not receiver.broken
    for labels, samples in receiver.received().items():
        known = found.setdefault(labels, {})
        for at, value in samples:
            assert known.get(at, value) == value
            assert at in known or at > max(known, default=0)
            known[at] = value
    return found


@contextmanager
def listener(serve: Callable[[socket.socket], None], port: int | None = None) -> Iterator[str]:
    """A server whose every connection is given to `serve`, and closed after it."""
    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", port or free_port())) as server:
        server.settimeout(0.02)

        def run() -> None:
            while not stopped.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(10)
                    try:
                        serve(connection)
                    except OSError:
                        pass  # the client has gone

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/write"
        finally:
            stopped.set()
            thread.join(10)
    assert not thread.is_alive()


def read_request(connection: socket.socket) -> bytes:
    """One request, whole; empty when there is none."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += (part := connection.recv(4096))
        if not part:
            return b""
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(4096)
    return data


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


# What a request looks like.


def test_a_request_is_as_the_specification_has_it(tmp_path: Path) -> None:
    with Receiver() as receiver:
        to = destination(receiver.url + "?tenant=1", headers={"X-Scope-OrgID": "é"})
        with host(tmp_path, to) as one:
            one.settled()
        [request] = receiver.requests
    assert request.method == "POST"
    assert request.path == "/api/v1/write?tenant=1"
    assert {name: value for name, value in request.headers.items() if name != "content-length"} == {
        "host": f"127.0.0.1:{receiver.port}",
        "user-agent": "limpet/0.0.0",
        "content-encoding": "snappy",
        "content-type": "application/x-protobuf",
        "x-prometheus-remote-write-version": "0.1.0",
        "accept-encoding": "identity",
        "x-scope-orgid": "é".encode().decode("latin-1"),
    }
    assert arrived(receiver) == one.expected


def test_one_connection_is_kept(tmp_path: Path) -> None:
    ports = set()

    def serve(connection: socket.socket) -> None:
        while read_request(connection):
            ports.add(connection.getpeername())
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with listener(serve) as url, host(tmp_path, destination(url)) as one:
        for _ in range(5):
            one.settled()
            one.collect()
        one.settled()
        assert one.lane.stats.requests >= 5
        one.lane.stop(2.0)  # which closes the connection
    assert len(ports) == 1


def test_no_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with Receiver() as receiver, host(tmp_path, destination(receiver.url)) as one:
        one.settled()


# What is retried.


def test_a_receiver_that_is_not_there_yet(tmp_path: Path) -> None:
    receiver = Receiver()
    with host(tmp_path, destination(receiver.url)) as one:
        wait_for(lambda: one.lane.stats.consecutive_failures >= 3, 10, "some tries")
        assert one.lane.state in (State.WAITING, State.SENDING)
        assert one.lane.error == "no connection with 127.0.0.1: connection refused"
        one.collect(30)
        with receiver:
            one.settled()
            assert arrived(receiver) == one.expected
        assert len([entry for entry in one.told(Event.RETRY) if entry["log_level"] == "warning"]) == 1
        assert one.told(Event.RESUMED)


def test_a_reset_before_the_request_was_read(tmp_path: Path) -> None:
    port = free_port()
    with listener(reset, port) as url, host(tmp_path, destination(url)) as one:
        wait_for(lambda: one.lane.stats.consecutive_failures >= 3, 10, "some tries")
        # It depends on the moment whether the reset is seen as one or as an end.
        assert str(one.lane.error).startswith(("no connection with 127.0.0.1: ", "no valid answer from "))
        one.collect(30)
        one.lane.stop(2.0)
    assert one.cursor.pending() == 62


BROKEN_ANSWERS = {
    "reset": b"",
    "half a status line": b"HTTP/1.1 20",
    "half a head": b"HTTP/1.1 204 No Content\r\nDate: ",
    "no http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "an endless head": b"HTTP/1.1 204 No Content\r\nX: " + b"x" * 200_000,
    "no valid header": b"HTTP/1.1 204 No Content\r\nbad header\x00: 1\r\n\r\n",
}


@pytest.mark.parametrize("answer", BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS)
def test_what_is_no_answer_is_retried(answer: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)

    with listener(serve) as url:
        client = Client(destination(url), "0")
        found = client.post(EMPTY)
        client.close()
    assert (found.verdict, found.status) == (Verdict.RETRY, 0)
    assert str(found.error).startswith("no valid answer from 127.0.0.1: ")


FAILURES: Mapping[str, list[Answer]] = {
    "closed after the request was read": [Answer(close=True)] * 2,
    "500, 503, 429": [Answer(500), Answer(503, body=b"busy"), Answer(429)],
    "408, 425": [Answer(408), Answer(425)],
    "slow": [Answer(delay_s=0.3)],
    "a keep-alive that ends": [Answer(headers={"Connection": "close"})] * 3,
}


@pytest.mark.parametrize("answers", FAILURES.values(), ids=FAILURES)
def test_after_failures_everything_has_arrived_once(tmp_path: Path, answers: list[Answer]) -> None:
    with Receiver(answers) as receiver, host(tmp_path, destination(receiver.url)) as one:
        one.collect(40)
        one.settled()
        assert arrived(receiver) == one.expected
        tries = [request.headers.get("retry-attempt") for request in receiver.requests]
        bad = [answer for answer in answers if answer.close or answer.status >= 400]
        assert tries[: len(bad) + 1] == [None, *map(str, range(1, len(bad) + 1))]
        assert len({request.body for request in list(receiver.requests)[: len(bad) + 1]}) == 1
        assert one.lane.stats.retries == len(bad)


def test_a_connection_that_was_closed_while_idle_costs_no_failure(tmp_path: Path) -> None:
    closed = threading.Event()

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")  # it does not say that it will close
        connection.shutdown(socket.SHUT_WR)
        closed.set()

    with listener(serve) as url, host(tmp_path, destination(url)) as one:
        for _ in range(3):
            assert closed.wait(10)
            one.settled()
            closed.clear()
            one.collect()
        one.settled()
        assert one.lane.stats.retries == 0


def test_retry_after_is_waited_for(tmp_path: Path) -> None:
    with Receiver([Answer(429, {"Retry-After": "1"})]) as receiver:
        with host(tmp_path, destination(receiver.url)) as one:
            one.settled()
        first, second, *_ = receiver.requests
    assert 1.0 <= second.at - first.at < 3.0


def test_a_receiver_that_never_answers_is_given_up_in_time(tmp_path: Path) -> None:
    with Receiver([Answer(hang=True)]) as receiver:
        with host(tmp_path, destination(receiver.url, remote_timeout=0.3)) as one:
            one.settled()
            assert one.told(Event.RETRY)[0]["error"] == "timeout: no answer within 0.3 s"
        assert arrived(receiver) == one.expected


def drip(data: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        for byte in data * 1000:
            connection.sendall(bytes((byte,)))
            time.sleep(0.02)

    return serve


def post_for(url: str, timeout: float) -> tuple[Verdict, float]:
    client = Client(destination(url, remote_timeout=timeout), "0")
    began = time.monotonic()
    found = client.post(EMPTY)
    client.close()
    return found.verdict, time.monotonic() - began


def test_a_head_that_drips_is_given_up_in_time() -> None:
    with listener(drip(b"HTTP/1.1 204 No Content\r\nX: ")) as url:
        verdict, took = post_for(url, 0.3)
    assert verdict is Verdict.RETRY
    assert 0.5 < took < 1.2


def test_a_body_that_drips_does_not_make_a_delivered_batch_undelivered() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        drip(b"thanks ")(connection)

    with listener(serve) as url:
        verdict, took = post_for(url, 0.3)
    assert verdict is Verdict.DELIVERED
    assert took < 1.2


def test_an_endless_body_is_not_read_to_its_end() -> None:
    sent = [0]

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            sent[0] += connection.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    with listener(serve) as url:
        verdict, took = post_for(url, 5.0)
    assert verdict is Verdict.RETRY
    assert took < 4
    assert sent[0] < 16 << 20  # what the kernel takes in, not what the sender keeps
    assert LARGEST_ANSWER == 64 << 10


def test_a_receiver_that_takes_nothing_is_given_up_in_time() -> None:
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        done.wait(10)

    with listener(serve) as url:
        client = Client(destination(url, remote_timeout=0.3), "0")
        began = time.monotonic()
        found = client.post(os.urandom(32 << 20))
        took = time.monotonic() - began
        client.close()
        done.set()
    assert found.verdict is Verdict.RETRY
    assert found.error == "timeout: the receiver took nothing for 0.3 s"
    assert took < 1.2


def test_an_answer_that_comes_before_the_request_was_read_counts() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass

    with listener(serve) as url:
        client = Client(destination(url), "0")
        assert client.post(os.urandom(8 << 20)).verdict is Verdict.TOO_LARGE
        client.close()


def test_a_name_that_cannot_be_resolved_is_retried() -> None:
    client = Client(destination("https://nowhere.invalid/write"), "0")
    found = client.post(EMPTY)
    assert found.verdict is Verdict.RETRY
    assert str(found.error).startswith("the name nowhere.invalid cannot be resolved: ")


# What is held.


def test_a_wrong_password_is_held_until_its_file_is_corrected(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("wrong\n")
    auth = BasicAuth(username="limpet", password_file=str(file))
    with Receiver() as receiver:
        receiver.default = Answer(401, body=b"go away")
        with host(tmp_path, destination(receiver.url, basic_auth=auth)) as one:
            assert one.held() == "HTTP 401: check the user and password, or the credentials (go away)"
            one.collect(30)
            wait_for(lambda: len(receiver.requests) >= 4, 10, "probes")
            assert [request.write.samples for request in receiver.requests][:4] == [2, 0, 0, 0]
            file.write_text(f" {PASSWORD}\n")
            wanted = "Basic bGltcGV0Omh1bnRlcjI="
            wait_for(lambda: receiver.requests[-1].headers["authorization"] == wanted, 10, "the password")
            receiver.default = Answer()
            one.settled()
            assert arrived(receiver) == one.expected
            assert len([entry for entry in one.told(Event.HELD) if entry["log_level"] == "warning"]) == 1
            assert one.told(Event.RESUMED)
            assert one.lane.error is None


@pytest.mark.parametrize("status", [403, 404, 407])
def test_what_an_operator_can_mend_is_held(tmp_path: Path, status: int) -> None:
    with Receiver([Answer(status)] * 3) as receiver, host(tmp_path, destination(receiver.url)) as one:
        assert one.held().startswith(f"HTTP {status}: ")
        one.settled()
        assert arrived(receiver) == one.expected


def test_credentials_and_their_type_are_sent(tmp_path: Path) -> None:
    auth = Authorization(type="Token", credentials=Secret(PASSWORD))
    with Receiver() as receiver, host(tmp_path, destination(receiver.url, authorization=auth)) as one:
        one.settled()
        assert receiver.requests[0].headers["authorization"] == f"Token {PASSWORD}"


BAD_FILES = {
    "missing": (None, "cannot be read: no such file or directory"),
    "two lines": (f"{PASSWORD}\nmore", "not one line of ASCII"),
    "no text": (b"\xff\xfe", "is not UTF-8"),
}


@pytest.mark.parametrize(("content", "told"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_credentials_file_that_is_no_good_is_held(
    tmp_path: Path, content: str | bytes | None, told: str
) -> None:
    file = tmp_path / "credentials"
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    auth = Authorization(credentials_file=str(file))
    with Receiver() as receiver, host(tmp_path, destination(receiver.url, authorization=auth)) as one:
        assert told in one.held()
        assert "there.authorization.credentials_file: " in one.held()
        assert not receiver.requests  # nothing goes out without what it needs
        file.write_text("good")
        one.settled()


def test_a_redirect_is_held_and_nothing_goes_to_where_it_points(tmp_path: Path) -> None:
    auth = BasicAuth(username="limpet", password=Secret(PASSWORD))
    with Receiver() as elsewhere, Receiver() as receiver:
        receiver.default = Answer(
            307, {"Location": f"http://x:{PASSWORD}@127.0.0.1:{elsewhere.port}/?{PASSWORD}"}
        )
        with host(tmp_path, destination(receiver.url, basic_auth=auth)) as one:
            told = f"a redirect to http://127.0.0.1:{elsewhere.port}/, which is not followed"
            assert told in one.held()
            wait_for(lambda: len(receiver.requests) >= 3, 10, "probes")
            assert {request.method for request in receiver.requests} == {"POST"}
            assert not elsewhere.requests
            receiver.default = Answer()
            one.settled()


def test_an_unknown_authority_is_held_until_the_file_is_corrected(tmp_path: Path, certs: Certs) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(certs.unknown_ca.read_bytes())
    with Receiver(certs=certs) as receiver:
        to = destination(receiver.url, tls_config=TlsConfig(ca_file=str(file)))
        with host(tmp_path, to) as one:
            assert one.held().startswith("TLS: the certificate of 127.0.0.1 was not accepted: ")
            file.write_text("not a certificate")
            wait_for(
                lambda: "there.tls_config.ca_file: no certificate in it" in str(one.lane.error), 10, "it"
            )
            file.write_bytes(certs.ca.read_bytes())
            one.settled()
            assert arrived(receiver) == one.expected


TLS: dict[str, tuple[dict[str, Any], str | None]] = {
    "the system's authorities do not know it": ({}, "was not accepted"),
    "a private authority": ({"ca_file": "ca"}, None),
    "an inline authority": ({"ca": "ca"}, None),
    "a name it has": ({"ca_file": "ca", "server_name": "localhost"}, None),
    "a name it does not have": ({"ca_file": "ca", "server_name": "other.example"}, "was not accepted"),
    "not verified": ({"insecure_skip_verify": True}, None),
    "not verified, another name": ({"insecure_skip_verify": True, "server_name": "other.example"}, None),
    "version 1.2 at most": ({"ca_file": "ca", "max_version": "TLS12"}, None),
    "version 1.3 at least": ({"ca_file": "ca", "min_version": "TLS13"}, None),
}


@pytest.mark.parametrize(("settings", "error"), TLS.values(), ids=TLS)
def test_how_a_receiver_is_verified(settings: dict[str, Any], error: str | None, certs: Certs) -> None:
    known: dict[str, Any] = {"ca_file": str(certs.ca), "ca": certs.ca.read_text()}
    config = TlsConfig(**{key: known.get(key, value) for key, value in settings.items()})
    with Receiver(certs=certs) as receiver:
        client = Client(destination(receiver.url, tls_config=config), "0")
        found = client.post(EMPTY)
        client.close()
        if error is None:
            assert found.verdict is Verdict.DELIVERED
        else:
            assert found.verdict is Verdict.HELD
            assert error in str(found.error)
            assert not receiver.requests


def test_a_receiver_that_speaks_only_an_older_version_is_held(certs: Certs) -> None:
    with Receiver(certs=certs) as receiver:
        assert receiver.tls
        receiver.tls.maximum_version = ssl.TLSVersion.TLSv1_2
        to = destination(receiver.url, tls_config=TlsConfig(ca_file=str(certs.ca), min_version="TLS13"))
        found = Client(to, "0").post(EMPTY)
    assert found.verdict is Verdict.HELD
    assert found.error
    assert "protocol version" in found.error


def test_tls_to_a_receiver_that_speaks_plain_http_is_held() -> None:
    with Receiver() as receiver:
        found = Client(destination(receiver.url.replace("http:", "https:")), "0").post(EMPTY)
    assert found.verdict is Verdict.HELD
    assert str(found.error).startswith("TLS with 127.0.0.1: ")


@pytest.mark.parametrize("inline", [False, True], ids=["files", "inline"])
def test_a_client_certificate_is_shown(certs: Certs, inline: bool) -> None:
    ca = str(certs.ca)
    if inline:
        key = Secret(certs.client_key.read_text())
        config = TlsConfig(ca_file=ca, cert=certs.client_cert.read_text(), key=key)
    else:
        config = TlsConfig(ca_file=ca, cert_file=str(certs.client_cert), key_file=str(certs.client_key))
    with Receiver(certs=certs, client_cert=True) as receiver:
        client = Client(destination(receiver.url, tls_config=config), "0")
        assert client.post(EMPTY).verdict is Verdict.DELIVERED
        client.close()
        refused = Client(destination(receiver.url, tls_config=TlsConfig(ca_file=ca)), "0").post(EMPTY)
        # The alert may be overtaken by the reset; either way nothing is lost.
        assert refused.verdict in (Verdict.HELD, Verdict.RETRY)
        assert len(receiver.requests) == 1


def test_a_certificate_that_was_renewed_is_used_without_a_restart(tmp_path: Path, certs: Certs) -> None:
    other = tmp_path / "other"
    other.mkdir()
    wrong = make_certs(other)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(certs.client_cert.read_bytes())
    key.write_bytes(wrong.client_key.read_bytes())
    config = TlsConfig(ca_file=str(certs.ca), cert_file=str(cert), key_file=str(key))
    with Receiver(certs=certs, client_cert=True) as receiver:
        client = Client(destination(receiver.url, tls_config=config), "0")
        found = client.post(EMPTY)
        assert found.verdict is Verdict.HELD
        assert "there.tls_config.cert_file: certificate and key are not usable" in str(found.error)
        key.write_bytes(certs.client_key.read_bytes())
        assert client.post(EMPTY).verdict is Verdict.DELIVERED
        client.close()


def test_a_key_with_a_passphrase_asks_nobody(tmp_path: Path, certs: Certs) -> None:
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key(certs.client_key.read_bytes(), None)
    locked = tmp_path / "key.pem"
    locked.write_bytes(
        key.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(PASSWORD.encode())
        )
    )
    config = TlsConfig(cert_file=str(certs.client_cert), key_file=str(locked))
    found = Client(destination("https://127.0.0.1:1/", tls_config=config), "0").post(EMPTY)
    assert found.verdict is Verdict.HELD
    assert "certificate and key are not usable" in str(found.error)


# What is settled or cut to size.


def test_a_batch_that_is_too_large_is_halved(tmp_path: Path) -> None:
    with Receiver([Answer(), Answer(413), Answer(413)]) as receiver:
        with host(tmp_path, destination(receiver.url)) as one:
            one.settled()
            one.collect(50)
            one.settled()
            assert arrived(receiver) == one.expected
        assert max(request.write.samples for request in list(receiver.requests)[3:]) <= 5


def test_a_refused_batch_is_in_the_ledger_and_in_the_log(tmp_path: Path) -> None:
    answer = Answer(400, body=b"limit exceeded\n")  # the batch, and each of its two series
    with Receiver([answer] * 3) as receiver, host(tmp_path, destination(receiver.url)) as one:
        one.settled()
        one.collect()
        one.settled()
        assert one.cursor.ledger.dropped == {"rejected": 2}
        assert one.cursor.ledger.delivered == 2
        [entry] = one.told(Event.REJECTED)
        assert (entry["log_level"], entry["samples"]) == ("error", 2)
        assert entry["error"] == "HTTP 400: limit exceeded"


# Stopping, and one another.


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_stop_cuts_a_request_that_is_never_answered(tmp_path: Path, scheme: str) -> None:
    """Over https it is the handshake that is never answered."""
    asked = threading.Event()

    def silent(connection: socket.socket) -> None:
        while connection.recv(1 << 16):  # until the other side ends it
            asked.set()

    with listener(silent) as url, capture_logs() as logs:
        to = destination(url.replace("http", scheme), remote_timeout=60.0)
        one = Host(tmp_path, to, logs)
        one.collect()
        one.lane.start()
        assert asked.wait(5)
        began = time.monotonic()
        one.lane.stop(1.0)
        assert time.monotonic() - began < 1.2
        assert not one.lane._thread.is_alive()  # it was cut, not left behind
        assert one.cursor.ledger.state == "stopped"
        assert one.cursor.pending() == 2
        one.buffer.close()
        assert not [entry for entry in logs if entry["log_level"] != "debug"]


def test_a_dead_destination_delays_no_other(tmp_path: Path) -> None:
    with Receiver([Answer(hang=True)] * 9) as dead, Receiver() as alive, capture_logs():
        buffer = Buffer(str(tmp_path), ["dead", "alive"])
        lanes = [
            Lane(
                name,
                QueueConfig(batch_send_deadline=0.01),
                buffer.cursors[name],
                buffer,
                Quarantine(str(tmp_path)),
                Client(destination(url, name=name, remote_timeout=30.0), "0"),
                structlog.get_logger(),
            )
            for name, url in (("dead", dead.url), ("alive", alive.url))
        ]
        for lane in lanes:
            lane.start()
        for n in range(5):
            buffer.append([Tick(Instant(FIRST_MS + n, n, BOOT), "all", SERIES, (1.0, 2.0))])
            wait_for(lambda: buffer.cursors["alive"].pending() == 0, 5, "the tick to arrive")
        began = time.monotonic()
        stop_all(lanes, 1.0)
        assert time.monotonic() - began < 1.2
        buffer.close()
        assert buffer.cursors["dead"].pending() == 10
    assert alive.samples == 10


def test_what_is_settled_survives_the_process(tmp_path: Path) -> None:
    with Receiver() as receiver:
        with host(tmp_path, destination(receiver.url)) as one:
            one.collect(20)
            one.settled()
        with capture_logs():
            again = Buffer(str(tmp_path / "data"), ["there"])
            assert again.cursors["there"].pending() == 0
            again.close()
        assert arrived(receiver) == one.expected
