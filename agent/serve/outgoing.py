"""The answers of a connection on their way out, as fast as the client takes them."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

import h11

from agent.serve.exchange import House
from agent.serve.message import Answer, Request

SLOWEST = 1000
"""Bytes a second at which an answer must be taken at least, after the first `TAKEN_SECONDS`."""
TAKEN_SECONDS = 20.0
CHUNK = 64 << 10
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class TooSlow(Exception):
    """The client does not take its answer."""


class Outgoing:
    """What is written to a transport. What the client has not taken yet counts in `House.unsent`."""

    def __init__(self, transport: asyncio.Transport, http: h11.Connection, house: House) -> None:
        self._transport, self._http, self._house = transport, http, house
        transport.set_write_buffer_limits(high=CHUNK)
        self._drained = asyncio.Event()
        self._drained.set()

    def pause(self) -> None:
        """Wait until the client has taken some."""
        self._drained.clear()

    def resume(self) -> None:
        """Continue."""
        self._drained.set()

    def event(self, event: h11.Event) -> None:
        """Write an event; nothing where the connection is gone."""
        data = self._http.send(event)
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Write the status and the headers."""
        self.event(
            h11.Response(status_code=status, headers=headers, reason=_REASONS.get(status, "").encode())
        )

    async def answer(self, request: Request, answer: Answer, id_: str) -> int:
        """Write an answer, and return the bytes of its body once they are taken. Raises TooSlow."""
        body = b"" if request.method == "HEAD" or answer.status == HTTPStatus.NOT_MODIFIED else answer.body
        headers = [("Content-Type", answer.type), ("X-Request-Id", id_), *answer.headers]
        if answer.status != HTTPStatus.NOT_MODIFIED:
            headers.append(("Content-Length", str(len(answer.body))))
        self.head(answer.status, headers)
        left = len(body)
        self._house.unsent += left
        deadline = time.monotonic() + TAKEN_SECONDS + len(body) / SLOWEST
        try:
            for start in range(0, len(body), CHUNK):
                piece = body[start : start + CHUNK]
                self.event(h11.Data(data=piece))
                await self._taken(deadline)
                self._house.unsent -= len(piece)
                left -= len(piece)
            self.event(h11.EndOfMessage())
            await self._taken(deadline)
        finally:
            self._house.unsent -= left
        return len(body)

    async def _taken(self, deadline: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._drained.wait()
        except TimeoutError:
            raise TooSlow from None
