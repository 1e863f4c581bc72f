"""News about the network: what ends a wait before its time.

Promises:

1. `heard` says whether there is news since the last call; at first, since it was opened. News is: a link, an address or a route
   has come, gone or changed (Linux); the host was suspended and is back; the name servers are others.
2. It never waits and raises nothing. Where the system does not say it, there is no news.
3. Whatever the kernel sends, a call reads at most MOST datagrams. Where the kernel had to drop some, that is news.
4. A link that is as it was (Wi-Fi repeats itself) is no news.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

MOST = 64
SUSPENDED = 1.0
"""Seconds that the clock which runs during a suspend has to gain on the one which does not."""
NAME_SERVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""The former may be a link to a stub that never changes."""

# linux/rtnetlink.h
_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV6_ADDRESS, _IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400
_GROUPS = _LINK | _IPV4_ADDRESS | _IPV4_ROUTE | _IPV6_ADDRESS | _IPV6_ROUTE
_NEW_LINK = 16
_CONTROL = 16
"""Types of messages below that one are netlink's own."""
_HEAD, _LINK_HEAD = struct.Struct("=IHHII"), struct.Struct("=BxHiI")
_LINKS = 1024
"""Links that are known at most; beyond that, all are forgotten."""


def kernel() -> socket.socket | None:
    """Return a socket on which the kernel reports links, addresses and routes; None where it does not. It needs no rights."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        sock.setblocking(False)
        sock.bind((0, _GROUPS))
    except OSError:
        if sock is not None:
            sock.close()
        return None
    return sock


def suspended() -> float:
    """Return the seconds that the host was suspended since its start; 0 where that is not known."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) - time.clock_gettime(time.CLOCK_MONOTONIC) if clock is not None else 0.0


class News:
    """The news since the last look. Used from one thread."""

    def __init__(
        self,
        listen: Callable[[], socket.socket | None] = kernel,
        suspended: Callable[[], float] = suspended,
        files: Sequence[str] = NAME_SERVERS,
    ) -> None:
        self._socket, self._suspended, self._files = listen(), suspended, files
        self._away, self._stamps = suspended(), self._look()
        self._links: dict[int, int] = {}  # flags by index

    def heard(self) -> bool:
        """Return whether there is news since the last call."""
        away, stamps = self._suspended(), self._look()
        is_news = away - self._away > SUSPENDED or stamps != self._stamps
        self._away, self._stamps = away, stamps
        return self._read() or is_news

    def close(self) -> None:
        """Hear nothing of the kernel any more."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _look(self) -> list[tuple[int, int, int]]:
        stamps = []
        for path in self._files:
            with suppress(OSError):
                found = os.stat(path)
                stamps.append((found.st_mtime_ns, found.st_ino, found.st_size))
        return stamps

    def _read(self) -> bool:
        is_news = False
        for _ in range(MOST):
            if self._socket is None:
                break
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError as error:
                is_news = True
                if error.errno != errno.ENOBUFS:
                    self.close()
            else:
                for message in _messages(data):
                    is_news |= self._is_news(*message)
        return is_news

    def _is_news(self, kind: int, text: bytes) -> bool:
        if kind != _NEW_LINK:
            return kind > _CONTROL
        if len(text) < _LINK_HEAD.size:
            return False
        *_, index, flags = _LINK_HEAD.unpack_from(text)
        if len(self._links) >= _LINKS:
            self._links.clear()
        was = self._links.get(index)
        self._links[index] = flags
        return bool(was != flags)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the types and texts of the messages in a datagram, up to the first that is not whole."""
    begin = 0
    while begin + _HEAD.size <= len(data):
        length, kind, *_ = _HEAD.unpack_from(data, begin)
        if not _HEAD.size <= length <= len(data) - begin:
            return
        yield kind, data[begin + _HEAD.size : begin + length]
        begin += length + 3 & ~3
