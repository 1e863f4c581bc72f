"""Every series that the table below promises arrives in a real Prometheus: name, labels, plausible value.

The values are checked against /proc, /sys and statvfs, read here, without the collectors' help.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.collectors import COLLECTORS
from tests.support.agent import HOSTNAME, Agent
from tests.support.certs import Certs
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus

HOST_LABELS = {"environment": "production", "region": "eu-west", "datacenter": "dc1", "role": "gateway"}
COMMON = {"hostname", *HOST_LABELS}

TABLE = """
cpu_usage_percent core
cpu_usage_per_core_percent core
cpu_user_seconds_total
cpu_system_seconds_total
cpu_idle_seconds_total
cpu_iowait_seconds_total
load_average_1m
load_average_5m
load_average_15m
memory_total_bytes
memory_used_bytes
memory_free_bytes
memory_available_bytes
memory_cached_bytes
memory_buffers_bytes
memory_usage_percent
memory_oom_kills_total
swap_total_bytes
swap_used_bytes
swap_free_bytes
swap_usage_percent
disk_read_bytes_per_sec device
disk_write_bytes_per_sec device
disk_read_ops_per_sec device
disk_write_ops_per_sec device
disk_read_time_ms device
disk_write_time_ms device
disk_await_time_ms device
disk_io_util_percent device
disk_queue_length device
disk_read_bytes_total device
disk_written_bytes_total device
disk_reads_completed_total device
disk_writes_completed_total device
disk_io_time_seconds_total device
network_bytes_sent_per_sec interface
network_bytes_recv_per_sec interface
network_packets_sent_per_sec interface
network_packets_recv_per_sec interface
network_sent_bytes_total interface
network_received_bytes_total interface
network_sent_packets_total interface
network_received_packets_total interface
network_errors_in_total interface
network_errors_out_total interface
network_drops_in_total interface
network_drops_out_total interface
network_missed_in_total interface
network_unwanted_in_total interface
network_bandwidth_usage_percent interface
network_connections family state
disk_total_bytes device mountpoint fstype
disk_used_bytes device mountpoint fstype
disk_free_bytes device mountpoint fstype
disk_usage_percent device mountpoint fstype
inode_total device mountpoint fstype
inode_used device mountpoint fstype
inode_free device mountpoint fstype
inode_usage_percent device mountpoint fstype
disk_readonly device mountpoint fstype
host_boot_time_seconds
host_info kernel_release machine os
network_missed_in_total interface
network_unwanted_in_total interface
host_uptime_seconds
host_open_files
"""
NAMES = {line.split()[0]: set(line.split()[1:]) for line in TABLE.strip().splitlines()}
MAYBE = {
    metric.name for metric in COLLECTORS["sensors"].metrics
}  # what the hardware and the kernel of this machine have

Values = dict[tuple[str, str], float]


class Stored:
    """What Prometheus has of the host, with what the system said before and after."""

    def __init__(self, prometheus: Prometheus, before: Values, after: Values) -> None:
        found = prometheus.query(f'last_over_time({{hostname="{HOSTNAME}"}}[1m])')
        self.series = [(dict(labels), value) for labels, value in found.items()]
        self.before, self.after = before, after

    def of(self, name: str) -> list[tuple[dict[str, str], float]]:
        return [(labels, value) for labels, value in self.series if labels["__name__"] == name]


@pytest.fixture(scope="module")
def stored(
    tmp_path_factory: pytest.TempPathFactory, prometheus_program: Path, certs: Certs
) -> Iterator[Stored]:
    folder = tmp_path_factory.mktemp("metrics")
    prometheus = Prometheus(prometheus_program, folder / "prometheus", certs=certs)
    to = {"url": prometheus.write_url, "tls_config": {"ca_file": str(certs.ca)}, "name": "p"}
    agent = Agent(folder / "agent", [to], labels=HOST_LABELS)
    with prometheus:
        with agent:
            # Three rounds: rates are there from the second on.
            wait_for(lambda: len(rounds(agent)) >= 3, 20, "three rounds")
            before = system()
            reached = len(rounds(agent))
            wait_for(lambda: len(rounds(agent)) >= reached + 2, 20, "two more rounds")
            assert agent.stop() == 0
            after = system()
        assert agent.destination("p")["pending_samples"] == 0
        yield Stored(prometheus, before, after)


def rounds(agent: Agent) -> list[int]:
    found = agent.buffered()
    return next((sorted(at for at, _ in found[key]) for key in found if ("core", "all") in key), [])


def system() -> Values:
    """Read what the collectors should have read, in another way."""
    found: Values = {("load_average_1m", ""): os.getloadavg()[0]}
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, value = line.split(":")
        found["meminfo", key] = float(value.split()[0]) * 1024
    ticks = [int(f) for f in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    for name, at in (("user", 0), ("system", 2), ("idle", 3), ("iowait", 4)):
        found["cpu", name] = ticks[at] / os.sysconf("SC_CLK_TCK")
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        interface, rest = line.split(":")
        found["received", interface.strip()] = float(rest.split()[0])
        found["sent", interface.strip()] = float(rest.split()[8])
    for line in Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        found["read", fields[2]], found["written", fields[2]] = int(fields[5]) * 512, int(fields[9]) * 512
    root = os.statvfs("/")
    found["disk", "used"] = (root.f_blocks - root.f_bfree) * root.f_frsize
    found["disk", "total"] = root.f_blocks * root.f_frsize
    return found


def speed_is_known() -> bool:
    for file in Path("/sys/class/net").glob("*/speed"):
        try:
            if (file.parent / "device").exists() and int(file.read_text()) > 0:
                return True
        except (OSError, ValueError):
            continue
    return False


def disk_is_there() -> bool:
    return any(not re.match("loop|ram|zram|sr|fd", path.name) for path in Path("/sys/block").iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_it_arrives_with_its_labels(stored: Stored, name: str) -> None:
    if name == "network_bandwidth_usage_percent" and not speed_is_known():
        assert stored.of(name) == []  # absent where no link says its speed
        return
    if name.startswith("disk_") and NAMES[name] == {"device"} and not disk_is_there():
        pytest.skip("this machine has no disk of its own")
    found = stored.of(name)
    assert found
    for labels, value in found:
        assert set(labels) == {"__name__"} | COMMON | NAMES[name]
        assert {key: labels[key] for key in HOST_LABELS} == HOST_LABELS
        assert value >= 0
        if name.endswith("_percent"):
            assert value <= 100


def test_no_series_arrives_that_the_table_does_not_name(stored: Stored) -> None:
    names = {labels["__name__"] for labels, _ in stored.series}
    assert {name for name in names if not name.startswith("limpet_")} <= NAMES.keys() | MAYBE


def test_memory_agrees_with_the_kernel(stored: Stored) -> None:
    for name, key in (("total", "MemTotal"), ("free", "MemFree"), ("available", "MemAvailable")):
        [(_, value)] = stored.of(f"memory_{name}_bytes")
        about(value, stored.before["meminfo", key], stored.after["meminfo", key], 256 << 20)


def test_cpu_counters_are_between_two_readings(stored: Stored) -> None:
    for name in ("user", "system", "idle", "iowait"):
        [(_, value)] = stored.of(f"cpu_{name}_seconds_total")
        about(value, stored.before["cpu", name], stored.after["cpu", name], 0.05)


def test_network_counters_are_between_two_readings(stored: Stored) -> None:
    for name, key in (("received", "received"), ("sent", "sent")):
        for labels, value in stored.of(f"network_{name}_bytes_total"):
            interface = labels["interface"]
            about(value, stored.before[key, interface], stored.after[key, interface], 0)


def test_disk_counters_are_between_two_readings(stored: Stored) -> None:
    for name, key in (("read", "read"), ("written", "written")):
        for labels, value in stored.of(f"disk_{name}_bytes_total"):
            device = labels["device"]
            about(value, stored.before[key, device], stored.after[key, device], 0)


def test_the_root_file_system_is_there_as_statvfs_has_it(stored: Stored) -> None:
    found = {labels["mountpoint"]: value for labels, value in stored.of("disk_used_bytes")}
    if "/" not in found:
        pytest.skip("the root file system of this machine is of a kind that is left out")
    about(found["/"], stored.before["disk", "used"], stored.after["disk", "used"], 256 << 20)


def test_the_boot_time_is_the_kernels(stored: Stored) -> None:
    [(_, value)] = stored.of("host_boot_time_seconds")
    about(value, time.time() - time.clock_gettime(time.CLOCK_BOOTTIME), value, 5)


def about(value: float, first: float, second: float, tolerance: float) -> None:
    assert min(first, second) - tolerance <= value <= max(first, second) + tolerance
