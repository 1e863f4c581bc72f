"""One writer at a time, and everybody can see who it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from buffer.buffer import Buffer
from buffer.errors import BufferInUse, NewerFormat
from buffer.limits import Limits
from buffer.lock import Lock, holder
from tests.support.faults import Failing, MemoryFs, eio
from tests.support.ticks import tick

HOLD = """
import sys, time
from buffer.lock import Lock
lock = Lock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """Start a process that holds the lock until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_second_writer_is_refused_and_learns_who_the_first_is(tmp_path: Path) -> None:
    process = hold(tmp_path / "lock")
    try:
        assert holder(str(tmp_path / "lock")) == process.pid
        with pytest.raises(BufferInUse, match=f"in use by process {process.pid}") as raised:
            Buffer(str(tmp_path))
        assert "another data_dir" in raised.value.do
        assert holder(str(tmp_path / "lock")) == process.pid
    finally:
        end(process)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_process_that_ended_is_free(tmp_path: Path, how: signal.Signals) -> None:
    process = hold(tmp_path / "lock")
    process.send_signal(how)
    process.communicate()
    assert (tmp_path / "lock").read_text().strip() == str(process.pid)
    assert holder(str(tmp_path / "lock")) is None
    lock = Lock(str(tmp_path / "lock"))
    assert holder(str(tmp_path / "lock")) == os.getpid()
    lock.close()
    lock.close()
    assert holder(str(tmp_path / "lock")) is None


def test_a_second_writer_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    buffer = Buffer(str(tmp_path))
    with pytest.raises(BufferInUse, match=str(os.getpid())):
        Buffer(str(tmp_path))
    buffer.close()
    Buffer(str(tmp_path)).close()


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xfe", b"9" * 5000, b"-4\n", b"12 34"])
def test_a_file_with_anything_in_it_can_be_locked_and_says_nothing_wrong(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "lock"
    path.write_bytes(content)
    assert holder(str(path)) is None
    lock = Lock(str(path))
    assert path.read_bytes() == b"%d\n" % os.getpid()
    lock.close()


def test_nobody_holds_what_is_not_there(tmp_path: Path) -> None:
    assert holder(str(tmp_path / "lock")) is None
    assert not (tmp_path / "lock").exists()


def test_asking_who_holds_it_never_makes_a_starting_writer_fail(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    Lock(path).close()
    over = threading.Event()
    wrong: list[int | None] = []

    def keep_asking() -> None:
        while not over.is_set():
            if (pid := holder(path)) not in (None, os.getpid()):
                wrong.append(pid)

    askers = [threading.Thread(target=keep_asking) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(30):
            Lock(path).close()
    finally:
        over.set()
        for asker in askers:
            asker.join()
    assert not wrong


def test_a_buffer_that_cannot_be_opened_leaves_no_lock(tmp_path: Path) -> None:
    for n in range(1, 30):
        inner = MemoryFs()
        buffer = Buffer(str(tmp_path), Limits(), ["a"], fs=inner)
        buffer.append([tick(0)])
        buffer.close()
        fs = Failing(inner, n, eio)
        try:
            Buffer(str(tmp_path), Limits(), ["a"], fs=fs).close()
        except OSError:
            pass
        assert holder(str(tmp_path / "lock")) is None
        assert not inner.open_files


def test_a_newer_format_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    newer = bytes.fromhex("4c4d5054ffff") + bytes(26)
    (tmp_path / "segments" / f"{0:020d}.seg").write_bytes(newer + zlib.crc32(newer).to_bytes(4, "little"))
    with pytest.raises(NewerFormat):
        Buffer(str(tmp_path))
    assert holder(str(tmp_path / "lock")) is None
