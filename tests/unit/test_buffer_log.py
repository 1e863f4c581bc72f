"""The log: appending, syncing, failing and continuing, on a file system in memory and a real one."""

from __future__ import annotations

import os
import random
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from buffer import segment
from buffer.errors import NewerFormat
from buffer.fs import Fs, RealFs
from buffer.inspect.segments import segments
from buffer.log import Log
from tests.support.buffers import expected, ticks_in
from tests.support.faults import (
    Counting,
    Failing,
    MemoryFs,
    Switch,
    broken_write,
    disk_full,
    eio,
    short_write,
)
from tests.support.ticks import exactly, tick

FOLDER = "log"
ROLL = 400


def append(log: Log, *numbers: int) -> None:
    for number in numbers:
        log.append([tick(number)])


def found_in(fs: Fs, folder: str = FOLDER, seq: int = 0) -> list[Any]:
    return exactly(ticks_in(fs, folder, seq))


# Appending and opening again.


def test_what_is_appended_is_read_and_numbered(tmp_path: Path) -> None:
    folder = str(tmp_path)
    log = Log(RealFs(), folder, ROLL)
    ends = [log.append([tick(n), tick(n, 2, "other")]) for n in range(50)]
    assert ends == list(range(5, 255, 5))
    found = ticks_in(RealFs(), folder)
    assert exactly(found) == exactly([t for n in range(50) for t in (tick(n), tick(n, 2, "other"))])
    assert len(log.sizes) > 3
    assert log.size == sum(path.stat().st_size for path in tmp_path.iterdir())
    log.close()


def test_opening_again_continues_in_a_new_file_and_changes_none(tmp_path: Path) -> None:
    folder = str(tmp_path)
    for process in range(5):
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        log = Log(RealFs(), folder, 1 << 20)
        assert log.end == process * 6
        assert log.last == ({"probe": (tick(process * 2 - 1).at.wall_ms, 3)} if process else {})
        append(log, process * 2, process * 2 + 1)
        log.close()
        assert {name: (tmp_path / name).read_bytes() for name in before} == before
        assert len(list(tmp_path.iterdir())) == process + 1
    assert found_in(RealFs(), folder) == expected(range(10))


@pytest.mark.parametrize("whole", [False, True], ids=["the file", "the folder"])
def test_what_is_removed_under_it_costs_what_was_in_it_and_no_more(tmp_path: Path, whole: bool) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    log = Log(RealFs(), str(folder), 1 << 20)
    append(log, 0, 1)
    log.sync()
    for path in folder.iterdir():
        path.unlink()
    if whole:
        folder.rmdir()
    append(log, 2)
    with pytest.raises(FileNotFoundError):
        log.sync()
    append(log, 3, 4)
    log.sync()
    assert found_in(RealFs(), str(folder)) == expected([3, 4])
    assert Log(RealFs(), str(folder), 1 << 20).end == log.end
    log.close()


def test_the_total_of_missed_samples_is_kept_by_the_log_alone() -> None:
    fs = MemoryFs()
    log = Log(fs, FOLDER, ROLL)
    for number in range(30):
        log.append([tick(number)], number)
    assert Log(fs, FOLDER, ROLL).missed == sum(range(30))


def test_the_total_of_missed_samples_outlives_damage_to_the_newest_file() -> None:
    fs = MemoryFs()
    log = Log(fs, FOLDER, ROLL)
    for number in range(30):
        log.append([tick(number)], 10)
    newest = fs.entries[f"{FOLDER}/{segment.name(max(log.sizes))}"].data
    newest[segment.HEADER.size + 10] ^= 1  # its key frame
    again = Log(fs, FOLDER, ROLL)
    assert 200 < again.missed <= 300
    assert "probe" in again.last
    assert again.end >= max(log.sizes)


def test_a_folder_of_a_newer_version_is_refused_and_left_alone() -> None:
    fs = MemoryFs()
    append(Log(fs, FOLDER, ROLL), 0)
    fs.kill()
    node = fs.entries[f"{FOLDER}/{segment.name(0)}"]
    newer = bytearray(segment.HEADER.pack(segment.MAGIC, segment.VERSION + 1, *([0] * 5)))
    newer[-4:] = zlib.crc32(newer[:-4]).to_bytes(4, "little")
    node.data[: segment.HEADER.size] = newer
    before = bytes(node.data)
    with pytest.raises(NewerFormat, match="newer version"):
        Log(fs, FOLDER, ROLL)
    assert bytes(node.data) == before
    assert not fs.open_files


def test_numbers_are_not_used_twice_where_a_cursor_is_ahead() -> None:
    fs = MemoryFs()
    append(Log(fs, FOLDER, ROLL), 0)
    log = Log(fs, FOLDER, ROLL, numbered_from=30)
    append(log, 1)
    assert log.end == 33
    assert found_in(fs) == expected(range(2))
    assert found_in(fs, FOLDER, 3) == expected([1])


@pytest.mark.parametrize(
    "name", ["99999999999999999999.seg", "18446744073709551616.seg", "09223372036854775808.seg"]
)
def test_a_number_that_no_log_reaches_is_no_segment(name: str) -> None:
    fs = MemoryFs()
    append(Log(fs, FOLDER, ROLL), 0)
    fs.write(fs.create(f"{FOLDER}/{name}"), b"what is this?", 0)
    log = Log(fs, FOLDER, ROLL)
    append(log, 1)
    assert found_in(fs) == expected(range(2))


# A failing disk.


def test_a_failed_append_leaves_the_log_as_it_was() -> None:
    inner = MemoryFs()
    switch = Switch(inner)
    log = Log(switch, FOLDER, 1 << 20)
    append(log, 0)
    size = log.size
    for fault in (eio, disk_full, short_write, broken_write):
        switch.to = Failing(inner, 1, fault)
        with pytest.raises(OSError):
            append(log, 1)
        assert (log.end, log.size) == (3, size) == (3, len(inner.entries[f"{FOLDER}/{segment.name(0)}"].data))
        assert found_in(inner) == expected([0])
    switch.to = inner
    append(log, 2)
    assert found_in(inner) == expected([0, 2])


def test_ticks_that_fit_no_record_leave_the_log_as_it_was() -> None:
    fs = MemoryFs()
    log = Log(fs, FOLDER, 1 << 20)
    append(log, 0)
    for bad in ([], [tick(1), tick(2)], [tick(1)._replace(values=[1.0])], [tick(-(10**9))]):
        with pytest.raises(ValueError):
            log.append(bad, 5)
    assert (log.end, log.missed) == (3, 0)
    append(log, 3)
    assert found_in(fs) == expected([0, 3])


def test_a_full_disk_leaks_no_descriptor_and_is_over_when_there_is_room() -> None:
    fs = MemoryFs(capacity=60)
    log = Log(fs, FOLDER, ROLL)
    for _ in range(20):
        with pytest.raises(OSError):
            append(log, 0)
        log.sync()
    assert not fs.open_files
    assert not fs.entries
    fs.capacity = 10_000
    append(log, 1)
    assert found_in(fs) == expected([1])
    log.close()
    assert not fs.open_files


def test_a_disk_that_fails_for_long_leaks_no_descriptor() -> None:
    fs = MemoryFs()
    switch = Switch(fs)
    log = Log(switch, FOLDER, ROLL)
    append(log, 0, 1)
    for fault in (eio, disk_full):
        switch.to = Failing(fs, 1, fault, lasting=True)
        for _ in range(20):
            with pytest.raises(OSError):
                append(log, 2)
            with pytest.raises(OSError):
                log.sync()
        switch.to = fs
        assert len(fs.open_files) <= 2
    append(log, 3)
    log.close()
    assert not fs.open_files
    assert found_in(fs) == expected([0, 1, 3])


def test_a_file_whose_sync_failed_is_left_for_another() -> None:
    inner = MemoryFs()
    switch = Switch(inner)
    log = Log(switch, FOLDER, 1 << 20)
    append(log, 0)
    switch.to = Failing(inner, 1, eio)
    with pytest.raises(OSError):
        log.sync()
    assert log.synced == 0
    append(log, 1)
    log.sync()
    assert len(log.sizes) == 2
    assert log.synced == log.end == 6
    log.close()
    assert not inner.open_files


# Durability.


class Meanwhile:
    """Lets something happen in the middle of a sync: after the first file is on the medium."""

    def __init__(self, inner: Fs, happen: Callable[[], None]) -> None:
        self._inner, self._happen = inner, happen

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self._inner, name)  # type: ignore[no-any-return]

    def sync(self, fd: int) -> None:
        self._inner.sync(fd)
        happen, self._happen = self._happen, lambda: None
        happen()


@pytest.mark.parametrize("during", [[1], [1, 2], list(range(1, 12))], ids=["append", "two", "roll"])
def test_what_is_appended_during_a_sync_is_durable_after_the_next(during: list[int]) -> None:
    fs = MemoryFs()
    switch = Switch(fs)
    log = Log(switch, FOLDER, ROLL)
    append(log, 0)
    switch.to = Meanwhile(fs, lambda: append(log, *during))
    log.sync()
    assert log.synced == 3
    log.sync()
    assert log.synced == log.end
    fs.cut(random.Random(1))
    assert found_in(fs) == expected([0, *during])


def test_a_sync_covers_what_a_process_left_that_was_killed() -> None:
    for seed in range(20):
        fs = MemoryFs()
        append(Log(fs, FOLDER, ROLL), *range(10))
        fs.kill()
        log = Log(fs, FOLDER, ROLL)
        log.sync()
        assert log.synced == 30
        fs.cut(random.Random(seed))
        assert found_in(fs) == expected(range(10))


def test_threads_that_append_and_sync_lose_nothing() -> None:
    fs = MemoryFs()
    log = Log(fs, FOLDER, ROLL)
    promised: list[int] = []
    over = threading.Event()

    def keep_syncing() -> None:
        while not over.is_set():
            end = log.end
            log.sync()
            promised.append(end)

    threads = [threading.Thread(target=keep_syncing) for _ in range(2)]
    for thread in threads:
        thread.start()
    append(log, *range(300))
    over.set()
    for thread in threads:
        thread.join()
    durable = {path: node.durable for path, node in fs.durable.items()}
    fs.kill()
    for path, data in durable.items():
        fs.entries[path].data[:] = data
    fs.entries = dict(fs.durable)
    assert found_in(fs)[: max(promised) // 3] == expected(range(max(promised) // 3))


# The shape of its work.


def test_an_append_is_one_write_and_a_sync_of_nothing_is_no_call(tmp_path: Path) -> None:
    fs = Counting()
    log = Log(fs, str(tmp_path), 1 << 20)
    append(log, 0)
    fs.reset()
    append(log, 1, 2, 3)
    assert fs.calls == {"write": 3}
    log.sync()
    assert fs.calls == {"write": 3, "sync": 1, "sync_folder": 1, "size": 1}  # is the file still there?
    fs.reset()
    log.sync()
    assert fs.calls == {}
    log.close()


def test_the_newest_segment_is_never_dropped() -> None:
    fs = MemoryFs()
    log = Log(fs, FOLDER, ROLL)
    append(log, *range(30))
    while log.second() is not None:
        log.drop_oldest()
    with pytest.raises(ValueError, match="newest"):
        log.drop_oldest()
    end = log.end
    log.close()
    assert Log(fs, FOLDER, ROLL).end == end == 90


def test_a_log_without_a_record_has_no_segments() -> None:
    assert Log(MemoryFs(), FOLDER, ROLL).segments() == []


def test_a_pipe_in_the_place_of_a_segment_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    os.mkfifo(tmp_path / "segments" / segment.name(0))
    for look in (lambda: Log(RealFs(), str(tmp_path / "segments"), 1000), lambda: segments(str(tmp_path))):
        with suppress(OSError):  # an error is fine; waiting forever is not
            look()
