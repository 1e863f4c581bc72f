"""What a connection and its server have to do with each other: requests that are answered, and what became of them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import NamedTuple, Protocol

from agent.serve.message import Answer, Peer, Request


class Exchange(NamedTuple):
    """What became of a request.

    Attributes:
        request: the request, None where it could not be read.
        peer: who sent it.
        status: of the answer; 0 where none was sent.
        sent: bytes of the answer's body that were handed to the system.
        seconds: from its first byte to the end of the answer.
        user: who it was, as far as that was proven; empty where nobody has to log in.
        id: its number, as in the header X-Request-Id.
        note: what was wrong, empty where nothing was.
    """

    request: Request | None
    peer: Peer
    status: int
    sent: int
    seconds: float
    user: str = ""
    id: str = ""
    note: str = ""


class Bounds(NamedTuple):
    """What a connection may take: bytes of a body, bytes of answers that wait to be taken, of all connections together."""

    body: int = 256 << 10
    unsent: int = 64 << 20


class Reply(NamedTuple):
    """An answer, with who had asked and what was wrong."""

    answer: Answer
    user: str = ""
    note: str = ""


class House(Protocol):
    """What all connections of a server have in common."""

    bounds: Bounds
    unsent: int
    """Bytes of answers that wait to be taken."""

    def new_id(self) -> str:
        """Return the id of the next request."""

    def reply(self, request: Request, id_: str) -> Awaitable[Reply]:
        """Answer a request; raises nothing."""

    def done(self, exchange: Exchange) -> None:
        """Take note of what became of a request."""

    def left(self, connection: object) -> None:
        """Take note of the end of a connection."""
