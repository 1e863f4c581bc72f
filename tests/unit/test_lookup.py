"""Looking up series in history and log: what is found is what exists, whatever form it has, and whatever the writer does meanwhile."""

from __future__ import annotations

import itertools
import random
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from buffer.buffer import Buffer
from buffer.fs import Fs
from buffer.history import packed, tiers
from buffer.history.read import WholeReader
from buffer.history.work import AGING, Worker
from buffer.limits import Limits, Tiers
from buffer.lookup.cache import Cache
from buffer.lookup.files import TRIES, Lookup
from buffer.lookup.table import Placed, Table, taken
from buffer.model import Instant, Series, Tick
from buffer.reader import File
from tests.support.buffers import drain, fill, kill
from tests.support.faults import Counting, Failing, MemoryFs
from tests.support.ticks import BOOT, START_MS, STEP_MS, TABLES, tick

FOLDER = "d"
EVER = (0, 1 << 50)
LIMITS = Tiers(300, 0, 1e9, 1 << 20)
"""What is older than five minutes is to be by the hour."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files are small, so that there are several; locks are in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / FOLDER).mkdir()
    monkeypatch.setattr(tiers, "BLOCK_LEAST", 120)
    monkeypatch.setattr(tiers, "BLOCK_ROWS", 1)
    monkeypatch.setattr(tiers, "MOST_SOURCES", 4)
    monkeypatch.setattr(tiers, "SPAN_MS", {tiers.MINUTE: 0, tiers.HOUR: 0})


class Rig:
    """A buffer in memory, whose writer does what a test calls."""

    def __init__(self, history: Tiers | None = LIMITS, max_size: int = 1 << 20) -> None:
        self.fs, self.written = MemoryFs(), 0
        self.limits = Limits(max_size, segment_size=900, history=history)
        self.buffer = self._open()

    def _open(self) -> Buffer:
        buffer = Buffer(FOLDER, self.limits, ["a"], fs=self.fs, clock=lambda: 0.0, wall=self._now)
        kill(buffer)  # only its lock, so that there can be several
        return buffer

    def _now(self) -> float:
        return START_MS / 1000 + self.written * 10

    def write(self, count: int) -> None:
        fill(self.buffer, self.written, self.written + count)
        self.written += count

    def deliver(self) -> None:
        drain(self.buffer.cursors["a"])
        self.buffer.sync()

    def work(self, pieces: int = 1 << 20) -> None:
        """Pack and make coarser, in so many pieces at most."""
        steps = itertools.count().__next__
        worker = Worker(
            self.fs,
            self.buffer.history,
            itertools.count(0, AGING).__next__,
            self._now,
            cpu=steps,
        )
        for _ in range(6):
            worker.work(self.limits.history or LIMITS, pieces)
        worker.rest()

    def values(
        self, first_ms: int = 0, last_ms: int = EVER[1], fs: Fs | None = None, cache: Cache | None = None
    ) -> Any:
        lookup = Lookup(fs or self.fs, FOLDER, cache)
        found = samples(lookup, first_ms, last_ms)
        assert lookup.damaged == 0
        assert lookup.is_whole
        return found


class Holding:
    """Passes every call on, and knows which files are open."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.open_files = inner, set[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def open(self, path: str) -> int:
        fd: int = self._inner.open(path)
        self.open_files.add(fd)
        return fd

    def close(self, fd: int) -> None:
        self.open_files.remove(fd)
        self._inner.close(fd)


def samples(lookup: Lookup, first_ms: int, last_ms: int) -> dict[Series, list[tuple[int, float]]]:
    """All samples of a span by their series, in the order of the files and rows."""

    def visit(table: Table) -> Iterator[tuple[Series, list[tuple[int, int, float]]]]:
        rows = table.placed.within(first_ms, last_ms)
        times, order = taken(table.placed.times, rows), taken(table.placed.order, rows)
        for index, series in enumerate(table.series):
            if (column := table.values(index)) is not None:
                yield series, list(zip(order, times, taken(column, rows), strict=True))

    found: dict[Series, list[tuple[int, float]]] = {}
    for file in lookup.collect(first_ms, last_ms, visit):
        here: dict[Series, list[tuple[int, int, float]]] = {}
        for series, rows in file:
            here.setdefault(series, []).extend(rows)
        for series, rows in here.items():
            found.setdefault(series, []).extend((ms, value) for _, ms, value in sorted(rows))
    return {series: rows for series, rows in found.items() if rows}


def modelled(fs: Fs, first_ms: int, last_ms: int) -> dict[Series, list[tuple[int, float]]]:
    """The same by reading every entry."""
    found: dict[Series, list[tuple[int, float]]] = {}
    for entry in WholeReader(fs, FOLDER):
        for one in entry.ticks:
            for series, value in zip(one.series, one.values, strict=True):
                if first_ms <= one.at.wall_ms <= last_ms:
                    found.setdefault(series, []).append((one.at.wall_ms, value))
    return found


def test_what_is_found_is_what_reading_everything_finds_in_any_span() -> None:
    rig, chance = Rig(), random.Random(3)
    rig.write(200)
    rig.deliver()
    rig.work()
    rig.write(60)
    rig.deliver()
    rig.write(25)
    names = rig.fs.list(f"{FOLDER}/history")
    assert {name[-4:] for name in names} == {".col", ".seg"}
    cache = Cache()
    for _ in range(60):
        first, last = sorted(START_MS + chance.randint(-5, 300) * STEP_MS for _ in range(2))
        assert rig.values(first, last, cache=cache) == modelled(rig.fs, first, last)
    assert sum(map(len, rig.values().values())) > 300


def test_sets_of_series_that_change_and_clocks_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "BLOCK_LEAST", 500)
    rig, chance = Rig(), random.Random(5)
    ms = START_MS
    for number in range(400):
        ms += chance.choice((STEP_MS, STEP_MS, STEP_MS, -3 * STEP_MS, 20 * STEP_MS))
        width = chance.choice((2, 2, 2, 5))
        at = Instant(ms, number * STEP_MS, BOOT)
        ticks = [Tick(at, "probe", TABLES[width], [float(number)] * width)]
        if number % 7 == 0:
            ticks.append(Tick(at, "other", TABLES[9][8:], [float(number)]))
        rig.buffer.append(ticks)
        if number == 300:
            rig.deliver()
            rig.work()
    for _ in range(40):
        first, last = sorted(START_MS + chance.randint(-50, 800) * STEP_MS for _ in range(2))
        assert rig.values(first, last) == modelled(rig.fs, first, last)


def test_a_thinned_log_is_found_and_has_its_step() -> None:
    rig = Rig(max_size=1 << 13)
    rig.write(900)
    steps: list[int] = []

    def visit(table: Table) -> Iterator[None]:
        steps.append(table.step_ms)
        yield None

    Lookup(rig.fs, FOLDER).collect(*EVER, visit)
    assert {0, 60_000} <= set(steps)
    assert rig.values() == modelled(rig.fs, *EVER)


def test_files_of_another_time_and_columns_of_other_series_are_not_read() -> None:
    rig = Rig(Tiers(1e9, 0, 0, 1 << 20))
    rig.write(1200)
    rig.deliver()
    rig.work()
    newest = START_MS + (rig.written - 1) * STEP_MS

    def cost(first: int, last: int) -> int:
        counting = Counting(rig.fs)
        samples(Lookup(counting, FOLDER), first, last)
        return counting.bytes_read

    assert cost(newest - STEP_MS, newest) < cost(*EVER) / 3

    def one(table: Table) -> Iterator[array[float]]:
        if (column := table.values(0)) is not None:
            yield column

    every, single = Counting(rig.fs), Counting(rig.fs)
    samples(Lookup(every, FOLDER), *EVER)
    Lookup(single, FOLDER).collect(*EVER, one)
    assert single.calls["read"] < every.calls["read"]


def test_a_cache_answers_the_same_and_sees_what_is_appended() -> None:
    rig, cache = Rig(), Cache()
    rig.write(100)
    first = rig.values(cache=cache)
    assert rig.values(cache=cache) == first == modelled(rig.fs, *EVER)
    for _ in range(30):
        rig.write(3)
        assert rig.values(cache=cache) == modelled(rig.fs, *EVER)
    rig.deliver()
    rig.work()
    assert rig.values(cache=cache) == modelled(rig.fs, *EVER)
    cold, warm = Counting(rig.fs), Counting(rig.fs)
    assert rig.values(fs=cold) == rig.values(fs=warm, cache=cache)
    assert warm.bytes_read < cold.bytes_read


def test_a_cache_does_not_mistake_a_file_for_another_one_of_its_name() -> None:
    cache, other = Cache(), Rig()
    rig = Rig()
    rig.write(150)
    rig.values(cache=cache)
    for number in range(150):
        other.buffer.append([tick(number + 1000)])
    assert other.values(cache=cache) == modelled(other.fs, *EVER) != rig.values(cache=cache)


def test_a_cache_keeps_to_its_size() -> None:
    rig, cache = Rig(), Cache(20_000)
    rig.write(500)
    for _ in range(3):
        assert rig.values(cache=cache) == modelled(rig.fs, *EVER)
        assert 0 < cache.size <= 20_000
    tiny = Cache(1)
    assert rig.values(cache=tiny) == modelled(rig.fs, *EVER)
    assert tiny.size == 0


# The writer at work.


class Move(NamedTuple):
    """What the writer does while something is looked up."""

    does: Callable[[Rig], None]
    keeps: bool = True
    """Whether everything is still there after it."""


def _all(rig: Rig) -> None:
    rig.deliver()
    rig.work()
    rig.write(9)


def _drop(rig: Rig) -> None:
    assert rig.buffer._room.give_way()


def _restart(rig: Rig) -> None:
    rig.buffer.close()
    rig.buffer = rig._open()
    rig.write(5)


MOVES = {
    "appends": Move(lambda rig: rig.write(40)),
    "moves_to_history": Move(lambda rig: rig.deliver()),
    "packs": Move(lambda rig: rig.work(30)),
    "makes_coarser": Move(lambda rig: rig.work()),
    "everything": Move(_all),
    "trims": Move(lambda rig: rig.buffer.trim(300), keeps=False),
    "drops": Move(_drop, keeps=False),
    "restarts": Move(_restart),
}


def busy() -> Rig:
    """Packed files, coarse ones, segments of history, and a log."""
    rig = Rig()
    rig.write(150)
    rig.deliver()
    rig.work()
    rig.write(60)
    rig.deliver()
    rig.write(40)
    return rig


def complete(
    found: dict[Series, list[tuple[int, float]]], first_number: int, last_number: int, kept_ms: int
) -> None:
    """Check that each series is there without a gap and nothing twice: its counter's values name the ticks."""
    assert len(found) == 3
    for index, series in enumerate(TABLES[3]):
        rows = found[series]
        numbers = [int(value - index) // 64 for _, value in rows]
        assert [(START_MS + n * STEP_MS, float(n * 64 + index)) for n in numbers] == rows
        assert all(a < b for a, b in itertools.pairwise(numbers))
        assert numbers[-1] >= last_number
        exact = [n for n in numbers if START_MS + n * STEP_MS >= kept_ms]
        assert exact == list(range(exact[0], exact[-1] + 1))
        # A coarse row is the last one of its hour, so of each hour there is one at least.
        hours = {(START_MS + n * STEP_MS) // 3_600_000 for n in numbers}
        wanted = range(first_number, last_number + 1)
        assert hours >= {(START_MS + n * STEP_MS) // 3_600_000 for n in wanted}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
def test_the_writer_may_do_anything_at_any_call_of_a_reader(move: Move, is_warm: bool) -> None:
    calls = Failing(busy().fs, 1 << 30, lambda *_: None)
    samples(Lookup(calls, FOLDER), *EVER)
    assert calls.calls > 30
    every = 1 if move is MOVES["everything"] and not is_warm else 4
    for n in range(1, calls.calls + 1, every):
        rig, cache = busy(), Cache()
        if is_warm:
            rig.values(cache=cache)
        before = rig.written

        def act(inner: Fs, name: str, args: tuple[Any, ...], rig: Rig = rig) -> Any:
            move.does(rig)
            return getattr(inner, name)(*args)

        reading = Holding(Failing(rig.fs, n, act))
        lookup = Lookup(reading, FOLDER, cache)
        found = samples(lookup, *EVER)
        assert lookup.is_whole
        assert lookup.damaged == 0
        settled_ms = START_MS + (before - 20) * STEP_MS
        complete(found, 0 if move.keeps else before - 1, before - 1, settled_ms)
        assert not reading.open_files


def test_a_thinner_at_any_call_of_a_reader() -> None:
    def full() -> Rig:
        rig = Rig(max_size=1 << 13)
        rig.write(420)
        return rig

    model = modelled(full().fs, *EVER)
    calls = Failing(full().fs, 1 << 30, lambda *_: None)
    samples(Lookup(calls, FOLDER), *EVER)
    thinned = 0
    for n in range(1, calls.calls + 1, 2):
        rig = full()

        def act(inner: Fs, name: str, args: tuple[Any, ...], rig: Rig = rig) -> Any:
            assert rig.buffer._room._thin()
            return getattr(inner, name)(*args)

        found = samples(Lookup(Failing(rig.fs, n, act), FOLDER), *EVER)
        later = modelled(rig.fs, *EVER)
        for series, rows in found.items():
            assert [ms for ms, _ in rows] == sorted({ms for ms, _ in rows})
            assert {ms // 60_000 for ms, _ in rows} == {ms // 60_000 for ms, _ in model[series]}
        thinned += found == later != model
        assert found in (model, later) or found.keys() == model.keys()
    assert thinned


def test_a_writer_that_is_always_faster_is_said() -> None:
    rig = busy()

    def gone(inner: Fs, name: str, args: tuple[Any, ...]) -> Any:
        raise FileNotFoundError(*args)

    lookup = Lookup(Failing(rig.fs, 1, gone, lasting=True, only=["open"]), FOLDER)
    assert samples(lookup, *EVER) == {}
    assert not lookup.is_whole
    assert TRIES > 3


# Damage.


def last_record(fs: Fs, path: str) -> int:
    """Where the last record of a segment begins: what cuts that one off is no damage."""
    folder, _, name = path.rpartition("/")
    with closing(File(fs, folder, int(name[:20]))) as file:
        offsets = [file.offset for _ in file]
    return offsets[-2]


def test_any_flipped_bit_costs_something_that_is_counted_or_nothing_and_no_value_is_wrong() -> None:
    rig, chance = busy(), random.Random(11)
    model = modelled(rig.fs, *EVER)
    for path, node in list(rig.fs.entries.items()):
        if not path.endswith((".seg", ".col")):
            continue
        good = bytes(node.data)
        end = len(good) if path.endswith(".col") else last_record(rig.fs, path)
        for at in [*range(0, min(80, end), 3), *(chance.randrange(end) for _ in range(25))]:
            node.data = bytearray(good)
            node.data[at] ^= 1 << chance.randrange(8)
            lookup = Lookup(rig.fs, FOLDER)
            found = samples(lookup, *EVER)
            for series, rows in found.items():
                assert set(rows) <= set(model[series])
            assert lookup.damaged or found == model
        for at in (0, 10, 60, len(good) // 2, len(good) - 1):
            node.data = bytearray(good[:at])
            lookup = Lookup(rig.fs, FOLDER)
            for series, rows in samples(lookup, *EVER).items():
                assert set(rows) <= set(model[series])
        node.data = bytearray(good)
    assert samples(Lookup(rig.fs, FOLDER), *EVER) == model


def test_a_disk_that_cannot_be_read_in_places_costs_what_it_costs() -> None:
    rig = busy()
    model = modelled(rig.fs, *EVER)
    calls = Failing(rig.fs, 1 << 30, lambda *_: None, only=["read"])
    samples(Lookup(calls, FOLDER), *EVER)

    def fails(_inner: Fs, _name: str, _args: tuple[Any, ...]) -> Any:
        raise OSError(5, "Input/output error")

    for n in range(1, calls.calls + 1):
        reading = Holding(Failing(rig.fs, n, fails, only=["read"]))
        lookup = Lookup(reading, FOLDER)
        for series, rows in samples(lookup, *EVER).items():
            assert set(rows) <= set(model[series])
        assert not reading.open_files


def test_damage_in_a_segment_costs_a_stretch_and_the_rest_is_remembered() -> None:
    rig, cache = Rig(), Cache()
    rig.write(60)
    path = next(path for path in rig.fs.entries if path.endswith(".seg"))
    data = rig.fs.entries[path].data
    data[len(data) // 3] ^= 4
    lookup = Lookup(rig.fs, FOLDER, cache)
    found = samples(lookup, *EVER)
    with closing(WholeReader(rig.fs, FOLDER)) as reader:
        list(reader)
        assert lookup.damaged == reader.damaged > 0
    assert found == modelled(rig.fs, *EVER)
    again = Lookup(rig.fs, FOLDER, cache)
    assert (samples(again, *EVER), again.damaged) == (found, lookup.damaged)


def test_the_newest_time_is_known_without_reading_columns() -> None:
    rig = busy()
    counting = Counting(rig.fs)
    assert Lookup(counting, FOLDER).newest_ms() == START_MS + (rig.written - 1) * STEP_MS
    assert Lookup(MemoryFs(), FOLDER).newest_ms() is None
    columns = [name for name in rig.fs.list(f"{FOLDER}/history") if name.endswith(packed.SUFFIX)]
    assert counting.calls["open"] <= len(columns) + 20


def test_rows_of_a_span_also_where_the_clock_was_set() -> None:
    rises = Placed(array("q", [1, 3, 3, 7]), array("q", range(4)), rises=True)
    assert list(rises.within(3, 6)) == [1, 2]
    fell = Placed(array("q", [5, 1, 7, 3]), array("q", range(4)), rises=False)
    assert list(fell.within(3, 6)) == [0, 3]
