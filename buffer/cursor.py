"""A cursor: how far one destination is, and what became of every sample before that.

Its file, `cursors/<name>.json`, has two slots of 4096 bytes.  A slot is one line of JSON and the CRC-32
of that line; what stands behind them means nothing:

    {"version": 1, "generation": .., "position": .., "start": .., "delivered": .., "dropped": {reason: ..},
     "missed_before": .., "damaged": .., "state": .., "error": .., "rate": .., "removed_ms": ..}

The valid slot with the higher generation counts; the other one is written next, in place, so that a torn
write leaves the one before, and that the medium sees one block, not a new file and its folder.

Positions count samples (see `buffer.segment`), so the ledger balances by construction:

    appended = end of the log - start = delivered + pending + sum(dropped)
    pending  = end of the log - position - what was thinned away behind the position
    position - start = delivered + sum(dropped)                      checked on loading

(What was thinned away behind the position is `dropped` for those who ask, and in the file once the
position has passed it.)

Position and sums are one write: after a kill at any moment they agree.  It is written by every
`Buffer.sync`, and while a backlog drains at most once a second; what was settled since is sent again
after a kill, the same samples with the same times, which receivers take as one.  A file without a valid
slot means: start at the oldest record.  Sending twice is better than losing.
"""

from __future__ import annotations

import errno
import json
import math
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from buffer.fs import Fs, read_all, write_atomic
from buffer.log import Log
from buffer.model import Tick
from buffer.reader import Entry, Reader
from buffer.segment import MAX_POSITION

VERSION = 1
SLOT = 4096
MAX_ERROR = 250
"""Characters of an error that are kept: they and the rest fit in a slot."""
PERSIST_EVERY = 1.0
SUFFIX = ".json"


class Ledger(NamedTuple):
    """What a cursor file holds: position, sums, and the destination's last known state."""

    position: int
    start: int
    delivered: int
    dropped: dict[str, int]
    missed_before: int
    damaged: int
    state: str
    error: str | None
    rate: float
    removed_ms: int | None
    """When the destination was first found to be no longer configured; None while it is."""

    def settle(self, to: int, dropped: Mapping[str, int], rest: str) -> Ledger:
        """Return the ledger at position `to`: `dropped` of the samples up to there by their reasons,
        all others by `rest`, which is "delivered" or a reason.
        """
        other = to - self.position - sum(dropped.values())
        sums = dict(self.dropped)
        for reason, count in (*dropped.items(), *([] if rest == "delivered" else [(rest, other)])):
            if count:
                sums[reason] = sums.get(reason, 0) + count
        delivered = self.delivered + (other if rest == "delivered" else 0)
        return self._replace(position=to, delivered=delivered, dropped=sums)

    def not_before(self, first: int) -> Ledger:
        """Return the ledger in line with a log that begins at `first`.

        A segment is dropped before the cursors that lose by it are written, because the disk may be
        full.  After a kill in between, this is where it is accounted for.
        """
        return self if self.position >= first else self.settle(first, {}, "evicted")


class Chunk(NamedTuple):
    """Consecutive ticks from a cursor's position on; `samples` of them, `end` the position after."""

    ticks: list[Tick]
    end: int
    samples: int


def encode(ledger: Ledger, generation: int = 0) -> bytes:
    """Return the contents of a slot."""
    fields = {"version": VERSION, "generation": generation, **ledger._asdict()}
    line = json.dumps(fields).encode()
    slot = line + b"\n%08x\n" % zlib.crc32(line)
    return slot if len(slot) <= SLOT else encode(ledger._replace(error=None), generation)


def decode(data: bytes) -> Ledger | None:
    """Return what a cursor file holds; None where no slot is valid."""
    newest = _newest(data)
    return newest[1] if newest else None


def _newest(data: bytes) -> tuple[int, Ledger] | None:
    slots = [slot for at in (0, SLOT) if (slot := _slot(data[at : at + SLOT])) is not None]
    return max(slots, key=lambda slot: slot[0], default=None)


def _slot(data: bytes) -> tuple[int, Ledger] | None:
    line, _, crc = data.partition(b"\n")
    if crc[:9] != b"%08x\n" % zlib.crc32(line):
        return None
    try:
        fields: dict[str, Any] = json.loads(line)
        generation = fields.pop("generation")
        if fields.pop("version") != VERSION or type(generation) is not int:
            return None
        ledger = Ledger(**fields)
        return (generation, ledger) if _is_sound(ledger) else None
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None


def _is_sound(ledger: Ledger) -> bool:
    """Whether every field is what it should be, and the sums balance."""
    fields: tuple[Any, ...] = ledger  # its types are what is to be found out
    position, start, delivered, dropped, missed_before, damaged, state, error, rate, removed_ms = fields
    counts = (position, start, delivered, *dropped.values(), missed_before, damaged, removed_ms or 0)
    return (
        all(type(count) is int and 0 <= count <= MAX_POSITION for count in counts)
        and isinstance(state, str)
        and (error is None or isinstance(error, str))
        and isinstance(rate, int | float)
        and 0 <= rate < math.inf
        and position - start == delivered + sum(dropped.values())
    )


def load(fs: Fs, path: str) -> Ledger | None:
    """Read a cursor file; None where it is missing, unreadable or wrong."""
    try:
        return decode(read_all(fs, path, 2 * SLOT))
    except OSError:
        return None


def load_all(fs: Fs, data_dir: str) -> dict[str, Ledger]:
    """Read every cursor file of a data directory that can be read, by the names of the destinations."""
    try:
        names = sorted(fs.list(f"{data_dir}/cursors"))
    except FileNotFoundError:
        return {}
    found = {name: load(fs, f"{data_dir}/cursors/{name}") for name in names if name.endswith(SUFFIX)}
    return {name.removesuffix(SUFFIX): ledger for name, ledger in found.items() if ledger is not None}


class Cursor:
    """One destination's way through the log.  Read and commit from one thread; the rest from any."""

    def __init__(
        self,
        fs: Fs,
        folder: str,
        name: str,
        log: Log,
        start: Ledger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._fs, self._log, self._clock = fs, log, clock
        self._path = f"{folder}/cursors/{name}{SUFFIX}"
        self._folder = folder
        self._lock = threading.Lock()
        self.ledger = start
        self._dirty, self._persisted = True, -PERSIST_EVERY
        self._fd, self._generation = -1, 0
        self._reader: Reader | None = None
        self._ahead: deque[Entry] = deque()
        self._read_at = 0.0
        self.written = 0

    @property
    def position(self) -> int:
        """In samples: everything before it is settled."""
        return self.ledger.position

    def pending(self) -> int:
        """Return the number of samples behind the position."""
        return self._log.end - self.ledger.position - self.thinned_ahead()

    def thinned_ahead(self) -> int:
        """Return the number of positions behind the cursor's that were thinned away."""
        return self._log.holes_from(self.ledger.position)

    def read(self, max_samples: int) -> Chunk:
        """Return the records from the position on, up to `max_samples`, but one at least.

        Empty where there is nothing new.  The position stays, and so does what a later call returns.
        Raises OSError.
        """
        self._read_at = self._clock()
        with self._lock:
            position = self.ledger.position
        while self._ahead and self._ahead[0].end <= position:  # evicted meanwhile
            self._ahead.popleft()
        stored = sum(entry.samples for entry in self._ahead)
        while stored < max_samples and (entry := self._next(position)) is not None:
            self._ahead.append(entry)
            stored += entry.samples
        ticks: list[Tick] = []
        samples, end = 0, position
        for entry in self._ahead:
            if ticks and samples + entry.samples > max_samples:
                break
            ticks += entry.ticks
            samples, end = samples + entry.samples, entry.end
        return Chunk(ticks, end, samples)

    def commit(self, end: int, delivered: int, dropped: Mapping[str, int]) -> None:
        """Settle everything up to `end`: `dropped` by reason, the rest of what was read delivered.

        Positions that were thinned away are dropped as `thinned`, those that could not be read as
        `corrupt`.  What was evicted since it was read stays counted as evicted.  Raises OSError where
        the cursor file cannot be written; the cursor has moved all the same, and the next sync writes it.
        """
        with self._lock:
            position = self.ledger.position
            if end > position:
                # A batch whose front was evicted, or settled before it became part of a thinned record,
                # has more samples than there are positions left: they count once.
                left = end - position
                reasons: dict[str, int] = {}
                for reason, count in dropped.items():
                    reasons[reason] = min(count, left)
                    left -= reasons[reason]
                left -= min(delivered, left)
                spans = sum(e.end - max(e.seq, position) - e.samples for e in self._ahead if e.end <= end)
                reasons["thinned"] = min(max(0, spans), left)
                reasons["corrupt"] = left - reasons["thinned"]
                self._account(end, delivered, reasons)
        while self._ahead and self._ahead[0].end <= end:
            self._ahead.popleft()
        self._persist()

    def _account(self, end: int, delivered: int, reasons: Mapping[str, int]) -> None:
        spent = self._clock() - self._read_at
        rate = round(delivered / spent, 1) if spent > 0 else 0.0
        damaged = self.ledger.damaged
        if self._reader is not None:
            damaged, self._reader.damaged = damaged + self._reader.damaged, 0
        ledger = self.ledger.settle(end, reasons, "delivered")
        self.ledger = ledger._replace(rate=rate, damaged=damaged)
        self._dirty = True

    def skip(self, to: int, reason: str) -> None:
        """Give up everything before `to`, for this reason."""
        with self._lock:
            if to > self.ledger.position:
                self.ledger = self.ledger.settle(to, {}, reason)
                self._dirty = True

    def oldest_pending_ms(self) -> int | None:
        """Return the wall time of the oldest pending record that was read, or None."""
        ahead = next(iter(self._ahead), None)
        return ahead.wall_ms if ahead is not None and self.pending() else None

    def note(self, state: str, error: str | None) -> None:
        """Keep the destination's state and last error for `limpet buffer status`; cheap when unchanged.

        Trouble, and its end, is written at once.  That it sends and has sent is not worth a write of
        its own: the next sync has it.
        """
        error = error and error[:MAX_ERROR]
        with self._lock:
            was = self.ledger.state, self.ledger.error
            if was == (state, error):
                return
            self.ledger = self.ledger._replace(state=state, error=error)
            self._dirty = True
        if was[1] != error or not {was[0], state} <= {"sending", "idle"}:
            self._persist()

    def removed(self, now_ms: int | None) -> None:
        """Keep that the destination is not configured since then; None: it is."""
        with self._lock:
            if self.ledger.removed_ms != now_ms:
                self.ledger = self.ledger._replace(removed_ms=now_ms)
                self._dirty = True

    def forget(self) -> None:
        """Remove the cursor file: nobody waits for this destination any more.  Raises OSError."""
        with self._lock:
            self._dirty = False
            with suppress(FileNotFoundError):
                self._fs.unlink(self._path)
        self.close()

    def persist(self) -> None:
        """Write the cursor file if something changed.  Raises OSError."""
        with self._lock:
            # The log first: after a power cut no cursor may point behind the log's end.
            if self.ledger.position > self._log.synced:
                self._log.sync()
            if self._dirty:
                self._write()
                self._dirty, self._persisted = False, self._clock()

    def close(self) -> None:
        """Close what is open.  Raises OSError; it is closed all the same."""
        try:
            if self._reader is not None:
                self._reader.close()
        finally:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                self._fs.close(fd)

    def _write(self) -> None:
        if self._fd < 0:
            newest = self._open()
            self._generation = newest[0] if newest else 0
        slot = encode(self.ledger, self._generation + 1)
        at = SLOT * ((self._generation + 1) % 2)
        self.written += (written := self._fs.write(self._fd, slot, at))
        if written != len(slot):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
        self._fs.sync(self._fd)
        self._generation += 1

    def _open(self) -> tuple[int, Ledger] | None:
        """Open the file, or a new one if there is none, and return its newest slot."""
        try:
            data = read_all(self._fs, self._path, 2 * SLOT)
        except FileNotFoundError:
            data = b""
        if len(data) < 2 * SLOT:
            # A new file is valid from the first moment on: one that a kill left blank would be a reset.
            data = (data or encode(self.ledger)).ljust(2 * SLOT)
            write_atomic(self._fs, self._path, data)
            self._fs.sync_folder(f"{self._folder}/cursors")
        self._fd = self._fs.modify(self._path)
        return _newest(data)

    def _persist(self) -> None:
        # Not for the sake of a tick that is not durable itself: that would be a sync of the log for each
        # request.  The next sync of the buffer does both.
        durable = self.ledger.position <= self._log.synced
        if self._dirty and durable and self._clock() - self._persisted >= PERSIST_EVERY:
            self.persist()

    def _next(self, position: int) -> Entry | None:
        if self._reader is None:
            self._reader = Reader(self._fs, f"{self._folder}/segments", position)
        while (entry := self._reader.next()) is not None:
            if entry.end > position:
                return entry
        return None
