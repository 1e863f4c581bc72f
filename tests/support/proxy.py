"""A small HTTP proxy on a real loopback socket: tunnels (CONNECT), and requests with whole URLs.

With `login` it wants that user and password. `answer` is what CONNECT is answered instead of a tunnel; `hang`
leaves every request without an answer; `moved` says where the hosts are that no name server knows. What it was asked is in `asked`, in order, as (first line, headers with
names in lower case); what went through tunnels is in `tunneled`, as it was on the wire.
"""

from __future__ import annotations

import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.support.net import Accepting, end


class Proxy(Accepting):
    """A context manager; `url` is for proxy_url."""

    def __init__(self, *, login: str | None = None, port: int | None = None) -> None:
        super().__init__(port)
        self.login = login
        self.answer: bytes | None = None
        self.hang = False
        self.moved: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.tunneled = bytearray()

    @property
    def url(self) -> str:
        """Without user and password."""
        return f"http://127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        """Serve a request, after which the connection ends."""
        first, pairs, body = self._read(connection)
        headers = {name.lower(): value for name, value in pairs}
        if not first:
            return
        self.asked.append((first, headers))
        method, target, _ = first.split(" ")
        wanted = f"Basic {b64encode(self.login.encode()).decode()}" if self.login else None
        if self.hang:
            self.stopping.wait(30)
        elif wanted and headers.get("proxy-authorization") != wanted:
            connection.sendall(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
            )
        elif method == "CONNECT":
            self._tunnel(connection, target)
        else:
            kept = [f"{name}: {value}" for name, value in pairs if name.lower() != "proxy-authorization"]
            while len(body) < int(headers.get("content-length", "0")):
                body += connection.recv(65536)
            self._pass_on(connection, method, target, kept, body)

    def _read(self, connection: socket.socket) -> tuple[str, list[list[str]], bytes]:
        """Read up to the end of the headers; return the first line, the headers, and what of the body has come."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += (part := connection.recv(65536))
            if not part:
                return "", [], b""
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        return first, [line.split(": ", 1) for line in lines], body

    def _tunnel(self, connection: socket.socket, target: str) -> None:
        if self.answer is not None:
            connection.sendall(self.answer)
            return
        host, _, port = target.rpartition(":")
        with self._to(host.strip("[]"), int(port)) as far:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(far, connection, None), daemon=True)
            back.start()
            _pump(connection, far, self.tunneled)
            back.join(10)

    def _pass_on(
        self, connection: socket.socket, method: str, target: str, kept: list[str], body: bytes
    ) -> None:
        url = urlsplit(target)
        assert url.scheme == "http"
        assert url.hostname is not None
        path = url.path + (f"?{url.query}" if url.query else "")
        with self._to(url.hostname, url.port or 80) as far:
            lines = [f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]
            far.sendall("\r\n".join(lines).encode("latin-1") + body)
            while part := far.recv(65536):
                connection.sendall(part)

    @contextmanager
    def _to(self, host: str, port: int) -> Iterator[socket.socket]:
        with socket.create_connection((self.moved.get(host, host), port), 10) as far:
            self.open.add(far)
            try:
                yield far
            finally:
                self.open.discard(far)


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray | None) -> None:
    try:
        while part := source.recv(65536):
            if kept is not None:
                kept += part
            sink.sendall(part)
    except OSError:
        pass
    end(sink)
