"""Is there a way out of this host: a default route over a link that is up?

It explains a failure better than "network is unreachable", or a name that cannot be resolved. It is looked for only when a request has
failed, and costs a few small reads. Whatever cannot be read is taken to be there. It asks the kernel and not /sys, which shows the
interfaces of the network namespace in which somebody has mounted it.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from enum import Enum

ROUTES, ROUTES_6 = "/proc/net/route", "/proc/net/ipv6_route"
_LARGEST = 1 << 20
_ROUTE_UP, _REJECT = 0x1, 0x200  # linux/route.h
_SIOCGIFFLAGS, _UP, _LOOPBACK, _RUNNING = 0x8913, 0x1, 0x8, 0x40  # linux/sockios.h, linux/if.h
_REQUEST = struct.Struct("=16sh22x")


class Way(Enum):
    """What is missing first."""

    NO_LINK = "no interface is up with a carrier, or none that a default route leads to"
    NO_ADDRESS = "a link, and no default route"
    THERE = "a default route over a link"


def interfaces() -> Mapping[str, bool] | None:
    """Return whether each interface but the loopback is up and has a carrier; None: that is not known."""
    found = {}
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _, name in socket.if_nameindex():
                answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, _REQUEST.pack(name.encode(), 0))
                flags = _REQUEST.unpack(answer)[1]
                if not flags & _LOOPBACK:
                    found[name] = flags & (_UP | _RUNNING) == _UP | _RUNNING
    except (OSError, AttributeError, struct.error):
        return None
    return found


def way(
    links: Callable[[], Mapping[str, bool] | None] = interfaces,
    routes: str = ROUTES,
    routes_6: str = ROUTES_6,
) -> Way:
    """Return what way out there is. Raises nothing."""
    found, content, content_6 = links(), _read(routes), _read(routes_6)
    if found is None or (content is None and content_6 is None):
        return Way.THERE
    leading = {*_by_4(content or b""), *_by_6(content_6 or b"")}
    if leading:
        return Way.THERE if any(found.get(name, True) for name in leading) else Way.NO_LINK
    return Way.NO_ADDRESS if any(found.values()) else Way.NO_LINK


def _by_4(content: bytes) -> Iterator[str]:
    """Yield the interfaces of default routes."""
    for row in map(bytes.split, content.splitlines()[1:]):
        if len(row) == 11 and row[1] == row[7] == b"0" * 8 and _works(row[3]):
            yield row[0].decode(errors="replace")


def _by_6(content: bytes) -> Iterator[str]:
    for row in map(bytes.split, content.splitlines()):
        if len(row) == 10 and row[:2] == [b"0" * 32, b"00"] and _works(row[8]) and row[9] != b"lo":
            yield row[9].decode(errors="replace")


def _works(flags: bytes) -> bool:
    try:
        return int(flags, 16) & (_ROUTE_UP | _REJECT) == _ROUTE_UP
    except ValueError:
        return False


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST)
    except OSError:
        return None
