"""Targets that misbehave, on real sockets: a scrape fails in time, says why, and the next one works."""

from __future__ import annotations

import gzip
import socket
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.config import Authorization, BasicAuth, Secret, Target, TlsConfig
from agent.scrape.fetch import AT_ONCE, LARGE, Exposition, Fetcher, ScrapeFailed, accept, gunzip
from tests.support.certs import Certs
from tests.support.exporter import OPENMETRICS, Exporter, Page
from tests.support.net import free_port
from tests.support.tcp import listener

TIMEOUT = 5.0
GOOD = Page(b"a 1\n")


MADE: list[Fetcher] = []


def fetcher(url: str, timeout: float = TIMEOUT, **more: Any) -> Fetcher:
    MADE.append(Fetcher(Target(url=url, job="app", **more), timeout, "1.2.3"))
    return MADE[-1]


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def failure(made: Fetcher) -> str:
    begun = time.monotonic()
    with pytest.raises(ScrapeFailed) as caught:
        made.get()
    assert time.monotonic() - begun < made._timeout + 25
    return str(caught.value)


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    with Exporter({"/metrics": GOOD}) as made:
        yield made


def test_the_request_and_its_headers(exporter: Exporter) -> None:
    made = fetcher(f"{exporter.url}/metrics", timeout=2.5, headers={"X-Scope": "edge"})
    assert made.get() == Exposition(b"a 1\n", openmetrics=False)
    ((path, headers),) = exporter.requests
    assert path == "/metrics"
    assert headers["x-scope"] == "edge"
    assert headers["user-agent"] == "limpet/1.2.3"
    assert headers["x-prometheus-scrape-timeout-seconds"] == "2.5"
    assert headers["accept"].startswith("application/openmetrics-text;version=1.0.0")
    assert headers["accept-encoding"] == "identity"  # on loopback nothing is gained by gzip
    assert fetcher("http://192.0.2.1/metrics")._headers["Accept-Encoding"] == b"gzip"


def test_large_expositions_take_turns(exporter: Exporter) -> None:
    exporter.pages["/large"] = Page(b"a 1\n" * (LARGE // 4 + 1))
    first = [fetcher(f"{exporter.url}/large").get() for _ in range(AT_ONCE)]
    late = fetcher(f"{exporter.url}/large", timeout=0.3)
    assert failure(late) == f"other expositions of more than {LARGE} bytes were read all the time"
    fetcher(f"{exporter.url}/metrics").get()  # a small one does not wait
    for each in first:
        assert each.leave is not None
        each.leave()
    exporter.pages["/cut"] = Page(b"a 1\n" * (LARGE // 4 + 1), length=2 * LARGE, close=True)
    for _ in range(AT_ONCE + 1):  # what fails leaves, too
        failure(fetcher(f"{exporter.url}/large", body_size_limit=LARGE + 3))
        failure(fetcher(f"{exporter.url}/cut"))
    found = fetcher(f"{exporter.url}/large").get()
    assert found.leave is not None
    found.leave()


def test_the_connection_is_kept(exporter: Exporter) -> None:
    made = fetcher(f"{exporter.url}/metrics?name[]=a")
    exporter.pages["/metrics?name[]=a"] = GOOD
    for _ in range(5):
        made.get()
    assert exporter.connections == 1
    assert len(exporter.requests) == 5
    made.close()
    made.get()
    assert exporter.connections == 2


def test_the_format_is_what_the_target_says(exporter: Exporter) -> None:
    kinds = (
        OPENMETRICS,
        "Application/OpenMetrics-Text",
        "text/plain",
        None,
        "text/html",
    )  # small servers' word
    exporter.pages |= {f"/{i}": GOOD._replace(content_type=kind) for i, kind in enumerate(kinds)}
    found = [fetcher(f"{exporter.url}/{i}").get().openmetrics for i in range(len(kinds))]
    assert found == [True, True, False, False, False]


def test_the_requested_formats_are_configured(exporter: Exporter) -> None:
    asked = [
        accept(Target(url=exporter.url, job="app", **more)).decode()
        for more in (
            {},
            {"scrape_protocols": ("PrometheusText0.0.4", "OpenMetricsText1.0.0")},
            {"metric_name_validation_scheme": "legacy", "scrape_protocols": ("PrometheusText1.0.0",)},
            {"metric_name_escaping_scheme": "dots", "scrape_protocols": ("OpenMetricsText1.0.0",)},
        )
    ]
    assert asked == [
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        ),
        "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.4",
        "text/plain;version=1.0.0;escaping=underscores;q=0.6,*/*;q=0.5",
        "application/openmetrics-text;version=1.0.0;escaping=dots;q=0.6,*/*;q=0.5",
    ]
    exporter.pages["/metrics"] = GOOD._replace(content_type="text/html")
    other = fetcher(f"{exporter.url}/metrics", fallback_scrape_protocol="OpenMetricsText1.0.0")
    assert other.get().openmetrics is True
    exporter.pages["/metrics"] = GOOD._replace(content_type="application/vnd.google.protobuf; proto=x")
    assert "protobuf format, which is not read" in failure(other)


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (GOOD._replace(status=500), "HTTP 500 Internal Server Error"),
        (GOOD._replace(status=401), "HTTP 401 Unauthorized"),
        (GOOD._replace(status=204, body=b""), "HTTP 204 No Content"),
        (GOOD._replace(status=302, headers={"Location": "/other"}), "HTTP 302 Found"),
        (GOOD._replace(headers={"Content-Encoding": "br"}), "a Content-Encoding that nobody asked for: br"),
        (GOOD._replace(headers={"Content-Encoding": "gzip"}), "not valid gzip"),
        (GOOD._replace(length=1000), "no valid answer from 127.0.0.1"),
        (GOOD._replace(body=b"x" * 2000), "larger than body_size_limit (1024 bytes)"),
        (GOOD._replace(body=b"x" * 2000, zipped=True), "larger than body_size_limit (1024 bytes)"),
        (GOOD._replace(headers={"X": "y" * 200_000}), "no valid answer from 127.0.0.1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_that_is_none(exporter: Exporter, page: Page, text: str) -> None:
    exporter.pages["/metrics"] = page
    made = fetcher(f"{exporter.url}/metrics", body_size_limit=1024)
    for _ in range(2):
        assert text in failure(made)
    exporter.pages["/metrics"] = GOOD
    assert made.get().body == b"a 1\n"


def test_gzip_that_was_not_asked_for_is_read_all_the_same(exporter: Exporter) -> None:
    exporter.pages["/metrics"] = GOOD._replace(zipped=True)
    made = fetcher(f"{exporter.url}/metrics")
    assert made.get().body == b"a 1\n"
    body = gzip.compress(b"a 1\n") + gzip.compress(b"b 2\n")  # several members are one stream (RFC 1952, 2.2)
    for sent, read in ((body, b"a 1\nb 2\n"), (b"", b""), (body[:-5], None)):
        exporter.pages["/metrics"] = Page(sent, headers={"Content-Encoding": "gzip"})
        if read is None:
            assert failure(made) == "the gzip stream is cut short"
        else:
            assert made.get().body == read


def test_a_bomb_takes_no_more_memory_than_the_limit(exporter: Exporter) -> None:
    bomb = gzip.compress(b"\0" * (200 << 20), 9)
    exporter.pages["/metrics"] = Page(bomb, headers={"Content-Encoding": "gzip"})
    made = fetcher(f"{exporter.url}/metrics", body_size_limit=1 << 20)
    failure(made)
    tracemalloc.start()
    try:
        assert "larger than body_size_limit" in failure(made)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert max(map(len, gunzip([bomb]))) <= 1 << 16


@pytest.mark.parametrize("page", [GOOD._replace(delay_s=60), GOOD._replace(body=b"a 1\n" * 100, drip_s=0.1)])
def test_one_that_is_slow_fails_in_time(exporter: Exporter, page: Page) -> None:
    exporter.pages["/metrics"] = page
    made = fetcher(f"{exporter.url}/metrics", timeout=0.5)
    begun = time.monotonic()
    assert "timeout: no" in failure(made)
    assert 0.4 < time.monotonic() - begun < 20
    exporter.pages["/metrics"] = GOOD
    assert made.get().body == b"a 1\n"


def test_nobody_listens_and_then_somebody_does() -> None:
    port = free_port()
    made = fetcher(f"http://127.0.0.1:{port}/metrics")
    assert failure(made) == "no connection with 127.0.0.1: connection refused"
    with Exporter({"/metrics": GOOD}, port=port):
        assert made.get().body == b"a 1\n"


@contextmanager
def raw(answers: list[bytes]) -> Iterator[str]:
    """A server that says these bytes, one after the other to a request each; b"" hangs up."""

    def serve(connection: socket.socket) -> None:
        while answers and connection.recv(65536):
            answer = answers.pop(0)
            connection.sendall(answer)
            if not answer or b"Content-Length" not in answer:
                break

    with listener(serve) as url:
        yield url


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\na 1\n"


def test_a_connection_that_is_new_is_not_tried_twice() -> None:
    with raw([b"", OK]) as url:
        made = fetcher(url)
        assert "no valid answer" in failure(made)
        assert made.get().body == b"a 1\n"


@pytest.mark.parametrize(
    "answer", [b"\x16\x03\x01 no http\r\n\r\n", b"HTTP/9 200 OK\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"]
)
def test_what_is_no_http(answer: bytes) -> None:
    with raw([answer, answer]) as url:
        assert "127.0.0.1" in failure(fetcher(url))


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    with raw([b"HTTP/1.0 200 OK\r\n\r\na 1\n", OK]) as url:
        made = fetcher(url)
        assert made.get().body == b"a 1\n"
        assert made.get().body == b"a 1\n"


def test_tls_with_a_private_authority(certs: Certs) -> None:
    with Exporter({"/metrics": GOOD}, certs=certs) as exporter:
        url = f"{exporter.url}/metrics"
        made = fetcher(url, tls_config=TlsConfig(ca_file=str(certs.ca)))
        assert made.get().body == b"a 1\n"
        stranger = fetcher(url, tls_config=TlsConfig(ca_file=str(certs.unknown_ca)))
        assert "TLS: the certificate of 127.0.0.1 was not accepted" in failure(stranger)


def test_credentials(exporter: Exporter, tmp_path: Path) -> None:
    url = f"{exporter.url}/metrics"
    password = tmp_path / "password"
    password.write_text("one\n")
    made = fetcher(url, basic_auth=BasicAuth(username="limpet", password_file=str(password)))
    made.get()
    password.write_text("another\n")
    made.get()
    sent = [headers["authorization"] for _, headers in exporter.requests]
    assert [one.removeprefix("Basic ") for one in sent] == ["bGltcGV0Om9uZQ==", "bGltcGV0OmFub3RoZXI="]
    password.unlink()
    text = (
        f"scrape target app.basic_auth.password_file: {password} cannot be read: no such file or directory. "
    )
    assert failure(made).startswith(text)
    fetcher(url, authorization=Authorization(credentials=Secret("token"))).get()
    assert exporter.requests[-1][1]["authorization"] == "Bearer token"
