"""What the host knows of its clock: the kernel's state of synchronization, the time services, and the clock chip.

No call needs a right that the agent does not have, and none raises.  Sources: adjtimex(2), which returns TIME_ERROR while
nothing has synchronized the clock; systemd-timesyncd(8), which makes SYNCHRONIZED when it has; rtc(4), and the kernel's
Documentation/ABI/testing/sysfs-class-rtc; hwclock(8) for ADJTIME.
"""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Iterable

from agent.system.heard import Heard

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
CHIPS = "/sys/class/rtc/rtc*/since_epoch"
ADJTIME = "/etc/adjtime"
"""Its third line says whether the clock chip has the local time, or UTC."""
_TIME_ERROR = 5
_TIMEX = 512
"""Bytes, more than the structure timex has on any architecture.  All zero, it changes nothing."""


class HostClock:
    """The evidence of this host, below `root`.  `heard` returns what receivers said; a host without receivers has none."""

    def __init__(
        self,
        heard: Callable[[], Iterable[Heard]] = tuple,
        root: str = "",
        kernel: Callable[[], int | None] | None = None,
    ) -> None:
        self._root, self._kernel = root, kernel or kernel_state()
        self.heard = heard
        self._service = False

    def is_synced(self) -> bool:
        """Whether the kernel calls the clock synchronized, or timesyncd where the kernel does not answer."""
        state = self._kernel()
        if state is None:
            return os.path.lexists(self._root + SYNCHRONIZED)
        return 0 <= state < _TIME_ERROR

    def chip_ms(self) -> int | None:
        """Return the time of the first real-time clock (UTC, ms); None where there is none, or it does not know the time."""
        for path in sorted(glob.glob(self._root + CHIPS)):
            try:
                with open(path, encoding="ascii") as file:
                    return (int(file.read()) - self._chip_ahead()) * 1000
            except (OSError, ValueError):  # EINVAL: its battery was empty
                continue
        return None

    def _chip_ahead(self) -> int:
        """Return the seconds by which a clock chip with the local time is ahead of UTC."""
        try:
            with open(self._root + ADJTIME, encoding="ascii") as file:
                is_local = file.read().split()[-1:] == ["LOCAL"]
        except (OSError, ValueError):
            return 0
        return time.localtime().tm_gmtoff if is_local else 0

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
    try:
        import ctypes  # 0.3 MB, for those who run; some builds of Python have none

        adjtimex = ctypes.CDLL(None).adjtimex
    except (ImportError, OSError, AttributeError):
        return lambda: None
    zeros = bytes(_TIMEX)

    def ask() -> int | None:
        state = int(adjtimex(ctypes.create_string_buffer(zeros, _TIMEX)))
        return state if state >= 0 else None

    return ask
