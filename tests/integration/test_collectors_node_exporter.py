"""Counter by counter against a real node_exporter: on this machine at the same moment, on recorded hosts, and made-up ones."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from agent.collectors import COLLECTORS, HostPaths
from tests.support.hosts import HOSTS, KINDS, READING, Values, expected, labeled, of, values
from tests.support.node_exporter import Exposed, NodeExporter
from tests.support.trees import CORES, Tree
from tools.servers import ServerError, ensure

MIB = 1024 * 1024

# Ours, and theirs: the name, and their labels where they have some that say the same in another way.
PLAIN = {
    "load_average_1m": "node_load1",
    "load_average_5m": "node_load5",
    "load_average_15m": "node_load15",
    "memory_total_bytes": "node_memory_MemTotal_bytes",
    "memory_free_bytes": "node_memory_MemFree_bytes",
    "memory_available_bytes": "node_memory_MemAvailable_bytes",
    "memory_buffers_bytes": "node_memory_Buffers_bytes",
    "swap_total_bytes": "node_memory_SwapTotal_bytes",
    "swap_free_bytes": "node_memory_SwapFree_bytes",
    "memory_oom_kills_total": "node_vmstat_oom_kill",
    "host_boot_time_seconds": "node_boot_time_seconds",
}
OF_CORES = {
    "cpu_user_seconds_total": "user",
    "cpu_system_seconds_total": "system",
    "cpu_idle_seconds_total": "idle",
    "cpu_iowait_seconds_total": "iowait",
}
OF_DISK = {
    "disk_read_bytes_total": "node_disk_read_bytes_total",
    "disk_written_bytes_total": "node_disk_written_bytes_total",
    "disk_reads_completed_total": "node_disk_reads_completed_total",
    "disk_writes_completed_total": "node_disk_writes_completed_total",
    "disk_io_time_seconds_total": "node_disk_io_time_seconds_total",
}
OF_INTERFACE = {
    "network_sent_bytes_total": "node_network_transmit_bytes_total",
    "network_received_bytes_total": "node_network_receive_bytes_total",
    "network_sent_packets_total": "node_network_transmit_packets_total",
    "network_received_packets_total": "node_network_receive_packets_total",
    "network_errors_in_total": "node_network_receive_errs_total",
    "network_errors_out_total": "node_network_transmit_errs_total",
    "network_drops_in_total": "node_network_receive_drop_total",
    "network_drops_out_total": "node_network_transmit_drop_total",
}
OF_FILE_SYSTEM = {
    "disk_total_bytes": "node_filesystem_size_bytes",
    "disk_free_bytes": "node_filesystem_avail_bytes",
    "inode_total": "node_filesystem_files",
    "inode_free": "node_filesystem_files_free",
}
SOCKETS = {
    ("tcp4", "in_use"): "node_sockstat_TCP_inuse",
    ("tcp6", "in_use"): "node_sockstat_TCP6_inuse",
    ("udp4", "in_use"): "node_sockstat_UDP_inuse",
    ("udp6", "in_use"): "node_sockstat_UDP6_inuse",
    ("tcp", "time_wait"): "node_sockstat_TCP_tw",
    ("tcp", "orphan"): "node_sockstat_TCP_orphan",
    ("tcp", "allocated"): "node_sockstat_TCP_alloc",
    ("tcp", "established"): "node_netstat_Tcp_CurrEstab",
}
# What rises and falls, so that it need not lie between two readings, with what it may change by meanwhile.
MOVING = {
    "memory_free_bytes": 256 * MIB,
    "memory_available_bytes": 256 * MIB,
    "memory_buffers_bytes": 64 * MIB,
    "memory_cached_bytes": 256 * MIB,
    "memory_used_bytes": 256 * MIB,
    "swap_free_bytes": 64 * MIB,
    "disk_free_bytes": 256 * MIB,
    "disk_used_bytes": 256 * MIB,
    "inode_used": 20_000,
    "inode_free": 20_000,
    "inode_total": 0,
    "load_average_1m": 1.0,
    "load_average_5m": 0.5,
    "load_average_15m": 0.25,
    "host_boot_time_seconds": 1,
    "network_connections": 1000,
}


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return ensure("node-exporter").path
    except ServerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def exporter(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeExporter]:
    with NodeExporter(program, tmp_path_factory.mktemp("node_exporter")) as running:
        yield running


def theirs(exposed: Exposed, mine: Values) -> Values:
    """For each of our series that node_exporter has too, under our name and labels, its value."""
    found: Values = {}
    for name, labels in mine:
        told = dict(labels)
        key: tuple[str, tuple[tuple[str, str], ...]] | None = None
        if name in PLAIN:
            key = PLAIN[name], ()
        elif name in OF_DISK:
            key = OF_DISK[name], labels
        elif name in OF_INTERFACE:
            key = OF_INTERFACE[name], (("device", told["interface"]),)
        elif name == "network_connections":
            key = SOCKETS[told["family"], told["state"]], ()
        if key is not None and key in exposed:
            found[name, labels] = exposed[key]
        elif name in OF_CORES:
            modes = [
                value
                for (n, has), value in exposed.items()
                if n == "node_cpu_seconds_total" and dict(has)["mode"] == OF_CORES[name]
            ]
            found[name, labels] = sum(modes)
        elif name == "memory_cached_bytes":
            parts = ("node_memory_Cached_bytes", "node_memory_SReclaimable_bytes")
            found[name, labels] = sum(exposed[part, ()] for part in parts)
    return found


def file_systems(exposed: Exposed, mine: Values) -> Values:
    """The same for file systems, by mount point."""
    told: dict[tuple[str, str], float] = {}
    for (name, labels), value in exposed.items():
        if name.startswith("node_filesystem") and "mountpoint" in dict(labels):
            told[name, dict(labels)["mountpoint"]] = value
    found: Values = {}
    for name, labels in mine:
        mountpoint = dict(labels).get("mountpoint", "")
        if (OF_FILE_SYSTEM.get(name, ""), mountpoint) in told:
            found[name, labels] = told[OF_FILE_SYSTEM[name], mountpoint]
        elif name == "disk_used_bytes":
            size, free = (told[f"node_filesystem_{what}_bytes", mountpoint] for what in ("size", "free"))
            found[name, labels] = size - free
    return found


def collected(paths: HostPaths | None = None) -> Values:
    """What all collectors return; of another tree than this machine's all but the file systems."""
    found: Values = {}
    for name, kind in READING.items():
        if paths is None or name != "disk_usage":
            found |= values(kind.build(kind.options(), paths or HostPaths())(0.0))
    return found


def test_this_machine_at_the_same_moment(exporter: NodeExporter) -> None:
    """Theirs is read between two readings of ours: a counter of theirs lies between, or is one of ours."""
    before = collected()
    exposed = exporter.read()
    after = collected()
    told = theirs(exposed, before) | file_systems(exposed, before)
    cores = sum(name == "node_cpu_seconds_total" and ("mode", "idle") in labels for name, labels in exposed)
    for key, value in told.items():
        name = key[0]
        low, high = sorted((before[key], after.get(key, before[key])))
        # Theirs is a sum over cores, each of which the kernel rounds down to a tick.
        room = MOVING.get(name, 0.01 * cores + 0.01 if name in OF_CORES else 0)
        assert low - room - 1e-6 <= value <= high + room + 1e-6, key
    compared = {name for name, _ in told}
    assert compared >= {*PLAIN, *OF_CORES, "memory_cached_bytes", "network_connections", *OF_INTERFACE}
    if labeled(before, "device"):
        assert compared >= {*OF_DISK, *OF_FILE_SYSTEM} or not of(before)


FLAGS = ("--no-collector.filesystem", "--no-collector.netdev.netlink")


def prepared(root: Path, host: str, cores: Iterable[object]) -> None:
    """Copy a recorded host, and add what node_exporter needs in addition, and ends without."""
    shutil.copytree(HOSTS / host / "second", root)
    (root / "proc/net/netstat").touch()
    (root / "proc/net/snmp6").touch()
    for core in cores:
        online = root / f"sys/devices/system/cpu/cpu{core}/online"
        online.parent.mkdir(parents=True)
        online.write_text("1\n")


@pytest.mark.parametrize("host", KINDS)
def test_the_recorded_hosts(program: Path, tmp_path: Path, host: str) -> None:
    """Theirs are of the same files, so they are the same to the last digit."""
    root = tmp_path / host
    cores = {dict(labels).get("core", "all") for _, labels in expected(host, "second")} - {"all"} | {"0"}
    prepared(root, host, cores)
    with NodeExporter(program, tmp_path, str(root / "proc"), str(root / "sys"), FLAGS) as exporter:
        exposed = exporter.read()
    mine = expected(host, "second")
    told = theirs(exposed, mine)
    assert {
        key: value for key, value in told.items() if mine[key] != pytest.approx(value, rel=1e-12, abs=1e-6)
    } == {}
    compared = {name for name, _ in told}
    missing = {"memory_available_bytes", "memory_oom_kills_total"} if host == "noswap" else set()
    assert (
        compared >= {*PLAIN, *OF_CORES, *OF_INTERFACE, "memory_cached_bytes", "network_connections"} - missing
    )
    assert (compared >= OF_DISK.keys()) == (host != "microvm")


def test_made_up_trees(program: Path, tmp_path: Path) -> None:
    """Numbers of any size in the files of a recorded host; DIFFERENTIAL_SEED and DIFFERENTIAL_COUNT make others, and more."""
    seed, count = (
        int(os.environ.get("DIFFERENTIAL_SEED", "1")),
        int(os.environ.get("DIFFERENTIAL_COUNT", "60")),
    )
    dice, compared = random.Random(seed), set[str]()
    root = tmp_path / "host"
    prepared(root, "laptop", range(CORES))
    tree = Tree(root / "proc", dice)
    with NodeExporter(program, tmp_path, str(root / "proc"), str(root / "sys"), FLAGS) as exporter:
        for number in range(count):
            tree.make_up()
            mine = collected(HostPaths(str(root / "proc"), str(root / "sys")))
            told = theirs(exporter.read(), mine)
            wrong = {
                key: (mine[key], value)
                for key, value in told.items()
                if mine[key] != pytest.approx(value, rel=1e-12, abs=1e-6)
            }
            assert wrong == {}, f"seed {seed}, tree {number}"
            compared |= {name for name, _ in told}
    print(f"seed {seed}: {count} trees of /proc, {len(compared)} names compared")
    assert compared >= {
        *PLAIN,
        *OF_CORES,
        *OF_DISK,
        *OF_INTERFACE,
        "memory_cached_bytes",
        "network_connections",
    }


def test_df_reports_the_same_for_every_mount() -> None:
    """`df` and `df -i` of all that is mounted here, tmpfs and all, which are left out by default."""
    kind = COLLECTORS["disk_usage"]
    options = kind.options(exclude_fstypes=())
    found = values(kind.build(options, HostPaths())(0.0))
    if not found:
        pytest.skip("nothing that stores something is mounted here")
    for mountpoint in labeled(found, "mountpoint"):
        mine = {
            name: value for (name, labels), value in found.items() if dict(labels)["mountpoint"] == mountpoint
        }
        columns = "size,used,avail,itotal,iused,iavail,source,fstype"
        done = subprocess.run(
            ["df", "-B1", f"--output={columns}", mountpoint], capture_output=True, text=True, check=True
        )
        words = done.stdout.splitlines()[1].split()
        told = dict(zip(columns.split(","), words, strict=True))
        room = 0 if told["fstype"] == "tmpfs" and mine["disk_used_bytes"] == 0 else 256 * MIB
        for name, column, most in (
            ("disk_total_bytes", "size", 0),
            ("disk_used_bytes", "used", room),
            ("disk_free_bytes", "avail", room),
            ("inode_total", "itotal", 20_000),
            ("inode_used", "iused", 20_000),
            ("inode_free", "iavail", 20_000),
        ):
            if name in mine:
                assert mine[name] == pytest.approx(float(told[column]), abs=most), (mountpoint, name)
        [labels] = {labels for _, labels in found if dict(labels)["mountpoint"] == mountpoint}
        assert dict(labels) == {"device": told["source"], "fstype": told["fstype"], "mountpoint": mountpoint}
