"""How full the file systems are, as `df` and `df -i` show it.

One series per file system, which is what has a device number of its own in mountinfo, however often it is
mounted and whatever its source is called: its root is preferred to a bind mount of a part of it, then the
shortest mount point. A mount point that another mount hides is left out, because asking there would answer for
the other file system.

    used = blocks - free blocks,  free = what users may still take,  percent = 100 x used / (used + free)

The percentage is what `df` prints as Use%, which rounds it up to a whole number; here it has two digits. It
leaves out what is reserved for root, so used + free is less than the total on ext4.

Asking a dead network mount blocks in the kernel. `Asker` asks each on a thread, so that one which hangs
costs its own series, and those of the same server.

From inside a container the host's mounts are those of the process that the host began with, and they are reached
below the host's root. If mountinfo is of this process's own mount namespace, what lies below that root is
reported as the host sees it, and nothing else.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from agent.collectors.base import Collect, HostPaths, Labels, Metric, Report, Sample, Trouble, ignore
from agent.collectors.kernel import KernelFile, label, number, percent, read_or_none, reason
from agent.collectors.options import DiskUsageOptions
from agent.crew import Crew, Job

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

NEXT_AFTER = 0.05
"""Seconds without an answer after which another thread asks the next server."""

SUBVOLUMES = frozenset((b"btrfs", b"bcachefs"))
"""File systems whose files have another device number than mountinfo says."""


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
    """A file system to ask: its mount point, the labels of its series, and the server whose other file systems hang if it does.

    `device` is the device number that a file there has, or None where that is not known.
    """

    path: bytes
    labels: Labels
    server: bytes = b""
    device: int | None = None


class Space(NamedTuple):
    """What a file system answers, as statvfs(3) names it."""

    frsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int


def build(options: DiskUsageOptions, paths: HostPaths) -> Collect:
    """Build the collector. A run reads the mounts and asks each; it raises OSError if it cannot read them or none answers."""
    mountinfo = KernelFile(mountinfo_of(paths), paths.report)
    root = os.fsencode(paths.root)
    content: bytes = b""
    known: tuple[list[Place], int] = [], 0

    def places() -> list[Place]:
        nonlocal content, known
        latest = mountinfo.read()
        if latest != content:
            mounts, wrong = parse_mountinfo(latest)
            if root:
                own, _ = parse_mountinfo(read_or_none("/proc/self/mountinfo") or b"")
                mounts = of_host(mounts, root, {mount.id for mount in own})
            content, known = latest, (choose(mounts, options), wrong)
        return mountinfo.checked(known)

    def ask(place: Place) -> Space:
        if root and place.device is not None and os.stat(root + place.path).st_dev != place.device:
            raise OSError(
                errno.ENODEV, "it is not visible below host_root, which needs mount propagation (rslave)"
            )
        return statvfs(root + place.path)

    return disk_usage(places, Asker(ask, paths.patience), paths.report)


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


class Asker:
    """Asks file systems that may not answer, by `ask`; used from one thread.

    Promises: a call returns within `patience` seconds, with every answer that came by then, so that those that hang
    cost the others nothing but a short delay, once. What hangs keeps one thread, and is not asked again before it
    returns; nor are the other file systems of its server, which would hang too.
    """

    def __init__(self, ask: Callable[[Place], Space], patience: float) -> None:
        self._ask, self._patience = ask, patience
        self._crew: Crew[None] = Crew(NEXT_AFTER, "disk_usage")
        self._asked: dict[str, Place] = {}
        """By server, the latest file system."""

    def __call__(self, places: Sequence[Place]) -> tuple[dict[Place, Space | Exception], set[Place]]:
        """Return what came from whom, and who hangs; the others were not asked."""
        servers: dict[str, list[Place]] = {}
        for place in places:
            servers.setdefault(os.fsdecode(place.server or place.path), []).append(place)
        answers: dict[Place, Space | Exception] = {}
        over = threading.Event()

        def ask(server: str) -> None:
            for place in servers[server]:
                if over.is_set():
                    return
                self._asked[server] = place
                try:
                    answers[place] = self._ask(place)
                except Exception as error:
                    answers[place] = error

        self._crew.run([Job(server, partial(ask, server)) for server in servers], self._patience)
        over.set()
        stuck = self._crew.stuck()
        for server in servers.keys() - stuck.keys():
            self._crew.forget(server)  # its job has not begun, and nobody would wait for the answer
        self._crew.close()
        return answers.copy(), {self._asked[server] for server in stuck if server in self._asked}


def disk_usage(places: Callable[[], list[Place]], ask: Asker, tell: Report = ignore) -> Collect:
    """Build the collector from the file systems to ask and the one who asks them."""

    def collect(now: float) -> list[Sample]:
        wanted = places()
        answers, hanging = ask(wanted)
        latest = places()
        mounted = wanted if latest is wanted else set(latest)
        samples: list[Sample] = []
        for place in wanted:
            answer = answers.get(place)
            if isinstance(answer, Space):
                if (
                    place in mounted
                ):  # else it was unmounted meanwhile, and what is below it may have answered
                    samples += space_samples(answer, place.labels)
            elif answer is not None:
                why = reason(answer) if isinstance(answer, OSError) else type(answer).__name__
                tell(Trouble("mountpoint", mountpoint(place), why))
            elif place in hanging:
                tell(Trouble("mountpoint", mountpoint(place), "it does not answer", stuck=True))
            else:
                tell(
                    Trouble("mountpoint", mountpoint(place), "it is not asked, because others do not answer")
                )
        if wanted and not any(isinstance(answer, Space) for answer in answers.values()):
            raise OSError(f"none of {len(wanted)} file systems answers")
        return samples

    return collect


def mountpoint(place: Place) -> str:
    """Return the value of the label."""
    return dict(place.labels)["mountpoint"]


def statvfs(path: bytes) -> Space:
    """Ask the kernel. Raises OSError."""
    vfs = os.statvfs(path)
    return Space(
        vfs.f_frsize or vfs.f_bsize, vfs.f_blocks, vfs.f_bfree, vfs.f_bavail, vfs.f_files, vfs.f_ffree
    )


def space_samples(of: Space, labels: Labels) -> list[Sample]:
    """Return the series of one file system; none if it has no blocks, none of inodes if it does not count them."""
    samples = []
    if of.blocks > 0:
        used = max(0, of.blocks - of.bfree)  # some file systems of FUSE report more free than they have
        samples.append(Sample("disk_total_bytes", float(of.blocks * of.frsize), labels))
        samples.append(Sample("disk_used_bytes", float(used * of.frsize), labels))
        samples.append(Sample("disk_free_bytes", float(of.bavail * of.frsize), labels))
        if used + of.bavail > 0:
            samples.append(Sample("disk_usage_percent", percent(used, used + of.bavail), labels))
    if of.blocks > 0 and of.files > 0:
        used = max(0, of.files - of.ffree)
        samples.append(Sample("inode_total", float(of.files), labels))
        samples.append(Sample("inode_used", float(used), labels))
        samples.append(Sample("inode_free", float(of.ffree), labels))
        samples.append(Sample("inode_usage_percent", percent(used, of.files), labels))
    return samples


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
                mounts.append(Mount(mount, parent, fields[2], root, path, source[0], unescape(source[1])))
                continue
        wrong += line != b""
    return mounts, wrong


def unescape(field: bytes) -> bytes:
    """Decode space, tab, newline, backslash and #, which the kernel writes as a backslash and three octal digits."""
    return OCTAL.sub(lambda match: bytes((int(match[1], 8),)), field) if b"\\" in field else field


OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


def choose(mounts: Sequence[Mount], options: DiskUsageOptions) -> list[Place]:
    """Return one mount for each file system that is wanted and can be reached by its path."""
    fstypes, mountpoints = options.fstypes(), options.mountpoints()
    by_id = {mount.id: mount for mount in mounts}
    on_top = {mount.path: mount for mount in mounts}  # of mounts on the same path the last one is seen
    best: dict[bytes, Mount] = {}
    for mount in on_top.values():
        fstype = label(mount.fstype)
        if fstype in STORES_NOTHING or not (fstypes(fstype) and mountpoints(label(mount.path))):
            continue
        rival = best.get(mount.device_number)
        if (rival is None or rank(mount) < rank(rival)) and is_reachable(mount, by_id, on_top):
            best[mount.device_number] = mount
    return [
        Place(
            mount.path,
            labels_of(mount.device, mount.fstype, mount.path),
            server_of(mount),
            None if mount.fstype in SUBVOLUMES else device_of(mount.device_number),
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


def is_reachable(mount: Mount, by_id: Mapping[int, Mount], on_top: Mapping[bytes, Mount]) -> bool:
    """Return whether walking down to its path meets only mounts that it is mounted on, so that none hides it."""
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
    """Return the labels of a file system, sorted."""
    return ("device", label(device)), ("fstype", label(fstype)), ("mountpoint", label(path))
