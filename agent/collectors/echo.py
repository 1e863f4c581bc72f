"""Questions to the routers and name servers of a site: do they answer, and after how long?

Nothing here needs a right, and nothing waits beyond the seconds that it is given. What the system refuses counts as no answer.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import perf_counter

from agent.collectors.routes import Gateway

_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_ECHO = struct.Struct("!BBHHH")
"""Type, code, checksum, identifier, number (RFC 792). The kernel fills in the checksum and the identifier."""
_DISCARD = 9
_PACKET_INFO = 8  # IP_PKTINFO in linux/in.h, which the module socket does not have before Python 3.14
_DNS, _IS_ANSWER = 53, 0x80
QUESTION = b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01"
"""What is the IPv4 address of localhost? (RFC 1035, 4.1, without the identifier.) Name servers answer that themselves (RFC
6761, 6.3)."""


def echo(gateways: Sequence[Gateway], within: float) -> Mapping[Gateway, float]:
    """Ping each gateway, through its own interface; return the seconds of those that answered within so many seconds.

    A gateway gets a second packet where the first is not answered in half of the time, because Wi-Fi loses some. Where the system lets
    nobody ping (net.ipv4.ping_group_range), each gateway gets an empty packet to a port that discards, so that the kernel
    has to ask ARP whether it is there.
    """
    ping = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    try:
        pinger = socket.socket(socket.AF_INET, ping, socket.IPPROTO_ICMP)
    except OSError:
        with socket.socket(socket.AF_INET, ping) as sock:
            for one in gateways:
                _send(sock, b"", one, _DISCARD)
        return {}
    with pinger:
        return _Echo(pinger, gateways).run(within)


def _send(sock: socket.socket, packet: bytes, to: Gateway, port: int = 0) -> None:
    """Send a packet by the interface that leads to the gateway, whatever the preferred route is."""
    with suppress(OSError):
        info = struct.pack("=i8x", socket.if_nametoindex(to.interface))
        sock.sendmsg([packet], [(socket.IPPROTO_IP, _PACKET_INFO, info)], 0, (to.address, port))


class _Echo:
    """Echo requests on one socket, each with a number of its own."""

    def __init__(self, sock: socket.socket, gateways: Sequence[Gateway]) -> None:
        self._sock, self._gateways, self._mark = sock, gateways, os.urandom(8)
        self._sent: dict[int, tuple[Gateway, float]] = {}
        self._seconds: dict[Gateway, float] = {}

    def run(self, within: float) -> Mapping[Gateway, float]:
        begun = perf_counter()
        for until in (begun + within / 2, begun + within):
            for one in self._gateways:
                if one not in self._seconds:
                    number = len(self._sent)
                    self._sent[number] = one, perf_counter()
                    _send(self._sock, _ECHO.pack(_ECHO_REQUEST, 0, 0, 0, number) + self._mark, one)
            while len(self._seconds) < len(self._gateways) and _is_readable(self._sock, until):
                with suppress(OSError):  # what the kernel reports of a packet that did not arrive
                    self._take(*self._sock.recvfrom(256))
        return {one: seconds for one, seconds in self._seconds.items() if seconds <= within}

    def _take(self, packet: bytes, source: tuple[str, int]) -> None:
        at = perf_counter()
        if len(packet) < _ECHO.size or packet[0] != _ECHO_REPLY or packet[_ECHO.size :] != self._mark:
            return
        gateway, sent = self._sent.get(_ECHO.unpack_from(packet)[4], (None, 0.0))
        if gateway is not None and gateway.address == source[0]:
            self._seconds.setdefault(gateway, at - sent)


def ask(servers: Sequence[str], within: float) -> float | None:
    """Ask the name servers one after another, as a lookup does; return the seconds until one answered, or None.

    All have `within` seconds together, each the same part of it. Any answer counts, a refusal too: the server is there.
    """
    begun = perf_counter()
    for at, server in enumerate(servers, 1):
        until = begun + within * at / len(servers)
        with suppress(OSError), _to(server) as sock:
            question = os.urandom(2) + QUESTION
            sock.send(question)
            while _is_readable(sock, until):
                answer = sock.recv(512)
                if answer[:2] == question[:2] and len(answer) > 2 and answer[2] & _IS_ANSWER:
                    return perf_counter() - begun
    return None


def _to(server: str) -> socket.socket:
    """Return a socket that takes nothing but what this server sends, and hears that nobody listens there. Raises OSError."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.connect((server, _DNS))
    except OSError:
        sock.close()
        raise
    return sock


def _is_readable(sock: socket.socket, until: float) -> bool:
    """Wait until there is something to read, or until that time."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(max(0.0, until - perf_counter()) * 1000))
