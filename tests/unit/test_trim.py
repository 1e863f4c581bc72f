"""Trimming: what is chosen, what it costs, and ledgers that balance whatever fails meanwhile."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from buffer import requests
from buffer.buffer import Buffer
from buffer.errors import LimpetError
from buffer.fs import RealFs
from buffer.inspect.segments import SegmentStatus, segments
from buffer.inspect.status import status
from buffer.ledger import Ledger
from buffer.limits import Limits
from buffer.lock import Lock
from buffer.reader import Reader
from buffer.trim import carry_out, cut, plan
from tests.support.buffers import fill, kill
from tests.support.faults import Failing, PowerLost, Switch, broken_write, died, disk_full, eio
from tests.support.limpet import ROOT
from tests.support.net import wait_for
from tests.support.ticks import START_MS, STEP_MS, tick

TICKS, WIDTH = 200, 5


def build(folder: Path) -> Buffer:
    """A thousand samples in some ten segments; `fast` is half-way, `slow` has nothing yet."""
    buffer = Buffer(str(folder), Limits(segment_size=600), ["fast", "slow"])
    fill(buffer, 0, TICKS, WIDTH)
    fast = buffer.cursors["fast"]
    chunk = fast.read(TICKS * WIDTH // 2)
    fast.commit(chunk.start, chunk.end, chunk.samples - 10, {"rejected": 10})
    buffer.log.sync()
    for cursor in buffer.cursors.values():
        cursor.persist()
    return buffer


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build(folder).close()
    return folder


@pytest.fixture
def data(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "data")
    return tmp_path / "data"


def pending(folder: Path, position: int) -> int:
    """How many samples a reader gets from a position on."""
    reader, found = Reader(RealFs(), str(folder / "segments"), position), 0
    while (entry := reader.next()) is not None:
        found += entry.samples
    reader.close()
    return found


def check_ledgers(folder: Path, *before: int) -> None:
    """Check that what a trim removed is counted as evicted for each destination that had not got it, however the trim ended.

    `before` are the positions up to which a destination may have given up what it had not got.
    """
    found = {one.name: one for one in status(str(folder)).destinations}
    half = TICKS * WIDTH // 2
    for name, had in (("fast", half), ("slow", 0)):
        ledger = found[name].ledger
        evicted = ledger.dropped["evicted"]
        assert evicted in {max(0, position - had) for position in before}
        assert ledger.delivered == (had - 10 if had else 0)
        assert ledger.dropped["rejected"] == (10 if had else 0)
        assert ledger.appended == TICKS * WIDTH
        assert ledger.pending == pending(folder, had + evicted) == TICKS * WIDTH - had - evicted


def under_way(folder: Path, before: int) -> list[int]:
    """How far a trim up to `before` may be: each destination gives a segment up, and then it goes."""
    return [one.first_seq for one in segments(str(folder))[:2] if one.first_seq <= before]


def a_file(first: int, end: int, size: int = 100, newest: int | None = None, level: int = 0) -> SegmentStatus:
    last = end * 1000 if newest is None else newest
    oldest, youngest = (None, None) if last < 0 else (first * 1000, last)
    return SegmentStatus(str(first), level, first, end, size, 1, 1, end - first, oldest, youngest, 0, 0)


FILES = [a_file(0, 10), a_file(10, 20), a_file(20, 30), a_file(30, 40)]
DAMAGED = [
    a_file(0, 10),
    a_file(10, 20, newest=-1),
    a_file(20, 30),
    a_file(30, 40, newest=-1),
    a_file(40, 50),
]
CHOICES: dict[str, tuple[list[SegmentStatus], dict[str, int], int | None]] = {
    "older than everything": (FILES, {"before_ms": 0}, None),
    "in the middle of a segment": (FILES, {"before_ms": 19_999}, 10),
    "at its newest sample": (FILES, {"before_ms": 20_000}, 10),
    "just behind it": (FILES, {"before_ms": 20_001}, 20),
    "newer than everything": (FILES, {"before_ms": 99_000}, 30),
    "one segment": (FILES[:1], {"before_ms": 99_000}, None),
    "no segment": ([], {"before_ms": 99_000}, None),
    "what has no age goes with what is behind it": (DAMAGED, {"before_ms": 30_001}, 30),
    "and stays with what is before it": (DAMAGED, {"before_ms": 10_001}, 10),
    "a newer one in between": ([a_file(0, 10, newest=99_000), *FILES[1:]], {"before_ms": 30_000}, None),
    "small enough": (FILES, {"to_size": 400}, None),
    "a byte too large": (FILES, {"to_size": 399}, 10),
    "half": (FILES, {"to_size": 200}, 20),
    "nothing may stay but the newest": (FILES, {"to_size": 0}, 30),
}


@pytest.mark.parametrize(("files", "limit", "before"), CHOICES.values(), ids=list(CHOICES))
def test_what_is_chosen(files: list[SegmentStatus], limit: dict[str, int], before: int | None) -> None:
    found = cut(files, {}, **limit)
    assert (found.before if found else None) == before
    if found:
        gone = [one for one in files if one.first_seq < found.before]
        assert (found.segments, found.bytes) == (len(gone), sum(one.bytes for one in gone))
        assert found.samples == sum(one.samples for one in gone)


def at(position: int) -> Ledger:
    return Ledger(position, 0, position, {}, 0, 0, "idle", None, 0.0, None)


def test_what_it_costs_each_destination() -> None:
    coarse = a_file(0, 10, level=1)._replace(samples=4)  # six positions of it were thinned away
    found = cut([coarse, *FILES[1:]], {"all": at(40), "some": at(12), "none": at(0)}, to_size=200)
    assert found is not None
    assert found.evicted == {"all": 0, "some": 8, "none": 14}


def test_a_trim_of_a_stopped_buffer(data: Path) -> None:
    planned = plan(str(data), before_ms=START_MS + 150 * STEP_MS)
    assert planned is not None
    assert TICKS * WIDTH // 2 < planned.before <= 150 * WIDTH
    assert planned.evicted == {"fast": planned.before - TICKS * WIDTH // 2, "slow": planned.before}
    assert carry_out(str(data), planned.before) is None
    left = segments(str(data))
    assert left[0].first_seq == planned.before
    check_ledgers(data, planned.before)
    assert plan(str(data), before_ms=START_MS + 150 * STEP_MS) is None
    buffer = Buffer(str(data), Limits(), ["fast", "slow"])
    assert buffer.append([tick(TICKS, WIDTH)]) == (TICKS + 1) * WIDTH  # the numbering continues
    buffer.close()


def test_a_trim_leaves_removed_destinations_as_they_are(data: Path) -> None:
    buffer = Buffer(str(data), Limits(), ["slow"])
    buffer.close()
    removed = {one.name: one.removed_timestamp_ms for one in status(str(data)).destinations}
    assert removed["fast"] is not None
    carry_out(str(data), 500)
    assert {one.name: one.removed_timestamp_ms for one in status(str(data)).destinations} == removed


def test_the_newest_segment_is_never_dropped(data: Path) -> None:
    newest = segments(str(data))[-1]
    carry_out(str(data), 10**9)
    assert [one.name for one in segments(str(data))] == [newest.name]
    check_ledgers(data, newest.first_seq)


def test_a_running_writer_does_it_at_its_next_sync(tmp_path: Path) -> None:
    buffer = build(tmp_path)
    before = segments(str(tmp_path))[4].first_seq
    asked = threading.Event()
    done: list[int | None] = []
    asker = threading.Thread(
        target=lambda: done.append(carry_out(str(tmp_path), before, waiting=lambda _: asked.set()))
    )
    asker.start()
    assert asked.wait(10)
    assert segments(str(tmp_path))[0].first_seq == 0
    buffer.sync()
    asker.join(10)
    assert len(done) == 1
    assert done[0] is not None
    assert segments(str(tmp_path))[0].first_seq == before
    assert list((tmp_path / "requests").iterdir()) == []
    check_ledgers(tmp_path, before)
    buffer.sync()
    buffer.close()
    check_ledgers(tmp_path, before)


def test_a_request_is_taken_back_when_the_writer_does_not_answer(data: Path) -> None:
    lock = Lock(str(data / "lock"))
    with pytest.raises(LimpetError, match=r"has not trimmed it within 0\.3 s"):
        carry_out(str(data), 500, patience=0.3)
    lock.close()
    assert list((data / "requests").iterdir()) == []
    Buffer(str(data), Limits(), ["fast", "slow"]).sync()
    assert segments(str(data))[0].first_seq == 0


def test_a_writer_that_ends_meanwhile_leaves_it_to_us(data: Path) -> None:
    lock = Lock(str(data / "lock"))
    assert carry_out(str(data), 500, waiting=lambda _: lock.close()) is None
    check_ledgers(data, max(one.first_seq for one in segments(str(data)) if one.first_seq <= 500))


NO_REQUEST: list[Any] = [
    b"",
    b"{",
    b"[]",
    b"7",
    json.dumps({"version": 2, "before": 500}).encode(),
    json.dumps({"version": 1, "before": "500"}).encode(),
    json.dumps({"version": 1, "before": True}).encode(),
    json.dumps({"version": 1}).encode(),
    json.dumps({"version": 1, "before": -5}).encode(),
    b"[" * 4000,
    bytes(range(256)) * 40,
]


@pytest.mark.parametrize("content", NO_REQUEST, ids=range(len(NO_REQUEST)))
def test_what_is_no_request_trims_nothing_and_goes(data: Path, content: bytes) -> None:
    (data / "requests" / "trim.json").write_bytes(content)
    buffer = Buffer(str(data), Limits(), ["fast", "slow"])
    buffer.sync()
    buffer.close()
    assert segments(str(data))[0].first_seq == 0
    assert list((data / "requests").iterdir()) == []


@pytest.mark.parametrize("fault", [eio, disk_full, broken_write, died], ids=lambda fault: fault.__name__)
def test_any_call_of_a_trim_may_fail(built: Path, tmp_path: Path, fault: Any) -> None:
    for n in itertools.count(1):
        data = tmp_path / str(n)
        shutil.copytree(built, data)
        switch = Switch(RealFs())
        buffer = Buffer(str(data), Limits(), None, fs=switch)
        before = segments(str(data))[6].first_seq
        switch.to = fs = Failing(RealFs(), n, fault)
        requests.ask_trim(RealFs(), str(data), before)
        with suppress(OSError, PowerLost):
            buffer.sync()
        kill(buffer)
        # Whatever happened: what is gone is accounted for, and the next one to open it does what is left to do.
        check_ledgers(data, *under_way(data, before))
        again = Buffer(str(data), Limits(), None)
        again.sync()
        again.close()
        check_ledgers(data, before)
        assert list((data / "requests").iterdir()) == []
        shutil.rmtree(data)
        if fs.failed is None:
            assert n > 10
            return


KILLED = """
import os, signal, sys
from buffer import buffer, trim
from buffer.fs import RealFs

class Deadly(RealFs):
    left = int(sys.argv[3])
    def unlink(self, path):
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        super().unlink(path)

buffer.RealFs = Deadly
trim.carry_out(sys.argv[1], int(sys.argv[2]))
"""


@pytest.mark.parametrize("removed", [0, 1, 4])
def test_kill_9_in_the_middle_of_a_trim(data: Path, removed: int) -> None:
    firsts = [one.first_seq for one in segments(str(data))]
    command = [sys.executable, "-c", KILLED, str(data), str(firsts[6]), str(removed)]
    done = subprocess.run(command, cwd=ROOT, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [one.first_seq for one in segments(str(data))] == firsts[removed:]
    check_ledgers(data, *under_way(data, firsts[6]))
    Buffer(str(data), Limits(), None).close()
    check_ledgers(data, *under_way(data, firsts[6]))
    assert carry_out(str(data), firsts[6]) is None  # and it can be done again
    check_ledgers(data, firsts[6])


def test_trims_and_evictions_of_two_threads_drop_nothing_twice(tmp_path: Path) -> None:
    buffer = Buffer(
        str(tmp_path), Limits(max_size=16 << 10, segment_size=512, on_full="drop_oldest"), ["slow"]
    )
    stop, failed = threading.Event(), list[BaseException]()

    def keep_syncing() -> None:
        try:
            while not stop.is_set():
                requests.ask_trim(RealFs(), str(tmp_path), buffer.log.first + 40)
                buffer.sync()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=keep_syncing)
    thread.start()
    deadline = time.monotonic() + 3
    number = 0
    while time.monotonic() < deadline and not failed:
        buffer.append([tick(number, WIDTH)])
        number += 1
    stop.set()
    thread.join(10)
    assert not failed
    slow = buffer.cursors["slow"].ledger
    assert slow.dropped == {"evicted": buffer.log.first}
    assert pending(tmp_path, slow.position) == buffer.log.end - slow.position
    buffer.close()
    wait_for(lambda: not thread.is_alive(), 5, "the thread")
