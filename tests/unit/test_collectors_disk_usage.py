from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent.collectors import Labels, Trouble
from agent.collectors.disk_usage import Asker, Resting, Space, counters_of, disk_usage, space_samples
from agent.collectors.mounts import FULL, Place, choose, parse_mountinfo
from agent.collectors.options import DiskUsageOptions
from tests.support.hosts import HOSTS, Host, of, values
from tests.support.net import wait_for

SERVER, _ = parse_mountinfo((HOSTS / "server/first/proc/self/mountinfo").read_bytes())
ROOT: Labels = (("device", "/dev/sda1"), ("fstype", "ext4"), ("mountpoint", "/"))
DEFAULT = DiskUsageOptions()


def places(options: DiskUsageOptions = DEFAULT) -> dict[str, str]:
    """Device by mount point."""
    return {
        dict(place.labels)["mountpoint"]: dict(place.labels)["device"]
        for place in choose(SERVER, options)
        if not place.only_from
    }


def test_every_file_system_once_where_it_can_be_seen() -> None:
    assert places() == {
        "/": "/dev/sda1",
        "/srv/data": "/dev/nvme0n1p1",  # its root, not the shorter bind mount of a part of it
        "/mnt/once": "/dev/sda2",  # the shorter of two mounts
        "/media/my disk": "/dev/sdb1",
        "/media/tab\tand\\slash": "/dev/sdb2",
        "/home": "/dev/mapper/vg-home",
        "/opt": "/dev/mapper/vg-opt",  # mounted over /opt/hidden
        "/opt/seen": "/dev/mapper/vg-seen",
        "/stacked": "/dev/mapper/vg-above",
        "/net/share": "files:/export",
        "/btrfs": "/dev/sdg",
    }


def test_the_path_to_ask_is_in_bytes_and_the_label_is_text() -> None:
    content = (
        b"1 0 8:1 / /caf\xe9\\040\xc3\xa9 rw - ext4 /dev/sda1 rw\n2 0 8:2 / /cr\rin rw - xfs /dev/sdb rw\n"
    )
    first, second = choose(parse_mountinfo(content)[0], DEFAULT)
    assert first.path == b"/caf\xe9 \xc3\xa9"
    assert dict(first.labels)["mountpoint"] == "/caf\\xe9 \u00e9"
    assert second.path == b"/cr\rin"


def test_exclusions() -> None:
    found = places(
        DiskUsageOptions(exclude_fstypes=("ext.", "nfs"), exclude_mountpoints=("/media/.*", "/srv"))
    )
    assert found.keys() == {"/srv/data", "/net/share", "/btrfs", "/run", "/snap/core/1"} | {
        "/var/lib/docker/overlay2/ab/merged"
    }


def test_a_mount_point_left_out_gives_way_to_another_of_the_same_file_system() -> None:
    assert "/mnt/and/again" in places(DiskUsageOptions(exclude_mountpoints=("/mnt/once",)))


@pytest.mark.parametrize("excluded", [(), ("tmpfs",)])
def test_what_stores_nothing_is_left_out_whatever_is_excluded(excluded: tuple[str, ...]) -> None:
    found = places(DiskUsageOptions(exclude_fstypes=excluded))
    assert not found.keys() & {"/proc", "/sys", "/dev"}


def test_used_free_and_percent_are_those_of_df() -> None:
    found = values(space_samples(Space(4096, 1000, 400, 350, 500, 100), ROOT))
    assert of(found, device="/dev/sda1", fstype="ext4", mountpoint="/") == {
        "disk_total_bytes": 1000 * 4096,
        "disk_used_bytes": 600 * 4096,
        "disk_free_bytes": 350 * 4096,
        "disk_usage_percent": 63.16,  # 600 of 950: what is reserved for root is neither
        "inode_total": 500,
        "inode_used": 400,
        "inode_free": 100,
        "inode_usage_percent": 80,
    }


@pytest.mark.parametrize(
    ("space", "series"),
    [
        (Space(4096, 0, 0, 0, 0, 0), 0),
        (Space(4096, 0, 0, 0, 10, 5), 0),
        (Space(4096, 100, 50, 50, 0, 0), 4),  # btrfs and vfat count no inodes
        (Space(4096, 100, 100, 0, 0, 0), 3),  # all reserved: df says "-"
        (Space(4096, 100, 0, 0, 10, 0), 8),
    ],
)
def test_what_a_file_system_does_not_report_is_absent(space: Space, series: int) -> None:
    assert len(space_samples(space, ROOT)) == series


def test_one_that_does_not_answer_costs_its_own_series() -> None:
    other: Labels = (("device", "gone"), ("fstype", "nfs4"), ("mountpoint", "/gone"))

    def ask(path: bytes) -> Space:
        if path == b"/gone":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return Space(4096, 100, 50, 50, 0, 0)

    asker, told = Asker(lambda place: ask(place.path), 2.0), list[Trouble]()
    both = [Place(b"/gone", other), Place(b"/", ROOT)]
    assert {sample.labels for sample in disk_usage(lambda: both, asker, told.append)(0.0)} == {ROOT}
    assert told == [Trouble("mountpoint", "/gone", "stale file handle")]
    with pytest.raises(OSError, match="none of 1 file systems"):
        disk_usage(lambda: both[:1], asker)(0.0)
    assert disk_usage(list, asker)(0.0) == []


SHARE: Labels = (("device", "nas"), ("fstype", "fuse"), ("mountpoint", "/share"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        # Below /run/user/1000, /var/lib/kubelet: path_resolution(7). A LSM, a FUSE of another user in a container.
        (errno.EACCES, Trouble("mountpoint", "/share", "permission denied", denied=True)),
        (errno.EPERM, Trouble("mountpoint", "/share", "operation not permitted", denied=True)),
        # A FUSE without statfs: it has no size.
        (errno.ENOSYS, None),
        (errno.EOPNOTSUPP, None),
        # A FUSE whose server has died stays until somebody unmounts it: an error.
        (errno.ENOTCONN, Trouble("mountpoint", "/share", "transport endpoint is not connected")),
    ],
)
def test_what_is_usual_for_a_mount_is_no_error(error: int, expected: Trouble | None) -> None:
    def ask(place: Place) -> Space:
        raise OSError(error, os.strerror(error))

    told: list[Trouble] = []
    collect = disk_usage(lambda: [Place(b"/share", SHARE)], Asker(ask, 2.0), told.append)
    if expected and not expected.denied:
        with pytest.raises(OSError, match="none of 1 file systems"):
            collect(0.0)
    else:
        assert collect(0.0) == []
    assert told == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("space", "series"),
    [
        (Space(4096, 1000, 151, 151, 400, 399), 0),  # 84.9 % full: log2ram, most of the day
        (Space(4096, 1000, 150, 150, 400, 399), 9),
        (Space(4096, 1000, 999, 999, 400, 60), 9),  # /run without inodes: 85 % of them
        (Space(4096, 1000, 999, 999, 0, 0), 0),
        (Space(4096, 0, 0, 0, 0, 0), 0),  # size=0: no limit
    ],
)
def test_memory_is_reported_when_it_is_nearly_full(space: Space, series: int) -> None:
    place = Place(b"/var/log", SHARE, only_from=FULL)
    assert len(disk_usage(lambda: [place], Asker(lambda _: space, 2.0))(0.0)) == series


@pytest.mark.parametrize("error", [errno.EACCES, errno.ENODEV])
def test_memory_that_cannot_be_reached_is_not_worth_a_word(error: int) -> None:
    """Volumes of Kubernetes, and what is not passed on to a container."""

    def ask(place: Place) -> Space:
        raise OSError(error, os.strerror(error))

    told: list[Trouble] = []
    place = Place(b"/var/lib/kubelet/pods/1/token", SHARE, only_from=FULL)
    assert disk_usage(lambda: [place], Asker(ask, 2.0), told.append)(0.0) == []
    assert told == []


DISKSTATS = (
    "   8       1 sda1 {} 0 80 5 7 0 56 6 0 9 11 0 0 0 0 0 0\n   8      17 sdb1 {} 0 80 5 7 0 56 6 0 9 11\n"
)


def test_a_disk_that_sleeps_is_not_woken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks only file systems whose disk has done something since their last answer, and those on no disk."""
    host, asked = Host("vm", tmp_path), list[str]()
    host.file("proc/self/mountinfo").write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:17 / /nas rw - vfat /dev/sdb1 rw\n3 1 0:40 / /net rw - nfs4 n:/ rw\n"
    )

    def statvfs(path: bytes) -> Space:
        asked.append(path.decode())
        if path == b"/nas":  # FAT counts its free clusters: its own I/O wakes nothing a second time
            stats(int(host.file("proc/diskstats").read_text().split()[3]), 500 + len(asked))
        return Space(4096, 100, 50 - len(asked), 50, 10, 5)

    def stats(sda: int, sdb: int) -> None:
        host.file("proc/diskstats").write_text(DISKSTATS.format(sda, sdb))

    def run(now: float) -> tuple[set[str], dict[str, float]]:
        asked.clear()
        used = {
            dict(one.labels)["mountpoint"]: one.value for one in collect(now) if one.name == "disk_used_bytes"
        }
        return set(asked), used

    monkeypatch.setattr("agent.collectors.disk_usage.statvfs", statvfs)
    stats(1, 1)
    collect = host.collector("disk_usage")
    first, before = run(0.0)
    assert first == before.keys() == {"/", "/nas", "/net"}
    second, again = run(60.0)
    assert (second, again.keys()) == ({"/net"}, before.keys())
    assert (again["/"], again["/nas"]) == (before["/"], before["/nas"])
    stats(2, 502)  # the root writes; the other sleeps
    assert run(120.0)[0] == {"/", "/net"}
    stats(2, 503)  # somebody woke it
    assert run(180.0)[0] == {"/nas", "/net"}
    host.file("proc/diskstats").unlink()  # nobody knows
    assert run(240.0)[0] == {"/", "/nas", "/net"}


def test_the_counters_of_disks_are_compared_as_they_are_written() -> None:
    found = counters_of(DISKSTATS.format(3, 4).encode() + b"garbage\n")
    assert found.keys() == {b"8:1", b"8:17"}
    assert found[b"8:17"].startswith(b"4 ")
    rest, place = Resting(lambda: found), Place(b"/", ROOT, number=b"8:1")
    space = Space(4096, 100, 50, 50, 10, 5)
    rest.remember({place: space})
    assert rest.known([place]) == {place: space}
    assert rest.known([]) == {}  # unmounted
    assert rest.known([place]) == {}


def test_mounts_are_measured_where_they_are_and_listed_again_when_they_change(tmp_path: Path) -> None:
    host = Host("vm", tmp_path)
    mountinfo = host.file("proc/self/mountinfo")
    here, there = tmp_path / "a b", tmp_path / "c"
    here.mkdir()
    there.mkdir()
    line = "{} 0 8:{} / {} rw - ext4 /dev/sd{} rw\n"
    mountinfo.write_text(line.format(1, 1, str(here).replace(" ", "\\040"), "a"))
    collect = host.collector("disk_usage")
    vfs = os.statvfs(tmp_path)
    first = values(collect(0.0))
    assert of(first, device="/dev/sda", fstype="ext4", mountpoint=str(here))["disk_total_bytes"] == (
        vfs.f_blocks * vfs.f_frsize
    )
    again = collect(60.0)
    assert {id(sample.labels) for sample in again} == {id(labels) for _, labels in first}
    with mountinfo.open("a") as more:
        more.write(line.format(2, 2, there, "b"))
        more.write(line.format(3, 3, tmp_path / "vanished", "c"))
    assert {dict(labels)["mountpoint"] for _, labels in values(collect(120.0))} == {str(here), str(there)}


@pytest.mark.parametrize(
    ("options", "errors", "expected"),
    [
        # What _ext4_show_options() and errors_count say; the first of the counts is from before this mount, or not.
        ("rw\ndelalloc\nerrors=remount-ro\ncommit=5\n", (0, 1, 1), [0, 1, 1]),
        ("rw\nerrors=remount-ro\n", (3, 3, 4), [0, 0, 1]),
        ("rw\nerrors=continue\n", (0, 7, 7), [0, 0, 0]),
        ("rw\n# errors=remount-ro\n", (0, 1, 1), [0, 0, 0]),
        # e2fsck between two mounts makes it 0; a file that is gone, or is no number.
        ("rw\nerrors=remount-ro\n", (5, 0, 0), [0, 0, 0]),
        ("rw\nerrors=remount-ro\n", (1, None, 2), [0, 0, 0]),
        ("rw\nerrors=remount-ro\n", (1, "many", 2), [0, 0, 0]),
    ],
)
def test_an_error_that_ext4_counts_turned_it_read_only(
    tmp_path: Path, options: str, errors: Sequence[object], expected: list[float]
) -> None:
    """On Linux 6.12 to 6.14 mountinfo does not change (ext4_handle_error() in fs/ext4/super.c)."""
    host, found = Host("vm", tmp_path), list[float]()
    host.file("proc/self/mountinfo").write_text(
        f"1 0 179:2 / {tmp_path} rw,noatime - ext4 /dev/root rw\n2 1 179:3 / /proc rw - ext4 /dev/other rw\n"
    )
    for number, name in ((2, "mmcblk0p2"), (3, "mmcblk0p3")):
        link = host.file(f"sys/dev/block/179:{number}")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../devices/platform/mmc0/block/mmcblk0/{name}")
    file = host.file("sys/fs/ext4/mmcblk0p2/errors_count")
    file.parent.mkdir(parents=True)
    shown = host.file("proc/fs/ext4/mmcblk0p2/options")
    shown.parent.mkdir(parents=True)
    shown.write_text(options)
    collect = host.collector("disk_usage")

    def run(count: object) -> float:
        file.unlink(missing_ok=True)
        if count is not None:
            file.write_text(f"{count}\n")
        return of(values(collect(0.0)), device="/dev/root", fstype="ext4", mountpoint=str(tmp_path))[
            "disk_readonly"
        ]

    found = [run(count) for count in errors]
    assert found == expected
    # Mounted again, without e2fsck: the count is as it was, and it takes writes.
    file.parent.rename(tmp_path / "before")
    file.parent.mkdir()
    assert run(errors[-1]) == 0
    assert run(9) == ("\nerrors=remount-ro\n" in options)


def test_no_mountinfo_is_an_error(tmp_path: Path) -> None:
    host = Host("vm", tmp_path)
    host.file("proc/self/mountinfo").unlink()
    with pytest.raises(FileNotFoundError):
        host.collector("disk_usage")(0.0)


DEADLINE = 10.0
PATIENCE = 1.0


class Mounts:
    """File systems by name, `server/name` on a server; one hangs while it is closed."""

    def __init__(self) -> None:
        self.closed: dict[str, threading.Event] = {}
        self.slow: dict[str, float] = {}
        self.asked: list[str] = []

    def ask(self, place: Place) -> Space:
        name = place.path.decode()
        self.asked.append(name)
        if name in self.closed:
            assert self.closed[name].wait(DEADLINE)
        time.sleep(self.slow.get(name, 0))
        return Space(4096, 100, 50, 50, 10, 5)

    def run(self, asker: Asker, *names: str) -> tuple[str, str, str]:
        """The names of those that answered, hang, and were not asked."""
        places = [Place(name.encode(), (), name.rpartition("/")[0].encode()) for name in names]
        answers, hanging = asker(places)
        came = [place for place in places if isinstance(answers.get(place), Space)]
        hangs = [place for place in places if place in hanging and place not in came]
        rest = [place for place in places if place not in (*came, *hangs)]
        return tuple(" ".join(place.path.decode() for place in each) for each in (came, hangs, rest))  # type: ignore[return-value]

    def hang(self, *names: str) -> None:
        self.closed |= {name: threading.Event() for name in names}

    def release(self) -> None:
        for event in self.closed.values():
            event.set()
        self.closed.clear()
        wait_for(lambda: not threads(), DEADLINE, "all threads to end")


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "disk_usage"]


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    made = Mounts()
    yield made
    made.release()


def test_all_answer_on_one_thread_that_ends(mounts: Mounts) -> None:
    asker = Asker(mounts.ask, PATIENCE)
    for _ in range(3):
        assert mounts.run(asker, "a", "b", "nas/c", "nas/d") == ("a b nas/c nas/d", "", "")
        wait_for(lambda: not threads(), DEADLINE, "the thread to end")
    assert mounts.asked == ["a", "b", "nas/c", "nas/d"] * 3


def test_one_that_hangs_is_tried_once_and_the_others_of_its_server_not_at_all(mounts: Mounts) -> None:
    asker = Asker(mounts.ask, PATIENCE)
    mounts.hang("nas/2")
    every = ("a", "nas/1", "nas/2", "nas/3", "b")
    assert mounts.run(asker, *every) == ("a nas/1 b", "nas/2", "nas/3")
    took = []
    for _ in range(10):
        begun = time.monotonic()
        assert mounts.run(asker, *every) == ("a b", "nas/2", "nas/1 nas/3")
        took.append(time.monotonic() - begun)
    assert min(took) < PATIENCE  # nobody waits for it again
    wait_for(lambda: len(threads()) == 1, DEADLINE, "all but the one that hangs to end")
    assert [mounts.asked.count(name) for name in ("nas/1", "nas/2", "nas/3")] == [1, 1, 0]
    mounts.release()
    assert mounts.run(asker, *every) == (" ".join(every), "", "")


def test_two_hundred_mounts_of_a_dead_server_are_one_thread(mounts: Mounts) -> None:
    asker = Asker(mounts.ask, PATIENCE)
    shares = [f"nas/{n}" for n in range(200)]
    mounts.hang(*shares)
    for _ in range(3):
        came, hanging, unasked = mounts.run(asker, "a", *shares)
        assert (came, hanging, len(unasked.split())) == ("a", "nas/0", 199)
    wait_for(lambda: len(threads()) == 1, DEADLINE, "the others to end")


def test_servers_that_there_is_no_time_for_are_met_in_later_runs(mounts: Mounts) -> None:
    asker = Asker(mounts.ask, 0.2)
    dead = [f"dead{n}" for n in range(12)]
    mounts.hang(*dead)
    came, hanging, unasked = mounts.run(asker, *dead, "alive")
    assert (came, "alive" in unasked) == ("", True)
    while not came:
        came, hanging, unasked = mounts.run(asker, *dead, "alive")
    assert (came, hanging, unasked) == ("alive", " ".join(dead), "")
    assert [mounts.asked.count(name) for name in dead] == [1] * len(dead)


def test_a_slow_answer_counts_within_the_time_and_is_nobodys_after_it(mounts: Mounts) -> None:
    asker = Asker(mounts.ask, PATIENCE)
    mounts.slow = {"b": PATIENCE / 2}
    assert mounts.run(asker, "a", "b", "c") == ("a b c", "", "")
    mounts.slow = {"b": PATIENCE * 1.5}
    assert mounts.run(asker, "a", "b", "c") == ("a c", "b", "")
    mounts.release()
    mounts.slow = {}
    assert mounts.run(asker, "a", "b", "c") == ("a b c", "", "")
