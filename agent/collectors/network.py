"""What the network interfaces did, and how many sockets there are.

Interfaces from /proc/net/dev, whose received drops are what sysfs calls rx_dropped and rx_missed_errors. Link
speeds from /sys/class/net/*/speed, read again every minute. Sockets from the kernel's own counters in
/proc/net/sockstat, sockstat6 and snmp: a number each, read in the same time with ten sockets and 50,000.

/proc/net shows the network namespace of the process that reads it. From inside a container the host's is seen in
the folder of the process that the host began with, /proc/1/net, if the container shows it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from agent.collectors.base import Collect, HostPaths, Labels, Metric, Sample
from agent.collectors.kernel import Growth, KernelFile, Names, number, numbers, rate, read_or_none
from agent.collectors.options import NetworkOptions

METRICS = (
    Metric("network_sent_bytes_total", "counter", "bytes", "Sent."),
    Metric("network_received_bytes_total", "counter", "bytes", "Received."),
    Metric("network_sent_packets_total", "counter", "packets", "Packets sent."),
    Metric("network_received_packets_total", "counter", "packets", "Packets received."),
    Metric("network_errors_in_total", "counter", "", "Packets received with an error."),
    Metric("network_errors_out_total", "counter", "", "Packets not sent for an error."),
    Metric("network_drops_in_total", "counter", "", "Packets received and dropped for want of room."),
    Metric("network_drops_out_total", "counter", "", "Packets dropped instead of sent."),
    Metric("network_bytes_sent_per_sec", "gauge", "bytes_per_sec", "Sent in the interval."),
    Metric("network_bytes_recv_per_sec", "gauge", "bytes_per_sec", "Received in the interval."),
    Metric("network_packets_sent_per_sec", "gauge", "packets_per_sec", "Packets sent in the interval."),
    Metric("network_packets_recv_per_sec", "gauge", "packets_per_sec", "Packets received in the interval."),
    Metric(
        "network_bandwidth_usage_percent", "gauge", "percent",
        "The larger of sent and received against the link's speed; absent where the speed is unknown.",
    ),
    Metric("network_connections", "gauge", "", "Sockets by state, as the kernel counts them."),
)  # fmt: skip

REFRESH_SECONDS = 60.0

Interface = tuple[int, ...]
"""Counters of one interface: received bytes, packets, errors, drops, and the same four of sent."""


def build(options: NetworkOptions, paths: HostPaths) -> Collect:
    """Build the collector. A run reads four files, and once a minute the speeds; it raises OSError if it got nothing."""
    names = Names("interface", options.interfaces())
    net, sys_net = net_of(paths), f"{paths.sys}/class/net"
    dev = KernelFile(f"{net}/dev", paths.report)
    sources = [
        (KernelFile(f"{net}/{name}", paths.report, optional=True), parse, wanted)
        for name, parse, wanted in (
            ("sockstat", parse_sockstat, SOCKSTAT),
            ("sockstat6", parse_sockstat, SOCKSTAT6),
            ("snmp", parse_snmp, SNMP),
        )
    ]

    def sockets() -> list[Sample]:
        found: list[Sample] = []
        for source, parse, wanted in sources:
            content = source.read_or_none()
            if content is not None:
                found += source.checked(socket_samples(parse(content), wanted))
        return found

    def interfaces(names: Names) -> dict[bytes, Interface] | None:
        content = dev.read_or_none()
        return None if content is None else dev.checked(parse_dev(content, names))

    def link_speed(interface: str) -> int | None:
        if "/" in interface or "\0" in interface:
            return None
        return parse_speed(read_or_none(f"{sys_net}/{interface}/speed") or b"")

    return network(names, interfaces, link_speed, sockets)


def net_of(paths: HostPaths) -> str:
    """Return the folder with the network's files: this process's own view, or the host's from inside a container."""
    host = f"{paths.proc}/1/net"
    return host if paths.foreign and os.access(f"{host}/dev", os.R_OK) else f"{paths.proc}/net"


def network(
    names: Names,
    read_interfaces: Callable[[Names], dict[bytes, Interface] | None],
    link_speed: Callable[[str], int | None],
    sockets: Callable[[], list[Sample]],
) -> Collect:
    """Build the collector from its readers. `read_interfaces` returns None if it cannot; speeds are in Mbit/s."""
    growth = Growth()
    speeds: dict[bytes, int | None] = {}
    speeds_at = float("-inf")

    def collect(now: float) -> list[Sample]:
        nonlocal speeds_at
        names.begin()
        samples, interfaces = sockets(), read_interfaces(names)
        if interfaces is None:
            if not samples:
                raise OSError("neither the interfaces nor the sockets can be read")
            return samples
        if not 0 <= now - speeds_at < REFRESH_SECONDS:
            speeds.clear()
            speeds_at = now
        seconds, grown = growth.step(now, interfaces)
        for name, interface in interfaces.items():
            labels = names[name]
            if labels is not None:
                samples += counters(interface, labels)
                if name in grown:
                    if name not in speeds:
                        speeds[name] = link_speed(os.fsdecode(name))
                    samples += rates(grown[name], seconds, speeds[name], labels)
        return samples

    return collect


def counters(interface: Interface, labels: Labels) -> list[Sample]:
    """Return the cumulative series of one interface."""
    in_bytes, in_packets, in_errors, in_drops, out_bytes, out_packets, out_errors, out_drops = interface
    return [
        Sample("network_sent_bytes_total", float(out_bytes), labels),
        Sample("network_received_bytes_total", float(in_bytes), labels),
        Sample("network_sent_packets_total", float(out_packets), labels),
        Sample("network_received_packets_total", float(in_packets), labels),
        Sample("network_errors_in_total", float(in_errors), labels),
        Sample("network_errors_out_total", float(out_errors), labels),
        Sample("network_drops_in_total", float(in_drops), labels),
        Sample("network_drops_out_total", float(out_drops), labels),
    ]


def rates(grown: Sequence[int], seconds: float, megabits: int | None, labels: Labels) -> list[Sample]:
    """Return the series of one interface over an interval of `seconds` > 0 in which its counters grew by `grown`."""
    in_bytes, in_packets, _, _, out_bytes, out_packets, _, _ = grown
    samples = [
        Sample("network_bytes_sent_per_sec", rate(out_bytes, seconds, 0), labels),
        Sample("network_bytes_recv_per_sec", rate(in_bytes, seconds, 0), labels),
        Sample("network_packets_sent_per_sec", rate(out_packets, seconds, 2), labels),
        Sample("network_packets_recv_per_sec", rate(in_packets, seconds, 2), labels),
    ]
    if megabits:
        full = megabits * 1_000_000 / 8 / 100  # bytes a second that are one percent
        usage = rate(max(in_bytes, out_bytes) / full, seconds, 2)
        samples.append(Sample("network_bandwidth_usage_percent", usage, labels))
    return samples


def parse_dev(content: bytes, names: Names) -> tuple[dict[bytes, Interface], int]:
    """Return the interfaces of /proc/net/dev that `names` does not leave out, and how many lines are malformed."""
    interfaces: dict[bytes, Interface] = {}
    wrong = 0
    for line in content.splitlines():
        name, colon, rest = line.rpartition(b":")  # an alias has a colon in its name
        name = name.strip()
        if not colon:
            wrong += b"|" not in line  # as the two lines of the heading have
            continue
        if names[name] is None:
            continue
        counted = numbers(rest.split())
        if counted is None or len(counted) < 16:
            wrong += 1
            continue
        interfaces[name] = (*counted[0:4], *counted[8:12])
    return interfaces, wrong


def parse_speed(content: bytes) -> int | None:
    """Mbit/s, or None where the driver does not know (it says -1, 0, 2^32 - 1, or fails)."""
    number = content.strip()
    speed = int(number) if number.isdigit() else 0
    return speed if 0 < speed < 2**32 - 1 else None


Wanted = Mapping[bytes, tuple[tuple[bytes, Labels], ...]]
"""By the word that its line begins with: the keys of the numbers, and the labels of their series."""

SOCKSTAT: Wanted = {
    b"TCP": (
        (b"inuse", (("family", "tcp4"), ("state", "in_use"))),
        (b"tw", (("family", "tcp"), ("state", "time_wait"))),
        (b"orphan", (("family", "tcp"), ("state", "orphan"))),
        (b"alloc", (("family", "tcp"), ("state", "allocated"))),
    ),
    b"UDP": ((b"inuse", (("family", "udp4"), ("state", "in_use"))),),
}
SOCKSTAT6: Wanted = {
    b"TCP6": ((b"inuse", (("family", "tcp6"), ("state", "in_use"))),),
    b"UDP6": ((b"inuse", (("family", "udp6"), ("state", "in_use"))),),
}
SNMP: Wanted = {b"Tcp": ((b"CurrEstab", (("family", "tcp"), ("state", "established"))),)}
"""Which numbers of the three files become which series. The kernel counts in_use by IP version (with listening
sockets, without time_wait), the others for both versions. Established includes close_wait (RFC 4022)."""

Counts = dict[bytes, dict[bytes, bytes]]
"""The fields by key, by the word their line begins with."""


def parse_sockstat(content: bytes) -> Counts:
    """Return the lines `Name: key number key number ...` of sockstat and sockstat6."""
    lines: Counts = {}
    for line in content.splitlines():
        name, _, rest = line.partition(b":")
        words = rest.split()
        lines[name] = dict(zip(words[0::2], words[1::2], strict=False))
    return lines


def parse_snmp(content: bytes) -> Counts:
    """Return the two lines of snmp that begin with `Tcp:`: the keys, and below them the numbers."""
    lines = [line.split() for line in content.splitlines() if line.startswith(b"Tcp: ")]
    return {b"Tcp": dict(zip(lines[0], lines[1], strict=False))} if len(lines) == 2 else {}


def socket_samples(lines: Counts, wanted: Wanted) -> tuple[list[Sample], int]:
    """Return the socket counts in these lines, and how many of them are missing or malformed."""
    samples, wrong = [], 0
    for name, numbers_of in wanted.items():
        for key, labels in numbers_of:
            count = number(lines.get(name, {}).get(key, b""))
            if count is None:
                wrong += 1
            else:
                samples.append(Sample("network_connections", float(count), labels))
    return samples, wrong
