"""Which file systems are mounted, and where each can be queried: mountinfo, proc_pid_mountinfo(5).

One place per file system, which is what has a device number of its own, however often it is mounted and whatever its
source is called: its root is preferred to a bind mount of a part of it, then the shortest mount point. A mount point that
another mount hides is left out, because asking there would answer for the other file system.

What an automounter has mounted is left out too, unless it stays without limit. A walk over its path counts as use
(autofs_mount_wait() in fs/autofs/root.c), so a question each minute would keep it mounted, and one at the wrong moment
would mount it again. `is_kept_by_use` says which these are.

A file system is read-only if its superblock is. The flag of a mount is about a view: systemd's `ProtectSystem=strict` and
a container's `ro` volume make every mount read-only for the agent alone. ext4 sets no flag after an error on Linux 6.12 or
later (commit d3476f3dad4a, also in older stable kernels); since 6.15 its options say `emergency_ro` or `shutdown`
instead. Between these two its count of errors shows it (`agent.collectors.ext4`). A network share that is mounted read-only may have a writable superblock.

From inside a container the host's mounts are those of the process that the host began with, and they are reached
below the host's root. If mountinfo is of this process's own mount namespace, what lies below that root is
reported as the host sees it, and nothing else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from agent.collectors.base import HostPaths, Labels
from agent.collectors.kernel import label, number
from agent.collectors.options import DiskUsageOptions

STORES_NOTHING = frozenset(
    (
        "autofs", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts",
        "devtmpfs", "efivarfs", "fuse.gvfsd-fuse", "fuse.lxcfs", "fuse.portal", "fusectl", "hugetlbfs",
        "mqueue", "nfsd", "none", "nsfs", "proc", "pstore", "ramfs", "rootfs", "rpc_pipefs",
        "securityfs", "selinuxfs", "smackfs", "sysfs", "tracefs"
    )
)  # fmt: skip
"""File systems of the kernel and of desktops that hold no files of anybody's; never reported."""

FULL = 85.0
"""The percentage of its room or its inodes from which a file system that is memory is reported."""

SUBVOLUMES = frozenset((b"btrfs", b"bcachefs"))
"""File systems whose files have another device number than mountinfo says."""


DEAD = frozenset((b"emergency_ro", b"shutdown"))
"""Options by which ext4 says that it takes no more writes (ext4_show_options() in fs/ext4/super.c, Linux 6.15)."""


class Mount(NamedTuple):
    """A line of mountinfo. `root` is the part of the file system that is mounted, `options` are the superblock's."""

    id: int
    parent: int
    device_number: bytes
    root: bytes
    path: bytes
    fstype: bytes
    device: bytes
    options: bytes = b""


class Place(NamedTuple):
    """A file system to ask: its mount point, the labels of its series, and the server whose other file systems hang if it does.

    `device` is the device number that a file there has, or None where that is not known; `number` the one in mountinfo.
    `only_from`: the percentage from which it is reported.
    """

    path: bytes
    labels: Labels
    server: bytes = b""
    device: int | None = None
    number: bytes = b""
    is_readonly: bool = False
    only_from: float = 0.0


def mountinfo_of(paths: HostPaths) -> str:
    """Return the file with this process's own mounts, or with the host's from inside a container."""
    host = f"{paths.proc}/1/mountinfo"
    return host if paths.foreign and os.access(host, os.R_OK) else f"{paths.proc}/self/mountinfo"


def of_host(mounts: Sequence[Mount], root: bytes, own: Container[int]) -> list[Mount]:
    """Return the host's mounts as the host sees them; `own` are the ids in this process's mount namespace.

    An id belongs to one mount of one namespace, so one of ours shows that these are the container's mounts.
    """
    if not any(mount.id in own for mount in mounts):
        return list(mounts)
    below = [mount for mount in mounts if mount.path == root or mount.path.startswith(root + b"/")]
    return [mount._replace(path=mount.path[len(root) :] or b"/") for mount in below]


def parse_mountinfo(content: bytes) -> tuple[list[Mount], int]:
    """Return the lines of mountinfo in their order, and how many are malformed."""
    mounts, wrong = [], 0
    for line in content.split(b"\n"):  # splitlines would also split at a carriage return in a path
        before, _, after = line.partition(b" - ")
        fields, source = before.split(b" "), after.split(b" ")
        if len(fields) >= 6 and len(source) >= 2:
            mount, parent = number(fields[0]), number(fields[1])
            root, path = unescape(fields[3]), unescape(fields[4])
            if mount is not None and parent is not None and path.startswith(b"/") and b"\0" not in path:
                options = source[2] if len(source) > 2 else b""
                mounts.append(
                    Mount(mount, parent, fields[2], root, path, source[0], unescape(source[1]), options)
                )
                continue
        wrong += line != b""
    return mounts, wrong


def unescape(field: bytes) -> bytes:
    """Decode space, tab, newline, backslash and #, which the kernel writes as a backslash and three octal digits."""
    return OCTAL.sub(lambda match: bytes((int(match[1], 8),)), field) if b"\\" in field else field


OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


def choose(mounts: Sequence[Mount], options: DiskUsageOptions) -> list[Place]:
    """Return one mount for each file system that is wanted and can be reached by its path."""
    fstypes, mountpoints, when_full = options.fstypes(), options.mountpoints(), options.when_full()
    by_id = {mount.id: mount for mount in mounts}
    on_top = {mount.path: mount for mount in mounts}  # of mounts on the same path the last one is seen
    best: dict[bytes, Mount] = {}
    for mount in on_top.values():
        fstype = label(mount.fstype)
        wanted = fstypes(fstype) or (when_full(fstype) and not is_readonly(mount))
        if fstype in STORES_NOTHING or not (wanted and mountpoints(label(mount.path))):
            continue
        rival = best.get(mount.device_number)
        if rival is not None and rank(rival) <= rank(mount):
            continue
        if is_reachable(mount, by_id, on_top) and not is_kept_by_use(mount, by_id):
            best[mount.device_number] = mount
    return [
        Place(
            mount.path,
            labels_of(mount.device, mount.fstype, mount.path),
            server_of(mount),
            None if mount.fstype in SUBVOLUMES else device_of(mount.device_number),
            mount.device_number,
            is_readonly(mount),
            FULL if when_full(label(mount.fstype)) else 0.0,
        )
        for mount in best.values()
    ]


def server_of(mount: Mount) -> bytes:
    """Return the host of a network file system (`host:/path`, `//host/path`), else the file system itself."""
    host, found, _ = mount.device.partition(b":/")
    if mount.device.startswith(b"//"):
        return mount.device[2:].partition(b"/")[0] or mount.device
    return host if found and host and b"/" not in host else mount.device_number


def device_of(device_number: bytes) -> int | None:
    """Return the device number that stat(2) would return."""
    major, minor = (number(part) for part in device_number.partition(b":")[::2])
    if major is None or minor is None or max(major, minor) >= 1 << 31:
        return None
    return os.makedev(major, minor)


def rank(mount: Mount) -> tuple[bool, int, bytes]:
    """Return a sort key, smaller is better: the whole file system, then the shortest path, then the first by name."""
    return mount.root != b"/", len(mount.path), mount.path


def ancestors(mount: Mount, by_id: Mapping[int, Mount]) -> dict[int, Mount]:
    """Return the mount and those that it is mounted on, by id, up to the root."""
    found, at = {mount.id: mount}, mount
    while at.parent in by_id and at.parent not in found:
        at = by_id[at.parent]
        found[at.id] = at
    return found


def is_reachable(mount: Mount, by_id: Mapping[int, Mount], on_top: Mapping[bytes, Mount]) -> bool:
    """Return whether walking down to its path meets only mounts that it is mounted on, so that none hides it."""
    above, path = ancestors(mount, by_id), mount.path
    while path not in (b"/", b""):
        path = path.rpartition(b"/")[0] or b"/"
        if path in on_top and on_top[path].id not in above:
            return False
    return True


def is_kept_by_use(mount: Mount, by_id: Mapping[int, Mount]) -> bool:
    """Return whether use keeps the mount, or one that it is mounted on, from being unmounted after a while.

    - Below an autofs with a timeout (systemd's automount units, automount(8)); without one it stays.
    - A snapshot that ZFS mounted below `.zfs/snapshot` (zfs_expire_snapshot in zfs(4); each call defers it).
    - A file system that NFS met on its way down a share (nfs_mountpoint_timeout, fs/nfs/namespace.c): source and mount
      point continue those of the share in the same way.
    """
    for one in ancestors(mount, by_id).values():
        above = by_id.get(one.parent)
        if one.fstype == b"autofs" and b"timeout=0" not in one.options.split(b","):
            return True
        if one.fstype == b"zfs" and b"/.zfs/snapshot/" in one.path:
            return True
        if above is not None and one.fstype.startswith(b"nfs") and above.fstype.startswith(b"nfs"):
            further = one.path.removeprefix(above.path.rstrip(b"/"))
            if one.id != above.id and one.device == above.device.rstrip(b"/") + further:
                return True
    return False


def is_readonly(mount: Mount) -> bool:
    """Return whether its file system takes no writes, by whatever mount. The first option is `ro` or `rw`."""
    first, *others = mount.options.split(b",")
    return first == b"ro" or (mount.fstype.startswith(b"ext") and not DEAD.isdisjoint(others))


def labels_of(device: bytes, fstype: bytes, path: bytes) -> Labels:
    """Return the labels of a file system, sorted."""
    return ("device", label(device)), ("fstype", label(fstype)), ("mountpoint", label(path))
