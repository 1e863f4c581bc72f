"""A server in front of a `Receiver` that spoils requests by a script: the faults of a network and of HTTP.

Each request that comes takes the next act of the script; an act of None, and everything once the script is used up,
is passed on to the receiver as it is, and its answer back. An act is given the exchange and does with it what it
wants: read the request or not, pass it on or not, answer or not. After an act the connection is closed.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterable

from tests.support.net import Accepting
from tests.support.receiver import Receiver
from tests.support.tcp import drip, has_gone, read_request, reset


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
            return read_request(to)

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


class Front(Accepting):
    """A context manager; `url` is where to push to. `acts` is what is left of the script."""

    def __init__(self, receiver: Receiver, acts: Iterable[Act | None] = ()) -> None:
        super().__init__()
        self.receiver, self.acts, self.connections = receiver, deque(acts), 0

    @property
    def url(self) -> str:
        """The address to push to."""
        return f"http://127.0.0.1:{self.port}/api/v1/write"

    def serve(self, connection: socket.socket) -> None:
        """Do the next act with each request; one of the script's ends the connection."""
        self.connections += 1
        while connection.recv(1, socket.MSG_PEEK):
            exchange = Exchange(connection, self.receiver)
            act = self.acts.popleft() if self.acts else None
            if act is not None:
                act(exchange)
                break
            exchange.send(exchange.pass_on())
