"""The design's seven promises of the buffer, a test named after each.

The other files of this folder try every case. Here each promise has one test, in the words of the design, so that a
reader of the design finds the test that would catch a lie.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from buffer.buffer import Buffer
from buffer.errors import BufferFull, BufferInUse
from buffer.fs import RealFs
from buffer.inspect.status import status
from buffer.limits import Limits
from buffer.model import Tick
from buffer.segment import HEADER
from tests.support.buffers import expected, fill, kill, numbers, settle, thinned_pending, ticks_in
from tests.support.faults import MemoryFs
from tests.support.ticks import exactly, tick

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys
from buffer.buffer import Buffer
from tests.support.ticks import tick
buffer = Buffer(sys.argv[1], destinations=["d"])
for number in range(1_000_000):
    buffer.append([tick(number)])
    print(number, flush=True)
"""


def stored(folder: Path) -> list[Tick]:
    return ticks_in(RealFs(), folder / "segments")


def writer(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def read_line(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_promise_1_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        while (acknowledged := read_line(process)) < 200:
            pass
        process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
    found = stored(tmp_path)
    assert len(found) > acknowledged
    assert exactly(found) == expected(range(len(found)))


@pytest.mark.parametrize("seed", range(20))
def test_promise_1_a_power_cut_loses_at_most_what_came_after_the_last_sync(seed: int) -> None:
    chance, fs = random.Random(seed), MemoryFs()
    synced = fill_some(fs, chance)
    fs.cut(chance)
    found = ticks_in(fs, "d/segments")
    assert exactly(found[:synced]) == expected(range(synced))
    later = numbers(found[synced:])  # some of it, by chance
    assert later == sorted(set(later))
    assert exactly(found[synced:]) == expected(later)


def fill_some(fs: MemoryFs, chance: random.Random) -> int:
    """Append some ticks with some syncs, and return how many were synced."""
    from buffer.log import Log

    fs.make_folder("d/segments")
    log, synced = Log(fs, "d/segments", 500), 0
    for number in range(chance.randrange(1, 60)):
        log.append([tick(number)])
        if chance.random() < 0.2:
            log.sync()
            synced = number + 1
    return synced


def test_promise_2_one_writer_and_any_number_of_readers(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        while read_line(process) < 20:
            pass
        with pytest.raises(BufferInUse, match=f"process {process.pid}"):
            Buffer(str(tmp_path), Limits(), ["d"])
        process.send_signal(signal.SIGSTOP)  # it holds the lock, and does nothing
        readers = [stored(tmp_path) for _ in range(3)]
        assert status(str(tmp_path)).writer_pid == process.pid
        process.send_signal(signal.SIGCONT)
        process.kill()
    assert len(readers[0]) > 20
    assert exactly(readers[0]) == exactly(readers[1]) == exactly(readers[2])
    assert exactly(stored(tmp_path))[: len(readers[0])] == exactly(readers[0])
    assert status(str(tmp_path)).writer_pid is None
    Buffer(str(tmp_path), Limits(), ["d"]).close()  # it always starts


def test_promise_3_a_torn_tail_is_silent_and_damage_costs_up_to_the_next_key_frame(tmp_path: Path) -> None:
    for first in (0, 10, 20):  # three lives: three segments, each with a key frame
        buffer = Buffer(str(tmp_path), Limits(), ["d"])
        fill(buffer, first, first + 10)
        buffer.close()
    files = sorted((tmp_path / "segments").iterdir())
    torn = files[2].read_bytes()
    files[2].write_bytes(torn[:-3])
    assert exactly(stored(tmp_path)) == expected(range(29))
    assert status(str(tmp_path)).damaged_records == 0

    data = bytearray(files[1].read_bytes())
    data[HEADER.size + 40] ^= 1  # its key frame
    files[1].write_bytes(data)
    before = {path: path.read_bytes() for path in files}
    buffer = Buffer(str(tmp_path), Limits(), ["d"])
    cursor = buffer.cursors["d"]
    chunk = cursor.read(10_000)
    settle(cursor, chunk)
    assert exactly(chunk.ticks) == expected((*range(10), *range(20, 29)))
    assert cursor.ledger.dropped == {"corrupt": 30}
    assert cursor.ledger.damaged > 0
    assert {path: path.read_bytes() for path in files} == before
    buffer.close()


def test_promise_4_adding_a_destination_adds_a_cursor_not_a_copy(tmp_path: Path) -> None:
    buffer = Buffer(str(tmp_path), Limits(), ["a"])
    fill(buffer, 0, 10)
    buffer.cursors["a"].commit(0, 15, 15, {})
    buffer.close()
    before = sorted(path.name for path in (tmp_path / "segments").iterdir())
    buffer = Buffer(str(tmp_path), Limits(), ["a", "b"])
    assert (buffer.cursors["a"].position, buffer.cursors["b"].position) == (15, 0)
    assert len(buffer.cursors["b"].read(1000).ticks) == 10
    buffer.close()
    assert sorted(path.name for path in (tmp_path / "segments").iterdir()) == before


def test_promise_5_the_size_is_bounded_and_old_data_is_thinned_before_it_is_dropped(tmp_path: Path) -> None:
    buffer, cap = Buffer(str(tmp_path), Limits(max_size=64 << 10), ["d"]), 64 << 10
    dropped: dict[str, int] = {}
    for number in range(6000):
        buffer.append([tick(number, 20)])
        assert sum(os.stat(entry).st_size for entry in os.scandir(tmp_path / "segments")) <= cap + 4096
        ahead = {"thinned": thinned_pending(buffer.cursors["d"])}
        now = {**ahead, **buffer.cursors["d"].ledger.dropped}
        if now.get("evicted") and not dropped.get("evicted"):
            assert dropped["thinned"] > 0
        dropped = now
    assert dropped["thinned"] > 0
    buffer.close()


def test_promise_5_a_full_disk_stops_nothing_but_the_append_and_recovers_by_itself(tmp_path: Path) -> None:
    floor = 0
    buffer = Buffer(str(tmp_path), Limits(on_full="drop_newest", min_free=lambda _volume: floor), ["d"])
    buffer.append([tick(0)])
    floor = 1 << 62  # somebody else has filled the volume
    with pytest.raises(BufferFull):
        buffer.append([tick(1)])
    cursor = buffer.cursors["d"]
    chunk = cursor.read(100)
    settle(cursor, chunk)  # sending continues
    buffer.sync()
    floor = 0
    buffer.append([tick(2)])
    assert exactly(cursor.read(100).ticks) == expected([2])
    buffer.close()


@pytest.mark.parametrize("seed", range(10))
def test_promise_6_the_ledger_balances_across_restarts_and_kills(tmp_path: Path, seed: int) -> None:
    chance, appended = random.Random(seed), 0
    for _ in range(6):
        buffer = Buffer(str(tmp_path), Limits(max_size=128 << 10), ["a", "b"])
        for _ in range(chance.randrange(200)):
            buffer.append([tick(appended // 3)])
            appended += 3
            cursor = buffer.cursors[chance.choice("ab")]
            chunk = cursor.read(chance.randrange(1, 90))
            refused = chance.randrange(chunk.samples + 1)
            cursor.commit(chunk.start, chunk.end, chunk.samples - refused, {"rejected": refused})
        if chance.random() < 0.5:
            buffer.close()
        else:  # as a kill leaves it: nothing is written any more
            kill(buffer)
        for destination in status(str(tmp_path)).destinations:
            ledger = destination.ledger
            lost = sum(ledger.dropped.values())
            assert ledger.appended == appended
            assert appended == ledger.delivered + ledger.pending + lost
    assert len(status(str(tmp_path)).destinations) == 2


def test_promise_7_the_format_is_in_the_docstring_versioned_and_has_a_golden_file() -> None:
    from buffer import codec, ledger, scaled, segment

    golden = ROOT / "tests" / "fixtures" / "segments" / f"v{segment.VERSION}.hex"
    assert golden.exists()  # tests/unit/test_buffer_segment.py reads and writes it
    for module, words in (
        (segment, "record  := mark u8 | length u24 | crc32 u32"),
        (codec, "definition := n v | scale u8[n] | size v | json u8[size]"),
        (scaled, "row := changed u8[(cells + 7) / 8] | varint*"),
        (ledger, '"position": .., "start": .., "delivered": ..'),
    ):
        assert words in (module.__doc__ or "")
