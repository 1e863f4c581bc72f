"""The sockets of a connection (`connection` has the promises): deadlines, the cut, and the kernel's counters."""

from __future__ import annotations

import errno
import fcntl
import socket
import ssl
import struct
import sys
import termios
from collections.abc import Callable
from typing import TypeVar

import httpcore

T = TypeVar("T")

UNACKNOWLEDGED = 10.0

LOOKS = 8
"""Looks at whether the request gets on, in the time of a step."""

STOPPED = 0.5
"""Seconds behind the deadline of an exchange at which none of its waits has ended."""

LARGEST_HEAD = 192 << 10
"""Bytes that may come before the body of an answer: its headers (100 KiB at most, by h11), interim answers (1xx) before
them, and what one read brings of the body. A flood of interim answers would cost a core until the deadline."""

_TCP_INFO = struct.Struct("<128xQII56xQ")
"""Of struct tcp_info: bytes received, segments out and in, bytes sent (with those sent again), Linux 4.19."""
_PACKET_HEAD = {socket.AF_INET: 52, socket.AF_INET6: 72}
"""Bytes of the IP and TCP heads of a packet, with TCP's timestamps."""
_CLOSING = 3
"""Packets of a connection that come behind its last look: the end, the other end, and the acknowledgment."""
_LOOKUP = 300
"""Bytes of the questions and answers by which a name is looked up, IPv4 and IPv6; more than a cache of the system needs."""
_AT_ONCE = struct.pack("ii", 1, 0)
"""Of SO_LINGER: close resets the connection, and what was not sent is dropped."""


class Unacknowledged(TimeoutError):
    """Data were sent over and over, and nobody acknowledged them: the way is broken."""


class TooSlow(TimeoutError):
    """The link was too slow for a request, of which so many bytes arrived in the time that it had."""

    def __init__(self, arrived: int, seconds: float) -> None:
        super().__init__(f"the link is too slow: {arrived} bytes of the request went in {seconds:.3g} s")
        self.arrived = max(0, arrived)


class Sockets:
    """The socket in use and those before it: the deadline, the cut, and what they have cost. See `connection`.

    `heard`: a byte has come back in this exchange. `active`: when a byte came or went last, by the clock. `head_room`:
    bytes that may still come before the headers of the answer are over; None: they are over.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self.active = clock, 0.0
        self._step = self._whole = self._end = 0.0
        self._is_cut, self.heard = False, False
        self._written, self._moved = 0, 0.0  # bytes, and when the other side took some of them last
        self.head_room: int | None = None
        self._socket: socket.socket | None = None
        self._counted = 0  # of connections that are closed

    def begin(self, step: float, whole: float) -> None:
        """Start the clock of the next exchange."""
        self._step, self._whole, self._end, self.heard = step, whole, self._clock() + whole, False
        self._written, self._moved = 0, 0.0

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
            raise self._late(TimeoutError(f"no whole answer within {self._whole:.3g} s"))
        return min(self._step, left / share)

    def wait(self, call: Callable[[], T], late: Callable[[float], TimeoutError]) -> T:
        """Return what comes of a call on the socket; `late` makes the error of one that took so many seconds."""
        patience, waiting, looks = self.patience(), self._unacknowledged(), 0
        while looks < LOOKS and patience > 0:
            assert self._socket is not None
            self._socket.settimeout(patience / LOOKS)
            try:
                return call()
            except TimeoutError as error:
                if error.errno == errno.ETIMEDOUT:  # the kernel's; the socket's own has no number
                    raise Unacknowledged("nobody acknowledged what was sent") from None
            looks += 1
            if waiting > (waiting := self._unacknowledged()):
                self._moved = now = self._clock()
                patience, looks = min(self._step, self._end - now), 0
        raise self._late(late(max(0.0, patience)))

    def _late(self, error: TimeoutError) -> TimeoutError:
        """Return the error where the time is up: too slow, where the request went all the time."""
        if self.heard or self._moved <= self._end - self._whole / 2:
            return error
        return TooSlow(self._written - self._unacknowledged(), self._whole)

    def _unacknowledged(self) -> int:
        """Return the bytes that were written and have not arrived; 0 where that is not known."""
        try:
            return int.from_bytes(fcntl.ioctl(self._socket or -1, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except (OSError, ValueError):
            return 0

    def wrote(self, size: int) -> None:
        """Note that the kernel has taken bytes."""
        self.active = self._moved = self._clock()
        self._written += size

    def heard_from(self, data: bytes) -> None:
        """Note what came. Raises httpcore.RemoteProtocolError where the headers do not end."""
        self.active, self.heard = self._clock(), self.heard or bool(data)
        if self.head_room is not None:
            self.head_room -= len(data)
            if self.head_room < 0:
                raise httpcore.RemoteProtocolError(
                    f"more than {LARGEST_HEAD} bytes of headers and interim answers"
                )

    def resume(self) -> None:
        """Start the clock again if the process was stopped: no wait of its own ends so late."""
        if self._clock() > self._end + STOPPED:
            self._end = self._clock() + self._whole

    def wire_bytes(self) -> int:
        """Return the bytes on the wire of all connections so far."""
        return self._counted + (_tcp_bytes(self._socket) if self._socket is not None else 0)

    def connect(self, host: str, port: int) -> socket.socket:
        """Return a connected socket, by the first address of the host that answers."""
        self._check()
        self._counted += 0 if _is_address(host) else _LOOKUP
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

    def expect_acknowledgments(self) -> None:
        """Let the exchange at hand fail soon where nobody acknowledges what is sent."""
        option, sock = getattr(socket, "TCP_USER_TIMEOUT", None), self._socket
        if option is not None and sock is not None:
            seconds = min(UNACKNOWLEDGED, self.patience() / 2)
            sock.setsockopt(socket.IPPROTO_TCP, option, max(1, int(1000 * seconds)))

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
            if self._unacknowledged():  # which would keep the link from the next request
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self._counted += _tcp_bytes(sock, _CLOSING)
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


def _is_address(host: str) -> bool:
    """Return whether nothing has to be looked up."""
    return ":" in host or host.replace(".", "").isdigit()


def _tcp_bytes(sock: socket.socket, more: int = 0) -> int:
    """Return what a connection has cost on the wire, with so many packets more; 0 where that is not known."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        received, segments_out, segments_in, sent = _TCP_INFO.unpack(info)
    except (AttributeError, OSError, struct.error):  # not Linux, an old kernel, or closed already
        return 0
    more = more if segments_in else 0  # nobody closes what was never open
    return int(received + sent + (segments_out + segments_in + more) * _PACKET_HEAD.get(sock.family, 52))
