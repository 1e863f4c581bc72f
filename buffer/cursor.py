"""A cursor: how far one destination is.  It reads the log, and settles what it has read.

Its file (`buffer.ledger`) is written by every `Buffer.sync`, and while a backlog drains at most once a
second.  What was settled since is sent again after a kill, the same samples with the same times, which
receivers take as one.  A file without a valid slot means: start at the oldest record.  Sending twice is
better than losing.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from buffer.fs import Fs, read_all, write_atomic
from buffer.ledger import MAX_ERROR, SLOT, SUFFIX, Ledger, encode, newest
from buffer.log import Log
from buffer.model import Tick
from buffer.reader import Entry, Reader

PERSIST_EVERY = 1.0


class Chunk(NamedTuple):
    """Consecutive ticks from a cursor's position on; `samples` of them, `end` the position after."""

    ticks: list[Tick]
    end: int
    samples: int


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
            found = self._open()
            self._generation = found[0] if found else 0
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
        return newest(data)

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
