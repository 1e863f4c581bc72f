"""Segments changed at random: nothing crashes, hangs, invents a value, or removes what can be read."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable

import pytest

from buffer import segment
from buffer.errors import NewerFormat
from buffer.inspect.segments import segments
from buffer.log import Log
from buffer.model import Tick
from buffer.reader import File, Reader
from buffer.segment import HEADER, RECORD, Header, Record
from tests.support.faults import MemoryFs
from tests.support.ticks import STEP_MS, exactly, tick

SECONDS = 3.0
FOLDER = "d/segments"
Change = Callable[[random.Random, bytearray, bytes], None]


def flip(choose: random.Random, data: bytearray, _: bytes) -> None:
    for _bit in range(choose.choice([1, 1, 1, 3, 50])):
        if data:
            data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)


def cut(choose: random.Random, data: bytearray, _: bytes) -> None:
    del data[choose.randint(0, len(data)) :]


def cut_out(choose: random.Random, data: bytearray, _: bytes) -> None:
    start = choose.randint(0, len(data))
    del data[start : start + choose.choice([1, 4, 22, 300])]


def insert(choose: random.Random, data: bytearray, other: bytes) -> None:
    start, place = choose.randint(0, len(other)), choose.randint(0, len(data))
    data[place:place] = other[start : start + choose.choice([1, 22, 40, 500])]


def overwrite(choose: random.Random, data: bytearray, other: bytes) -> None:
    start, place = choose.randint(0, len(other)), choose.randint(0, len(data))
    piece = other[start : start + choose.choice([1, 22, 40, 500])]
    data[place : place + len(piece)] = piece


def zero(choose: random.Random, data: bytearray, _: bytes) -> None:
    place = choose.randint(0, len(data))
    size = min(choose.choice([1, 16, 512]), len(data) - place)
    data[place : place + size] = bytes(size)


def noise(choose: random.Random, data: bytearray, _: bytes) -> None:
    place = choose.randint(0, len(data))
    data[place : place + choose.choice([0, 100])] = choose.randbytes(choose.choice([10, 3000]))


def become_other(choose: random.Random, data: bytearray, other: bytes) -> None:
    data[:] = choose.choice([b"", other, bytes(100), choose.randbytes(choose.choice([5, 36, 37, 5000]))])


def misplace(choose: random.Random, data: bytearray, _: bytes) -> None:
    """Leave out, repeat or swap whole records."""
    first = int.from_bytes(data[8:16], "little")
    if len(data) < HEADER.size or segment.decode_header(bytes(data), first) is None:
        return
    fs = MemoryFs()
    fs.write(fs.create(f"{FOLDER}/{segment.name(first)}"), bytes(data), 0)
    file, places = File(fs, FOLDER, first), [HEADER.size]
    while file.next() is not None:
        places.append(file.offset)
    pieces = [bytes(data[a:b]) for a, b in itertools.pairwise(places)]
    if len(pieces) > 1:
        i, j = choose.randrange(len(pieces)), choose.randrange(len(pieces))
        how = choose.randrange(3)
        if how == 0:
            del pieces[i]
        elif how == 1:
            pieces.insert(i, pieces[j])
        else:
            pieces[i], pieces[j] = pieces[j], pieces[i]
        data[HEADER.size :] = b"".join(pieces)


CHANGES: list[Change] = [flip, cut, cut_out, insert, overwrite, zero, noise, become_other, misplace, misplace]


def original() -> MemoryFs:
    fs = MemoryFs()
    number = 0
    for process in range(4):
        log = Log(fs, FOLDER, 900)
        for _ in range(12 + 7 * process):
            log.append([tick(number, 1 + number // 20)])
            number += 1
        log.close()
    return fs


def copy(fs: MemoryFs) -> MemoryFs:
    found = MemoryFs()
    for path, node in fs.entries.items():
        found.write(found.create(path), bytes(node.data), 0)
    found.kill()
    return found


def read(fs: MemoryFs, seq: int) -> list[Tick]:
    reader, found, end = Reader(fs, FOLDER, seq), [], seq
    while (entry := reader.next()) is not None:
        assert entry.end > end
        end = entry.end
        found += entry.ticks
    assert reader.next() is None
    reader.close()
    return found


def use(fs: MemoryFs, choose: random.Random) -> list[Tick]:
    """Do everything with it that a buffer does, and return what was read."""
    begun = time.process_time()
    found = read(fs, 0)
    read(fs, choose.randint(0, 1500))
    segments("d", fs)
    before = {path: bytes(node.data) for path, node in fs.entries.items()}
    try:
        log = Log(fs, FOLDER, 900)
    except NewerFormat:
        assert {path: bytes(node.data) for path, node in fs.entries.items()} == before
        fs.kill()
        return found
    end = log.end
    for number in (9000, 9001):
        log.append([tick(number, 2)])
    assert exactly(read(fs, end)) == exactly([tick(9000, 2), tick(9001, 2)])
    log.close()
    assert not fs.open_files
    assert time.process_time() - begun < 30
    return found


def test_changed_bytes_are_never_taken_for_values_and_nothing_readable_goes() -> None:
    whole = original()
    paths = sorted(whole.entries)
    seed = int.from_bytes(os.urandom(4))
    deadline, runs = time.process_time() + SECONDS, 0
    while time.process_time() < deadline:
        seed, runs = seed + 1, runs + 1
        choose = random.Random(seed)
        fs = copy(whole)
        for _ in range(choose.choice([1, 1, 2, 5])):
            node, other = fs.entries[choose.choice(paths)], whole.entries[choose.choice(paths)]
            choose.choice(CHANGES)(choose, node.data, bytes(other.data))
        before = {path: bytes(node.data) for path, node in fs.entries.items()}
        try:
            found = use(fs, choose)
            for one in found:
                number = one.at.mono_ms // STEP_MS
                assert exactly([one]) == exactly([tick(number, 1 + number // 20)])
            assert exactly(read(fs, 0)[: len(found)]) == exactly(found)
            for path, data in before.items():
                aside = (
                    path if path in fs.entries and bytes(fs.entries[path].data) == data else f"{path}.damaged"
                )
                kept = aside in fs.entries and bytes(fs.entries[aside].data) == data
                assert kept or len(data) <= HEADER.size + RECORD.size
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert runs > 50


def resealed(choose: random.Random, first: int, data: bytes) -> bytes:
    """Return records that pass their checksums, with anything in their fields and bodies."""
    sealed = segment.encode_header(
        Header(first, choose.choice([0, 0, 1, 2, 9]), choose.choice([0, first + 50]), choose.randrange(99))
    )
    fs = MemoryFs()
    fs.write(fs.create(f"{FOLDER}/{segment.name(first)}"), data, 0)
    file = File(fs, FOLDER, first)
    while (record := file.next()) is not None:
        assert isinstance(record, Record)
        body = bytearray(record.body)
        if choose.random() < 0.3:
            choose.choice([flip, cut, insert, overwrite, noise])(choose, body, record.body)
        seq = record.seq + (choose.choice([-3, -1, 1, 100]) if choose.random() < 0.1 else 0)
        span = record.end - record.seq + (choose.choice([0, 1, 1000]) if choose.random() < 0.1 else 0)
        count = record.samples + (choose.choice([0, 1, 10**6]) if choose.random() < 0.1 else 0)
        key = record.key ^ (choose.random() < 0.1)
        wall = record.wall_ms if choose.random() < 0.9 else choose.randrange(1 << 44)
        seq = max(first, seq)
        sealed += segment.encode(first, Record(seq, seq + span, wall, count, key, bytes(body)))
    return sealed


def test_records_that_lie_with_valid_checksums_crash_nothing() -> None:
    whole = original()
    firsts = segment.listing(whole, FOLDER)
    seed = int.from_bytes(os.urandom(4))
    deadline, runs = time.process_time() + SECONDS, 0
    while time.process_time() < deadline:
        seed, runs = seed + 1, runs + 1
        choose = random.Random(seed)
        fs = copy(whole)
        for first in choose.sample(firsts, 3):
            node = fs.entries[f"{FOLDER}/{segment.name(first)}"]
            node.data[:] = resealed(choose, first, bytes(node.data))
        try:
            use(fs, choose)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert runs > 20


@pytest.mark.parametrize("size", [0, 1, 35, 36, 37, 58, 4096, 1 << 20])
def test_a_file_of_nothing_but_noise_is_survived(size: int) -> None:
    for seed in range(5):
        fs = original()
        choose = random.Random(seed)
        path = choose.choice(sorted(fs.entries))
        fs.entries[path].data[:] = choose.randbytes(size)
        use(fs, choose)
