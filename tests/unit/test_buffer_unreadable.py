"""What cannot be read is damage: it is skipped and counted, and ends neither a lane nor a start nor a tool."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from buffer import segment
from buffer.buffer import Buffer
from buffer.fs import RealFs
from buffer.inspect.segments import segments
from buffer.inspect.status import status
from buffer.inspect.verify import verify
from buffer.limits import Limits
from tests.support.buffers import assert_balances, drain, fill
from tests.support.faults import Switch

COUNT = 40
LIMITS = Limits(segment_size=400)


class BadBlocks:
    """Passes every call on; reading these bytes of a file, or opening it, fails."""

    def __init__(
        self, name: str, start: int = 0, end: int = 1 << 40, *, calls: Collection[str] = ("read",)
    ) -> None:
        self._inner, self._name, self._span, self._calls = RealFs(), name, (start, end), calls
        self._bad: set[int] = set()
        self.ill = False
        """Whether syncs fail too."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def open(self, path: str) -> int:
        if path.endswith(self._name) and "open" in self._calls:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        fd = self._inner.open(path)
        (self._bad.add if path.endswith(self._name) else self._bad.discard)(fd)
        return fd

    def read(self, fd: int, size: int, at: int) -> bytes:
        start, end = self._span
        if fd in self._bad and at < end and at + size > start:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._inner.read(fd, size, at)

    def sync_folder(self, folder: str) -> None:
        if self.ill:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._inner.sync_folder(folder)


def filled(folder: Path, count: int = COUNT, width: int = 3) -> list[int]:
    """Fill a buffer; return where its segments begin."""
    buffer = Buffer(str(folder), LIMITS, ["a"])
    fill(buffer, 0, count, width)
    firsts = sorted(buffer.log.sizes)
    buffer.close()
    return firsts


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("calls", ["read", "open"])
def test_an_unreadable_old_segment_costs_itself_and_ends_no_lane(tmp_path: Path, calls: str) -> None:
    firsts = filled(tmp_path)
    fs = BadBlocks(segment.name(firsts[1]), calls=[calls])
    buffer = Buffer(str(tmp_path), LIMITS, ["a"], fs=fs)
    fill(buffer, COUNT, COUNT + 5)
    lost = range(firsts[1] // 3, firsts[2] // 3)
    assert drain(buffer.cursors["a"]) == [n for n in range(COUNT + 5) if n not in lost]
    ledger = buffer.cursors["a"].ledger
    assert ledger.dropped == {"corrupt": firsts[2] - firsts[1]}
    assert ledger.damaged
    assert_balances(buffer)
    buffer.close()


def test_an_unreadable_newest_segment_does_not_keep_the_agent_from_starting(tmp_path: Path) -> None:
    firsts = filled(tmp_path)
    fs = BadBlocks(segment.name(firsts[-1]), calls=["open"])
    buffer = Buffer(str(tmp_path), LIMITS, ["a"], fs=fs)
    assert buffer.log.end > firsts[-1]
    fill(buffer, COUNT, COUNT + 5)
    assert drain(buffer.cursors["a"])[-5:] == list(range(COUNT, COUNT + 5))
    assert_balances(buffer)
    buffer.close()
    assert (tmp_path / "segments" / f"{segment.name(firsts[-1])}.damaged").exists()


def test_one_bad_block_of_a_large_segment_costs_what_is_in_it_up_to_the_next_key_frame(
    tmp_path: Path,
) -> None:
    buffer = Buffer(str(tmp_path), Limits(), ["a"])
    fill(buffer, 0, 4000, 60)
    [first] = buffer.log.sizes
    assert buffer.log.sizes[first] > 80 << 10
    buffer.close()
    fs = BadBlocks(segment.name(first), 70_000, 70_001)
    buffer = Buffer(str(tmp_path), Limits(), ["a"], fs=fs)
    found = drain(buffer.cursors["a"], 6000)
    assert found[0] == 0
    assert found[-1] == 3999
    assert 0 < 4000 - len(found) < 2000
    assert buffer.cursors["a"].ledger.dropped == {"corrupt": (4000 - len(found)) * 60}
    buffer.close()


def test_nothing_is_taken_for_damage_while_the_disk_itself_is_ill(tmp_path: Path) -> None:
    firsts = filled(tmp_path)
    fs = BadBlocks(segment.name(firsts[1]))
    switch = Switch(fs)
    buffer = Buffer(str(tmp_path), LIMITS, ["a"], fs=switch)
    cursor, fs.ill = buffer.cursors["a"], True
    for _ in range(3):
        with pytest.raises(OSError):
            cursor.read(1000)
    switch.to = RealFs()
    assert drain(cursor, 1000) == list(range(COUNT))
    assert cursor.ledger.dropped == {}
    buffer.close()


def test_an_active_segment_that_cannot_be_read_is_left_for_a_new_one(tmp_path: Path) -> None:
    class Active(BadBlocks):
        def open(self, path: str) -> int:
            if path.endswith(segment.name(0)):
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
            return super().open(path)

    buffer = Buffer(str(tmp_path), Limits(), ["a"], fs=Active("none"))
    fill(buffer, 0, 5)
    cursor = buffer.cursors["a"]
    assert drain(cursor) == []
    fill(buffer, 5, 10)
    assert drain(cursor) == list(range(5, 10))
    assert cursor.ledger.dropped == {"corrupt": 15}
    buffer.close()


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_folder_in_the_place_of_a_segment_is_damage(tmp_path: Path, which: int) -> None:
    firsts = filled(tmp_path)
    a_folder(tmp_path / "segments" / segment.name(firsts[which]))
    shown = status(str(tmp_path))
    assert segments(str(tmp_path))
    assert verify(str(tmp_path))
    assert [d.name for d in shown.destinations] == ["a"]
    buffer = Buffer(str(tmp_path), LIMITS, ["a"])
    fill(buffer, COUNT, COUNT + 5)
    assert drain(buffer.cursors["a"])[-5:] == list(range(COUNT, COUNT + 5))
    assert_balances(buffer)
    buffer.close()
