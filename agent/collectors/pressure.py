"""Pressure: the share of the time in which tasks waited for a processor, for memory or for a disk, from /proc/pressure.

`some`: at least one task waited. `full`: all tasks that had work waited, so nothing got done. What node_exporter and the kernel
show as averages is here the share of the whole interval, from the kernel's sum of waiting time: a mean over any stretch is right.

Off unless the configuration names it: it says in more detail what load, memory and disk series say already. A kernel without it, or
one that was booted with `psi=0` (as Raspberry Pi OS is), has no series.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping

from agent.collectors.base import Collect, HostPaths, Metric, Sample, Trouble
from agent.collectors.kernel import LATE, number, read, reason
from agent.collectors.options import Options

METRICS = (
    Metric(
        "pressure_cpu_some_ratio",
        "gauge",
        "ratio",
        "Share of the time in which a task waited for a processor.",
    ),
    Metric(
        "pressure_memory_some_ratio", "gauge", "ratio", "Share of the time in which a task waited for memory."
    ),
    Metric(
        "pressure_memory_full_ratio",
        "gauge",
        "ratio",
        "Share of the time in which all tasks with work waited for memory.",
    ),
    Metric(
        "pressure_io_some_ratio", "gauge", "ratio", "Share of the time in which a task waited for a disk."
    ),
    Metric(
        "pressure_io_full_ratio",
        "gauge",
        "ratio",
        "Share of the time in which all tasks with work waited for a disk.",
    ),
)

KINDS: Mapping[str, tuple[str, ...]] = {"cpu": ("some",), "memory": ("some", "full"), "io": ("some", "full")}
"""The lines of each file that mean something: `full` of a processor is always 0, since something runs on it."""
IS_OFF = frozenset((errno.ENOENT, errno.EOPNOTSUPP))


def build(options: Options, paths: HostPaths, clock: Callable[[], float] = time.monotonic) -> Collect:
    """Build the collector. Its first run has no samples.

    `clock` is read after each file: a process can be stopped after its run began.
    """
    before: dict[str, tuple[int, float, float]] = {}

    def collect(now: float) -> list[Sample]:
        samples = []
        for kind, lines in KINDS.items():
            path = f"{paths.proc}/pressure/{kind}"
            try:
                waited, at = parse(read(path)), clock()
            except OSError as error:
                if error.errno not in IS_OFF:
                    paths.report(Trouble("file", path, reason(error)))
                waited, at = {}, 0.0
            else:
                if not waited:
                    paths.report(Trouble("file", path, "it has no line of the kernel's"))
            for line in lines:
                name = f"pressure_{kind}_{line}_ratio"
                last = before.pop(name, None)
                if line in waited:
                    before[name] = waited[line], now, at
                    seconds = max(now - last[1], at - last[2]) if last is not None else 0.0
                    if last is not None and (found := share(waited[line] - last[0], seconds)) is not None:
                        samples.append(Sample(name, found))
        return samples

    return collect


def parse(content: bytes) -> dict[str, int]:
    """Return by `some` and `full` the microseconds since boot in which tasks waited.

    What the kernel promises (accounting/psi.rst; kernel/sched/psi.c):

    - pressure_cpu_some_ratio, pressure_memory_some_ratio, pressure_memory_full_ratio, pressure_io_some_ratio,
      pressure_io_full_ratio: made of a sum that never falls, of the whole system. The kernel brings it up to date when it is
      read. In a container it is the host's.
    """
    found = {}
    for line in content.splitlines():
        name, *fields = line.split() or [b""]
        total = number(fields[-1].removeprefix(b"total=")) if fields else None
        if name in (b"some", b"full") and total is not None:
            found[name.decode()] = total
    return found


def share(microseconds: int, seconds: float) -> float | None:
    """Return the share, 4 digits; None where no time has passed, or where it is none that a late reading explains."""
    if seconds <= 0 or not 0 <= microseconds <= LATE * seconds * 1e6:
        return None
    return min(1.0, round(microseconds / 1e6 / seconds, 4))
