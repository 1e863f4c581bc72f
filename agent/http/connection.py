"""The way of a request's bytes: one connection, a deadline for the whole exchange, and a way to cut it.

HTTP/1.1 itself is httpcore's; here are the sockets below it. What is promised for every exchange:

1. It ends within `whole` seconds, and no step of it (a connect, a handshake, a write, a read) is waited for longer
   than `step`. A server that sends a byte now and then gains nothing by it. The one exception is looking up a name,
   for which the system has its own limits. After a time in which the process was stopped, the clock starts again.
2. `cut()`, from any thread, ends the exchange at hand and all later ones with an OSError.
3. Errors arrive as what they are (OSError, TimeoutError, ssl.SSLError), not wrapped; what a proxy has against a
   tunnel is a ProxyAnswer, and what is no answer of one a httpcore.ProxyError.
4. Through a proxy, an https:// request goes through a tunnel (CONNECT), in which TLS is done with the server
   itself; an http:// request is given to the proxy with its whole URL. The proxy's credentials go to the proxy
   alone. The exchange with it has no time of its own.
5. `wire_bytes` is what the connections have cost so far, as a link is paid for: IP packets, both ways, repeated ones
   included, from the kernel's own counters (struct tcp_info of linux/tcp.h); 0 where there are none.
6. What was said before a request began is no answer to it: a connection on which there is more than one answer
   is closed.

No environment variable is looked at, no cookie is kept, and no redirect is followed on this level.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpcore
import httpx

from agent.http.failures import ProxyAnswer
from agent.http.proxy import Proxy

_PIECE = 16 << 10
"""Bytes of a write, the most of a TLS record: with TLS, `send` comes back when all that it was given is taken."""

STOPPED = 0.5
"""Seconds behind the deadline of an exchange at which none of its waits has ended."""

LARGEST_HEAD = 192 << 10
"""Bytes that may come before the body of an answer: its headers (100 KiB at most, by h11), interim answers (1xx) before
them, and what one read brings of the body. A flood of interim answers would cost a core until the deadline."""

_TCP_INFO = struct.Struct("<128xQII56xQ")
"""Of struct tcp_info: bytes received, segments out and in, bytes sent (with those sent again), Linux 4.19."""
_PACKET_HEAD = {socket.AF_INET: 52, socket.AF_INET6: 72}
"""Bytes of the IP and TCP heads of a packet, with TCP's timestamps."""


class Connection(httpx.BaseTransport):
    """One kept-alive connection to one server. One thread sends; `cut` may come from any.

    `server_name` is the name in the server's certificate, where it is not the URL's.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        proxy: Proxy | None = None,
        server_name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tls, self._proxy, self._server_name = tls, proxy, server_name
        self.sockets = Sockets(clock)
        self._http: httpcore.HTTP11Connection | None = None
        if tls is not None:
            tls.set_alpn_protocols(["http/1.1"])

    @property
    def is_kept(self) -> bool:
        """Whether the next request can go over the connection of the one before."""
        http = self._http
        return http is not None and http.is_available() and not http.has_expired() and not _has_surplus(http)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Exchange one request. The answer's body comes as it is read, and has to be closed."""
        url = request.url
        headers, target = request.headers.raw, url.raw_path
        if self._proxy is not None and self._tls is None:  # the proxy is given the request itself
            target = url.raw_scheme + b"://" + url.netloc + target
            if self._proxy.authorization is not None:
                headers = [*headers, (b"Proxy-Authorization", self._proxy.authorization)]
        to = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=target)
        if self._http is None or not (self.is_kept and self._http.can_handle_request(to.origin)):
            self.close()
            self._http = self._open(to.origin)
        self.sockets.head_room = LARGEST_HEAD
        answer = self._http.handle_request(
            httpcore.Request(request.method, to, headers=headers, content=request.stream)
        )
        self.sockets.head_room = None
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))

    def _open(self, origin: httpcore.Origin) -> httpcore.HTTP11Connection:
        host, proxy = origin.host.decode("ascii"), self._proxy
        to = (host, origin.port) if proxy is None else (proxy.host, proxy.port)
        sock = self.sockets.connect(*to)
        try:
            if self._tls is not None:
                if proxy is not None:
                    _open_tunnel(_Stream(self.sockets, sock), proxy, origin)
                    self.sockets.heard = False
                sock = self.sockets.secure(sock, self._tls, self._server_name or host)
        except BaseException:
            self.sockets.leave(sock)
            raise
        return httpcore.HTTP11Connection(origin, _Stream(self.sockets, sock))

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
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


class Sockets:
    """The socket in use and those before it: the deadline, the cut, and what they have cost.

    `heard`: a byte has come back in this exchange. `head_room`: bytes that may still come before the headers of the answer
    are over; None: they are over.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._step = self._whole = self._end = 0.0
        self._is_cut, self.heard = False, False
        self.head_room: int | None = None
        self._socket: socket.socket | None = None
        self._counted = 0  # of connections that are closed

    def begin(self, step: float, whole: float) -> None:
        """Start the clock of the next exchange."""
        self._step, self._whole, self._end, self.heard = step, whole, self._clock() + whole, False

    def silent(self, patience: float) -> TimeoutError:
        """Return the error of a read that took longer than its patience: which limit it was, and of what."""
        if not self.heard:
            return TimeoutError(f"no answer within {patience:.3g} s")
        if patience < self._step:
            return TimeoutError(f"no whole answer within {self._whole:.3g} s")
        return TimeoutError(f"no more of the answer for {patience:.3g} s")

    def patience(self, share: int = 1) -> float:
        """Return the seconds that the next step may take, when `share` steps have to do with what is left."""
        left = self._end - self._clock()
        if left <= 0:
            raise TimeoutError(f"no whole answer within {self._whole:.3g} s")
        return min(self._step, left / share)

    def resume(self) -> None:
        """Start the clock again if the process was stopped: no wait of its own ends so late."""
        if self._clock() > self._end + STOPPED:
            self._end = self._clock() + self._whole

    def count_head(self, size: int) -> None:
        """Count bytes that came. Raises httpcore.RemoteProtocolError where the headers do not end."""
        if self.head_room is not None:
            self.head_room -= size
            if self.head_room < 0:
                raise httpcore.RemoteProtocolError(
                    f"more than {LARGEST_HEAD} bytes of headers and interim answers"
                )

    def wire_bytes(self) -> int:
        """Return the bytes on the wire of all connections so far."""
        return self._counted + (_tcp_bytes(self._socket) if self._socket is not None else 0)

    def connect(self, host: str, port: int) -> socket.socket:
        """Return a connected socket, by the first address of the host that answers."""
        self._check()
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for i, (family, kind, protocol, _, address) in enumerate(found):
            sock = socket.socket(family, kind, protocol)
            try:
                self._use(sock)
                sock.settimeout(self.patience(share=len(found) - i))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                self.leave(sock)
                if self._is_cut or i == len(found) - 1:
                    if isinstance(error, TimeoutError):
                        raise TimeoutError("no connection in time") from None
                    raise
            else:
                return sock
        raise OSError("the name has no address")

    def secure(self, sock: socket.socket, tls: ssl.SSLContext, name: str) -> ssl.SSLSocket:
        """Return the socket with TLS on it. The one given is closed where that fails."""
        inner = tls.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
        try:
            self._use(inner)
            inner.settimeout(self.patience())
            inner.do_handshake()
        except BaseException as error:
            self.leave(inner)
            if isinstance(error, TimeoutError):
                raise TimeoutError("no TLS handshake in time") from None
            raise
        return inner

    def _use(self, sock: socket.socket) -> None:
        """Make this the socket that `cut` has to end."""
        self._socket = sock
        self._check()

    def _check(self) -> None:
        if self._is_cut:  # set before `cut` looked for a socket: one of the two threads sees the other's
            self.cut()
            raise ConnectionAbortedError("stopping")

    def leave(self, sock: socket.socket) -> None:
        """Close a connection, and keep what it has cost."""
        if sock is self._socket:
            self._counted += _tcp_bytes(sock)
            self._socket = None
        sock.close()

    def cut(self) -> None:
        """End the exchange at hand; nothing goes out any more. Safe from any thread, at any time."""
        self._is_cut = True
        sock = self._socket  # the other thread may be about to leave it
        if sock is not None:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's, which drops its state
            except OSError:
                pass  # not connected, or closed already


class _Stream(httpcore.NetworkStream):
    """A connected socket, as httpcore wants it."""

    def __init__(self, sockets: Sockets, sock: socket.socket) -> None:
        self._sockets, self._socket = sockets, sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._sockets.resume()  # what has come meanwhile is an answer in time
        patience = self._sockets.patience()
        self._socket.settimeout(patience)
        try:
            found = self._socket.recv(max_bytes)
        except TimeoutError:
            raise self._sockets.silent(patience) from None
        self._sockets.heard = self._sockets.heard or bool(found)
        self._sockets.count_head(len(found))
        return found

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._sockets.resume()
        view = memoryview(buffer)
        while view:
            patience = self._sockets.patience()
            self._socket.settimeout(patience)
            try:
                view = view[self._socket.send(view[:_PIECE]) :]
            except TimeoutError:
                raise TimeoutError(f"the receiver took nothing for {patience:.3g} s") from None
            except OSError as error:
                # It may have answered before it had read everything (413, say): httpcore then looks.
                raise httpcore.WriteError(error) from error

    def close(self) -> None:
        self._sockets.leave(self._socket)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked before a kept connection is used: has the server closed it?
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        return None


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


def _tcp_bytes(sock: socket.socket) -> int:
    """Return what a connection has cost on the wire; 0 where that is not known."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        received, segments_out, segments_in, sent = _TCP_INFO.unpack(info)
    except (AttributeError, OSError, struct.error):  # not Linux, an old kernel, or closed already
        return 0
    return int(received + sent + (segments_out + segments_in) * _PACKET_HEAD.get(sock.family, 52))
