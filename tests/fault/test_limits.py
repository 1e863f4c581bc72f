"""A buffer that is far too small for what comes in, and a segment that is full of damage."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from buffer.buffer import Buffer
from buffer.errors import BufferFull
from buffer.fs import RealFs
from buffer.inspect.status import status
from buffer.limits import Limits, OnFull
from buffer.model import Instant, Series, Tick
from buffer.reader import Entry
from tests.support.buffers import assert_balances, entries, settle

CAP = 256 << 10
STEP_MS = 10_000
START_MS = 1_800_000_000_000 // 600_000 * 600_000
SERIES = tuple(
    Series(f"metric_{i}", (("hostname", "web-01"),), "counter" if i % 2 else "gauge") for i in range(30)
)
BOOT = "00" * 16


def feed(seed: int = 1) -> Iterator[Tick]:
    """Ticks of a busy host without end: counters that grow, gauges that wander."""
    chance = random.Random(seed)
    values = [1000.0 * i for i in range(len(SERIES))]
    at = START_MS
    while True:
        for i in range(len(values)):
            values[i] += chance.randrange(1 << 34) if i % 2 else chance.randrange(-(1 << 33), 1 << 33) / 100
        yield Tick(Instant(at, at - START_MS, BOOT), "host", SERIES, [round(v, 2) for v in values])
        at += STEP_MS


def size(folder: Path) -> int:
    return sum(os.stat(folder / "segments" / name).st_size for name in os.listdir(folder / "segments"))


def read_all(folder: Path) -> list[Entry]:
    return entries(RealFs(), folder / "segments")


def test_a_full_buffer_keeps_its_cap_the_newest_data_whole_and_older_data_coarse(tmp_path: Path) -> None:
    buffer = Buffer(str(tmp_path), Limits(max_size=CAP), ["slow", "dead"])
    ticks, largest = feed(), 0
    kept: list[Tick] = []
    slow = buffer.cursors["slow"]
    while buffer.log.written < 10 * CAP:
        tick = next(ticks)
        before = size(tmp_path) if len(kept) % 100 == 0 else 0
        buffer.append([tick])
        kept.append(tick)
        largest = max(largest, before)
        if len(kept) % 500 == 0:  # one destination gets a little, so that its position is in the middle
            settle(slow, slow.read(1000))
            buffer.sync()
        if len(kept) % 1000 == 0:
            assert_balances(buffer)
    assert largest <= CAP
    buffer.sync()
    assert_balances(buffer)
    buffer.close()

    found = read_all(tmp_path)
    newest = [t for e in found for t in e.ticks][-100:]
    assert [(t.at, t.values) for t in newest] == [(t.at, t.values) for t in kept[-100:]]
    assert {b.wall_ms - a.wall_ms for a, b in pairwise(found)} >= {10_000, 60_000, 600_000}
    check_thinned(found, kept)

    told = status(str(tmp_path))
    for destination in told.destinations:
        ledger = destination.ledger
        assert ledger.dropped["thinned"] > 0
        assert ledger.appended == len(kept) * len(SERIES)
        assert ledger.appended == ledger.delivered + ledger.pending + sum(ledger.dropped.values())
    dead = next(d for d in told.destinations if d.name == "dead")
    assert dead.pending_samples == sum(entry.samples for entry in found)


def check_thinned(entries: list[Entry], kept: list[Tick]) -> None:
    """Counters have their last value of the bucket, at its time; gauges lie within what the bucket had."""
    by_time = {tick.at.wall_ms: tick for tick in kept}
    index = {tick.at.wall_ms: i for i, tick in enumerate(kept)}
    previous = None
    for entry in entries:
        original = by_time[entry.wall_ms]
        [tick] = entry.ticks
        assert tick.values[1::2] == original.values[1::2]
        if previous is not None and entry.wall_ms - previous > STEP_MS:
            bucket = kept[max(index[previous] + 1, index[entry.wall_ms] - 59) : index[entry.wall_ms] + 1]
            for i in range(0, len(SERIES), 6):
                low, high = min(t.values[i] for t in bucket), max(t.values[i] for t in bucket)
                slack = 1e-5 * max(abs(low), abs(high))
                assert low - slack <= tick.values[i] <= high + slack
        previous = entry.wall_ms


@pytest.mark.parametrize("on_full", ["drop_oldest", "drop_newest"])
def test_the_other_ways_keep_the_cap_and_the_balance_too(tmp_path: Path, on_full: OnFull) -> None:
    buffer = Buffer(str(tmp_path), Limits(max_size=300 << 10, on_full=on_full), ["dead"])
    ticks, refused, count = feed(), 0, 0
    for _ in range(6_000):
        try:
            buffer.append([next(ticks)])
            count += 1
        except BufferFull:
            refused += 1
    assert size(tmp_path) <= (300 << 10) + 4096
    assert_balances(buffer)
    dropped = buffer.cursors["dead"].ledger.dropped
    buffer.close()
    found = read_all(tmp_path)
    assert {b.wall_ms - a.wall_ms for a, b in pairwise(found)} == {STEP_MS}
    if on_full == "drop_newest":
        assert refused
        assert not dropped
        assert found[0].wall_ms == START_MS
    else:
        assert not refused
        assert dropped["evicted"] == (count - len(found)) * len(SERIES)


def test_a_destination_that_has_it_loses_nothing_by_eviction(tmp_path: Path) -> None:
    buffer = Buffer(str(tmp_path), Limits(max_size=300 << 10, on_full="drop_oldest"), ["quick", "dead"])
    ticks, quick = feed(), buffer.cursors["quick"]
    for _ in range(4000):
        buffer.append([next(ticks)])
        settle(quick, quick.read(1000))
    assert quick.ledger.dropped == {}
    assert quick.ledger.delivered == buffer.log.end
    assert buffer.cursors["dead"].ledger.dropped["evicted"] > 0
    assert_balances(buffer)
    buffer.close()


@pytest.mark.parametrize("share", [0.01, 0.0003])
def test_what_damage_did_not_touch_is_delivered(tmp_path: Path, share: float) -> None:
    """Flip some of the bytes of a segment: every tick that is whole, with its era whole before it, arrives."""
    buffer = Buffer(str(tmp_path), Limits(max_size=64 << 20), ["d"])
    ticks = feed()
    for _ in range(3000):
        buffer.append([next(ticks)])
    buffer.close()
    [name] = os.listdir(tmp_path / "segments")
    file = tmp_path / "segments" / name
    whole = read_all(tmp_path)
    records = offsets(tmp_path)
    data, chance = bytearray(file.read_bytes()), random.Random(7)
    flipped = sorted(chance.sample(range(36, len(data)), int(len(data) * share)))
    for at in flipped:
        data[at] ^= 1 << chance.randrange(8)
    file.write_bytes(data)

    expected, good = [], False
    for entry, (start, after, key) in zip(whole, records, strict=True):
        touched = any(start <= at < after for at in flipped)
        good = not touched and (key or good)
        if good:
            expected.append(entry)
    buffer = Buffer(str(tmp_path), Limits(max_size=64 << 20), ["d"])
    cursor, delivered = buffer.cursors["d"], list[Tick]()
    while (chunk := settle(cursor, cursor.read(10_000))).samples:
        delivered += chunk.ticks
    assert [t.at.wall_ms for t in delivered] == [e.wall_ms for e in expected]
    assert [t.values for t in delivered] == [e.ticks[0].values for e in expected]
    assert cursor.ledger.delivered == len(expected) * len(SERIES)
    assert cursor.ledger.damaged > 0 if expected else True
    assert_balances(buffer)
    buffer.close()


def offsets(folder: Path) -> list[tuple[int, int, bool]]:
    """Where each record of the only segment starts and ends, and whether it is a key frame."""
    from buffer.reader import File
    from buffer.segment import HEADER, Record

    file, found, start = File(RealFs(), f"{folder}/segments", 0), [], HEADER.size
    for record in file:
        assert isinstance(record, Record)
        found.append((start, file.offset, record.key))
        start = file.offset
    file.close()
    return found
