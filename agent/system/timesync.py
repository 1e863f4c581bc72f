"""What the host knows of its clock: the kernel's state of synchronization, the time services, and the clock chip.

No call needs a right that the agent does not have, and none raises.  Sources: adjtimex(2), which returns TIME_ERROR while
nothing has synchronized the clock; systemd-timesyncd(8), which makes SYNCHRONIZED when it has; rtc(4).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable

SYNCHRONIZED = "/run/systemd/timesync/synchronized"
TIMESYNCD = ("/run/systemd/timesync", "/var/lib/systemd/timesync/clock")
OTHERS = (
    "/run/chrony",
    "/var/lib/chrony/chrony.drift",
    "/var/lib/chrony/drift",
    "/var/lib/ntpsec/ntp.drift",
    "/var/lib/ntp/ntp.drift",
    "/var/lib/ntp/drift",
    "/etc/fake-hwclock.data",
)
"""Files of what sets the kernel's clock, and lets the kernel know."""
CHIPS = "/sys/class/rtc/rtc*"
_TIME_ERROR = 5
_TIMEX = 512
"""Bytes, more than the structure timex has on any architecture.  All zero, it changes nothing."""


class HostClock:
    """The evidence of this host, below `root`.  What cannot change while the host runs is looked for once."""

    def __init__(self, root: str = "", kernel: Callable[[], int | None] | None = None) -> None:
        self._root, self._kernel = root, kernel or kernel_state()
        self._chip: bool | None = None
        self._service = False

    def is_synced(self) -> bool:
        """Whether the kernel calls the clock synchronized, or timesyncd where the kernel does not answer."""
        state = self._kernel()
        if state is None:
            return os.path.lexists(self._root + SYNCHRONIZED)
        return 0 <= state < _TIME_ERROR

    def has_chip(self) -> bool:
        """Whether the host has a real-time clock."""
        if self._chip is None:
            self._chip = bool(glob.glob(self._root + CHIPS))
        return self._chip

    def has_service(self) -> bool:
        """Whether something is installed that sets the clock, and `is_synced` shows it.  It may be started after the agent."""
        if not self._service:
            files = TIMESYNCD if self._kernel() is None else (*TIMESYNCD, *OTHERS)
            self._service = any(os.path.lexists(self._root + path) for path in files)
        return self._service

    def has_network(self) -> bool:
        """Whether there is a route that leaves this host.  Where that cannot be read there may be one."""
        try:
            with open(f"{self._root}/proc/net/route", encoding="ascii") as file:
                if len(file.readlines()) > 1:
                    return True
            with open(f"{self._root}/proc/net/ipv6_route", encoding="ascii") as file:
                return any(_leads_out(line.split()) for line in file)
        except (OSError, ValueError):
            return True


def _leads_out(route: list[str]) -> bool:
    """Whether this is a route that somebody could be reached by: neither of loopback nor of one link alone."""
    return len(route) >= 10 and route[9] != "lo" and route[0][:4] not in ("fe80", "ff00")


def kernel_state() -> Callable[[], int | None]:
    """Return what asks the kernel, by adjtimex(2); it returns None where that is not possible."""
    import ctypes  # 0.3 MB, for those who run

    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return lambda: None
    zeros = bytes(_TIMEX)

    def ask() -> int | None:
        state = int(adjtimex(ctypes.create_string_buffer(zeros, _TIMEX)))
        return state if state >= 0 else None

    return ask
