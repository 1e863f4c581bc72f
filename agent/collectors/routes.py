"""The ways out of this host, as the kernel's tables and resolv.conf have them: default routes, neighbors, name servers. IPv4.

`Site` says what belongs to the network of the site: what a cable or Wi-Fi reaches without a router in between. What is behind a
tunnel, a dial-up or a modem does not: one packet there may cost money.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from ipaddress import AddressValueError, IPv4Address
from typing import NamedTuple

from agent.collectors.kernel import hexadecimal, label, number

# linux/route.h, linux/if_arp.h
_UP, _GATEWAY, _REJECT = 0x1, 0x2, 0x200
_COMPLETE, _PERMANENT = 0x2, 0x4
STUB = frozenset(("127.0.0.53", "127.0.0.54"))
"""Where systemd-resolved listens on the host itself."""
MOST_SERVERS = 3
"""Further lines of resolv.conf are ignored by the system, too (MAXNS in resolv.h)."""


class Route(NamedTuple):
    """A line of the routing table; addresses are numbers. `gateway` is 0 where the destination is a neighbor."""

    interface: str
    destination: int
    mask: int
    gateway: int
    metric: int

    @property
    def is_default(self) -> bool:
        """Whether it is for everything that no other route is for."""
        return self.destination == self.mask == 0


class Gateway(NamedTuple):
    """A router, and the interface that leads to it."""

    interface: str
    address: str


def parse_routes(content: bytes) -> tuple[list[Route], int]:
    """Return the routes of /proc/net/route that work, in the kernel's order, and how many lines are malformed.

    What the kernel promises (fib_route_seq_show() in net/ipv4/fib_trie.c):

    - link_default_routes: of IPv4, in the main table; not those of policy routing or of a VRF.
    """
    routes, wrong = [], 0
    for line in content.splitlines()[1:]:
        fields = line.split()
        if len(fields) != 11:
            wrong += 1
            continue
        destination, gateway, mask = (_address(fields[at]) for at in (1, 2, 7))
        flags, metric = hexadecimal(fields[3]), number(fields[6])
        if destination is None or gateway is None or mask is None or flags is None or metric is None:
            wrong += 1
        elif flags & _UP and not flags & _REJECT:
            via = gateway if flags & _GATEWAY else 0
            routes.append(Route(label(fields[0]), destination, mask, via, metric))
    return routes, wrong


def parse_neighbors(content: bytes) -> tuple[dict[Gateway, bool | None], int]:
    """Return whether each neighbor of /proc/net/arp has answered ARP, and how many lines are malformed.

    None: a person has set its address, so nobody knows. What has answered once counts until the kernel has asked it again in
    vain: it does so within a minute after something was sent to it.
    """
    found: dict[Gateway, bool | None] = {}
    wrong = 0
    for line in content.splitlines()[1:]:
        fields = line.split()
        flags = hexadecimal(fields[2]) if len(fields) == 6 else None
        if flags is None:
            wrong += 1
        else:
            resolved = None if flags & _PERMANENT else bool(flags & _COMPLETE)
            found[Gateway(label(fields[5]), label(fields[0]))] = resolved
    return found, wrong


def name_servers(content: bytes) -> list[str]:
    """Return the addresses of the name servers in a resolv.conf (resolv.conf(5)), in their order, as many as count."""
    lines = (line.split() for line in content.splitlines())
    return [label(line[1]) for line in lines if len(line) > 1 and line[0] == b"nameserver"][:MOST_SERVERS]


class Site:
    """What is in the network of the site, by the routes and by the interfaces that lead to one (`local`)."""

    def __init__(self, routes: Sequence[Route], local: Collection[str]) -> None:
        self._routes, self._local = routes, local

    def gateways(self, most: int) -> list[Gateway]:
        """Return the gateways of the default routes, the preferred ones first: one for an interface."""
        found: dict[str, Gateway] = {}
        for route in sorted(self._routes, key=lambda one: one.metric):
            if route.is_default and route.gateway and route.interface in self._local:
                found.setdefault(route.interface, Gateway(route.interface, str(IPv4Address(route.gateway))))
        return list(found.values())[:most]

    def has(self, address: str) -> bool:
        """Return whether an address is this host's own loopback, or a neighbor in the network of the site."""
        try:
            wanted = IPv4Address(address)
        except AddressValueError:
            return address == "::1"
        fitting = [one for one in self._routes if int(wanted) & one.mask == one.destination]
        best = min(fitting, key=lambda one: (-one.mask, one.metric), default=None)
        is_near = best is not None and not best.gateway and best.interface in self._local
        return wanted.is_loopback or is_near


def asked(of_host: Sequence[str], of_resolved: Sequence[str]) -> Sequence[str]:
    """Return the name servers that a lookup depends on: behind systemd-resolved's own stub, those that it asks."""
    return of_resolved if of_host and STUB.issuperset(of_host) else of_host


def _address(field: bytes) -> int | None:
    """Return an address that the kernel wrote as a number of its own byte order."""
    found = hexadecimal(field)
    return None if found is None else int.from_bytes(found.to_bytes(4, sys.byteorder), "big")
