"""The temperature sensors that the kernel lists: thermal zones and hwmon chips, and how their readings are to be taken.

A sensor is called by what stays the same from boot to boot, its chip, its device and its own label: `nvme/0000:01:00.0/Composite`,
`coretemp/coretemp.0/Package id 0`, `cpu-thermal/thermal_zone0`. Several chips have one name, and one chip can have a label
twice, so no part alone names a sensor. An NVMe disk is called by its place on the bus, because `nvme0` can be another one after
a boot. What hwmon repeats of a thermal zone is left out.

Reading can hang: a chip on an i2c bus answers over that bus. Listing reads no chip.
"""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

from agent.collectors.base import Labels, Sample, Trouble
from agent.collectors.kernel import label, read, read_or_none, reason

LOWEST, HIGHEST = -55.0, 126.0
"""Degrees Celsius. Beyond are no temperatures of a board that runs, but what chips say of an open wire: 127, -127, 255, -273."""
NO_READING = frozenset(
    (errno.ENODATA, errno.EAGAIN, errno.ENXIO, errno.ENODEV, errno.ENOENT, errno.ENETDOWN, errno.EINVAL)
)
"""What drivers answer for a sensor that has nothing to say now: it is off, asleep or not connected. That is no error."""

Readings = tuple[list[Sample], list[Trouble]]
"""What one chip said, and what is to be reported of it."""


class Probe:
    """One temperature of a chip; `name` is the value of its label."""

    def __init__(self, name: str, path: str, fault: str | None = None) -> None:
        self.name, self._path, self._fault = name, path, fault
        self._labels: Labels = (("sensor", name),)
        self._works = self._moves = False

    def read(self) -> Readings:
        """Return the temperature in degrees Celsius, if the sensor has one; it may hang.

        What the kernel promises (hwmon/sysfs-interface.rst, driver-api/thermal/sysfs-api.rst):

        - sensor_temperature_celsius: thousandths of a degree, as the driver makes them of the chip's bits; chips repeat their last
          reading. An error is reported only of a sensor that has worked: boards list many that are not connected. A reading that is no
          temperature (below -55 or above 126 degrees) is left out, and so is exactly 0 until the sensor has shown something else.
        """
        try:
            if self._fault is not None and (read_or_none(self._fault) or b"").strip() == b"1":
                return [], []
            degrees = millidegrees(read(self._path))
        except OSError as error:
            usual = error.errno in NO_READING or not self._works
            return [], [] if usual else [Trouble("sensor", self.name, reason(error))]
        self._works = self._works or degrees is not None
        self._moves = self._moves or bool(degrees)
        if degrees is None or not (degrees or self._moves):
            return [], []
        return [Sample("sensor_temperature_celsius", degrees, self._labels)], []


class Chip:
    """The sensors that are read in one go; `name` names it in logs when it hangs."""

    def __init__(self, name: str, probes: list[Probe]) -> None:
        self.name, self.probes = name, probes

    def read(self) -> Readings:
        """Ask each sensor in turn; it may hang."""
        samples: list[Sample] = []
        troubles: list[Trouble] = []
        for probe in self.probes:
            found, wrong = probe.read()
            samples += found
            troubles += wrong
        return samples, troubles


class Chips:
    """The chips that are there, in a fixed order; one that is plugged in again is a new one. `sys` is as in HostPaths."""

    def __init__(self, sys: str, wanted: Callable[[str], bool]) -> None:
        self._sys, self._wanted = sys, wanted
        self._known: dict[tuple[str, int], Chip] = {}

    def latest(self) -> list[Chip]:
        """Return those with a sensor that is wanted."""
        there = dict(self._listed())
        if there.keys() != self._known.keys():
            kept = {key: self._known[key] for key in there if key in self._known}
            taken = {probe.name for chip in kept.values() for probe in chip.probes}
            zones = {label(_text(path, "type")) for (name, _), path in there.items() if name.startswith("t")}
            for key, path in there.items():
                if key not in kept:
                    kept[key] = self._chip(key[0], path, taken, zones)
                    taken |= {probe.name for probe in kept[key].probes}
            self._known = {key: kept[key] for key in there}
        return [chip for chip in self._known.values() if chip.probes]

    def _listed(self) -> Iterator[tuple[tuple[str, int], str]]:
        """Yield name, the number of the folder, which a new device has not, and path."""
        for kind, start in (("thermal", "thermal_zone"), ("hwmon", "hwmon")):
            folder = f"{self._sys}/class/{kind}"
            names: list[str] = []
            with suppress(OSError):  # a kernel without it, or a virtual machine
                names = [name for name in os.listdir(folder) if name.startswith(start)]
            for name in sorted(names, key=lambda name: (len(name), name)):
                with suppress(OSError):  # it has gone meanwhile
                    yield (name, os.stat(f"{folder}/{name}").st_ino), f"{folder}/{name}"

    def _chip(self, number: str, path: str, taken: set[str], zones: set[str]) -> Chip:
        if number.startswith("thermal_zone"):
            name = f"{label(_text(path, 'type')) or 'unknown'}/{number}"
            return Chip(name, [Probe(name, f"{path}/temp")] if self._wanted(name) else [])
        kind, device = label(_text(path, "name")) or "unknown", _device(path)
        if device.startswith("thermal_zone") or (
            not device and kind in {zone.replace("-", "_") for zone in zones}
        ):
            return Chip(kind, [])
        inputs = _inputs(path)
        named = {which: label(_text(path, f"{which}_label")) for which in inputs}
        often = Counter(named.values())
        own = {which: text if text and often[text] == 1 else which for which, text in named.items()}
        place = device or number
        if {
            f"{kind}/{place}/{text}" for text in own.values()
        } & taken:  # two chips of one driver on one device
            place = number
        probes = [
            Probe(f"{kind}/{place}/{own[which]}", f"{path}/{which}_input", _existing(f"{path}/{which}_fault"))
            for which in inputs
        ]
        return Chip(f"{kind}/{place}", [probe for probe in probes if self._wanted(probe.name)])


def millidegrees(content: bytes) -> float | None:
    """Return the degrees Celsius, to a tenth, that the kernel wrote as thousandths; None if it is none or no temperature."""
    text = content.strip()
    if not re.fullmatch(rb"-?\d{1,7}", text):
        return None
    degrees = round(int(text) / 1000, 1)
    return degrees + 0.0 if LOWEST <= degrees <= HIGHEST else None  # no -0.0


def _inputs(path: str) -> list[str]:
    """Return `temp1`, `temp2`, ... as far as they have an input."""
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(path)
    found = [name.removesuffix("_input") for name in names if re.fullmatch(r"temp\d{1,4}_input", name)]
    return sorted(found, key=lambda name: int(name[4:]))


def _device(path: str) -> str:
    """Return the name of the device behind a chip, empty if it has none; of an NVMe disk, its place on the bus."""
    if not os.path.lexists(f"{path}/device"):
        return ""
    parts = os.path.realpath(f"{path}/device").split("/")
    while len(parts) > 1 and re.fullmatch(r"nvme\d*", parts[-1]):
        parts.pop()
    return label(os.fsencode(parts[-1]))


def _existing(path: str) -> str | None:
    return path if os.path.exists(path) else None


def _text(path: str, name: str) -> bytes:
    """Return what a driver called something, printable and short; empty if it has no name."""
    content = (read_or_none(f"{path}/{name}") or b"").strip()[:64]
    return bytes(byte for byte in content if byte >= 0x20 and byte != 0x7F)
