"""The processors and the load, from /proc/stat and /proc/loadavg.

Usage is the share of the ticks since the last run that was not idle. Waiting for I/O counts as idle; time of
guests is already part of user. The four counters are the kernel's fields of the same name: `user` is without
`nice`. Idle and iowait are one clock that the kernel divides between two fields, and sometimes moves from one
to the other, so usage compares only their sum.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from agent.collectors.base import Collect, HostPaths, Labels, Metric, Report, Sample, Trouble, ignore
from agent.collectors.kernel import KernelFile, label, numbers, percent
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

ROUNDING = 2
"""Ticks by which a sum of fields can seem to fall, because the kernel rounds each field down."""
RESTARTED = 3
"""Seconds that a core's sums fall by only where it counts from another number than before."""
SLOWEST = 2
"""Times the interval that a core may count in it, in addition to RESTARTED: a run may read late."""


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

    return cpu(os.sysconf("SC_CLK_TCK"), read_times, read_load, paths.report)


def cpu(
    ticks_per_second: int,
    read_times: Callable[[], dict[bytes, Times]],
    read_load: Callable[[], tuple[float, ...]],
    tell: Report = ignore,
    clock: Callable[[], float] = time.monotonic,
) -> Collect:
    """Build the collector from two readers: the times by core (b"" is all of them), and the three load averages.

    `clock` is read after the times: a process can be stopped after its run began.
    """
    cores = Cores(ticks_per_second)
    labels: dict[bytes, Labels] = {b"": ALL}

    def collect(now: float) -> list[Sample]:
        times, read_at, load = read_times(), clock(), read_load()
        if not times and not load:
            raise OSError("neither the processor times nor the load average can be read")
        samples = [Sample(name, value) for name, value in zip(LOAD_NAMES, load, strict=False)]
        if times:
            usage, leaps = cores.step(now, times, read_at)
            samples += counters(cores.total, ticks_per_second)
            for core, percentage in usage.items():
                if core not in labels:
                    labels[core] = (("core", label(core)),)
                name = "cpu_usage_per_core_percent" if core else "cpu_usage_percent"
                samples.append(Sample(name, percentage, labels[core]))
            if leaps:
                tell(Trouble("file", "/proc/stat", f"{leaps} of its cores counted more time than has passed"))
        return samples

    return collect


LOAD_NAMES = ("load_average_1m", "load_average_5m", "load_average_15m")
NAMES = (
    "cpu_user_seconds_total",
    "cpu_system_seconds_total",
    "cpu_idle_seconds_total",
    "cpu_iowait_seconds_total",
)


class Cores:
    """What all cores have counted since boot: `total`, whose fields never fall, whatever the kernel's do.

    It begins with the kernel's sum, and grows by what each core counts between two runs in a row. So a core that is
    taken away keeps its share, and one that is new or back adds what it counts from its second run on.
    """

    def __init__(self, ticks_per_second: int) -> None:
        self.total: list[int] = []
        """In ticks, in the order of NAMES."""
        self._ticks_per_second, self._at, self._read_at = ticks_per_second, 0.0, 0.0
        self._before: dict[bytes, Times] = {}
        self._followed: dict[bytes, tuple[int, ...]] = {}

    def step(
        self, now: float, times: Mapping[bytes, Times], read_at: float
    ) -> tuple[dict[bytes, float], int]:
        """Return the usage in percent by core, where it is known, and how many cores leaped ahead of the clock.

        `now` is when the run began, and `read_at` is by a clock that was read after the times; only their differences count.
        """
        cores = {core: ticks for core, ticks in times.items() if core} or times
        if not self.total:
            known = [times[b""]] if b"" in times else cores.values()
            self.total = list(map(sum, zip(*map(counted, known), strict=True)))
        passed = max(0.0, now - self._at, read_at - self._read_at)
        most = self._ticks_per_second * (RESTARTED + SLOWEST * passed)
        least = -self._ticks_per_second * RESTARTED
        usage: dict[bytes, float] = {}
        leaps, all_busy, all_idle = 0, 0, 0
        for core, ticks in cores.items():
            before, followed = self._before.get(core), self._followed.get(core)
            self._followed[core] = counted(ticks)
            if before is None or followed is None:
                continue
            busy, idle = ticks.busy - before.busy, idle_of(ticks) - idle_of(before)
            if min(busy, idle) < least or busy + idle > most:
                leaps += busy + idle > most
                continue
            self._followed[core] = latest = follow(followed, ticks)
            self.total = [t + new - old for t, new, old in zip(self.total, latest, followed, strict=True)]
            busy, idle = (0 if -ROUNDING <= grown < 0 else grown for grown in (busy, idle))
            if min(busy, idle) >= 0 and busy + idle > 0:
                usage[core] = percent(busy, busy + idle)
                all_busy, all_idle = all_busy + busy, all_idle + idle
        if all_busy + all_idle > 0:
            usage[b""] = percent(all_busy, all_busy + all_idle)
        self._before, self._at, self._read_at = dict(cores), now, read_at
        return usage, leaps


def counted(ticks: Times) -> tuple[int, ...]:
    """Return the fields that are series of their own, in the order of NAMES."""
    fields = ticks.user, ticks.system, ticks.idle
    return fields if ticks.iowait is None else (*fields, ticks.iowait)


def follow(before: tuple[int, ...], ticks: Times) -> tuple[int, ...]:
    """Return the fields that are series, where `before` are those of the run before: none falls.

    Idle and iowait grow together by what their sum grows, however the kernel divides it.
    """
    user, system, idle, *rest = before
    iowait = sum(rest)
    grown = max(0, idle_of(ticks) - idle - iowait)
    waited = min(max(0, (ticks.iowait or 0) - iowait), grown)
    fields = max(user, ticks.user), max(system, ticks.system), idle + grown - waited
    return fields if ticks.iowait is None else (*fields, iowait + waited)


def idle_of(ticks: Times) -> int:
    """Return the ticks with nothing to run."""
    return ticks.idle + (ticks.iowait or 0)


def counters(total: Sequence[int], ticks_per_second: int) -> list[Sample]:
    """Return the cumulative times in seconds, to the hundredth, which is the kernel's tick."""
    return [
        Sample(name, round(ticks / ticks_per_second, 2)) for name, ticks in zip(NAMES, total, strict=False)
    ]


def parse_stat(content: bytes) -> tuple[dict[bytes, Times], int]:
    """Return the `cpu` lines of /proc/stat by core, b"" for all, and how many of them are malformed.

    What the kernel promises (proc_stat(5); fs/proc/stat.c and kernel/time/tick-sched.c):

    - cpu_user_seconds_total, cpu_system_seconds_total: 64 bits, in ticks since boot. The sum of all cores falls
      in some containers (lxcfs) when a core is taken away, and leaps when it comes back.
    - cpu_idle_seconds_total, cpu_iowait_seconds_total: may fall. A sleep that began with I/O in flight moves from iowait
      to idle when the task wakes on another core, and before Linux 6.8 a core that was offline begins again.
    - cpu_usage_percent, cpu_usage_per_core_percent: idle and iowait together do not fall but by rounding. Stolen time,
      which is busy time here, comes from the hypervisor: after a migration it may fall, or leap by 2^64. Such an
      interval has no usage.
    """
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
    """Return the three averages, and 0; or nothing and 1, if the line is malformed.

    What the kernel promises (proc_loadavg(5); kernel/sched/loadavg.c):

    - load_average_1m, load_average_5m, load_average_15m: sampled every 5 s, with 2 decimals, never below 0. They count tasks
      of all cores, those that wait for a disk or a dead network mount included. In a container they are the host's.
    """
    try:
        one, five, fifteen = map(float, content.split()[:3])
    except ValueError:
        return (), 1
    if not (0 <= one < math.inf and 0 <= five < math.inf and 0 <= fifteen < math.inf):
        return (), 1
    return (one, five, fifteen), 0
