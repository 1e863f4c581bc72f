"""The host's metrics as OpenTelemetry's semantic conventions name them: one table, pure.

Source: github.com/open-telemetry/semantic-conventions, model/system/metrics.yaml (commit 0108c1b8cc12, "system.*", in development).
A metric that has no name there keeps its own, and so does every series of a scraped target, which has the label `job`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

GAUGE, COUNTER, UP_DOWN = 0, 1, 2
"""What a metric is: a gauge, a monotonic sum, a sum that may fall."""

LOGICAL_NUMBER = "cpu.logical_number"
"""The attribute that is a number; all others are texts."""


class Meaning(NamedTuple):
    """A metric as the conventions have it. `labels` gives attributes by labels; a value is divided by `divisor`."""

    name: str
    unit: str
    kind: int
    attributes: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    divisor: float = 1.0


_DEVICE = {"device": "system.device"}
_MOUNT = {**_DEVICE, "fstype": "system.filesystem.type", "mountpoint": "system.filesystem.mountpoint"}
_INTERFACE = {"interface": "network.interface.name"}
_CPU, _MEMORY, _PAGING = "cpu.mode", "system.memory.state", "system.paging.state"
_STATE, _DISK, _NETWORK = "system.filesystem.state", "disk.io.direction", "network.io.direction"


def _memory(state: str) -> Meaning:
    return Meaning("system.memory.usage", "By", UP_DOWN, {_MEMORY: state})


def _disk(name: str, unit: str, direction: str) -> Meaning:
    return Meaning(f"system.disk.{name}", unit, COUNTER, {_DISK: direction}, _DEVICE)


def _network(name: str, unit: str, direction: str, labels: Mapping[str, str] = _INTERFACE) -> Meaning:
    return Meaning(f"system.network.{name}", unit, COUNTER, {_NETWORK: direction}, labels)


TABLE: Mapping[str, Meaning] = {
    "cpu_usage_percent": Meaning("system.cpu.utilization", "1", GAUGE, {}, {"core": ""}, 100),
    "cpu_usage_per_core_percent": Meaning(
        "system.cpu.utilization", "1", GAUGE, {}, {"core": LOGICAL_NUMBER}, 100
    ),
    **{
        f"cpu_{mode}_seconds_total": Meaning("system.cpu.time", "s", COUNTER, {_CPU: mode}, {"core": ""})
        for mode in ("user", "system", "idle", "iowait")
    },
    "memory_total_bytes": Meaning("system.memory.limit", "By", UP_DOWN),
    "memory_used_bytes": _memory("used"),
    "memory_free_bytes": _memory("free"),
    "memory_cached_bytes": _memory("cached"),
    "memory_buffers_bytes": _memory("buffers"),
    "memory_usage_percent": Meaning("system.memory.utilization", "1", GAUGE, {_MEMORY: "used"}, {}, 100),
    "swap_used_bytes": Meaning("system.paging.usage", "By", UP_DOWN, {_PAGING: "used"}),
    "swap_free_bytes": Meaning("system.paging.usage", "By", UP_DOWN, {_PAGING: "free"}),
    "swap_usage_percent": Meaning("system.paging.utilization", "1", GAUGE, {_PAGING: "used"}, {}, 100),
    "disk_read_bytes_total": _disk("io", "By", "read"),
    "disk_written_bytes_total": _disk("io", "By", "write"),
    "disk_reads_completed_total": _disk("operations", "{operation}", "read"),
    "disk_writes_completed_total": _disk("operations", "{operation}", "write"),
    "disk_io_time_seconds_total": Meaning("system.disk.io_time", "s", COUNTER, {}, _DEVICE),
    "disk_total_bytes": Meaning("system.filesystem.limit", "By", UP_DOWN, {}, _MOUNT),
    "disk_used_bytes": Meaning("system.filesystem.usage", "By", UP_DOWN, {_STATE: "used"}, _MOUNT),
    "disk_free_bytes": Meaning("system.filesystem.usage", "By", UP_DOWN, {_STATE: "free"}, _MOUNT),
    "disk_usage_percent": Meaning("system.filesystem.utilization", "1", GAUGE, {_STATE: "used"}, _MOUNT, 100),
    "network_sent_bytes_total": _network("io", "By", "transmit"),
    "network_received_bytes_total": _network("io", "By", "receive"),
    "network_sent_packets_total": _network(
        "packet.count", "{packet}", "transmit", {"interface": "system.device"}
    ),
    "network_received_packets_total": _network(
        "packet.count", "{packet}", "receive", {"interface": "system.device"}
    ),
    "network_errors_out_total": _network("errors", "{error}", "transmit"),
    "network_errors_in_total": _network("errors", "{error}", "receive"),
    "network_drops_out_total": _network("packet.dropped", "{packet}", "transmit"),
    "network_drops_in_total": _network("packet.dropped", "{packet}", "receive"),
    "host_uptime_seconds": Meaning("system.uptime", "s", GAUGE),
}


def meaning(labels: Mapping[str, str]) -> Meaning | None:
    """Return what a series means by its final labels, `__name__` among them; None where it keeps its name."""
    return None if "job" in labels else TABLE.get(labels["__name__"])


def attributes(meant: Meaning, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes of a series by its labels, without its name."""
    found = {meant.labels.get(key, key): value for key, value in labels.items()}
    found.pop("", None)
    return {**found, **meant.attributes}
