"""The processors and the load, from /proc/stat and /proc/loadavg.

Usage is the share of the ticks since the last run that was not idle. Waiting for I/O counts as idle; time of
guests is already part of user. The four counters are the kernel's fields of the same name: `user` is without
`nice`. Idle and iowait are one clock that the kernel divides between two fields, and sometimes moves from one
to the other, so only their sum is compared.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import NamedTuple

from agent.collectors.base import Collect, HostPaths, Labels, Metric, Sample
from agent.collectors.kernel import KernelFile, deltas, label, numbers, percent
from agent.collectors.options import Options

METRICS = (
    Metric("cpu_usage_percent", "gauge", "percent", "Share of the time of all cores that was not idle."),
    Metric("cpu_usage_per_core_percent", "gauge", "percent", "Share of a core's time that was not idle."),
    Metric("cpu_user_seconds_total", "counter", "seconds", "Time of all cores in user mode, without nice."),
    Metric(
        "cpu_system_seconds_total", "counter", "seconds", "Time of all cores in the kernel, without IRQs."
    ),
    Metric("cpu_idle_seconds_total", "counter", "seconds", "Time of all cores with nothing to do."),
    Metric("cpu_iowait_seconds_total", "counter", "seconds", "Time of all cores idle with I/O in flight."),
    Metric("load_average_1m", "gauge", "", "Tasks that run or wait for a core or a disk, mean of 1 minute."),
    Metric("load_average_5m", "gauge", "", "Tasks that run or wait for a core or a disk, mean of 5 minutes."),
    Metric(
        "load_average_15m", "gauge", "", "Tasks that run or wait for a core or a disk, mean of 15 minutes."
    ),
)

ALL: Labels = (("core", "all"),)


class Times(NamedTuple):
    """Clock ticks since boot. `busy` is all but idle and iowait; None is what the platform does not report."""

    user: int
    system: int
    idle: int
    iowait: int | None
    busy: int


def build(options: Options, paths: HostPaths) -> Collect:
    """Build the collector. A run reads both files; it raises OSError if it could read neither."""
    stat = KernelFile(f"{paths.proc}/stat", paths.report)
    loadavg = KernelFile(f"{paths.proc}/loadavg", paths.report)

    def read_times() -> dict[bytes, Times]:
        content = stat.read_or_none()
        return {} if content is None else stat.checked(parse_stat(content))

    def read_load() -> tuple[float, ...]:
        content = loadavg.read_or_none()
        return () if content is None else loadavg.checked(parse_loadavg(content))

    return cpu(os.sysconf("SC_CLK_TCK"), read_times, read_load)


def cpu(
    ticks_per_second: int,
    read_times: Callable[[], dict[bytes, Times]],
    read_load: Callable[[], tuple[float, ...]],
) -> Collect:
    """Build the collector from two readers: the times by core (b"" is all of them), and the three load averages."""
    before: dict[bytes, Times] = {}
    labels: dict[bytes, Labels] = {b"": ALL}

    def collect(now: float) -> list[Sample]:
        nonlocal before
        times, load = read_times(), read_load()
        if not times and not load:
            raise OSError("neither the processor times nor the load average can be read")
        samples = [Sample(name, value) for name, value in zip(LOAD_NAMES, load, strict=False)]
        if b"" in times:
            samples += counters(times[b""], ticks_per_second)
        for core, ticks in times.items():
            usage = usage_percent(before[core], ticks) if core in before else None
            if usage is not None:
                if core not in labels:
                    labels[core] = (("core", label(core)),)
                samples.append(
                    Sample("cpu_usage_per_core_percent" if core else "cpu_usage_percent", usage, labels[core])
                )
        if times:
            before = times
        return samples

    return collect


LOAD_NAMES = ("load_average_1m", "load_average_5m", "load_average_15m")


def counters(all_cores: Times, ticks_per_second: int) -> list[Sample]:
    """Return the cumulative times in seconds, to the hundredth, which is the kernel's tick."""
    user, system, idle, iowait, _ = all_cores
    samples = [
        Sample("cpu_user_seconds_total", round(user / ticks_per_second, 2)),
        Sample("cpu_system_seconds_total", round(system / ticks_per_second, 2)),
        Sample("cpu_idle_seconds_total", round(idle / ticks_per_second, 2)),
    ]
    if iowait is not None:
        samples.append(Sample("cpu_iowait_seconds_total", round(iowait / ticks_per_second, 2)))
    return samples


def usage_percent(before: Times, now: Times) -> float | None:
    """Return the share that was busy; None if no tick passed or the clocks went backwards."""
    grown = deltas(
        (before.busy, before.idle + (before.iowait or 0)), (now.busy, now.idle + (now.iowait or 0))
    )
    if grown is None or not any(grown):
        return None
    busy, idle = grown
    return percent(busy, busy + idle)


def parse_stat(content: bytes) -> tuple[dict[bytes, Times], int]:
    """Return the `cpu` lines of /proc/stat (proc_stat(5)) by core, b"" for all, and how many of them are malformed."""
    times, wrong = {}, 0
    # What follows the processors is long on a host with many interrupts.
    for line in content.partition(b"\nintr")[0].splitlines():
        if not line.startswith(b"cpu"):
            continue
        name, *fields = line.split()
        ticks = numbers(fields[:8])  # beyond: guest, which is in user
        if ticks is None or len(ticks) < 5:
            wrong += 1
            continue
        user, nice, system, idle, iowait, *rest = ticks
        times[name[3:]] = Times(user, system, idle, iowait, user + nice + system + sum(rest))
    return times, wrong or int(not times)


def parse_loadavg(content: bytes) -> tuple[tuple[float, ...], int]:
    """Return the three averages, and 0; or nothing and 1, if the line is malformed."""
    try:
        one, five, fifteen = map(float, content.split()[:3])
    except ValueError:
        return (), 1
    if not (0 <= one < math.inf and 0 <= five < math.inf and 0 <= fifteen < math.inf):
        return (), 1
    return (one, five, fifteen), 0
