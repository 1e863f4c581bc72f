"""A server that knows over which connection a request came, and what a connection can do to one that is sent on it."""

from __future__ import annotations

import ctypes
import socket
import ssl
import struct
from collections.abc import Callable, Sequence

from tests.support.certs import Certs
from tests.support.net import Accepting
from tests.support.tcp import read_request, reset

Act = Callable[[socket.socket], None]

_SO_ATTACH_FILTER = 26
_DROP = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
"""One instruction of the classic packet filter: keep no byte of a packet."""


def answer(status: int = 204, body: bytes = b"", headers: str = "") -> Act:
    """Return the act that answers with this."""
    head = f"HTTP/1.1 {status} Scripted\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return lambda connection: connection.sendall(head.encode() + body)


def forget(connection: socket.socket) -> None:
    """Drop every packet of this connection from now on, without a word, as a NAT does that has forgotten it."""
    program = struct.pack("HP", 1, ctypes.addressof(_DROP))
    connection.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def close(_: socket.socket) -> None:
    """Close the connection without an answer."""
    raise OSError("closed")


def cut(connection: socket.socket) -> None:
    """Reset the connection without an answer."""
    reset(connection)
    raise OSError("reset")


def half_close(connection: socket.socket) -> None:
    """Send nothing more, without a word of TLS about it."""
    socket.socket.shutdown(connection, socket.SHUT_WR)


def swallow(_: socket.socket) -> None:
    """Take the request, and never answer."""


def last(act: Act, then: Act) -> Act:
    """Return the act that does both at once, in this order."""

    def both(connection: socket.socket) -> None:
        act(connection)
        then(connection)

    return both


class Answering(Accepting):
    """Does the next of `acts` with each request, and answers 204 when there are no more.

    `on_old`, where it is set, is what happens to every request but the first of a connection. `seen` has, for each
    request, the number of its connection (from 1), and the request.
    """

    def __init__(
        self,
        acts: Sequence[Act] = (),
        port: int | None = None,
        address: str = "127.0.0.1",
        certs: Certs | None = None,
    ) -> None:
        super().__init__(port, address)
        self._tls: ssl.SSLContext | None = None
        if certs is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certs.server_cert, certs.server_key)
        self.acts, self.seen, self.connections = list(acts), list[tuple[int, bytes]](), 0
        self.on_old: Act | None = None

    @property
    def url(self) -> str:
        """The address to push to."""
        return f"{'https' if self._tls else 'http'}://{self.address}:{self.port}/write"

    @property
    def over(self) -> list[int]:
        """The numbers of the connections over which the requests came."""
        return [number for number, _ in self.seen]

    def serve(self, connection: socket.socket) -> None:
        """Serve a connection until an act or the client ends it."""
        self.connections += 1
        number = self.connections
        with self._tls.wrap_socket(connection, server_side=True) if self._tls else connection as secured:
            self._answer(number, secured)

    def _answer(self, number: int, connection: socket.socket) -> None:
        is_old = False
        while request := read_request(connection):
            self.seen.append((number, request))
            script = self.acts.pop(0) if self.acts else answer()
            (self.on_old or script if is_old else script)(connection)
            is_old = True
