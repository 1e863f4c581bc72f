"""Settling the newest samples first: stretches behind the position, and a ledger that balances with them."""

from __future__ import annotations

import itertools
import json
import random
import zlib
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.buffer import Buffer
from buffer.cursor import Cursor
from buffer.inspect.segments import SegmentStatus
from buffer.inspect.status import status
from buffer.inspect.verify import verify
from buffer.ledger import MAX_STRETCHES, SLOT, Ledger, decode, encode, load
from buffer.limits import Limits
from buffer.log import Log
from buffer.model import Chunk
from buffer.reader import File
from buffer.segment import MAX_POSITION, Header, Record, name
from buffer.thin import thinnable
from buffer.trim import cut, plan
from tests.support.buffers import (
    NEW,
    assert_balance,
    assert_balances,
    at,
    drain,
    drain_ahead,
    entries,
    fill,
    filled_log,
    kill,
    numbers,
    places,
    settle,
    take,
    thinned_pending,
    ticks_in,
)
from tests.support.faults import Counting, Failing, MemoryFs, eio
from tests.support.ticks import START_MS, STEP_MS, tick

AHEAD = Ledger(
    150, 30, 130, {"evicted": 20}, 7, 1, "sending", None, 12.5, None, ahead=((160, 170), (200, 220))
)


def sealed(**fields: Any) -> bytes:
    line = json.dumps({"version": 2, "generation": 3, **AHEAD._asdict(), **fields}).encode()
    return line + b"\n%08x\n" % zlib.crc32(line)


# The ledger.


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12), st.integers(0, 3)), max_size=25))
def test_a_ledger_is_a_set_of_positions(steps: list[tuple[int, int, int]]) -> None:
    ledger, settled, sums = NEW, set[int](), {"delivered": 0, "rejected": 0}
    for start, length, refused in steps:
        new = set(range(start, start + length)) - settled
        assert ledger.unsettled(start, start + length) == len(new)
        refused = min(refused, len(new))
        settled |= new
        sums["delivered"] += len(new) - refused
        sums["rejected"] += refused
        ledger = ledger.settle(start, start + length, {"rejected": refused}, "delivered")
        assert places(ledger) == settled
        assert (ledger.delivered, ledger.dropped.get("rejected", 0)) == tuple(sums.values())
        assert ledger.reach == max(settled, default=-1) + 1
        edges = [ledger.position, *(edge for stretch in ledger.ahead for edge in stretch)]
        assert edges == sorted(set(edges))  # apart, in order, none empty
        for end in (0, start, start + length, 80):
            gaps = [set(range(*gap)) for gap in ledger.gaps(end)]
            assert set().union(*gaps) == set(range(end)) - settled
            assert all(gaps)
        assert decode(encode(ledger)) == ledger


def test_touching_stretches_join_and_the_position_jumps() -> None:
    one = at(10, (20, 30), (40, 50))
    assert one.settle(30, 40, {}, "delivered").ahead == ((20, 50),)
    assert one.settle(15, 20, {}, "delivered").ahead == ((15, 30), (40, 50))
    assert one.settle(30, 35, {}, "delivered").ahead == ((20, 35), (40, 50))
    assert one.settle(12, 60, {}, "delivered").ahead == ((12, 60),)
    jumped = one.settle(10, 20, {}, "delivered")
    assert (jumped.position, jumped.ahead) == (30, ((40, 50),))
    assert one.settle(10, 40, {}, "delivered") == at(50)
    assert one.settle(22, 28, {}, "delivered") == one
    assert one.settle(35, 35, {}, "delivered") == one


def test_what_a_stretch_has_is_not_evicted() -> None:
    assert at(10, (20, 30)).not_before(25).dropped == {"evicted": 10}
    assert at(10, (20, 30)).not_before(25).position == 30
    assert at(10, (20, 30)).not_before(35).dropped == {"evicted": 15}
    assert at(10, (20, 30)).not_before(15).ahead == ((20, 30),)
    assert at(10, (20, 30)).not_before(10) == at(10, (20, 30))


def test_there_are_no_more_stretches_than_fit() -> None:
    ledger = at(1, *((10 * n, 10 * n + 1) for n in range(1, MAX_STRETCHES + 1)))
    with pytest.raises(ValueError, match="stretches"):
        ledger.settle(1000, 1001, {}, "delivered")
    assert ledger.settle(161, 165, {}, "delivered").reach == 165


# The file.


OLD = (
    b'{"version": 1, "generation": 9, "position": 150, "start": 30, "delivered": 100, "dropped": {"evicted": 20}, '
    b'"missed_before": 7, "damaged": 1, "state": "waiting", "error": "HTTP 503", "rate": 12.5, "removed_ms": null}'
)


def test_a_file_of_before_there_were_stretches_is_read_and_continued(tmp_path: Path) -> None:
    old = Ledger(150, 30, 100, {"evicted": 20}, 7, 1, "waiting", "HTTP 503", 12.5, None)
    slot = OLD + b"\n%08x\n" % zlib.crc32(OLD)
    assert decode(slot) == old
    assert old.ahead == ()
    # What has no stretch is written as it was then: byte for byte, so that such a program reads it too.
    assert encode(old, 9) == slot
    buffer = Buffer(str(tmp_path), Limits(), ["a"])
    fill(buffer, 0, 60)
    buffer.close()
    (tmp_path / "cursors" / "a.json").write_bytes(slot.ljust(2 * SLOT))
    buffer = Buffer(str(tmp_path), Limits(), ["a"])
    cursor = buffer.cursors["a"]
    assert (cursor.position, cursor.pending()) == (150, 30)
    assert cursor.go_ahead(3)
    take(cursor.read_ahead, cursor, 3)
    buffer.close()
    stored = load(buffer._fs, str(tmp_path / "cursors" / "a.json"))
    assert stored is not None
    assert (stored.ahead, stored.delivered) == (((177, 180),), 103)


def test_a_slot_with_stretches_has_a_version_that_older_programs_refuse() -> None:
    assert json.loads(encode(AHEAD).partition(b"\n")[0])["version"] == 2
    assert decode(encode(AHEAD)) == AHEAD
    assert decode(sealed()) == AHEAD
    # With the next slot that has none they can read again.
    assert json.loads(encode(at(50)).partition(b"\n")[0])["version"] == 1


WRONG: dict[str, bytes] = {
    "stretches in version 1": sealed(version=1),
    "none in version 2": sealed(ahead=None),
    "version 3": sealed(version=3),
    "does not balance": sealed(delivered=129),
    "touches the position": sealed(ahead=[[150, 160], [200, 220]]),
    "before the position": sealed(ahead=[[110, 120], [200, 220]]),
    "touch each other": sealed(ahead=[[160, 170], [170, 190]]),
    "overlap": sealed(ahead=[[160, 180], [170, 180]]),
    "in no order": sealed(ahead=[[200, 220], [160, 170]]),
    "empty": sealed(ahead=[[160, 160], [200, 230]]),
    "backwards": sealed(ahead=[[170, 160], [200, 240]]),
    "too many": sealed(
        position=20, ahead=[[10 * n, 10 * n + 1] for n in range(3, MAX_STRETCHES + 4)], start=20, delivered=-3
    ),
    "one too many": sealed(
        position=20,
        start=0,
        delivered=MAX_STRETCHES + 1,
        ahead=[[10 * n, 10 * n + 1] for n in range(3, MAX_STRETCHES + 4)],
    ),
    "three edges": sealed(ahead=[[160, 170, 190]]),
    "no pairs": sealed(ahead=[160, 170]),
    "a number": sealed(ahead=7),
    "text": sealed(ahead=["ab"]),
    "texts": sealed(ahead=[["160", "190"]]),
    "no whole numbers": sealed(ahead=[[160.0, 190.0]]),
    "true": sealed(ahead=[[True, 190]]),
    "not a number": sealed(ahead=[[160, float("nan")]]),
    "a map": sealed(ahead={"ab": 1}),
    "further than any log": sealed(ahead=[[160, 10**30]], delivered=10**30 - 160 + 100),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_stretches_that_cannot_be_are_no_cursor_file(data: bytes) -> None:
    assert decode(data) is None


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(100, 250) | st.floats() | st.text(max_size=2), st.lists
    )
)
def test_whatever_the_stretches_are_they_are_sound_or_refused(ahead: Any) -> None:
    found = decode(sealed(ahead=ahead))
    assert found is None or found.ahead == tuple(tuple(stretch) for stretch in ahead)


def test_the_largest_cursor_fits_in_a_slot() -> None:
    low = MAX_POSITION - 1000
    ahead = tuple((low + 10 * n, low + 10 * n + 5) for n in range(1, MAX_STRETCHES + 1))
    ledger = NEW._replace(position=low, delivered=low + 5 * MAX_STRETCHES, ahead=ahead, state="waiting")
    reasons = ("evicted", "thinned", "aged", "rejected", "corrupt")
    ledger = ledger._replace(
        delivered=ledger.delivered - 5 * (low // 5), dropped=dict.fromkeys(reasons, low // 5)
    )
    for error in (None, "x" * 250, "\U0001f980" * 250, '"\x00\udcff' * 80):
        slot = encode(ledger._replace(error=error), MAX_POSITION)
        assert len(slot) <= SLOT
        found = decode(slot)
        assert found is not None
        assert found._replace(error=None) == ledger


# The way through the log.


def a_cursor(fs: Any, log: Log, start: Ledger = NEW) -> Cursor:
    return Cursor(fs, "d", "a", log, start, clock=lambda: 0.0)


def test_the_newest_go_first_and_the_gap_is_filled_in_behind_them() -> None:
    fs, log = filled_log(40)
    cursor = a_cursor(fs, log)
    assert cursor.go_ahead(6)
    assert (cursor.ahead, cursor.position, cursor.pending()) == (114, 0, 120)
    assert take(cursor.read_ahead, cursor, 3) == [38]
    assert cursor.ledger.ahead == ((114, 117),)
    assert take(cursor.read, cursor, 9) == [0, 1, 2]
    assert take(cursor.read_ahead, cursor, 100, refused=1) == [39]
    assert take(cursor.read_ahead, cursor, 100) == []
    log.append([tick(40)])
    assert not cursor.go_ahead(1)  # it is next anyway
    assert take(cursor.read_ahead, cursor, 100) == [40]
    assert (cursor.position, cursor.ledger.ahead, cursor.pending()) == (9, ((114, 123),), 105)
    assert drain(cursor) == list(range(3, 38))
    assert (cursor.position, cursor.ahead, cursor.pending()) == (123, None, 0)
    assert places(cursor.ledger) == set(range(123))
    assert (cursor.ledger.delivered, cursor.ledger.dropped) == (122, {"rejected": 1})
    log.append([tick(41)])
    assert take(cursor.read, cursor, 9) == [41]


def test_where_a_stretch_begins() -> None:
    fs, log = filled_log(40)
    for samples, begins in ((-5, 117), (0, 117), (1, 117), (3, 117), (4, 114), (6, 114), (60, 60), (117, 3)):
        cursor = a_cursor(fs, log)
        assert cursor.go_ahead(samples)
        assert cursor.ahead == begins
        assert cursor.read_ahead(3).start == begins
        assert cursor.ledger == NEW  # nothing is settled by that
        assert cursor.read(1000).end == 120  # and nothing is left out
        cursor.close()
    log.close()
    assert not fs.open_files


def test_going_ahead_where_there_is_nothing_to_gain_changes_nothing() -> None:
    fs, log = filled_log(40)
    for samples in (118, 119, 120, 10**9):
        cursor = a_cursor(fs, log)
        assert not cursor.go_ahead(samples)  # the position is in the last `samples`
        assert (cursor.ahead, cursor.read_ahead(9)) == (None, Chunk([], 0, 0, 0))
    cursor = a_cursor(fs, log, at(117))
    assert not cursor.go_ahead(1)  # the newest record is next
    cursor = a_cursor(fs, log, at(120))
    assert not cursor.go_ahead(1)  # there is nothing new
    empty = Log(MemoryFs(), "d/segments", 400)
    assert not a_cursor(empty._fs, empty).go_ahead(1)


def test_going_ahead_again_leaves_another_gap_up_to_a_number() -> None:
    fs, log = filled_log(4)
    cursor, number, fresh = a_cursor(fs, log), 4, []
    for stretch in range(MAX_STRETCHES):
        assert cursor.go_ahead(1)
        fresh += take(cursor.read_ahead, cursor, 100)
        assert len(cursor.ledger.ahead) == stretch + 1
        for _ in range(3):
            log.append([tick(number)])
            number += 1
    assert not cursor.go_ahead(1)
    assert fresh == list(range(3, number - 3, 3))
    fresh += take(cursor.read_ahead, cursor, 100)  # but the last stretch continues
    assert fresh[-3:] == [number - 3, number - 2, number - 1]
    assert decode(encode(cursor.ledger)) == cursor.ledger
    assert sorted(fresh + drain(cursor)) == list(range(number))
    assert (cursor.ledger, cursor.pending()) == (at(3 * number)._replace(rate=0.0), 0)
    assert cursor.ledger.damaged == 0


def test_going_ahead_twice_before_anything_is_read_counts_once() -> None:
    fs, log = filled_log(40)
    cursor = a_cursor(fs, log)
    assert cursor.go_ahead(60)
    assert cursor.go_ahead(3)
    assert not cursor.go_ahead(60)  # never back
    assert take(cursor.read_ahead, cursor, 100) == [39]
    assert cursor.ledger.ahead == ((117, 120),)


def test_the_position_may_come_to_what_was_read_ahead_first() -> None:
    fs, log = filled_log(40)
    cursor = a_cursor(fs, log)
    assert cursor.go_ahead(30)
    late = cursor.read_ahead(9)
    assert take(cursor.read, cursor, 1000) == list(range(40))
    cursor.commit(late.start, late.end, late.samples, {})
    assert cursor.ledger == at(120)
    log.append([tick(40)])
    assert cursor.read_ahead(9).ticks == []
    assert take(cursor.read, cursor, 9) == [40]
    assert take(cursor.read, cursor, 9) == []


def test_what_was_read_before_it_went_ahead_is_not_sent_twice() -> None:
    """The first reader may be further than where the stretch begins."""
    fs, log = filled_log(40)
    cursor = a_cursor(fs, log)
    assert len(cursor.read(1000).ticks) == 40  # but none of it is settled
    assert cursor.go_ahead(30)
    assert take(cursor.read_ahead, cursor, 15) == [30, 31, 32, 33, 34]
    assert numbers(cursor.read(1000).ticks) == list(range(30))
    assert take(cursor.read, cursor, 1000) == list(range(30))
    assert take(cursor.read, cursor, 1000) == [35, 36, 37, 38, 39]
    assert cursor.ledger == at(120)


def test_another_process_continues_in_the_gap_and_behind_the_stretches() -> None:
    fs, log = filled_log(40)
    cursor = a_cursor(fs, log)
    cursor.go_ahead(60)
    take(cursor.read_ahead, cursor, 9)
    cursor.go_ahead(9)
    take(cursor.read_ahead, cursor, 6)
    take(cursor.read, cursor, 9)
    cursor.persist()
    cursor.close()
    stored = load(fs, "d/cursors/a.json")
    assert stored is not None
    assert stored == cursor.ledger
    assert stored.ahead == ((60, 69), (111, 117))
    cursor = a_cursor(fs, log, stored)
    assert cursor.ahead == 117
    assert take(cursor.read_ahead, cursor, 9) == [39]
    assert drain(cursor) == [*range(3, 20), *range(23, 37)]
    assert cursor.ledger == at(120)


def test_the_age_of_the_oldest_is_that_of_the_gap() -> None:
    fs, log = filled_log(40)
    cursor = a_cursor(fs, log)
    cursor.go_ahead(3)
    assert cursor.read_ahead(9).samples == 3
    assert cursor.oldest_pending_ms() == START_MS
    take(cursor.read, cursor, 9)
    take(cursor.read_ahead, cursor, 9)
    cursor.read_ahead(9)
    assert cursor.oldest_pending_ms() == START_MS + 3 * STEP_MS
    drain(cursor)
    assert cursor.oldest_pending_ms() is None


# What it costs.


def opened(fs: MemoryFs) -> Counter[str]:
    """How many files are open, by their folders."""
    nodes = {id(node): path.split("/")[1] for path, node in fs.entries.items()}
    return Counter(nodes[id(node)] for node, _ in fs.open_files.values())


def test_there_is_a_second_file_open_only_while_there_is_a_gap() -> None:
    fs, log = filled_log(40)
    log.close()
    cursor = a_cursor(fs, log)
    take(cursor.read, cursor, 9)
    assert cursor.read_ahead(9).ticks == []
    assert not cursor.go_ahead(10**9)
    assert opened(fs) == {"segments": 1, "cursors": 1}
    assert cursor.go_ahead(3)
    take(cursor.read_ahead, cursor, 9)
    assert opened(fs) == {"segments": 2, "cursors": 1}
    drain(cursor)
    assert opened(fs) == {"segments": 1, "cursors": 1}
    cursor.close()
    assert not fs.open_files


def test_no_more_is_read_in_a_gap_than_there_is_in_it() -> None:
    inner, log = filled_log(400)
    fs = Counting(inner)
    cursor = a_cursor(fs, log)
    cursor.go_ahead(900)
    while take(cursor.read_ahead, cursor, 60):
        pass
    assert cursor.ledger.ahead == ((300, 1200),)
    fs.reset()
    assert cursor.read(10**6).end == 300
    assert fs.bytes_read < log.size / 2


def test_going_ahead_is_cheap_where_the_flow_was_not_interrupted() -> None:
    inner = MemoryFs()
    log, fs = Log(inner, "d/segments", 1 << 20), Counting(inner)
    fill(log, 0, 3000)
    cursor = a_cursor(fs, log)
    assert cursor.go_ahead(1)
    take(cursor.read_ahead, cursor, 9)
    take(cursor.read, cursor, 9)
    fs.reset()
    for number in range(3000, 3010):
        log.append([tick(number)])
        assert not cursor.go_ahead(1)
        assert take(cursor.read_ahead, cursor, 9) == [number]
        take(cursor.read, cursor, 9)
    assert "open" not in fs.calls
    assert fs.bytes_read < 1000


def test_a_call_that_fails_leaves_the_cursor_as_it_was() -> None:
    for n in itertools.count(1):
        fs, log = filled_log(40)
        failing = Failing(fs, n, eio, only=["open", "read", "list", "close"])
        cursor, seen, failed = a_cursor(failing, log), list[int](), 0
        for step in ("go", "ahead", *["read"] * 5):
            was = cursor.ledger
            for _ in range(2):
                try:
                    if step == "go":
                        cursor.go_ahead(30)
                    else:
                        seen += take(cursor.read_ahead if step == "ahead" else cursor.read, cursor, 30)
                    break
                except OSError:
                    failed += 1
                    if cursor.ledger != was:  # it moves also where what is read no more cannot be closed
                        break
        assert failed <= 1
        assert cursor.ledger == at(120)
        assert len(seen) >= 40 - 10 * failed
        assert len(seen) == len(set(seen))
        with suppress(OSError):
            cursor.close()
        log.close()
        assert not fs.open_files
        if failing.calls < n:
            return


# Power, kills, and a medium that lied.


def test_no_stretch_points_behind_the_end_of_the_log_after_a_power_cut() -> None:
    for seed in range(60):
        fs, log = filled_log(20)
        log.sync()
        fill(log, 20, 30)
        cursor = a_cursor(fs, log)
        cursor.go_ahead(6)
        take(cursor.read_ahead, cursor, 3)
        take(cursor.read, cursor, 9)
        assert load(fs, "d/cursors/a.json") is None  # not before the tick that is in it is durable
        if seed % 2:
            cursor.persist()
        fs.cut(random.Random(seed))
        ledger = load(fs, "d/cursors/a.json")
        assert (ledger is None) == (seed % 2 == 0)
        assert ledger is None or Log(fs, "d/segments", 400).end >= ledger.reach == 87


def test_a_log_whose_end_was_lost_is_numbered_on_behind_every_stretch(tmp_path: Path) -> None:
    """Only where the medium lied about a sync.  What was settled stays so, and no number comes twice."""
    buffer = Buffer(str(tmp_path), Limits(segment_size=400), ["a", "b"])
    fill(buffer, 0, 40)
    a = buffer.cursors["a"]
    a.go_ahead(6)
    take(a.read_ahead, a, 3)
    take(a.read, a, 9)
    buffer.close()
    files = sorted((tmp_path / "segments").iterdir())
    lost_from = int(files[-2].name[:20])
    for file in files[-2:]:
        file.unlink()
    assert lost_from < 114
    [checked, _] = verify(str(tmp_path)).cursors
    assert "117" not in (checked.problem or "")
    assert f"{117 - lost_from} samples ahead of the log" in (checked.problem or "")
    shown = {one.name: one for one in status(str(tmp_path)).destinations}
    buffer = Buffer(str(tmp_path), Limits(segment_size=400), ["a", "b"])
    a = buffer.cursors["a"]
    assert buffer.log.end == 117
    assert shown["a"].pending_samples == a.pending() == 117 - 12
    assert shown["b"].pending_samples == 117
    assert_balance(a)
    buffer.append([tick(40)])
    assert drain(a) == [*range(3, lost_from // 3), 40]
    assert a.ledger.dropped == {"corrupt": 114 - lost_from}
    assert drain(buffer.cursors["b"]) == [*range(lost_from // 3), 40]
    buffer.close()


def test_after_a_kill_what_was_not_written_is_sent_again(tmp_path: Path) -> None:
    fs = MemoryFs()

    def start() -> tuple[Buffer, Cursor]:
        buffer = Buffer(str(tmp_path), Limits(segment_size=1000), ["a"], fs=fs, clock=lambda: 0.0)
        return buffer, buffer.cursors["a"]

    buffer, cursor = start()
    fill(buffer, 0, 40)
    cursor.go_ahead(6)
    take(cursor.read_ahead, cursor, 3)
    buffer.sync()
    take(cursor.read_ahead, cursor, 3)
    take(cursor.read, cursor, 9)
    kill(buffer, fs)
    buffer, cursor = start()
    assert (cursor.position, cursor.ledger.ahead) == (0, ((114, 117),))
    assert take(cursor.read_ahead, cursor, 100) == [39]
    assert drain(cursor) == list(range(38))
    buffer.close()


# Damage.


def broken(fs: MemoryFs, log: Log, *ticks: int) -> None:
    """Damage the records of these ticks."""
    for first in log.sizes:
        file = File(fs, "d/segments", first)
        begin = file.offset
        while (found := file.next()) is not None:
            if isinstance(found, Record) and found.seq // 3 in ticks:
                fs.entries[f"d/segments/{name(first)}"].data[begin + 12] ^= 0xFF
            begin = file.offset
        file.close()


WIDTHS = {3: 4, 2: 5, 1: 6}
"""Of the last three ticks, counted from the end."""


def plain_log(count: int = 40) -> tuple[MemoryFs, Log, list[int]]:
    """Each record is the first of its own file: damage costs no other record."""
    fs = MemoryFs()
    log = Log(fs, "d/segments", 1)
    fill(log, 0, count)
    return fs, log, list(range(count))


HURT = {
    "in the gap": [5],
    "the whole gap": list(range(30)),
    "where the gap begins": [0, 1],
    "where the gap ends": [28, 29],
    "where the stretch begins": [30, 31],
    "within the stretch": [34],
    "where the stretch ends": [38, 39],
    "on both sides of its beginning": [29, 30],
    "the newest": [39],
    "all of the stretch": list(range(30, 40)),
    "every third": list(range(0, 40, 3)),
}


@pytest.mark.parametrize("hurt", HURT.values(), ids=HURT)
def test_what_cannot_be_read_is_corrupt_once_and_the_rest_delivered(hurt: list[int]) -> None:
    fs, log, everything = plain_log()
    broken(fs, log, *hurt)
    cursor = a_cursor(fs, log)
    # It cannot go ahead where the next readable record is there already, nor where the rest is unreadable.
    assert cursor.go_ahead(30) == (hurt not in (list(range(30)), list(range(30, 40))))
    seen = []
    seen += drain_ahead(cursor, 9)
    seen += drain(cursor)
    log.append([tick(40)])  # what is damaged at the end is known by what comes behind it
    seen += drain_ahead(cursor, 9)
    seen += drain(cursor)
    assert sorted(seen) == sorted({*everything, 40} - set(hurt))
    assert (cursor.pending(), cursor.position, cursor.ledger.ahead) == (0, 123, ())
    assert cursor.ledger.dropped == {"corrupt": 3 * len(hurt)}
    assert cursor.ledger.damaged > 0


def test_damage_is_counted_once_by_whichever_reader_meets_it() -> None:
    fs, log, _ = plain_log()
    broken(fs, log, 2, 12, 20, 36)
    cursor = a_cursor(fs, log)
    assert cursor.go_ahead(12)  # at tick 37, for 36 cannot be read
    assert take(cursor.read_ahead, cursor, 100) == [37, 38, 39]
    assert cursor.ledger.damaged == 0  # the damage is before what was read
    assert cursor.read(60).end == 69  # 2, 12 and 20 are met
    cursor.skip(87, "evicted")  # that reader is closed: it is behind
    assert take(cursor.read, cursor, 100) == [29, 30, 31, 32, 33, 34, 35]
    assert cursor.ledger.damaged == 4
    assert cursor.ledger.dropped == {"evicted": 87, "corrupt": 3}
    assert cursor.position == 120


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere_costs_both_ways_what_it_costs_one(seed: int) -> None:
    """Of longer files, where a damaged record takes those up to the next key frame with it."""
    chance = random.Random(seed)
    fs = MemoryFs()
    log = Log(fs, "d/segments", chance.choice([400, 1500, 1 << 20]))
    cursor, seen, number = a_cursor(fs, log), list[int](), 0
    for _ in range(25):
        for _ in range(chance.randint(1, 12)):
            log.append([tick(number)])
            number += 1
        for _ in range(chance.randint(0, 1)):
            data = chance.choice([node for path, node in fs.entries.items() if path.endswith(".seg")]).data
            data[chance.randrange(len(data))] ^= chance.randint(1, 255)
        cursor.go_ahead(chance.choice([1, 9, 30]))
        for read in chance.sample([cursor.read_ahead, cursor.read], chance.randint(0, 2)):
            seen += take(read, cursor, chance.choice([3, 9, 60]))
        if chance.random() < 0.2:
            cursor.close()
            cursor = a_cursor(fs, log, cursor.ledger)
    for boundary in range(3):  # a key frame behind all damage
        log.append([tick(number, 4 + boundary)])
        number += 1
        log._seal()
    seen += drain_ahead(cursor) + drain(cursor)
    assert len(seen) == len(set(seen))
    assert (cursor.pending(), cursor.ledger.ahead) == (0, ())
    lost = cursor.ledger.dropped.get("corrupt", 0)
    assert cursor.ledger.delivered == log.end - lost == sum(WIDTHS.get(number - n, 3) for n in seen)
    # Not less than one reader finds afterwards, when all of the damage is done.
    assert set(seen) >= set(numbers(ticks_in(fs, "d/segments")))


# A full buffer.


def a_buffer(folder: Path, on_full: Any = "drop_oldest", max_size: int = 12_000) -> Buffer:
    return Buffer(
        str(folder),
        Limits(max_size=max_size, segment_size=1000, on_full=on_full),
        ["a", "b"],
        fs=MemoryFs(),
        clock=lambda: 0.0,
    )


def settle_ahead(buffer: Buffer, which: str, first: int, end: int, stretches: int) -> list[int]:
    """Append, and settle the newest record now and then, so that there are stretches."""
    cursor, every = buffer.cursors[which], (end - first) // stretches
    fresh = []
    for number in range(first, end):
        buffer.append([tick(number)])
        if (number - first) % every == every - 1:
            assert cursor.go_ahead(30)
            fresh += take(cursor.read_ahead, cursor, 60)
    return fresh


def test_eviction_counts_what_was_pending_and_nothing_else(tmp_path: Path) -> None:
    buffer = a_buffer(tmp_path)
    a, b = buffer.cursors["a"], buffer.cursors["b"]
    fresh, number = settle_ahead(buffer, "a", 0, 400, 5), 400
    assert len(a.ledger.ahead) == 5
    while len(places(a.ledger)) > a.position:
        was, first = a.ledger, buffer.log.first
        buffer.append([tick(number)])
        number += 1
        if buffer.log.first > first:
            assert places(a.ledger) == places(was) | set(range(buffer.log.first))
            gone = set(range(3 * number)) & places(a.ledger)
            assert a.ledger.dropped["evicted"] == len(gone) - 3 * len(fresh)
            assert a.ledger.delivered == 3 * len(fresh)
            assert b.ledger.dropped == {"evicted": buffer.log.first}
        assert_balance(a, b)
    begins = a.position // 3  # the end of the stretch in which the log begins
    assert 3 * begins >= buffer.log.first
    assert drain(a) == list(range(begins, number))
    assert a.pending() == 0
    buffer.close()


def test_a_batch_on_its_way_whose_gap_is_evicted_counts_once(tmp_path: Path) -> None:
    buffer = a_buffer(tmp_path)
    a = buffer.cursors["a"]
    settle_ahead(buffer, "a", 0, 300, 3)
    front, fresh = a.read(60), a.read_ahead(60)
    number = 300
    while buffer.log.first <= front.start + 30:
        buffer.append([tick(number)])
        number += 1
    was = a.ledger
    a.commit(front.start, front.end, front.samples, {})
    assert a.ledger.delivered == was.delivered + max(0, front.end - buffer.log.first)
    while buffer.log.first <= fresh.end:
        buffer.append([tick(number)])
        number += 1
    was = a.ledger
    assert was.ahead == ()
    a.commit(fresh.start, fresh.end, fresh.samples, {})
    assert a.ledger == was
    assert_balance(a)
    first = buffer.log.first
    assert drain(a) == list(range(first // 3, number))
    buffer.close()


def test_nothing_is_freed_before_the_position_has_passed_it(tmp_path: Path) -> None:
    buffer = a_buffer(tmp_path, max_size=1 << 20)
    settle_ahead(buffer, "a", 0, 600, 1)
    for name_ in ("a", "b"):
        cursor = buffer.cursors[name_]
        while cursor.go_ahead(900):
            drain_ahead(cursor)
        drain_ahead(cursor)
    assert buffer.log.second() is not None
    buffer.sync()
    assert buffer.log.first == 0
    for name_ in ("a", "b"):
        drain(buffer.cursors[name_], 60)
        buffer.sync()
    assert buffer.log.second() is None
    assert all(cursor.ledger.dropped == {} for cursor in buffer.cursors.values())
    buffer.close()


def test_a_trim_says_what_it_costs_and_costs_that(tmp_path: Path) -> None:
    buffer = Buffer(str(tmp_path), Limits(segment_size=600), ["a", "b"])
    settle_ahead(buffer, "a", 0, 300, 3)
    buffer.sync()
    planned = plan(str(tmp_path), before_ms=START_MS + 200 * STEP_MS)
    assert planned is not None
    settled = {p for p in places(buffer.cursors["a"].ledger) if p < planned.before}
    assert settled
    assert planned.evicted == {"a": planned.before - len(settled), "b": planned.before}
    buffer.trim(planned.before)
    assert {n: c.ledger.dropped["evicted"] for n, c in buffer.cursors.items()} == planned.evicted
    assert_balances(buffer)
    buffer.close()


def test_what_a_trim_of_thinned_segments_costs() -> None:
    def file(first: int, end: int, level: int, samples: int) -> SegmentStatus:
        return SegmentStatus("", level, first, end, 100, 1, 1, samples, 0, 0, 0, 0)

    files = [file(0, 100, 1, 20), file(100, 200, 0, 100), file(200, 300, 0, 100)]
    ledgers = {
        "none": at(0),
        "middle": at(0, (50, 150)),
        "some": at(50, (100, 200)),
        "first": at(100, (110, 120)),
        "all": at(0, (1, 300)),
    }
    found = cut(files, ledgers, to_size=100)
    assert found is not None
    assert found.evicted == {"none": 120, "middle": 10 + 50, "some": 10, "first": 90, "all": 0}


# Thinning.


def test_the_holes_of_gaps_are_never_more_than_their_positions() -> None:
    chance = random.Random(7)
    for _ in range(2000):
        span = chance.randint(1, 60)
        header = Header(100, 1, 100 + span, chance.randint(0, span))
        edges = sorted(chance.sample(range(80, 180), 6))
        spans = list(zip(edges[::2], edges[1::2], strict=True))
        found = [header.holes([gap]) for gap in spans]
        assert header.holes(spans) == sum(found)
        for count, (start, end) in zip(found, spans, strict=True):
            assert 0 <= count <= max(0, min(end, 100 + span) - max(start, 100))
        assert header.holes([(0, 1000)]) == span - header.samples


SEGMENTS = [(Header(n * 100, 0, (n + 1) * 100, 100), 50) for n in range(20)]


def chosen(*ledgers: Ledger, level: int = 0) -> tuple[int, list[int]]:
    log = [(header._replace(level=level), size) for header, size in SEGMENTS]
    found, run = thinnable(log, Limits(400, segment_size=50), ledgers)
    return found, [header.first_seq for header in run]


def test_what_is_thinned_with_stretches() -> None:
    assert chosen(at(0)) == (1, [0, 100, 200, 300, 400, 500])
    assert chosen() == (1, [0, 100, 200, 300, 400, 500])
    # A segment in which one begins or ends is left alone.
    assert chosen(at(0, (250, 1000))) == (1, [0, 100])
    assert chosen(at(10, (250, 1000))) == (1, [100])
    # What is settled in the middle is not worth it, and the two sides of it are not joined.
    assert chosen(at(0, (200, 1000))) == (1, [0, 100])
    assert chosen(at(150, (200, 1000))) == (1, [1000, 1100, 1200, 1300, 1400, 1500])
    assert chosen(at(150, (200, 1050))) == (1, [1100, 1200, 1300, 1400, 1500, 1600])
    # It is for a destination that has not got it; but what is pending for one is not joined with the rest.
    assert chosen(at(100, (300, 1000)), at(0)) == (1, [0])
    assert chosen(at(150, (300, 500)), at(200)) == (1, [200])
    assert chosen(at(150, (200, 500)), at(300)) == (1, [300, 400])
    # Of coarse ones only several are, so a border does not end the search.
    assert chosen(at(0, (100, 200)), level=1) == (2, list(range(200, 1200, 100)))
    assert chosen(at(100, (200, 300)), at(0), level=1) == (2, list(range(300, 1300, 100)))
    assert chosen(at(0, *((200 * n - 50, 200 * n + 50) for n in range(1, 9))), level=1) == (0, [])


def thin_until(buffer: Buffer, number: int, position: int) -> None:
    """Append ticks from this one on until everything up to a position is thinned."""
    while max((header.end_seq for header in buffer.log.thinned.values()), default=0) < position:
        buffer.append([tick(number)])
        number += 1


def test_thinning_with_stretches_balances_and_loses_nothing(tmp_path: Path) -> None:
    buffer = a_buffer(tmp_path, "thin", 14_000)
    a, b = buffer.cursors["a"], buffer.cursors["b"]
    fresh = settle_ahead(buffer, "a", 0, 1200, 6)
    assert len(a.ledger.ahead) >= 3
    assert buffer.log.thinned
    for number in range(1200, 1500):
        was = a.ledger
        buffer.append([tick(number)])
        assert a.ledger.delivered == was.delivered
        assert_balance(a, b)
        for stretch in a.ledger.ahead:
            for edge in stretch:
                inside = [h for h in buffer.log.thinned.values() if h.first_seq < edge < h.end_seq]
                assert not inside
    assert thinned_pending(a) > 0
    late = drain(a)
    assert not set(late) & set(fresh)
    assert a.pending() == 0
    assert a.ledger.dropped["thinned"] > 0
    assert "corrupt" not in a.ledger.dropped
    assert a.ledger.delivered == 3 * (len(fresh) + len(late))
    buffer.close()


def test_a_stretch_that_ends_within_a_thinned_segment(tmp_path: Path) -> None:
    """Where reading ahead pauses until the records after it are thinned, it continues with the thinned records."""
    buffer = a_buffer(tmp_path, "thin", 14_000)
    a = buffer.cursors["a"]
    fresh = settle_ahead(buffer, "a", 0, 400, 2)
    thin_until(buffer, 400, a.ledger.reach + 300)
    assert a.ledger.ahead
    while not any(h.first_seq < a.ledger.reach < h.end_seq for h in buffer.log.thinned.values()):
        fresh += take(a.read_ahead, a, 6)
    assert a.pending() > 0
    assert "corrupt" not in a.ledger.dropped
    stored = decode(encode(a.ledger))
    assert stored == a.ledger
    fresh += drain_ahead(a)
    late = drain(a)
    assert len(set(fresh + late)) == len(fresh + late)
    assert a.pending() == 0
    assert "corrupt" not in a.ledger.dropped
    buffer.close()


@pytest.mark.parametrize("phase", range(6))
def test_what_is_on_its_way_ahead_comes_at_no_instant_again(tmp_path: Path, phase: int) -> None:
    """Thinning puts a bucket at the time of its last tick: that one may be on its way while a link is away."""
    buffer = a_buffer(tmp_path, "thin", 14_000)
    a = buffer.cursors["a"]
    fill(buffer, 0, 400 + phase)
    assert a.go_ahead(1)
    chunk = a.read_ahead(3)
    thin_until(buffer, 400 + phase, chunk.end + 60)
    settle(a, chunk)
    sent = numbers(chunk.ticks) + drain(a)
    assert sent[0] == 399 + phase
    assert len(set(sent)) == len(sent)
    assert a.pending() == 0
    assert_balance(a)
    buffer.close()


def test_a_batch_that_was_thinned_while_it_was_on_its_way_counts_once(tmp_path: Path) -> None:
    """It may have been there for hours: its own edges are no stretch yet, and nothing keeps them apart."""
    buffer = Buffer(str(tmp_path), Limits(max_size=14_000, segment_size=1000), ["a", "b"], clock=lambda: 0.0)
    a = buffer.cursors["a"]
    fill(buffer, 0, 100)
    assert a.go_ahead(30)
    chunk = a.read_ahead(30)
    thin_until(buffer, 100, chunk.end)
    assert a.position == 0
    settle(a, chunk)
    assert a.ledger == at(0, (chunk.start, chunk.end))
    assert_balance(a)
    buffer.sync()
    check_status(tmp_path, buffer)  # a record that is partly settled is sent, so it waits
    seen = drain_ahead(a) + drain(a)
    assert len(seen) == len(set(seen))
    assert a.pending() == 0
    assert_balance(a)
    assert a.ledger.dropped.get("corrupt", 0) == 0
    buffer.close()


def test_holes_are_not_taken_for_damage_whichever_way_they_were_read(tmp_path: Path) -> None:
    """Coarse records that both readers hold, some of them evicted since, and others that cannot be read."""
    buffer = a_buffer(tmp_path, "thin", 14_000)
    fill(buffer, 0, 1500)
    a, fs = buffer.cursors["a"], buffer._fs
    assert isinstance(fs, MemoryFs)
    coarse = sorted(buffer.log.thinned)[:3]
    hurt = fs.entries[f"{tmp_path}/segments/{name(coarse[1])}"].data
    hurt[len(hurt) // 2] ^= 0xFF
    found = entries(fs, f"{tmp_path}/segments", a.position)
    everything = a.read(10**6)
    assert everything.end == buffer.log.end
    first = found[4].seq
    assert a.go_ahead(buffer.log.end - first - 1)
    assert a.ahead == first
    chunk = a.read_ahead(10**6)
    assert (chunk.start, chunk.end) == (first, buffer.log.end)
    gone = found[7].seq
    a.skip(gone, "evicted")
    was = a.ledger.dropped
    left = [entry for entry in found if entry.seq >= gone]
    settle(a, chunk)  # a lane does not know what was evicted
    samples, span = sum(e.samples for e in left), sum(e.end - e.seq for e in left)
    lost = buffer.log.end - gone - span
    assert lost > 0
    # It delivered more than there was left of it, which takes the place of holes; damage stays what it is.
    sent = sum(entry.samples for entry in found[4:7]) + samples
    assert a.ledger.delivered == sent
    assert a.ledger.dropped == {"evicted": was["evicted"], "thinned": span - sent, "corrupt": lost}
    assert a.pending() == 0
    assert_balance(a)
    buffer.close()


# What the status says.


def check_status(folder: Path, buffer: Buffer) -> None:
    """Compare with what a reader finds, record by record."""
    now = (START_MS + 10**9) / 1000
    for one in status(str(folder), now=now).destinations:
        cursor = buffer.cursors[one.name]
        ledger, size, oldest, samples = cursor.ledger, 0, None, 0
        for header, bytes_ in buffer.log.segments():
            file = File(buffer._fs, f"{folder}/segments", header.first_seq)
            begin, here = 0, 0
            whole = True
            while (found := file.next()) is not None:
                assert isinstance(found, Record)
                if ledger.unsettled(found.seq, found.end):
                    here += file.offset - (begin or 0)
                    samples += found.samples
                    oldest = oldest or found.wall_ms
                else:
                    whole = False
                begin = file.offset
            file.close()
            assert not whole or here == bytes_
            size += here
        assert one.pending_samples == cursor.pending()
        assert buffer.log.thinned or samples == cursor.pending()
        assert one.oldest_pending_timestamp_ms == oldest
        assert one.lag_seconds == (round(now - oldest / 1000, 3) if oldest else 0.0)
        assert one.pending_bytes == size
        told = one.ledger
        assert told.appended == buffer.log.end - ledger.start
        assert told.appended == told.delivered + told.pending + sum(told.dropped.values())
        assert told.dropped.get("thinned", 0) == ledger.dropped.get("thinned", 0) + thinned_pending(cursor)


@pytest.mark.parametrize("on_full", ["drop_oldest", "thin"])
def test_the_status_means_the_gaps(tmp_path: Path, on_full: Any) -> None:
    buffer = Buffer(str(tmp_path), Limits(max_size=20_000, segment_size=1000, on_full=on_full), ["a", "b"])
    chance, number = random.Random(3), 0
    a = buffer.cursors["a"]
    for _ in range(60):
        for _ in range(chance.randint(1, 30)):
            buffer.append([tick(number)])
            number += 1
        a.go_ahead(chance.choice([3, 30, 90]))
        for read in (a.read_ahead, a.read):
            if chance.random() < 0.6:
                take(read, a, chance.choice([3, 9, 60]))
        buffer.sync()
        check_status(tmp_path, buffer)
    buffer.close()
    assert a.ledger.ahead
    drained = Buffer(str(tmp_path), Limits(max_size=20_000, segment_size=1000, on_full=on_full), ["a", "b"])
    drain(drained.cursors["a"], 60)
    drained.sync()
    check_status(tmp_path, drained)
    drained.close()


def test_the_verification_takes_no_offence_at_stretches(tmp_path: Path) -> None:
    buffer = Buffer(str(tmp_path), Limits(segment_size=600), ["a"])
    settle_ahead(buffer, "a", 0, 300, 3)
    buffer.close()
    report = verify(str(tmp_path), deep=True)
    assert report.ok
    assert [(c.position, c.problem) for c in report.cursors] == [(0, None)]


def test_a_destination_that_is_forgotten_is_gone_with_its_stretches(tmp_path: Path) -> None:
    buffer = Buffer(str(tmp_path), Limits(segment_size=600), ["a"])
    fresh = settle_ahead(buffer, "a", 0, 100, 2)
    buffer.close()
    told: list[dict[str, object]] = []
    times = iter((1e9, 1e9 + 101))
    for _ in range(2):
        buffer = Buffer(
            str(tmp_path),
            Limits(forget_after=100),
            ["b"],
            wall=partial(next, times),
            report=lambda what, **fields: told.append({"what": what, **fields}),
        )
        buffer.close()
    pending = 3 * (100 - len(fresh))
    assert told == [{"what": "forgotten", "destination": "a", "pending_samples": pending}]
    assert [one.name for one in status(str(tmp_path)).destinations] == ["b"]
