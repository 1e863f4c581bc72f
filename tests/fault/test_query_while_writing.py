"""Queries in parallel while the writer appends, moves, packs, makes coarser and drops: each answer is that of some moment.

`tests/unit/test_lookup.py` lets the writer act at each call of a reader; here both are at work on real files.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.ops.selector import Matcher
from agent.query.engine import evaluate
from agent.query.limits import Budget, Limits
from agent.query.parse import parse
from agent.query.source import BufferSource
from agent.query.value import Steps
from buffer.buffer import Buffer
from buffer.history import tiers, work
from buffer.limits import Limits as BufferLimits
from buffer.limits import Tiers
from buffer.lookup.cache import Cache
from tests.support.buffers import drain, fill
from tests.support.serving import Serving
from tests.support.ticks import START_MS, STEP_MS

READERS, SECONDS = 4, 3.0
NAME = "probe_0_total"
EVERY = ((Matcher("__name__", "=", NAME),), (0, 1 << 50))


class Writer:
    """Appends and delivers as fast as it can; its clock is that of its ticks."""

    def __init__(self, folder: Path, history: Tiers, most: int = 1 << 20) -> None:
        self.count, self.levels = 0, set[int]()
        limits = BufferLimits(most, segment_size=20_000, history=history)
        self.buffer = Buffer(str(folder), limits, ["a"], clock=self._seconds, wall=self._wall)
        self.stop = threading.Event()

    def _seconds(self) -> float:
        return self.count * STEP_MS / 1000

    def _wall(self) -> float:
        return START_MS / 1000 + self._seconds()

    def write(self, count: int) -> None:
        for _ in range(count):
            fill(self.buffer, self.count, self.count + 1)
            self.count += 1

    def run(self) -> None:
        while not self.stop.is_set():
            self.write(60)
            drain(self.buffer.cursors["a"], 1 << 20)
            self.buffer.sync()
            self.levels |= {one.head.level for one in self.buffer.history.files if one.head}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are small, and all that is due is done at once."""
    monkeypatch.setattr(tiers, "BLOCK_LEAST", 600)
    monkeypatch.setattr(tiers, "BLOCK_ROWS", 1)
    monkeypatch.setattr(tiers, "SPAN_MS", {tiers.MINUTE: 600_000, tiers.HOUR: 7_200_000})
    monkeypatch.setattr(work, "SHARE", 1.0)
    monkeypatch.setattr(work, "AGING", 0.0)


@contextmanager
def at_work(writer: Writer) -> Iterator[None]:
    writer.write(600)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        yield
    finally:
        writer.stop.set()
        thread.join(60)
        writer.buffer.close()
    assert not thread.is_alive()


def in_parallel(once: Callable[[], None], is_enough: Callable[[], bool]) -> int:
    """Do this again and again in some threads, until it is enough; return how many times."""
    until = time.monotonic() + SECONDS
    end = until + 60

    def again() -> int:
        done = 0
        while not done or time.monotonic() < until or not (is_enough() or time.monotonic() > end):
            once()
            done += 1
        return done

    with ThreadPoolExecutor(READERS) as threads:
        return sum(one.result(120) for one in [threads.submit(again) for _ in range(READERS)])


@pytest.mark.parametrize("is_warm", [True, False], ids=["one_cache", "each_its_own"])
def test_every_sample_counts_once_in_every_answer(tmp_path: Path, is_warm: bool) -> None:
    writer = Writer(tmp_path, Tiers(3_600, 7_200, 1e9, 1 << 30), 1 << 30)
    shared = Cache(1 << 20) if is_warm else None
    text = f"count_over_time({NAME}[100y])"
    tree = parse(text)

    def once() -> None:
        before = writer.count
        budget = Budget(Limits(seconds=60), time.monotonic)
        source = BufferSource(str(tmp_path), budget, cache=shared)
        at_ms = START_MS + (1 << 40)
        result = evaluate(tree, text, Steps(at_ms, at_ms, 1), source.read, budget)
        after = writer.count
        ((count,),) = [line.values for line in result.lines]
        assert source.warnings() == []
        assert count is not None
        assert before <= count <= after + 1

    with at_work(writer):
        assert in_parallel(once, lambda: len(writer.levels) == 3) >= READERS
    assert writer.levels == {0, tiers.MINUTE, tiers.HOUR}


def test_every_sample_counts_once_in_every_answer_over_http(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "data", Tiers(3_600, 7_200, 1e9, 1 << 30), 1 << 30)
    asked = {"query": f"count_over_time({NAME}[100y])", "time": (START_MS + (1 << 40)) / 1000}

    def once() -> None:
        before = writer.count
        found = server.ask("/api/v1/query", asked).json
        assert found["status"] == "success"
        assert "warnings" not in found
        (one,) = found["data"]["result"]
        assert before <= float(one["value"][1]) <= writer.count + 1

    with at_work(writer), Serving(tmp_path / "served", tmp_path / "data") as server:
        assert in_parallel(once, lambda: len(writer.levels) == 3) >= READERS
    assert writer.levels == {0, tiers.MINUTE, tiers.HOUR}


def test_no_interval_is_missing_while_the_oldest_goes(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Tiers(7_200, 1e9, 0, 30_000), 1 << 17)
    shared = Cache(1 << 20)
    oldest = set[int]()

    def once() -> None:
        before = writer.count
        source = BufferSource(str(tmp_path), Budget(Limits(seconds=60), time.monotonic), cache=shared)
        ((one,),) = source.read(dict([EVERY])).values()
        assert source.warnings() == []
        numbers = [int(value) // 64 for value in one.values]
        assert list(one.times) == [START_MS + number * STEP_MS for number in numbers]
        assert numbers[-1] >= before - 1
        minutes = [ms // 60_000 for ms in one.times]
        assert sorted(set(minutes)) == list(range(minutes[0], minutes[-1] + 1))
        oldest.add(numbers[0])

    with at_work(writer):
        assert in_parallel(once, lambda: max(oldest) > 0) >= READERS
    assert max(oldest) > 0


def test_no_interval_is_missing_while_the_oldest_goes_over_http(tmp_path: Path) -> None:
    """Or the answer says that something may be."""
    writer = Writer(tmp_path / "data", Tiers(7_200, 1e9, 0, 30_000), 1 << 17)
    asked = {"query": f"{NAME}[100y]", "time": (START_MS + (1 << 40)) / 1000}
    oldest = set[int]()

    def once() -> None:
        before = writer.count
        found = server.ask("/api/v1/query", asked).json
        assert found["status"] == "success"
        (one,) = found["data"]["result"]
        times = [round(at * 1000) for at, _ in one["values"]]
        numbers = [int(value) // 64 for _, value in one["values"]]
        assert times == [START_MS + number * STEP_MS for number in numbers]
        if "warnings" in found:
            assert all("so samples may be missing" in said for said in found["warnings"])
            return
        assert numbers[-1] >= before - 1
        minutes = [ms // 60_000 for ms in times]
        assert sorted(set(minutes)) == list(range(minutes[0], minutes[-1] + 1))
        oldest.add(numbers[0])

    with at_work(writer), Serving(tmp_path / "served", tmp_path / "data") as server:
        assert in_parallel(once, lambda: max(oldest, default=0) > 0) >= READERS
    assert max(oldest) > 0


def test_series_and_their_numbers_while_the_writer_works(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Tiers(3_600, 7_200, 1e9, 1 << 30), 1 << 30)
    shared = Cache(1 << 20)

    def once() -> None:
        before = writer.count
        source = BufferSource(str(tmp_path), Budget(Limits(seconds=60), time.monotonic), cache=shared)
        found = source.series(*EVERY)
        assert source.warnings() == []
        ((_, _, _, first_ms, last_ms, samples),) = found
        assert START_MS <= first_ms <= START_MS + 3_600_000
        assert last_ms >= START_MS + (before - 1) * STEP_MS
        assert 0 < samples <= writer.count + 1

    with at_work(writer):
        assert in_parallel(once, lambda: True) >= READERS
