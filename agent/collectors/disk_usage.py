"""How full the file systems are, as `df` and `df -i` tell it.

One series per file system, however often it is mounted: its root is preferred to a bind mount of a part of
it, then the shortest mount point. A mount point that another mount hides is left out, because asking there
would answer for the other file system.

    used = blocks - free blocks,  free = what users may still take,  percent = 100 x used / (used + free)

The percentage is what `df` prints as Use%, which rounds it up to a whole number; here it has two digits. It
leaves out what is reserved for root, so used + free is less than the total on ext4.

Asking a dead network mount blocks in the kernel: the schedule's timeout is for that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from agent.collectors.files import label, read
from agent.collectors.kind import LINUX, Collect, HostPaths
from agent.collectors.metric import Labels, Metric, Sample
from agent.collectors.options import DiskUsageOptions, matcher
from agent.collectors.rates import percent

METRICS = (
    Metric("disk_total_bytes", "gauge", "bytes", "Size of the file system."),
    Metric("disk_used_bytes", "gauge", "bytes", "In use."),
    Metric("disk_free_bytes", "gauge", "bytes", "What users may still take; without root's reserve."),
    Metric("disk_usage_percent", "gauge", "percent", "100 x used / (used + free)."),
    Metric("inode_total", "gauge", "", "Inodes of the file system; absent where it makes them as needed."),
    Metric("inode_used", "gauge", "", "Inodes in use."),
    Metric("inode_free", "gauge", "", "Inodes not in use."),
    Metric("inode_usage_percent", "gauge", "percent", "100 x used / total inodes."),
)

STORES_NOTHING = frozenset(
    (
        "autofs", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts",
        "devtmpfs", "efivarfs", "fuse.gvfsd-fuse", "fuse.lxcfs", "fuse.portal", "fusectl", "hugetlbfs",
        "mqueue", "nfsd", "none", "nsfs", "proc", "pstore", "ramfs", "rootfs", "rpc_pipefs",
        "securityfs", "selinuxfs", "smackfs", "sysfs", "tracefs"
    )
)  # fmt: skip
"""File systems of the kernel and of desktops that hold no files of anybody's; never reported."""


class Mount(NamedTuple):
    """A line of mountinfo: proc_pid_mountinfo(5). `root` is the part of the file system that is mounted."""

    id: int
    parent: int
    device_number: bytes
    root: bytes
    path: bytes
    fstype: bytes
    device: bytes


class Place(NamedTuple):
    """A file system to ask: by which path, and the labels of its series."""

    path: bytes
    labels: Labels


class Space(NamedTuple):
    """What a file system answers, as statvfs(3) names it."""

    frsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int


def build(options: DiskUsageOptions, paths: HostPaths) -> Collect:
    """A run reads the mounts and asks each; it raises OSError if it cannot read them or none answers."""
    if not LINUX:
        from agent.collectors import portable

        return disk_usage(lambda: portable.places(options), portable.space)
    mountinfo = f"{paths.proc}/self/mountinfo"
    content: bytes = b""
    known: list[Place] = []

    def places() -> list[Place]:
        nonlocal content, known
        latest = read(mountinfo)
        if latest != content:
            content, known = latest, choose(parse_mountinfo(latest), options)
        return known

    return disk_usage(places, statvfs)


def disk_usage(places: Callable[[], list[Place]], ask: Callable[[bytes], Space]) -> Collect:
    """The collector over the file systems to ask and the call that asks one of them."""

    def collect(now: float) -> list[Sample]:
        samples: list[Sample] = []
        answers, refused = 0, None
        for path, labels in places():
            try:
                samples += space_samples(ask(path), labels)
                answers += 1
            except OSError as error:  # gone since the mounts were read, or not for this user
                refused = error
        if refused and not answers:
            raise refused
        return samples

    return collect


def statvfs(path: bytes) -> Space:
    """Ask the kernel. Raises OSError."""
    vfs = os.statvfs(path)
    return Space(
        vfs.f_frsize or vfs.f_bsize, vfs.f_blocks, vfs.f_bfree, vfs.f_bavail, vfs.f_files, vfs.f_ffree
    )


def space_samples(of: Space, labels: Labels) -> list[Sample]:
    """The series of one file system; none if it has no blocks, none of inodes if it does not count them."""
    samples = []
    if of.blocks > 0:
        used = of.blocks - of.bfree
        samples.append(Sample("disk_total_bytes", float(of.blocks * of.frsize), labels))
        samples.append(Sample("disk_used_bytes", float(used * of.frsize), labels))
        samples.append(Sample("disk_free_bytes", float(of.bavail * of.frsize), labels))
        if used + of.bavail > 0:
            samples.append(Sample("disk_usage_percent", percent(used, used + of.bavail), labels))
    if of.blocks > 0 and of.files > 0:
        used = of.files - of.ffree
        samples.append(Sample("inode_total", float(of.files), labels))
        samples.append(Sample("inode_used", float(used), labels))
        samples.append(Sample("inode_free", float(of.ffree), labels))
        samples.append(Sample("inode_usage_percent", percent(used, of.files), labels))
    return samples


def parse_mountinfo(content: bytes) -> list[Mount]:
    """The lines of mountinfo in their order; what is not such a line is left out."""
    mounts = []
    for line in content.split(b"\n"):  # splitlines would also split at a carriage return in a path
        before, _, after = line.partition(b" - ")
        fields, source = before.split(b" "), after.split(b" ")
        if len(fields) >= 6 and len(source) >= 2 and fields[0].isdigit() and fields[1].isdigit():
            root, path = unescape(fields[3]), unescape(fields[4])
            mounts.append(
                Mount(int(fields[0]), int(fields[1]), fields[2], root, path, source[0], unescape(source[1]))
            )
    return mounts


def unescape(field: bytes) -> bytes:
    """The kernel writes space, tab, newline, backslash and # as a backslash and three octal digits."""
    return OCTAL.sub(lambda match: bytes((int(match[1], 8),)), field) if b"\\" in field else field


OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


def choose(mounts: Sequence[Mount], options: DiskUsageOptions) -> list[Place]:
    """One mount for each file system that is not excluded and can be reached by its path."""
    fstypes = matcher("exclude_fstypes", options.exclude_fstypes)
    mountpoints = matcher("exclude_mountpoints", options.exclude_mountpoints)
    by_id = {mount.id: mount for mount in mounts}
    on_top = {mount.path: mount for mount in mounts}  # of mounts on the same path the last one is seen
    best: dict[bytes, Mount] = {}
    for mount in on_top.values():
        fstype = label(mount.fstype)
        if fstype in STORES_NOTHING or fstypes.fullmatch(fstype) or mountpoints.fullmatch(label(mount.path)):
            continue
        rival = best.get(mount.device_number)
        if (rival is None or rank(mount) < rank(rival)) and is_reachable(mount, by_id, on_top):
            best[mount.device_number] = mount
    return [Place(mount.path, labels_of(mount.device, mount.fstype, mount.path)) for mount in best.values()]


def rank(mount: Mount) -> tuple[bool, int, bytes]:
    """Smaller is better: the whole file system, then the shortest path, then the first by name."""
    return mount.root != b"/", len(mount.path), mount.path


def is_reachable(mount: Mount, by_id: Mapping[int, Mount], on_top: Mapping[bytes, Mount]) -> bool:
    """Whether walking down to its path meets only mounts that it is mounted on, so that none hides it."""
    ancestors, at = {mount.id}, mount
    while at.parent in by_id and at.parent not in ancestors:
        at = by_id[at.parent]
        ancestors.add(at.id)
    path = mount.path
    while path not in (b"/", b""):
        path = path.rpartition(b"/")[0] or b"/"
        if path in on_top and on_top[path].id not in ancestors:
            return False
    return True


def labels_of(device: bytes, fstype: bytes, path: bytes) -> Labels:
    """The labels of a file system, sorted."""
    return ("device", label(device)), ("fstype", label(fstype)), ("mountpoint", label(path))
