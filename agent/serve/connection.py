"""A connection: requests are read with h11, one after the other, and answered.

Promises:

- What is not HTTP/1.1 (RFC 9112) is answered with a 4xx and ends the connection, so nothing that follows can be taken for
  another request. h11 reads it; nothing is read leniently here.
- Nobody takes more than his part: a head has `HEAD_SECONDS`, a body as long, and at most `Bounds.body` bytes; an answer
  must be taken at `SLOWEST` bytes a second. One request of a connection is handled at a time, and meanwhile nothing
  is read from it.
- Each request is reported once, answered or not, with what came of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

import h11

from agent.serve.exchange import Exchange, House
from agent.serve.message import JSON, Peer, Refusal, Request
from agent.serve.outgoing import TAKEN_SECONDS, Outgoing, TooSlow

HEAD_BYTES = 16 << 10
HEAD_SECONDS = 10.0
LINGER_SECONDS = 2.0
IDLE_SECONDS = 75.0
"""Seconds that a connection is kept after an answer; Grafana and browsers use it again."""


class Connection(asyncio.Protocol):
    """One connection of a server. `peer` says who is there, once there is a connection."""

    def __init__(self, house: House, peer_of: Callable[[asyncio.Transport], Peer]) -> None:
        self._house, self._peer_of = house, peer_of
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._transport: asyncio.Transport | None = None
        self._peer = Peer("")
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._out: Outgoing | None = None
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._begun = self._since = time.monotonic()
        self._is_reading = False
        self._is_over = False
        """Whether what comes is thrown away."""
        self._ahead = 0
        """Bytes that came while a request was being handled."""

    @property
    def is_waiting(self) -> bool:
        """Whether it has been made, and no request of it is being handled."""
        return self._task is None and self._transport is not None

    @property
    def since(self) -> float:
        """Since when it waits for what it waits for, in monotonic seconds."""
        return self._since

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._peer = self._peer_of(self._transport)
        self._out = Outgoing(self._transport, self._http, self._house)
        self._wait(HEAD_SECONDS, "")

    def data_received(self, data: bytes) -> None:
        """Continue to read the request."""
        if self._is_over:
            return
        if not self._is_reading and self._task is None:
            self._is_reading, self._begun = True, time.monotonic()
            self._wait(HEAD_SECONDS, "the head of the request took too long")
        self._http.receive_data(data)
        if self._task is not None:  # it is kept for later, and not much of it
            self._ahead += len(data)
            if self._ahead > HEAD_BYTES and self._transport is not None:
                self._transport.pause_reading()
        self._proceed()

    def eof_received(self) -> bool:
        """Close: a client that sends no more is taken for one that has gone, as elsewhere; what it asked for is given up."""
        if self._task is None:
            self._http.receive_data(b"")
            self._proceed()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Give up the request."""
        self._stop_timer()
        if self._task is not None:
            # Not before it has begun, or it would never run, and not be reported.
            asyncio.get_running_loop().call_soon(self._task.cancel)
        self._transport = None
        self._house.left(self)

    def pause_writing(self) -> None:
        """Wait until the client has taken some."""
        if self._out is not None:
            self._out.pause()

    def resume_writing(self) -> None:
        """Continue."""
        if self._out is not None:
            self._out.resume()

    # Reading.

    def _proceed(self) -> None:
        try:
            while self._task is None:
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    break
                if isinstance(event, h11.ConnectionClosed):
                    self.close()
                    break
                self._take(cast("h11.Event", event))
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, f"not HTTP: {error}")
        except Refusal as refusal:
            self._refuse(refusal.status, refusal.error)

    def _take(self, event: h11.Event) -> None:
        if isinstance(event, h11.Request):
            self._head = event
            # h11 bounds a head that is not there as a whole; this one may have come at once.
            if (
                sum(len(name) + len(value) + 4 for name, value in event.headers) + len(event.target)
                > HEAD_BYTES
            ):
                raise Refusal(431, "bad_data", f"the head is larger than {HEAD_BYTES:,} bytes")
            names = {name for name, _ in event.headers}
            if {
                b"content-length",
                b"transfer-encoding",
            } <= names:  # somebody on the way may have believed the other one
                raise Refusal(400, "bad_data", "not HTTP: Content-Length and Transfer-Encoding")
            self._wait(HEAD_SECONDS, "the body of the request took too long")
            length = next((value for name, value in event.headers if name == b"content-length"), b"0")
            self._check_body(int(length))
            if self._http.they_are_waiting_for_100_continue and self._out is not None:
                self._out.event(h11.InformationalResponse(status_code=100, headers=[]))
        elif isinstance(event, h11.Data):
            self._body += event.data
            self._check_body(len(self._body))
        elif isinstance(event, h11.EndOfMessage):
            self._stop_timer()
            self._task = asyncio.get_running_loop().create_task(self._answer(self._request()))

    def _check_body(self, size: int) -> None:
        if size > self._house.bounds.body:
            raise Refusal(413, "bad_data", f"the body is larger than {self._house.bounds.body:,} bytes")

    def _request(self) -> Request:
        head = self._head
        assert head is not None
        path, _, query = head.target.decode("latin-1").partition("?")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        return Request(head.method.decode("ascii"), path, query, headers, bytes(self._body), self._peer)

    # Answering.

    async def _answer(self, request: Request) -> None:
        id_ = self._house.new_id()
        status = sent = 0
        reply = None
        try:
            reply = await self._house.reply(request, id_)
            status = reply.answer.status
            if self._out is not None:
                sent = await self._out.answer(request, reply.answer, id_)
        except TooSlow:
            reply = reply and reply._replace(note="the client did not take the answer")
            if self._transport is not None:
                self._transport.abort()
        finally:
            note = reply.note if reply else "the client went away"
            user = reply.user if reply else ""
            seconds = time.monotonic() - self._begun
            self._house.done(Exchange(request, self._peer, status, sent, seconds, user, id_, note))
            self._task = None
        self._next()

    def _next(self) -> None:
        if self._transport is None:
            return
        self._head, self._is_reading, self._ahead = None, False, 0
        self._body.clear()
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self.close()
            return
        self._http.start_next_cycle()
        self._begun = time.monotonic()
        self._wait(IDLE_SECONDS, "")
        self._transport.resume_reading()
        self._proceed()

    def _refuse(self, status: int, note: str) -> None:
        """Answer what is no request, and close."""
        if self._out is not None and self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = Refusal(status, "bad_data", note).answer().body
            headers = [("Content-Type", JSON), ("Content-Length", str(len(body))), ("Connection", "close")]
            self._out.head(status, headers)
            self._out.event(h11.Data(data=body))
        request = self._request() if self._head is not None else None
        seconds = time.monotonic() - self._begun
        self._house.done(Exchange(request, self._peer, status, 0, seconds, "", self._house.new_id(), note))
        self._linger()

    def _linger(self) -> None:
        """Close it, once the client had time to read the answer: a reset, for what it still sends, would take that from it."""
        self._is_over = True
        if self._transport is None or not self._transport.can_write_eof():
            self.close()
            return
        self._transport.write_eof()
        self._wait(LINGER_SECONDS, "")

    # Time.

    def _wait(self, seconds: float, note: str) -> None:
        self._stop_timer()
        self._since = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._late, note)

    def _late(self, note: str) -> None:
        if not note:
            self.close()
        else:
            self._refuse(408, note)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Close it, after what was written has gone, or cannot go."""
        self._stop_timer()
        if self._transport is not None:
            transport = self._transport
            transport.close()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(TAKEN_SECONDS, transport.abort)

    def give_way(self) -> None:
        """Close it at once for another one; a request that has begun is reported."""
        if self._is_reading:
            seconds = time.monotonic() - self._begun
            note = "it was slow, and gave way to another connection"
            request = self._request() if self._head is not None else None
            self._house.done(Exchange(request, self._peer, 0, 0, seconds, "", self._house.new_id(), note))
        self.abort()

    def abort(self) -> None:
        """Close it at once."""
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()
