"""What cannot be read costs its own series for that run: it is counted and named, and the rest is collected."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import agent.system.log
from agent.collect.local import LocalCollector
from agent.collect.mask import Mask
from agent.collectors import COLLECTORS, Labels, Sample, Trouble, disk_usage
from agent.collectors.disk_usage import Asker, Space
from agent.collectors.mounts import Mount, Place, choose, of_host, parse_mountinfo, server_of
from agent.collectors.options import DiskUsageOptions
from tests.support.hosts import Host, labeled, of, values

Keys = set[tuple[str, Labels]]

# Each file of a collector, and the beginnings of the names of the series that are lost with it.
FILES = [
    ("cpu", "proc/stat", ("cpu_",)),
    ("cpu", "proc/loadavg", ("load_",)),
    ("memory", "proc/meminfo", ("memory_total", "memory_used", "memory_free", "memory_avail", "memory_cached",
                                "memory_buffers", "memory_usage", "swap_")),
    ("memory", "proc/vmstat", ("memory_oom",)),
    ("network", "proc/net/dev", ("network_bytes", "network_packets", "network_sent", "network_received",
                                 "network_errors", "network_drops", "network_missed", "network_unwanted",
                                 "network_bandwidth")),
    ("host", "proc/stat", ("host_boot",)),
    ("sensors", "proc/uptime", ("host_uptime",)),
    ("sensors", "proc/sys/fs/file-nr", ("host_open_files",)),
    ("sensors", "proc/sys/net/netfilter/nf_conntrack_count", ("host_conntrack",)),
]  # fmt: skip
SOCKET_FILES = {
    "proc/net/sockstat": {"tcp4", "udp4"},
    "proc/net/sockstat6": {"tcp6", "udp6"},
    "proc/net/snmp": set[str](),
}


def watched(host: Host, name: str) -> LocalCollector:
    kind = COLLECTORS[name]
    return LocalCollector(
        name, partial(kind.build, kind.options()), 5.0, host.paths, Mask(), agent.system.log.get()
    )


def keys(samples: list[Sample]) -> Keys:
    return {(sample.name, sample.labels) for sample in samples}


def deny(monkeypatch: pytest.MonkeyPatch, denied: Path, error: int) -> None:
    """Let the kernel refuse a file: as root nothing is refused for its permissions."""
    real = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if path == str(denied):
            raise OSError(error, os.strerror(error), path)
        return real(path, flags, mode)

    monkeypatch.setattr("agent.collectors.kernel.os.open", refuse)


@pytest.mark.parametrize(("name", "file", "lost"), FILES)
@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.ESRCH])
def test_a_file_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str, lost: tuple[str, ...], error: int
) -> None:
    host = Host("laptop", tmp_path)
    collect = watched(host, name)
    collect(0.0)
    whole = {key for key in keys(collect(90.0)) if not rate(key[0])}
    with monkeypatch.context() as patch, capture_logs() as logs:
        deny(patch, host.file(file), error)
        for at in (180.0, 270.0, 360.0):
            left = keys(collect(at))
            assert whole - left == {key for key in whole if key[0].startswith(lost)}
        assert collect.unreadable == 3
    assert [(line["event"], line["file"], line["error"]) for line in logs] == [
        ("collector.unreadable", str(host.file(file)), os.strerror(error).lower())
    ]
    with capture_logs() as logs:
        assert keys(collect(450.0)) >= whole
    assert [line["event"] for line in logs] == ["collector.readable"]
    assert collect.unreadable == 3


def rate(name: str) -> bool:
    return name.endswith(("_per_sec", "_ms", "usage_percent", "per_core_percent", "queue_length"))


@pytest.mark.parametrize("file", SOCKET_FILES)
def test_a_file_of_sockets_that_is_garbage_and_one_that_no_kernel_has(tmp_path: Path, file: str) -> None:
    host = Host("laptop", tmp_path)
    collect = watched(host, "network")
    whole = keys(collect(0.0))
    host.file(file).write_bytes(b"\x00\xff garbage: 1 2\n" * 9)
    left = keys(collect(10.0))
    gone = {dict(labels)["family"] for _, labels in whole - left}
    assert gone >= SOCKET_FILES[file]
    assert whole - left
    assert {name for name, _ in whole - left} == {"network_connections"}
    assert collect.unreadable == 1
    host.file(file).unlink()  # that is no trouble: not every kernel has it
    collect(20.0)
    assert (collect.unreadable, collect.troubles) == (1, {})


def test_a_line_of_a_disk_that_is_garbage(tmp_path: Path) -> None:
    host = Host("storage", tmp_path)
    collect = watched(host, "disk_io")
    whole = values(collect(0.0))
    lines = host.file("proc/diskstats").read_bytes().splitlines(keepends=True)
    at = next(place for place, line in enumerate(lines) if b" sdd " in line)
    lines[at] = lines[at].replace(b" 0 ", b" x ").replace(b"1", b"-", 3)
    host.file("proc/diskstats").write_bytes(b"".join(lines))
    with capture_logs() as logs:
        left = values(collect(10.0))
    assert labeled(whole, "device") - labeled(left, "device") == {"sdd"}
    assert of(left, device="sde")["disk_read_ops_per_sec"] == 0
    assert [(line["event"], line["error"]) for line in logs] == [
        ("collector.unreadable", "it has a line that is not the kernel's")
    ]
    assert collect.unreadable == 1


def test_a_disk_that_is_pulled_out_while_others_are_read(tmp_path: Path) -> None:
    host = Host("storage", tmp_path)
    collect = watched(host, "disk_io")
    first = values(collect(0.0))
    host.show("second")
    second = values(collect(10.0))
    assert labeled(first, "device") - labeled(second, "device") == {"sdt"}
    assert "disk_read_ops_per_sec" in of(second, device="sds")
    assert collect.troubles == {}  # it is just not there any more


def test_an_interface_whose_speed_cannot_be_read_has_no_share_of_it(tmp_path: Path) -> None:
    host = Host("server", tmp_path)
    collect = watched(host, "network")
    collect(0.0)
    host.show("second")
    speed = host.file("sys/class/net/eth0/speed")
    speed.unlink()
    speed.mkdir()  # EISDIR; a link that is down says EINVAL
    found = of(values(collect(10.0)), interface="eth0")
    assert "network_bytes_sent_per_sec" in found
    assert "network_bandwidth_usage_percent" not in found


@pytest.mark.parametrize("error", [errno.EACCES, errno.ESTALE, errno.ENOTCONN, errno.EIO])
def test_a_mount_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    host = Host("laptop", tmp_path)

    def statvfs(path: bytes) -> Space:
        if path == b"/home/anna/nas":
            raise OSError(error, os.strerror(error), path)
        return Space(4096, 100, 50, 50, 10, 5)

    monkeypatch.setattr(disk_usage, "statvfs", statvfs)
    collect = watched(host, "disk_usage")
    with capture_logs() as logs:
        assert labeled(values(collect(0.0)), "mountpoint") == {"/", "/boot", "/boot/efi"}
        collect(60.0)
    denied = error == errno.EACCES
    event = "collector.denied" if denied else "collector.unreadable"
    assert [(line["event"], line["mountpoint"], line["error"]) for line in logs] == [
        (event, "/home/anna/nas", os.strerror(error).lower())
    ]
    assert (collect.unreadable, collect.denied) == ((0, 1) if denied else (2, 0))


def test_a_mount_that_vanishes_while_it_is_measured_does_not_get_the_figures_below_it(tmp_path: Path) -> None:
    """After umount its path is a folder of the root, which would answer with the root's figures."""
    labels: Labels = (("device", "d"), ("fstype", "ext4"), ("mountpoint", "/mnt"))
    root: Labels = (("device", "r"), ("fstype", "ext4"), ("mountpoint", "/"))
    mounted = [Place(b"/", root), Place(b"/mnt", labels)]

    def ask(place: Place) -> Space:
        if place.path == b"/mnt":
            mounted[1:] = []
        return Space(4096, 100, 50, 50, 10, 5)

    collect = disk_usage.disk_usage(lambda: list(mounted), Asker(ask, 1.0))
    assert labeled(values(collect(0.0)), "mountpoint") == {"/"}


def test_garbage_in_mountinfo_is_reported_in_every_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_usage, "statvfs", lambda path: Space(4096, 100, 50, 50, 10, 5))
    host = Host("server", tmp_path)  # it has two lines that are not a kernel's
    collect = watched(host, "disk_usage")
    for at in (0.0, 60.0):
        assert len(labeled(values(collect(at)), "mountpoint")) == 11
        (trouble,) = collect.troubles.values()
        assert trouble.why == "it has 2 lines that are not the kernel's"
    assert collect.unreadable == 2


# The host's mounts, from inside a container.

OWN = b"""\
724 612 0:61 / / rw - overlay overlay rw
725 724 0:64 / /proc rw - proc proc rw
726 724 8:1 /volume /data rw - ext4 /dev/sda1 rw
727 724 8:1 / /host rw - ext4 /dev/sda1 rw
728 727 8:17 / /host/srv rw - xfs /dev/sdb1 rw
729 724 8:33 / /hosted rw - ext4 /dev/sdc1 rw
"""


def places(mounts: list[Mount]) -> dict[bytes, bytes]:
    chosen = choose(mounts, DiskUsageOptions())
    devices = {mount.path: mount.device for mount in mounts}
    return {place.path: devices[place.path] for place in chosen}


def test_mounts_of_this_namespace_are_reported_without_the_root() -> None:
    mounts, _ = parse_mountinfo(OWN)
    assert places(of_host(mounts, b"/host", {1, 724})) == {b"/": b"/dev/sda1", b"/srv": b"/dev/sdb1"}


def test_mounts_of_another_namespace_are_the_hosts_as_they_are() -> None:
    mounts, _ = parse_mountinfo(
        b"30 1 8:1 / / rw - ext4 /dev/sda1 rw\n31 30 8:17 / /host rw - xfs /dev/sdb1 rw\n"
    )
    assert of_host(mounts, b"/host", {724, 725}) == mounts


def test_a_mount_that_is_not_passed_on_is_reported_and_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the host's root there is only the folder on which the host has mounted something."""
    host = Host("vm", tmp_path)
    root = tmp_path / "host"
    (root / "mnt").mkdir(parents=True)
    here = os.stat(root).st_dev
    first = host.file("proc/1/mountinfo")
    first.parent.mkdir()
    first.write_text(
        f"9000001 1 {os.major(here)}:{os.minor(here)} / / rw - ext4 /dev/sda1 rw\n"
        "9000002 9000001 8:99 / /mnt rw - ext4 /dev/sdb1 rw\n"
        "9000003 9000001 0:99 / /btrfs rw - btrfs /dev/sdc rw\n"
    )
    told: list[Trouble] = []
    kind = COLLECTORS["disk_usage"]
    collect = kind.build(kind.options(), host.paths._replace(root=str(root), report=told.append))
    assert labeled(values(collect(0.0)), "mountpoint") == {"/"}
    assert [(trouble.name, trouble.why) for trouble in told] == [
        ("/mnt", "it is not visible below host_root, which needs mount propagation (rslave)"),
        ("/btrfs", "no such file or directory"),
    ]


@pytest.mark.parametrize(
    ("source", "server"),
    [
        (b"nas:/export", b"nas"),
        (b"nas:/", b"nas"),
        (b"[fd00::1]:/export", b"[fd00::1]"),
        (b"anna@nas.local:/srv/share", b"anna@nas.local"),
        (b"10.0.0.1:6789,10.0.0.2:6789:/", b"10.0.0.1:6789,10.0.0.2:6789"),
        (b"//nas/media", b"nas"),
        (b"//", b"//"),
        (b"/dev/sda1", b"8:1"),
        (b"/dev/disk/by-path/pci-0:/x", b"8:1"),
        (b"overlay", b"8:1"),
        (b"", b"8:1"),
        (b":/x", b"8:1"),
    ],
)
def test_what_hangs_together(source: bytes, server: bytes) -> None:
    assert server_of(Mount(1, 0, b"8:1", b"/", b"/mnt", b"any", source)) == server
