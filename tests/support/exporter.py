"""A small program that exposes metrics, on a real socket, and texts of expositions.

`pages` are answered by path; a page can be changed at any time. `requests` has the path and the headers of each
request. Connections are kept alive, and `connections` counts them.

Standalone (`python -m tests.support.exporter 9300 5000`) it exposes 5000 series on port 9300.
"""

from __future__ import annotations

import gzip
import lzma
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.net import free_port
from tests.support.server import tied
from tests.support.tcp import Handler, WebServer

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
CORPUS = Path(__file__).resolve().parents[1] / "fixtures" / "expositions"


class Page(NamedTuple):
    """What a path is answered. `body` may be made for each request; it is sent as it is, true or not."""

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
    """The connection is closed behind it, without a header that says so."""


class Exporter(WebServer):
    """A context manager; `url` is its address, without a path."""

    def __init__(self, pages: Mapping[str, Page] | None = None, **server: Any) -> None:
        super().__init__(**server)
        self.pages: dict[str, Page] = dict(pages or {})
        self.requests: list[tuple[str, dict[str, str]]] = []

    def take(self, handler: Handler) -> None:
        """Answer with the page."""
        self.requests.append((handler.path, handler.lowered()))
        page = self.pages.get(handler.path, Page(b"no such page", "text/plain", 404))
        self.stopping.wait(page.delay_s)
        body = page.body() if callable(page.body) else page.body
        if page.zipped:
            body = gzip.compress(body, 1)
        handler.send_response(page.status)
        if page.content_type is not None:
            handler.send_header("Content-Type", page.content_type)
        for name, value in page.headers.items():
            handler.send_header(name, value)
        if page.zipped:
            handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(body) if page.length is None else page.length))
        handler.end_headers()
        for at in range(len(body)) if page.drip_s else ():
            handler.wfile.write(body[at : at + 1])
            handler.wfile.flush()
            if self.stopping.wait(page.drip_s):
                break
        else:
            handler.wfile.write(b"" if page.drip_s else body)
        handler.close_connection = page.close or page.length is not None


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
        families = range(-(-series // 50))
        lines = [[LINE.format(n, item) for item in range(min(50, series - 50 * n))] for n in families]
        self._parts = list(zip(map(HEAD.format, families), lines, strict=True))

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
    """What a real program said; see the README next to the files."""
    return lzma.decompress((CORPUS / f"{name}.txt.xz").read_bytes())


RECORDED = ("node", "prometheus", "victoria")


@contextmanager
def exporting(series: int) -> Iterator[str]:
    """A program of its own that exposes so many series, at this URL."""
    command = [sys.executable, "-m", "tests.support.exporter", str(free_port()), str(series)]
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
    port, series = map(int, sys.argv[1:])
    with Exporter({"/metrics": Page(Load(series))}, port=port) as exporter:
        print(f"{exporter.url}/metrics", flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
