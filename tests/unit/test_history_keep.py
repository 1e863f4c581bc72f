"""History: what every destination has is kept, costs nothing, and goes before anything that somebody waits for."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.ops.replay.source import SegmentHistory
from buffer.buffer import Buffer
from buffer.fs import Fs, RealFs
from buffer.history import work
from buffer.history.read import WholeReader
from buffer.history.work import AGING
from buffer.inspect.segments import segments
from buffer.inspect.status import status
from buffer.inspect.verify import verify
from buffer.limits import Limits, OnFull, Tiers
from buffer.sheltered import ShelteredBuffer
from buffer.trim import carry_out, plan
from tests.support.buffers import assert_balances, drain, expected, fill, kill, packed_exactly, samples_in
from tests.support.faults import Counting, Failing, MemoryFs, Switch, disk_full
from tests.support.ticks import START_MS, STEP_MS, exactly, tick

KEEP = Tiers(1e9, 0, 0, 1 << 20)
NOW = START_MS / 1000


class Rig:
    """A buffer of a destination that takes everything, and the clocks."""

    def __init__(
        self,
        fs: Fs,
        folder: Path,
        history: Tiers | None = KEEP,
        max_size: int = 1 << 20,
        on_full: OnFull = "thin",
        kind: type[Buffer] = Buffer,
        min_free: Callable[[int], int] = lambda _: 0,
    ) -> None:
        self.fs, self.folder, self.wall, self.mono = fs, str(folder), NOW, 0.0
        self.limits = Limits(max_size, min_free, 600, on_full, history=history)
        self.kind = kind
        self.open("a")

    def open(self, *names: str) -> None:
        self.buffer = self.kind(
            self.folder, self.limits, names, fs=self.fs, clock=lambda: self.mono, wall=lambda: self.wall
        )

    def deliver(self, first: int, end: int) -> None:
        """Append ticks, deliver them, and sync."""
        fill(self.buffer, first, end)
        drain(self.buffer.cursors["a"])
        self.buffer.sync()

    def sync_after(self, seconds: float) -> None:
        self.mono += seconds
        self.buffer.sync()

    def whole(self) -> list[Any]:
        reader = WholeReader(self.fs, self.folder)
        found = exactly([one for entry in reader for one in entry.ticks])
        assert reader.damaged == 0
        reader.close()
        return found


def test_what_every_destination_has_is_kept_bit_for_bit_and_nothing_is_written_for_it(tmp_path: Path) -> None:
    writes = {}
    for history in (KEEP, Tiers(0, 0, 0, 0)):
        fs = Counting(MemoryFs())
        rig = Rig(fs, tmp_path, history)
        rig.deliver(0, 100)
        rig.deliver(100, 200)
        writes[history] = {name: fs.calls.get(name, 0) for name in ("create", "write", "sync", "sync_folder")}
        assert (len(rig.buffer.history) > 5) == (history is KEEP)
        assert len(rig.buffer.log.sizes) <= 2
        if history is KEEP:
            assert rig.whole() == expected(range(200))
        rig.buffer.close()
    assert writes[KEEP] == writes[Tiers(0, 0, 0, 0)]


def test_it_survives_restarts_and_replay_and_export_read_it(tmp_path: Path) -> None:
    rig = Rig(RealFs(), tmp_path)
    for start in range(0, 200, 20):
        rig.deliver(start, start + 20)
        rig.buffer.close()
        rig.open("a")
    assert rig.whole() == expected(range(200))
    log = SegmentHistory(str(tmp_path), START_MS, START_MS + 200 * STEP_MS)
    assert exactly([one for piece in log.pieces(0) for one in piece.ticks]) == expected(range(200))
    some = SegmentHistory(str(tmp_path), START_MS + 100 * STEP_MS, START_MS + 110 * STEP_MS)
    found = [one for piece in some.pieces(0) for one in piece.ticks]
    assert set(map(str, expected(range(100, 111)))) <= set(map(str, exactly(found)))
    assert len(found) < 80
    rig.buffer.close()


def test_without_history_it_is_as_it_was(tmp_path: Path) -> None:
    rig = Rig(RealFs(), tmp_path)
    rig.deliver(0, 100)
    kept = len(rig.buffer.history)
    rig.buffer.configure(
        rig.limits._replace(history=None), ["a"]
    )  # a tool that does not know the configuration
    rig.deliver(100, 200)
    assert len(rig.buffer.history) == kept
    rig.buffer.configure(rig.limits._replace(history=Tiers(0, 0, 0, 1 << 20)), ["a"])
    rig.deliver(200, 300)
    assert len(rig.buffer.history) == 0
    assert list((tmp_path / "history").iterdir()) == []
    assert len(segments(str(tmp_path))) == len(rig.buffer.log.sizes) <= 2
    rig.buffer.close()


def test_a_new_destination_starts_at_the_log_and_gets_no_history(tmp_path: Path) -> None:
    rig = Rig(RealFs(), tmp_path)
    rig.deliver(0, 100)
    log_begins = rig.buffer.log.first
    assert log_begins > 0
    rig.buffer.configure(rig.limits, ["a", "b"])
    assert rig.buffer.cursors["b"].position == log_begins
    (tmp_path / "cursors" / "a.json").write_bytes(b"broken")
    kill(rig.buffer)
    rig.open("a", "c")
    assert rig.buffer.cursors["a"].position == rig.buffer.cursors["c"].position == log_begins
    assert_balances(rig.buffer)
    rig.buffer.close()


@pytest.mark.parametrize("on_full", ["thin", "drop_oldest", "drop_newest"])
def test_history_goes_before_anything_that_is_pending(tmp_path: Path, on_full: OnFull) -> None:
    rig = Rig(MemoryFs(), tmp_path, max_size=12_000, on_full=on_full)
    rig.deliver(0, 200)
    buffer, number = rig.buffer, 200
    assert len(buffer.history) > 5
    while len(buffer.history):
        fill(buffer, number, number + 1)
        number += 1
        assert buffer.cursors["a"].ledger.dropped == {}
        assert not buffer.log.thinned
        assert buffer.log.size + buffer.history.size <= 12_000
        if number % 10 == 0:
            buffer.sync()
        assert_balances(buffer)
    assert buffer.cursors["a"].pending() == (number - 200) * 3
    assert len(buffer.log.sizes) > 10
    buffer.close()


def test_it_takes_no_more_than_its_own_limit(tmp_path: Path) -> None:
    rig = Rig(RealFs(), tmp_path, Tiers(1e9, 0, 0, 3000))
    for start in range(0, 1000, 50):
        rig.deliver(start, start + 50)
        assert rig.buffer.history.size <= 3000
    assert rig.buffer.history.size > 2000
    numbers = [n for n in range(1000) if expected([n])[0] in rig.whole()]
    assert numbers == list(range(numbers[0], 1000))  # the oldest went
    assert sum(f.stat().st_size for f in (tmp_path / "history").iterdir()) == rig.buffer.history.size
    rig.buffer.configure(rig.limits._replace(history=Tiers(1e9, 0, 0, 1000)), ["a"])
    rig.buffer.sync()
    assert rig.buffer.history.size <= 1000
    rig.buffer.close()


def test_many_small_files_are_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "MOST_FILES", 30)
    rig = Rig(MemoryFs(), tmp_path, Tiers(1e9, 0, 0, 1 << 30), max_size=1 << 30)
    for _ in range(40):
        number = rig.buffer.log.end // 3
        rig.deliver(number, number + 1)
        rig.buffer.close()
        rig.open("a")
    rig.buffer.sync()
    assert len(rig.buffer.history) == 30
    rig.buffer.close()


# Age, and clocks that are wrong.


def aged(tmp_path: Path) -> Rig:
    """A rig with six files of history, of half an hour each, of which an hour is to be kept."""
    rig = Rig(MemoryFs(), tmp_path, Tiers(3600, 0, 0, 1 << 20))
    for start in range(0, 1080, 180):
        rig.deliver(start, start + 180)
        rig.buffer.close()
        rig.open("a")
        rig.buffer.sync()
        rig.sync_after(AGING / 10)  # packed, each by itself
    rig.wall = NOW + 10_800
    return rig


def test_it_goes_when_its_newest_sample_is_too_old(tmp_path: Path) -> None:
    rig = aged(tmp_path)
    assert all(one.head is not None for one in rig.buffer.history.files)
    for _ in range(60):
        rig.sync_after(AGING)
    times = [at.wall_ms for at, *_ in rig.whole()]
    limit = (rig.wall - 3600) * 1000
    assert times[0] <= limit <= times[0] + 180 * STEP_MS  # nothing younger went, and not a file more stayed
    rig.buffer.close()


def test_a_clock_that_is_ahead_for_a_while_costs_a_file(tmp_path: Path) -> None:
    rig = aged(tmp_path)
    kept = len(rig.buffer.history)
    rig.wall = NOW + 20 * 365 * 86400
    for _ in range(50):
        rig.sync_after(10)
    assert len(rig.buffer.history) >= kept - 2
    rig.buffer.close()


def test_a_clock_that_is_behind_makes_nothing_old(tmp_path: Path) -> None:
    rig = Rig(MemoryFs(), tmp_path, Tiers(3600, 0, 0, 1 << 20))
    rig.deliver(0, 60)
    rig.buffer.close()
    rig.open("a")
    kept = len(rig.buffer.history)
    assert kept >= 1
    early = [
        one._replace(at=one.at._replace(wall_ms=1000 + i)) for i, one in enumerate(map(tick, range(60, 90)))
    ]
    for one in early:
        rig.buffer.append([one])
    drain(rig.buffer.cursors["a"])
    rig.wall = NOW + 700
    for _ in range(10):
        rig.sync_after(AGING)
    assert packed_exactly(rig.whole())[:60] == packed_exactly(expected(range(60)))
    rig.buffer.close()


# Full and failing disks.


def test_a_full_disk_takes_history_and_not_the_append(tmp_path: Path) -> None:
    fs = MemoryFs()
    rig = Rig(fs, tmp_path)
    rig.deliver(0, 300)
    kept = len(rig.buffer.history)
    fs.capacity = fs.used + 100
    fill(rig.buffer, 300, 400)  # raises where there is no room
    assert 0 < len(rig.buffer.history) < kept
    assert rig.buffer.cursors["a"].pending() == 300
    rig.buffer.close()


def test_the_agent_that_starts_on_a_full_disk_takes_it_up_without_history(tmp_path: Path) -> None:
    fs = MemoryFs()
    rig = Rig(fs, tmp_path, kind=ShelteredBuffer)
    rig.deliver(0, 300)
    rig.buffer.close()
    fs.capacity = fs.used
    switch = Switch(Failing(fs, 1, disk_full, lasting=True))
    rig.fs = switch
    rig.open("a")
    fill(rig.buffer, 300, 310)
    assert rig.buffer.state == "full"
    switch.to = fs
    rig.buffer.sync()
    assert rig.buffer.state == "ok"
    assert rig.buffer.cursors["a"].pending() == 30
    rig.buffer.close()


def test_history_makes_room_above_the_floor_of_free_space(tmp_path: Path) -> None:
    fs = MemoryFs(1 << 30)
    rig = Rig(fs, tmp_path, min_free=lambda volume: volume // 2)
    rig.deliver(0, 300)
    assert len(rig.buffer.history) > 5
    fs.capacity = 40 << 20  # as if others had filled it: 20 MiB above the floor
    rig.buffer.sync()
    assert len(rig.buffer.history) == 0
    rig.buffer.close()


def test_where_it_cannot_be_kept_it_goes_as_before(tmp_path: Path) -> None:
    def on_another_volume(inner: Fs, name: str, args: tuple[Any, ...]) -> Any:
        if "/history/" in args[1]:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return getattr(inner, name)(*args)

    rig = Rig(Failing(MemoryFs(), 1, on_another_volume, lasting=True, only=["rename"]), tmp_path)
    rig.deliver(0, 100)
    assert len(rig.buffer.history) == 0
    assert len(rig.buffer.log.sizes) <= 2
    assert_balances(rig.buffer)
    rig.buffer.close()


# Tools.


def test_trim_takes_history_first_and_evicts_nothing_by_that(tmp_path: Path) -> None:
    rig = Rig(RealFs(), tmp_path)
    rig.deliver(0, 300)
    fill(rig.buffer, 300, 340)
    rig.buffer.close()
    cut = plan(str(tmp_path), before_ms=START_MS + 150 * STEP_MS)
    assert cut is not None
    assert cut.evicted == {"a": 0}
    carry_out(str(tmp_path), cut.before)
    left = rig.whole()
    assert 150 <= len(left) - 40 < 190
    assert left == expected(range(340))[-len(left) :]
    smaller = plan(str(tmp_path), to_size=1000)
    assert smaller is not None
    carry_out(str(tmp_path), smaller.before)
    assert list((tmp_path / "history").iterdir()) == []
    assert sum(one.bytes for one in segments(str(tmp_path))) <= 1000


def test_status_shows_the_backlog_and_history_apart(tmp_path: Path) -> None:
    rig = Rig(RealFs(), tmp_path)
    rig.deliver(0, 300)
    found = status(str(tmp_path), 1 << 20, NOW, None, 1 << 19)
    assert found.bytes == rig.buffer.log.size
    assert found.samples == (rig.buffer.log.end - rig.buffer.log.first)
    assert found.history_bytes == rig.buffer.history.size > 0
    assert (found.history_segments, found.history_max_bytes) == (len(rig.buffer.history), 1 << 19)
    assert found.history_samples == rig.buffer.log.first
    assert found.history_oldest_timestamp_ms == START_MS
    assert found.oldest_timestamp_ms == START_MS + rig.buffer.log.first // 3 * STEP_MS
    listed = segments(str(tmp_path))
    assert sum(one.samples for one in listed) == 900
    assert [one.history for one in listed] == [True] * len(rig.buffer.history) + [False] * len(
        rig.buffer.log.sizes
    )
    rig.buffer.close()


def test_verify_finds_damage_in_history(tmp_path: Path) -> None:
    rig = Rig(RealFs(), tmp_path)
    rig.deliver(0, 300)
    rig.buffer.close()
    assert verify(str(tmp_path)).ok
    assert verify(str(tmp_path)).samples == 900
    oldest, *_, damaged = sorted((tmp_path / "history").iterdir())
    data = bytearray(damaged.read_bytes())
    data[100] ^= 1
    damaged.write_bytes(data)
    oldest.unlink()  # what is not there is missed by nobody
    report = verify(str(tmp_path))
    assert [one.name for one in report.segments if one.damage] == [damaged.name]
    assert all(one.history for one in report.segments if one.damage)
    assert report.gaps == []


def test_positions_are_never_used_again_though_the_log_was_removed(tmp_path: Path) -> None:
    rig = Rig(RealFs(), tmp_path)
    rig.deliver(0, 300)
    begins = rig.buffer.log.first
    rig.buffer.close()
    shutil.rmtree(tmp_path / "segments")
    shutil.rmtree(tmp_path / "cursors")
    rig.open("a")
    assert rig.buffer.log.end >= begins > 0
    rig.deliver(300, 400)
    assert rig.whole()[-100:] == expected(range(300, 400))
    rig.buffer.close()
    assert samples_in(tmp_path) > 0


def test_a_reader_loses_nothing_while_files_become_history(tmp_path: Path) -> None:
    rig = Rig(RealFs(), tmp_path)
    rig.deliver(0, 100)
    fill(rig.buffer, 100, 300)
    reader, found = WholeReader(RealFs(), str(tmp_path)), []
    delivered = False
    while (entry := reader.next()) is not None:
        found += entry.ticks
        if (
            len(found) == 150 and not delivered
        ):  # in the middle of the log: all but its last file becomes history
            drain(rig.buffer.cursors["a"])
            rig.buffer.sync()
            delivered = True
    assert exactly(found) == expected(range(300))
    assert delivered
    fill(rig.buffer, 300, 400)
    drain(rig.buffer.cursors["a"])
    rig.buffer.sync()
    assert exactly([one for entry in reader for one in entry.ticks]) == expected(range(300, 400))
    reader.close()
    rig.buffer.close()
