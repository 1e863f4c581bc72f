"""A small HTTP proxy on a real loopback socket: tunnels (CONNECT), and requests with whole URLs.

With `login` it wants that user and password. `answer` is what CONNECT is answered instead of a tunnel; `hang`
leaves every request without an answer; `moved` says where the hosts are that no name server knows. Requests are in
`asked`, in order, as (first line, headers with names in lower case); what went through tunnels is in `tunneled`, as it
was on the wire.
"""

from __future__ import annotations

import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.support.net import Accepting, end
from tests.support.tcp import length_of, read_head


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

    @contextmanager
    def _to(self, host: str, port: int) -> Iterator[socket.socket]:
        with socket.create_connection((self.moved.get(host, host), port), 10) as far:
            self.open.add(far)
            try:
                yield far
            finally:
                self.open.discard(far)

    def serve(self, connection: socket.socket) -> None:
        """Serve the one request of a connection."""
        head, body = read_head(connection)
        if not head:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        self.asked.append((first, headers))
        method, target, _ = first.split(" ")
        login = f"Basic {b64encode((self.login or '').encode()).decode()}"
        if self.hang:
            self.stopping.wait(30)
        elif self.login and headers.get("proxy-authorization") != login:
            connection.sendall(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
            )
        elif method == "CONNECT" and self.answer is not None:
            connection.sendall(self.answer)
        elif method == "CONNECT":
            self._tunnel(connection, *target.rsplit(":", 1))
        else:
            self._pass_on(connection, head, body)

    def _tunnel(self, connection: socket.socket, host: str, port: str) -> None:
        with self._to(host.strip("[]"), int(port)) as far:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(far, connection, None), daemon=True)
            back.start()
            _pump(connection, far, self.tunneled)
            back.join(10)

    def _pass_on(self, connection: socket.socket, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        url = urlsplit(target)
        assert url.scheme == "http"
        assert url.hostname is not None
        while len(body) < length_of(head):
            body += connection.recv(65536)
        kept = [line for line in lines if not line.lower().startswith("proxy-authorization:")]
        path = url.path + (f"?{url.query}" if url.query else "")
        with self._to(url.hostname, url.port or 80) as far:
            lines = [f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]
            far.sendall("\r\n".join(lines).encode("latin-1") + body)
            while part := far.recv(65536):
                connection.sendall(part)


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray | None) -> None:
    try:
        while part := source.recv(65536):
            if kept is not None:
                kept += part
            sink.sendall(part)
    except OSError:
        pass
    end(sink)
