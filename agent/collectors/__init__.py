"""The collectors, by the name they have in the configuration. Every one of them is here, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping

from agent.collectors import cpu, disk_io, disk_usage, host, link, memory, network, pressure, sensors
from agent.collectors.base import (
    LINUX,
    Collect,
    CollectorKind,
    HostPaths,
    Labels,
    Metric,
    MetricType,
    Sample,
    Trouble,
)
from agent.collectors.options import DiskIoOptions, DiskUsageOptions, NetworkOptions, Options, SensorsOptions

__all__ = [
    "COLLECTORS",
    "Collect",
    "CollectorKind",
    "HostPaths",
    "Labels",
    "Metric",
    "MetricType",
    "Options",
    "Sample",
    "Trouble",
]

_LINUX = {
    "cpu": CollectorKind(cpu.METRICS, Options, cpu.build),
    "memory": CollectorKind(memory.METRICS, Options, memory.build),
    "disk_io": CollectorKind(disk_io.METRICS, DiskIoOptions, disk_io.build),
    "network": CollectorKind(network.METRICS, NetworkOptions, network.build),
    "disk_usage": CollectorKind(disk_usage.METRICS, DiskUsageOptions, disk_usage.build),
    "host": CollectorKind(host.METRICS, Options, host.build),
    "sensors": CollectorKind(sensors.METRICS, SensorsOptions, sensors.build),
    "pressure": CollectorKind(pressure.METRICS, Options, pressure.build),
    "link": CollectorKind(link.METRICS, Options, link.build),
}


def _portable() -> dict[str, CollectorKind]:
    from agent.collectors import portable

    return {name: kind._replace(build=portable.BUILD[name]) for name, kind in _LINUX.items()}


COLLECTORS: Mapping[str, CollectorKind] = _LINUX if LINUX else _portable()
