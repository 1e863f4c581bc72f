"""Which devices, interfaces and file systems are reported: include and exclude lists, their defaults, partitions."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent.collectors import disk_usage
from agent.collectors.disk_usage import Space
from agent.collectors.options import (
    DEVICES,
    FSTYPES,
    INTERFACES,
    DiskIoOptions,
    DiskUsageOptions,
    NetworkOptions,
)
from agent.config import load
from tests.support.hosts import Host, labeled

NAMES = ["sda", "sda1", "sdb", "loop0", "loop10", "ram3", "zram0", "sr0", "fd0", "dm-0", "nvme0n1", "mmcblk0"]


def chosen(**options: tuple[str, ...]) -> set[str]:
    wanted = DiskIoOptions(**options).devices()  # type: ignore[arg-type]
    return {name for name in NAMES if wanted(name)}


def test_the_defaults_leave_out_what_is_no_disk_of_its_own() -> None:
    assert chosen() == {"sda", "sda1", "sdb", "dm-0", "nvme0n1", "mmcblk0"}
    interfaces = NetworkOptions().interfaces()
    assert [name for name in ("lo", "veth12ab", "eth0", "lo0", "docker0", "veth") if interfaces(name)] == [
        "eth0", "lo0", "docker0",
    ]  # fmt: skip
    fstypes = DiskUsageOptions().fstypes()
    assert not any(map(fstypes, ("tmpfs", "overlay", "squashfs", "erofs", "iso9660", "fuse.snapfuse")))
    assert all(
        map(fstypes, ("ext4", "xfs", "btrfs", "vfat", "nfs4", "cifs", "zfs", "fuse.sshfs", "virtiofs", "9p"))
    )


def test_patterns_match_the_whole_name() -> None:
    assert chosen(exclude_devices=("sd",)) == set(NAMES)
    assert chosen(exclude_devices=("sd.*", "dm|.*1")) == {
        "loop0",
        "loop10",
        "ram3",
        "zram0",
        "sr0",
        "fd0",
        "dm-0",
        "mmcblk0",
    }
    assert chosen(include_devices=("sd", "nvme0n1")) == {"nvme0n1"}
    assert chosen(exclude_devices=()) == set(NAMES)


def test_each_pattern_counts_alone() -> None:
    assert chosen(include_devices=("(?P<x>sda)", "(?P<x>dm)-0", "s(?i)DB")) == {"sda", "sdb", "dm-0"}


def test_an_include_list_takes_the_place_of_the_default_exclude_list_only() -> None:
    assert chosen(include_devices=("loop.*", "sda")) == {"loop0", "loop10", "sda"}
    assert chosen(include_devices=("loop.*", "sda"), exclude_devices=("loop10",)) == {"loop0", "sda"}
    assert chosen(include_devices=("loop.*",), exclude_devices=(*DEVICES,)) == set()  # it was meant


def test_the_same_from_a_file() -> None:
    def options(text: str) -> tuple[DiskIoOptions, DiskUsageOptions]:
        config = load(f"collect: {{collectors: {{{text}}}}}\nremote_write: []", "f.yaml").config
        plans = {plan.name: plan.options for plan in config.collect.plan()}
        assert isinstance(plans["disk_io"], DiskIoOptions)
        assert isinstance(plans["disk_usage"], DiskUsageOptions)
        return plans["disk_io"], plans["disk_usage"]

    disk_io, usage = options(
        "disk_io: {include_devices: ['loop.*'], partitions: yes}, disk_usage: {include_fstypes: [tmpfs]}"
    )
    assert disk_io.devices()("loop0")
    assert disk_io.partitions is True
    assert usage.fstypes()("tmpfs")
    assert not usage.fstypes()("ext4")
    written = ", ".join(f"'{pattern}'" for pattern in DEVICES)
    disk_io, _ = options(f"disk_io: {{include_devices: ['loop.*'], exclude_devices: [{written}]}}")
    assert not disk_io.devices()("loop0")


@pytest.mark.parametrize("kind", [DiskIoOptions, NetworkOptions, DiskUsageOptions])
def test_a_pattern_that_is_none_is_refused_by_its_key(kind: type[DiskIoOptions]) -> None:
    keys = [key for key in kind.__struct_fields__ if key.startswith(("include_", "exclude_"))]
    assert {key.partition("_")[0] for key in keys} == {"include", "exclude"}
    for key in keys:
        with pytest.raises(msgspec.ValidationError, match=rf"{key}: '\(' is not a regular expression"):
            msgspec.convert({key: ["("]}, kind)


def test_whole_disks_and_partitions_are_distinguished(tmp_path: Path) -> None:
    disks = {"nvme0n1", "dm-0", "dm-1", "dm-2"}
    parts = {"nvme0n1p1", "nvme0n1p2", "nvme0n1p3"}
    assert labeled(Host("laptop", tmp_path / "a").both("disk_io")[0], "device") == disks
    with_parts, after = Host("laptop", tmp_path / "b").both("disk_io", partitions=True)
    assert labeled(with_parts, "device") == disks | parts
    assert labeled(after, "device") == disks | parts | {"sda", "sda1"}
    only = Host("laptop", tmp_path / "c").both("disk_io", include_devices=("nvme.*p3",), partitions=True)[0]
    assert labeled(only, "device") == {"nvme0n1p3"}
    assert labeled(Host("noswap", tmp_path / "d").both("disk_io")[0], "device") == {"xvda1", "xvdb", "xvdf"}


def test_interfaces_by_name(tmp_path: Path) -> None:
    def names(number: int, **options: tuple[str, ...]) -> set[str]:
        return labeled(Host("noswap", tmp_path / str(number)).both("network", **options)[1], "interface")

    assert names(1) == {"eth0", "docker0"}
    assert names(2, include_interfaces=("veth000000[01]", "lo")) == {"veth0000000", "veth0000001", "lo"}
    assert names(3, exclude_interfaces=(*INTERFACES, "docker.*")) == {"eth0"}
    assert names(4, include_interfaces=("e.*", "d.*"), exclude_interfaces=("d.*",)) == {"eth0"}


def test_file_systems_by_type_and_by_mount_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_usage, "statvfs", lambda path: Space(4096, 100, 50, 50, 10, 5))

    def points(number: int, **options: tuple[str, ...]) -> set[str]:
        return labeled(Host("laptop", tmp_path / str(number)).both("disk_usage", **options)[0], "mountpoint")

    everything = points(1)
    assert everything == {"/", "/boot", "/boot/efi", "/home/anna/nas"}
    assert points(2, exclude_fstypes=(*FSTYPES, r"fuse\..*", "vfat")) == {"/", "/boot"}
    assert points(3, include_fstypes=("tmpfs",)) == {"/dev/shm", "/run", "/run/lock", "/run/user/1000"}
    assert points(4, include_mountpoints=("/boot(/.*)?",)) == {"/boot", "/boot/efi"}
    assert points(5, include_mountpoints=("/boot(/.*)?",), exclude_mountpoints=(".*efi",)) == {"/boot"}
    assert points(6, include_fstypes=(".*",), include_mountpoints=("/snap/.*",)) == {
        "/snap/bare/5", "/snap/core22/1122", "/snap/firefox/3836", "/snap/gnome-42-2204/141",
        "/snap/gtk-common-themes/1535", "/snap/snapd/20671",
    }  # fmt: skip
    assert (
        points(7, include_mountpoints=("/proc", "/sys/.*"), exclude_fstypes=()) == set()
    )  # they store nothing


def test_bind_mounts_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second mount of /dev/sda1 on `storage` and of /dev/root on the Pi; all of the container's."""
    monkeypatch.setattr(disk_usage, "statvfs", lambda path: Space(4096, 100, 50, 50, 10, 5))

    def points(host: str) -> set[str]:
        return labeled(Host(host, tmp_path).both("disk_usage")[0], "mountpoint")

    assert "/srv/www" not in points("storage")
    assert len(points("storage")) == 44
    assert points("raspberrypi") == {"/", "/boot"}
    assert points("container") == {"/data", "/models"}  # not /etc/hosts, /etc/hostname, /etc/resolv.conf
