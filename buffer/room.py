"""Room for new records: what is removed or thinned so that a log stays within its limits.

Promises: the size of the segments exceeds `max_size` by at most one record (except for a while after that was
lowered, see `Room.configure`), and no record is written while less than the floor of space is free on the volume.
What every destination has settled becomes history, one segment file at a time, or goes where none is kept.  History
counts towards `max_size`, and goes before anything that a destination waits for: where room is needed, and a little
above the floor of free space (HISTORY_RESERVE).  Then, as `on_full` says:
`thin`: the oldest segments are thinned, to a sample a minute and later one in ten minutes, and only then the oldest
file goes; `drop_oldest`: the oldest file goes; `drop_newest`: nothing goes.  Each destination that had not settled
what goes counts it as `thinned` or `evicted`.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from buffer.cursors import Cursors, Place
from buffer.errors import BufferFull
from buffer.history.keep import History
from buffer.history.work import Worker
from buffer.limits import Limits
from buffer.log import Log
from buffer.thin import thinnable

SHRINKING_SEGMENTS = 3
"""How much a buffer may still grow while it shrinks to a lowered `max_size`."""
HISTORY_RESERVE = 32 << 20
"""Bytes above the floor of free space: history goes below that, before anything of the quarantine does (`buffer.quarantine`)."""


class Room:
    """See above.  Two threads make room: the one that appends and the one that syncs; `lock` is held meanwhile."""

    def __init__(self, place: Place, log: Log, cursors: Cursors, limits: Limits) -> None:
        self._place, self._log, self._cursors = place, log, cursors
        self.history = History(place.fs, place.data_dir)
        self._worker = Worker(place.fs, self.history, place.clock, place.wall)
        self.lock = threading.RLock()
        self._limit(limits)

    def _limit(self, limits: Limits) -> None:
        self.limits, self._allowed = limits, limits.max_size
        # For a moment, a thinned segment exists in addition to the ones that it replaces.
        self._reserve = limits.sealed_at if limits.on_full == "thin" else 0

    def configure(self, limits: Limits) -> None:
        """Keep to these limits from the next append on.

        But what has to be thinned for a lower `max_size` is thinned step by step, at each sync, since no tick can wait
        for all of it.
        """
        is_lower = limits.max_size < self.limits.max_size or self._allowed > self.limits.max_size
        self._limit(limits)
        self._log.segment_size = limits.sealed_at
        if limits.on_full == "thin" and is_lower:
            self._allow()

    def _allow(self) -> None:
        """While the data still exceeds a lowered `max_size`, allow its present size plus some segments."""
        limits = self.limits
        is_over = self._log.size + self._reserve >= limits.max_size
        more = SHRINKING_SEGMENTS * limits.sealed_at
        self._allowed = self._log.size + more if is_over else limits.max_size

    def make(self) -> None:
        """Make room for one record.  Raises BufferFull where there is none, and OSError."""
        if self._fits():
            return
        self.release()
        while not self._fits():
            if self.give_way():
                continue
            if self.limits.on_full != "drop_newest":
                if self._thin() or self.drop("evicted"):
                    continue
                if self.is_above_floor():
                    return  # the only file is over the limit: this record starts the one that replaces it
            raise BufferFull(
                self._place.data_dir,
                "no room left within buffer.max_size and buffer.min_free_space",
                "Free space on the volume, or raise the limits.",
            )

    def make_ahead(self) -> None:
        """Go one step towards a lowered `max_size`, and thin ahead of time, so that no tick has to wait for it."""
        if self._allowed > self.limits.max_size:
            if self.give_way() or self._thin() or self.drop("evicted"):
                self._allow()
            else:
                self._allowed = self.limits.max_size
        while not self._fits(self.limits.sealed_at) and (self.give_way() or self._thin()):
            pass
        self._keep_history_to_its_limits()

    def release(self) -> None:
        """Make what every destination has settled history, or remove it.  Without destinations the log keeps it.

        Raises OSError.
        """
        with self.lock:
            self._log.sweep()
            settled = self._cursors.settled
            if (second := self._log.second()) is None or second > settled:
                return
            self._cursors.try_to_persist()
            while (found := self._log.oldest()) is not None and found[1] <= settled:
                if not self._keep(found[0]):
                    self._log.drop(found[0])

    def _keep(self, first: int) -> bool:
        """Make a segment history; False where that is not wanted, or not possible."""
        tiers, history = self.limits.history, self.history
        if tiers is None or not tiers.raw:
            return False
        for attempt in range(2):
            try:
                history.took(first, self._log.hand_over(first, history.folder))
                return True
            except FileNotFoundError:  # the folder is not there yet, or the file is in memory
                if attempt:
                    return False
            except OSError:
                return False
            with suppress(OSError):
                history.make_folder()
        return False

    @property
    def written(self) -> int:
        """Bytes written to history."""
        return self._worker.written

    def rest(self) -> None:
        """Give up the work on history that is under way."""
        with self.lock:
            self._worker.rest()

    def give_way(self) -> bool:
        """Remove the oldest file of history for the sake of the log; False where there is none."""
        with self.lock:
            return self.history.drop_oldest()

    def _keep_history_to_its_limits(self) -> None:
        with self.lock, suppress(OSError):
            if self.limits.history is not None and self._log.in_memory_from is None:
                self._worker.keep_to(self.limits.history)
            while self.history.files:
                free, volume = self._place.fs.free(self._place.data_dir)
                if free >= self.limits.min_free(volume) + HISTORY_RESERVE or not self.history.drop_oldest():
                    return

    def drop(self, why: str) -> bool:
        """Drop the oldest segment, settled or not; False where it is the only one.  Raises OSError."""
        with self.lock:
            if (found := self._log.oldest()) is None:
                return False
            first, second = found
            for cursor in self._cursors:
                cursor.skip(second, "evicted", first)
            self._cursors.try_to_persist()
            self._log.drop_oldest()
        self._place.report(why, upto=second)
        return True

    def trim(self, before: int) -> None:
        """Drop the oldest segments as long as all their positions are before this one.  Raises OSError."""
        with self.lock:
            self.history.drop_before(before, self._log.first)
            while (second := self._log.second()) is not None and second <= before:
                self.drop("trimmed")

    def _thin(self) -> bool:
        """Thin a run of the oldest segments, if there is one that may be thinned; False where there is none."""
        if self.limits.on_full != "thin":
            return False
        with self.lock:
            ledgers = [cursor.ledger for cursor in self._cursors]
            ahead = [cursor.ahead for cursor in self._cursors]
            level, run = thinnable(self._log.segments(), self.limits, ledgers, ahead)
            if not run:
                return False
            try:
                self._log.thin(run, level)
            except OSError:  # no room even for that: the oldest has to go
                return False
        self._place.report("thinned", level=level, samples=run[-1].end_seq - run[0].first_seq)
        return True

    def _fits(self, more: int = 0) -> bool:
        """Whether a record may be appended, and `more` bytes."""
        size = self._log.size + self.history.size
        return size + self._reserve + more < self._allowed and self.is_above_floor()

    def is_above_floor(self) -> bool:
        """Whether the volume has as much free space as shall be left.  Raises OSError."""
        free, volume = self._place.fs.free(self._place.data_dir)
        return free >= self.limits.min_free(volume)
