"""The buffer: one log, its lock, and a cursor for each destination, in one data directory.

    data_dir/lock              held by the writer, names its pid
    data_dir/segments/*.seg    the log (`buffer.segment`)
    data_dir/history/          what every destination has settled (`buffer.history`)
    data_dir/cursors/*.json    one for each destination (`buffer.ledger`)
    data_dir/requests/         what `limpet buffer trim` requests of the writer (`buffer.requests`)

Promises: what becomes of data that every destination has, and what goes when the buffer is full (`buffer.room`) and where a destination starts (`buffer.cursors`).  Where
no room can be made, `append` raises BufferFull and nothing else stops.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack

from buffer import requests
from buffer.cursor import Cursor
from buffer.cursors import Cursors, Listener, Place
from buffer.fs import Fs, RealFs, make_way
from buffer.history.keep import History
from buffer.history.read import end_of
from buffer.ledger import Ledger, load_each
from buffer.limits import DEFAULTS, Limits
from buffer.lock import Lock
from buffer.log import Log
from buffer.model import Doubted, Tick
from buffer.placing import Unplaced
from buffer.room import Room
from buffer.segment import Note
from buffer.usage import UsageNote
from buffer.versions import refuse_newer

FOLDERS = ("segments", "cursors", requests.FOLDER)


RECENT_MS = 3_600_000


def ignore(what: str, **fields: object) -> None:
    """Nobody listens."""


class Buffer:
    """The writer's side.  Raises BufferInUse, NewerFormat and OSError when it is opened."""

    state = "ok"
    """What is wrong with the disk; see `buffer.sheltered`, as for the others."""
    unbuffered = 0
    must_restart = False
    newest: Sequence[Tick] = ()
    """The last tick of each group that this process has appended, the latest first; none that is older than that by RECENT_MS."""

    def __init__(
        self,
        data_dir: str,
        limits: Limits = DEFAULTS,
        destinations: Iterable[str] | None = (),
        *,
        start_now: Collection[str] = (),
        report: Listener = ignore,
        fs: Fs | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._fs = fs = self._over(fs or RealFs(data_dir))
        self._dir, self._report = data_dir, report
        refuse_newer(fs, data_dir)
        self._lock: Lock | None = None
        self._arrived = threading.Condition()
        self._waiting: dict[object, int] = {}
        try:
            self._take()
            known = self._known()
            furthest = max((ledger.reach for ledger in known.values() if ledger), default=0)
            furthest = max(furthest, end_of(fs, data_dir))
            place = Place(fs, data_dir, clock, wall, report)
            self.log = self._open_log(limits.sealed_at, furthest)
            self._cursors = Cursors(place, self.log, known, destinations, start_now)
            self._cursors.forget(limits.forget_after)
            self._room = Room(place, self.log, self._cursors, limits)
        except BaseException:
            self._release()
            raise

    def _over(self, disk: Fs) -> Fs:
        """Return the file system to use."""
        return disk

    def _take(self) -> None:
        """Take the lock, and make the folders.  Raises BufferInUse, OSError."""
        self._fs.make_folder(self._dir)
        self._lock = self._lock or Lock(f"{self._dir}/lock")
        for folder in FOLDERS:
            make_way(self._fs, f"{self._dir}/{folder}")

    def _known(self) -> dict[str, Ledger | None]:
        return load_each(self._fs, self._dir)

    def _open_log(self, segment_size: int, numbered_from: int) -> Log:
        return Log(self._fs, f"{self._dir}/segments", segment_size, numbered_from)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._room.limits

    @property
    def cursors(self) -> Mapping[str, Cursor]:
        """The cursors by the names of their destinations."""
        return self._cursors.by_name

    def usage(self, name: str) -> UsageNote:
        """Return the note of what a destination has cost on the wire."""
        return UsageNote(self._fs, self._dir, name)

    @property
    def history(self) -> History:
        """What every destination has settled and is kept."""
        return self._room.history

    @property
    def is_in_memory(self) -> bool:
        """Whether what is appended now is only in memory."""
        return self.log.in_memory_from is not None

    @property
    def written(self) -> int:
        """Bytes written to segments, history and cursor files since the buffer was opened."""
        return self.log.written + self._room.written + sum(cursor.written for cursor in self._cursors)

    def configure(
        self, limits: Limits, destinations: Iterable[str], *, start_now: Collection[str] = ()
    ) -> None:
        """Have these limits and destinations from now on, while the buffer is in use.

        A destination that is new, or comes back, is as at the start of the process; one that was removed is kept for
        `forget_after`, from the next sync on.  The limits apply as `Room.configure` says.
        """
        with self._room.lock:  # nothing may go that a new cursor is about to start at
            self._cursors.configure(destinations, start_now)
            self._room.configure(limits)

    def append(self, ticks: Sequence[Tick], missed: int = 0, clock: Doubted | None = None) -> int:
        """Append the ticks of one instant and return the position after them; see `Log.append`.

        Raises OSError or BufferFull where they could not be written.
        """
        while True:
            try:
                self._room.make()
                return self._append(ticks, missed, clock)
            except OSError as error:  # a full disk: history is what can be spared
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._room.give_way():
                    raise

    def _append(self, ticks: Sequence[Tick], missed: int, clock: Doubted | None) -> int:
        end = self.log.append(ticks, missed, clock)
        if ticks and clock is None:
            self.newest = _newest(ticks, self.newest)
        with self._arrived:
            # Wake nobody for less than it waits for: a wake-up costs more than the append.
            placed = self.log.placed
            if any(position < placed for position in self._waiting.values()):
                self._arrived.notify_all()
        return end

    def place(self, boot_id: str, base_ms: int, *, drop: bool = False) -> list[tuple[Unplaced, Note]]:
        """Give what is provisional its times, now that this boot's clock is known; see `Log.place`.

        With `drop`, what would be an estimate is dropped as `unplaced` for every destination.  Raises OSError.
        """
        with self._room.lock:
            found = self.log.plan(boot_id, base_ms)
            for one, note in found:
                for cursor in self._cursors if drop and note.is_estimated else ():
                    cursor.skip(one.end, "unplaced", one.first)
            if drop:
                self._cursors.persist()
            self.log.place(found)
        self.wake()
        return found

    def last(self, group: str) -> tuple[int, int] | None:
        """Return the wall time in ms of the group's last tick and its number of series, if it is known."""
        return self.log.last.get(group)

    def wait(self, position: int, timeout: float) -> None:
        """Return when there are samples after `position` whose time is known, after `timeout` seconds, or on `wake`."""
        with self._arrived:
            if self.log.placed <= position:
                me = object()
                self._waiting[me] = position
                self._arrived.wait(timeout)
                del self._waiting[me]

    def wake(self) -> None:
        """Make every `wait` return."""
        with self._arrived:
            self._arrived.notify_all()

    def sync(self) -> None:
        """Make the log and the cursors durable, and make history of what every destination has settled.  Raises OSError.

        A requested trim comes first: it may be what makes room for the rest.
        """
        try:
            if (before := requests.trim(self._fs, self._dir)) is not None:
                self.trim(before)
                requests.done(self._fs, self._dir)
        finally:
            try:
                self.log.sync()
                self._cursors.persist()
            finally:
                self._room.release()  # also where the disk is full: this may be the room that the next sync needs
        self._cursors.forget(self.limits.forget_after)
        self._room.make_ahead()

    def trim(self, before: int) -> None:
        """Drop the oldest segments, history first, as long as all their positions are before this one; never the newest.

        What a destination had not settled is evicted for it.  Raises OSError; what was dropped by then is accounted
        for, at the latest when the buffer is opened again.
        """
        self._room.trim(before)
        self._cursors.persist()

    def close(self) -> None:
        """Sync, close and release the lock; all are closed even where the sync raises OSError."""
        with ExitStack() as stack:
            stack.callback(self._release)
            for cursor in self._cursors:
                stack.callback(cursor.close)
                stack.callback(cursor.persist)
            stack.callback(self.log.close)
            stack.callback(self._room.rest)


def _newest(ticks: Sequence[Tick], before: Sequence[Tick]) -> Sequence[Tick]:
    """Return the newest ticks after these were appended."""
    now_ms, groups = ticks[-1].at.wall_ms, {tick.group for tick in ticks}
    rest = [
        tick for tick in before if tick.group not in groups and abs(now_ms - tick.at.wall_ms) <= RECENT_MS
    ]
    return [*ticks, *rest]
