"""What a session promises to every room that uses it: an answer or a failure with its cause, whatever happens."""

from __future__ import annotations

import re
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
from agent.destinations.base import Verdict
from agent.destinations.remote_write.outcome import classify
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


def saying(raw: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(raw)

    return serve


def posted(folder: Path, raw: bytes) -> Answer | Failure:
    """Return what comes of a POST to which this is said."""
    with serving(saying(raw))(folder) as keys:
        return got(Endpoint(name="there", **keys), method="POST")


MOVED, END = b"HTTP/1.1 307 Temporary Redirect\r\n", b"\r\nContent-Length: 0\r\n\r\n"
REDIRECTS = {
    "to a bracket": MOVED + b"Location: http://[::1/x" + END,
    "to no port": MOVED + b"Location: http://a:99999999/" + END,
    "to no text": MOVED + b"Location: http://\xff\x01\xfe/" + END,
    "to no end": MOVED + b"Location: http://" + 60_000 * b"a" + END,
    "to a user": MOVED + b"Location: //u:p@[x/" + END,
    "to two places": MOVED + b"Location: a\r\nLocation: b" + END,
    "on two lines": MOVED + b"Location: http://a\r\n b" + END,
    "to nowhere": MOVED + b"Location:" + END,
    "that is cut": MOVED + b"Location: [\r\nContent-Length: 9\r\n\r\nabc",
    "with no chunk": MOVED + b"Location: [\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "without a reason": b"HTTP/1.1 307\r\nLocation: [" + END,
    "with bare line feeds": b"HTTP/1.1 307 X\nLocation: http://[\n\n",
    "of HTTP 1.0": b"HTTP/1.0 307 X\r\nLocation: [\r\n\r\n",
}


@pytest.mark.parametrize("raw", REDIRECTS.values(), ids=REDIRECTS)
def test_a_redirect_is_one_wherever_it_leads(tmp_path: Path, raw: bytes) -> None:
    """A malformed Location once made it a failure that was retried without limit; nobody saw that the URL was wrong."""
    found = posted(tmp_path, raw)
    assert isinstance(found, Answer)
    outcome = classify(*found, now=0.0)
    assert (outcome.verdict, outcome.status) == (Verdict.HELD, 307)
    assert re.search("a redirect.*which is not followed: correct the url", outcome.error or "")
    assert len(outcome.error or "") < 300
    assert "u:p" not in str(outcome)


MALFORMED = {
    "a zero in a header": MOVED + b"Location: http://a\0b/" + END,
    "a header without a name": MOVED + b": x" + END,
    "a name with a blank": MOVED + b"Loc ation: x" + END,
    "a length that is none": b"HTTP/1.1 204 No\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a coding that nobody knows": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 30 X" + END,
    "headers without end": b"HTTP/1.1 200 OK\r\n"
    + 4_000 * b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
    "HTTP 2": b"HTTP/2 200\r\n\r\n",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_http_is_a_failure_that_is_tried_again(tmp_path: Path, raw: bytes) -> None:
    found = posted(tmp_path, raw)
    assert isinstance(found, Failure)
    assert (found.cause, found.holds) == (Cause.PROTOCOL, False)
    assert found.text.isprintable()
    assert len(found.text) < 300


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
    seconds = re.compile(r"[\d.]+(?= s$)")
    assert seconds.sub("N", found.text) == seconds.sub("N", words)
    [known], [shown] = seconds.findall(words), seconds.findall(found.text)
    assert float(known) - 0.15 < float(shown) <= float(known)  # what is left when the exchange begins


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
