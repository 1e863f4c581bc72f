"""Servers on real loopback sockets: connections are given to a function, requests to a method.

To stop one of them cuts all its connections: a stopped server must not answer a client that kept one.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.support.certs import Certs
from tests.support.net import Accepting, end, free_port


class _Function(Accepting):
    def __init__(self, function: Callable[[socket.socket], None], port: int | None) -> None:
        super().__init__(port)
        self._function = function

    def serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        self._function(connection)


@contextmanager
def listener(serve: Callable[[socket.socket], None], port: int | None = None) -> Iterator[str]:
    """Give every connection to `serve`; yield the URL."""
    with _Function(serve, port) as server:
        yield f"http://127.0.0.1:{server.port}/write"


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return the head of a request and what of the body came with it; both empty when there is none."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += (part := connection.recv(65536))
        if not part:
            return b"", b""
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def length_of(head: bytes) -> int:
    """Return the Content-Length in a head; 0 where there is none."""
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((int(value) for name, _, value in lines if name == b"content-length"), 0)


def read_request(connection: socket.socket) -> bytes:
    """Return one request, whole; empty when there is none. Raises ConnectionError when it ends in the middle."""
    head, body = read_head(connection)
    while len(body) < length_of(head):
        body += (part := connection.recv(65536))
        if not part:
            raise ConnectionResetError("the request has ended in the middle")
    return head and head + b"\r\n\r\n" + body


def reset(connection: socket.socket) -> None:
    """Let the connection end with a reset, instead of an orderly end, when it is closed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def has_gone(connection: socket.socket, within: float) -> bool:
    """Return whether the other side ends the connection within so many seconds."""
    until = time.monotonic() + within
    while (left := until - time.monotonic()) > 0:
        if select.select([connection], [], [], left)[0]:
            try:
                if not connection.recv(65536):
                    return True
            except OSError:
                return True
    return False


def drip(connection: socket.socket, data: bytes) -> None:
    """Send a byte now and then, over and over, until the other side has had enough of it."""
    while True:
        for byte in data:
            connection.sendall(bytes((byte,)))
            if has_gone(connection, 0.02):
                return


class _Web(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, owner: WebServer) -> None:
        self.owner = owner
        self.open: set[socket.socket] = set()
        super().__init__((owner.address, owner.port), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away, and refused handshakes, are what the tests make."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a `WebServer`, whose `take` gets each request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of an answer leave as one
    timeout = 60
    server: _Web

    def setup(self) -> None:
        context = self.server.owner.tls
        if context is not None:
            self.request = context.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
        self.server.open.add(self.request)
        self.server.owner.connections += 1
        super().setup()

    def handle(self) -> None:
        # The handshake happens in the connection's own thread: a client that stalls stops nobody else.
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()
        super().handle()

    def finish(self) -> None:
        self.server.open.discard(self.request)
        super().finish()
        self.request.close()  # the server closes only the socket below TLS

    def do_POST(self) -> None:
        self.server.owner.take(self)

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def lowered(self) -> dict[str, str]:
        """Return the headers of the request by their names in lower case."""
        return {name.lower(): value for name, value in self.headers.items()}


class WebServer:
    """A context manager that speaks HTTP/1.1, with TLS if `certs` are given; `client_cert`: of the same authority.

    `connections` counts those that came. It can be stopped and started again, on the same port.
    """

    def __init__(
        self,
        *,
        certs: Certs | None = None,
        client_cert: bool = False,
        port: int | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.port, self.address = port or free_port(), address
        self.connections = 0
        self.stopping = threading.Event()
        self.tls: ssl.SSLContext | None = None
        if certs is not None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certs.server_cert, certs.server_key)
            if client_cert:
                self.tls.verify_mode = ssl.CERT_REQUIRED
                self.tls.load_verify_locations(certs.ca)
        self._server: _Web | None = None

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"{'https' if self.tls else 'http'}://{self.address}:{self.port}"

    def take(self, handler: Handler) -> None:
        """Answer a request."""
        raise NotImplementedError

    def start(self) -> None:
        """Listen; after `stop`, on the same port again."""
        self.stopping.clear()
        self._server = server = _Web(self)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening, and cut all connections; a request that waits for its answer gets none."""
        self.stopping.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            for connection in tuple(self._server.open):
                end(connection)
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Box(WebServer):
    """Takes everything with 204, and keeps the bodies. `names_itself`: with a header `Server`, as `Receiver` does."""

    def __init__(self, port: int, *, names_itself: bool = True) -> None:
        super().__init__(port=port)
        self.bodies: list[bytes] = []
        self._names_itself = names_itself

    def take(self, handler: Handler) -> None:
        """Take a request."""
        self.bodies.append(handler.rfile.read(int(handler.headers.get("Content-Length", "0"))))
        if self._names_itself:
            handler.send_response(204)
        else:
            handler.send_response_only(204)
            handler.send_header("Date", handler.date_time_string())
        handler.end_headers()
