"""A server that stands before a `Receiver` and spoils requests as it is told: the faults of a network and of HTTP.

Each request that comes takes the next act of the script; an act of None, and everything once the script is used up,
is passed on to the receiver as it is, and its answer back. An act is given the exchange and does with it what it
wants: read the request or not, pass it on or not, answer or not. After an act the connection is closed.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from tests.support.net import free_port
from tests.support.receiver import Receiver
from tests.support.sending import drip, has_gone, read_request, reset


class Exchange:
    """A request that has begun to come in, of which nothing has been read yet."""

    def __init__(self, connection: socket.socket, receiver: Receiver) -> None:
        self.connection = connection
        self._receiver = receiver

    def read(self) -> bytes:
        """Return the request, whole."""
        return read_request(self.connection)

    def pass_on(self) -> bytes:
        """Give the request to the receiver, and return what that answers, whole."""
        with socket.create_connection(("127.0.0.1", self._receiver.port), 10) as to:
            to.sendall(self.read())
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += (part := to.recv(65536))
                if not part:
                    return answer
            head, _, body = answer.partition(b"\r\n\r\n")
            wanted = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            while wanted and len(body) < int(wanted[0].partition(b":")[2]):
                body += (part := to.recv(65536))
                if not part:
                    break
            return head + b"\r\n\r\n" + body

    def send(self, data: bytes) -> None:
        """Answer with these bytes."""
        self.connection.sendall(data)

    def wait(self) -> None:
        """Do nothing until the client gives up."""
        while not has_gone(self.connection, 30):
            pass

    def drip(self, data: bytes) -> None:
        """Send these bytes, slowly and over and over, until the client gives up."""
        drip(self.connection, data)

    def reset(self) -> None:
        """End the connection with a reset."""
        reset(self.connection)


Act = Callable[[Exchange], None]


class Front:
    """A context manager; `url` is where to push to. `acts` is what is left of the script."""

    def __init__(self, receiver: Receiver, acts: Iterable[Act | None] = ()) -> None:
        self.receiver, self.acts = receiver, deque(acts)
        self.port = free_port()
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._server: socket.socket | None = None

    @property
    def url(self) -> str:
        """The address to push to."""
        return f"http://127.0.0.1:{self.port}/api/v1/write"

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._server,), name="front", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        for one in (self._server, *tuple(self._open)):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended already
        self._server.close()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="fronted", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while connection.recv(1, socket.MSG_PEEK):
                    exchange = Exchange(connection, self.receiver)
                    act = self.acts.popleft() if self.acts else None
                    if act is not None:
                        act(exchange)
                        break
                    answer = exchange.pass_on()
                    exchange.send(answer)
            except OSError:
                pass  # one of the two has gone
            finally:
                self._open.discard(connection)
