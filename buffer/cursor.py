"""A cursor: how far one destination is.  It reads the log, and settles what it has read.

`read` continues at the position.  `go_ahead` leaves a gap and starts a stretch at the newest records; `read_ahead`
continues there.  `commit` settles both, in any order.  `read` stops where a stretch begins; when the position reaches
a stretch, it jumps to the stretch's end.  A second reader exists only while something is settled ahead of its turn;
when the gaps are closed it replaces the first one.

The cursor file (`buffer.ledger`) is written by every `Buffer.sync`, and while a backlog drains at most once a
second.  What was settled since then is sent again after a kill, the same samples with the same times, which
receivers accept as one.  A file without a valid slot means: start at the oldest record.  Sending twice is
better than losing.

`size` is the largest request that goes out, where that was noted, and `progress` what a person may want to know; both are
kept in the same file.

Glossary: a *stretch* is a span of positions that was settled before its turn; a *gap* is an unsettled span before or
between stretches; *ahead* is everything about stretches and what follows the last one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress

from buffer.feed import Feeds
from buffer.fs import Fs
from buffer.hints import UNKNOWN, Progress, Size
from buffer.ledger import MAX_ERROR, MAX_STRETCHES, Ledger, LedgerFile, load_hints
from buffer.log import Log
from buffer.model import Chunk
from buffer.reader import Reader
from buffer.segment import MAX_POSITION

NEWS_MS = 10_000
"""A next try that is so much later than the one in the file is worth a write of it."""
PERSIST_EVERY = 1.0
"""Seconds between two writes of the cursor file while a backlog drains."""


class Cursor:
    """One destination's progress in the log.  Read, go ahead and commit from one thread; the rest from any."""

    def __init__(
        self,
        fs: Fs,
        data_dir: str,
        name: str,
        log: Log,
        start: Ledger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.ledger, self.log, self._clock = name, start, log, clock
        self._file = LedgerFile(fs, data_dir, name)
        self.size, self.progress = load_hints(fs, self._file.path)
        self._feeds = Feeds(lambda position: Reader(fs, f"{data_dir}/segments", position, log.judge), log)
        self._lock = threading.Lock()
        self._dirty, self._persisted = True, -PERSIST_EVERY
        self._forgotten, self._read_at = False, 0.0

    @property
    def position(self) -> int:
        """In samples: everything before it is settled."""
        return self.ledger.position

    @property
    def ahead(self) -> int | None:
        """Where `read_ahead` continues; None where that is the position."""
        ledger = self.ledger
        at = max(ledger.reach, self._feeds.begun)
        return at if at > ledger.position else None

    @property
    def written(self) -> int:
        """Bytes written to the cursor file."""
        return self._file.written

    def pending(self) -> int:
        """Return the number of samples that are not settled."""
        ledger, end = self.ledger, self.log.end  # in this order, so that it is never behind the end
        return ledger.unsettled(ledger.position, end) - self.log.holes_in(ledger.gaps(end))

    def waiting(self) -> int:
        """Return how many of the pending samples can be read: those whose time is known, and that of all before them."""
        ledger, end = self.ledger, self.log.placed
        return ledger.unsettled(ledger.position, end) - self.log.holes_in(ledger.gaps(end))

    def waiting_ahead(self) -> int:
        """Return the number of samples that `read_ahead` has, or `read` where nothing is ahead."""
        return max(0, self.log.placed - self.ahead) if self.ahead is not None else self.waiting()

    def oldest_pending_ms(self) -> int | None:
        """Return the wall time of the oldest pending record that was read, or None."""
        oldest = self._feeds.oldest()
        return oldest.wall_ms if oldest is not None and self.pending() else None

    def read(self, max_samples: int) -> Chunk:
        """Return the records from the position on, up to `max_samples`, but at least one.

        It ends where something after it is settled already, or its time is not known.  What an ill disk does not return stays a gap: then the
        chunk is of the records that are in memory.  Empty where there is nothing new.  Neither the position
        nor what a later call returns is changed.  Raises OSError.
        """
        ledger = self._tidy()
        until = ledger.ahead[0][0] if ledger.ahead else MAX_POSITION
        self._read_at = self._clock()
        try:
            return self._feeds.main(ledger.position).chunk(ledger.position, max_samples, until)
        except OSError:
            if (at := _in_memory(self.log, ledger)) is None:
                raise
        return self._feeds.ahead(at).chunk(at, max_samples, MAX_POSITION)

    def go_ahead(self, samples: int) -> bool:
        """Leave a gap, so that `read_ahead` continues at the newest records: those of the last `samples`.

        It continues at the last record that has so many from its start on, or at the newest one.  Nothing is settled
        by that.  False, and nothing is changed, where what is read next starts there anyway, or where there are
        MAX_STRETCHES already; that is cheap.  Raises OSError.
        """
        ledger, ahead = self._tidy(), self.ahead
        at, wanted = ahead or ledger.position, self.log.placed - max(1, samples)
        # Where the disk is ill, what a gap begins with need not be readable.
        if wanted <= at or len(ledger.ahead) >= MAX_STRETCHES or self.log.in_memory_from is not None:
            return False
        feed = self._feeds.main(at) if ahead is None else self._feeds.ahead(at)
        if (entry := feed.first()) is not None and entry.end > wanted:
            return False
        return self._feeds.jump(wanted, at)

    def read_ahead(self, max_samples: int) -> Chunk:
        """Return the records that follow the last stretch, or `go_ahead`, as `read` does.

        Empty where there is nothing new, or `ahead` is None.  Raises OSError.
        """
        ledger, at = self._tidy(), self.ahead
        if at is None:
            return Chunk([], ledger.position, ledger.position, 0)
        self._read_at = self._clock()
        try:
            # The first record of the gap, so that its age is known; it has to be read anyway.
            self._feeds.main(ledger.position).first()
            return self._feeds.ahead(at).chunk(at, max_samples, MAX_POSITION)
        except OSError:
            if (begins := _in_memory(self.log, ledger)) is None:
                raise
        return self._feeds.ahead(max(at, begins)).chunk(max(at, begins), max_samples, MAX_POSITION)

    def commit(self, start: int, end: int, delivered: int, dropped: Mapping[str, int]) -> None:
        """Settle the positions of a chunk: `dropped` by reason, the rest of what was read delivered.

        Positions that were thinned away are dropped as `thinned`, those that could not be read as `corrupt`.  What was
        evicted since it was read stays counted as evicted.  Raises OSError where the cursor file cannot be written;
        the cursor has moved all the same, and the next sync writes it.
        """
        with self._lock:
            if left := self.ledger.unsettled(start, end):
                reasons, left = _reasons(left, delivered, dropped)
                if left:
                    reasons["thinned"] = min(max(0, self._feeds.holes(self.ledger, start, end)), left)
                    reasons["corrupt"] = left - reasons["thinned"]
                spent = self._clock() - self._read_at
                ledger = self.ledger.settle(start, end, reasons, "delivered")
                rate = round(delivered / spent, 1) if spent > 0 else 0.0
                damaged = ledger.damaged + self._feeds.take_damaged()
                self._change(ledger._replace(rate=rate, damaged=damaged))
        self._tidy()
        self._persist_soon()

    def skip(self, to: int, reason: str, start: int = 0) -> None:
        """Give up everything from `start` to before `to` that is not settled, for this reason."""
        with self._lock, suppress(ValueError):  # a stretch too many: it is found missing, and is corrupt then
            if to > self.ledger.position:
                self._change(self.ledger.settle(max(start, self.ledger.position), to, {}, reason))

    def returned(self, reason: str, samples: int) -> None:
        """Count samples as delivered that had been dropped for this reason."""
        with self._lock:
            self._change(self.ledger.returned(reason, samples))

    def note(self, state: str, error: str | None, size: Size | None = None, now: Progress = UNKNOWN) -> None:
        """Keep the destination's state and last error for `limpet buffer status`, and hints; cheap when unchanged.

        Trouble, its end, and a size are written at once.  What else is new waits for the next sync.
        """
        error = error and error[:MAX_ERROR]
        with self._lock:
            self._dirty |= abs((now.next_try_ms or 0) - (self.progress.next_try_ms or 0)) >= NEWS_MS
            self.progress = now
            before = self.ledger.state, self.ledger.error
            is_same_size, self.size = self.size == size, size
            if before == (state, error) and is_same_size:
                return
            self._change(self.ledger._replace(state=state, error=error))
        if not is_same_size or before[1] != error or not {before[0], state} <= {"sending", "idle"}:
            self._persist_soon()

    def removed(self, now_ms: int | None) -> None:
        """Keep since when the destination is not configured; None: it is."""
        with self._lock:
            if self.ledger.removed_ms != now_ms:
                self._change(self.ledger._replace(removed_ms=now_ms))

    def forget(self) -> None:
        """Remove the cursor file, for good: what is read and settled afterwards changes no file.  Raises OSError."""
        with self._lock:
            self._file.remove()
            self._forgotten = True
            self.close()

    def persist(self) -> None:
        """Write the cursor file if something changed.  Raises OSError."""
        with self._lock:
            # The log first: after a power cut no cursor may point behind the log's end.
            if self.ledger.reach > self.log.synced:
                self.log.sync()
            if self._dirty and not self._forgotten:
                self._file.write(self.ledger, self.size, self.progress)
                self._dirty, self._persisted = False, self._clock()

    def close(self) -> None:
        """Close all files.  Raises OSError; they are closed all the same."""
        with ExitStack() as stack:
            stack.callback(self._file.close)
            stack.callback(self._feeds.close)

    def _change(self, ledger: Ledger) -> None:
        self.ledger, self._dirty = ledger, True

    def _tidy(self) -> Ledger:
        ahead, ledger = self.ahead, self.ledger
        self._feeds.tidy(ledger, ahead)
        return ledger

    def _persist_soon(self) -> None:
        # A tick that is not durable itself would cost a sync of the log: the next sync of the buffer does both.
        durable = self.ledger.reach <= self.log.synced
        if self._dirty and durable and self._clock() - self._persisted >= PERSIST_EVERY:
            self.persist()


def _reasons(left: int, delivered: int, dropped: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Return how many of the positions left were dropped for each reason, and how many nobody has explained.

    A batch whose front was evicted, or settled before it became part of a thinned record, has more samples than there
    are positions left: they count once.
    """
    reasons: dict[str, int] = {}
    for reason, count in dropped.items():
        reasons[reason] = min(count, left)
        left -= reasons[reason]
    return reasons, left - min(delivered, left)


def _in_memory(log: Log, ledger: Ledger) -> int | None:
    """Return where to continue in memory while the disk is ill; None where that is not possible."""
    begins = log.in_memory_from
    if begins is None or (begins > ledger.reach and len(ledger.ahead) >= MAX_STRETCHES):
        return None
    return max(begins, ledger.reach)
