"""The log: one writer appends ticks to segment files, and drops the oldest ones.

Promises:
- `append` returns after the record is in the file, by one write: a process kill loses nothing that
  was acknowledged.  It is durable after the next `sync`: a power cut loses what came after that.
- An append that fails leaves the log as it was, and the next one may succeed: the file is cut back
  to its last good end, or, where even that fails, a new one is begun.
- After a failed sync the file is closed and a new one begun: a second sync of it proves nothing.
- Opening never changes or removes a file that holds a record, and never appends to one: every
  process begins its own segment, so a torn tail stays where it is, and stays harmless.
- The newest segment is never dropped, because it carries the numbering.

`missed` is the running total of samples that could not be collected.  It travels in every record, so
that the log is the only account of it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from contextlib import suppress

from buffer import segment
from buffer.codec import Encoder
from buffer.errors import NewerFormat
from buffer.fs import Fs, read_all
from buffer.model import Tick
from buffer.reader import File, Reader
from buffer.segment import Record


class Log:
    """The segment files of one folder, and their only writer.

    `end` is the position after the last record; `last` has, for each group in the last key frame's
    reach, the wall time of its last tick and its number of series.  Raises NewerFormat, OSError.
    """

    def __init__(self, fs: Fs, folder: str, segment_size: int, numbered_from: int = 0) -> None:
        self._fs, self._folder, self._segment_size = fs, folder, segment_size
        self._lock, self._sync_lock = threading.Lock(), threading.Lock()
        self._encoder = Encoder()
        self._fd, self._first = -1, -1
        self._sealed: list[int] = []
        self._new_names = False
        self.sizes = {first: fs.size(self._path(first)) for first in segment.listing(fs, folder)}
        self.missed, self.last = 0, dict[str, tuple[int, int]]()
        self.written = 0
        # A cursor can be ahead of the log where the disk lied about a sync: numbers are never reused.
        self.end = self.synced = max(self._recover(), numbered_from)

    @property
    def size(self) -> int:
        """The size of all segment files."""
        return sum(self.sizes.values())

    @property
    def first(self) -> int:
        """The position of the oldest record that is still there."""
        return min(self.sizes, default=self.end)

    def append(self, ticks: Sequence[Tick], missed: int = 0) -> int:
        """Append the ticks of one instant as one record, and return the position after it.

        `missed` is the number of samples that could not be collected since the last append.
        Raises OSError where the record could not be written, and ValueError where the ticks do not
        belong together; the log is then as it was.
        """
        with self._lock:
            count = sum(len(tick.values) for tick in ticks)
            if self._fd >= 0 and (
                self.sizes[self._first] >= self._segment_size
                or self.end + count - self._first >= segment.MAX_SAMPLES
            ):
                self._seal()
            if self._fd < 0:
                self._encoder.reset()
            try:
                body, key = self._encoder.encode(ticks, self.missed + missed)
                self._write(Record(self.end, ticks[0].at.wall_ms, count, key, body, 0))
            except BaseException:
                self._encoder.reset()
                raise
            self.end += count
            self.missed += missed
            for tick in ticks:
                self.last[tick.group] = tick.at.wall_ms, len(tick.values)
            return self.end

    def sync(self) -> None:
        """Make everything appended so far durable.  Raises OSError; the active file is then left."""
        with self._sync_lock:
            with self._lock:
                end, fds, new_names = self.end, [*self._sealed, self._fd], self._new_names
                self._new_names = False
            if end == self.synced:
                return
            try:
                for fd in fds:
                    if fd >= 0:
                        self._fs.sync(fd)
                if new_names:
                    self._fs.sync_folder(self._folder)
            except OSError:
                with self._lock:
                    self._new_names = self._new_names or new_names
                    if self._fd >= 0:
                        self._seal()
                    self._close_sealed(fds)
                raise
            with self._lock:
                self._close_sealed([fd for fd in fds if fd != self._fd])
                self.synced = max(self.synced, end)

    def drop_oldest(self) -> None:
        """Remove the oldest segment file, which must not be the newest.  Raises OSError."""
        with self._lock:
            first = min(self.sizes)
            if len(self.sizes) < 2:
                raise ValueError("the newest segment is never dropped")
            with suppress(FileNotFoundError):
                self._fs.unlink(self._path(first))
            del self.sizes[first]

    def second(self) -> int | None:
        """Return the first position after the oldest file, or None where there is only one."""
        with self._lock:
            return sorted(self.sizes)[1] if len(self.sizes) > 1 else None

    def close(self) -> None:
        """Sync and close.  Raises OSError where the sync fails; the files are closed all the same."""
        try:
            self.sync()
        finally:
            with self._sync_lock, self._lock:
                if self._fd >= 0:
                    self._seal()
                self._close_sealed(list(self._sealed))

    def _path(self, first: int) -> str:
        return f"{self._folder}/{segment.name(first)}"

    def _write(self, record: Record) -> None:
        fresh = self._fd < 0
        data = segment.encode(self.end if fresh else self._first, record)
        if fresh:
            data = segment.encode_header(self.end) + data
            self._fd, self._first = self._create(), self.end
            self.sizes[self._first] = 0
        try:
            written = self._fs.write(self._fd, data)
            self.written += written
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path(self._first))
        except OSError:
            self._undo(fresh)
            raise
        self.sizes[self._first] += len(data)

    def _undo(self, fresh: bool) -> None:
        """Take back what a failed write left: cut it off, or leave the file and begin another."""
        try:
            if not fresh:
                self._fs.truncate(self._fd, self.sizes[self._first])
                return
            self._fs.unlink(self._path(self._first))
            del self.sizes[self._first]
        except OSError:
            pass  # what is left is a torn tail, which readers pass over
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

    def _create(self) -> int:
        path = self._path(self.end)
        try:
            fd = self._fs.create(path)
        except FileExistsError:
            # It holds no record, else its number would not be the next one: the torn first write of
            # a process that died, or nothing but damage, which is kept aside for a person to see.
            size = self._fs.size(path)
            if size <= segment.HEADER.size + segment.RECORD.size:
                self._fs.unlink(path)
            else:
                self._fs.rename(path, path + ".damaged")
            self.sizes.pop(self.end, None)
            fd = self._fs.create(path)
        self._new_names = True
        return fd

    def _recover(self) -> int:
        """Find the end of the log, and what its last records say; return the position after it."""
        for first in self.sizes:
            header = read_all(self._fs, self._path(first), segment.HEADER.size)
            try:
                with suppress(segment.Short):
                    segment.decode_header(header)
            except segment.NewerVersion as error:
                raise NewerFormat(
                    self._path(first), str(error), "Run the newer version of Limpet that wrote it."
                ) from None
        end = max(self.sizes, default=0)
        for first in sorted(self.sizes, reverse=True):
            found = self._last_records(first)
            if found is not None:
                key, end = found[0], max(end, found[1])
                self._remember(Reader(self._fs, self._folder, key))
                break
        return end

    def _last_records(self, first: int) -> tuple[int, int] | None:
        """Return the seq of the file's last key frame and the position after its last record."""
        key = end = None
        try:
            file = File(self._fs, self._folder, first)
        except segment.Short:
            return None
        while (record := file.next()) is not None:
            if isinstance(record, Record):
                end = record.seq + record.samples
                key = record.seq if record.key or key is None else key
        file.close()
        return None if key is None or end is None else (key, end)

    def _remember(self, reader: Reader) -> None:
        while (entry := reader.next()) is not None:
            self.missed = entry.missed
            for tick in entry.ticks:
                self.last[tick.group] = entry.wall_ms, len(tick.values)
        reader.close()
