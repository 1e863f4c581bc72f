"""The readers of the other collectors where there is no /proc, on psutil. Never imported on Linux.

Not known there, and so absent: iowait, a disk's time with requests in flight and its queue, socket counts
(psutil would walk over every process), OOM kills, pressure, the state of the link, of the sensors all but the uptime, and on Windows inodes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from agent.collectors import cpu, disk_io, disk_usage, network
from agent.collectors.base import Collect, HostPaths, Sample
from agent.collectors.cpu import Times
from agent.collectors.disk_io import Disk
from agent.collectors.disk_usage import Space, statvfs
from agent.collectors.host import host_info
from agent.collectors.kernel import Names
from agent.collectors.memory import memory_samples
from agent.collectors.mounts import Place, labels_of
from agent.collectors.network import Interface
from agent.collectors.options import DiskUsageOptions

HUNDREDTHS = 100  # psutil returns seconds; the collector counts ticks


def cpu_times() -> dict[bytes, Times]:
    """Return the times of every core and, as b"", of all of them."""
    times = {b"": times_of(psutil.cpu_times()._asdict())}
    for core, seconds in enumerate(psutil.cpu_times(percpu=True)):
        times[b"%d" % core] = times_of(seconds._asdict())
    return times


def times_of(seconds: dict[str, float]) -> Times:
    """Return ticks from psutil's fields, which differ by platform; guest is already in user and in nice."""
    ticks = {name: round(value * HUNDREDTHS) for name, value in seconds.items()}
    busy = sum(
        value for name, value in ticks.items() if name not in ("idle", "iowait", "guest", "guest_nice")
    )
    return Times(ticks["user"], ticks["system"], ticks["idle"], ticks.get("iowait"), busy)


def load_average() -> tuple[float, ...]:
    """Return the three averages; on Windows psutil's imitation."""
    one, five, fifteen = psutil.getloadavg()
    return round(one, 2), round(five, 2), round(fifteen, 2)


def memory(now: float) -> list[Sample]:
    """Run the memory collector."""
    ram, swap = psutil.virtual_memory(), psutil.swap_memory()
    fields = {
        b"MemTotal": ram.total,
        b"MemFree": ram.free,
        b"MemAvailable": ram.available,
        b"SwapTotal": swap.total,
        b"SwapFree": swap.free,
    }
    for key, name in ((b"Buffers", "buffers"), (b"Cached", "cached")):
        if hasattr(ram, name):
            fields[key] = getattr(ram, name)
    return memory_samples(fields)


def disks(names: Names) -> dict[bytes, Disk]:
    """Return the disks that `names` does not leave out, without the counters that only Linux has."""
    found: dict[bytes, Disk] = {}
    for name, io in (psutil.disk_io_counters(perdisk=True, nowrap=False) or {}).items():
        raw = name.encode()
        if names[raw] is not None:
            found[raw] = (
                io.read_count,
                io.read_bytes,
                io.read_time,
                io.write_count,
                io.write_bytes,
                io.write_time,
            )
    return found


def interfaces(names: Names) -> dict[bytes, Interface]:
    """Return the interfaces that `names` does not leave out."""
    found: dict[bytes, Interface] = {}
    for name, io in psutil.net_io_counters(pernic=True, nowrap=False).items():
        raw = name.encode()
        if names[raw] is not None:
            received = (io.bytes_recv, io.packets_recv, io.errin, io.dropin)
            found[raw] = (*received, io.bytes_sent, io.packets_sent, io.errout, io.dropout)
    return found


def link_speed(interface: bytes) -> int | None:
    """Return the speed in Mbit/s, or None where it is unknown."""
    stats = psutil.net_if_stats().get(os.fsdecode(interface))
    return stats.speed or None if stats else None


def places(options: DiskUsageOptions) -> list[Place]:
    """Return the mounted file systems that are not excluded, each device once."""
    fstypes, mountpoints = options.fstypes(), options.mountpoints()
    found: dict[str, Place] = {}
    for part in psutil.disk_partitions(all=False):
        if fstypes(part.fstype) and mountpoints(part.mountpoint):
            device, fstype, path = (
                os.fsencode(part.device),
                part.fstype.encode(),
                os.fsencode(part.mountpoint),
            )
            place = Place(
                path, labels_of(device, fstype, path), device, is_readonly="ro" in part.opts.split(",")
            )
            found.setdefault(part.device, place)
    return list(found.values())


def space(path: bytes) -> Space:
    """Ask the platform. Raises OSError."""
    if hasattr(os, "statvfs"):
        return statvfs(path)
    usage = psutil.disk_usage(os.fsdecode(path))
    return Space(1, usage.total, usage.total - usage.used, usage.free, 0, 0)


def host() -> Collect:
    """Build the host collector."""
    import platform

    info = host_info(kernel_release=platform.release(), machine=platform.machine(), os=platform.system())

    def collect(now: float) -> list[Sample]:
        return [info, Sample("host_boot_time_seconds", float(int(psutil.boot_time())))]

    return collect


def sensors() -> Collect:
    """Build what there is of the sensors collector."""

    def collect(now: float) -> list[Sample]:
        return [Sample("host_uptime_seconds", float(max(0, int(time.time() - psutil.boot_time()))))]

    return collect


def _disk_usage(options: DiskUsageOptions, paths: HostPaths) -> Collect:
    asker = disk_usage.Asker(lambda place: space(place.path), paths.patience)
    return disk_usage.disk_usage(lambda: places(options), asker, paths.report)


BUILD: Mapping[str, Callable[[Any, HostPaths], Collect]] = {
    "cpu": lambda _options, _paths: cpu.cpu(HUNDREDTHS, cpu_times, load_average),
    "memory": lambda _options, _paths: memory,
    "disk_io": lambda options, _paths: disk_io.disk_io(disk_io.names_of(options), disks),
    "network": lambda options, _paths: network.network(
        Names("interface", options.interfaces()), interfaces, link_speed, list
    ),
    "disk_usage": _disk_usage,
    "host": lambda _options, _paths: host(),
    "sensors": lambda _options, _paths: sensors(),
    "pressure": lambda _options, _paths: lambda _now: [],
    "link": lambda _options, _paths: lambda _now: [],
}
"""The functions that build the collectors, by name."""
