"""One contract over all collectors, on recorded hosts and on this machine."""

from __future__ import annotations

import math
import re
import sys
import time
from pathlib import Path

import msgspec
import pytest

from agent.collectors import COLLECTORS, HostPaths, Metric, Sample
from tests.support.hosts import READING, Host
from tools import metrics_page

ROWS: dict[str, Metric] = {metric.name: metric for kind in COLLECTORS.values() for metric in kind.metrics}

# The 47 required metrics, and the name of the series of each.
SPECIFIED = {
    "cpu_usage_percent": "cpu_usage_percent", "cpu_usage_per_core": "cpu_usage_per_core_percent",
    "cpu_user_time": "cpu_user_seconds_total", "cpu_system_time": "cpu_system_seconds_total",
    "cpu_idle_time": "cpu_idle_seconds_total", "cpu_iowait_time": "cpu_iowait_seconds_total",
    "load_average_1m": "load_average_1m", "load_average_5m": "load_average_5m",
    "load_average_15m": "load_average_15m", "memory_total": "memory_total_bytes",
    "memory_used": "memory_used_bytes", "memory_free": "memory_free_bytes",
    "memory_available": "memory_available_bytes", "memory_cached": "memory_cached_bytes",
    "memory_buffers": "memory_buffers_bytes", "memory_usage_percent": "memory_usage_percent",
    "swap_total": "swap_total_bytes", "swap_used": "swap_used_bytes", "swap_free": "swap_free_bytes",
    "swap_usage_percent": "swap_usage_percent", "disk_read_bytes": "disk_read_bytes_per_sec",
    "disk_write_bytes": "disk_write_bytes_per_sec", "disk_read_ops": "disk_read_ops_per_sec",
    "disk_write_ops": "disk_write_ops_per_sec", "disk_read_time": "disk_read_time_ms",
    "disk_write_time": "disk_write_time_ms", "disk_await_time": "disk_await_time_ms",
    "disk_io_util_percent": "disk_io_util_percent", "disk_queue_length": "disk_queue_length",
    "network_bytes_sent": "network_bytes_sent_per_sec",
    "network_bytes_recv": "network_bytes_recv_per_sec",
    "network_packets_sent": "network_packets_sent_per_sec",
    "network_packets_recv": "network_packets_recv_per_sec",
    "network_errors_in": "network_errors_in_total", "network_errors_out": "network_errors_out_total",
    "network_drops_in": "network_drops_in_total", "network_drops_out": "network_drops_out_total",
    "network_bandwidth_usage": "network_bandwidth_usage_percent",
    "network_connections": "network_connections", "disk_total": "disk_total_bytes",
    "disk_used": "disk_used_bytes", "disk_free": "disk_free_bytes",
    "disk_usage_percent": "disk_usage_percent", "inode_total": "inode_total",
    "inode_used": "inode_used", "inode_free": "inode_free",
    "inode_usage_percent": "inode_usage_percent",
}  # fmt: skip
# What is not required.
MORE = {
    "memory_oom_kills_total", "disk_read_bytes_total", "disk_written_bytes_total",
    "disk_reads_completed_total", "disk_writes_completed_total", "disk_io_time_seconds_total",
    "network_sent_bytes_total", "network_received_bytes_total", "network_sent_packets_total",
    "network_received_packets_total", "network_missed_in_total", "network_unwanted_in_total",
    "host_boot_time_seconds", "host_info", "disk_readonly", "memory_zfs_arc_bytes",
    "sensor_temperature_celsius", "sensor_throttled", "sensor_undervoltage", "host_uptime_seconds", "host_open_files",
    "host_open_files_max", "host_conntrack_entries", "host_conntrack_entries_max", "host_entropy_bits",
    "pressure_cpu_some_ratio", "pressure_memory_some_ratio", "pressure_memory_full_ratio", "pressure_io_some_ratio",
    "pressure_io_full_ratio", "link_default_routes", "link_gateway_up", "link_gateway_answer_ms", "link_dns_up",
    "link_dns_answer_ms",
}  # fmt: skip
COUNTERS = {name for name in MORE if name.endswith("_total")} | {
    SPECIFIED[name]
    for name in SPECIFIED
    if name.startswith(("network_errors", "network_drops")) or name in ("cpu_user_time", "cpu_system_time")
} | {"cpu_idle_seconds_total", "cpu_iowait_seconds_total"}  # fmt: skip
UNITS = ("bytes", "seconds", "percent", "bytes_per_sec", "ops_per_sec", "packets_per_sec", "packets", "ms",
         "celsius", "ratio", "bits")  # fmt: skip
DIGITS = {
    "celsius": 1,
    "ratio": 4,
    "percent": 2,
    "ms": 2,
    "ops_per_sec": 2,
    "packets_per_sec": 2,
    "seconds": 3,
    "": 2,
}


def runs(host: Host) -> list[tuple[str, Sample]]:
    """By collector, everything that two runs return, on the two readings of a host."""
    collects = {name: host.collector(name) for name in COLLECTORS}
    found = [(name, sample) for name, collect in collects.items() for sample in collect(0.0)]
    host.show("second")
    return found + [(name, sample) for name, collect in collects.items() for sample in collect(10.0)]


def live() -> list[tuple[str, Sample]]:
    collects = {name: kind.build(kind.options(), HostPaths()) for name, kind in READING.items()}
    found = [(name, sample) for name, collect in collects.items() for sample in collect(time.monotonic())]
    return found + [
        (name, sample) for name, collect in collects.items() for sample in collect(time.monotonic())
    ]


@pytest.fixture(params=["vm", "server", "this machine"])
def returned(request: pytest.FixtureRequest, tmp_path: Path) -> list[tuple[str, Sample]]:
    return live() if request.param == "this machine" else runs(Host(request.param, tmp_path))


def test_the_tables_hold_what_is_specified_and_nothing_else() -> None:
    assert len(SPECIFIED) == 47
    assert set(ROWS) == set(SPECIFIED.values()) | MORE
    assert sum(len(kind.metrics) for kind in COLLECTORS.values()) == len(ROWS)


def test_every_row_says_what_it_is() -> None:
    for name, metric in ROWS.items():
        assert metric.type == ("counter" if name in COUNTERS else "gauge"), name
        assert metric.type == "gauge" or name.endswith("_total"), name
        plain = name.removesuffix("_total") if metric.type == "counter" else name
        plain = re.sub("_(sent|recv)_per_sec$", "_per_sec", plain)  # the order of words in the requirement
        fitting = [unit for unit in UNITS if plain.endswith(f"_{unit}")]
        assert metric.unit == max(fitting, key=len, default=""), name
        assert metric.help.endswith("."), name


def test_every_sample_has_its_row_its_labels_and_its_digits(returned: list[tuple[str, Sample]]) -> None:
    for collector, (name, value, labels) in returned:
        assert name in {metric.name for metric in COLLECTORS[collector].metrics}
        assert isinstance(value, float)
        assert math.isfinite(value)
        assert value >= 0 or name == "sensor_temperature_celsius"
        assert tuple(sorted(labels)) == labels
        assert tuple(key for key, _ in labels) == metrics_page.labels_of(name), name
        assert all(text for _, text in labels)
        digits = DIGITS.get(ROWS[name].unit, 0)
        assert round(value * 10**digits) / 10**digits == value, name
        if ROWS[name].unit == "percent" and name != "network_bandwidth_usage_percent":  # a speed can be a lie
            assert value <= 100


def test_every_series_of_the_tables_is_returned(tmp_path: Path) -> None:
    names = {sample.name for _, sample in runs(Host("server", tmp_path)) + live()}
    assert names == {metric.name for kind in READING.values() for metric in kind.metrics}


def test_a_series_is_the_same_object_in_every_run() -> None:
    for name, kind in READING.items():
        collect = kind.build(kind.options(), HostPaths())
        one, other = ({(s.name, s.labels): s for s in collect(time.monotonic())} for _ in range(2))
        assert one or name == "pressure", name  # all it has is over an interval
        for key in one.keys() & other.keys():
            assert one[key].labels is other[key].labels
            assert sys.intern(one[key].name) is other[key].name


def test_two_of_the_same_kind_are_independent(tmp_path: Path) -> None:
    host = Host("vm", tmp_path)
    for name in COLLECTORS:
        one, other = host.collector(name), host.collector(name)
        first = {(s.name, s.labels) for s in one(0.0)}
        assert {(s.name, s.labels) for s in other(10.0)} == first  # no rates from what the other remembers


def test_options_refuse_what_they_do_not_know_and_what_is_no_pattern() -> None:
    for kind in COLLECTORS.values():
        with pytest.raises(msgspec.ValidationError, match="unknown field"):
            msgspec.convert({"exclude_everything": []}, kind.options)
        for key in kind.options.__struct_fields__:
            if not key.startswith(("include_", "exclude_")):
                continue
            with pytest.raises(msgspec.ValidationError, match=rf"{key}: '\[a' is not a regular expression"):
                msgspec.convert({key: ["ok.*", "[a"]}, kind.options)
            assert getattr(msgspec.convert({key: ["a", "b.*"]}, kind.options), key) == ("a", "b.*")


def test_the_page_is_made_from_the_tables() -> None:
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert page.read_text() == metrics_page.page(), (
        "make it again: python -m tools.metrics_page > docs/metrics.md"
    )


@pytest.mark.parametrize("name", COLLECTORS)
def test_a_reader_documents_what_the_kernel_promises_for_each_series(name: str) -> None:
    said = [one for _, items in metrics_page.promises(name) for names, _ in items for one in names]
    assert sorted(said) == sorted(metric.name for metric in COLLECTORS[name].metrics)
    for source, items in metrics_page.promises(name):
        assert source and all(text.endswith(".") for _, text in items)
