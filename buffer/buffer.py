"""The buffer: one log, its lock, and a cursor for each destination, in one data directory.

    data_dir/lock              held by the writer, names its pid
    data_dir/segments/*.seg    the log (`buffer.segment`)
    data_dir/cursors/*.json    one for each destination (`buffer.cursor`)
    data_dir/requests/         what `limpet buffer trim` asks of the writer (`buffer.requests`)

Promises: the size of the segments exceeds `max_size` by at most one record (but for a while where that
was lowered: see `configure`), and no record is written while less than the floor of space is free on
the volume.  What every destination has settled goes first, one segment file at a time.  Then, as
`on_full` says: the oldest segments are thinned, to a sample a minute and later one in ten minutes, and
only then the oldest file goes (`thin`); the oldest file goes (`drop_oldest`); or nothing goes
(`drop_newest`).  Each destination that had not settled what
goes counts it as `thinned` or `evicted`.  Where no room is made, `append` raises BufferFull and nothing
else stops.

A destination that is new starts at the oldest record, or at the end of the log (`start_now`).  One that
is not configured any more keeps its cursor, and what waits for it, for `forget_after` seconds.
A tool that is not the agent knows no destinations (None): then all cursors are left as they are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import chain
from typing import Protocol

from buffer import requests
from buffer.cursor import Cursor
from buffer.errors import BufferFull
from buffer.fs import Fs, RealFs
from buffer.ledger import SUFFIX, Ledger, load
from buffer.limits import DEFAULTS, Limits
from buffer.lock import Lock
from buffer.log import Log
from buffer.model import Tick
from buffer.reader import Reader
from buffer.segment import MAX_SAMPLES, Header
from buffer.thin import STEPS_MS
from buffer.versions import refuse_newer


class Listener(Protocol):
    """Is called for what the buffer does by itself: evicted, trimmed, thinned, cursor_reset, forgotten."""

    def __call__(self, what: str, **fields: object) -> None:
        """Report what happened."""


def _ignore(what: str, **fields: object) -> None:
    """Nobody listens."""


class Buffer:
    """The writer's side.  Raises BufferInUse, NewerFormat and OSError when it is opened."""

    def __init__(
        self,
        data_dir: str,
        limits: Limits = DEFAULTS,
        destinations: Iterable[str] | None = (),
        *,
        start_now: Collection[str] = (),
        report: Listener = _ignore,
        fs: Fs | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._fs = fs = fs or RealFs()
        refuse_newer(fs, data_dir)
        self._dir, self._report, self._clock, self._wall = data_dir, report, clock, wall
        self.limits, self._allowed = limits, limits.max_size
        folders = ("segments", "cursors", requests.FOLDER)
        for folder in (data_dir, *(f"{data_dir}/{name}" for name in folders)):
            fs.make_folder(folder)
        self._lock = Lock(f"{data_dir}/lock")
        self._arrived = threading.Condition()
        self._waiting: dict[object, int] = {}
        self._destinations = None if destinations is None else list(destinations)
        # Two threads make room: the one that appends and the one that syncs.
        self._shrinking = threading.RLock()
        try:
            known = self._known()
            furthest = max((ledger.reach for ledger in known.values() if ledger), default=0)
            self.log = Log(fs, f"{data_dir}/segments", self.limits.sealed_at, furthest)
            self.cursors = {
                name: self._cursor(name, known, start_now)
                for name in dict.fromkeys((*(self._destinations or ()), *known))
            }
            self._forget()
        except BaseException:
            self._lock.close()
            raise

    def configure(
        self, limits: Limits, destinations: Iterable[str], *, start_now: Collection[str] = ()
    ) -> None:
        """Have these destinations and limits from now on, while the buffer is in use.

        A destination that is new, or comes back, is as at the start of the process; one that is there no more is
        kept for `forget_after`, from the next sync on.  The limits hold from the next append on; but what has to be
        thinned for a lower `max_size` is so step by step, at each sync, since no tick can wait for all of it.
        Raises OSError, and then all is as it was.
        """
        names = list(dict.fromkeys(destinations))
        with self._shrinking:  # nothing may go that a new cursor is about to begin at
            new = {n: self._cursor(n, {}, start_now) for n in names if n not in self.cursors}
            self._destinations = names
            # A new dict: other threads go through the old one at this moment.
            self.cursors = {**self.cursors, **new}
            lowered = limits.max_size < self.limits.max_size or self._allowed > self.limits.max_size
            self.limits, self._allowed = limits, limits.max_size
            self.log.segment_size = limits.sealed_at
            if limits.on_full == "thin" and lowered:
                self._allow()

    def _allow(self) -> None:
        """Let the segments be what they are, and a little more, where that is more than they may be."""
        over = self.log.size + self._reserve() >= self.limits.max_size
        self._allowed = self.log.size + 3 * self.limits.sealed_at if over else self.limits.max_size

    def _shrink(self) -> None:
        """Go one step towards a `max_size` that was lowered."""
        if self._allowed > self.limits.max_size:
            if self._thin() or self._drop("evicted"):
                self._allow()
            else:
                self._allowed = self.limits.max_size

    def _cursor(self, name: str, known: Mapping[str, Ledger | None], start_now: Collection[str]) -> Cursor:
        ledger = self._ledger(name, known, start_now)
        return Cursor(self._fs, self._dir, name, self.log, ledger, self._clock)

    def _known(self) -> dict[str, Ledger | None]:
        folder = f"{self._dir}/cursors"
        names = [n.removesuffix(SUFFIX) for n in self._fs.list(folder) if n.endswith(SUFFIX)]
        return {name: load(self._fs, f"{folder}/{name}{SUFFIX}") for name in sorted(names)}

    def _ledger(self, name: str, known: Mapping[str, Ledger | None], start_now: Collection[str]) -> Ledger:
        """Bring a cursor's ledger in line with the log, or begin one."""
        first, ledger = self.log.first, known.get(name)
        if ledger is not None:
            return ledger.not_before(first)
        if name in known:
            self._report("cursor_reset", destination=name, position=first)
        elif name in start_now:
            end, missed = self.log.here()
            return Ledger(end, end, 0, {}, missed, 0, "stopped", None, 0.0, None)
        reader = Reader(self._fs, f"{self._dir}/segments", first)
        try:
            entry = reader.next()
        finally:
            reader.close()
        missed = entry.missed if entry else self.log.missed
        return Ledger(first, first, 0, {}, missed, 0, "stopped", None, 0.0, None)

    def _forget(self) -> None:
        """Let go of destinations that are not configured any more, once that has lasted long enough."""
        if self._destinations is None:
            return
        now_ms = int(self._wall() * 1000)
        for name, cursor in list(self.cursors.items()):
            since = cursor.ledger.removed_ms
            if name in self._destinations:
                cursor.removed(None)
            elif since is None:
                cursor.removed(now_ms)
            elif now_ms - since > self.limits.forget_after * 1000:
                cursor.forget()
                # A new dict: other threads go through the old one at this moment.
                self.cursors = {known: each for known, each in self.cursors.items() if known != name}
                self._report("forgotten", destination=name, pending_samples=cursor.pending())

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
        """Make the log and the cursors durable, and drop what every destination has settled.

        A trim that was asked for comes first: it may be what makes room for the rest.
        """
        if (before := requests.trim(self._fs, self._dir)) is not None:
            self.trim(before)
            requests.done(self._fs, self._dir)
        try:
            self.log.sync()
            self._persist_all()
        finally:
            self._release()  # also where the disk is full: this may be the room that the next sync needs
        self._forget()
        self._shrink()
        # Ahead of time and here, so that no tick has to wait for it.
        while not self._fits(self.limits.sealed_at) and self._thin():
            pass

    def _persist_all(self) -> None:
        """Write every cursor; one that cannot be written keeps none of the others back.  Raises OSError."""
        failed: OSError | None = None
        for cursor in self.cursors.values():
            try:
                cursor.persist()
            except OSError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def trim(self, before: int) -> None:
        """Drop the oldest segments as far as all their positions are before this one; not the newest.

        What a destination had not settled is evicted for it.  Raises OSError; what is dropped by then is
        accounted for, at the latest when the buffer is opened again.
        """
        with self._shrinking:
            while (second := self.log.second()) is not None and second <= before:
                self._drop("trimmed")
        self._persist_all()

    def close(self) -> None:
        """Sync, close and release the lock; all are closed even where the sync raises OSError."""
        with ExitStack() as stack:
            stack.callback(self._lock.close)
            for cursor in self.cursors.values():
                stack.callback(cursor.close)
                stack.callback(cursor.persist)
            stack.callback(self.log.close)

    def _release(self) -> None:
        """Drop what every destination has settled.  Without destinations everything is kept."""
        with self._shrinking:
            settled = min((c.position for c in self.cursors.values()), default=0)
            if (second := self.log.second()) is None or second > settled:
                return
            self._persist()
            while (second := self.log.second()) is not None and second <= settled:
                self.log.drop_oldest()

    def _persist(self) -> None:
        """Write the cursors before something goes, so that what was delivered never counts as evicted,
        whenever the process or the power ends.  Where the disk is too full they are written later.
        """
        for cursor in self.cursors.values():
            with suppress(OSError):
                cursor.persist()

    def _make_room(self) -> None:
        if self._fits():
            return
        self._release()
        while not self._fits():
            if self.limits.on_full != "drop_newest":
                if self._thin() or self._drop("evicted"):
                    continue
                if self._is_above_floor():
                    return  # the only file is over the cap: this record begins the one that replaces it
            raise BufferFull(
                self._dir,
                "no room left within buffer.max_size and buffer.min_free_space",
                "Free space on the volume, or raise the limits.",
            )

    def _thin(self) -> bool:
        """Thin a run of the oldest segments, if there is one that may be; False where there is none."""
        if self.limits.on_full != "thin":
            return False
        with self._shrinking:
            ledgers = [cursor.ledger for cursor in self.cursors.values()]
            ahead = [cursor.ahead for cursor in self.cursors.values()]
            level, run = thinnable(
                self.log.segments(), ledgers, self.limits.max_size, self.limits.sealed_at, ahead
            )
            if not run:
                return False
            try:
                self.log.thin(run, level)
            except OSError:  # no room even for that: the oldest has to go
                return False
        self._report("thinned", level=level, samples=run[-1].end_seq - run[0].first_seq)
        return True

    def _drop(self, why: str) -> bool:
        """Drop the oldest segment, settled or not; False where it is the only one."""
        with self._shrinking:
            second = self.log.second()
            if second is None:
                return False
            for cursor in self.cursors.values():
                cursor.skip(second, "evicted")
            self._persist()
            self.log.drop_oldest()
        self._report(why, upto=second)
        return True

    def _fits(self, ahead: int = 0) -> bool:
        """Whether a record may be appended, and `ahead` bytes more."""
        return self.log.size + self._reserve() + ahead < self._allowed and self._is_above_floor()

    def _reserve(self) -> int:
        # A thinned segment is there beside the ones that it replaces, for a moment.
        return self.limits.sealed_at if self.limits.on_full == "thin" else 0

    def _is_above_floor(self) -> bool:
        free, volume = self._fs.free(self._dir)
        return free >= self.limits.min_free(volume)


def thinnable(
    segments: Sequence[tuple[Header, int]],
    ledgers: Sequence[Ledger],
    max_size: int,
    segment_size: int,
    ahead: Iterable[int | None] = (),
) -> tuple[int, list[Header]]:
    """Return which consecutive segments to thin next, and to which level; none where nothing may be.

    The newest quarter of `max_size` stays as collected, and the newest half is not thinned twice.  What
    every destination has settled is not worth it.  A segment is left alone in which a cursor stands, or
    one of its stretches begins or ends, or is about to begin (`ahead`: what is on its way from there must
    not come again as a part of something else).  Where that is between two segments, they are not joined.
    The result fits in one segment, as far as the step tells, and stands for what one can stand for.
    """
    sizes = [size for _, size in segments]
    newer = [sum(sizes[i + 1 :]) for i in range(len(sizes))]
    edges = {edge for ledger in ledgers for edge in (ledger.position, *chain.from_iterable(ledger.ahead))}
    edges |= {edge for edge in ahead if edge is not None}
    for level, share in ((1, 4), (2, 2)):
        run: list[Header] = []
        room = whole = segment_size * STEPS_MS[level] // max(STEPS_MS[level - 1], 10_000)
        for (header, size), behind in zip(segments[:-1], newer, strict=False):
            good = header.level == level - 1 and behind >= max_size // share and _is_wanted(header, ledgers)
            if run and not (good and room >= size and _is_one(run[0], header, edges)):
                if len(run) >= level:
                    break
                run, room = [], whole
            if good and room >= size and _is_one(header, header, edges):
                run.append(header)
                room -= size
        # A single segment is worth thinning; of coarse ones only several are, for the sake of the tables.
        if len(run) >= level:
            return level, run
    return 0, []


def _is_wanted(header: Header, ledgers: Sequence[Ledger]) -> bool:
    """Whether there is a destination that has not settled all of a segment; or none at all."""
    return not ledgers or any(ledger.unsettled(header.first_seq, header.end_seq) for ledger in ledgers)


def _is_one(first: Header, last: Header, edges: Collection[int]) -> bool:
    """Whether the segments from the first to the last may become one: nothing begins or ends within."""
    return last.end_seq - first.first_seq <= MAX_SAMPLES and not any(
        first.first_seq < edge < last.end_seq for edge in edges
    )
