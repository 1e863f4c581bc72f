"""What the network interfaces did, and how many sockets there are.

Interfaces from /proc/net/dev, whose received drops are what sysfs calls rx_dropped and rx_missed_errors. Link
speeds from /sys/class/net/*/speed, read again every minute. Sockets from the kernel's own counters in
/proc/net/sockstat, sockstat6 and snmp: a number each, read in the same time with ten sockets and 50,000.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.collectors.files import label, read, read_or_none
from agent.collectors.kind import LINUX, Collect, HostPaths
from agent.collectors.metric import Labels, Metric, Sample
from agent.collectors.names import Names
from agent.collectors.options import NetworkOptions, matcher
from agent.collectors.rates import Growth, rate

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
    """A run reads four files, and once a minute the speeds; it raises OSError if the four told nothing."""
    names = Names("interface", matcher("exclude_interfaces", options.exclude_interfaces))
    if not LINUX:
        from agent.collectors import portable

        return network(names, portable.interfaces, portable.link_speed, list)
    net, sys_net = f"{paths.proc}/net", f"{paths.sys}/class/net"

    def sockets() -> list[Sample]:
        return socket_samples(
            *(read_or_none(f"{net}/{name}") or b"" for name in ("sockstat", "sockstat6", "snmp"))
        )

    def link_speed(interface: str) -> int | None:
        return parse_speed(read_or_none(f"{sys_net}/{interface}/speed") or b"")

    return network(names, lambda names: parse_dev(read(f"{net}/dev"), names), link_speed, sockets)


def network(
    names: Names,
    read_interfaces: Callable[[Names], dict[bytes, Interface]],
    link_speed: Callable[[str], int | None],
    sockets: Callable[[], list[Sample]],
) -> Collect:
    """The collector over its readers; `link_speed` is in Mbit/s."""
    growth = Growth()
    speeds: dict[bytes, int | None] = {}
    speeds_at = float("-inf")

    def collect(now: float) -> list[Sample]:
        nonlocal speeds_at
        samples = sockets()
        try:
            interfaces = read_interfaces(names)
        except OSError:
            if not samples:
                raise
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
                        speeds[name] = link_speed(label(name))
                    samples += rates(grown[name], seconds, speeds[name], labels)
        return samples

    return collect


def counters(interface: Interface, labels: Labels) -> list[Sample]:
    """The cumulative series of one interface."""
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
    """The series of one interface over an interval of `seconds` > 0 in which its counters grew by `grown`."""
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


def parse_dev(content: bytes, names: Names) -> dict[bytes, Interface]:
    """The interfaces of /proc/net/dev that `names` does not leave out; what is not such a line is skipped."""
    interfaces = {}
    for line in content.splitlines():
        name, colon, rest = line.rpartition(b":")  # an alias has a colon in its name
        name = name.strip()
        if not colon or names[name] is None:
            continue
        try:
            numbers = tuple(map(int, rest.split()))
        except ValueError:
            continue
        if len(numbers) >= 16:
            interfaces[name] = numbers[0:4] + numbers[8:12]
    return interfaces


def parse_speed(content: bytes) -> int | None:
    """Mbit/s, or None where the driver does not know (it says -1, 0, 2^32 - 1, or fails)."""
    number = content.strip()
    speed = int(number) if number.isdigit() else 0
    return speed if 0 < speed < 2**32 - 1 else None


SOCKETS: tuple[tuple[bytes, bytes, Labels], ...] = (
    (b"TCP", b"inuse", (("family", "tcp4"), ("state", "in_use"))),
    (b"TCP6", b"inuse", (("family", "tcp6"), ("state", "in_use"))),
    (b"UDP", b"inuse", (("family", "udp4"), ("state", "in_use"))),
    (b"UDP6", b"inuse", (("family", "udp6"), ("state", "in_use"))),
    (b"TCP", b"tw", (("family", "tcp"), ("state", "time_wait"))),
    (b"TCP", b"orphan", (("family", "tcp"), ("state", "orphan"))),
    (b"TCP", b"alloc", (("family", "tcp"), ("state", "allocated"))),
    (b"Tcp", b"CurrEstab", (("family", "tcp"), ("state", "established"))),
)
"""Which number of which line becomes which series. The kernel counts in_use by IP version (with listening
sockets, without time_wait), the others for both versions. Established includes close_wait (RFC 4022)."""


def socket_samples(sockstat: bytes, sockstat6: bytes, snmp: bytes) -> list[Sample]:
    """The socket counts that these files hold; a number that is not there is left out."""
    lines: dict[bytes, dict[bytes, bytes]] = {}
    for line in (sockstat + b"\n" + sockstat6).splitlines():
        name, _, rest = line.partition(b":")
        words = rest.split()
        lines[name] = dict(zip(words[0::2], words[1::2], strict=False))
    heads = [line.split() for line in snmp.splitlines() if line.startswith(b"Tcp: ")]
    if len(heads) == 2:
        lines[b"Tcp"] = dict(zip(heads[0], heads[1], strict=False))
    samples = []
    for name, key, labels in SOCKETS:
        number = lines.get(name, {}).get(key, b"")
        if number.isdigit():
            samples.append(Sample("network_connections", float(number), labels))
    return samples
