"""Tiers of history: packed files hold what was collected, coarser ones what they promise of it, and damage costs a column."""

from __future__ import annotations

import random
import zlib
from array import array
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from buffer.fs import Fs
from buffer.history import packed, tiers
from buffer.history.packed import Damaged, Head, NewerVersion, PackedFile
from buffer.history.read import entries_in
from buffer.history.tiers import HOUR, MINUTE, MOST_SOURCES, SPAN_MS, Block
from buffer.limits import Tiers
from buffer.model import ENDED, STALE, Instant, Series, Tick, is_stale
from buffer.reader import Entry
from tests.support.faults import MemoryFs
from tests.support.ticks import BOOT, START_MS, STEP_MS, bits
from tests.support.tiers import done

FOLDER = "d/history"
HOUR_MS = 3_600_000
BEGINS = START_MS // HOUR_MS * HOUR_MS
SERIES = (
    Series("temperature_celsius", (("host", "rock"),), "gauge", "celsius", "How warm."),
    Series("packets_total", (("host", "rock"), ("interface", "eth0")), "counter", "packets", "Counted."),
    Series("thing", (), "unknown"),
)
GOLDEN = Path(__file__).parents[1] / "fixtures" / "history" / "v1.hex"


def entry(
    number: int, values: Sequence[float], width: int = 3, group: str = "probe", ms: int | None = None
) -> Entry:
    at = Instant(BEGINS + number * STEP_MS if ms is None else ms, number * STEP_MS, BOOT)
    series = SERIES[:width]
    return Entry(
        number * width, (number + 1) * width, at.wall_ms, width, [Tick(at, group, series, list(values))], 0
    )


def story(first: int, end: int, seed: int = 1) -> list[Entry]:
    """A gauge that wanders, a counter, and something without a type, every ten seconds."""
    chance, count, warm = random.Random(seed), 1e6, 20.0
    found = []
    for number in range(end):
        warm, count = round(warm + chance.uniform(-1, 1), 1), count + chance.randint(0, 900)
        if number >= first:
            found.append(entry(number, [warm, count, chance.choice([0.0, 1.0, 7.25])]))
    return found


def pack(fs: Fs, entries: Sequence[Entry], level: int = 0) -> Head:
    block = Block(entries[0].seq, level)
    for one in entries:
        block.add(one)
    return done(block.write(fs, FOLDER))


def read(fs: Fs, head: Head) -> list[Entry]:
    with closing(PackedFile(fs, FOLDER, head.first_seq)) as file:
        return list(entries_in(file, lambda: pytest.fail("damaged")))


def shown(entries: Sequence[Entry]) -> list[object]:
    return [
        (e.seq, e.end, e.wall_ms, e.samples, [(t.group, t.series, bits(t.values)) for t in e.ticks])
        for e in entries
    ]


def test_a_packed_file_holds_what_was_collected_bit_for_bit() -> None:
    fs, entries = MemoryFs(), story(0, 500)
    entries[100] = entry(100, [float("nan"), -0.0, STALE])
    head = pack(fs, entries)
    assert shown(read(fs, head)) == shown(entries)
    assert head == Head(0, 0, 1500, 1500, entries[0].wall_ms, entries[-1].wall_ms)
    assert fs.list(FOLDER) == [packed.name(0)]


def test_ticks_of_several_groups_and_sets_and_a_clock_that_is_set_back_come_back_in_order() -> None:
    fs = MemoryFs()
    entries = story(0, 50)
    for number in range(50, 90):
        at = Instant(BEGINS - 10_000 + number, 0, BOOT)
        ticks = [Tick(at, "probe", SERIES[:2], [1.0, float(number)])]
        if number % 6 == 0:
            ticks.append(Tick(at, "other", SERIES[2:], [2.0]))
        samples = sum(len(tick.values) for tick in ticks)
        entries.append(Entry(entries[-1].end, entries[-1].end + samples, at.wall_ms, samples, ticks, 0))
    assert shown(read(fs, pack(fs, entries))) == shown(entries)


def table(fs: Fs, head: Head) -> list[list[array[float]]]:
    """The columns of the first table: its counts, and for each series the value, the minimum and the maximum."""
    with closing(PackedFile(fs, FOLDER, head.first_seq)) as file:
        one = file.tables()[0]
        counts = file.column(one.counts, one.rows) if one.counts else array("d")
        refs = zip(one.values, one.low, one.high, strict=True)
        return [[counts], *([file.column(r, one.rows) if r else array("d") for r in each] for each in refs)]


def test_by_the_minute_mean_minimum_maximum_last_value_and_number_survive() -> None:
    fs, entries = MemoryFs(), story(0, 540)
    heads = [pack(fs, entries[:200]), pack(fs, entries[200:])]
    head = done(tiers.coarser(fs, FOLDER, heads, MINUTE))
    assert (head.level, head.first_seq, head.end_seq) == (MINUTE, 0, 540 * 3)
    minutes = [entries[start : start + 6] for start in range(0, 540, 6)]
    columns = [[[e.ticks[0].values[index] for e in minute] for minute in minutes] for index in range(3)]
    (counts,), gauge, counter, other = table(fs, head)
    assert list(counts) == [6.0] * 90
    assert list(gauge[0]) == [m[0] if len(set(m)) == 1 else float(f"{sum(m) / 6:.6g}") for m in columns[0]]
    assert [list(gauge[1]), list(gauge[2])] == [list(map(min, columns[0])), list(map(max, columns[0]))]
    assert [list(counter[0]), list(counter[1]), list(counter[2])] == [[m[-1] for m in columns[1]], [], []]
    assert [list(other[0]), list(other[1]), list(other[2])] == [
        [m[-1] for m in columns[2]],
        list(map(min, columns[2])),
        list(map(max, columns[2])),
    ]
    found = read(fs, head)
    assert [e.wall_ms for e in found] == [minute[-1].wall_ms for minute in minutes]
    assert {series for e in found for tick in e.ticks for series in tick.series} == set(
        SERIES
    )  # nothing else is a series
    assert found[-1].end == head.end_seq
    assert all(a.end <= b.seq for a, b in pairwise(found))


def test_by_the_hour_from_minutes_is_as_from_samples_but_for_the_digits_of_means() -> None:
    fs, other = MemoryFs(), MemoryFs()
    entries = story(0, 1080)
    by_minute = done(tiers.coarser(fs, FOLDER, [pack(fs, entries)], MINUTE))
    twice = done(tiers.coarser(fs, FOLDER, [by_minute], HOUR))
    once = done(tiers.coarser(other, FOLDER, [pack(other, entries)], HOUR))
    a, b = table(fs, twice), table(other, once)
    assert a[0] == b[0] == [array("d", [360.0] * 3)]
    assert a[1][1:] == b[1][1:]
    assert a[2:] == b[2:]
    assert list(a[1][0]) == pytest.approx(list(b[1][0]), rel=1e-5)


def test_markers_and_what_is_no_number_stay_what_they_are() -> None:
    fs = MemoryFs()
    nan, inf = float("nan"), float("inf")
    entries = [entry(n, [nan if n % 2 else 5.0, float(n), inf]) for n in range(5)]
    entries += [entry(n, [nan, float(n), 1.0]) for n in range(6, 12)]
    ended = Tick(Instant(entries[-1].wall_ms, 0, BOOT), f"probe{ENDED}", SERIES[:1], [STALE])
    entries.append(Entry(40, 41, ended.at.wall_ms, 1, [ended], 0))
    head = done(tiers.coarser(fs, FOLDER, [pack(fs, entries)], MINUTE))
    _, gauge, _, other = table(fs, head)
    assert gauge[0][0] == 5.0
    assert gauge[0][1] != gauge[0][1]
    assert [list(gauge[1]), list(gauge[2])] == [[], []]  # they are as the values are
    assert other[0][0] == inf
    markers = [t for e in read(fs, head) for t in e.ticks if t.group == f"probe{ENDED}"]
    assert [is_stale(v) for t in markers for v in t.values] == [True]


def test_files_of_one_level_become_one_that_holds_the_same() -> None:
    fs, entries = MemoryFs(), story(0, 300)
    heads = [pack(fs, entries[start : start + 50]) for start in range(0, 300, 50)]
    head = done(tiers.coarser(fs, FOLDER, heads, 0))
    assert shown(read(fs, head)) == shown(entries)
    minutes = [done(tiers.coarser(fs, FOLDER, [pack(fs, story(s, s + 60))], MINUTE)) for s in (0, 60, 120)]
    before = [
        row for one in minutes for row in zip(*(c for s in table(fs, one) for c in s if c), strict=True)
    ]
    joined = done(tiers.coarser(fs, FOLDER, minutes, MINUTE))
    assert list(zip(*(c for s in table(fs, joined) for c in s if c), strict=True)) == before


# What is due.

DAY = 86_400_000
LIMITS = Tiers(7 * 86400, 30 * 86400, 365 * 86400, 1 << 20)


def heads(*levels_and_days: tuple[int, float]) -> list[Head]:
    """Heads of files, oldest first; each begins so many days ago and is a sixth of a day long."""
    return [
        Head(level, n, n + 1, 1 << 18, int(-days * DAY), int(-days * DAY) + DAY // 6)
        for n, (level, days) in enumerate(levels_and_days)
    ]


def test_what_is_due_is_the_oldest_that_is_old_enough_and_enough() -> None:
    def due(
        found: Sequence[Head | None], *, tight: bool = False, limits: Tiers = LIMITS
    ) -> tuple[int, list[Head]]:
        return tiers.due(found, limits, 0, is_tight=tight)

    week = heads(*((0, 9 - n / 6) for n in range(12)), (0, 1.0))
    assert due(week) == (MINUTE, week[:11])  # the twelfth ends seven days ago
    assert due(week[9:]) == (0, [])  # too little to be worth it
    assert due(week[9:], tight=True) == (MINUTE, week[9:])
    assert due([*week[:2], None, *week[2:11]]) == (MINUTE, week[:2])  # what is damaged is in nothing
    many = heads(*((0, 100 - n / 6) for n in range(40)))
    assert due(many) == (MINUTE, many[:MOST_SOURCES])
    months = heads(*((MINUTE, 60 - n) for n in range(10)), (0, 1.0))
    assert due(months) == (HOUR, months[:10])
    assert due(many, limits=LIMITS._replace(minute=0)) == (HOUR, many[:MOST_SOURCES])
    assert due(months, limits=LIMITS._replace(hour=0)) == (0, [])
    assert due(heads((HOUR, 400))) == (0, [])
    assert SPAN_MS[MINUTE] < SPAN_MS[HOUR]


def test_what_is_over_is_older_than_every_tier_it_could_be_in() -> None:
    (raw, minute, hour) = heads((0, 8), (MINUTE, 31), (HOUR, 366))
    assert not any(tiers.is_over(one, LIMITS, 0) for one in (raw, minute))
    assert tiers.is_over(hour, LIMITS, 0)
    assert tiers.is_over(minute, LIMITS._replace(hour=0), 0)
    assert tiers.is_over(raw, LIMITS._replace(hour=0, minute=0), 0)
    assert not tiers.is_over(heads((0, 6))[0], LIMITS._replace(hour=0, minute=0), 0)


def test_small_files_are_joined_and_large_ones_are_not() -> None:
    little = [one._replace(samples=100) for one in heads(*((0, 5 - n / 6) for n in range(20)))]
    assert tiers.small(little) == little[:MOST_SOURCES]
    assert tiers.small([None, *little]) == little[:MOST_SOURCES]
    assert tiers.small(little[:10]) == []
    assert tiers.small(heads(*((0, 5 - n / 6) for n in range(20)))) == []


# Damage, and other versions.


def test_damage_costs_the_column_that_it_hits() -> None:
    fs = MemoryFs()
    head = pack(fs, story(0, 300))
    data = fs.entries[f"{FOLDER}/{packed.name(0)}"].data
    with closing(PackedFile(fs, FOLDER, 0)) as file:
        offset = file.tables()[0].values[1][0]
    data[offset] ^= 1
    damaged: list[int] = []
    with closing(PackedFile(fs, FOLDER, 0)) as file:
        found = list(entries_in(file, lambda: damaged.append(1)))
        assert [(at, what) for at, _, what in file.check()] == [
            (
                offset,
                f"the bytes from {offset} to {offset + file.tables()[0].values[1][1]} fail their checksum",
            )
        ]
    assert damaged == [1]
    assert [list(e.ticks[0].values) for e in found] == [
        [e.ticks[0].values[0], e.ticks[0].values[2]] for e in story(0, 300)
    ]
    with pytest.raises(ValueError):
        done(tiers.coarser(fs, FOLDER, [head], MINUTE))
    assert fs.list(FOLDER) == [packed.name(0)]  # it stays as it is


def test_any_flipped_bit_of_a_packed_file_is_noticed() -> None:
    fs, entries = MemoryFs(), story(0, 40)
    pack(fs, entries)
    node = fs.entries[f"{FOLDER}/{packed.name(0)}"]
    good = bytes(node.data)
    for at in range(0, len(good), 3):
        node.data = bytearray(good)
        node.data[at] ^= 1 << at % 8
        try:
            with closing(PackedFile(fs, FOLDER, 0)) as file:
                assert list(file.check())
        except ValueError:
            pass
    node.data = bytearray(good[: len(good) // 2])
    with pytest.raises(Damaged), closing(PackedFile(fs, FOLDER, 0)) as file:
        file.tables()


def test_a_later_version_is_left_alone() -> None:
    fs = MemoryFs()
    pack(fs, story(0, 10))
    node = fs.entries[f"{FOLDER}/{packed.name(0)}"]
    head = bytearray(node.data[: packed.HEADER.size - 4])
    head[4] = packed.VERSION + 1
    node.data[: packed.HEADER.size] = head + zlib.crc32(head).to_bytes(4, "little")
    with pytest.raises(NewerVersion):
        PackedFile(fs, FOLDER, 0)


def golden() -> list[Entry]:
    return story(3, 12, seed=7)


def test_the_golden_file_says_what_it_always_said() -> None:
    fs = MemoryFs()
    path = f"{FOLDER}/{packed.name(9)}"
    fd = fs.create(path)
    fs.write(fd, bytes.fromhex(GOLDEN.read_text()), 0)
    fs.close(fd)
    with closing(PackedFile(fs, FOLDER, 9)) as file:
        assert shown(list(entries_in(file, lambda: pytest.fail("damaged")))) == shown(golden())
        assert file.head == Head(0, 9, 36, 27, BEGINS + 3 * STEP_MS, BEGINS + 11 * STEP_MS)
        assert list(file.tables()[0].stats[1]) == [
            9,
            *(golden()[i].ticks[0].values[1] for i in (0, -1, 0, -1)),
        ]
