"""What the network interfaces did, and how many sockets there are.

Interfaces from /proc/net/dev, link speeds and what a drop was from `agent.collectors.links`; speeds are read again
every minute. An interface that is down and has never counted anything has no series. Sockets from the kernel's own
counters in /proc/net/sockstat, sockstat6 and snmp: a number each, read in the same time with ten sockets and 50,000.

/proc/net shows the network namespace of the process that reads it. From inside a container the host's is seen in
the folder of the process that the host began with, /proc/1/net, if the container shows it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from agent.collectors.base import Collect, HostPaths, Labels, Metric, Report, Sample, Trouble, ignore
from agent.collectors.kernel import Growth, KernelFile, Names, number, numbers, rate, share
from agent.collectors.links import Links
from agent.collectors.options import NetworkOptions

METRICS = (
    Metric("network_sent_bytes_total", "counter", "bytes", "Sent."),
    Metric("network_received_bytes_total", "counter", "bytes", "Received."),
    Metric("network_sent_packets_total", "counter", "packets", "Packets sent."),
    Metric("network_received_packets_total", "counter", "packets", "Packets received."),
    Metric("network_errors_in_total", "counter", "", "Packets received with an error."),
    Metric("network_errors_out_total", "counter", "", "Packets not sent for an error."),
    Metric("network_drops_in_total", "counter", "", "Packets received and not taken: missed and unwanted ones."),
    Metric("network_missed_in_total", "counter", "", "Packets lost because the host or its card had no room."),
    Metric("network_unwanted_in_total", "counter", "", "Packets that nobody listens to, and those without memory."),
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
"""Counters of one interface: received bytes, packets, errors, drops, and the same four of sent; then, where they are
known, the drops that were missed and those that were unwanted."""


def build(options: NetworkOptions, paths: HostPaths) -> Collect:
    """Build the collector. A run reads four files, and once a minute the speeds; it raises OSError if it got nothing."""
    names = Names("interface", options.interfaces())
    net = net_of(paths)
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

    links = Links(f"{paths.sys}/class/net")

    def interfaces(names: Names) -> dict[bytes, Interface] | None:
        content = dev.read_or_none()
        return None if content is None else dev.checked(parse_dev(content, names, links))

    return network(names, interfaces, links.speed, sockets, paths.report)


def net_of(paths: HostPaths) -> str:
    """Return the folder with the network's files: this process's own view, or the host's from inside a container."""
    host = f"{paths.proc}/1/net"
    return host if paths.foreign and os.access(f"{host}/dev", os.R_OK) else f"{paths.proc}/net"


def network(
    names: Names,
    read_interfaces: Callable[[Names], dict[bytes, Interface] | None],
    link_speed: Callable[[bytes], int | None],
    sockets: Callable[[], list[Sample]],
    tell: Report = ignore,
) -> Collect:
    """Build the collector from its readers. `read_interfaces` returns None if it cannot; speeds are in Mbit/s."""
    growth, speeds = Growth(), Speeds(link_speed)

    def collect(now: float) -> list[Sample]:
        names.begin()
        samples, read = sockets(), read_interfaces(names)
        if read is None:
            if not samples:
                raise OSError("neither the interfaces nor the sockets can be read")
            return samples
        speeds.begin(now)
        seconds, grown, interfaces = growth.step(now, read)
        for name, interface in interfaces.items():
            labels = names[name]
            if labels is not None:
                samples += counters(interface, labels)
                if name in grown:
                    samples += rates(grown[name], seconds, labels)
                    usage, refuted = speeds.usage(name, max(grown[name][0], grown[name][4]) / seconds)
                    if usage is not None:
                        samples.append(Sample("network_bandwidth_usage_percent", usage, labels))
                    if refuted:
                        why = (
                            f"more passes than its speed of {refuted} Mbit/s allows, so that is not believed"
                        )
                        tell(Trouble("interface", labels[0][1], why))
        return samples

    return collect


class Speeds:
    """The links' speeds, read again every minute. One that was exceeded is not believed until it changes."""

    def __init__(self, link_speed: Callable[[bytes], int | None]) -> None:
        self._link_speed = link_speed
        self._known: dict[bytes, int | None] = {}
        self._refuted: dict[bytes, int] = {}
        self._at = float("-inf")

    def begin(self, now: float) -> None:
        """Begin a run: forget speeds that are a minute old, and what was refuted of interfaces that are gone."""
        if not 0 <= now - self._at < REFRESH_SECONDS:
            self._refuted = {name: speed for name, speed in self._refuted.items() if name in self._known}
            self._known.clear()
            self._at = now

    def usage(self, name: bytes, bytes_per_second: float) -> tuple[float | None, int | None]:
        """Return the usage in percent, where a speed is known, and the speed if this refutes it."""
        is_fresh = name not in self._known
        speed = self._known[name] = self._link_speed(name) if is_fresh else self._known[name]
        if speed is None or self._refuted.get(name) == speed:
            return None, None
        usage = share(bytes_per_second, speed * 1_000_000 / 8)
        if usage is not None:
            return usage, None
        if not is_fresh:  # it may have changed since it was read
            del self._known[name]
            return self.usage(name, bytes_per_second)
        self._refuted[name] = speed
        return None, speed


def counters(interface: Sequence[int], labels: Labels) -> list[Sample]:
    """Return the cumulative series of one interface."""
    in_bytes, in_packets, in_errors, in_drops, out_bytes, out_packets, out_errors, out_drops = interface[:8]
    samples = [
        Sample("network_sent_bytes_total", float(out_bytes), labels),
        Sample("network_received_bytes_total", float(in_bytes), labels),
        Sample("network_sent_packets_total", float(out_packets), labels),
        Sample("network_received_packets_total", float(in_packets), labels),
        Sample("network_errors_in_total", float(in_errors), labels),
        Sample("network_errors_out_total", float(out_errors), labels),
        Sample("network_drops_in_total", float(in_drops), labels),
        Sample("network_drops_out_total", float(out_drops), labels),
    ]
    if len(interface) > 8:
        samples.append(Sample("network_missed_in_total", float(interface[8]), labels))
        samples.append(Sample("network_unwanted_in_total", float(interface[9]), labels))
    return samples


def rates(grown: Sequence[int], seconds: float, labels: Labels) -> list[Sample]:
    """Return the series of one interface over an interval of `seconds` > 0 in which its counters grew by `grown`."""
    in_bytes, in_packets, _, _, out_bytes, out_packets = grown[:6]
    return [
        Sample("network_bytes_sent_per_sec", rate(out_bytes, seconds, 0), labels),
        Sample("network_bytes_recv_per_sec", rate(in_bytes, seconds, 0), labels),
        Sample("network_packets_sent_per_sec", rate(out_packets, seconds, 2), labels),
        Sample("network_packets_recv_per_sec", rate(in_packets, seconds, 2), labels),
    ]


def parse_dev(content: bytes, names: Names, links: Links) -> tuple[dict[bytes, Interface], int]:
    """Return the interfaces of /proc/net/dev with something to report, and how many lines are malformed.

    `names` leaves some out; so does having counted nothing while it is down (`links`): docker0 without containers, say.

    What the kernel promises (proc_pid_net(5); dev_seq_printf_stats() in net/core/net-procfs.c):

    - network_sent_bytes_total, network_received_bytes_total, network_sent_packets_total, network_received_packets_total: rise
      since the interface was made or its driver was loaded; 64 bits, but 32 in some drivers where the kernel has
      32. Followed over a wrap of 32 bits. The bytes are the driver's, mostly without preamble and checksum.
    - network_errors_in_total, network_errors_out_total: the driver's sum of all its errors; 32 bits in some.
    - network_drops_in_total: rx_dropped and rx_missed_errors in one number, so mostly frames that nobody wanted.
    - network_drops_out_total: tx_dropped. What a queueing discipline drops is not in it.
    - network_bytes_sent_per_sec, network_bytes_recv_per_sec, network_packets_sent_per_sec, network_packets_recv_per_sec: from the
      counters; absent for an interval in which one of the interface's counters fell.
    - network_bandwidth_usage_percent: against a speed that something measured (agent.collectors.links), from 0 to 100. Where
      more passes than the speed allows, the speed is wrong: logged once, and not used until it changes.
    """
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
        if any(counted) or not links.is_down(name):
            losses = links.losses(name, drops=counted[3], frame=counted[5], fifo=counted[4]) or ()
            interfaces[name] = (*counted[0:4], *counted[8:12], *losses)
    return interfaces, wrong


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
    """Return the socket counts in these lines, and how many of them are missing or malformed.

    What the kernel promises (net/ipv4/proc.c; tcpCurrEstab in RFC 4022):

    - network_connections: sums over cores that are read while they change. The kernel cuts most of them at 0; one that would be
      negative is malformed here, and absent.
    """
    samples, wrong = [], 0
    for name, numbers_of in wanted.items():
        for key, labels in numbers_of:
            count = number(lines.get(name, {}).get(key, b""))
            if count is None:
                wrong += 1
            else:
                samples.append(Sample("network_connections", float(count), labels))
    return samples, wrong
