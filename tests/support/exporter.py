"""A small program that exposes metrics, on a real socket, as it is told; and texts of expositions.

`pages` are answered by path; a page can be changed at any time. `requests` has the path and the headers of each
request. Connections are kept alive, and `connections` counts them.

Standalone (`python -m tests.support.exporter --port 9300 --series 5000`) it exposes that many series.
"""

from __future__ import annotations

import argparse
import gzip
import lzma
import random
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, Self

from tests.support.certs import Certs
from tests.support.net import free_port
from tests.support.server import tied

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
CORPUS = Path(__file__).resolve().parents[1] / "fixtures" / "expositions"


class Page(NamedTuple):
    """What a path is answered. `body` may be made for each request; it is sent as told, true or not."""

    body: bytes | Callable[[], bytes] = b""
    content_type: str | None = TEXT
    status: int = 200
    headers: Mapping[str, str] = {}
    zipped: bool = False
    delay_s: float = 0.0
    drip_s: float = 0.0
    """Seconds between bytes."""
    length: int | None = None
    """The Content-Length, where it is not the true one."""
    close: bool = False
    """The connection is closed behind it, and nobody was told."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    exporter: Exporter

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are what the tests make."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 60
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.exporter.connections += 1

    def do_GET(self) -> None:
        exporter = self.server.exporter
        exporter.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        page = exporter.pages.get(self.path)
        if page is None:
            page = Page(b"no such page", "text/plain", 404)
        exporter.stopping.wait(page.delay_s)
        body = page.body() if callable(page.body) else page.body
        if page.zipped:
            body = gzip.compress(body, 1)
        self.send_response(page.status)
        if page.content_type is not None:
            self.send_header("Content-Type", page.content_type)
        for name, value in page.headers.items():
            self.send_header(name, value)
        if page.zipped:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body) if page.length is None else page.length))
        self.end_headers()
        if page.drip_s:
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if exporter.stopping.wait(page.drip_s):
                    break
        else:
            self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = page.close or page.length is not None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Exporter:
    """A context manager; `url` is its address, without a path."""

    def __init__(
        self, pages: Mapping[str, Page] | None = None, *, certs: Certs | None = None, port: int | None = None
    ) -> None:
        self.pages: dict[str, Page] = dict(pages or {})
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.stopping = threading.Event()
        self.port = port or free_port()
        self._scheme, self._certs = "https" if certs else "http", certs
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.exporter = self
        if self._certs is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certs.server_cert, self._certs.server_key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.stopping.set()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


HEAD = """\
# HELP app_requests_{0}_total Requests of kind {0} that the application answered.
# TYPE app_requests_{0}_total counter
"""
LINE = 'app_requests_{0}_total{{method="GET",path="/api/v1/items/{1}",status="200"}} '


class Load:
    """An exposition of many series: a page's body. Of three counters two grow each time, by what nobody can guess."""

    def __init__(self, series: int) -> None:
        self._dice, self._lock = random.Random(series), threading.Lock()
        self._values = [0] * series
        self._parts = [
            (
                HEAD.format(family),
                [LINE.format(family, item) for item in range(min(50, series - 50 * family))],
            )
            for family in range(-(-series // 50))
        ]

    def __call__(self) -> bytes:
        with self._lock:
            roll = self._dice.random
            values = [v + int(roll() * 20 * (1 + i % 7)) if i % 3 else v for i, v in enumerate(self._values)]
            self._values = values
        number = iter(values)
        return "".join(
            [head + "".join([f"{line}{next(number)}\n" for line in lines]) for head, lines in self._parts]
        ).encode()


def recorded(name: str) -> bytes:
    """What a real program said; see the README beside the files."""
    return lzma.decompress((CORPUS / f"{name}.txt.xz").read_bytes())


RECORDED = ("node", "prometheus", "victoria")


@contextmanager
def exporting(series: int) -> Iterator[str]:
    """A program of its own that exposes so many series, at this URL."""
    command = [
        sys.executable,
        "-m",
        "tests.support.exporter",
        "--port",
        str(free_port()),
        "--series",
        str(series),
    ]
    process = subprocess.Popen(tied(command), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def main() -> None:
    """Serve until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--series", type=int, default=5000)
    options = parser.parse_args()
    with Exporter({"/metrics": Page(Load(options.series))}, port=options.port) as exporter:
        print(f"{exporter.url}/metrics", flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
