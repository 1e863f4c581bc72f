"""The buffer as a whole: caps, room, destinations, and the ledger through all of it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from buffer.buffer import Buffer
from buffer.errors import BufferFull
from buffer.fs import Fs
from buffer.inspect.status import status
from buffer.limits import Limits, OnFull
from buffer.segment import MAX_SPAN, Header
from buffer.thin import thinnable
from buffer.usage import Usage
from tests.support.buffers import assert_balances, at, drain, fill, kill, settle
from tests.support.faults import Failing, MemoryFs, Switch, eio
from tests.support.ticks import exactly, tick


def open_buffer(fs: Fs, folder: Path, max_size: int = 1 << 20, on_full: OnFull = "drop_oldest") -> Buffer:
    """Open a buffer whose clock does not move: cursor files are written once, and then when it syncs."""
    return Buffer(
        str(folder),
        Limits(max_size=max_size, segment_size=1000, on_full=on_full),
        ["a", "b"],
        fs=fs,
        clock=lambda: 0.0,
    )


def deliver(buffer: Buffer, name: str, limit: int = 1 << 30) -> int:
    cursor, found = buffer.cursors[name], 0
    while found < limit and (chunk := cursor.read(min(60, limit - found))).samples:
        settle(cursor, chunk)
        found += chunk.samples
    return found


def test_the_newest_ticks_are_the_last_of_each_group_of_the_last_hour(tmp_path: Path) -> None:
    buffer, one = open_buffer(MemoryFs(), tmp_path), tick(1)

    def append(group: str, minutes: int) -> list[tuple[str, int]]:
        at = one.at._replace(wall_ms=one.at.wall_ms + minutes * 60_000)
        buffer.append([one._replace(group=group, at=at)])
        return [(tick.group, (tick.at.wall_ms - one.at.wall_ms) // 60_000) for tick in buffer.newest]

    assert append("a", 0) == [("a", 0)]
    assert append("b", 1) == [("b", 1), ("a", 0)]
    assert append("a", 2) == [("a", 2), ("b", 1)]
    assert append("a", 62) == [("a", 62)]
    assert append("b", -5) == [("b", -5)]  # the clock was set


# Room.


@pytest.mark.parametrize("on_full", ["thin", "drop_oldest"])
def test_the_cap_is_kept_to_one_record_and_the_newest_stays(tmp_path: Path, on_full: OnFull) -> None:
    fs = MemoryFs()
    buffer = open_buffer(fs, tmp_path, 10_000, on_full)
    for number in range(2000):
        buffer.append([tick(number)])
        on_disk = sum(len(node.data) for path, node in fs.entries.items() if "/segments/" in path)
        assert on_disk <= 10_000 + 400
        assert on_disk == buffer.log.size
    assert_balances(buffer)
    assert exactly(list(buffer.cursors["a"].read(10**6).ticks)[-50:]) == exactly(
        [tick(n) for n in range(1950, 2000)]
    )


def test_what_was_delivered_never_counts_as_evicted_even_if_the_cursor_file_is_behind(tmp_path: Path) -> None:
    fs = MemoryFs()
    buffer = open_buffer(fs, tmp_path, 10_000)
    fill(buffer, 0, 10)
    buffer.sync()
    number = 10
    while buffer.log.first == 0:  # until the cap is reached, and the oldest segment is let go
        buffer.append([tick(number)])
        number += 1
        for name in ("a", "b"):
            deliver(buffer, name)
    gone = buffer.log.first
    kill(buffer, fs)
    again = open_buffer(fs, tmp_path, 10_000)
    for cursor in again.cursors.values():
        assert cursor.position >= gone
        assert "evicted" not in cursor.ledger.dropped
        assert cursor.ledger.delivered == cursor.position


def test_what_was_evicted_counts_for_those_who_had_not_got_it_also_after_a_kill(tmp_path: Path) -> None:
    fs = MemoryFs()
    buffer = open_buffer(fs, tmp_path, 10_000)
    buffer.sync()
    for number in range(1500):
        buffer.append([tick(number)])
        deliver(buffer, "a")
    gone = buffer.log.first
    assert buffer.cursors["a"].ledger.dropped == {}
    assert buffer.cursors["b"].ledger.dropped == {"evicted": gone}
    kill(buffer, fs)
    again = open_buffer(fs, tmp_path, 10_000)
    assert again.cursors["b"].ledger.dropped == {"evicted": gone}
    assert again.cursors["a"].ledger.dropped.get("evicted", 0) == 0
    assert_balances(again)


def test_a_cap_that_was_lowered_below_the_newest_file_stops_nothing(tmp_path: Path) -> None:
    fs = MemoryFs()
    buffer = Buffer(str(tmp_path), Limits(max_size=1 << 20, segment_size=1 << 17), ["a"], fs=fs)
    fill(buffer, 0, 3000)
    large = buffer.log.size
    buffer.close()
    for on_full in ("drop_oldest", "thin"):
        buffer = open_buffer(fs, tmp_path, 8_000, on_full)
        fill(buffer, 3000, 3200)
        assert buffer.log.size <= 8_400 < large
        assert_balances(buffer)
        buffer.close()


def test_a_record_as_large_as_the_cap_stops_nothing(tmp_path: Path) -> None:
    fs = MemoryFs()
    buffer = open_buffer(fs, tmp_path, 4_000)
    wide = tick(0)
    series = tuple(wide.series[0]._replace(name=f"m{i}_{hash(i * 7919)}") for i in range(3000))
    buffer.append([wide._replace(series=series, values=[0.1 * i for i in range(3000)])])
    assert buffer.log.size > 4_000
    fill(buffer, 1, 100)
    assert buffer.log.size < 4_400
    assert_balances(buffer)


def test_drop_newest_refuses_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    fs = MemoryFs()
    buffer = open_buffer(fs, tmp_path, 4_000, "drop_newest")
    with pytest.raises(BufferFull, match="max_size"):
        fill(buffer, 0, 10**6)
    number = buffer.log.end // 3
    for name in ("a", "b"):
        assert deliver(buffer, name) == 3 * number
    buffer.append([tick(number)])
    assert_balances(buffer)
    assert all(c.ledger.dropped == {} for c in buffer.cursors.values())


@pytest.mark.parametrize("on_full", ["thin", "drop_oldest", "drop_newest"])
def test_the_floor_of_free_space_is_kept_and_opening_below_it_is_no_error(
    tmp_path: Path, on_full: OnFull
) -> None:
    fs = MemoryFs(capacity=1_000_000)
    fs.write(fs.create("someone/else"), bytes(960_000), 0)
    buffer = Buffer(
        str(tmp_path),
        Limits(max_size=1 << 20, min_free=lambda volume: volume // 20, on_full=on_full),
        ["a"],
        fs=fs,
    )
    with pytest.raises(BufferFull, match="min_free_space"):
        buffer.append([tick(0)])
    buffer.sync()
    assert not buffer.log.sizes
    fs.unlink("someone/else")
    fs.kill()
    fill(buffer, 0, 10)
    assert buffer.log.end == 30


def test_a_full_disk_stops_the_append_alone_and_recovers_by_itself(tmp_path: Path) -> None:
    """Cursor files cannot be written either; what was delivered makes the room for them."""
    fs = MemoryFs(capacity=40_000)
    buffer = Buffer(
        str(tmp_path), Limits(max_size=1 << 20, segment_size=2_000, on_full="drop_oldest"), ["a", "b"], fs=fs
    )
    with pytest.raises(OSError):
        fill(buffer, 0, 10**6)
    number = buffer.log.end // 3
    for _ in range(3):
        with pytest.raises(OSError):
            buffer.append([tick(number)])
    assert_balances(buffer)
    for name in ("a", "b"):
        cursor = buffer.cursors[name]
        while (chunk := cursor.read(60)).samples:
            try:
                settle(cursor, chunk)
            except OSError:
                pass
        assert cursor.ledger.delivered == 3 * number
    for _ in range(3):
        try:
            buffer.sync()
        except OSError:
            continue
    fill(buffer, number, number + 10)
    buffer.sync()
    kill(buffer, fs)
    again = open_buffer(fs, tmp_path)
    for cursor in again.cursors.values():
        assert (cursor.ledger.delivered, cursor.ledger.dropped, cursor.pending()) == (3 * number, {}, 30)


def test_eviction_works_on_a_disk_that_is_truly_full(tmp_path: Path) -> None:
    """Nothing can be written, so the segment goes first and is accounted for later, even over a kill."""
    fs = MemoryFs(capacity=60_000)
    buffer = open_buffer(fs, tmp_path, 30_000)
    fill(buffer, 0, 400)
    buffer.sync()
    number = 400
    while buffer.log.first == 0:
        buffer.append([tick(number)])
        number += 1
    fs.capacity = fs.used
    before = buffer.log.first
    for _ in range(2000):
        try:
            buffer.append([tick(number)])
        except OSError:
            pass
        else:
            number += 1
    assert buffer.log.first >= before
    assert_balances(buffer)
    gone = buffer.log.first
    kill(buffer, fs)
    again = open_buffer(fs, tmp_path, 30_000)
    for cursor in again.cursors.values():
        assert cursor.ledger.dropped == {"evicted": gone}
    assert_balances(again)


def test_a_file_that_cannot_be_removed_stops_no_ledger(tmp_path: Path) -> None:
    inner = MemoryFs()
    switch = Switch(inner)
    buffer = open_buffer(switch, tmp_path, 6_000)
    switch.to = Failing(inner, 1, eio, lasting=True, only=["unlink"])
    number, failed = 0, 0
    for number in range(600):
        try:
            buffer.append([tick(number)])
        except OSError:
            failed += 1
    assert failed
    assert_balances(buffer)
    switch.to = inner
    fill(buffer, 600, 700)
    assert buffer.log.size <= 6_400
    assert_balances(buffer)


def deliver_fresh_first(buffer: Buffer, name: str) -> None:
    cursor = buffer.cursors[name]
    cursor.go_ahead(30)
    for read in (cursor.read_ahead, cursor.read):
        chunk = read(60)
        settle(cursor, chunk)


@pytest.mark.parametrize("fresh_first", [False, True])
def test_threads_that_append_sync_send_and_look_leave_a_balance(tmp_path: Path, fresh_first: bool) -> None:
    fs = MemoryFs()
    buffer = open_buffer(fs, tmp_path, 12_000, "thin")
    over = threading.Event()
    failures: list[BaseException] = []

    def keep(doing: str) -> None:
        try:
            while not over.is_set():
                if doing == "sync":
                    buffer.sync()
                elif doing == "look":
                    assert buffer.log.size >= 0
                    assert buffer.written >= 0
                    assert all(c.pending() >= 0 for c in buffer.cursors.values())
                elif fresh_first and doing == "a":
                    deliver_fresh_first(buffer, doing)
                else:
                    deliver(buffer, doing, 600)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=keep, args=(what,)) for what in ("sync", "look", "a", "b")]
    for thread in threads:
        thread.start()
    try:
        fill(buffer, 0, 3000)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures
    for name in ("a", "b"):
        deliver(buffer, name)
    assert_balances(buffer)
    for cursor in buffer.cursors.values():
        assert cursor.pending() == 0
        assert cursor.ledger.dropped.get("corrupt", 0) == 0
    buffer.close()
    assert not fs.open_files


def test_what_is_thinned_into_one_segment_never_spans_more_than_one_may() -> None:
    """Ticks that never change cost so little that a run of small files has a very long way."""
    step = MAX_SPAN // 3
    log = [(Header(n * step, 1, (n + 1) * step, step // 6), 100) for n in range(40)]
    level, run = thinnable(log, Limits(4000, segment_size=500), [at(0)])
    assert level == 2
    assert run[-1].end_seq - run[0].first_seq <= MAX_SPAN
    huge = [(Header(n * 2 * MAX_SPAN, 0, (n + 1) * 2 * MAX_SPAN, 1), 100) for n in range(40)]
    assert thinnable(huge, Limits(4000, segment_size=500), [at(0)]) == (0, [])


# Destinations.


def test_destinations_start_where_configured_and_are_forgotten_in_time(tmp_path: Path) -> None:
    now = 1e9
    told: list[str] = []

    def open_with(*names: str) -> Buffer:
        return Buffer(
            str(tmp_path),
            Limits(forget_after=100),
            names,
            start_now=["now"],
            wall=lambda: now,
            report=lambda what, **_: told.append(what),
        )

    buffer = open_with("a")
    fill(buffer, 0, 10)
    buffer.close()
    buffer = open_with("oldest", "now")
    assert {n: c.pending() for n, c in buffer.cursors.items()} == {"oldest": 30, "now": 0, "a": 30}
    buffer.close()
    now += 99
    buffer = open_with("oldest")
    assert set(buffer.cursors) == {"oldest", "now", "a"}
    now += 2
    buffer.sync()
    assert set(buffer.cursors) == {"oldest", "now"}
    buffer.close()
    assert told == ["forgotten"]
    assert [d.name for d in status(str(tmp_path)).destinations] == ["now", "oldest"]


def configured(buffer: Buffer, *names: str, start_now: Sequence[str] = (), **changed: Any) -> None:
    limits = Limits(1 << 20, segment_size=1000, on_full="drop_oldest", forget_after=60.0)
    buffer.configure(limits._replace(**changed), names, start_now=start_now)


def test_destinations_come_and_go_while_it_is_in_use(tmp_path: Path) -> None:
    fs, told = MemoryFs(), list[str]()
    wall = [0.0]
    buffer = Buffer(
        str(tmp_path),
        Limits(segment_size=1000),
        ["a"],
        fs=fs,
        wall=lambda: wall[0],
        report=lambda what, **_: told.append(what),
    )
    fill(buffer, 0, 20)
    deliver(buffer, "a")
    configured(buffer, "a", "old", "new", start_now=["new"])
    assert {name: cursor.pending() for name, cursor in buffer.cursors.items()} == {
        "a": 0,
        "old": 60,
        "new": 0,
    }
    fill(buffer, 20, 40)
    assert deliver(buffer, "old") == 120
    assert deliver(buffer, "new") == 60
    assert_balances(buffer)
    for name in ("a", "old", "new"):
        buffer.usage(name).save(Usage(1, 2, 3))
    configured(buffer, "old")
    buffer.sync()
    fill(buffer, 40, 50)
    wall[0] += 59
    buffer.sync()
    configured(buffer, "a", "old")  # in time: it is where it was
    wall[0] += 2
    buffer.sync()
    assert told == ["forgotten"]
    assert set(buffer.cursors) == {"a", "old"}
    assert [buffer.usage(name).load() for name in ("a", "old", "new")] == [
        Usage(1, 2, 3),
        Usage(1, 2, 3),
        None,
    ]
    assert buffer.cursors["a"].ledger.removed_ms is None
    assert deliver(buffer, "a") == 90
    buffer.close()
    buffer = Buffer(str(tmp_path), Limits(), ["a", "old"], fs=fs)
    assert buffer.cursors["a"].pending() == 0
    assert_balances(buffer)
    buffer.close()


def test_limits_change_while_it_is_in_use(tmp_path: Path) -> None:
    fs = MemoryFs()
    buffer = open_buffer(fs, tmp_path)
    fill(buffer, 0, 200)
    size = buffer.log.size
    assert size > 4000
    configured(buffer, "a", "b", max_size=4000, segment_size=300)
    fill(buffer, 200, 260)
    assert buffer.log.size < 4000 + 300
    assert max(buffer.log.sizes.values()) < 1000
    configured(buffer, "a", "b", max_size=1 << 20, on_full="drop_newest")
    fill(buffer, 260, 500)
    assert buffer.log.size > 4300
    configured(buffer, "a", "b", max_size=4000, on_full="drop_newest")
    with pytest.raises(BufferFull):
        fill(buffer, 500, 501)
    assert_balances(buffer)
    buffer.close()


def test_no_append_waits_until_all_is_thinned_for_a_lower_limit(tmp_path: Path) -> None:
    """It is reached step by step at each sync, however often the limits are set meanwhile."""
    fs, told = MemoryFs(), list[str]()
    buffer = Buffer(
        str(tmp_path), Limits(segment_size=1000), ["a"], fs=fs, report=lambda what, **_: told.append(what)
    )
    fill(buffer, 0, 3000)
    for n in range(5):
        configured(buffer, "a", max_size=8000, on_full="thin")
        fill(buffer, 3000 + n, 3001 + n)
    assert told == []
    steps = 0
    while buffer.log.size >= 8000:
        before, size = len(told), buffer.log.size
        buffer.sync()
        assert len(told) <= before + 1
        assert buffer.log.size < size
        steps += 1
    assert steps > 3
    buffer.sync()
    for n in range(3005, 3600):
        configured(buffer, "a", max_size=8000, on_full="thin")
        fill(buffer, n, n + 1)
        assert buffer.log.size <= 8000 + 400
    assert_balances(buffer)
    buffer.close()


def test_what_was_forgotten_is_not_written_again_by_who_still_sends(tmp_path: Path) -> None:
    wall = [0.0]
    buffer = Buffer(str(tmp_path), Limits(), ["a", "gone"], wall=lambda: wall[0])
    fill(buffer, 0, 10)
    gone = buffer.cursors["gone"]
    chunk = gone.read(10)
    configured(buffer, "a")
    buffer.sync()
    wall[0] = 61.0
    buffer.sync()
    settle(gone, chunk)
    gone.note("waiting", "no answer")
    gone.persist()
    gone.close()
    assert [one.name for one in status(str(tmp_path)).destinations] == ["a"]
    buffer.close()


def test_destinations_change_while_the_disk_fails(tmp_path: Path) -> None:
    fs = MemoryFs()
    switch = Switch(fs)
    buffer = open_buffer(switch, tmp_path)
    fill(buffer, 0, 5)
    switch.to = Failing(fs, 1, eio, lasting=True)
    configured(buffer, "a", "c", max_size=4000)
    assert buffer.limits.max_size == 4000
    switch.to = fs
    assert drain(buffer.cursors["c"]) == [0, 1, 2, 3, 4]
    buffer.close()


def test_what_has_the_place_of_a_cursor_file_is_kept_aside(tmp_path: Path) -> None:
    (tmp_path / "cursors" / "a.json" / "mine").mkdir(parents=True)
    buffer = Buffer(str(tmp_path), Limits(), ["a", "b"], clock=lambda: 0.0)
    buffer.append([tick(1)])
    buffer.sync()
    found = {name: deliver(buffer, name) for name in "ab"}
    buffer.close()
    assert {one.name: one.ledger.delivered for one in status(str(tmp_path)).destinations} == found
    assert (tmp_path / "cursors" / "a.json.damaged" / "mine").exists()


def test_a_cursor_file_that_cannot_be_written_keeps_no_other_back(tmp_path: Path) -> None:
    for name in ("a.json", "a.json.damaged"):
        (tmp_path / "cursors" / name / "mine").mkdir(parents=True)
    buffer = Buffer(str(tmp_path), Limits(), ["a", "b"], clock=lambda: 0.0)
    buffer.append([tick(1)])
    with pytest.raises(OSError):
        buffer.sync()
    found = deliver(buffer, "b")  # the first delivery is written at once
    buffer.append([tick(2)])
    found += deliver(buffer, "b")
    with pytest.raises(OSError):
        buffer.sync()
    (b,) = status(str(tmp_path)).destinations
    assert (b.name, b.ledger.delivered) == ("b", found)
    with pytest.raises(OSError):
        buffer.close()


def test_without_destinations_everything_is_kept(tmp_path: Path) -> None:
    buffer = Buffer(str(tmp_path), Limits(max_size=1 << 20, segment_size=500), [])
    fill(buffer, 0, 50)
    buffer.sync()
    assert buffer.log.first == 0
    buffer.close()
    assert status(str(tmp_path)).samples == 150


def test_waiting_ends_when_something_comes_or_somebody_wakes_it(tmp_path: Path) -> None:
    buffer = Buffer(str(tmp_path), Limits(), ["a"])
    for end in (lambda: buffer.append([tick(0)]), buffer.wake):
        waiter = threading.Thread(target=buffer.wait, args=(buffer.log.end, 60.0))
        waiter.start()
        while waiter.is_alive():
            end()
            waiter.join(0.01)
    buffer.wait(0, 60.0)  # something is there already
    buffer.close()


# What the status says.


def test_the_status_says_what_the_next_start_will_say(tmp_path: Path) -> None:
    """After a kill between the dropping of a segment and its accounting, and with cursors ahead."""
    buffer = Buffer(
        str(tmp_path), Limits(max_size=20_000, segment_size=1000, on_full="drop_oldest"), ["a", "b"]
    )
    fill(buffer, 0, 800)
    buffer.sync()
    while buffer.log.first < 600:
        fill(buffer, 800, 801)
        deliver(buffer, "a")
    kill(buffer)  # it was killed
    shown = {d.name: d.ledger for d in status(str(tmp_path)).destinations}
    again = Buffer(
        str(tmp_path), Limits(max_size=20_000, segment_size=1000, on_full="drop_oldest"), ["a", "b"]
    )
    for name, cursor in again.cursors.items():
        ledger = shown[name]
        assert ledger.appended == again.log.end - cursor.ledger.start
        assert ledger.pending == cursor.pending()
        assert ledger.delivered == cursor.ledger.delivered
        assert {r: c for r, c in ledger.dropped.items() if c} == cursor.ledger.dropped
        assert ledger.appended == ledger.delivered + ledger.pending + sum(ledger.dropped.values())
    again.close()
    buffer.log.close()
