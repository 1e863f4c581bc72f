"""What sysfs says about the network interfaces: /sys/class/net (Documentation/ABI/testing/sysfs-class-net).

A speed counts only where something measured it: the cable of a device that is attached to a bus, or what bonds, teams
and VLANs make of such devices. All other virtual interfaces have a speed that the kernel made up, or none:

    tun, tap            10 Mbit/s, since Linux 6.2 10,000, whatever passes (tun_get_link_ksettings)
    veth                10,000 (veth_get_link_ksettings), also where it is called eth0 in a container
    bridge              the largest of its ports, taps included, while what the host sends to a guest uses none of them
    macvlan, ipvlan     their device's, while what they send to each other does not pass it
    wireguard, ppp, dummy, ifb, vxlan, gre    none: reading it fails
    Wi-Fi               the rate of the moment, one way at a time, where a driver says one
    modems (wwan)       what the modem claims; what the air gives is less, and changes

A network card of a virtual machine is on a bus: virtio says -1 unless the hypervisor was given a speed, others claim one.
"""

from __future__ import annotations

import os

from agent.collectors.kernel import MOST_NAMES, hexadecimal, number, read_or_none

MADE_OF_OTHERS = frozenset((b"bond", b"team", b"vlan"))
OVER_THE_AIR = frozenset((b"wlan", b"wwan"))
LOOPBACK, POINT_TO_POINT, NO_ARP = 0x8, 0x10, 0x80
"""Flags of an interface (linux/if.h)."""
DEEPEST = 8
"""Interfaces on top of each other: what the kernel allows (MAX_NEST_DEV)."""


class Links:
    """Reads the files of interfaces below `folder`. What cannot be read is not known."""

    def __init__(self, folder: str) -> None:
        self._folder = os.fsencode(folder)
        self._losses: dict[bytes, tuple[tuple[int, ...], tuple[int, int] | None]] = {}

    def speed(self, name: bytes) -> int | None:
        """Return the speed in Mbit/s; None if nothing measured it."""
        return parse_speed(self._read(name, b"speed")) if self._is_measured(name, DEEPEST) else None

    def is_down(self, name: bytes) -> bool:
        """Whether it can pass nothing: it is switched off, or has no carrier."""
        return self._read(name, b"operstate").strip() in (b"down", b"lowerlayerdown", b"notpresent")

    def is_local(self, name: bytes) -> bool:
        """Whether it leads to neighbors that ARP finds, by cable or Wi-Fi: not a tunnel, a dial-up or a modem."""
        flags = hexadecimal(self._read(name, b"flags"))
        if flags is None or flags & (LOOPBACK | POINT_TO_POINT | NO_ARP):
            return False
        return self._kind(name) != b"wwan"

    def losses(self, name: bytes, drops: int, frame: int, fifo: int) -> tuple[int, int] | None:
        """Return the frames lost for want of room, and those that nobody wanted; None if they are not known.

        `drops`, `frame` and `fifo` are the columns of /proc/net/dev, in which they are contained: the files are read
        again only when a column has changed.

        What the kernel promises (include/uapi/linux/if_link.h, struct rtnl_link_stats64):

        - network_missed_in_total: the largest of rx_missed_errors (no room in the device), rx_over_errors and rx_fifo_errors,
          which drivers use for the same thing. Rises; begins again when the driver is loaded again.
        - network_unwanted_in_total: rx_dropped. Frames of protocols and VLANs that nobody listens to, which switches send
          all day (STP, LLDP, other VLANs); also what the kernel had no memory for, which it does not count apart.
        """
        columns = drops, frame, fifo
        if not drops and not frame:
            return fifo, 0
        known = self._losses.get(name)
        if known is None or known[0] != columns:
            missed, over, unwanted = (
                number(self._read(name, b"statistics/" + file).strip())
                for file in (b"rx_missed_errors", b"rx_over_errors", b"rx_dropped")
            )
            found = None
            if missed is not None and over is not None and unwanted is not None:
                found = max(missed, over, fifo), unwanted
            if len(self._losses) >= MOST_NAMES:
                self._losses.clear()
            known = self._losses[name] = columns, found
        return known[1]

    def _read(self, name: bytes, file: bytes) -> bytes:
        if b"/" in name or b"\0" in name:
            return b""
        return read_or_none(os.fsdecode(b"%b/%b/%b" % (self._folder, name, file))) or b""

    def _kind(self, name: bytes) -> bytes:
        uevent = self._read(name, b"uevent").split(b"\n")
        return next((line[8:] for line in uevent if line.startswith(b"DEVTYPE=")), b"")

    def _is_measured(self, name: bytes, deepest: int) -> bool:
        if b"/" in name or b"\0" in name or deepest == 0:
            return False
        at = b"%b/%b" % (self._folder, name)
        kind = self._kind(name)
        if os.path.exists(at + b"/device"):
            return kind not in OVER_THE_AIR and not os.path.exists(at + b"/phy80211")
        if kind not in MADE_OF_OTHERS:
            return False
        try:
            below = [entry[6:] for entry in os.listdir(at) if entry.startswith(b"lower_")]
        except OSError:
            return False
        return bool(below) and all(self._is_measured(one, deepest - 1) for one in below)


def parse_speed(content: bytes) -> int | None:
    """Mbit/s, or None where the driver does not know (it says -1, 0, 2^32 - 1, or fails)."""
    number = content.strip()
    speed = int(number) if number.isdigit() and len(number) <= 10 else 0
    return speed if 0 < speed < 2**32 - 1 else None
