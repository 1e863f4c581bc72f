from __future__ import annotations

from pathlib import Path

import pytest

from agent.collectors.disk_io import is_partition
from agent.collectors.kernel import MOST_NAMES, Names
from agent.collectors.links import parse_speed
from tests.support.hosts import Host, labeled, of, values

COUNTERS = {
    "network_sent_bytes_total", "network_received_bytes_total", "network_sent_packets_total",
    "network_received_packets_total", "network_errors_in_total", "network_errors_out_total",
    "network_drops_in_total", "network_drops_out_total", "network_missed_in_total", "network_unwanted_in_total",
}  # fmt: skip
RATES = {
    "network_bytes_sent_per_sec",
    "network_bytes_recv_per_sec",
    "network_packets_sent_per_sec",
    "network_packets_recv_per_sec",
}


def test_a_vm(tmp_path: Path) -> None:
    _, second = Host("vm", tmp_path).both("network")
    assert labeled(second, "interface") == {"eth0"}  # ifb0 and ifb1 are down, and have never counted
    assert of(second, interface="eth0") == {
        "network_sent_bytes_total": 553918,
        "network_received_bytes_total": 318997978,
        "network_sent_packets_total": 5388,
        "network_received_packets_total": 8481,
        "network_errors_in_total": 0,
        "network_errors_out_total": 0,
        "network_drops_in_total": 0,
        "network_drops_out_total": 0,
        "network_missed_in_total": 0,
        "network_unwanted_in_total": 0,
        "network_bytes_sent_per_sec": 237,
        "network_bytes_recv_per_sec": 24312,
        "network_packets_sent_per_sec": 2.6,
        "network_packets_recv_per_sec": 2.3,
    }


def test_a_gigabit_link(tmp_path: Path) -> None:
    first, second = Host("server", tmp_path).both("network")
    assert {name for name, labels in first if dict(labels).get("interface") == "eth0"} == COUNTERS
    assert of(second, interface="eth0") == {
        "network_sent_bytes_total": 2062500000,
        "network_received_bytes_total": 1125000000,
        "network_sent_packets_total": 850000,
        "network_received_packets_total": 1000000,
        "network_errors_in_total": 4,
        "network_errors_out_total": 2,
        "network_drops_in_total": 45,
        "network_drops_out_total": 37,
        "network_missed_in_total": 34,
        "network_unwanted_in_total": 11,
        "network_bytes_sent_per_sec": 6250000,
        "network_bytes_recv_per_sec": 12500000,
        "network_packets_sent_per_sec": 5000,
        "network_packets_recv_per_sec": 10000,
        "network_bandwidth_usage_percent": 10,  # 12.5 MB/s received are 100 Mbit/s of 1000
    }


def test_which_interfaces_and_which_rates(tmp_path: Path) -> None:
    _, second = Host("server", tmp_path).both("network")
    assert labeled(second, "interface") == {"eth0", "eth0.100", "eth0:1", "wlan0", "tun0"}
    assert set(of(second, interface="wlan0")) == COUNTERS | RATES  # speed -1
    assert set(of(second, interface="eth0.100")) == COUNTERS | RATES  # no file of a speed
    assert set(of(second, interface="tun0")) == COUNTERS  # went backwards
    assert of(second, interface="eth0:1")["network_bytes_sent_per_sec"] == 0


def test_exclusions_match_the_whole_name_and_replace_the_default(tmp_path: Path) -> None:
    first, _ = Host("server", tmp_path).both("network", exclude_interfaces=("eth0", "tun."))
    assert labeled(first, "interface") == {"lo", "eth0.100", "eth0:1", "wlan0", "veth12ab"}


def test_sockets_are_the_kernels_counters(tmp_path: Path) -> None:
    first, _ = Host("server", tmp_path).both("network")
    assert {
        (dict(labels)["family"], dict(labels)["state"]): value
        for (name, labels), value in first.items()
        if name == "network_connections"
    } == {
        ("tcp4", "in_use"): 40000,
        ("tcp6", "in_use"): 10000,
        ("udp4", "in_use"): 31,
        ("udp6", "in_use"): 21,
        ("tcp", "time_wait"): 3456,
        ("tcp", "orphan"): 12,
        ("tcp", "allocated"): 50123,
        ("tcp", "established"): 49321,
    }


@pytest.mark.parametrize(
    ("missing", "lost"),
    [("sockstat", 5), ("sockstat6", 2), ("snmp", 1)],
    ids=["sockstat", "sockstat6", "snmp"],
)
def test_a_missing_file_costs_its_series(tmp_path: Path, missing: str, lost: int) -> None:
    host = Host("server", tmp_path)
    whole = host.collector("network")(0.0)
    host.file(f"proc/net/{missing}").unlink()
    assert len(host.collector("network")(0.0)) == len(whole) - lost


def test_without_interfaces_there_are_sockets_and_without_both_an_error(tmp_path: Path) -> None:
    host = Host("server", tmp_path)
    host.file("proc/net/dev").unlink()
    assert {sample.name for sample in host.collector("network")(0.0)} == {"network_connections"}
    for name in ("sockstat", "sockstat6", "snmp"):
        host.file(f"proc/net/{name}").unlink()
    with pytest.raises(OSError, match="neither"):
        host.collector("network")(0.0)


def test_the_speed_is_read_again_after_a_minute(tmp_path: Path) -> None:
    host = Host("server", tmp_path)
    collect = host.collector("network")

    def usage(now: float) -> float:
        dev = host.file("proc/net/dev")
        line = next(line for line in dev.read_bytes().splitlines() if b" eth0:" in line)
        sent = line.split()[8]
        dev.write_bytes(dev.read_bytes().replace(sent, b"%d" % (int(sent) + 1_250_000_000)))
        return of(values(collect(now)), interface="eth0")["network_bandwidth_usage_percent"]

    collect(0.0)
    assert usage(10.0) == 100
    host.file("sys/class/net/eth0/speed").write_text("10000\n")
    assert usage(20.0) == 100
    assert usage(70.0) == 2  # over 50 s


def test_interfaces_that_come_and_go_do_not_fill_the_memory() -> None:
    names = Names("interface", lambda name: not name.startswith("veth"))
    kept = names[b"eth0"]
    assert kept == (("interface", "eth0"),)
    for run in range(30):
        names.begin()
        for n in range(MOST_NAMES // 10):
            assert names[b"veth%d" % (run * MOST_NAMES + n)] is None
        assert len(names) <= MOST_NAMES + MOST_NAMES // 10
    assert names[b"eth0"] == kept


def test_a_run_meets_more_names_than_are_remembered() -> None:
    names = Names("device", lambda name: True, is_partition)
    for _ in range(2):
        names.begin()
        for disk in range(MOST_NAMES):
            assert names[b"disk%dn" % disk]
            assert names[b"disk%dn1" % disk] is None  # its disk is remembered


@pytest.mark.parametrize(
    ("content", "speed"),
    [
        (b"1000\n", 1000),
        (b"-1\n", None),
        (b"0\n", None),
        (b"4294967295\n", None),
        (b"", None),
        (b"x\n", None),
    ],
)
def test_speed(content: bytes, speed: int | None) -> None:
    assert parse_speed(content) == speed
