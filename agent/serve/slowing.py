"""Brute force, slowed down: how many passwords may be tried, from an address and in all. Pure but for the clock, which is handed in.

Promises: an address may fail EACH times, then once in EACH_EVERY seconds. All addresses together may fail ALL times, then once
in ALL_EVERY seconds; an address from which somebody has logged in before is spared that, so strangers keep nobody out
who was in. What is refused here costs no hash. At most MOST addresses are remembered; of IPv6 an address is a /64.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

EACH, EACH_EVERY = 10, 10.0
ALL, ALL_EVERY = 100, 2.0
MOST = 4096


class _Bucket:
    """Tries that are left, which come back with time."""

    def __init__(self, size: int, every: float, now: float) -> None:
        self._size, self._every = size, every
        self._left, self._at = float(size), now

    def wait(self, now: float) -> float:
        """Return the seconds until there is a try."""
        self._left = min(self._size, self._left + max(0.0, now - self._at) / self._every)
        self._at = now
        return max(0.0, (1 - self._left) * self._every)

    def take(self) -> None:
        """Use a try."""
        self._left -= 1

    def give_back(self) -> None:
        """Undo that."""
        self._left = min(self._size, self._left + 1)


class Slowing:
    """Who may try a password now. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all = _Bucket(ALL, ALL_EVERY, clock())
        self._each: OrderedDict[str, _Bucket] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()
        """Addresses from which somebody has logged in."""

    def begin(self, address: str) -> float:
        """Return 0.0 and use a try, or the seconds until there is one. `succeeded` gives the try back."""
        now, where = self._clock(), place(address)
        each = self._each.setdefault(where, _Bucket(EACH, EACH_EVERY, now))
        self._each.move_to_end(where)
        if len(self._each) > MOST:
            self._each.popitem(last=False)
        wait = each.wait(now)
        if where not in self._known:
            wait = max(wait, self._all.wait(now))
        if wait <= 0:
            each.take()
            self._all.take()
        return wait

    def succeeded(self, address: str) -> None:
        """Take note that the try was right."""
        where = place(address)
        self._all.give_back()
        if where in self._each:
            self._each[where].give_back()
        self._known[where] = None
        self._known.move_to_end(where)
        if len(self._known) > MOST:
            self._known.popitem(last=False)


def place(address: str) -> str:
    """Return what counts as one address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a Unix socket: the user counts, not the process
        return address.partition(" ")[0]
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))
