"""The provisional segments of a log: which there are, and the notes that give them their times.

Promise: what the clock was is found on the disk alone.  After a kill or a power cut at any moment, each segment is as it was, or
placed, and once; and what is placed by an estimate is not readable for destinations before that is marked.
"""

from __future__ import annotations

from collections.abc import Sequence

from buffer import segment
from buffer.catalog import Catalog
from buffer.fs import Fs, write_all
from buffer.model import Doubted, Tick
from buffer.placing import Unplaced, notes
from buffer.recovery import Recovered
from buffer.segment import MAX_POSITION, NOTE_SIZE, Header, Note, Record

STEPPED_MS = 500
"""A clock whose base changes by more was set: a provisional segment has one base."""


class Provisional(Catalog):
    """See above.  Methods that begin with _ are called with the lock held."""

    def __init__(self, fs: Fs, folder: str, found: Recovered, end: int) -> None:
        super().__init__(fs, folder, found.sizes, found.thinned, end)
        self.unplaced = {one.first: one for one in found.clocks.unplaced}
        self.unmarked = list(found.clocks.unmarked)
        self._bases = dict(found.clocks.bases)
        """Of the boots that are known, wall time minus monotonic time of the right clock."""
        self.kept_ms = found.kept_ms
        """The time of the newest record whose clock was believed; 0: there is none."""
        self._placed_ms = found.clocks.placed_ms
        self.last = found.last
        self.placings = 0
        """How often something was placed."""
        self._first = -1
        """Where the active segment begins, if there is one."""
        self._clock: Doubted | None = None
        """By which the active segment is written, where that is provisional."""

    @property
    def known(self) -> int:
        """The first position whose time is not known, or is an estimate that is not marked; MAX_POSITION: there is none."""
        unmarked = [one.first for one, _ in self.unmarked]
        return min((*tuple(self.unplaced), *unmarked), default=MAX_POSITION)

    @property
    def placed(self) -> int:
        """The position up to which destinations can read."""
        return min(self.known, self.end)

    @property
    def provisional(self) -> int:
        """How many samples wait for a clock that can be believed."""
        return sum(one.end - one.first for one in tuple(self.unplaced.values()))

    def _completed(self, clock: Doubted | None, ticks: Sequence[Tick]) -> Doubted | None:
        """Return a clock with what an earlier process of the same boot knew of it."""
        if clock is None or clock.good_ms is not None or not ticks:
            return clock
        if clock.refuted:
            self._bases.pop(ticks[0].at.boot_id, None)
            return clock
        return clock._replace(good_ms=self._bases.get(ticks[0].at.boot_id))

    def _is_another(self, clock: Doubted | None) -> bool:
        """Whether a record by this clock needs another segment than the active one."""
        if self._clock is None or clock is None or self._first not in self.unplaced:
            return self._clock is not None or clock is not None
        if clock.refuted != self._clock.refuted:
            return True
        return abs(self._clock.base_ms - clock.base_ms) > STEPPED_MS

    def _header(self, clock: Doubted | None) -> Header:
        """Return the header of a new segment, and take it that this clock is the active one's."""
        self._clock = clock
        if clock is None:
            return Header(self.end)
        return Header(self.end, 0, 0, 0, clock.base_ms, clock.good_ms, self.kept_ms, clock.refuted)

    def _note_clock(self, boot_id: str, record: Record, first: int) -> None:
        """Keep in mind that this record was appended to the active segment, which begins at `first`."""
        at, size, clock = record.wall_ms, self.sizes[first], self._clock
        if clock is None:
            self.kept_ms = max(at, self._placed_ms)  # the mark of an estimate is older than what it marks
            return
        one = self.unplaced.get(first) or Unplaced(
            first,
            record.end,
            boot_id,
            clock.base_ms,
            at,
            at,
            self.kept_ms,
            size,
            clock.good_ms,
            clock.refuted,
        )
        self.unplaced[first] = one._replace(end=record.end, last_ms=max(one.last_ms, at), size=size)

    def recalled(self, boot_id: str) -> tuple[int | None, int | None, int | None]:
        """Return the base that this boot's clock had when it was believed, the one that has turned out to be wrong, and the one
        from which it was set, where that is doubted.
        """
        unplaced = [one for one in self.unplaced.values() if one.boot_id == boot_id]
        refuted = [one.base_ms for one in unplaced if one.refuted]
        stepped_from = unplaced[-1].good_ms if unplaced else None
        return self._bases.get(boot_id), refuted[-1] if refuted else None, stepped_from

    def plan(self, boot_id: str, base_ms: int) -> list[tuple[Unplaced, Note]]:
        """Return what `place` can place now that this boot's clock is known: its wall time minus its monotonic time."""
        with self._lock:
            unplaced = [self.unplaced[first] for first in sorted(self.unplaced)]
            return notes(unplaced, self._bases | {boot_id: base_ms})

    def place(self, found: Sequence[tuple[Unplaced, Note]]) -> None:
        """Give provisional segments their times.  Raises OSError: what was not placed by then is still provisional."""
        with self._lock:
            for one, note in found:
                self._place(one, note)

    def mark(self) -> None:
        """Note that whatever was placed by an estimate is marked, by what is synced.  Raises OSError."""
        with self._lock:
            self._mark()

    def _place(self, one: Unplaced, note: Note) -> None:
        """Append the note to a segment that nothing more is appended to, and make it durable.  Raises OSError."""
        fd = self._fs.modify(self._path(one.first))
        try:
            self._fs.truncate(fd, one.size)  # a torn tail, or a note that was not finished
            self.written += write_all(self._fs, fd, segment.encode_note(one.first, note), one.size)
            self._fs.sync(fd)
        finally:
            self._fs.close(fd)
        self.sizes[one.first] = one.size + NOTE_SIZE
        if note.is_estimated:
            self.unmarked.append((one._replace(size=one.size + NOTE_SIZE), note))
        else:
            self._bases[one.boot_id] = note.base_ms
        for group, (at, count) in self.last.items():
            if one.first_ms <= at <= one.last_ms:
                self.last[group] = at + note.shift_ms, count
        del self.unplaced[one.first]
        self._placed_ms = max(self._placed_ms, one.last_ms + note.shift_ms)
        self.kept_ms = max(self.kept_ms, self._placed_ms)
        if self.unplaced:  # the rest is behind it, whenever that is placed
            after = self.unplaced[min(self.unplaced)]
            kept_ms = max(after.kept_ms, one.last_ms + note.shift_ms)
            self.unplaced[after.first] = after._replace(kept_ms=kept_ms)
        self.placings += 1

    def _mark(self) -> None:
        while self.unmarked:
            first = self.unmarked[0][0].first
            fd = self._fs.modify(self._path(first))
            try:
                write_all(self._fs, fd, segment.MARKED, self.sizes[first] - 1)
            finally:
                self._fs.close(fd)
            self.unmarked = self.unmarked[1:]
