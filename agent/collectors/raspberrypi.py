"""Under-voltage and throttling of a Raspberry Pi, as its firmware reports them to the kernel.

The kernel asks the firmware every 2 s, and a dip of the supply takes less. The kernel notes each change of the alarm for
every process that has the file open (sysfs_notify), so the file stays open, and a dip between two runs is seen by the next one.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from contextlib import suppress

from agent.collectors.base import Labels, Sample
from agent.collectors.chips import Readings
from agent.collectors.kernel import hexadecimal, read_or_none

LABELS: Labels = (("sensor", "raspberrypi"),)
UNDER_VOLTAGE, THROTTLED = 0x1, 0xE
"""Bits of get_throttled: what is so now. Throttled: slowed down for heat, or for want of power. Those for what has been
(from 0x10000 on) stay set until somebody clears them, which depends on the kernel."""


def has_changed(file: int) -> bool:
    """Return whether the kernel has changed what an open file of sysfs says since it was read."""
    poll = select.poll()
    poll.register(file, select.POLLPRI)
    return any(events & select.POLLPRI for _, events in poll.poll(0))


class RaspberryPi:
    """Reads both; `changed` says whether an open file says something else than before."""

    name = "raspberrypi"

    def __init__(self, sys: str, changed: Callable[[int], bool] = has_changed) -> None:
        self._sys, self._changed = sys, changed
        self._alarm: int | None = None
        self._throttled = _get_throttled(sys)

    def __del__(self) -> None:
        self._close()

    def is_there(self) -> bool:
        """Return whether there is something to read."""
        if self._alarm is None and (path := self._find()) is not None:
            with suppress(OSError):
                self._alarm = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._alarm is not None or self._throttled is not None

    def read(self) -> Readings:
        """Return what the firmware says; an older kernel asks it, so that this may hang.

        What the kernel promises (drivers/hwmon/raspberrypi-hwmon.c, drivers/firmware/raspberrypi.c):

        - sensor_undervoltage: the supply was below 4.63 V at the kernel's last look, which is every 2 s; here also if the kernel has noted
          a change since the run before.
        - sensor_throttled: the processor was slowed down at the kernel's last look. Only the kernel of Raspberry Pi OS has the file, and it
          logs once that hwmon is to be used instead, which does not have this.
        """
        samples = []
        bits = hexadecimal(read_or_none(self._throttled) or b"") if self._throttled is not None else None
        low = self._under_voltage()
        if low is None and bits is not None:
            low = bool(bits & UNDER_VOLTAGE)
        if low is not None:
            samples.append(Sample("sensor_undervoltage", float(low), LABELS))
        if bits is not None:
            samples.append(Sample("sensor_throttled", float(bool(bits & THROTTLED)), LABELS))
        return samples, []

    def _under_voltage(self) -> bool | None:
        if self._alarm is None:
            return None
        try:
            changed = self._changed(self._alarm)
            text = os.pread(self._alarm, 64, 0).strip()
        except OSError:  # the driver was taken away; it may be back
            self._close()
            return None
        return (changed or text == b"1") if text in (b"0", b"1") else None

    def _find(self) -> str | None:
        hwmon = f"{self._sys}/class/hwmon"
        with suppress(OSError):
            for chip in os.listdir(hwmon):
                if (read_or_none(f"{hwmon}/{chip}/name") or b"").strip() == b"rpi_volt":
                    return f"{hwmon}/{chip}/in0_lcrit_alarm"
        return None

    def _close(self) -> None:
        if self._alarm is not None:
            with suppress(OSError):
                os.close(self._alarm)
            self._alarm = None


def _get_throttled(sys: str) -> str | None:
    platform = f"{sys}/devices/platform"
    with suppress(OSError):
        for soc in os.listdir(platform):
            path = f"{platform}/{soc}/{soc}:firmware/get_throttled"
            if soc.startswith("soc") and os.path.exists(path):
                return path
    return None
