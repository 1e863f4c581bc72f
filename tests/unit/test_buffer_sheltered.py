"""An ill disk silences nobody: the buffer opens, continues in memory, and takes up the disk again."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from buffer import segment
from buffer.buffer import Buffer
from buffer.errors import BufferFull, BufferInUse
from buffer.fs import Fs, RealFs
from buffer.inspect.status import status
from buffer.ledger import load
from buffer.limits import Limits
from buffer.lock import STATES
from buffer.model import Doubted, Instant
from buffer.requests import ask_trim, trim
from buffer.sheltered import ShelteredBuffer
from tests.support.buffers import assert_balances, drain, entries, fill, kill, numbers
from tests.support.faults import Failing, MemoryFs, Switch, eio
from tests.support.ticks import tick

LIMITS = Limits(segment_size=4096)
CALLS = ("create", "write", "sync", "rename", "sync_folder", "make_folder", "unlink", "truncate", "modify")


class Ill:
    """A disk on which the calls that write fail, or all calls."""

    def __init__(self, code: int, *, everything: bool = False) -> None:
        self._inner, self._code, self._everything = RealFs(), code, everything

    def __getattr__(self, name: str) -> Any:
        if self._everything or name in CALLS:
            return self._fail
        return getattr(self._inner, name)

    def close(self, fd: int) -> None:
        self._inner.close(fd)

    def _fail(self, *_: Any) -> Any:
        raise OSError(self._code, os.strerror(self._code))


DISKS = [(errno.ENOSPC, "full"), (errno.EROFS, "readonly"), (errno.EIO, "failing")]


class Rig:
    """A buffer on a disk that a test exchanges, and what it reported."""

    def __init__(
        self, folder: Path, disk: Fs | None = None, *, memory: int = 1 << 20, limits: Limits = LIMITS
    ) -> None:
        self.folder, self.said = folder, list[tuple[str, Any]]()
        self.disk = Switch(disk or RealFs())
        small = type("Small", (ShelteredBuffer,), {"memory": memory})
        self.buffer = small(str(folder), limits, ["a"], report=self._report, fs=self.disk)
        self.cursor = self.buffer.cursors["a"]

    def _report(self, what: str, **fields: Any) -> None:
        self.said.append((what, fields.get("state")))

    def sync(self) -> bool:
        try:
            self.buffer.sync()
        except OSError:
            return False
        return True

    def drain(self) -> list[int]:
        """Read and settle everything; a cursor file that cannot be written delays nothing."""
        found = list[int]()
        with suppress(OSError):
            while (chunk := self.cursor.read(30)).end > chunk.start:
                found += numbers(chunk.ticks)
                with suppress(OSError):
                    self.cursor.commit(chunk.start, chunk.end, chunk.samples, {})
                assert_balances(self.buffer)
        return found

    def stored(self) -> list[int]:
        return [n for entry in entries(RealFs(), self.folder / "segments") for n in numbers(entry.ticks)]


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize(("code", "state"), DISKS)
def test_a_disk_that_becomes_ill_while_running_costs_nothing(
    tmp_path: Path, code: int, state: str, everything: bool
) -> None:
    rig = Rig(tmp_path)
    fill(rig.buffer, 0, 5)
    assert rig.drain() == [0, 1, 2, 3, 4]
    assert rig.sync()
    rig.disk.to = Ill(code, everything=everything)
    for n in range(5, 105):
        fill(rig.buffer, n, n + 1)
        assert rig.drain() == [n]
        rig.sync()
    assert rig.buffer.state == state
    assert rig.buffer.is_in_memory
    assert rig.buffer.unbuffered == 300
    rig.disk.to = RealFs()
    assert rig.sync()
    assert (rig.buffer.state, rig.buffer.is_in_memory) == ("ok", False)
    fill(rig.buffer, 105, 110)
    assert rig.drain() == list(range(105, 110))
    assert rig.sync()
    assert rig.buffer.unbuffered == 300
    assert rig.buffer.log.missed == 0
    assert rig.said == [("sheltered", state), ("unsheltered", None)]
    assert rig.cursor.ledger.delivered == 330
    assert rig.cursor.ledger.dropped == {}
    rig.buffer.close()
    assert load(RealFs(), f"{tmp_path}/cursors/a.json") == rig.cursor.ledger


@pytest.mark.parametrize(("code", "state"), DISKS)
def test_a_backlog_in_memory_is_written_down_when_the_disk_is_well(
    tmp_path: Path, code: int, state: str
) -> None:
    rig = Rig(tmp_path)
    fill(rig.buffer, 0, 5)
    rig.disk.to = Ill(code)
    fill(rig.buffer, 5, 50)
    rig.sync()
    rig.disk.to = RealFs()
    assert rig.sync()
    fill(rig.buffer, 50, 55)
    assert rig.stored() == list(range(55))
    assert rig.drain() == list(range(55))
    rig.buffer.close()
    shown = status(str(tmp_path))
    assert shown.damaged_records == 0
    assert shown.destinations[0].ledger.delivered == 165
    again = Buffer(str(tmp_path), LIMITS, ["a"])
    assert again.log.end == 165
    again.close()


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize(("code", "state"), DISKS)
def test_it_opens_on_an_ill_disk_and_delivers(
    tmp_path: Path, code: int, state: str, everything: bool, fresh: bool
) -> None:
    if not fresh:
        before = Buffer(str(tmp_path / "data"), LIMITS, ["a"])
        fill(before, 0, 5)
        before.close()
    rig = Rig(tmp_path / "data", Ill(code, everything=everything))
    assert rig.buffer.state == state or not fresh
    fill(rig.buffer, 5, 10)
    assert rig.buffer.state == state
    assert rig.drain()[-5:] == [5, 6, 7, 8, 9]
    assert rig.buffer.unbuffered == 15
    rig.sync()
    rig.disk.to = RealFs()
    rig.sync()
    if everything and not fresh:  # the log that is there has a numbering of its own
        assert rig.buffer.must_restart
        assert rig.buffer.is_in_memory
        fill(rig.buffer, 10, 12)
        assert rig.drain() == [10, 11]
        with suppress(OSError):
            rig.buffer.close()
        again = Buffer(str(tmp_path / "data"), LIMITS, ["a"])
        assert drain(again.cursors["a"]) == [0, 1, 2, 3, 4]
        again.close()
        return
    assert rig.buffer.state == "ok"
    fill(rig.buffer, 10, 12)
    assert rig.drain() == [10, 11]
    rig.buffer.close()
    assert load(RealFs(), f"{tmp_path}/data/cursors/a.json") == rig.cursor.ledger
    assert rig.cursor.ledger.dropped == {}


def test_a_cursor_file_that_cannot_be_removed_keeps_nobody_from_starting(tmp_path: Path) -> None:
    limits = LIMITS._replace(forget_after=-1.0)
    before = Buffer(str(tmp_path), limits, ["a", "b"])
    before.configure(limits, ["a"])
    before.close()
    ShelteredBuffer(str(tmp_path), limits, ["a"]).close()  # notices since when it is not configured
    disk = Failing(RealFs(), 1, eio, lasting=True, only=["unlink"])
    buffer = ShelteredBuffer(str(tmp_path), limits, ["a"], fs=disk)
    assert "b" in buffer.cursors
    buffer.close()
    buffer = ShelteredBuffer(str(tmp_path), limits, ["a"])
    assert list(buffer.cursors) == ["a"]
    assert os.listdir(tmp_path / "cursors") == ["a.json"]
    buffer.close()


NEVER = 1 << 30


def live(folder: Path, disk: MemoryFs, first: int, fail_at: int, *, lasting: bool) -> int:
    """Live with a disk whose call of this number fails, and with all later ones if `lasting`; return how many it had.

    Ticks from `first` to 9 are on it.  The newest sample arrives each time, each one once, and what the buffer reports is right to the sample.
    """
    failing = Failing(disk, fail_at, eio, lasting=lasting)
    rig = Rig(folder, failing, limits=LIMITS._replace(segment_size=200))
    seen, in_memory = list[int](), 0
    for number in range(10, 16):
        fill(rig.buffer, number, number + 1)
        in_memory += rig.buffer.is_in_memory
        seen += rig.drain()  # nothing where it fails just now: the next append finds out
        assert {number, number - 1} & {*seen} or number == 10
        if number % 3 == 0:
            rig.sync()
    calls, rig.disk.to = failing.calls, disk
    rig.sync()
    seen += rig.drain()
    assert rig.buffer.unbuffered == 3 * in_memory
    assert rig.buffer.must_restart or rig.buffer.state == "ok"
    fill(rig.buffer, 16, 17)
    seen += rig.drain()
    assert (rig.buffer.log.missed, rig.cursor.ledger.dropped) == (0, {})
    must_restart = rig.buffer.must_restart
    with suppress(OSError):  # what could not be read at the start is left alone
        rig.buffer.close()
    if must_restart:
        rig = Rig(folder, disk)
        seen += rig.drain()
        rig.buffer.close()
    assert sorted(seen) == list(range(first, 17))
    return calls


@pytest.mark.parametrize("lasting", [True, False])
@pytest.mark.parametrize("new", [True, False])
def test_each_call_of_the_disk_may_fail_and_the_newest_sample_arrives(
    tmp_path: Path, new: bool, lasting: bool
) -> None:
    disk = MemoryFs()
    if not new:
        before = Rig(tmp_path, disk, limits=LIMITS._replace(segment_size=200))
        fill(before.buffer, 5, 10)
        before.buffer.close()
    first = 10 if new else 5
    calls = live(tmp_path, deepcopy(disk), first, NEVER, lasting=lasting)
    assert calls > 100
    for number in range(1, calls + 1):
        live(tmp_path, deepcopy(disk), first, number, lasting=lasting)


@pytest.mark.parametrize("lost", [0, 2])
def test_what_was_sent_from_memory_is_not_missed_after_a_kill(tmp_path: Path, lost: int) -> None:
    volume = MemoryFs()
    rig = Rig(tmp_path, volume)
    fill(rig.buffer, 0, 5)
    assert rig.drain() == list(range(5))
    assert rig.sync()
    volume.capacity = volume.used
    fill(rig.buffer, 5, 20)
    assert rig.drain() == list(range(5, 20))
    rig.sync()
    fill(rig.buffer, 20, 20 + lost)
    assert rig.buffer.state == "full"
    kill(rig.buffer, volume)
    volume.capacity = 1 << 30
    rig = Rig(tmp_path, volume)
    assert rig.buffer.last("probe") == (tick(4).at.wall_ms, 3)
    rig.buffer.append([tick(25)], 20 * 3)  # which is what the grid expects between 5 and 24
    assert rig.buffer.log.missed == 5 * 3
    rig.buffer.append([tick(28)], 2 * 3)
    assert rig.buffer.log.missed == 7 * 3
    assert rig.drain() == [25, 28]
    assert rig.cursor.ledger.delivered == 22 * 3
    rig.buffer.close()


def test_a_settled_segment_gives_way_if_its_room_is_what_the_disk_lacks(tmp_path: Path) -> None:
    volume = MemoryFs()
    rig = Rig(tmp_path, volume, limits=Limits())
    fill(rig.buffer, 0, 1000)
    assert rig.sync()
    [first] = rig.buffer.log.sizes
    volume.capacity = volume.used
    fill(rig.buffer, 1000, 1100)
    rig.sync()
    assert rig.buffer.state == "full"
    assert first in rig.buffer.log.sizes  # somebody needs it
    assert rig.drain()[-1] == 1099
    assert rig.sync()
    assert rig.buffer.state == "ok"
    assert first not in rig.buffer.log.sizes
    assert volume.list(f"{tmp_path}/segments") == [segment.name(3000)]
    rig.buffer.close()


def test_a_reload_while_the_disk_is_ill_costs_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, memory=64 << 10)
    rig.disk.to = Ill(errno.EROFS)
    fill(rig.buffer, 0, 500)
    rig.buffer.configure(Limits(), ["a"])
    fill(rig.buffer, 500, 600)
    assert rig.drain() == list(range(600))
    rig.disk.to = RealFs()
    assert rig.sync()
    assert rig.buffer.log.segment_size == Limits().sealed_at
    rig.buffer.close()


def test_others_see_the_state_where_nothing_can_be_written(tmp_path: Path) -> None:
    def shown() -> tuple[int | None, str | None, int]:
        found = status(str(tmp_path))
        return found.writer_pid, found.disk_state, found.unbuffered_samples

    assert shown() == (None, None, 0)
    rig = Rig(tmp_path)
    assert shown() == (os.getpid(), "ok", 0)
    for code, state, count in (errno.ENOSPC, "full", 15), (errno.EIO, "failing", 30):
        rig.disk.to = Ill(code)
        rig.sync()
        fill(rig.buffer, count // 3 - 5, count // 3)
        assert shown() == (os.getpid(), state, count)
    (tmp_path / "lock").write_text("")  # as where the pid found no room either
    assert shown() == (os.getpid(), "failing", 30)
    rig.disk.to = RealFs()
    assert rig.sync()
    assert shown() == (os.getpid(), "ok", 30)
    rig.buffer.close()
    assert shown() == (None, None, 0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_others_see_what_was_missed_while_the_log_is_in_memory(tmp_path: Path, code: int) -> None:
    def missed() -> int:
        return status(str(tmp_path)).destinations[0].ledger.missed

    rig = Rig(tmp_path)
    assert rig.sync()
    rig.disk.to = Ill(code)
    rig.sync()
    fill(rig.buffer, 0, 5)
    rig.buffer.append([tick(5)], missed=7)
    assert missed() == 7
    rig.buffer.append([tick(6)], missed=2)
    assert missed() == 9
    rig.disk.to = RealFs()
    assert rig.sync()
    assert missed() == 9
    rig.buffer.append([tick(7)], missed=1)
    assert rig.sync()
    assert missed() == 10
    rig.buffer.close()
    assert missed() == 10


def test_memory_is_bounded_and_its_oldest_is_evicted(tmp_path: Path) -> None:
    rig = Rig(tmp_path, memory=64 << 10)
    fill(rig.buffer, 0, 5)
    rig.disk.to = Ill(errno.EROFS)
    number = 5
    while not (evicted := rig.cursor.ledger.dropped.get("evicted", 0)) or number < 6000:
        fill(rig.buffer, number, number + 1, 30)
        number += 1
        assert number < 20_000
    assert sum(map(len, rig.buffer._shelter.memory.files.values())) <= 64 << 10
    assert_balances(rig.buffer)
    found = rig.drain()
    assert found[:5] == [0, 1, 2, 3, 4]
    assert found[-1] == number - 1
    assert rig.cursor.ledger.dropped == {"evicted": rig.cursor.ledger.dropped["evicted"]}
    assert evicted == (number - len(found)) * 30
    rig.disk.to = RealFs()
    rig.buffer.close()


def test_a_volume_below_the_floor_is_full_and_what_is_collected_is_sent(tmp_path: Path) -> None:
    free = [1000]

    class Volume(RealFs):
        def free(self, folder: str) -> tuple[int, int]:
            return free[0], 1000

    rig = Rig(tmp_path, Volume(), limits=LIMITS._replace(min_free=lambda size: size // 20))
    fill(rig.buffer, 0, 5)
    free[0] = 40
    fill(rig.buffer, 5, 10)
    assert rig.buffer.state == "full"
    assert rig.drain() == list(range(10))
    rig.sync()
    assert rig.buffer.is_in_memory
    free[0] = 60
    assert rig.sync()
    assert rig.buffer.state == "ok"
    rig.buffer.close()
    assert rig.stored() == list(range(5, 10)) or rig.stored() == list(range(10))


def test_drop_newest_at_max_size_is_a_refusal_and_no_illness(tmp_path: Path) -> None:
    rig = Rig(tmp_path, limits=Limits(max_size=4000, segment_size=400, on_full="drop_newest"))
    with pytest.raises(BufferFull):
        fill(rig.buffer, 0, 5000)
    assert rig.buffer.state == "ok"
    rig.buffer.close()


class OneBadFile(RealFs):
    """A disk on which one file can be neither read nor moved nor removed: its inode is damaged."""

    bad: str | None = None

    def _parent(self, path: str) -> Any:
        if self.bad is not None and path.endswith(self.bad):
            raise OSError(errno.EUCLEAN, os.strerror(errno.EUCLEAN), path)
        return super()._parent(path)


@pytest.mark.parametrize("delivers", [True, False])
def test_a_file_that_cannot_be_removed_costs_itself_and_no_bound(tmp_path: Path, delivers: bool) -> None:
    disk = OneBadFile()
    rig = Rig(tmp_path, disk, limits=Limits(max_size=8000, segment_size=500, on_full="drop_oldest"))
    fill(rig.buffer, 0, 100)
    oldest = disk.bad = min(os.listdir(tmp_path / "segments"))
    for n in range(100, 1500):
        fill(rig.buffer, n, n + 1)
        if n % 20 == 0:
            assert not delivers or rig.drain()
            assert rig.sync()
    assert {what for what, _ in rig.said} == (set() if delivers else {"evicted"})
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(tmp_path / "segments")}
    assert sum(sizes.values()) == rig.buffer.log.size <= 8000 + 500
    assert_balances(rig.buffer)
    disk.bad = None
    assert rig.sync()
    assert not (tmp_path / "segments" / oldest).exists()
    rig.buffer.close()


@pytest.mark.parametrize("ticks", [5, 500])
def test_a_trim_that_fails_keeps_no_sync_back(tmp_path: Path, ticks: int) -> None:
    rig = Rig(tmp_path)
    fill(rig.buffer, 0, ticks)
    ask_trim(RealFs(), str(tmp_path), rig.buffer.log.end)
    rig.disk.to = Failing(RealFs(), 1, eio, lasting=True, only=["unlink"])
    assert not rig.sync()
    assert rig.buffer.log.synced == rig.buffer.log.end
    rig.disk.to = RealFs()
    assert rig.sync()
    assert trim(RealFs(), str(tmp_path)) is None
    assert rig.sync()
    assert len(os.listdir(tmp_path / "segments")) == len(rig.buffer.log.sizes) == 1
    assert_balances(rig.buffer)
    rig.buffer.close()


def test_a_removed_data_dir_is_made_again_and_locked(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    rig = Rig(folder)
    fill(rig.buffer, 0, 5)
    assert rig.drain() == [0, 1, 2, 3, 4]
    assert rig.sync()
    shutil.rmtree(folder)
    for n in range(5, 10):
        fill(rig.buffer, n, n + 1)
        assert rig.drain() == [n]
        rig.sync()
    fill(rig.buffer, 10, 12)
    assert rig.drain() == [10, 11]
    assert rig.sync()
    assert rig.buffer.state == "ok"
    with pytest.raises(BufferInUse):
        Buffer(str(folder), LIMITS, ["a"])
    rig.buffer.close()
    assert load(RealFs(), f"{folder}/cursors/a.json") == rig.cursor.ledger
    assert rig.cursor.ledger.delivered == 36


def test_a_data_dir_that_is_a_file_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.write_text("mine")
    rig = Rig(folder)
    fill(rig.buffer, 0, 5)
    assert rig.drain() == [0, 1, 2, 3, 4]
    assert not rig.sync()
    assert folder.read_text() == "mine"
    folder.unlink()
    assert rig.sync()
    assert rig.buffer.state == "ok"
    rig.buffer.close()
    assert rig.cursor.ledger.delivered == 15


@pytest.mark.parametrize("name", ["segments", "cursors", "requests"])
def test_a_file_in_the_place_of_a_folder_is_kept_aside(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    rig = Rig(tmp_path, RealFs(str(tmp_path)))
    fill(rig.buffer, 0, 5)
    assert rig.sync()
    assert rig.buffer.state == "ok"
    assert (tmp_path / f"{name}.damaged").read_text() == "mine"
    rig.buffer.close()


def test_a_data_dir_in_use_is_refused(tmp_path: Path) -> None:
    first = Rig(tmp_path)
    with pytest.raises(BufferInUse):
        ShelteredBuffer(str(tmp_path), LIMITS, ["a"])
    first.buffer.close()


def test_the_states_have_names() -> None:
    assert STATES == ("ok", "full", "readonly", "failing")


@pytest.mark.parametrize(("code", "state"), DISKS)
def test_what_waits_for_the_clock_gets_its_times_though_the_disk_is_ill(
    tmp_path: Path, code: int, state: str
) -> None:
    """A board that boots in 1970, and whose card is read-only by the time NTP answers: nothing waits for the card."""
    rig, base_ms = Rig(tmp_path), 1_790_000_000_000

    def append(number: int, *, right: bool) -> None:
        at = Instant(number * 1000 + base_ms * right, number * 1000, "b" * 32)
        rig.buffer.append([tick(number)._replace(at=at)], clock=None if right else Doubted(0))

    for number in range(100):
        append(number, right=False)
    assert rig.sync()
    rig.disk.to = Ill(code)
    with suppress(OSError):
        rig.buffer.place("b" * 32, base_ms)
    append(100, right=True)
    assert rig.buffer.state == state
    rig.buffer.place("b" * 32, base_ms)
    append(101, right=True)
    chunk = rig.cursor.read(1000)
    assert [one.at.wall_ms - base_ms for one in chunk.ticks] == [1000 * number for number in range(102)]
    rig.disk.to = RealFs()
    assert rig.sync()
    assert rig.buffer.state == "ok"
    append(102, right=True)
    rig.buffer.close()
    found = [one.wall_ms - base_ms for one in entries(RealFs(), tmp_path / "segments")]
    assert found == [1000 * number for number in range(103)]
    again = Buffer(str(tmp_path), LIMITS, ["a"])
    assert again.log.provisional == 0
    again.close()


def test_more_than_fits_in_memory_waits_for_the_disk(tmp_path: Path) -> None:
    rig = Rig(tmp_path, memory=8192)
    for number in range(200):
        at = Instant(number * 1000, number * 1000, "b" * 32)
        rig.buffer.append([tick(number)._replace(at=at)], clock=Doubted(0))
    rig.sync()
    rig.disk.to = Ill(errno.EROFS)
    fill(rig.buffer, 200, 201)
    with pytest.raises(OSError, match="No space"):
        rig.buffer.place("b" * 32, 1_790_000_000_000)
    waiting = rig.buffer.log.provisional
    rig.disk.to = RealFs()
    assert rig.sync()
    rig.buffer.place("b" * 32, 1_790_000_000_000)
    assert (waiting > 0, rig.buffer.log.provisional) == (True, 0)
    rig.buffer.close()
