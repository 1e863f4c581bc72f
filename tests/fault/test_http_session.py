"""What a session promises to every room that uses it: an answer or a failure with its cause, whatever happens."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.config import Authorization, OAuth2, Secret, TlsConfig
from agent.http.answer import Answer
from agent.http.endpoint import Endpoint
from agent.http.failures import Cause, Failure, Unusable
from agent.http.session import Session
from tests.support.certs import Certs
from tests.support.exporter import Exporter, Page
from tests.support.net import free_port
from tests.support.proxy import Proxy
from tests.support.tcp import listener, read_request, reset
from tests.support.tokens import TokenServer, answer

CANARY = "canary-password"


def got(to: Endpoint, *, method: str = "GET", within: float = 5.0) -> Answer | Failure:
    session = Session(to, "0")
    try:
        return session.exchange(method, to.url, {}, step=within, whole=within)
    finally:
        session.close()


Way = Callable[[Path], AbstractContextManager[dict[str, Any]]]


def serving(serve: Callable[[socket.socket], object], scheme: str = "http") -> Way:
    """A server that does this with each connection; all that is a secret of ours it has seen."""

    @contextmanager
    def way(_: Path) -> Iterator[dict[str, Any]]:
        with listener(serve) as url:  # type: ignore[arg-type]
            yield {"url": url.replace("http", scheme)}

    return way


@contextmanager
def refused_token(_: Path) -> Iterator[dict[str, Any]]:
    with TokenServer(always=answer(400, CANARY.encode())) as tokens:
        oauth2 = OAuth2(client_id="c", client_secret=Secret(CANARY), token_url=tokens.url)
        yield {"url": "http://127.0.0.1:1/", "oauth2": oauth2}


@contextmanager
def refusing_proxy(_: Path) -> Iterator[dict[str, Any]]:
    with Proxy() as proxy:
        proxy.answer = b"HTTP/1.1 403 No\r\n\r\n"
        url = Secret(proxy.url.replace("//", f"//u:{CANARY}@"))
        yield {"url": "https://127.0.0.1:1/", "proxy_url": url}


def fixed(**endpoint: Any) -> Way:
    return lambda _: nullcontext(endpoint)


def cut(connection: socket.socket) -> None:
    read_request(connection)
    reset(connection)


FAILURES: dict[str, tuple[Way, Cause, bool]] = {
    "no such name": (fixed(url="http://nowhere.invalid/"), Cause.ADDRESS, False),
    "nobody listens": (lambda _: nullcontext({"url": f"http://127.0.0.1:{free_port()}/"}), Cause.REFUSED, False),
    "no way there": (fixed(url="http://[::ffff:255.255.255.255]/"), Cause.UNREACHABLE, False),
    "silence": (serving(lambda connection: connection.recv(1 << 16) and connection.recv(1)), Cause.TIMEOUT, False),
    "a reset": (serving(cut), Cause.CUT, False),
    "closed without a word": (serving(read_request), Cause.CUT, False),
    "no HTTP": (serving(lambda connection: connection.sendall(read_request(connection))), Cause.PROTOCOL, False),
    "no TLS": (serving(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad\r\n\r\n"), "https"), Cause.TLS, True),
    "a proxy": (refusing_proxy, Cause.PROXY, True),
    "a token server": (refused_token, Cause.TOKEN, True),
    "no authority": (lambda folder: nullcontext({"url": "https://127.0.0.1:1/", "tls_config": TlsConfig(ca_file=f"{folder}/none")}), Cause.FILE, True),
    "a URL that is none": (fixed(url="http://[/"), Cause.PROTOCOL, False),
}  # fmt: skip


@pytest.mark.parametrize(("way", "cause", "holds"), FAILURES.values(), ids=FAILURES)
def test_the_cause_of_a_failure_survives_and_no_secret_does(
    tmp_path: Path, way: Way, cause: Cause, holds: bool
) -> None:
    with way(tmp_path) as keys:
        headers = {"X-Key": CANARY}
        found = got(
            Endpoint(**{"name": "there", "headers": headers, **keys}),
            within=0.3 if cause is Cause.TIMEOUT else 20,
        )
    assert isinstance(found, Failure)
    assert (found.cause, found.holds) == (cause, holds)
    assert found.text
    assert CANARY not in str(found)


def test_what_is_made_of_an_answer_may_fail_like_the_way_there() -> None:
    def take(response: httpx.Response) -> bytes:
        found = response.read()
        raise Unusable(f"{found.decode()} is of no use")

    with Exporter({"/": Page(CANARY.encode())}) as exporter:
        session = Session(
            Endpoint(f"{exporter.url}/", "x", authorization=Authorization(credentials=Secret(CANARY))), "0"
        )
        found = session.stream("GET", f"{exporter.url}/", {}, b"", take, step=5, whole=5)
        session.close()
    assert found == Failure(Cause.PROTOCOL, "<secret> is of no use")


@pytest.mark.parametrize(("method", "requests"), [("GET", 3), ("POST", 2)])
def test_on_a_connection_that_was_closed_only_a_get_is_repeated(method: str, requests: int) -> None:
    """Who posts a batch counts what it costs, and waits before it comes again."""
    seen = []

    def serve(connection: socket.socket) -> None:
        for _ in range(2):  # the second one is closed as it comes
            if not read_request(connection):
                return
            seen.append(1)
            if len(seen) != 2:
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with listener(serve) as url:
        session = Session(Endpoint(url, "x"), "0")
        found = [session.exchange(method, url, {}, step=5, whole=5) for _ in range(2)]
        session.close()
    assert len(seen) == requests
    assert isinstance(found[-1], Answer) is (method == "GET")


def test_nothing_that_a_server_sets_comes_back() -> None:
    headers = {"Set-Cookie": "a=b; Path=/"}
    with Exporter({"/": Page(b"x", headers=headers)}) as exporter:
        session = Session(Endpoint(f"{exporter.url}/", "x"), "0")
        for _ in range(2):
            assert isinstance(session.exchange("GET", f"{exporter.url}/", {}, step=5, whole=5), Answer)
        session.close()
        assert exporter.connections == 1
    assert [sorted(sent) for _, sent in exporter.requests] == [["host", "user-agent"]] * 2


def test_an_interrupt_ends_a_handshake_and_all_that_follows(certs: Certs) -> None:
    asked = threading.Event()

    def silent(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            asked.set()

    with listener(silent) as url:
        to = Endpoint(url.replace("http", "https"), "x", tls_config=TlsConfig(ca_file=str(certs.ca)))
        session = Session(to, "0")

        def interrupt() -> None:
            asked.wait(5)
            session.interrupt()

        stop = threading.Thread(target=interrupt)
        stop.start()
        for _ in range(2):
            found = session.exchange("GET", to.url, {}, step=30, whole=30)
            assert isinstance(found, Failure)
            assert found.cause in (Cause.CUT, Cause.TLS)
        stop.join()
        session.close()


@pytest.mark.parametrize(
    ("said", "step", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nX:", 0.9, "timeout: no whole answer within 0.9 s"),
        (b"HTTP/1.1 200 OK\r\nX:", 0.2, "timeout: no more of the answer for 0.2 s"),
        (b"HTTP/1.1 102 Processing\r\n\r\n", 0.9, "timeout: no whole answer within 0.9 s"),
        (b"", 0.2, "timeout: no answer within 0.2 s"),
    ],
)
def test_the_time_of_an_answer_that_is_cut(said: bytes, step: float, words: str) -> None:
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        over.wait(0.1)
        connection.sendall(said)
        over.wait(5)

    with listener(serve) as url:
        to = Endpoint(url, "127.0.0.1")
        found = Session(to, "0").exchange("GET", url, {}, step=step, whole=0.9)
        over.set()
    assert isinstance(found, Failure)
    assert found.text == words


@pytest.mark.parametrize("flood", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nLink: </x>\r\n\r\n"])
def test_a_flood_of_interim_answers_is_cut(flood: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        for _ in range(5000):
            connection.sendall(100 * flood)

    with listener(serve) as url:
        begun = time.monotonic()
        found = got(Endpoint(url, "127.0.0.1"), within=60)
        assert time.monotonic() - begun < 30
    assert isinstance(found, Failure)
    assert (found.cause, found.text) == (
        Cause.PROTOCOL,
        "no valid answer from 127.0.0.1: more than 196608 bytes of headers and interim answers",
    )


def test_a_few_interim_answers_are_read_over() -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        few = 1000 * b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        connection.sendall(few + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with listener(serve) as url:
        found = got(Endpoint(url, "127.0.0.1"))
    assert isinstance(found, Answer)
    assert found.body == b"ok"
