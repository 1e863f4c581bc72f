"""The log: one writer appends ticks to segment files, and drops the oldest ones.

Promises:
- `append` returns after the record is in the file, by one write: a process kill loses nothing that
  was acknowledged.  It is durable after the next `sync`: a power cut loses what came after that.
- An append that fails leaves the log as it was, and the next one may succeed: the file is cut back
  to its last good end, or, where even that fails, the next append starts a new one.
- After a failed sync the file is closed, and the next append starts a new one: a second sync of the same file would
  prove nothing.  The same happens when a sync notices that somebody removed the file.
- Opening never appends to an existing file: every process starts its own segment, so a torn tail stays where it is,
  and does no harm.  See `buffer.recovery`.
- The newest segment is never dropped, because it carries the numbering.
- What is appended under a clock that is not believed is in segments of its own.  `place` gives them their times by one
  append to each, and returns when that is durable; a kill in between leaves each as it was, or placed.

`missed` is the running total of samples that could not be collected.  It travels in every record, so
that the log is the only account of it.  What an earlier process collected and could not write (`collected`) is not
missed: each group's first append is corrected by that.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from buffer import segment
from buffer.codec import Encoder
from buffer.fs import Fs, write_all
from buffer.model import Doubted, Tick
from buffer.provisional import Provisional
from buffer.recovery import recover, set_aside
from buffer.segment import Record

_VOLUME = (errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT)
"""What is wrong with a volume, and not with one file of it."""

MOST_STUCK = 4
"""So many files may be damaged in a way that they cannot be removed: half of a full buffer.  More is the volume."""


class Log(Provisional):
    """The segment files of one folder, and their only writer.

    `end` is the position after the last record.  `last` has the wall time of the last tick and the number of series
    of each group that occurs since the last key frame.  Raises NewerFormat, OSError.
    """

    def __init__(self, fs: Fs, folder: str, segment_size: int, numbered_from: int = 0) -> None:
        found = recover(fs, folder)
        # A cursor can be ahead of the log where the disk lied about a sync: numbers are never reused.
        super().__init__(fs, folder, found, max(found.end, numbered_from))
        self.segment_size = segment_size
        self._sync_lock = threading.Lock()
        self._encoder = Encoder()
        self._fd = -1
        self._sealed: list[int] = []
        self._new_names = False
        self.missed, self.synced = found.missed, self.end
        self.collected = max(0, numbered_from - found.end)
        """Samples that were appended after the last record that can be read, and are not missed yet."""
        self._begun: set[str] = set()

    def append(self, ticks: Sequence[Tick], missed: int = 0, clock: Doubted | None = None) -> int:
        """Append the ticks of one instant as one record, and return the position after it.

        With a `clock` that is doubted it is provisional.
        `missed` is the number of samples that were not collected since the last append, or since the last record.
        Raises OSError where the record could not be written, and ValueError where the ticks do not
        belong together or cannot be stored; the log is then as it was, and so is what later records refer to.
        """
        with self._lock:
            count = sum(len(tick.values) for tick in ticks)
            if self._fd >= 0 and (
                self.sizes[self._first] >= self.segment_size
                or self.end + count - self._first >= segment.MAX_SPAN
                or self._is_another(clock)
            ):
                self._seal()
            if self._fd < 0:
                self._encoder.reset()
            clock = self._completed(clock, ticks)
            known = self._known(ticks, missed)
            missed -= known
            body, key = self._encoder.encode(ticks, self.missed + missed)
            try:
                record = Record(self.end, self.end + count, ticks[0].at.wall_ms, count, key, body)
                self._write(record, clock)
            except BaseException:
                self._encoder.reset()
                raise
            self._note_clock(ticks[0].at.boot_id, record, self._first)
            self.end += count
            self.missed += missed
            self.collected -= known
            for tick in ticks:
                self.last[tick.group] = tick.at.wall_ms, len(tick.values)
                self._begun.add(tick.group)
            return self.end

    def _known(self, ticks: Sequence[Tick], missed: int) -> int:
        """Return how many samples before these ticks an earlier process has collected."""
        if not self.collected or self._begun.issuperset(tick.group for tick in ticks):
            return 0
        return min(missed, self.collected)

    def here(self) -> tuple[int, int]:
        """Return the position after the last record, and what was missed up to it."""
        with self._lock:
            return self.end, self.missed

    def sync(self) -> None:
        """Make everything appended so far durable.  Raises OSError; the active file is then left."""
        with self._sync_lock:
            with self._lock:
                if self.end == self.synced:
                    return
                end, sealed, active, new_names = self.end, list(self._sealed), self._fd, self._new_names
                self._new_names = False
            try:
                for fd in (*sealed, active):
                    if fd >= 0:
                        self._fs.sync(fd)
                if new_names:
                    self._fs.sync_folder(self.folder)
            except OSError:
                with self._lock:
                    self._new_names = self._new_names or new_names
                    if self._fd >= 0:
                        self._seal()
                    self._close_sealed([*sealed, active])
                raise
            with self._lock:
                # Not the active one: if it was sealed meanwhile, it has records that are not synced yet.
                self._close_sealed(sealed)
                self.synced = max(self.synced, end)
                self._look_after_the_active()

    def _look_after_the_active(self) -> None:
        """Leave the active file if somebody removed it: nobody could read what is appended to it."""
        if self._fd >= 0:
            try:
                self._fs.size(self._path(self._first))
            except FileNotFoundError:
                self._seal()
                raise

    def judge(self, first: int) -> None:
        """Make sure that the disk works, since a part of the segment `first` cannot be read.  Raises OSError.

        What is appended to the active segment could not be read either, so the next append starts a new one.
        """
        if self.in_memory_from is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO), self.folder)
        self.sync()
        self._fs.sync_folder(self.folder)
        with self._lock:
            if self._fd >= 0 and first == self._first:
                self._seal()

    def drop(self, first: int) -> None:
        """Remove a segment as `Catalog.drop` does, or give it up where the disk works.  Raises OSError."""
        try:
            super().drop(first)
        except OSError as error:
            if error.errno in _VOLUME or len(self._stuck) >= MOST_STUCK:
                raise
            self.judge(first)
            self.give_up(first)

    def leave(self, then: Callable[[], None], *, in_memory: bool) -> None:
        """Have the next append start a new segment: in memory, or on the disk again.  `then` makes that so."""
        with suppress(OSError):
            self.sync()
        with self._sync_lock, self._lock:
            if self._fd >= 0:
                self._seal()
            self._close_sealed(list(self._sealed))
            self._new_names, self.synced = False, self.end
            if not in_memory:
                self.in_memory_from = None
            elif self.in_memory_from is None:
                self.in_memory_from = self.end
            then()

    def close(self) -> None:
        """Sync and close.  Raises OSError where the sync fails; the files are closed all the same."""
        try:
            self.sync()
        finally:
            with self._sync_lock, self._lock:
                if self._fd >= 0:
                    self._seal()
                self._close_sealed(list(self._sealed))

    def _write(self, record: Record, clock: Doubted | None) -> None:
        fresh = self._fd < 0
        data = segment.encode(self.end if fresh else self._first, record)
        if fresh:
            data = segment.encode_header(self._header(clock)) + data
            self._fd, self._first = _create(self._fs, self.folder, self.end), self.end
            self._new_names, self.sizes[self._first] = self.in_memory_from is None, 0
        try:
            self.written += write_all(self._fs, self._fd, data, self.sizes[self._first])
        except OSError:
            self._undo(fresh)
            raise
        self.sizes[self._first] += len(data)

    def _undo(self, fresh: bool) -> None:
        """Take back what a failed write left: cut it off, or leave the file and start another one."""
        try:
            if not fresh:
                self._fs.truncate(self._fd, self.sizes[self._first])
                return
            self._fs.unlink(self._path(self._first))
            del self.sizes[self._first]
        except OSError:
            pass  # what is left is a torn tail, which readers pass over
        if fresh:  # nothing in it is worth a sync
            with suppress(OSError):
                self._fs.close(self._fd)
            self._fd = -1
        else:
            self._seal()

    def _seal(self) -> None:
        self._sealed.append(self._fd)
        self._fd = -1

    def _close_sealed(self, fds: list[int]) -> None:
        for fd in fds:
            if fd in self._sealed:
                self._sealed.remove(fd)
                with suppress(OSError):
                    self._fs.close(fd)


def _create(fs: Fs, folder: str, first: int) -> int:
    """Create the file of a segment.  Raises OSError."""
    path = f"{folder}/{segment.name(first)}"
    try:
        return fs.create(path)
    except FileExistsError:
        set_aside(fs, folder, first)
    except FileNotFoundError:  # somebody removed the folder
        fs.make_folder(folder)
    return fs.create(path)
