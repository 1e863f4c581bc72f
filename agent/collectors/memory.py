"""Memory, swap and the OOM killer, from /proc/meminfo, /proc/vmstat and ZFS' arcstats.

`used` is total - available, as `free` (procps 4) and psutil 7.2 define it, so that it agrees with the
percentage. `cached` is the page cache with the reclaimable slab, `free -w`'s cache column. Kernels before
3.14 know no MemAvailable: there it is free + buffers + cached, without Shmem, which `Cached` includes and which is
not given back (filesystems/proc.rst).

The cache of ZFS (ARC) is memory in use for the kernel, also in MemAvailable. It gives back what it has beyond its
minimum (`c_min`, zfs_arc_min in zfs(4)), which counts as available here, as in htop. A container has its own meminfo (lxcfs) and
sees the host's ARC, which is no memory of its own: its meminfo is of another file system than arcstats, and the ARC is
left out.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from agent.collectors.base import Collect, HostPaths, Metric, Sample
from agent.collectors.kernel import KernelFile, number, number_after, percent
from agent.collectors.options import Options

METRICS = (
    Metric("memory_total_bytes", "gauge", "bytes", "Memory the kernel manages."),
    Metric("memory_used_bytes", "gauge", "bytes", "Memory in use: total less available."),
    Metric("memory_free_bytes", "gauge", "bytes", "Memory used for nothing at all, not even as a cache."),
    Metric(
        "memory_available_bytes",
        "gauge",
        "bytes",
        "Memory that programs can get without swapping; with what the ZFS cache gives back.",
    ),
    Metric("memory_cached_bytes", "gauge", "bytes", "Page cache and reclaimable slab."),
    Metric("memory_buffers_bytes", "gauge", "bytes", "Buffers of block devices."),
    Metric("memory_usage_percent", "gauge", "percent", "100 x (total - available) / total."),
    Metric("memory_zfs_arc_bytes", "gauge", "bytes", "Size of the ZFS cache (ARC); absent without ZFS."),
    Metric("swap_total_bytes", "gauge", "bytes", "Swap space."),
    Metric("swap_used_bytes", "gauge", "bytes", "Swap space in use."),
    Metric("swap_free_bytes", "gauge", "bytes", "Swap space not in use."),
    Metric("swap_usage_percent", "gauge", "percent", "100 x used / total; 0 where there is no swap."),
    Metric("memory_oom_kills_total", "counter", "", "Processes killed for want of memory since boot."),
)

FIELDS = frozenset(
    (
        b"MemTotal",
        b"MemFree",
        b"MemAvailable",
        b"Buffers",
        b"Cached",
        b"SReclaimable",
        b"Shmem",
        b"SwapTotal",
        b"SwapFree",
    )
)


def build(options: Options, paths: HostPaths) -> Collect:
    """Build the collector. A run raises OSError if it could read neither meminfo nor vmstat."""
    meminfo = KernelFile(f"{paths.proc}/meminfo", paths.report)
    arcstats = KernelFile(f"{paths.proc}/spl/kstat/zfs/arcstats", paths.report, optional=True)
    vmstat = KernelFile(f"{paths.proc}/vmstat", paths.report, optional=True)

    def collect(now: float) -> list[Sample]:
        sizes, kills = meminfo.read_or_none(), vmstat.read_or_none()
        if sizes is None and kills is None:
            raise OSError(f"neither {meminfo.path} nor {vmstat.path} can be read")
        samples = []
        if sizes is not None:
            arc = arcstats.read_or_none() if is_same_host(meminfo.path, arcstats.path) else None
            shown = None if arc is None else arcstats.checked(parse_arcstats(arc))
            samples = memory_samples(meminfo.checked(parse_meminfo(sizes)), shown)
        return samples + ([] if kills is None else vmstat.checked(oom_samples(kills)))

    return collect


def parse_meminfo(content: bytes) -> tuple[dict[bytes, int], int]:
    """Return the lines of FIELDS in bytes (the kernel's kB are KiB), and how many of them are not `Name: number`.

    What the kernel promises (Documentation/filesystems/proc.rst; fs/proc/meminfo.c):

    - memory_total_bytes, swap_total_bytes: change when memory or swap is added or taken away.
    - memory_free_bytes, memory_buffers_bytes, memory_cached_bytes, swap_free_bytes: sums over cores that are read while they
      change, so they can miss the truth by some pages; cut at 0.
    - memory_available_bytes: an estimate, since Linux 3.14. In some containers it is the host's, and more than the total.
    - memory_used_bytes, memory_usage_percent, swap_used_bytes, swap_usage_percent: computed here, from 0 to the total.
    """
    found, wrong = {}, 0
    for line in content.splitlines():
        name, _, rest = line.partition(b":")
        if name in FIELDS:
            size = number(rest.partition(b"kB")[0].strip())
            if size is None:
                wrong += 1
            else:
                found[name] = size * 1024
    return found, wrong or int(not found)


class Arc(NamedTuple):
    """The cache of ZFS: its size, and what it does not give back, in bytes."""

    size: int
    minimum: int


def is_same_host(meminfo: str, arcstats: str) -> bool:
    """Return whether there is an arcstats, and it is of the same host as meminfo."""
    try:
        return os.stat(arcstats).st_dev == os.stat(meminfo).st_dev
    except OSError:
        return False


def parse_arcstats(content: bytes) -> tuple[Arc | None, int]:
    """Return the lines `size` and `c_min` (name, type, value), or None and 1 if one of them is not such a line.

    What the kernel promises (module/zfs/arc.c of OpenZFS):

    - memory_zfs_arc_bytes: changes at any time, and is not part of the page cache.
    """
    rows = (line.split() for line in content.splitlines())
    field = {row[0]: number(row[2]) for row in rows if len(row) == 3 and row[0] in (b"size", b"c_min")}
    size, minimum = field.get(b"size"), field.get(b"c_min")
    return (None, 1) if size is None or minimum is None else (Arc(size, minimum), 0)


def memory_samples(field: dict[bytes, int], arc: Arc | None = None) -> list[Sample]:
    """Return the samples of these fields; a series that lacks one of its fields is left out."""
    samples = []
    total, free, buffers = field.get(b"MemTotal"), field.get(b"MemFree"), field.get(b"Buffers")
    cached = field[b"Cached"] + field.get(b"SReclaimable", 0) if b"Cached" in field else None
    available = field.get(b"MemAvailable")
    if available is None and free is not None and buffers is not None and cached is not None:
        available = free + buffers + max(0, cached - field.get(b"Shmem", 0))
    if arc is not None:
        samples.append(Sample("memory_zfs_arc_bytes", float(arc.size)))
        if available is not None:
            available += max(0, arc.size - arc.minimum)
    if total is not None:
        samples.append(Sample("memory_total_bytes", float(total)))
    if free is not None:
        samples.append(Sample("memory_free_bytes", float(free)))
    if buffers is not None:
        samples.append(Sample("memory_buffers_bytes", float(buffers)))
    if cached is not None:
        samples.append(Sample("memory_cached_bytes", float(cached)))
    if available is not None:
        samples.append(Sample("memory_available_bytes", float(available)))
        if total:
            used = max(0, total - available)  # in some containers available is the host's
            samples.append(Sample("memory_used_bytes", float(used)))
            samples.append(Sample("memory_usage_percent", percent(used, total)))
    swap_total, swap_free = field.get(b"SwapTotal"), field.get(b"SwapFree")
    if swap_total is not None and swap_free is not None:
        swap_used = max(0, swap_total - swap_free)
        samples.append(Sample("swap_total_bytes", float(swap_total)))
        samples.append(Sample("swap_used_bytes", float(swap_used)))
        samples.append(Sample("swap_free_bytes", float(swap_free)))
        samples.append(Sample("swap_usage_percent", percent(swap_used, swap_total) if swap_total else 0.0))
    return samples


def oom_samples(vmstat: bytes) -> tuple[list[Sample], int]:
    """Return `oom_kill` of /proc/vmstat, which kernels have since 4.13, and whether its line is not right.

    What the kernel promises (mm/oom_kill.c, mm/vmstat.c):

    - memory_oom_kills_total: rises since boot; kills within the limit of a cgroup count too. An `unsigned long`.
    """
    kills = number_after(b"oom_kill", vmstat)
    if kills is None:
        return [], int(b"\noom_kill " in vmstat)
    return [Sample("memory_oom_kills_total", float(kills))], 0
