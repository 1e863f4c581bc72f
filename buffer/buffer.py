"""The buffer: one log, its lock, and a cursor for each destination, in one data directory.

    data_dir/lock              held by the writer, names its pid
    data_dir/segments/*.seg    the log (`buffer.segment`)
    data_dir/cursors/*.json    one for each destination (`buffer.cursor`)

Promises: the size of the segments exceeds `max_size` by at most one record, and no record is written
while less than the floor of space is free on the volume.  What every destination has settled goes
first, one segment file at a time; then the oldest file goes, and each destination that had not
settled it counts what it lost as `evicted`.  Where even that makes no room, `append` raises
BufferFull and nothing else stops.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from buffer import cursor as cursors
from buffer.cursor import Cursor, Ledger
from buffer.errors import BufferFull
from buffer.fs import Fs, RealFs
from buffer.lock import Lock
from buffer.log import Log
from buffer.model import Tick
from buffer.reader import Reader

MIN_SEGMENTS = 8


class Buffer:
    """The writer's side.  Raises BufferInUse, NewerFormat and OSError when it is opened."""

    def __init__(
        self,
        data_dir: str,
        destinations: Iterable[str] = (),
        *,
        max_size: int = 256 << 20,
        min_free: Callable[[int], int] = lambda _volume: 0,
        segment_size: int = 4 << 20,
        fs: Fs | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fs = fs = fs or RealFs()
        self._dir, self._max_size, self._min_free = data_dir, max_size, min_free
        for folder in (data_dir, f"{data_dir}/segments", f"{data_dir}/cursors"):
            fs.make_folder(folder)
        self._lock = Lock(f"{data_dir}/lock")
        self._arrived = threading.Condition()
        self._waiting: dict[object, int] = {}
        try:
            known = self._known()
            furthest = max((ledger.position for ledger in known.values() if ledger), default=0)
            # Small files where the cap is small: they are what the oldest data is dropped by.
            self.log = Log(fs, f"{data_dir}/segments", min(segment_size, max_size // MIN_SEGMENTS), furthest)
            self.cursors = {
                name: Cursor(fs, data_dir, name, self.log, self._ledger(known.get(name)), clock)
                for name in dict.fromkeys((*destinations, *known))
            }
        except BaseException:
            self._lock.close()
            raise

    def _known(self) -> dict[str, Ledger | None]:
        folder = f"{self._dir}/cursors"
        names = [n.removesuffix(cursors.SUFFIX) for n in self._fs.list(folder) if n.endswith(cursors.SUFFIX)]
        return {name: cursors.load(self._fs, f"{folder}/{name}{cursors.SUFFIX}") for name in sorted(names)}

    def _ledger(self, ledger: Ledger | None) -> Ledger:
        """Bring a cursor's ledger in line with the log; without one, start at the oldest record."""
        first = self.log.first
        if ledger is None:
            entry = Reader(self._fs, f"{self._dir}/segments", first).next()
            missed = entry.missed if entry else self.log.missed
            return Ledger(first, first, 0, {}, missed, 0, "stopped", None, 0.0)
        # A segment is dropped before the cursors that lose by it are written (the disk may be full):
        # after a kill in between, this is where it is accounted for.
        return ledger if ledger.position >= first else ledger.settle(first, {}, "evicted")

    def append(self, ticks: Sequence[Tick], missed: int = 0) -> int:
        """Append the ticks of one instant and return the position after them; see `Log.append`.

        Raises OSError or BufferFull where they could not be written.
        """
        self._make_room()
        end = self.log.append(ticks, missed)
        with self._arrived:
            # Nobody is woken for less than it waits for: a wake-up costs more than the append.
            if any(position < end for position in self._waiting.values()):
                self._arrived.notify_all()
        return end

    def last(self, group: str) -> tuple[int, int] | None:
        """Return the wall time in ms of the group's last tick and its number of series, if it is known."""
        return self.log.last.get(group)

    @property
    def written(self) -> int:
        """Bytes written to segments and cursor files since the buffer was opened."""
        return self.log.written + sum(cursor.written for cursor in self.cursors.values())

    def wait(self, position: int, timeout: float) -> None:
        """Return when there are samples behind `position`, after `timeout` seconds, or on `wake`."""
        with self._arrived:
            if self.log.end <= position:
                me = object()
                self._waiting[me] = position
                self._arrived.wait(timeout)
                del self._waiting[me]

    def wake(self) -> None:
        """Make every `wait` return."""
        with self._arrived:
            self._arrived.notify_all()

    def sync(self) -> None:
        """Make the log and the cursors durable, and drop what every destination has settled."""
        self.log.sync()
        for cursor in self.cursors.values():
            cursor.persist()
        self._release()

    def close(self) -> None:
        """Sync, close and release the lock; the lock goes even where the sync raises OSError."""
        try:
            self.log.close()
            for cursor in self.cursors.values():
                cursor.persist()
                cursor.close()
        finally:
            self._lock.close()

    def _release(self) -> None:
        settled = min((c.position for c in self.cursors.values()), default=0)
        while (second := self.log.second()) is not None and second <= settled:
            self.log.drop_oldest()

    def _make_room(self) -> None:
        if self._fits():
            return
        self._release()
        while not self._fits():
            second = self.log.second()
            if second is None:
                raise BufferFull(
                    self._dir,
                    "no room left within buffer.max_size and buffer.min_free_space",
                    "Free space on the volume, or raise the limits.",
                )
            for cursor in self.cursors.values():
                cursor.skip(second, "evicted")
            self.log.drop_oldest()

    def _fits(self) -> bool:
        free, volume = self._fs.free(self._dir)
        return self.log.size < self._max_size and free >= self._min_free(volume)
