"""What the host is and since when it runs.

The kernel computes the boot time from its wall clock, so it moves when a host without a clock chip gets the
time from the network: it is read again every minute, from the line `btime` of /proc/stat.
"""

from __future__ import annotations

import os

from agent.collectors.base import Collect, HostPaths, Metric, Sample
from agent.collectors.kernel import KernelFile, number_after
from agent.collectors.options import Options

METRICS = (
    Metric(
        "host_boot_time_seconds", "gauge", "seconds", "When the host was booted, in seconds since 1970 UTC."
    ),
    Metric("host_info", "gauge", "", "Always 1; the labels say what the host runs."),
)

REFRESH_SECONDS = 60.0


def build(options: Options, paths: HostPaths) -> Collect:
    """Build the collector. A run returns host_info always and the boot time where the kernel reports it; it never raises.

    What the kernel promises (proc_stat(5), uname(2)):

    - host_boot_time_seconds: the wall clock less the time since boot, so it moves by as much as the clock is set.
    - host_info: constant from boot to boot.
    """
    uname = os.uname()
    info = host_info(kernel_release=uname.release, machine=uname.machine, os=uname.sysname)
    stat = KernelFile(f"{paths.proc}/stat", paths.report)
    samples, read_at = [info], float("-inf")

    def collect(now: float) -> list[Sample]:
        nonlocal samples, read_at
        if not 0 <= now - read_at < REFRESH_SECONDS:
            boot = number_after(b"btime", stat.read_or_none() or b"")
            known = [] if boot is None else [Sample("host_boot_time_seconds", float(boot))]
            samples, read_at = [info, *known], now
        return list(samples)

    return collect


def host_info(*, kernel_release: str, machine: str, os: str) -> Sample:
    """Return the sample that carries the host's description in its labels."""
    return Sample("host_info", 1.0, (("kernel_release", kernel_release), ("machine", machine), ("os", os)))
