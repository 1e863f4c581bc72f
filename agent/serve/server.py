"""The server: accepts connections on one address, and hands each request to the application.

Promises:

- No more than `most` connections are open. For one more, the one that has waited longest for its request is closed, if that is a
  second or longer; until there is one the new one waits. So clients that open connections and send nothing keep nobody out.
- What TLS is spoken with is looked up for each connection, so a certificate that is renewed counts from the next one on.
- `stop` gives what is being answered `STOP_SECONDS` to end.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from agent.config.listen import Address
from agent.serve.connection import Connection
from agent.serve.exchange import Bounds, Exchange, Reply
from agent.serve.limits import RETRY
from agent.serve.message import Peer, Refusal, Request
from buffer.errors import LimpetError

STOP_SECONDS = 3.0
HANDSHAKE_SECONDS = 10.0
BACKLOG = 128
_CREDENTIALS = struct.Struct("3i")
_PAUSE = 0.05
"""Seconds until it is tried again to accept a connection, where that failed (for want of files say) or there is no room."""
GRACE = 1.0
"""Seconds that a connection has for its request before it may have to give way."""

Replier = Callable[[Request, str], Awaitable[Reply]]


class Server:
    """The connections of one address. `reply` answers a request, `done` notes what became of it.

    `tls` returns what connections are encrypted with, None where they are not.
    """

    def __init__(
        self,
        address: Address,
        reply: Replier,
        done: Callable[[Exchange], None],
        bounds: Bounds,
        most: int,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        self.address, self._reply, self.done, self.bounds = address, reply, done, bounds
        self.unsent = 0
        self._most, self._tls = most, tls
        self._connections: set[Connection] = set()
        self._greeting: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._number, self._prefix = 0, os.urandom(4).hex()

    # As the connections see it.

    def new_id(self) -> str:
        """Return the id of the next request."""
        self._number += 1
        return f"{self._prefix}-{self._number}"

    async def reply(self, request: Request, id_: str) -> Reply:
        """Answer a request, unless too much waits to be taken by clients already; raises nothing but CancelledError."""
        if self.unsent > self.bounds.unsent:
            what = f"answers of {self.unsent:,} bytes wait to be taken"
            return Reply(Refusal(503, "unavailable", what, RETRY).answer(), note=what)
        return await self._reply(request, id_)

    def left(self, connection: object) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    # Its life.

    @property
    def port(self) -> int:
        """The port, once it listens."""
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Listen. Raises LimpetError where the address cannot be used."""
        self._socket = _listening(self.address)
        self._accepting = asyncio.get_running_loop().create_task(self._accept(self._socket))

    async def stop(self) -> None:
        """Accept nothing more, let what is being answered end, and close."""
        if self._accepting is not None:
            self._accepting.cancel()
        if self._socket is not None:
            self._socket.close()
            if self.address.path:
                with suppress(OSError):
                    os.unlink(self.address.path)
        for one in [one for one in self._connections if one.is_waiting]:
            one.close()
        deadline = asyncio.get_running_loop().time() + STOP_SECONDS
        while self._connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
            for one in [one for one in self._connections if one.is_waiting]:
                one.close()
        for one in list(self._connections):
            one.abort()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError:
                await asyncio.sleep(_PAUSE)
                continue
            while len(self._connections) >= self._most and not self._made_room():
                await asyncio.sleep(_PAUSE)
            connection = Connection(self, _peer)
            self._connections.add(connection)
            task = loop.create_task(self._greet(accepted, connection))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)
            await asyncio.sleep(0)  # where more of them wait, those that were accepted have their turn too

    async def _greet(self, accepted: socket.socket, connection: Connection) -> None:
        """Begin to speak with a client: TLS, if there is any, then HTTP."""
        context = self._tls()
        peer = _peer_of(accepted)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if context else None,
                ssl_shutdown_timeout=1.0 if context else None,
            )
        except (OSError, ssl.SSLError) as error:
            self.left(connection)
            why = error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
            self.done(Exchange(None, peer, 0, 0, 0.0, id=self.new_id(), note=f"TLS: {why}"))

    def _made_room(self) -> bool:
        """Close the connection that has waited longest for a request; return whether there is one."""
        waiting = [one for one in self._connections if one.is_waiting]
        oldest = min(waiting, key=lambda one: one.since, default=None)
        if oldest is None or time.monotonic() - oldest.since < GRACE:
            return False
        self.left(oldest)
        oldest.give_way()
        return True


def _listening(address: Address) -> socket.socket:
    """Return a socket that listens. Raises LimpetError."""
    family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # Named, because asyncio sets TCP_NODELAY only on a socket that says it is TCP. Without it, the end of each answer
    # waits for the client to acknowledge its beginning, which takes 40 ms.
    protocol = 0 if address.path else socket.IPPROTO_TCP
    try:
        found = socket.socket(family, socket.SOCK_STREAM, protocol)
        try:
            _bind(found, address)
            found.listen(BACKLOG)
        except OSError:
            found.close()
            raise
    except OSError as error:
        from agent.text.human import reason

        do = "See what listens there, or choose another address: serve.listen."
        raise LimpetError(str(address), f"nothing can listen there: {reason(error)}", do) from None
    found.setblocking(False)
    return found


def _bind(to: socket.socket, address: Address) -> None:
    """Give a socket its address. A Unix socket is for its user and group, and replaces what a process left. Raises OSError."""
    if not address.path:
        to.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        to.bind((address.host, address.port))
        return
    if os.path.exists(address.path):
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(address.path)
        except ConnectionRefusedError:
            os.unlink(address.path)
    before = os.umask(0o117)
    try:
        to.bind(address.path)
    finally:
        os.umask(before)


def _peer_of(accepted: socket.socket) -> Peer:
    """Return who is at the other end of a socket."""
    if accepted.family == socket.AF_UNIX:
        with suppress(OSError, AttributeError):
            data = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid, uid, _ = _CREDENTIALS.unpack(data)
            return Peer(f"uid={uid} pid={pid}")
        return Peer("unix")
    with suppress(OSError):
        host, port, *_ = accepted.getpeername()
        return Peer(host.removeprefix("::ffff:"), port)
    return Peer("?")


def _peer(transport: asyncio.Transport) -> Peer:
    """Return who is at the other end of a connection, with its certificate."""
    found = _peer_of(transport.get_extra_info("socket"))
    certificate = transport.get_extra_info("peercert")
    if certificate:
        names = [
            value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"
        ]
        names += [value for _, value in certificate.get("subjectAltName", ())]
        return found._replace(certificate=names[0] if names else "?")
    return found
