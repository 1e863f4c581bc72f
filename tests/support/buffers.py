"""Rigs for tests of the buffer: logs that are filled, what is in them, and cursors that settle and balance."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from buffer.buffer import Buffer
from buffer.cursor import Cursor
from buffer.fs import Fs, RealFs
from buffer.ledger import Ledger
from buffer.log import Log
from buffer.model import Chunk, Tick
from buffer.reader import Entry, Reader
from tests.support.faults import MemoryFs
from tests.support.ticks import STEP_MS, exactly, tick

NEW = Ledger.starting(0, 0)
"""The ledger of a destination that starts at the beginning."""


def at(position: int, *ahead: tuple[int, int]) -> Ledger:
    """Return the ledger of a destination to which everything was delivered up to a position, and some stretches."""
    delivered = position + sum(end - start for start, end in ahead)
    return NEW._replace(position=position, delivered=delivered, ahead=ahead, state="stopped")


def places(ledger: Ledger) -> set[int]:
    """Return every position that is settled."""
    return set(range(ledger.position)).union(*(range(start, end) for start, end in ledger.ahead))


# Writing.


def fill(to: Buffer | Log, first: int, end: int, width: int = 3) -> None:
    """Append the ticks `first` to before `end`."""
    for number in range(first, end):
        to.append([tick(number, width)])


def filled_log(count: int = 0, roll: int = 400, folder: str = "d/segments") -> tuple[MemoryFs, Log]:
    """Return a log of so many ticks of three samples, and the file system in memory that it is in."""
    fs = MemoryFs()
    log = Log(fs, folder, roll)
    fill(log, 0, count)
    return fs, log


def kill(buffer: Buffer, fs: MemoryFs | None = None) -> None:
    """Release what the kernel releases when the buffer's process is killed; nothing more is written."""
    if fs is not None:
        fs.kill()
    buffer._release()


# Reading.


def entries(fs: Fs, folder: str | Path, seq: int = 0) -> list[Entry]:
    """Return what a reader of its own finds in a folder of segments, from a position on."""
    reader = Reader(fs, str(folder), seq)
    found = list(reader)
    reader.close()
    return found


def ticks_in(fs: Fs, folder: str | Path, seq: int = 0) -> list[Tick]:
    """Return the ticks that a reader of its own finds."""
    return [one for entry in entries(fs, folder, seq) for one in entry.ticks]


def samples_in(data_dir: Path) -> int:
    """Return how many samples a reader of its own finds in a data directory."""
    return sum(entry.samples for entry in entries(RealFs(), data_dir / "segments"))


def numbers(ticks: Iterable[Tick]) -> list[int]:
    """Return the numbers of some ticks."""
    return [one.at.mono_ms // STEP_MS for one in ticks]


def expected(wanted: Iterable[int], width: int = 3) -> list[Any]:
    """Return what `exactly` returns of these ticks."""
    return exactly([tick(number, width) for number in wanted])


def packed_exactly(found: Iterable[Any]) -> list[Any]:
    """Return of what `exactly` returned what a packed file keeps: not the monotonic time, nor the boot."""
    return [(at.wall_ms, *rest) for at, *rest in found]


# Settling.


def settle(cursor: Cursor, chunk: Chunk, refused: int = 0) -> Chunk:
    """Commit a chunk as delivered, but for so many samples that were refused; return it."""
    cursor.commit(chunk.start, chunk.end, chunk.samples - refused, {"rejected": refused} if refused else {})
    return chunk


def take(read: Callable[[int], Chunk], cursor: Cursor, limit: int, refused: int = 0) -> list[int]:
    """Read and settle; return the numbers of the ticks."""
    chunk = settle(cursor, read(limit), refused)
    assert_balance(cursor)
    return numbers(chunk.ticks)


def drain(cursor: Cursor, limit: int = 60) -> list[int]:
    """Read and settle everything from the position on; return the numbers of the ticks."""
    return _drain(cursor, cursor.read, limit)


def drain_ahead(cursor: Cursor, limit: int = 60) -> list[int]:
    """Read and settle everything that is ahead; return the numbers of the ticks."""
    return _drain(cursor, cursor.read_ahead, limit)


def _drain(cursor: Cursor, read: Callable[[int], Chunk], limit: int) -> list[int]:
    found = []
    while (chunk := read(limit)).end > chunk.start:
        assert chunk.samples <= max(limit, 3) or len(chunk.ticks) == 1
        found += take(read, cursor, limit)
    return found


def thinned_pending(cursor: Cursor) -> int:
    """Return the number of positions that are not settled and were thinned away."""
    return cursor.log.holes_in(cursor.ledger.gaps(cursor.log.end))


def assert_balance(*cursors: Cursor) -> None:
    """Check that every sample of the log is accounted for exactly once."""
    for cursor in cursors:
        ledger, pending = cursor.ledger, cursor.pending()
        dropped = sum(ledger.dropped.values())
        ahead = sum(end - start for start, end in ledger.ahead)
        assert ledger.position - ledger.start + ahead == ledger.delivered + dropped
        appended = cursor.log.end - ledger.start
        assert appended == ledger.delivered + pending + dropped + thinned_pending(cursor)
        assert min(pending, ledger.delivered, *ledger.dropped.values()) >= 0


def assert_balances(buffer: Buffer) -> None:
    """Check the same of every destination."""
    assert_balance(*buffer.cursors.values())
