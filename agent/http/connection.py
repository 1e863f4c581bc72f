"""The way of a request's bytes: one connection, a deadline for the whole exchange, and a way to cut it.

HTTP/1.1 itself is httpcore's; here are the sockets below it. What is promised for every exchange:

1. It ends within `Limits.whole` seconds, and no step of it (a connect, a handshake, a write, a read) is waited
   for longer than `Limits.step`. A receiver that sends a byte now and then gains nothing by it. The one
   exception is looking up a name, for which the system has its own limits.
2. `cut()`, from any thread, ends the exchange at hand and all later ones with an OSError.
3. Errors arrive as what they are (OSError, TimeoutError, ssl.SSLError), not wrapped; what a proxy has against a
   tunnel is a ProxyAnswer.
4. Through a proxy, an https:// request goes through a tunnel (CONNECT), in which TLS is done with the receiver
   itself; an http:// request is given to the proxy with its whole URL. The proxy's credentials go to the proxy
   alone. The exchange with it has no time of its own.
5. `wire_bytes` is what the connections have cost so far, as a link is paid for: IP packets, both ways, repeated ones
   included, from the kernel's own counters (struct tcp_info of linux/tcp.h); 0 where there are none.
6. What was said before a request began is no answer to it: a connection on which there is more than one answer
   is closed.

No environment variable is looked at, and there is no redirect on this level.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import httpcore
import httpx

from agent.destinations.remote_write.outcome import ProxyAnswer
from agent.http.proxy import Proxy

LARGEST_HEAD = 64 << 10

_PIECE = 16 << 10
"""Bytes of a write, the most of a TLS record: with TLS, `send` comes back when all that it was given is taken."""

_TCP_INFO = struct.Struct("<128xQII56xQ")
"""Of struct tcp_info: bytes received, segments out and in, bytes sent (with those sent again), Linux 4.19."""
_PACKET_HEAD = {socket.AF_INET: 52, socket.AF_INET6: 72}
"""Bytes of the IP and TCP heads of a packet, with TCP's timestamps."""


class Limits(NamedTuple):
    """Seconds: for a single step, and for the whole exchange."""

    step: float
    whole: float


class Transport(httpx.BaseTransport):
    """One kept-alive connection to one receiver."""

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        proxy: Proxy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._net = _Net(clock, proxy, tunnel=tls is not None)
        self._relay = proxy if tls is None else None  # it is given the requests themselves
        self._pool = httpcore.ConnectionPool(ssl_context=tls, max_connections=1, network_backend=self._net)

    def begin(self, limits: Limits) -> None:
        """Start the clock of the next exchange."""
        self._net.begin(limits)

    def cut(self) -> None:
        """End what is under way; nothing goes out any more. Safe from any thread, at any time."""
        self._net.cut()

    def wire_bytes(self) -> int:
        """Bytes on the wire of all connections so far."""
        return self._net.wire_bytes()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Exchange one request; called by httpx."""
        if self._has_surplus():
            self._pool.close()
        url = request.url
        headers, target = request.headers.raw, url.raw_path
        if self._relay is not None:
            target = url.raw_scheme + b"://" + url.netloc + target
            if self._relay.authorization is not None:
                headers = [*headers, (b"Proxy-Authorization", self._relay.authorization)]
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=target),
                headers=headers,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions={})

    def _has_surplus(self) -> bool:
        """Whether bytes are left behind the last answer: httpcore would read them as the next one.

        What is still in the socket it notices itself.
        """
        for connection in self._pool.connections:
            http = getattr(getattr(connection, "_connection", None), "_h11_state", None)
            if http is not None and http.trailing_data[0]:
                return True
        return False

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


class _Net(httpcore.NetworkBackend):
    """Opens connections; keeps the deadline and the socket that is in use."""

    def __init__(self, clock: Callable[[], float], proxy: Proxy | None, *, tunnel: bool) -> None:
        self._clock, self._proxy, self._tunnel = clock, proxy, tunnel
        self._limits, self._end = Limits(0.0, 0.0), 0.0
        self._cut = False
        self._socket: socket.socket | None = None
        self._counted = 0  # of connections that are closed

    def wire_bytes(self) -> int:
        """Bytes on the wire of all connections so far."""
        return self._counted + (_tcp_bytes(self._socket) if self._socket is not None else 0)

    def leave(self, sock: socket.socket) -> None:
        """Close a connection, and keep what it has cost."""
        if sock is self._socket:
            self._counted += _tcp_bytes(sock)
            self._socket = None
        sock.close()

    def begin(self, limits: Limits) -> None:
        self._limits, self._end = limits, self._clock() + limits.whole

    def patience(self, share: int = 1) -> float:
        """Seconds that the next step may take, when `share` steps have to do with what is left."""
        left = self._end - self._clock()
        if left <= 0:
            raise TimeoutError(f"no whole answer within {self._limits.whole:g} s")
        return min(self._limits.step, left / share)

    def use(self, sock: socket.socket) -> None:
        """From now on it is this socket that `cut` has to end."""
        self._socket = sock
        if self._cut:  # set before it looked for a socket: one of the two threads sees the other's
            self.cut()
            raise ConnectionAbortedError("stopping")

    def cut(self) -> None:
        self._cut = True
        if self._socket is not None:
            try:
                socket.socket.shutdown(
                    self._socket, socket.SHUT_RDWR
                )  # not SSLSocket's, which drops its state
            except OSError:
                pass  # not connected, or closed already

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        if self._proxy is None:
            return self._connect(host, port)
        stream = self._connect(self._proxy.host, self._proxy.port)
        if self._tunnel:
            try:
                _open_tunnel(stream, self._proxy, host, port)
            except BaseException:
                stream.close()
                raise
        return stream

    def _connect(self, host: str, port: int) -> _Stream:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for i, (family, kind, protocol, _, address) in enumerate(found):
            sock = socket.socket(family, kind, protocol)
            try:
                self.use(sock)
                sock.settimeout(self.patience(share=len(found) - i))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                self.leave(sock)
                if self._cut or i == len(found) - 1:
                    if isinstance(error, TimeoutError):
                        raise TimeoutError("no connection in time") from None
                    raise
            else:
                return _Stream(self, sock)
        raise OSError("the name has no address")

    def sleep(self, seconds: float) -> None:
        raise NotImplementedError  # httpcore's own retries are off


def _open_tunnel(stream: _Stream, proxy: Proxy, host: str, port: int) -> None:
    """Ask a proxy for a tunnel to a receiver (RFC 9110, 9.3.6)."""
    to = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n".encode()
    if proxy.authorization is not None:
        head += b"Proxy-Authorization: " + proxy.authorization + b"\r\n"
    try:
        stream.write(head + b"\r\n")
    except httpcore.WriteError as error:
        raise error.__cause__ or error from None
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = stream.read(4096)
        if not part or len(answer) > LARGEST_HEAD:
            raise httpcore.RemoteProtocolError(f"the proxy {proxy!r} did not answer CONNECT")
        answer += part
    first, *lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if not (version.startswith("HTTP/1.") and code.isascii() and code.isdigit()):
        raise httpcore.RemoteProtocolError(f"what the proxy {proxy!r} says is not HTTP")
    if not 200 <= int(code) <= 299:
        pairs = (line.partition(":") for line in lines)
        raise ProxyAnswer(repr(proxy), int(code), {name.lower(): value.strip() for name, _, value in pairs})
    if not answer.endswith(b"\r\n\r\n"):  # the receiver says nothing before it is spoken to
        raise httpcore.RemoteProtocolError(f"the proxy {proxy!r} sent more than an answer to CONNECT")


class _Stream(httpcore.NetworkStream):
    def __init__(self, net: _Net, sock: socket.socket) -> None:
        self._net, self._socket = net, sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        patience = self._net.patience()
        self._socket.settimeout(patience)
        try:
            return self._socket.recv(max_bytes)
        except TimeoutError:
            raise TimeoutError(f"no answer within {patience:.3g} s") from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        while view:
            patience = self._net.patience()
            self._socket.settimeout(patience)
            try:
                view = view[self._socket.send(view[:_PIECE]) :]
            except TimeoutError:
                raise TimeoutError(f"the receiver took nothing for {patience:.3g} s") from None
            except OSError as error:
                # It may have answered before it had read everything (413, say): httpcore then looks.
                raise httpcore.WriteError(error) from error

    def close(self) -> None:
        self._net.leave(self._socket)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            sock = ssl_context.wrap_socket(
                self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
            )
        except BaseException:
            self.close()
            raise
        try:
            self._net.use(sock)
            patience = self._net.patience()
            sock.settimeout(patience)
            sock.do_handshake()
        except TimeoutError:
            self._net.leave(sock)
            raise TimeoutError("no TLS handshake in time") from None
        except BaseException:
            self._net.leave(sock)
            raise
        return _Stream(self._net, sock)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked before a kept connection is used: has the receiver closed it?
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        return None


def _tcp_bytes(sock: socket.socket) -> int:
    """What a connection has cost on the wire; 0 where it cannot be told."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        received, segments_out, segments_in, sent = _TCP_INFO.unpack(info)
    except (AttributeError, OSError, struct.error):  # not Linux, an old kernel, or closed already
        return 0
    return int(received + sent + (segments_out + segments_in) * _PACKET_HEAD.get(sock.family, 52))
