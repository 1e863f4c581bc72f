"""A small HTTP proxy on a real loopback socket: tunnels (CONNECT), and requests with whole URLs.

With `login` it wants that user and password. `answer` is what CONNECT is answered instead of a tunnel; `hang`
leaves every request without an answer; `moved` says where the hosts are that no name server knows. What it was asked is in `asked`, in order, as (first line, headers with
names in lower case); what went through tunnels is in `tunneled`, as it was on the wire.
"""

from __future__ import annotations

import socket
import threading
from base64 import b64encode
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.support.net import free_port


class Proxy:
    """A context manager; `url` is for proxy_url."""

    def __init__(self, *, login: str | None = None, port: int | None = None) -> None:
        self.login = login
        self.port = port or free_port()
        self.answer: bytes | None = None
        self.hang = False
        self.moved: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.tunneled = bytearray()
        self._open: set[socket.socket] = set()
        self._stopping = threading.Event()
        self._server: socket.socket | None = None

    @property
    def url(self) -> str:
        """Without user and password."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._stopping.clear()
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._server,), name="proxy", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        assert self._server is not None
        for one in (self._server, *self._open):
            _end(one)
        self._server.close()

    def _accept(self, server: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="proxied", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while self._request(connection):
                    pass
            except OSError:
                pass  # one of the two has gone
            finally:
                self._open.discard(connection)

    def _to(self, host: str, port: int) -> socket.socket:
        return socket.create_connection((self.moved.get(host, host), port), 10)

    def _request(self, connection: socket.socket) -> bool:
        """Serve a request; whether another may follow on this connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += (part := connection.recv(65536))
            if not part:
                return False
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        self.asked.append((first, headers))
        if self.hang:
            self._stopping.wait(30)
            return False
        if (
            self.login
            and headers.get("proxy-authorization") != f"Basic {b64encode(self.login.encode()).decode()}"
        ):
            connection.sendall(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
            )
            return False
        method, target, _ = first.split(" ")
        if method == "CONNECT":
            if self.answer is not None:
                connection.sendall(self.answer)
                return False
            host, _, port = target.rpartition(":")
            with self._to(host.strip("[]"), int(port)) as far:
                self._open.add(far)
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pump, args=(far, connection, None), daemon=True)
                back.start()
                _pump(connection, far, self.tunneled)
                back.join(10)
                self._open.discard(far)
            return False
        url = urlsplit(target)
        assert url.scheme == "http"
        assert url.hostname is not None
        length = int(headers.get("content-length", "0"))
        while len(body) < length:
            body += connection.recv(65536)
        kept = [f"{name}: {value}" for name, value in pairs if name.lower() != "proxy-authorization"]
        path = url.path + (f"?{url.query}" if url.query else "")
        with self._to(url.hostname, url.port or 80) as far:
            self._open.add(far)
            lines = [f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]
            far.sendall("\r\n".join(lines).encode("latin-1") + body)
            while part := far.recv(65536):
                connection.sendall(part)
            self._open.discard(far)
        return False


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray | None) -> None:
    try:
        while part := source.recv(65536):
            if kept is not None:
                kept += part
            sink.sendall(part)
    except OSError:
        pass
    _end(sink)


def _end(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already
