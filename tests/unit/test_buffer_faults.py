"""The file systems that the buffer is tested on: a fake that is kinder than a disk proves nothing."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buffer.fs import Fs, RealFs, write_atomic
from tests.support.faults import (
    Counting,
    Failing,
    MemoryFs,
    PowerLost,
    broken_write,
    died,
    died_in_write,
    disk_full,
    eio,
    short_write,
)

Call = Callable[[Fs, str, dict[str, int]], Any]


def opened(fs: Fs, files: dict[str, int], name: str, how: str, path: str) -> None:
    files[name] = getattr(fs, how)(path)


SCRIPT: list[Call] = [
    lambda fs, d, f: fs.list(d),
    lambda fs, d, f: opened(fs, f, "a", "create", f"{d}/a"),
    lambda fs, d, f: opened(fs, f, "x", "create", f"{d}/a"),
    lambda fs, d, f: fs.write(f["a"], b"hello", 0),
    lambda fs, d, f: fs.write(f["a"], b"world", 5),
    lambda fs, d, f: fs.read(f["a"], 100, 0),
    lambda fs, d, f: fs.read(f["a"], 3, 4),
    lambda fs, d, f: fs.read(f["a"], 3, 100),
    lambda fs, d, f: fs.write(f["a"], b"J", 0),
    lambda fs, d, f: fs.write(f["a"], b"!", 12),
    lambda fs, d, f: fs.read(f["a"], 100, 0),
    lambda fs, d, f: fs.size(f"{d}/a"),
    lambda fs, d, f: fs.truncate(f["a"], 4),
    lambda fs, d, f: fs.truncate(f["a"], 6),
    lambda fs, d, f: fs.read(f["a"], 100, 0),
    lambda fs, d, f: fs.sync(f["a"]),
    lambda fs, d, f: fs.sync_folder(d),
    lambda fs, d, f: opened(fs, f, "r", "open", f"{d}/a"),
    lambda fs, d, f: fs.write(f["r"], b"no", 0),
    lambda fs, d, f: fs.truncate(f["r"], 0),
    lambda fs, d, f: fs.read(f["r"], 100, 0),
    lambda fs, d, f: opened(fs, f, "x", "open", f"{d}/missing"),
    lambda fs, d, f: opened(fs, f, "x", "modify", f"{d}/missing"),
    lambda fs, d, f: fs.size(f"{d}/missing"),
    lambda fs, d, f: fs.unlink(f"{d}/missing"),
    lambda fs, d, f: fs.rename(f"{d}/missing", f"{d}/b"),
    lambda fs, d, f: opened(fs, f, "m", "modify", f"{d}/a"),
    lambda fs, d, f: fs.write(f["m"], b"M", 0),
    lambda fs, d, f: fs.read(f["r"], 100, 0),
    lambda fs, d, f: opened(fs, f, "b", "create", f"{d}/b"),
    lambda fs, d, f: fs.rename(f"{d}/a", f"{d}/b"),
    lambda fs, d, f: fs.rename(f"{d}/b", f"{d}/b"),
    lambda fs, d, f: sorted(fs.list(d)),
    lambda fs, d, f: fs.read(f["r"], 100, 0),
    lambda fs, d, f: fs.unlink(f"{d}/b"),
    lambda fs, d, f: fs.read(f["r"], 100, 0),
    lambda fs, d, f: sorted(fs.list(d)),
    lambda fs, d, f: fs.close(f["r"]),
    lambda fs, d, f: fs.close(f["a"]),
    lambda fs, d, f: fs.close(f["a"]),
    lambda fs, d, f: fs.read(f["a"], 1, 0),
    lambda fs, d, f: write_atomic(fs, f"{d}/c", b"one"),
    lambda fs, d, f: write_atomic(fs, f"{d}/c", b"two"),
    lambda fs, d, f: fs.size(f"{d}/c"),
    lambda fs, d, f: sorted(fs.list(d)),
]


def test_the_fake_answers_as_the_real_one_does(tmp_path: Path) -> None:
    real, fake = RealFs(), MemoryFs()
    real_files: dict[str, int] = {}
    fake_files: dict[str, int] = {}
    for number, call in enumerate(SCRIPT):
        answers = []
        for fs, folder, files in ((real, str(tmp_path), real_files), (fake, "d", fake_files)):
            try:
                answers.append(call(fs, folder, files))
            except OSError as error:
                answers.append((type(error), error.errno))
        assert answers[0] == answers[1], f"call {number}"


def test_a_volume_that_is_full_takes_what_fits() -> None:
    fs = MemoryFs(capacity=10)
    fd = fs.create("d/a")
    assert fs.write(fd, b"12345678", 0) == 8
    assert fs.write(fd, b"12345678", 8) == 2
    with pytest.raises(OSError) as raised:
        fs.write(fd, b"1", 10)
    assert raised.value.errno == errno.ENOSPC
    assert fs.write(fd, b"abc", 0) == 3  # in place
    assert fs.free("d") == (0, 10)
    fs.unlink("d/a")
    assert fs.free("d") == (0, 10)  # it is still open
    fs.close(fd)
    assert fs.free("d") == (10, 10)


def after_a_cut(prepare: Callable[[MemoryFs], None], tries: int = 300) -> list[dict[str, bytes]]:
    """Return what may be there after a power cut, each once."""
    found = []
    for seed in range(tries):
        fs = MemoryFs()
        prepare(fs)
        fs.cut(random.Random(seed))
        left = {path: bytes(node.data) for path, node in fs.entries.items()}
        if left not in found:
            found.append(left)
    return found


def test_a_power_cut_keeps_what_was_synced_and_maybe_the_rest() -> None:
    def prepare(fs: MemoryFs) -> None:
        fd = fs.create("d/a")
        fs.write(fd, b"kept", 0)
        fs.sync(fd)
        fs.sync_folder("d")
        fs.write(fd, b"lost", 4)

    found = {left["d/a"] for left in after_a_cut(prepare)}
    assert {b"kept" + b"lost"[:n] for n in range(5)} <= found
    assert any(b"\0" in data and data.endswith(b"t") for data in found)
    assert all(data.startswith(b"kept") for data in found)


def test_a_power_cut_may_take_a_file_whose_name_was_not_synced() -> None:
    def prepare(fs: MemoryFs) -> None:
        fd = fs.create("d/a")
        fs.write(fd, b"data", 0)
        fs.sync(fd)

    assert sorted(after_a_cut(prepare), key=str) == [{"d/a": b"data"}, {}]


def test_a_rename_that_was_not_synced_happened_or_not_and_never_by_half() -> None:
    def prepare(fs: MemoryFs) -> None:
        write_atomic(fs, "d/a", b"old")
        fs.sync_folder("d")
        write_atomic(fs, "d/a", b"new")
        fs.sync_folder("e")

    found = after_a_cut(prepare)
    assert {left["d/a"] for left in found} == {b"old", b"new"}


def test_an_unlink_that_was_not_synced_may_be_undone_and_folders_have_no_order() -> None:
    def prepare(fs: MemoryFs) -> None:
        for path in ("d/a", "e/b"):
            write_atomic(fs, path, b"1")
            fs.sync_folder(path[0])
        fs.unlink("d/a")
        fs.unlink("e/b")

    assert {tuple(sorted(left)) for left in after_a_cut(prepare)} == {("d/a", "e/b"), ("d/a",), ("e/b",), ()}


def test_a_kill_loses_nothing_but_the_descriptors() -> None:
    fs = MemoryFs()
    fd = fs.create("d/a")
    fs.write(fd, b"data", 0)
    fs.kill()
    assert bytes(fs.entries["d/a"].data) == b"data"
    with pytest.raises(OSError):
        fs.close(fd)


def test_a_wrapper_fails_the_given_call_and_no_other() -> None:
    for n in range(1, 5):
        inner = MemoryFs()
        fs, failed = Failing(inner, n, eio), []
        for number in range(1, 5):
            try:
                fs.create(f"d/{number}")
            except OSError:
                failed.append(number)
        assert failed == [n]
        assert (fs.calls, fs.failed) == (4, "create")
    fs = Failing(MemoryFs(), 2, eio, lasting=True)
    fs.list("d")
    for _ in range(3):
        with pytest.raises(OSError):
            fs.list("d")


def test_every_kind_of_fault_does_what_it_is_called() -> None:
    inner = MemoryFs()
    fd = inner.create("d/a")
    assert Failing(inner, 1, short_write).write(fd, b"12345678", 0) == 4
    assert inner.size("d/a") == 4
    with pytest.raises(OSError):
        Failing(inner, 1, broken_write).write(fd, b"12345678", 4)
    assert inner.size("d/a") == 8
    with pytest.raises(OSError) as raised:
        Failing(inner, 1, disk_full).create("d/b")
    assert raised.value.errno == errno.ENOSPC
    Failing(inner, 1, disk_full).unlink("d/a")
    for fault in (died, died_in_write):
        dead = Failing(inner, 1, fault)
        with pytest.raises(PowerLost):
            dead.write(fd, b"x", 0)
        with pytest.raises(PowerLost):
            dead.list("d")
    only = Failing(inner, 1, eio, only=["list"])
    only.size("d/c") if "d/c" in inner.entries else only.free("d")
    with pytest.raises(OSError):
        only.list("d")
    with pytest.raises(OSError):
        Failing(inner, 1, eio).close(fd)
    assert not inner.open_files


def test_calls_and_bytes_are_counted(tmp_path: Path) -> None:
    fs = Counting()
    write_atomic(fs, f"{tmp_path}/a", b"12345")
    fd = fs.open(f"{tmp_path}/a")
    fs.read(fd, 3, 0)
    fs.close(fd)
    assert fs.bytes_read == 3
    assert fs.calls["open"] == 1
    assert fs.calls["write"] == 1
