"""Real processes that are killed, and a real volume that is full."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from buffer.buffer import Buffer
from buffer.errors import BufferFull
from buffer.fs import RealFs
from buffer.inspect.status import status
from buffer.ledger import load
from buffer.limits import Limits, OnFull
from tests.support.buffers import assert_balances, drain, entries, expected, kill, numbers, settle
from tests.support.ticks import exactly, tick

WIDTH = 16
NAMES = ("quick", "slow")
KILLED = (*NAMES, "fresh")
KILLS = 30

# Appends, sends to one destination at once and to another one rarely, to a third the newest first, syncs; says
# on standard output what it has got an answer for.  It runs until it is killed.
WRITER = """
import itertools, os, sys
from buffer.buffer import Buffer
from buffer.limits import Limits
from tests.support.ticks import tick

folder, first = sys.argv[1], int(sys.argv[2])
say = lambda *words: os.write(1, (" ".join(map(str, words)) + "\\n").encode())
names = ["quick", "slow", "fresh"]
buffer = Buffer(folder, Limits(1 << 20, segment_size=4096), names, clock=itertools.count().__next__)
say("open", buffer.log.end)
for number in itertools.count(first):
    say("begin", number)
    end = buffer.append([tick(number, 16)])
    say("appended", number, end)
    if number % 3 == 0:
        chunk = buffer.cursors["quick"].read(100)
        say("sent", "quick", chunk.samples)
        buffer.cursors["quick"].commit(chunk.start, chunk.end, chunk.samples, {})
    if number % 11 == 0:
        chunk = buffer.cursors["slow"].read(50)
        say("sent", "slow", chunk.samples)
        buffer.cursors["slow"].commit(chunk.start, chunk.end, chunk.samples, {})
    if number % 7 == 0:
        cursor = buffer.cursors["fresh"]
        cursor.go_ahead(16)
        for chunk in (cursor.read_ahead(48), cursor.read(16)):
            if cursor.ledger.unsettled(chunk.start, chunk.end) == chunk.end - chunk.start:
                say("sent", "fresh", chunk.samples)
                cursor.commit(chunk.start, chunk.end, chunk.samples, {})
    if number % 17 == 0:
        buffer.sync()
"""


def run_until_killed(folder: Path, first: int, choose: random.Random) -> list[list[str]]:
    """Run the writer, kill it at some moment, and return what it has said."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(first)], stdout=subprocess.PIPE, bufsize=0
    )
    assert process.stdout is not None
    out = process.stdout.fileno()
    said = b""
    enough = choose.randint(1, 20_000)
    deadline = time.monotonic() + 30
    while len(said) < enough and time.monotonic() < deadline:
        ready, _, _ = select.select([out], [], [], 1)
        if ready:
            piece = os.read(out, choose.randint(1, 4096))
            assert piece, "the writer ended by itself"
            said += piece
    process.kill()
    said += process.communicate()[0]
    return [line.split() for line in said.decode().split("\n")[:-1]]


def test_what_was_acknowledged_outlives_kills_at_any_moment(tmp_path: Path) -> None:
    choose = random.Random(os.urandom(8))
    acknowledged: dict[int, int] = {}
    begun: set[int] = set()
    sent = dict.fromkeys(KILLED, 0)
    first = stretches = 0
    for _ in range(KILLS):
        for word, *rest in run_until_killed(tmp_path, first, choose):
            if word == "begin":
                begun.add(int(rest[0]))
            elif word == "appended":
                acknowledged[int(rest[0])] = int(rest[1])
            elif word == "sent":
                sent[rest[0]] += int(rest[1])
        first = max(begun, default=first - 1) + 1
        stored = load(RealFs(), f"{tmp_path}/cursors/fresh.json")
        stretches = max(stretches, len(stored.ahead) if stored else 0)
    assert stretches > 1

    # Seen from outside, while nobody writes.
    shown = {d.name: d.ledger for d in status(str(tmp_path)).destinations}
    buffer = Buffer(str(tmp_path), Limits(max_size=1 << 20, segment_size=4096), KILLED)
    stored_entries = entries(RealFs(), tmp_path / "segments")
    found = {numbers(entry.ticks)[0]: entry.end for entry in stored_entries}
    assert exactly([one for entry in stored_entries for one in entry.ticks]) == expected(found, WIDTH)

    kept_from = buffer.log.first
    missing = [n for n, end in acknowledged.items() if end > kept_from and found.get(n) != end]
    assert not missing
    assert set(found) <= begun
    assert list(found) == sorted(found)
    for name, cursor in buffer.cursors.items():
        ledger = cursor.ledger
        assert ledger.dropped == {}
        assert ledger.delivered <= sent[name]
        assert shown[name].appended == buffer.log.end - ledger.start
        assert shown[name].appended == shown[name].delivered + shown[name].pending
        assert drain(cursor, 10_000) == [n for n, end in found.items() if ledger.unsettled(end - WIDTH, end)]
        assert cursor.ledger.delivered == buffer.log.end - ledger.start
    buffer.close()


# A volume that fills up.

SIZE = 2 << 20


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A small volume of its own."""
    where = tmp_path / "volume"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(where)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no volume can be mounted here: {mounted.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill_up(path: Path, leave: int = 0) -> None:
    """Take all the space that there is, but `leave` bytes."""
    with open(path, "wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(4096)):
                pass
        file.truncate(max(0, file.tell() - leave))


def append(buffer: Buffer, number: int) -> bool:
    try:
        buffer.append([tick(number, WIDTH)])
    except (OSError, BufferFull):
        return False
    return True


def deliver(buffer: Buffer, name: str) -> None:
    cursor = buffer.cursors[name]
    while (chunk := cursor.read(1000)).samples:
        with suppress(OSError):
            settle(cursor, chunk)


def sync(buffer: Buffer) -> bool:
    try:
        buffer.sync()
    except OSError:
        return False
    return True


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_full_volume_stops_the_append_alone_and_it_recovers_when_space_is_freed(volume: Path) -> None:
    buffer = Buffer(str(volume / "data"), Limits(max_size=64 << 20, segment_size=64 << 10), NAMES)
    number = 0
    while number < 300:
        assert append(buffer, number)
        number += 1
    assert sync(buffer)
    fill_up(volume / "someone_elses")
    while append(buffer, number):
        number += 1
    before = descriptors()
    for _ in range(200):
        assert not append(buffer, number)
        sync(buffer)
    assert descriptors() <= before + 2
    deliver(buffer, "quick")
    assert buffer.cursors["quick"].ledger.delivered == number * WIDTH
    assert buffer.cursors["slow"].pending() == number * WIDTH
    assert status(str(volume / "data")).samples == number * WIDTH

    (volume / "someone_elses").unlink()
    for _ in range(300):
        assert append(buffer, number)
        number += 1
    assert sync(buffer)
    deliver(buffer, "slow")
    assert buffer.cursors["slow"].ledger.delivered == number * WIDTH
    assert buffer.cursors["slow"].ledger.dropped == {}
    assert status(str(volume / "data")).damaged_records == 0
    buffer.close()


def test_a_buffer_that_filled_its_volume_makes_room_by_delivering(volume: Path) -> None:
    buffer = Buffer(str(volume / "data"), Limits(max_size=64 << 20, segment_size=16 << 10), NAMES)
    fill_up(volume / "someone_elses", leave=100 << 10)
    number = 0
    for _ in range(3):
        while append(buffer, number):
            number += 1
        for name in NAMES:
            deliver(buffer, name)
        sync(buffer)
        assert sync(buffer)
    assert number > 2_000
    for cursor in buffer.cursors.values():
        assert (cursor.ledger.delivered, cursor.ledger.dropped) == (number * WIDTH, {})
    buffer.close()


@pytest.mark.parametrize("on_full", ["drop_oldest", "thin"])
def test_eviction_works_on_a_volume_without_a_free_byte(volume: Path, on_full: OnFull) -> None:
    limits = Limits(max_size=150 << 10, segment_size=8 << 10, on_full=on_full)
    buffer = Buffer(str(volume / "data"), limits, NAMES)
    number = 0
    while buffer.log.size < 125 << 10:
        assert append(buffer, number)
        number += 1
    assert sync(buffer)
    fill_up(volume / "someone_elses")
    refused = 0
    for _ in range(2_000):
        if append(buffer, number):
            number += 1
        else:
            refused += 1
        if number % 250 == 0:
            sync(buffer)
    on_disk = sum(path.stat().st_size for path in (volume / "data" / "segments").iterdir())
    assert on_disk <= 150 << 10
    assert_balances(buffer)
    kill(buffer)  # killed: nothing more is written
    again = Buffer(str(volume / "data"), limits, NAMES)
    assert_balances(again)
    assert buffer.log.end == again.log.end == number * WIDTH
    (volume / "someone_elses").unlink()
    assert append(again, number)
    assert sync(again)
    again.close()
    buffer.log.close()
    for cursor in buffer.cursors.values():
        cursor.close()


def test_a_buffer_can_be_opened_on_a_full_volume(volume: Path) -> None:
    buffer = Buffer(str(volume / "data"), Limits(), NAMES)
    assert append(buffer, 0)
    buffer.close()
    fill_up(volume / "someone_elses")
    buffer = Buffer(str(volume / "data"), Limits(), NAMES)
    deliver(buffer, "quick")
    append(buffer, 1)
    (volume / "someone_elses").unlink()
    assert append(buffer, 2)
    buffer.close()
    assert status(str(volume / "data")).damaged_records == 0
