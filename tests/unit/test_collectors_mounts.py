"""State of mounts that mountinfo shows: read-only ones, and those that use keeps mounted."""

from __future__ import annotations

import pytest

from agent.collectors.mounts import FULL, Place, choose, is_readonly, parse_mountinfo
from agent.collectors.options import DiskUsageOptions

ROOT = "1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
DEFAULT = DiskUsageOptions()


def places(lines: str, options: DiskUsageOptions = DEFAULT) -> dict[str, Place]:
    mounts, wrong = parse_mountinfo((ROOT + lines).encode())
    assert wrong == 0
    return {place.path.decode(): place for place in choose(mounts, options)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # As usual, with the option that makes it read-only after an error; an old mountinfo without options.
        ("rw,relatime - ext4 /dev/mmcblk0p2 rw,errors=remount-ro", False),
        ("rw,relatime - ext4 /dev/mmcblk0p2", False),
        # ext4 after an error, before Linux 6.12: the superblock turns, the mount keeps its flag (ext4_handle_error()).
        ("rw,relatime - ext4 /dev/mmcblk0p2 ro,errors=remount-ro", True),
        # ext4 after an error, and after a shutdown by ioctl, since Linux 6.15 (_ext4_show_options()).
        ("rw,relatime - ext4 /dev/mmcblk0p2 rw,errors=remount-ro,emergency_ro", True),
        ("rw,relatime - ext3 /dev/mmcblk0p2 rw,shutdown", True),
        # The boot partition of a Raspberry Pi: remount-ro is the default of FAT (fat_fs_error() in fs/fat/misc.c).
        ("rw,relatime - vfat /dev/mmcblk0p1 ro,fmask=0022,errors=remount-ro", True),
        # btrfs "forced readonly" (btrfs_handle_fs_error()), f2fs that stopped checkpoints (f2fs_handle_critical_error()).
        ("rw,relatime - btrfs /dev/sda2 ro,space_cache=v2,subvolid=5,subvol=/", True),
        ("rw,noatime - f2fs /dev/mmcblk0p2 ro,background_gc=on,errors=remount-ro", True),
        # Images.
        ("ro,nodev,relatime - squashfs /dev/loop0 ro,errors=continue", True),
        ("ro,relatime - iso9660 /dev/sr0 ro,nojoliet,check=s", True),
        # A view: systemd's ProtectSystem=strict, docker's -v /:/host:ro (node_exporter issues 2506 and 3755).
        ("ro,relatime - ext4 /dev/sda1 rw,errors=remount-ro", False),
        # Names that look like options.
        ("rw,relatime - overlay ro rw,lowerdir=/ro,upperdir=/ro,ro", False),
        ("rw,relatime - xfs /dev/sdb rw,emergency_ro", False),
    ],
)
def test_read_only_is_what_the_file_system_is_not_a_view_of_it(line: str, expected: bool) -> None:
    ((mount,), wrong) = parse_mountinfo(f"5 1 8:5 / /data {line}\n".encode())
    assert (is_readonly(mount), wrong) == (expected, 0)
    (found,) = choose([mount], DiskUsageOptions(include_fstypes=(".*",)))
    assert found.is_readonly is expected


@pytest.mark.parametrize(
    "fstype",
    [
        # A DVD or its image; initramfs and embedded images; squashfs, erofs, DwarFS, ISO and archives by FUSE.
        "udf", "iso9660", "cramfs", "romfs", "squashfs", "erofs", "fuse.squashfuse", "fuse.squashfuse_ll", "fuse.erofsfuse",
        "fuse.dwarfs", "fuse.fuseiso", "fuse.archivemount", "fuse.snapfuse",
        # The subtype is the file's name: AppImageKit, and nvim.appimage of Neovim.
        "fuse.Krita-5.2.2-x86_64.AppImage", "fuse.nvim.appimage",
    ],
)  # fmt: skip
def test_images_are_left_out_by_default(fstype: str) -> None:
    assert places(f"5 1 0:50 / /image rw - {fstype} image ro\n").keys() == {"/"}


DIRECT = "5 1 0:40 / /nas rw - autofs systemd-1 rw,fd=29,pgrp=1,timeout={},minproto=5,maxproto=5,direct\n"
INDIRECT = "5 1 0:40 / /net rw - autofs auto.net rw,fd=7,pgrp=9,timeout={},minproto=5,maxproto=5,indirect\n"

ZFS = """\
6 1 0:41 / /tank rw - zfs tank rw
7 6 0:42 / /tank/.zfs/snapshot/daily ro - zfs tank@daily ro
8 1 0:43 / /old ro - zfs tank@daily ro
"""
NFS = """\
6 1 0:41 / /mnt rw - nfs4 nas:/ rw
7 6 0:42 / /mnt/home rw - nfs4 nas:/home rw
8 7 0:43 / /mnt/home/anna rw - nfs4 nas:/home/anna rw
9 6 0:44 / /mnt/other rw - nfs4 nas:/srv/other rw
"""


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        # x-systemd.automount with x-systemd.idle-timeout=60, and a file system on the one that it mounted.
        (DIRECT.format(60) + "6 5 0:41 / /nas rw - nfs4 nas:/srv rw\n7 6 8:7 / /nas/disk rw - ext4 /dev/sdb rw\n", set()),
        # /efi of systemd-gpt-auto-generator: 120 s.
        (DIRECT.format(120) + "6 5 8:2 / /nas rw - vfat /dev/sda1 rw\n", set()),
        # automount(8) with auto.net, strictexpire or not: nobody knows who else uses it.
        (INDIRECT.format(300) + "6 5 0:41 / /net/nas/srv rw - nfs4 nas:/srv rw\n", set()),
        (INDIRECT.format("300,strictexpire") + "6 5 0:41 / /net/nas/srv rw - nfs4 nas:/srv rw\n", set()),
        # Without a timeout it stays (systemd.automount(5), TimeoutIdleSec=): nothing is kept by a question.
        (DIRECT.format(0) + "6 5 0:41 / /nas rw - nfs4 nas:/srv rw\n", {"/nas"}),
        # The same share, mounted in the usual way too.
        (DIRECT.format(60) + "6 5 0:41 / /nas rw - nfs4 nas:/srv rw\n7 1 0:41 / /mnt/share rw - nfs4 nas:/srv rw\n",
         {"/mnt/share"}),
        # Nothing is mounted: a question would mount it.
        (DIRECT.format(60), set()),
        # A snapshot of ZFS that somebody looked into (zfs_expire_snapshot, 300 s), and one that is mounted by hand.
        (ZFS, {"/tank", "/old"}),
        # What NFS 4 crosses into by itself (nfs_mountpoint_timeout, 500 s), and shares that were mounted as such.
        (NFS, {"/mnt", "/mnt/other"}),
    ],
)  # fmt: skip
def test_what_use_keeps_mounted_is_not_asked(lines: str, asked: set[str]) -> None:
    assert places(lines).keys() == {"/", *asked}


def test_file_systems_in_memory_report_only_when_full_unless_the_options_say_more() -> None:
    lines = "5 1 0:50 / /run rw - tmpfs tmpfs rw,size=1000k\n6 5 0:51 / /run/credentials/a ro - tmpfs tmpfs ro,size=4k\n"
    assert {path: place.only_from for path, place in places(lines).items()} == {"/": 0, "/run": FULL}
    for options, paths in (
        (DiskUsageOptions(include_fstypes=("tmpfs",)), {"/run", "/run/credentials/a"}),
        (DiskUsageOptions(exclude_fstypes=()), {"/", "/run", "/run/credentials/a"}),
        (DiskUsageOptions(exclude_fstypes=("tmpfs",)), {"/"}),
        (DiskUsageOptions(exclude_mountpoints=("/run.*",)), {"/"}),
    ):
        found = places(lines, options)
        assert found.keys() == paths
        assert not any(place.only_from for place in found.values())
