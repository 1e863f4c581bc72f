"""Cursors: their files, whatever is in them, and a ledger that balances whatever is settled."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.buffer import Buffer
from buffer.cursor import Cursor
from buffer.fs import read_all
from buffer.hints import UNKNOWN, Progress, Size
from buffer.inspect.status import status
from buffer.ledger import SLOT, Ledger, decode, encode, load, load_hints
from buffer.limits import Limits
from buffer.log import Log
from buffer.model import Series, Tick
from tests.support.buffers import NEW, assert_balance, drain, expected, filled_log, settle
from tests.support.faults import Failing, MemoryFs, Switch, eio
from tests.support.ticks import exactly, tick

USED = Ledger(150, 30, 100, {"evicted": 20}, 7, 1, "waiting", "HTTP 503: café", 12.5, 1_750_000_000_000)


def sealed(line: bytes) -> bytes:
    return line + b"\n%08x\n" % zlib.crc32(line)


def with_fields(**fields: Any) -> bytes:
    """The contents of a slot, of version 1 where nothing else is said."""
    known = {"version": 1, "generation": 3, **USED._asdict()}
    del known["ahead"]
    return sealed(json.dumps({**known, **fields}).encode())


# The file.


counts = st.integers(0, 10**12)
reasons = st.dictionaries(st.sampled_from(["evicted", "rejected", "corrupt", "thinned", "aged"]), counts)


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    start, delivered, dropped = draw(counts), draw(counts), draw(reasons)
    return Ledger(
        start + delivered + sum(dropped.values()),
        start,
        delivered,
        dropped,
        draw(counts),
        draw(counts),
        draw(st.text()),
        draw(st.none() | st.text()),
        draw(st.floats(0, 1e9)),
        draw(st.none() | counts),
    )


@given(ledgers())
def test_a_ledger_comes_back(ledger: Ledger) -> None:
    assert decode(encode(ledger)) == ledger


def test_text_that_is_no_text_comes_back_too() -> None:
    odd = USED._replace(error="/mnt/\udcff\n\x00\U0001f980", state="waiting")
    assert decode(encode(odd)) == odd


@given(st.data())
def test_a_file_with_any_byte_changed_or_cut_is_not_taken(data: st.DataObject) -> None:
    good = encode(USED)
    cut = data.draw(st.integers(0, len(good) - 2))  # the last byte is a line feed
    assert decode(good[:cut]) is None
    flipped = bytearray(good)
    flipped[data.draw(st.integers(0, len(good) - 2))] ^= data.draw(st.integers(1, 255))
    found = decode(bytes(flipped))
    assert found is None or found == USED  # the checksum's own spelling may differ


WRONG: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(300),
    "no checksum": encode(USED).split(b"\n")[0],
    "a wrong checksum": encode(USED)[:-9] + b"00000000\n",
    "no generation": sealed(json.dumps({"version": 1, **USED._asdict()}).encode()),
    "not JSON": sealed(b"{"),
    "not UTF-8": sealed(b'{"version": 1, "\xff": 2}'),
    "a list": sealed(b"[1, 2]"),
    "null": sealed(b"null"),
    "a number": sealed(b"1"),
    "nothing in it": sealed(b"{}"),
    "no version": sealed(json.dumps(USED._asdict()).encode()),
    "a field too many": with_fields(surprise=1),
    "a field too few": sealed(b'{"version": 1, "position": 0, "start": 0}'),
    "endless depth": sealed(b"[" * 60_000),
    "deep fields": sealed(b'{"version": 1, "position": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "a number of endless length": sealed(b'{"version": 1, "position": ' + b"9" * 60_000 + b"}"),
    "does not balance": with_fields(delivered=101),
    "delivered more than there was": with_fields(delivered=140, dropped={"evicted": -20}),
    "starts behind its position": with_fields(start=200, delivered=-70),
    "starts before zero": with_fields(start=-10, delivered=140),
    "further than any log": with_fields(position=10**30, delivered=10**30 - 50),
    "no whole numbers": with_fields(position=150.0, delivered=100.0),
    "not a number": with_fields(position=float("nan")),
    "endless": with_fields(position=float("inf"), delivered=float("inf")),
    "true and false": with_fields(position=True, start=False, delivered=True, dropped={}),
    "text for a number": with_fields(position="150"),
    "a list of what was dropped": with_fields(dropped=[20]),
    "text for a sum": with_fields(dropped={"evicted": "20"}),
    "nothing for the missed": with_fields(missed_before=None),
    "text for the missed": with_fields(missed_before="7"),
    "text for the damage": with_fields(damaged="1"),
    "a state that is no text": with_fields(state=7),
    "an error that is no text": with_fields(error=["HTTP 503"]),
    "a rate that is text": with_fields(rate="12.5"),
    "a rate that is endless": with_fields(rate=float("inf")),
    "a rate that is not a number": with_fields(rate=float("nan")),
    "removed at a time that is text": with_fields(removed_ms="yesterday"),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_what_is_no_cursor_file_starts_at_the_oldest_record_and_stops_nothing(
    data: bytes, tmp_path: Path
) -> None:
    assert decode(data) is None
    with_log = Buffer(str(tmp_path), Limits(), ["a", "b"])
    for number in range(10):
        with_log.append([tick(number)])
    with_log.cursors["b"].commit(0, 30, 30, {})
    with_log.close()
    file = tmp_path / "cursors" / "a.json"
    file.write_bytes(data)
    assert [d.name for d in status(str(tmp_path)).destinations] == ["b"]
    assert file.read_bytes() == data
    buffer = Buffer(str(tmp_path), Limits(), ["a", "b"])
    a, b = buffer.cursors["a"], buffer.cursors["b"]
    assert (a.position, a.pending(), b.position, b.pending()) == (0, 30, 30, 0)
    assert len(a.read(1000).ticks) == 10
    buffer.append([tick(10)])
    buffer.close()
    assert [d.pending_samples for d in status(str(tmp_path)).destinations] == [33, 3]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_ledger_or_none(data: bytes, seal: bool) -> None:
    decode(sealed(data) if seal else data)


fields = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 200), st.integers(), st.floats(), st.text(max_size=3),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(-5, 200), max_size=2),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(Ledger._fields), fields, max_size=4))
def test_a_ledger_of_any_fields_is_sound_or_none(changed: dict[str, Any]) -> None:
    found = decode(with_fields(**changed))
    if found is not None:
        assert 0 <= found.start <= found.position
        assert found.position - found.start == found.delivered + sum(found.dropped.values())
        assert all(count >= 0 for count in (found.delivered, *found.dropped.values()))
        found.settle(found.position, found.position + 10, {"rejected": 3}, "delivered")
        encode(found)


def test_a_long_file_is_read_up_to_a_limit_only() -> None:
    fs = MemoryFs()
    fs.write(fs.create("c.json"), encode(USED) + bytes(10 << 20), 0)
    began = time.process_time()
    assert load(fs, "c.json") == USED
    assert time.process_time() - began < 10
    assert load(fs, "missing.json") is None


# Settling.


def test_reading_again_returns_the_same_until_it_is_committed() -> None:
    fs, log = filled_log(40)
    cursor = Cursor(fs, "d", "a", log, NEW)
    first, again = cursor.read(20), cursor.read(20)
    assert exactly(first.ticks) == exactly(again.ticks) == expected(range(6))
    assert (first.samples, first.end) == (18, 18)
    cursor.commit(first.start, first.end, 18, {})
    assert exactly(cursor.read(20).ticks) == expected(range(6, 12))
    assert exactly(cursor.read(1).ticks) == expected([6])  # one record at least
    assert_balance(cursor)


def test_everything_is_read_once_in_order_whatever_the_batch() -> None:
    for limit in (1, 3, 4, 50, 10**6):
        fs, log = filled_log(40)
        cursor = Cursor(fs, "d", "a", log, NEW)
        found = []
        while (chunk := cursor.read(limit)).samples:
            assert chunk.samples <= max(limit, 3)
            found += chunk.ticks
            settle(cursor, chunk)
        assert exactly(found) == expected(range(40))
        assert (cursor.pending(), cursor.ledger.delivered) == (0, 120)
        cursor.close()
        log.close()
        assert not fs.open_files


steps = st.lists(
    st.tuples(
        st.sampled_from(["read", "commit", "reject", "skip", "append", "again"]),
        st.integers(0, 60),
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_the_ledger_balances_after_every_step(todo: list[tuple[str, int]]) -> None:
    fs, log = filled_log(10)
    cursor, chunk = Cursor(fs, "d", "a", log, NEW, clock=lambda: 0.0), None
    number, committed = 10, 0
    for step, amount in todo:
        if step == "append":
            log.append([tick(number, 1 + amount)])
            number += 1
        elif step == "read":
            chunk = cursor.read(amount)
        elif step == "skip":
            cursor.skip(min(log.end, cursor.position // 3 * 3 + 3 * (amount // 20)), "evicted")
        elif step == "again":
            cursor.persist()
            cursor.close()
            loaded = load(fs, "d/cursors/a.json")
            assert loaded == cursor.ledger
            cursor, chunk = Cursor(fs, "d", "a", log, loaded, clock=lambda: 0.0), None
        elif chunk is not None:
            refused = min(amount, chunk.samples) if step == "reject" else 0
            settle(cursor, chunk, refused)
            committed += chunk.samples - refused
            chunk = None
        assert_balance(cursor)
        assert cursor.ledger.delivered <= committed
        assert decode(encode(cursor.ledger)) == cursor.ledger


def test_what_cannot_be_read_is_counted_corrupt_and_the_rest_delivered() -> None:
    fs, log = filled_log(40)
    firsts = sorted(log.sizes)
    middle = fs.entries[f"d/segments/{firsts[1]:020d}.seg"].data
    middle[40] ^= 0xFF  # its first record, a key frame
    cursor = Cursor(fs, "d", "a", log, NEW)
    drain(cursor, 10)
    lost = firsts[2] - firsts[1]
    assert cursor.ledger.dropped == {"corrupt": lost}
    assert cursor.ledger.delivered == 120 - lost
    assert cursor.ledger.damaged > 0
    assert cursor.pending() == 0


def test_what_was_evicted_after_it_was_read_counts_once() -> None:
    fs, log = filled_log(20)
    cursor = Cursor(fs, "d", "a", log, NEW)
    chunk = cursor.read(30)
    cursor.skip(15, "evicted")
    settle(cursor, chunk)
    assert (cursor.ledger.delivered, cursor.ledger.dropped) == (15, {"evicted": 15})
    chunk = cursor.read(30)
    cursor.skip(60, "evicted")
    settle(cursor, chunk)
    assert (cursor.ledger.delivered, cursor.ledger.dropped) == (15, {"evicted": 45})
    assert_balance(cursor)
    assert cursor.read(10).samples == 0


def test_a_rejected_batch_whose_front_was_evicted_keeps_both_reasons() -> None:
    fs, log = filled_log(20)
    cursor = Cursor(fs, "d", "a", log, NEW)
    chunk = cursor.read(30)
    cursor.skip(18, "evicted")
    cursor.commit(chunk.start, chunk.end, 0, {"rejected": chunk.samples})
    assert (cursor.ledger.delivered, cursor.ledger.dropped) == (0, {"evicted": 18, "rejected": 12})


# Its file, over time.


def test_the_file_is_written_at_most_once_a_second_and_when_asked() -> None:
    fs, log = filled_log(20)
    now = 100.0
    log.sync()
    cursor = Cursor(fs, "d", "a", log, NEW, clock=lambda: now)

    def stored() -> int | None:
        ledger = load(fs, "d/cursors/a.json")
        return ledger.position if ledger else None

    cursor.commit(0, 3, 3, {})
    assert stored() == 3
    cursor.commit(3, 6, 3, {})
    cursor.note("waiting", "HTTP 503")
    assert stored() == 3
    now += 1
    cursor.commit(6, 9, 3, {})
    assert stored() == 9
    cursor.commit(9, 12, 3, {})
    cursor.persist()
    assert stored() == 12
    writes = cursor.written
    cursor.persist()
    cursor.note("waiting", "HTTP 503")
    assert cursor.written == writes


def test_a_cursor_moves_though_its_file_cannot_be_written_and_the_file_follows() -> None:
    fs, log = filled_log(20)
    switch = Switch(fs)
    cursor = Cursor(switch, "d", "a", log, NEW)
    log.sync()
    switch.to = Failing(fs, 1, eio, lasting=True)
    for end in (3, 6):
        with pytest.raises(OSError):
            cursor.commit(end - 3, end, 3, {})
        assert cursor.position == end
    assert load(fs, "d/cursors/a.json") is None
    switch.to = fs
    cursor.persist()
    assert load(fs, "d/cursors/a.json") == cursor.ledger
    cursor.close()
    log.close()
    assert not fs.open_files


def test_the_file_never_points_behind_the_end_of_the_log_after_a_power_cut() -> None:
    for seed in range(30):
        fs, log = filled_log(20)
        cursor = Cursor(fs, "d", "a", log, NEW)
        cursor.commit(0, 60, 60, {})
        if seed % 2:
            cursor.persist()
        fs.cut(random.Random(seed))
        ledger = load(fs, "d/cursors/a.json")
        assert ledger is None or Log(fs, "d/segments", 400).end >= ledger.position


def test_a_slot_that_was_torn_leaves_the_one_before() -> None:
    fs, log = filled_log(20)
    log.sync()
    cursor = Cursor(fs, "d", "a", log, NEW)
    for end in (3, 6, 9):
        cursor.commit(end - 3, end, 3, {})
        cursor.persist()
    whole = read_all(fs, "d/cursors/a.json", 2 * SLOT)
    for at in range(0, 180, 7):
        for slot, left in ((0, 9), (SLOT, 6)):
            torn = whole[: slot + at] + b"#" + whole[slot + at + 1 :]
            found = decode(torn)
            assert found is not None
            assert found.position == left


def test_a_long_error_does_not_make_the_file_unreadable() -> None:
    fs, log = filled_log(1)
    cursor = Cursor(fs, "d", "a", log, NEW)
    cursor.note("held", "\U0001f980" * 100_000)
    assert load(fs, "d/cursors/a.json") == cursor.ledger
    assert cursor.ledger.error is not None
    cursor.persist()
    assert fs.size("d/cursors/a.json") == 2 * SLOT


def test_a_chunk_is_bounded_by_its_labels_too(tmp_path: Path) -> None:
    """Long labels that change are small on disk and large in memory: here 64 MB of them in a chunk of 6,400 samples."""
    buffer = Buffer(str(tmp_path), destinations=["a"])
    for number in range(64):
        names = [f"{number:03d}-{i:03d}-" + "x" * 10_000 for i in range(100)]
        series = tuple(Series("some", (("path", name),)) for name in names)
        buffer.append([Tick(tick(number).at, "changing", series, [1.0] * 100)])
    cursor, seen, most = buffer.cursors["a"], 0, 8 << 20
    tracemalloc.start()
    try:
        while (chunk := cursor.read(10_000)).ticks:
            assert sum(len(one.labels[0][1]) for each in chunk.ticks for one in each.series) <= most
            assert len(chunk.ticks) > 1 or chunk.end == buffer.log.end
            seen += chunk.samples
            cursor.commit(chunk.start, chunk.end, chunk.samples, {})
        assert tracemalloc.get_traced_memory()[1] < 4 * most
    finally:
        tracemalloc.stop()
    assert seen == 6400
    buffer.close()


# The largest request that goes out.


def test_the_largest_request_is_kept_and_taken_back() -> None:
    fs, log = filled_log(1)
    cursor = Cursor(fs, "d", "a", log, NEW)
    assert cursor.size is None
    cursor.note("sending", None, Size(700, 16_000))  # at once: it was dear to learn
    assert Cursor(fs, "d", "a", log, NEW).size == (700, 16_000)
    written = cursor.written
    cursor.note("sending", None, Size(700, 16_000))
    assert cursor.written == written
    for state in ("idle", "waiting", "idle"):
        cursor.note(state, None, None)
        cursor.persist()
    assert Cursor(fs, "d", "a", log, NEW).size is None


def hinted(hint: bytes) -> MemoryFs:
    """A cursor file whose ledger is followed by this."""
    fs, log = filled_log(1)
    Cursor(fs, "d", "a", log, USED).persist()
    fd = fs.modify("d/cursors/a.json")
    fs.write(fd, (encode(USED, 9) + hint).ljust(SLOT), 0)
    return fs


@pytest.mark.parametrize(
    "hint",
    [
        b"",
        sealed(b"{}"),
        sealed(b"null"),
        sealed(b"[1, 2]"),
        sealed(b'{"samples": 0, "bytes": 5}'),
        sealed(b'{"samples": -1, "bytes": 5}'),
        sealed(b'{"samples": "x", "bytes": 5}'),
        sealed(b'{"delivered_ms": true, "tries": -1, "next_try_ms": 1e9, "skew": NaN}'),
        sealed(b'{"samples": 1e999, "bytes": 5}'),
        sealed(b'{"samples": ' + b"[" * 900 + b"]" * 900 + b"}"),
        b'{"samples": 7, "bytes": 5}\n00000000\n',
    ],
)
def test_a_hint_that_is_none_costs_itself_alone(hint: bytes) -> None:
    fs = hinted(hint)
    assert load(fs, "d/cursors/a.json") == USED
    assert load_hints(fs, "d/cursors/a.json")[0] is None
    assert load_hints(fs, "d/cursors/a.json")[1] == UNKNOWN


def test_a_hint_is_read_behind_a_ledger() -> None:
    assert load_hints(hinted(sealed(b'{"samples": 7, "bytes": 5}')), "d/cursors/a.json")[0] == (7, 5)


def test_how_a_destination_is_getting_on_is_kept_and_costs_no_write_of_its_own() -> None:
    """A next try that is seconds away is not worth a write at all; a later one waits for the next sync."""
    fs, log = filled_log(1)
    now = 0.0
    cursor = Cursor(fs, "d", "a", log, NEW, lambda: now)
    path = "d/cursors/a.json"
    soon = Progress(5_000, 1, 1_000_000, 0.5)
    cursor.note("waiting", "no connection", None, soon)
    cursor.persist()
    assert load_hints(fs, path)[1] == soon
    written = cursor.written
    now = 100.0
    cursor.note("waiting", "no connection", None, soon._replace(tries=2, next_try_ms=1_004_000))
    cursor.persist()
    assert (cursor.written, cursor.progress.tries) == (written, 2)
    late = soon._replace(tries=3, next_try_ms=1_100_000)
    cursor.note("waiting", "no connection", None, late)
    assert cursor.written == written
    cursor.persist()
    assert load_hints(fs, path)[1] == late
    assert load(fs, path) == cursor.ledger
    assert load_hints(fs, path).size is None
    cursor.note("idle", None, Size(700, 16_000), Progress(6_000, 0, None, None))
    cursor.persist()
    assert (load_hints(fs, path).size, load_hints(fs, path)[1]) == (Size(700, 16_000), Progress(6_000))
