"""Reading a log that lives: behind a writer, from any position, while files come, go and change."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import segment
from buffer.buffer import Buffer
from buffer.fs import Fs, RealFs
from buffer.inspect.segments import segments
from buffer.inspect.status import status
from buffer.limits import Limits
from buffer.log import Log
from buffer.model import Series, Tick
from buffer.reader import WINDOW, File, Reader
from buffer.segment import HEADER
from tests.support.buffers import expected, fill, filled_log
from tests.support.faults import Counting, Failing, MemoryFs, eio
from tests.support.ticks import exactly, tick

FOLDER = "log"
ROLL = 400


def rest(reader: Reader) -> list[Tick]:
    """The ticks that a reader has not returned yet."""
    found = list(reader)
    assert all(sum(len(t.values) for t in e.ticks) == e.samples == e.end - e.seq for e in found)
    return [one for entry in found for one in entry.ticks]


def open_log(count: int = 0, roll: int = ROLL) -> tuple[MemoryFs, Log]:
    return filled_log(count, roll, FOLDER)


# Behind a writer.


def test_a_reader_of_its_own_follows_a_writer_across_files(tmp_path: Path) -> None:
    folder = str(tmp_path)
    reader = Reader(RealFs(), folder)
    log = Log(RealFs(), folder, ROLL)
    assert reader.next() is None
    for number in range(100):
        log.append([tick(number)])
        assert exactly(rest(reader)) == expected([number])
        assert reader.next() is None
    assert len(log.sizes) > 4
    log.close()
    log = Log(RealFs(), folder, ROLL)  # and across processes
    log.append([tick(100)])
    assert exactly(rest(reader)) == expected([100])
    assert reader.damaged == 0
    log.close()
    reader.close()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-40, 40).filter(bool), min_size=1, max_size=30), st.integers(0, 5))
def test_however_reading_and_writing_alternate_all_is_read_once(turns: list[int], width: int) -> None:
    """A number above zero: so many records are appended; below zero: so many are read."""
    fs, log = open_log()
    reader, found, number = Reader(fs, FOLDER), [], 0
    for turn in turns:
        for _ in range(abs(turn)):
            if turn > 0:
                log.append([tick(number, 1 + width)])
                number += 1
            elif (entry := reader.next()) is not None:
                found += entry.ticks
    found += rest(reader)
    assert exactly(found) == expected(range(number), 1 + width)
    log.close()
    reader.close()
    assert not fs.open_files


def test_a_writer_that_rolls_between_two_looks_loses_nothing() -> None:
    """Between the end of a file and the look for a newer one, the last records of it may come."""
    fs, log = open_log(3)

    class Sly(Counting):
        number = 3

        def list(self, folder: str) -> list[str]:
            for _ in range(20):
                log.append([tick(self.number)])
                self.number += 1
            return fs.list(folder)

    sly = Sly(fs)
    reader = Reader(sly, FOLDER)
    found: list[Tick] = []
    while sly.number < 200:
        entry = reader.next()
        found += entry.ticks if entry else []
    while (entry := Reader.next(reader)) is not None and len(found) < 200:
        found += entry.ticks
    assert exactly(found) == expected(range(len(found)))
    assert reader.damaged == 0


@pytest.mark.parametrize("cut", [1, 5, 21, 22, 23, -1])
def test_a_record_that_comes_in_two_pieces_is_waited_for(cut: int) -> None:
    fs, log = open_log(2)
    reader = Reader(fs, FOLDER)
    assert len(rest(reader)) == 2
    size = log.size
    log.append([tick(2)])
    data = fs.entries[f"{FOLDER}/{segment.name(0)}"].data
    whole = bytes(data)
    data[:] = whole[: size + cut] if cut > 0 else whole[:cut]
    assert rest(reader) == []
    data[:] = whole
    assert exactly(rest(reader)) == expected([2])
    assert reader.damaged == 0


@pytest.mark.parametrize("cut", [5, 30])
def test_a_record_that_was_taken_back_after_it_was_seen_half_is_forgotten(cut: int) -> None:
    """A full disk: half a record is written and cut off, and later another one is written there."""
    fs, log = open_log(2, roll=1 << 20)
    reader = Reader(fs, FOLDER)
    assert len(rest(reader)) == 2
    size = log.size
    data = fs.entries[f"{FOLDER}/{segment.name(0)}"].data
    log.append([tick(77)])
    del data[size + cut :]
    assert rest(reader) == []
    del data[size:]
    log.sizes[0], log.end = size, 6
    log._encoder.reset()
    fill(log, 2, 5, 5)
    assert exactly(rest(reader)) == expected(range(2, 5), 5)
    assert reader.damaged == 0


def test_a_file_that_was_begun_again_is_read_again() -> None:
    fs, log = open_log()
    path = f"{FOLDER}/{segment.name(0)}"
    for torn in (
        b"LM",
        segment.encode_header(segment.Header(0)),
        segment.encode_header(segment.Header(0)) + b"\xa7",
    ):
        fs.write(fs.create(path), torn, 0)
        reader = Reader(fs, FOLDER)
        assert reader.next() is None
        fs.unlink(path)
        log = Log(fs, FOLDER, ROLL)
        fill(log, 0, 20)
        assert exactly(rest(reader)) == expected(range(20))
        reader.close()
        fs.entries.clear()
    assert log.end == 60


def test_damage_in_the_file_that_is_written_does_not_hide_what_comes_behind_it() -> None:
    """Also where the record behind the damage is still on its way when the reader comes there."""
    for cut in range(1, 60, 3):
        fs, log = open_log(3, roll=1 << 20)
        log._encoder.reset()
        start = log.size
        log.append([tick(3)])
        data = fs.entries[f"{FOLDER}/{segment.name(0)}"].data
        whole = bytearray(data)
        whole[start - 3] ^= 1  # the last byte but two of record 2
        reader = Reader(fs, FOLDER)
        data[:] = whole[: start + cut]
        assert exactly(rest(reader)) == expected(range(2))
        data[:] = whole
        assert exactly(rest(reader)) == expected([3])
        assert reader.damaged >= 1


# From any position.


@pytest.mark.parametrize("roll", [1, 300, 1 << 20])
def test_a_reader_starts_at_any_position(roll: int) -> None:
    fs, log = open_log(60, roll)
    for seq in range(185):
        reader = Reader(fs, FOLDER, seq)
        assert exactly(rest(reader)) == expected(range(min(60, seq // 3), 60))
        assert reader.damaged == 0
        reader.close()
    log.close()
    assert not fs.open_files


def test_a_reader_ahead_of_the_log_waits_for_it_to_come_there() -> None:
    fs, log = open_log(10)
    reader = Reader(fs, FOLDER, 33)
    assert reader.next() is None
    fill(log, 10, 40)
    assert exactly(rest(reader)) == expected(range(11, 40))


def test_positions_that_are_not_there_are_jumped_over() -> None:
    fs, _ = open_log(10)
    log = Log(fs, FOLDER, ROLL, numbered_from=50)
    log.append([tick(10)])
    for seq in (0, 20, 30, 40, 50):
        reader = Reader(fs, FOLDER, seq)
        assert exactly(rest(reader)) == expected(range(min(10, seq // 3), 11))
        assert reader.damaged == 0


# While files go.


def test_a_file_that_is_dropped_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    log = Log(RealFs(), str(tmp_path), ROLL)
    fill(log, 0, 60)
    reader = Reader(RealFs(), str(tmp_path))
    assert reader.next() is not None
    gone = 0
    while (second := log.second()) is not None and len(log.sizes) > 2:
        gone = second
        log.drop_oldest()
    found = rest(reader)
    first_file = sorted([0, *(t.at.mono_ms // 10_000 for t in found)])
    assert len(found) < 59
    assert exactly(found[-((180 - gone) // 3) :]) == expected(range(gone // 3, 60))
    assert exactly(found) == exactly([tick(n) for n in first_file[1:]])
    assert reader.damaged == 0
    log.close()
    reader.close()


def test_files_that_go_between_the_listing_and_the_opening_are_passed_over() -> None:
    fs, log = open_log(60)

    class Vanishing(Counting):
        def open(self, path: str) -> int:
            while log.second() is not None:
                log.drop_oldest()
            return fs.open(path)

    reader = Reader(Vanishing(fs), FOLDER)
    newest = min(log.sizes, default=0)
    found = rest(reader)
    newest = max(log.sizes)
    assert exactly(found) == expected(range(newest // 3, 60))


def test_a_folder_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(FileNotFoundError):
        Reader(RealFs(), "/nonexistent/limpet").next()


# Failing and closing.


def test_a_read_that_fails_can_be_tried_again() -> None:
    inner, log = open_log(60)
    log.close()
    for n in range(1, 60):
        fs = Failing(inner, n, eio)
        reader, found = Reader(fs, FOLDER), []
        for _ in range(3):
            try:
                for entry in reader:
                    found += entry.ticks
            except OSError:
                assert fs.failed
        assert exactly(found) == expected(range(60))
        reader.close()
        assert not inner.open_files


def test_a_reader_holds_one_file_open_and_none_when_closed() -> None:
    fs, log = open_log(100)
    log.close()
    reader = Reader(fs, FOLDER)
    for _ in reader:
        assert len(fs.open_files) == 1
    reader.close()
    assert not fs.open_files
    log = Log(fs, FOLDER, ROLL)
    log.append([tick(100)])
    assert exactly(rest(reader)) == expected([100])
    reader.close()
    log.close()
    assert not fs.open_files


@pytest.mark.parametrize("data", [b"", b"LM", bytes(100), b"\x7fELF" * 100])
def test_what_cannot_be_opened_is_closed_again(data: bytes) -> None:
    fs, log = open_log(20)
    log.close()
    for first in list(log.sizes)[:-1]:
        fs.entries[f"{FOLDER}/{segment.name(first)}"].data[:] = data
    for seq in (0, 30):
        reader = Reader(fs, FOLDER, seq)
        rest(reader)
        reader.close()
    segments(".", fs)
    again = Log(fs, FOLDER, ROLL)
    assert not fs.open_files
    assert again.end == 60


# The shape of its work.


def test_asking_at_the_tail_opens_no_file_and_reads_next_to_nothing() -> None:
    inner, log = open_log(500, roll=1 << 20)
    fs = Counting(inner)
    reader = Reader(fs, FOLDER)
    assert len(rest(reader)) == 500
    for number in range(500, 510):
        fs.reset()
        assert reader.next() is None
        assert set(fs.calls) <= {"read", "list"}
        assert fs.bytes_read == 0
        size = log.size
        log.append([tick(number)])
        fs.reset()
        assert reader.next() is not None
        assert "open" not in fs.calls
        assert fs.bytes_read == log.size - size


def test_draining_reads_each_byte_about_once() -> None:
    inner, log = open_log(4000, roll=20_000)
    fs = Counting(inner)
    assert len(rest(Reader(fs, FOLDER))) == 4000
    assert fs.bytes_read < 2.5 * log.size  # each file is looked at twice, up to a window
    assert fs.calls["open"] < 2 * len(log.sizes)


def test_a_position_late_in_a_file_takes_one_pass_over_it() -> None:
    inner, log = open_log(4000, roll=1 << 20)
    fs = Counting(inner)
    reader = Reader(fs, FOLDER, 3 * 3990)
    assert reader.next() is not None
    assert fs.bytes_read < log.size + 2 * WINDOW
    assert fs.calls["open"] == 1


# A copy that cannot be written.


@pytest.fixture
def read_only_copy(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    buffer = Buffer(str(data), Limits(segment_size=4096), ["a"])
    fill(buffer, 0, 500, 16)
    buffer.sync()
    buffer.cursors["a"].commit(0, 160, 160, {})
    buffer.sync()
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    buffer.close()
    for path in copy.rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)
    copy.chmod(0o500)
    return copy


def test_a_read_only_copy_is_read_and_not_touched(read_only_copy: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in read_only_copy.rglob("*")}

    class ReadOnly(Counting):
        def __getattr__(self, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN204
            assert name in {"open", "read", "size", "list", "close", "free"}, name
            return super().__getattr__(name)

    fs: Fs = ReadOnly()
    assert len(rest(Reader(fs, str(read_only_copy / "segments")))) == 500
    assert sum(s.samples for s in segments(str(read_only_copy), fs)) == 8000
    shown = status(str(read_only_copy))
    assert shown.writer_pid is None
    assert shown.destinations[0].pending_samples == 8000 - 160
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in read_only_copy.rglob("*")} == before


def test_a_read_only_copy_is_read_without_the_rights_of_root(read_only_copy: Path) -> None:
    """In a process of its own, which gives up what root may do."""
    if os.geteuid() != 0:
        assert status(str(read_only_copy)).samples == 8000
        return
    for path in (read_only_copy, *read_only_copy.rglob("*")):
        os.chown(path, 65534, 65534)
    for parent in read_only_copy.parents:
        if parent.stat().st_mode & 0o011 != 0o011 and parent.is_relative_to("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    pid = os.fork()
    if pid == 0:
        failed = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            failed = int(status(str(read_only_copy)).samples != 8000)
        finally:
            os._exit(failed)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_file_class_says_where_it_is() -> None:
    fs, log = open_log(5, roll=1 << 20)
    file = File(fs, FOLDER, 0)
    assert file.offset == HEADER.size
    places = [file.offset for _ in file]
    assert places[-1] == log.size
    file.seek(places[2])
    found = file.next()
    assert isinstance(found, segment.Record)
    assert found.seq == 9


def test_a_long_record_whose_bytes_look_like_others_is_read() -> None:
    """2.4 MB of labels that hardly compress, read from the beginning and from its middle."""
    noise = random.Random(5)
    labels = [noise.randbytes(1500).hex() for _ in range(800)]
    series = tuple(Series(f"m{i}", (("label", label),)) for i, label in enumerate(labels))
    fs, log = open_log()
    at = tick(0).at
    log.append([Tick(at, "all", series, [float(i) for i in range(800)])])
    log.append([tick(1)])
    for reader in (Reader(fs, FOLDER), Reader(fs, FOLDER, 1)):
        found = rest(reader)
        assert [len(one.series) for one in found] == [800, len(tick(1).series)]
        assert reader.damaged == 0
