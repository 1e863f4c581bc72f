"""A connection: requests are read with h11, one after the other, and answered.

Promises:

- What is not HTTP/1.1 (RFC 9112) is answered with a 4xx and ends the connection, so nothing that follows can be taken for
  another request. h11 reads it; nothing is read leniently here.
- Nobody takes more than his part: a head has `HEAD_SECONDS`, a body as long, and at most `Bounds.body` bytes; an answer
  must be taken at `SLOWEST` bytes a second. One request of a connection is handled at a time, and meanwhile nothing
  is read from it.
- Each request is reported once, answered or not, with what came of it and the id that its answer has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import h11

from agent.serve.exchange import Exchange, House
from agent.serve.incoming import HEAD_BYTES, Incoming
from agent.serve.message import JSON, Peer, Refusal, Request
from agent.serve.outgoing import TAKEN_SECONDS, Outgoing, TooSlow

HEAD_SECONDS = 10.0
LATE_HEAD = "the head of the request took too long"
LINGER_SECONDS = 2.0
IDLE_SECONDS = 75.0
"""Seconds that a connection is kept after an answer; Grafana and browsers use it again."""


class _Timer:
    """The time by which something has to come; `since` is when it was set, in monotonic seconds."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float, late: Callable[[], None]) -> None:
        """Call `late` after so many seconds, unless it is stopped or started again."""
        self.stop()
        self.since = time.monotonic()
        self._handle = asyncio.get_running_loop().call_later(seconds, late)

    def stop(self) -> None:
        """Call nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Connection(asyncio.Protocol):
    """One connection of a server. `peer` says who is there, once there is a connection."""

    def __init__(self, house: House, peer_of: Callable[[asyncio.Transport], Peer]) -> None:
        self._house, self._peer_of = house, peer_of
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._transport: asyncio.Transport | None = None
        self._peer = Peer("")
        self._timer = _Timer()
        self._task: asyncio.Task[None] | None = None
        self._out: Outgoing | None = None
        self._in = Incoming(house.bounds.body)
        self._begun = time.monotonic()
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
        return self._timer.since

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
            self._wait(HEAD_SECONDS, LATE_HEAD)
        self._http.receive_data(data)
        if self._task is not None:  # it is kept for later, and not much of it
            self._ahead += len(data)
            if self._ahead > HEAD_BYTES and self._transport is not None:
                self._transport.pause_reading()
        self._proceed()

    def eof_received(self) -> bool:
        """Close: a client that sends no more is taken for one that has gone, as elsewhere; what it asked for is given up."""
        if self._task is None and not self._is_over:
            self._http.receive_data(b"")
            self._proceed()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Give up the request."""
        self._timer.stop()
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
            self._in.head(event)
            self._wait(HEAD_SECONDS, "the body of the request took too long")
            if self._http.they_are_waiting_for_100_continue and self._out is not None:
                self._out.event(h11.InformationalResponse(status_code=100, headers=[]))
        elif isinstance(event, h11.Data):
            self._in.data(event)
        elif isinstance(event, h11.EndOfMessage) and (request := self._in.request(self._peer)) is not None:
            self._timer.stop()
            self._task = asyncio.get_running_loop().create_task(self._answer(request))

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
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self.close()
            return
        self._http.start_next_cycle()
        self._in, self._begun = Incoming(self._house.bounds.body), time.monotonic()
        self._is_reading, self._ahead = self._ahead > 0, 0
        self._wait(*((HEAD_SECONDS, LATE_HEAD) if self._is_reading else (IDLE_SECONDS, "")))
        self._transport.resume_reading()
        self._proceed()

    def _refuse(self, status: int, note: str) -> None:
        """Answer what is no request, and close."""
        id_ = self._house.new_id()
        if self._out is not None and self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = Refusal(status, "bad_data", note).answer().body
            headers = [("Content-Type", JSON), ("X-Request-Id", id_), ("Content-Length", str(len(body)))]
            self._out.head(status, [*headers, ("Connection", "close")])
            self._out.event(h11.Data(data=body))
        self._report(status, note, id_)
        self._linger()

    def _report(self, status: int, note: str, id_: str) -> None:
        """Report what is not handed to the application."""
        request, seconds = self._in.request(self._peer), time.monotonic() - self._begun
        self._house.done(Exchange(request, self._peer, status, 0, seconds, "", id_, note))

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
        """Wait so long; then refuse what has begun, or without a note close."""
        self._timer.start(seconds, partial(self._refuse, 408, note) if note else self.close)

    def close(self) -> None:
        """Close it, after what was written has gone, or cannot go."""
        self._timer.stop()
        if self._transport is not None:
            transport = self._transport
            transport.close()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(TAKEN_SECONDS, transport.abort)

    def give_way(self) -> None:
        """Close it at once for another one; a request that has begun is reported."""
        if self._is_reading:
            self._report(0, "it was slow, and gave way to another connection", self._house.new_id())
        self.abort()

    def abort(self) -> None:
        """Close it at once."""
        self._timer.stop()
        if self._transport is not None:
            self._transport.abort()
