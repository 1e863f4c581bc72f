"""The way of a request's bytes: one connection, a deadline for the whole exchange, and a way to cut it.

HTTP/1.1 itself is httpcore's; here are the sockets below it. What is promised for every exchange:

1. It ends within `whole` seconds, and no step of it (a connect, a handshake, a write, a read) is waited for longer
   than `step`. A server that sends a byte now and then gains nothing by it. The one exception is looking up a name,
   for which the system has its own limits. After a time in which the process was stopped, the clock starts again.
   A step begins again when the other side acknowledges more of what was sent: no answer comes before all has arrived.
   A request that arrives in the second half of the time, or not at all before it is up, is TooSlow.
2. `cut()`, from any thread, ends the exchange at hand and all later ones with an OSError.
3. Errors arrive as what they are (OSError, TimeoutError, ssl.SSLError), not wrapped; what a proxy has against a
   tunnel is a ProxyAnswer, and what is no answer of one a httpcore.ProxyError.
4. Through a proxy, an https:// request goes through a tunnel (CONNECT), in which TLS is done with the server
   itself; an http:// request is given to the proxy with its whole URL. The proxy's credentials go to the proxy
   alone. The exchange with it has no time of its own.
5. When an exchange ends, nothing of it is sent any more. `wire_bytes` is what the connections have cost so far, as a link is paid for: IP packets, both ways, repeated ones
   included, from the kernel's own counters (struct tcp_info of linux/tcp.h); 0 where there are none.
6. What was said before a request began is no answer to it: a connection on which there is more than one answer
   is closed.
7. Every connection has an end. Between two requests it is closed when it is OLDEST seconds old, so that the name is looked
   up again; when nothing came or went for LONGEST_IDLE seconds, since a NAT on the way may have forgotten it; and
   after an answer that another server behind the same name may not give (`ends`).
8. A used connection that is dead is noticed soon: data on it that nobody acknowledges for UNACKNOWLEDGED seconds, or half
   a step, is an Unacknowledged, where the platform has TCP_USER_TIMEOUT. On a new connection, that the way is open was
   just seen, and waiting for a weak radio link costs less than sending again.

No environment variable is looked at, no cookie is kept, and no redirect is followed on this level.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import httpcore
import httpx

from agent.http import certificates
from agent.http.answer import Via
from agent.http.failures import ProxyAnswer
from agent.http.proxy import Proxy
from agent.http.sockets import LARGEST_HEAD, Sockets

OLDEST = 1800.0
LONGEST_IDLE = 90.0
"""Seconds: three times the default `batch_send_deadline`, and less than the shortest patience of mobile networks (2 min)."""
_NUMBERS = count(1)
_PIECE = 16 << 10
"""Bytes of a write, the most of a TLS record: with TLS, `send` comes back when all that it was given is taken."""


def clock() -> float:
    """Return seconds that pass while the host is suspended, too, where the platform has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def ends(status: int) -> bool:
    """Return whether the next request needs another connection: this one leads to a server with a trouble of its own."""
    return status >= 500 or status in (408, 421)


class Connection(httpx.BaseTransport):
    """One kept-alive connection to one server. One thread sends; `cut` may come from any.

    `server_name` is the name in the server's certificate, where it is not the URL's.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        proxy: Proxy | None = None,
        server_name: str | None = None,
        clock: Callable[[], float] = clock,
    ) -> None:
        self._tls, self._proxy, self._server_name, self._clock = tls, proxy, server_name, clock
        self.sockets, self._opened = Sockets(clock), 0.0
        self._http: httpcore.HTTP11Connection | None = None
        self.peer_expires: float | None = None
        """When the certificate ends that the server has shown last (Unix seconds)."""
        self._is_dead = False
        self.via: Via | None = None
        """The connection that was opened last; None where TLS has verified who is on its other end."""
        if tls is not None:
            tls.set_alpn_protocols(["http/1.1"])

    @property
    def is_kept(self) -> bool:
        """Whether the next request can go over the connection of the one before."""
        http, now = self._http, self._clock()
        if http is None or now - self._opened >= OLDEST or now - self.sockets.active >= LONGEST_IDLE:
            return False
        return http.is_available() and not http.has_expired() and not _has_surplus(http)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Exchange one request. The answer's body comes as it is read, and has to be closed."""
        url = request.url
        headers, target = request.headers.raw, url.raw_path
        if self._proxy is not None and self._tls is None:  # the proxy is given the request itself
            target = url.raw_scheme + b"://" + url.netloc + target
            if self._proxy.authorization is not None:
                headers = [*headers, (b"Proxy-Authorization", self._proxy.authorization)]
        to = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=target)
        if self._http is not None and self.is_kept and self._http.can_handle_request(to.origin):
            self.sockets.expect_acknowledgments()
        else:
            self.close()
            self._http, self._opened = self._open(to.origin), self._clock()
        self.sockets.head_room = LARGEST_HEAD
        answer = self._http.handle_request(
            httpcore.Request(request.method, to, headers=headers, content=request.stream)
        )
        self.sockets.head_room = None
        end = self.close if ends(answer.status) else answer.close
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer, end))

    def _open(self, origin: httpcore.Origin) -> httpcore.HTTP11Connection:
        host, proxy = origin.host.decode("ascii"), self._proxy
        to = (host, origin.port) if proxy is None else (proxy.host, proxy.port)
        sock = self.sockets.connect(*to)
        try:
            if self._tls is not None:
                if proxy is not None:
                    _open_tunnel(_Stream(self.sockets, sock), proxy, origin)
                    self.sockets.heard = False
                sock = inner = self.sockets.secure(sock, self._tls, self._server_name or host)
                self.peer_expires = certificates.shown_by_peer(inner)
            if self._tls is None or self._tls.verify_mode is ssl.CERT_NONE:
                ends = sock.getsockname()[0], sock.getpeername()[0]
                self.via, self._is_dead = Via(next(_NUMBERS), ends, self._is_dead), False
        except BaseException:
            self.sockets.leave(sock)
            raise
        return httpcore.HTTP11Connection(origin, _Stream(self.sockets, sock))

    def bury(self) -> None:
        """Close the connection, which was found dead."""
        self._is_dead = True
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._http is not None:
            self._http.close()
        self._http = None


def _has_surplus(http: httpcore.HTTP11Connection) -> bool:
    """Return whether bytes are left behind the last answer: httpcore would read them as the next one.

    What is still in the socket it notices itself. It has no public way to ask for the rest: where its state is not found,
    no connection is kept.
    """
    state = getattr(http, "_h11_state", None)
    return state is None or bool(state.trailing_data[0])


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response, end: Callable[[], None]) -> None:
        self._answer, self.close = answer, end  # type: ignore[method-assign]

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_stream()


class _Stream(httpcore.NetworkStream):
    """A connected socket, as httpcore wants it."""

    def __init__(self, sockets: Sockets, sock: socket.socket) -> None:
        self._sockets, self._socket = sockets, sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._sockets.resume()  # what has come meanwhile is an answer in time
        found = self._sockets.wait(lambda: self._socket.recv(max_bytes), self._sockets.silent)
        self._sockets.heard_from(found)
        return found

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._sockets.resume()
        view = memoryview(buffer)
        while view:
            piece = view[:_PIECE]
            try:
                sent = self._sockets.wait(partial(self._socket.send, piece), _stuck)
            except TimeoutError:
                raise
            except OSError as error:
                # It may have answered before it had read everything (413, say): httpcore then looks.
                raise httpcore.WriteError(error) from error
            view = view[sent:]
            self._sockets.wrote(sent)

    def close(self) -> None:
        self._sockets.leave(self._socket)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked before a kept connection is used: has the server closed it?
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        return None


def _stuck(seconds: float) -> TimeoutError:
    return TimeoutError(f"the receiver took nothing for {seconds:.3g} s")


def _open_tunnel(stream: _Stream, proxy: Proxy, origin: httpcore.Origin) -> None:
    """Ask a proxy for a tunnel to a server (RFC 9110, 9.3.6)."""
    host = origin.host if b":" not in origin.host else b"[%s]" % origin.host
    to = b"%s:%d" % (host, origin.port)
    headers = [(b"Host", to)]
    if proxy.authorization is not None:
        headers.append((b"Proxy-Authorization", proxy.authorization))
    url = httpcore.URL(scheme=b"http", host=proxy.host, port=proxy.port, target=to)
    http = httpcore.HTTP11Connection(url.origin, stream)
    try:
        answer = http.handle_request(httpcore.Request("CONNECT", url, headers=headers))
    except httpcore.RemoteProtocolError as error:
        raise httpcore.ProxyError(f"the proxy {proxy!r} did not answer CONNECT: {error}") from None
    if not 200 <= answer.status <= 299:
        raise ProxyAnswer(repr(proxy), answer.status, httpx.Headers(answer.headers))
    if _has_surplus(http):  # the server says nothing before it is spoken to
        raise httpcore.ProxyError(f"the proxy {proxy!r} sent more than an answer to CONNECT")
