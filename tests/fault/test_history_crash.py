"""While history is packed and made coarser, any call may fail, and at any call the process or the machine may die.

What must hold then: each position is in the old files or in the new one, whole, nothing is lost and nothing is there twice; what
is pending is untouched; and the work continues where it was.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from buffer.buffer import Buffer
from buffer.fs import Fs
from buffer.history import tiers
from buffer.history.keep import History
from buffer.history.read import WholeReader
from buffer.history.work import AGING, Worker
from buffer.limits import Limits, Tiers
from buffer.model import Tick
from buffer.reader import Entry
from tests.support.buffers import assert_balances, drain, fill
from tests.support.faults import DEATHS, FAULTS, Failing, Fault, MemoryFs, PowerLost
from tests.support.ticks import START_MS, STEP_MS, bits, tick

DELIVERED, PENDING = 150, 20
pytestmark = pytest.mark.no_cover  # counting lines makes it three times as slow
LIMITS = Tiers(300, 0, 1e9, 1 << 20)
"""What is older than five minutes is to be by the hour."""
NOW = START_MS / 1000 + DELIVERED * 10


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are small, so that there are several."""
    monkeypatch.setattr(tiers, "BLOCK_LEAST", 120)
    monkeypatch.setattr(tiers, "BLOCK_ROWS", 1)
    monkeypatch.setattr(tiers, "MOST_SOURCES", 4)
    monkeypatch.setattr(tiers, "SPAN_MS", {tiers.MINUTE: 0, tiers.HOUR: 0})


def made(folder: str) -> MemoryFs:
    """A buffer whose history is not packed yet, all of it on the medium, and something that waits."""
    fs = MemoryFs()
    limits = Limits(1 << 20, segment_size=900, history=LIMITS)
    buffer = Buffer(folder, limits, ["a"], fs=fs, clock=lambda: 0.0, wall=lambda: NOW)
    fill(buffer, 0, DELIVERED)
    drain(buffer.cursors["a"])
    buffer.sync()
    fill(buffer, DELIVERED, DELIVERED + PENDING)
    buffer.close()
    for part in ("segments", "history", "cursors"):
        fs.sync_folder(f"{folder}/{part}")
    return fs


def work(fs: Fs, folder: str) -> Worker:
    """Do everything that is due, as the agent does it a little at a time."""
    clock = itertools.count(0, AGING).__next__
    worker = Worker(fs, History(fs, folder), clock, lambda: NOW, cpu=lambda: 0.0)
    for _ in range(6):
        worker.work(LIMITS, 1.0)
    return worker


def whole(fs: Fs, folder: str) -> list[Entry]:
    with closing(WholeReader(fs, folder)) as reader:
        found = list(reader)
        assert reader.damaged == 0
        return found


def exact(ticks: Collection[Tick]) -> list[tuple[int, bytes]]:
    return [(one.at.wall_ms, bits(one.values)) for one in ticks]


def check(fs: MemoryFs, folder: str, before: dict[str, bytes]) -> int:
    """Check the entries, and return how many there are."""
    found = whole(fs, folder)
    assert found[0].seq == 0
    assert all(a.end == b.seq for a, b in itertools.pairwise(found))
    assert found[-1].end == (DELIVERED + PENDING) * 3
    for entry in found:
        (one,) = entry.ticks
        number = (one.at.wall_ms - START_MS) // STEP_MS  # counters: the last value, also of many samples
        assert exact([one]) == exact([tick(number)])
    pending = dict(contents(fs, f"{folder}/segments").items())
    assert pending == before
    return len(found)


def contents(fs: MemoryFs, folder: str) -> dict[str, bytes]:
    return {name: bytes(fs.entries[f"{folder}/{name}"].data) for name in fs.list(folder)}


def test_the_work_does_what_it_is_for(tmp_path: Path) -> None:
    folder, names = str(tmp_path), list[str]()
    fs = made(folder)
    before = contents(fs, f"{folder}/segments")
    files = len(fs.list(f"{folder}/history"))
    assert files > 4
    assert check(fs, folder, before) == DELIVERED + PENDING

    def listen(inner: Fs, name: str, args: tuple[object, ...]) -> object:
        names.append(name)
        return getattr(inner, name)(*args)

    worker = work(Failing(fs, 1, listen, lasting=True), folder)
    assert {"create", "write", "sync", "rename", "sync_folder", "unlink", "read", "list"} <= set(names)
    left = check(fs, folder, before)
    assert left < DELIVERED // 2  # all but the last five minutes is by the hour
    levels = [one.head.level for one in History(fs, folder).files if one.head]
    assert set(levels) == {0, tiers.HOUR}
    assert len(levels) == len(fs.list(f"{folder}/history")) < files
    assert worker.written > 0
    assert not fs.open_files


def calls(folder: str, only: Collection[str]) -> Iterator[int]:
    fs = Failing(
        made(folder), 1, lambda inner, name, args: getattr(inner, name)(*args), lasting=True, only=only
    )
    work(fs, folder)
    assert fs.calls > 20
    return iter(range(1, fs.calls + 1))


@pytest.mark.parametrize(("fault", "only"), FAULTS.values(), ids=FAULTS)
def test_any_call_may_fail(tmp_path: Path, fault: Fault, only: Collection[str]) -> None:
    folder = str(tmp_path)
    numbers = list(calls(folder, only))
    for n in numbers if only else numbers[::3]:
        fs = made(folder)
        before = contents(fs, f"{folder}/segments")
        failing = Failing(fs, n, fault, only=only)
        work(failing, folder)
        assert failing.failed
        check(fs, folder, before)
        assert not fs.open_files
        work(fs, folder)
        assert check(fs, folder, before) < 100
        assert not [name for name in fs.list(f"{folder}/history") if name.endswith(".tmp")]


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power_cut"])
@pytest.mark.parametrize(("fault", "only"), DEATHS.values(), ids=DEATHS)
def test_it_may_die_at_any_call(tmp_path: Path, fault: Fault, only: Collection[str], power: bool) -> None:
    folder = str(tmp_path)
    for n in calls(folder, only):
        fs = made(folder)
        before = contents(fs, f"{folder}/segments")
        with pytest.raises(PowerLost):
            work(Failing(fs, n, fault, only=only), folder)
        if power:
            fs.cut(random.Random(n))
        else:
            fs.kill()
        check(fs, folder, before)
        work(fs, folder)  # the next start continues
        assert check(fs, folder, before) < 100
        assert not [name for name in fs.list(f"{folder}/history") if name.endswith(".tmp")]
        if n % 10 == 0:
            buffer = Buffer(folder, Limits(history=LIMITS), ["a"], fs=fs, clock=lambda: 0.0, wall=lambda: NOW)
            assert_balances(buffer)
            assert buffer.cursors["a"].pending() == PENDING * 3
            buffer.close()
            before = contents(fs, f"{folder}/segments")


def test_what_gives_way_while_it_is_worked_on_is_gone_and_nothing_else_is(tmp_path: Path) -> None:
    """The log takes the oldest files at any moment, in the middle of a piece of work."""
    folder = str(tmp_path)
    for slices in range(1, 60):
        fs = made(folder)
        history = History(fs, folder)
        ticking = itertools.count(0, AGING).__next__
        cpu = itertools.count().__next__
        worker = Worker(fs, history, ticking, lambda: NOW, cpu=cpu)
        worker.work(LIMITS, slices)
        first = history.files[0]
        assert history.drop_oldest()
        for _ in range(6):
            worker.work(LIMITS, 1 << 20)
        found = whole(fs, folder)
        assert all(a.end <= b.seq for a, b in itertools.pairwise(found))
        covered = sum(entry.end - entry.seq for entry in found)
        gone = (DELIVERED + PENDING) * 3 - covered
        assert 0 <= gone <= (first.head.end_seq if first.head else 150)
        assert sorted(one.name for one in history.files) == sorted(fs.list(f"{folder}/history"))
        assert history.size == sum(len(data) for data in contents(fs, f"{folder}/history").values())
