"""Any call to the file system may fail, and at any call the process or the machine may die.

One script is run again and again, and each time another call goes wrong: of each place in the buffer's code from which
the file system is called, by its whole stack, at least one.  So a call that is added to the buffer is covered the day it
is written.  What must hold afterwards is in `check`, the same for every fault.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType

import pytest

from buffer import ledger as ledgers
from buffer.buffer import Buffer
from buffer.cursor import Cursor
from buffer.errors import BufferFull
from buffer.fs import Fs
from buffer.history import work
from buffer.history.read import WholeReader
from buffer.ledger import Ledger
from buffer.limits import Limits, OnFull, Tiers
from buffer.log import Log
from buffer.model import Tick
from buffer.reader import Entry
from tests.support.buffers import assert_balances, entries, expected, kill, places, settle
from tests.support.buffers import numbers as numbers_in
from tests.support.faults import DEATHS, FAULTS, WRITING, Failing, Fault, MemoryFs, PowerLost
from tests.support.ticks import exactly, tick

pytestmark = pytest.mark.no_cover  # counting lines makes it three times as slow
WIDTH = 8
NAMES = ("quick", "slow")


@pytest.fixture(autouse=True)
def _no_work_on_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep each run the same call by call; the work on history has tests of its own (`test_history_crash`)."""
    monkeypatch.setattr(work, "SHARE", 0.0)


class Trace:
    """What a run of the script did, as its caller knows it."""

    def __init__(self) -> None:
        self.buffer: Buffer | None = None
        self.acknowledged: dict[int, int] = {}
        """Tick number: its position."""
        self.begun: int | None = None
        """The tick that is being appended."""
        self.promised = 0
        """Everything before this position was synced."""
        self.delivered = dict.fromkeys(NAMES, 0)
        self.settled: dict[str, set[int]] = {name: set() for name in NAMES}
        """Every position that was settled for a destination, delivered or dropped."""
        self.kept: dict[str, set[int]] = {name: set() for name in NAMES}
        """What a destination had settled when it was last synced."""
        self.stretches = self.jumps = 0


class Script:
    """Opens, appends, reads, commits, syncs, rolls, makes room, closes, opens again; may settle ahead, and keep history."""

    def __init__(
        self,
        folder: str,
        max_size: int,
        on_full: OnFull,
        ticks: int,
        ahead: bool,
        history: Tiers | None = None,
    ) -> None:
        self.folder, self.max_size, self.on_full, self.ticks = folder, max_size, on_full, ticks
        self.ahead, self.history = ahead, history

    def open(self, fs: Fs) -> Buffer:
        return Buffer(
            self.folder,
            Limits(max_size=self.max_size, segment_size=600, on_full=self.on_full, history=self.history),
            NAMES,
            fs=fs,
            clock=itertools.count().__next__,
        )

    def run(self, fs: Fs, trace: Trace) -> None:
        number = 0
        for _ in range(2):
            trace.buffer = buffer = self._open_at_last(fs)
            for _ in range(self.ticks):
                self._append(buffer, trace, number)
                number += 1
                if number % 3 == 0:
                    self._deliver(buffer, trace, "quick", 100, 0)
                if number % 5 == 0:
                    self._sync(buffer, trace)
                if number % 7 == 0:
                    self._deliver(buffer, trace, "slow", 100 if self.history else 30, WIDTH)
                if self.ahead and number % 4 == 0:
                    self._deliver(buffer, trace, "slow", 2 * WIDTH, 0, ahead=True)
            try:
                buffer.close()
            except OSError:
                assert not buffer.log._sealed
            else:
                self._synced(buffer, trace)

    def _open_at_last(self, fs: Fs) -> Buffer:
        try:
            return self.open(fs)
        except OSError:
            return self.open(fs)  # a fault comes once, and leaves no lock behind

    def _append(self, buffer: Buffer, trace: Trace, number: int) -> None:
        trace.begun = number
        try:
            trace.acknowledged[number] = buffer.append([tick(number, WIDTH)], missed=1) - WIDTH
        except (OSError, BufferFull):
            pass
        trace.begun = None
        for name, cursor in buffer.cursors.items():
            trace.settled[name] |= places(cursor.ledger)

    def _deliver(
        self, buffer: Buffer, trace: Trace, name: str, limit: int, refused: int, ahead: bool = False
    ) -> None:
        cursor = buffer.cursors[name]
        try:
            if ahead:
                cursor.go_ahead(WIDTH)
            chunk = cursor.read_ahead(limit) if ahead else cursor.read(limit)
            if chunk.samples:
                trace.delivered[name] += chunk.samples - refused
                trace.settled[name].update(range(chunk.start, chunk.end))
                trace.stretches = max(trace.stretches, len(cursor.ledger.ahead) + ahead)
                trace.jumps += any(start == chunk.end for start, _ in cursor.ledger.ahead)
                settle(cursor, chunk, refused)
        except OSError:
            pass

    def _sync(self, buffer: Buffer, trace: Trace) -> None:
        for name, cursor in buffer.cursors.items():
            trace.settled[name] |= places(cursor.ledger)
        try:
            buffer.sync()
        except OSError:
            pass
        else:
            self._synced(buffer, trace)

    def _synced(self, buffer: Buffer, trace: Trace) -> None:
        trace.promised = buffer.log.end
        trace.kept = {name: places(cursor.ledger) for name, cursor in buffer.cursors.items()}


def entries_of(fs: Fs, script: Script) -> list[Entry]:
    return entries(fs, f"{script.folder}/segments")


def whole_of(fs: Fs, script: Script) -> list[Entry]:
    with closing(WholeReader(fs, script.folder)) as reader:
        return list(reader)


def check(script: Script, fs: MemoryFs, trace: Trace, power_was_cut: bool, evicts: bool) -> None:
    reaches = [ledger.reach for name in NAMES if (ledger := stored(script, fs, name))]
    recovered = Log(fs, f"{script.folder}/segments", 600).end
    nothing_left = not entries_of(fs, script)
    buffer = script.open(fs)
    log = buffer.log
    # No cursor is ahead of the log, and each segment is behind the one before.  (What all destinations had
    # may be removed before what came after it is durable. Then the numbering continues behind the cursors.)
    assert max(reaches, default=0) <= (log.end if power_was_cut and nothing_left else recovered)
    assert all(a.end_seq <= b.first_seq for (a, _), (b, _) in itertools.pairwise(log.segments()))
    found = entries_of(fs, script)
    numbers = [n for entry in found for n in numbers_in(entry.ticks)]

    # Every record found was written: the same bits, in order, and at the position that was acknowledged.
    known = set(trace.acknowledged) | ({trace.begun} - {None})
    assert set(numbers) <= known
    assert numbers == sorted(set(numbers))
    assert all(a.end <= b.seq for a, b in itertools.pairwise(found))
    for number, entry in zip(numbers, found, strict=True):
        assert exactly(entry.ticks) == exactly([tick(number, WIDTH)])
        if number != trace.begun and script.on_full != "thin":
            assert entry.seq == trace.acknowledged[number]

    check_history(script, fs, trace, known)

    # Every acknowledged tick is there, or part of a thinned record, unless all destinations have settled it.
    # After a power cut that holds for every synced tick.
    covered = {p for entry in found for p in range(entry.seq, entry.end, WIDTH)}
    first = min(cursor.position for cursor in buffer.cursors.values())
    until = trace.promised if power_was_cut else 1 << 62
    missing = [p for p in trace.acknowledged.values() if first <= p < until and p not in covered]
    assert not missing
    # What is gone was settled by all, or evicted for those who had not.
    if not evicts:
        assert set(range(log.first)) <= set.intersection(*trace.settled.values())

    for name, cursor in buffer.cursors.items():
        ledger = cursor.ledger
        # Nothing is settled that was not, nothing is delivered that was not committed.
        assert ledger.delivered <= trace.delivered[name]
        was = trace.buffer.cursors[name].ledger if trace.buffer else ledger
        left = places(ledger)
        assert left <= trace.settled[name] | places(was) | set(range(log.first))
        assert len(left) == ledger.start + ledger.delivered + sum(ledger.dropped.values())
        assert evicts or "evicted" not in ledger.dropped
        assert "corrupt" not in ledger.dropped
        # What was delivered does not turn into a loss, whenever it ended.
        assert ledger.dropped.get("evicted", 0) <= was.dropped.get("evicted", 0)
        assert ledger.dropped.get("rejected", 0) <= len(trace.acknowledged) * WIDTH
        assert left >= trace.kept[name]
        assert_balances(buffer)

    # The log takes the next tick, and everything that waits is delivered, in order.
    last = 10_000
    buffer.append([tick(last, WIDTH)])
    found = entries_of(fs, script)  # again, because that may have made room
    numbers = [n for entry in found for n in numbers_in(entry.ticks)]
    for name, cursor in buffer.cursors.items():
        begun, seen = cursor.ledger, drain(buffer, cursor, script.ahead)
        waiting = [
            n for n, entry in zip(numbers, found, strict=True) if begun.unsettled(entry.seq, entry.end)
        ]
        assert waiting[-1] == last
        if script.ahead:
            seen.sort(key=lambda one: one.at)
        assert exactly(seen) == expected(waiting, WIDTH)
        assert cursor.pending() == 0
        if not power_was_cut:
            assert cursor.ledger.dropped.get("corrupt", 0) == 0
        assert buffer.cursors[name].ledger.damaged == 0 or power_was_cut
    missed = log.missed
    assert missed <= len(trace.acknowledged) + 1
    buffer.close()
    assert not fs.open_files

    again = script.open(fs)
    assert again.log.missed == missed
    assert [c.pending() for c in again.cursors.values()] == [0, 0]
    again.close()


def check_history(script: Script, fs: Fs, trace: Trace, known: set[int | None]) -> None:
    """Whatever of history is there is right, in order, and each position of it and the log once."""
    whole = whole_of(fs, script)
    assert all(a.end <= b.seq for a, b in itertools.pairwise(whole))
    for entry in whole:
        (number,) = numbers_in(entry.ticks)
        assert number in known
        if script.on_full != "thin" or script.history:
            assert exactly(entry.ticks) == exactly([tick(number, WIDTH)])
            assert entry.seq == trace.acknowledged.get(number, entry.seq)


def drain(buffer: Buffer, cursor: Cursor, ahead: bool) -> list[Tick]:
    """Deliver everything that waits, in order; or the newest first, and then from both ends of the gap."""
    seen: list[Tick] = []
    again = True
    while again:
        again = False
        if ahead:
            cursor.go_ahead(WIDTH)
        for read in (cursor.read_ahead, cursor.read) if ahead else (cursor.read,):
            chunk = read(3 * WIDTH)
            again = again or chunk.end > chunk.start
            seen += chunk.ticks
            settle(cursor, chunk)
            assert_balances(buffer)
    return seen


def stored(script: Script, fs: Fs, name: str) -> Ledger | None:
    return ledgers.load(fs, f"{script.folder}/cursors/{name}{ledgers.SUFFIX}")


# name: cap, what goes when it is reached, ticks, whether one destination is sent the newest first
SCRIPTS: dict[str, tuple[int, OnFull, int, bool] | tuple[int, OnFull, int, bool, Tiers]] = {
    "roomy": (1 << 20, "thin", 12, False),
    "drop_oldest": (1700, "drop_oldest", 10, False),
    "thin": (2000, "thin", 14, False),
    "kept": (1 << 20, "thin", 32, False, Tiers(1e12, 0, 0, 1 << 20)),
    "roomy_ahead": (1 << 20, "thin", 12, True),
    "drop_oldest_ahead": (1700, "drop_oldest", 10, True),
    "thin_ahead": (2000, "thin", 14, True),
}


@pytest.fixture(params=SCRIPTS)
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Script:
    return Script(str(tmp_path), *SCRIPTS[request.param])


def evicts(script: Script) -> bool:
    return script.max_size < 1 << 20


def test_the_scripts_do_what_they_are_for(script: Script) -> None:
    fs, trace = MemoryFs(), Trace()
    names: list[str] = []

    def listen(inner: Fs, name: str, args: tuple[object, ...]) -> object:
        names.append(name)
        return getattr(inner, name)(*args)

    script.run(Failing(fs, 1, listen, lasting=True), trace)
    assert len(trace.acknowledged) == 2 * script.ticks
    assert len(fs.list(f"{script.folder}/segments")) >= 2
    assert {"create", "write", "sync", "sync_folder", "unlink", "open", "close", "list"} <= set(names)
    assert trace.buffer is not None
    reasons = {reason for c in trace.buffer.cursors.values() for reason in c.ledger.dropped}
    assert "rejected" in reasons
    assert (trace.stretches >= 2) == script.ahead
    assert (trace.jumps >= 1) == script.ahead
    assert ("evicted" in reasons) >= (script.on_full == "drop_oldest")
    assert evicts(script) or "evicted" not in reasons
    assert bool(trace.buffer.log.thinned) == (evicts(script) and script.on_full == "thin")
    if script.history:
        assert len(trace.buffer.history) >= 2
        kept = [n for entry in whole_of(fs, script) for n in numbers_in(entry.ticks)]
        assert kept == list(trace.acknowledged)
    check(script, fs, trace, power_was_cut=False, evicts=evicts(script))


@pytest.mark.parametrize(("fault", "only"), FAULTS.values(), ids=FAULTS)
def test_any_call_may_fail(script: Script, fault: Fault, only: Collection[str]) -> None:
    for n in calls(
        script, only or (() if script.ahead else WRITING)
    ):  # the others' calls that read are among its own
        inner, trace = MemoryFs(), Trace()
        fs = Failing(inner, n, fault, only=only)
        script.run(fs, trace)
        assert fs.failed
        check(script, inner, trace, power_was_cut=False, evicts=evicts(script))


@pytest.mark.parametrize(("fault", "only"), DEATHS.values(), ids=DEATHS)
def test_the_process_may_die_at_any_call(script: Script, fault: Fault, only: Collection[str]) -> None:
    for n in calls(script, only):
        inner, trace = MemoryFs(), Trace()
        die(script, Failing(inner, n, fault, only=only), trace)
        inner.kill()
        check(script, inner, trace, power_was_cut=False, evicts=evicts(script))


@pytest.mark.parametrize(("fault", "only"), DEATHS.values(), ids=DEATHS)
def test_the_power_may_fail_at_any_call(script: Script, fault: Fault, only: Collection[str]) -> None:
    for n in calls(script, only):
        inner, trace = MemoryFs(), Trace()
        die(script, Failing(inner, n, fault, only=only), trace)
        inner.cut(random.Random(n))
        check(script, inner, trace, power_was_cut=True, evicts=evicts(script))


def calls(script: Script, only: Collection[str]) -> list[int]:
    """Return the numbers of the calls that go wrong: one of each place, or two where it is the longer script."""
    places = dict[tuple[object, ...], list[int]]()
    numbers = itertools.count(1)

    def listen(inner: Fs, name: str, args: tuple[object, ...]) -> object:
        places.setdefault((name, *stack()), []).append(next(numbers))
        return getattr(inner, name)(*args)

    script.run(Failing(MemoryFs(), 1, listen, lasting=True, only=only), Trace())
    assert len(places) > (50 if not only else 3)
    return sorted(
        {found[-1] for found in places.values()}
        | {found[0] for found in places.values() if only and script.ahead}
    )


def stack() -> Iterator[tuple[str, int]]:
    """Yield the functions of the buffer that are running, and their lines."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if Path(frame.f_code.co_filename).parent.name in ("buffer", "history"):
            yield frame.f_code.co_qualname, frame.f_lineno
        frame = frame.f_back


def die(script: Script, fs: Failing, trace: Trace) -> None:
    """Run the script until it dies."""
    with pytest.raises(PowerLost):
        script.run(fs, trace)
    release_lock(trace)


def release_lock(trace: Trace) -> None:
    """Let go of the lock, as the kernel does; a buffer that died while it was opened has done it itself."""
    if trace.buffer is not None:
        kill(trace.buffer)


@pytest.mark.parametrize(("fault", "only"), FAULTS.values(), ids=FAULTS)
def test_a_disk_that_fails_for_good_stops_nothing_and_loses_nothing(
    tmp_path: Path, fault: Fault, only: Collection[str]
) -> None:
    """From some call on everything fails, until the disk is well again."""
    script = Script(str(tmp_path), *SCRIPTS["roomy"])
    for n in range(20, 90, 9):
        inner, trace = MemoryFs(), Trace()
        fs = Failing(inner, n, fault, lasting=True, only=only)
        try:
            script.run(fs, trace)
        except OSError:  # it could not even be opened again
            pass
        assert trace.buffer is not None
        assert len(inner.open_files) <= 8
        inner.kill()
        release_lock(trace)
        check(script, inner, trace, power_was_cut=False, evicts=False)
