"""A cursor: how far one destination is.  It reads the log, and settles what it has read.

`read` continues at the position.  `go_ahead` leaves a gap and starts a stretch at the newest records; `read_ahead`
continues there.  `commit` settles both, in any order.  `read` stops where a stretch begins; when the position reaches
a stretch, it jumps to the stretch's end.  A second reader exists only while something is settled ahead of its turn;
when the gaps are closed it replaces the first one.

The cursor file (`buffer.ledger`) is written by every `Buffer.sync`, and while a backlog drains at most once a
second.  What was settled since then is sent again after a kill, the same samples with the same times, which
receivers accept as one.  A file without a valid slot means: start at the oldest record.  Sending twice is
better than losing.

Samples with priority can be settled before the rest (`buffer.position`): `read_priority` continues where that ended, and
`commit_priority` settles.  What `read` and `read_ahead` return later has them all the same; who sends leaves them out.

Glossary: a *stretch* is a span of positions that was settled before its turn; a *gap* is an unsettled span before or
between stretches; *ahead* is everything about stretches and what follows the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing

from buffer.feed import Feeds
from buffer.fs import Fs
from buffer.ledger import MAX_STRETCHES, Ledger
from buffer.log import Log
from buffer.model import Chunk, Tick
from buffer.position import Position
from buffer.reader import Reader
from buffer.segment import MAX_POSITION

MOST = 50_000
"""Samples of any series that are read for one chunk of those with priority."""

Pick = Callable[[Sequence[Tick]], Sequence[Tick]]
"""Returns the ticks, with the series alone that have priority."""


class Cursor(Position):
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
        super().__init__(fs, data_dir, name, log, start, clock)
        self._reader: Callable[[int], Reader] = lambda position: Reader(
            fs, f"{data_dir}/segments", position, log.judge
        )
        self._feeds = Feeds(self._reader, log)
        self._read_at = 0.0

    @property
    def ahead(self) -> int | None:
        """Where `read_ahead` continues; None where that is the position."""
        ledger = self.ledger
        at = max(ledger.reach, self._feeds.begun)
        return at if at > ledger.position else None

    def pending(self) -> int:
        """Return the number of samples that are not settled."""
        ledger = self.ledger  # before the end of the log, so that it is never behind that
        end = self.log.end
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

        It ends where something after it is settled already, or its time is not known.  What an ill disk does not
        return stays a gap: then the chunk is of the records that are in memory.  Empty where there is nothing new.  Neither the position
        nor what a later call returns is changed.  Where samples with priority are settled up to a position, it is of records
        before that position or of others, never of both.  Raises OSError.
        """
        ledger, cut = self._tidy(), self.priority.until if self.priority else 0
        until = ledger.ahead[0][0] if ledger.ahead else MAX_POSITION
        self._read_at = self._clock()
        try:
            return self._feeds.main(ledger.position).chunk(ledger.position, max_samples, until, cut)
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
        if wanted <= at or len(ledger.ahead) >= MAX_STRETCHES:
            return False
        if self.log.in_memory_from is not None:  # what a gap begins with need not be readable
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
        cut = self.priority.until if self.priority else 0
        self._read_at = self._clock()
        try:
            # The first record of the gap, so that its age is known; it has to be read anyway.
            self._feeds.main(ledger.position).first()
            return self._feeds.ahead(at).chunk(at, max_samples, MAX_POSITION, cut)
        except OSError:
            if (begins := _in_memory(self.log, ledger)) is None:
                raise
        return self._feeds.ahead(max(at, begins)).chunk(max(at, begins), max_samples, MAX_POSITION)

    def read_priority(self, pick: Pick) -> Chunk:
        """Return the next samples with priority, from the next MOST of any; none may be among these.

        Empty where there is nothing new.  Neither the position nor what a later call returns is changed.  Raises OSError.
        """
        start, ledger = self.priority_at, self.ledger
        ticks: list[Tick] = []
        end, samples = start, 0
        with closing(self._reader(start)) as reader:
            while samples < MOST and (entry := reader.next()) is not None:
                if entry.seq >= self.log.known:  # nobody knows its time
                    break
                if entry.end > start:
                    end, samples = entry.end, samples + entry.samples
                    ticks += entry.ticks if ledger.unsettled(entry.seq, entry.end) else ()
        picked = list(pick(ticks))
        return Chunk(picked, start, end, sum(len(tick.values) for tick in picked))

    def commit(
        self, start: int, end: int, delivered: int, dropped: Mapping[str, int], before: int = 0
    ) -> None:
        """Settle the positions of a chunk: `dropped` by reason, the rest of what was read delivered.

        `before` further samples had priority, and were settled before: what was dropped of these counts now.
        Positions that were thinned away are dropped as `thinned`, those that could not be read as `corrupt`.  What was
        evicted since it was read stays counted as evicted.  Raises OSError where the cursor file cannot be written;
        the cursor has moved all the same, and the next sync writes it.
        """
        with self._lock:
            early = self._counted(before)
            delivered += before - sum(early.values())
            dropped = {key: dropped.get(key, 0) + early.get(key, 0) for key in (*dropped, *early)}
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

    def close(self) -> None:
        """Close all files.  Raises OSError; they are closed all the same."""
        with ExitStack() as stack:
            stack.callback(self._file.close)
            stack.callback(self._feeds.close)

    def _tidy(self) -> Ledger:
        ahead, ledger = self.ahead, self.ledger
        self._feeds.tidy(ledger, ahead)
        return ledger


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
