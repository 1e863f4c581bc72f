"""How full the file systems are, as `df` and `df -i` show it, and which are read-only.

    used = blocks - free blocks,  free = what users may still take,  percent = 100 x used / (used + free)

The percentage is what `df` prints as Use%, which rounds it up to a whole number; here it has two digits. It
leaves out what is reserved for root, so used + free is less than the total on ext4.

Asking a dead network mount blocks in the kernel. `Asker` asks each on a thread, so that one which hangs
costs its own series, and those of the same server.

No disk is woken: a file system is queried again only if its disk has done something since (`Resting`). A tmpfs
costs no disk either: each is queried, and those that the options want only when full are reported from then on.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from agent.collectors.base import Collect, HostPaths, Labels, Metric, Report, Sample, Trouble, ignore
from agent.collectors.ext4 import Ext4Errors
from agent.collectors.kernel import KernelFile, percent, read_or_none, reason
from agent.collectors.mounts import Place, choose, mountinfo_of, of_host, parse_mountinfo
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
    Metric(
        "disk_readonly",
        "gauge",
        "",
        "1 where the file system takes no writes, whatever mount they come by; else 0.",
    ),
)

NEXT_AFTER = 0.05
"""Seconds without an answer after which another thread asks the next server."""

HAS_NO_SIZE = frozenset((errno.ENOSYS, errno.EOPNOTSUPP))
"""Answers of file systems of FUSE that have no statfs: they have no size, which is no error."""


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

    resting = Resting(lambda: counters_of(read_or_none(f"{paths.proc}/diskstats") or b""))
    errors = Ext4Errors(paths.proc, paths.sys)
    return disk_usage(places, Asker(ask, paths.patience), paths.report, resting, errors.turned)


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


class Resting:
    """Remembers answers, so that no file system whose disk rests is queried.

    Promise: an answer is given again only while the counters of its disk (`read`, by device number) are the same as right
    after it. What statvfs(2) of a file system reads, and whether it reads anything, does not matter then.
    """

    def __init__(self, read: Callable[[], Mapping[bytes, bytes]]) -> None:
        self._read = read
        self._known: dict[Place, tuple[Space, bytes]] = {}

    def known(self, places: Sequence[Place]) -> dict[Place, Space]:
        """Return the answers that still hold; others are forgotten."""
        counters = self._read() if self._known else {}
        known = {place: self._known[place] for place in places if place in self._known}
        self._known = {place: one for place, one in known.items() if counters.get(place.number) == one[1]}
        return {place: space for place, (space, _) in self._known.items()}

    def remember(self, answers: Mapping[Place, Space | Exception]) -> None:
        """Remember the answers of file systems on disks, right after they came."""
        counters = self._read() if answers else {}
        for place, answer in answers.items():
            if isinstance(answer, Space) and place.number in counters:
                self._known[place] = answer, counters[place.number]


def counters_of(content: bytes) -> dict[bytes, bytes]:
    """Return the counters in /proc/diskstats by device number, as the kernel wrote them."""
    lines = (line.split(None, 3) for line in content.splitlines())
    return {b"%b:%b" % (line[0], line[1]): line[3] for line in lines if len(line) == 4}


def disk_usage(
    places: Callable[[], list[Place]],
    ask: Asker,
    tell: Report = ignore,
    resting: Resting | None = None,
    turned: Callable[[Sequence[Place]], Container[Place]] = lambda _: (),
) -> Collect:
    """Build the collector from the file systems to ask and the one who asks them.

    `turned` returns those that take no writes although their options do not say so.
    """
    rest = resting or Resting(dict)

    def collect(now: float) -> list[Sample]:
        wanted = places()
        known, dead = rest.known(wanted), turned(wanted)
        answers, hanging = ask([place for place in wanted if place not in known])
        rest.remember(answers)
        latest = places()
        mounted = wanted if latest is wanted else set(latest)
        answers.update(known)
        samples: list[Sample] = []
        silent = 0
        for place in wanted:
            answer = answers.get(place)
            if not isinstance(answer, Space):
                trouble = trouble_with(place, answer, place in hanging)
                if trouble is not None:
                    tell(trouble)
                    silent += not trouble.denied
            elif place in mounted:  # else it was unmounted meanwhile, and what is below it may have answered
                samples += samples_of(place, answer, place.is_readonly or place in dead)
        if silent and not any(isinstance(answer, Space) for answer in answers.values()):
            raise OSError(f"none of {silent} file systems answers")
        return samples

    return collect


def trouble_with(place: Place, answer: Exception | None, hangs: bool) -> Trouble | None:
    """Return what to report of a file system that gave no numbers; None: nothing, it is the usual case for it."""
    name = mountpoint(place)
    if isinstance(answer, OSError):
        if answer.errno in HAS_NO_SIZE or place.only_from:  # the latter nobody has chosen to see
            return None
        return Trouble("mountpoint", name, reason(answer), denied=isinstance(answer, PermissionError))
    if answer is not None:
        return Trouble("mountpoint", name, type(answer).__name__)
    if hangs:
        return Trouble("mountpoint", name, "it does not answer", stuck=True)
    return Trouble("mountpoint", name, "it is not asked, because others do not answer")


def samples_of(place: Place, space: Space, is_readonly: bool) -> list[Sample]:
    """Return the series of one file system; none if it has no size, or if it is less full than the place asks for."""
    samples = space_samples(space, place.labels)
    if samples:
        samples.append(Sample("disk_readonly", float(is_readonly), place.labels))
    if place.only_from and not any(
        sample.value >= place.only_from for sample in samples if sample.name.endswith("_usage_percent")
    ):
        return []
    return samples


def mountpoint(place: Place) -> str:
    """Return the value of the label."""
    return dict(place.labels)["mountpoint"]


def statvfs(path: bytes) -> Space:
    """Ask the kernel. Raises OSError.

    What the kernel promises (statvfs(3); each file system has a statfs of its own):

    - disk_total_bytes: changes when the file system grows or shrinks; of btrfs and ZFS with what they share.
    - disk_used_bytes, disk_free_bytes: as `df`. Delayed allocation is counted when it is written. A file system of FUSE or of the
      network says what its server says, more free than there is included: used is then 0.
    - disk_usage_percent, inode_usage_percent: computed here, from 0 to 100.
    - inode_total, inode_used, inode_free: absent where the file system makes inodes as needed (0, as in btrfs and FAT). XFS
      computes the total from the free room, so that it changes.
    - disk_readonly: the flag of the file system in mountinfo, which the kernel sets when it turns read-only after an error. Of ext4
      also an option, or an error that it counts while it is mounted with errors=remount-ro (agent.collectors.ext4).
    """
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
