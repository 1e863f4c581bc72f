"""A cursor: how far one destination is.  It reads the log, and settles what it has read.

`read` goes on from the position.  `go_ahead` leaves a gap, and begins a stretch at the newest records;
`read_ahead` goes on there.  Both are settled by `commit`, in any order: `read` ends where a stretch begins,
and the position that comes to a stretch is then at its end.  Only while something is settled ahead of its
turn there is a second reader; when the gaps are closed it takes the place of the first one.

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
from contextlib import ExitStack, suppress
from typing import NamedTuple

from buffer.fs import Fs, read_all, write_atomic
from buffer.ledger import MAX_ERROR, MAX_STRETCHES, SLOT, SUFFIX, Ledger, encode, newest
from buffer.log import Log
from buffer.model import Tick
from buffer.reader import Entry, Reader
from buffer.segment import MAX_POSITION

PERSIST_EVERY = 1.0


class Chunk(NamedTuple):
    """Consecutive ticks of the positions from `start` to before `end`; `samples` of them."""

    ticks: list[Tick]
    start: int
    end: int
    samples: int


class _Way:
    """A reader, and what it has read that is not settled yet: all that can be read before `upto`."""

    def __init__(self, reader: Reader, upto: int) -> None:
        self.reader, self.upto = reader, upto
        self.entries: deque[Entry] = deque()

    def first(self) -> Entry | None:
        """Return the first entry that is not settled; None where there is nothing new."""
        return self.entries[0] if self.entries or self.next() else None

    def next(self) -> bool:
        """Read one entry more; False where the log ends for now."""
        while (entry := self.reader.next()) is not None:
            if entry.end > self.upto:
                self.entries.append(entry)
                self.upto = entry.end
                return True
        return False


class Cursor:
    """One destination's way through the log.  Read, go ahead and commit from one thread; the rest from any."""

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
        self._forgotten = False
        self._fd, self._generation = -1, 0
        self._way: _Way | None = None
        self._way_ahead: _Way | None = None
        self._begun = 0  # where `go_ahead` was last
        self._damaged = 0  # of readers that are closed
        self._read_at = 0.0
        self.written = 0

    @property
    def position(self) -> int:
        """In samples: everything before it is settled."""
        return self.ledger.position

    @property
    def ahead(self) -> int | None:
        """Where `read_ahead` goes on; None where that is no other place than the position."""
        ledger = self.ledger
        at = max(ledger.reach, self._begun)
        return at if at > ledger.position else None

    def pending(self) -> int:
        """Return the number of samples that are not settled."""
        ledger = self.ledger  # before the end of the log, so that it never is behind that
        end = self._log.end
        return ledger.unsettled(ledger.position, end) - self._log.holes_in(ledger.gaps(end))

    def pending_ahead(self) -> int:
        """Return the number of samples that `read_ahead` has, or `read` where nothing is ahead."""
        return self._log.end - self.ahead if self.ahead is not None else self.pending()

    def thinned_ahead(self) -> int:
        """Return the number of positions that are not settled and were thinned away."""
        return self._log.holes_in(self.ledger.gaps(self._log.end))

    def read(self, max_samples: int) -> Chunk:
        """Return the records from the position on, up to `max_samples`, but one at least.

        It ends where something behind it is settled already.  Empty where there is nothing new.  The
        position stays, and so does what a later call returns.  Raises OSError.
        """
        ledger = self._tidy()
        until = ledger.ahead[0][0] if ledger.ahead else MAX_POSITION
        self._read_at = self._clock()
        self._way = self._at(self._way, ledger.position)
        return _chunk(self._way, ledger.position, max_samples, until)

    def go_ahead(self, samples: int) -> bool:
        """Leave a gap, so that `read_ahead` goes on at the newest records: those of the last `samples`.

        At the last record that has so many behind its beginning, at the newest one at least.  Nothing is
        settled by that.  False, and all stays as it was, where what is read next begins there anyway, or
        where there are MAX_STRETCHES already.  Cheap where it is False.  Raises OSError.
        """
        ledger = self._tidy()
        at, wanted = self.ahead or ledger.position, self._log.end - max(1, samples)
        if wanted <= at or len(ledger.ahead) >= MAX_STRETCHES:
            return False
        if (entry := self._peek()) is not None and entry.end > wanted:
            return False
        way = _Way(self._reader(wanted), wanted)
        try:
            found = way.next()
        except OSError:
            way.reader.close()
            raise
        if not found or way.entries[0].seq <= at:
            way.reader.close()
            return False
        way.reader.damaged = 0  # what stands before it is met by those who read that
        before, self._way_ahead, self._begun = self._way_ahead, way, way.entries[0].seq
        self._leave(before)
        return True

    def read_ahead(self, max_samples: int) -> Chunk:
        """Return the records that follow the last stretch, or `go_ahead`, as `read` does.

        Empty where there is nothing new, or `ahead` is None.  Raises OSError.
        """
        ledger, at = self._tidy(), self.ahead
        if at is None:
            return Chunk([], ledger.position, ledger.position, 0)
        self._read_at = self._clock()
        # The first record of the gap, so that its age is known; somebody has to read it anyway.
        self._way = self._at(self._way, ledger.position)
        self._way.first()
        self._way_ahead = self._at(self._way_ahead, at)
        return _chunk(self._way_ahead, at, max_samples, MAX_POSITION)

    def commit(self, start: int, end: int, delivered: int, dropped: Mapping[str, int]) -> None:
        """Settle the positions of a chunk: `dropped` by reason, the rest of what was read delivered.

        Positions that were thinned away are dropped as `thinned`, those that could not be read as
        `corrupt`.  What was evicted since it was read stays counted as evicted.  Raises OSError where
        the cursor file cannot be written; the cursor has moved all the same, and the next sync writes it.
        """
        with self._lock:
            if left := self.ledger.unsettled(start, end):
                # A batch whose front was evicted, or settled before it became part of a thinned record,
                # has more samples than there are positions left: they count once.
                reasons: dict[str, int] = {}
                for reason, count in dropped.items():
                    reasons[reason] = min(count, left)
                    left -= reasons[reason]
                left -= min(delivered, left)
                if left:
                    reasons["thinned"] = min(max(0, self._holes(start, end)), left)
                    reasons["corrupt"] = left - reasons["thinned"]
                self._account(start, end, delivered, reasons)
        self._tidy()
        self._persist()

    def _holes(self, start: int, end: int) -> int:
        """Return how many positions of what was read there, and is not settled, hold no sample."""
        ways = [way for way in (self._way, self._way_ahead) if way is not None]
        read = {e.seq: e for way in ways for e in way.entries if start < e.end <= end}
        return sum(self.ledger.unsettled(max(e.seq, start), e.end) - e.samples for e in read.values())

    def _account(self, start: int, end: int, delivered: int, reasons: Mapping[str, int]) -> None:
        spent = self._clock() - self._read_at
        rate = round(delivered / spent, 1) if spent > 0 else 0.0
        ledger = self.ledger.settle(start, end, reasons, "delivered")
        damaged, self._damaged = ledger.damaged + self._damaged, 0
        for way in (self._way, self._way_ahead):
            if way is not None:
                damaged, way.reader.damaged = damaged + way.reader.damaged, 0
        self.ledger = ledger._replace(rate=rate, damaged=damaged)
        self._dirty = True

    def _peek(self) -> Entry | None:
        """Return what `read_ahead` has next, or `read` where nothing is ahead."""
        if (at := self.ahead) is None:
            way = self._way = self._at(self._way, self.ledger.position)
        else:
            way = self._way_ahead = self._at(self._way_ahead, at)
        return way.first()

    def _reader(self, position: int) -> Reader:
        return Reader(self._fs, f"{self._folder}/segments", position)

    def _at(self, way: _Way | None, position: int) -> _Way:
        """Return a way that goes on at this position: the one there is, or another."""
        if way is not None and way.upto < position:  # evicted, or settled ahead
            self._leave(way)
            way = None
        return way or _Way(self._reader(position), position)

    def _leave(self, way: _Way | None) -> None:
        if way is not None:
            self._damaged += way.reader.damaged
            way.reader.damaged = 0
            way.reader.close()

    def _tidy(self) -> Ledger:
        """Let go of what is settled, and of the second reader where the gaps are closed."""
        if self._way_ahead is not None and self.ahead is None:
            self._leave(self._way)
            self._way, self._way_ahead = self._way_ahead, None
        ledger = self.ledger
        for way in (self._way, self._way_ahead):
            if way is not None:
                while way.entries and (
                    way.entries[0].end <= ledger.position
                    or (ledger.ahead and not ledger.unsettled(*way.entries[0][:2]))
                ):
                    way.entries.popleft()
        return ledger

    def skip(self, to: int, reason: str) -> None:
        """Give up everything before `to` that is not settled, for this reason."""
        with self._lock:
            if to > self.ledger.position:
                self.ledger = self.ledger.settle(self.ledger.position, to, {}, reason)
                self._dirty = True

    def oldest_pending_ms(self) -> int | None:
        """Return the wall time of the oldest pending record that was read, or None."""
        way = self._way
        oldest = next(iter(way.entries), None) if way is not None else None
        return oldest.wall_ms if oldest is not None and self.pending() else None

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
        """Remove the cursor file: nobody waits for this destination any more.  Raises OSError.

        Whoever still reads and commits does no harm: nothing is written any more.
        """
        with self._lock:
            with suppress(FileNotFoundError):
                self._fs.unlink(self._path)
            self._forgotten = True
            self.close()

    def persist(self) -> None:
        """Write the cursor file if something changed.  Raises OSError."""
        with self._lock:
            # The log first: after a power cut no cursor may point behind the log's end.
            if self.ledger.reach > self._log.synced:
                self._log.sync()
            if self._dirty and not self._forgotten:
                self._write()
                self._dirty, self._persisted = False, self._clock()

    def close(self) -> None:
        """Close what is open.  Raises OSError; it is closed all the same."""
        with ExitStack() as stack:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                stack.callback(self._fs.close, fd)
            for way in (self._way, self._way_ahead):
                if way is not None:
                    stack.callback(way.reader.close)

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
        durable = self.ledger.reach <= self._log.synced
        if self._dirty and durable and self._clock() - self._persisted >= PERSIST_EVERY:
            self.persist()


def _chunk(way: _Way, start: int, max_samples: int, until: int) -> Chunk:
    """Return the whole records from `start` on: up to `max_samples`, but one at least, none from `until` on."""
    stored = sum(entry.samples for entry in way.entries)
    while stored < max_samples and way.upto < until and way.next():
        stored += way.entries[-1].samples
    ticks: list[Tick] = []
    samples, end = 0, start
    for entry in way.entries:
        if entry.seq >= until:
            break
        if ticks and samples + entry.samples > max_samples:
            return Chunk(ticks, start, end, samples)
        ticks += entry.ticks
        samples, end = samples + entry.samples, entry.end
    if way.upto >= until:  # that was all that can be read before it
        end = max(end, until)
    return Chunk(ticks, start, end, samples)
