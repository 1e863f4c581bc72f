"""The log: one writer appends ticks to segment files, and drops the oldest ones.

Promises:
- `append` returns after the record is in the file, by one write: a process kill loses nothing that
  was acknowledged.  It is durable after the next `sync`: a power cut loses what came after that.
- An append that fails leaves the log as it was, and the next one may succeed: the file is cut back
  to its last good end, or, where even that fails, a new one is begun.
- After a failed sync the file is closed and a new one begun: a second sync of it proves nothing.
- A file that somebody removed under it is noticed at the next sync, and a new one begun.
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
from buffer.codec import Decoder, Encoder
from buffer.errors import NewerFormat
from buffer.fs import TEMPORARY, Fs
from buffer.model import Tick
from buffer.reader import File, Reader, entries_of
from buffer.segment import Header, Record
from buffer.thin import STEPS_MS, thin


class Log:
    """The segment files of one folder, and their only writer.

    `end` is the position after the last record; `last` has, for each group in the last key frame's
    reach, the wall time of its last tick and its number of series.  Raises NewerFormat, OSError.
    """

    def __init__(self, fs: Fs, folder: str, segment_size: int, numbered_from: int = 0) -> None:
        self._fs, self._folder, self.segment_size = fs, folder, segment_size
        self._lock, self._sync_lock = threading.Lock(), threading.Lock()
        self._encoder = Encoder()
        self._fd, self._first = -1, -1
        self._sealed: list[int] = []
        self._new_names = False
        self.sizes: dict[int, int] = {}
        self.thinned: dict[int, Header] = {}
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
                self.sizes[self._first] >= self.segment_size
                or self.end + count - self._first >= segment.MAX_SAMPLES
            ):
                self._seal()
            if self._fd < 0:
                self._encoder.reset()
            try:
                body, key = self._encoder.encode(ticks, self.missed + missed)
                self._write(Record(self.end, self.end + count, ticks[0].at.wall_ms, count, key, body))
            except BaseException:
                self._encoder.reset()
                raise
            self.end += count
            self.missed += missed
            for tick in ticks:
                self.last[tick.group] = tick.at.wall_ms, len(tick.values)
            return self.end

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
                    self._fs.sync_folder(self._folder)
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
        """Leave the active file if somebody removed it: what is appended to it can be read by nobody."""
        if self._fd >= 0:
            try:
                self._fs.size(self._path(self._first))
            except FileNotFoundError:
                self._seal()
                raise

    def drop_oldest(self) -> None:
        """Remove the oldest segment file, which must not be the newest.  Raises OSError."""
        with self._lock:
            firsts = sorted(self.sizes)
        if len(firsts) < 2:
            raise ValueError("the newest segment is never dropped")
        self._remove(firsts[0])

    def segments(self) -> list[tuple[Header, int]]:
        """Return what begins where, oldest first: headers with their ends filled in, and sizes in bytes."""
        with self._lock:
            firsts = sorted(self.sizes)
            ends = [*firsts, self.end][1:]
            return [
                (self.thinned.get(first) or Header(first, 0, end, end - first), self.sizes[first])
                for first, end in zip(firsts, ends, strict=True)
            ]

    def holes_in(self, spans: Sequence[tuple[int, int]]) -> int:
        """Return how many of the positions in these spans were thinned away; see `Header.holes`."""
        if not self.thinned:  # as good as always
            return 0
        with self._lock:
            return sum(header.holes(spans) for header in self.thinned.values())

    def thin(self, old: Sequence[Header], level: int) -> None:
        """Replace consecutive segments, none of them the newest, by one that is thinned to `level`.

        After a kill or a power cut at any moment each position is in the old files or in the new one:
        the new one takes the first one's place by a rename, and it says how far it goes, so that what is
        left of the old ones is passed over by readers and removed by the next start.  Raises OSError,
        and the old ones are then still there.
        """
        header = Header(old[0].first_seq, level, old[-1].end_seq, 0)
        path = self._path(header.first_seq)
        with suppress(FileNotFoundError):
            self._fs.unlink(path + TEMPORARY)
        fd = self._fs.create(path + TEMPORARY)
        try:
            header, size = self._write_thinned(fd, header, [each.first_seq for each in old])
            self._fs.sync(fd)
        except OSError:
            with suppress(OSError):
                self._fs.unlink(path + TEMPORARY)
            raise
        finally:
            self._fs.close(fd)
        self._fs.rename(path + TEMPORARY, path)
        self._fs.sync_folder(self._folder)
        with self._lock:
            self.sizes[header.first_seq], self.thinned[header.first_seq] = size, header
            for each in old[1:]:  # they count no more, even if they cannot be removed now
                del self.sizes[each.first_seq]
                self.thinned.pop(each.first_seq, None)
        for each in old[1:]:
            with suppress(OSError):
                self._fs.unlink(self._path(each.first_seq))

    def _write_thinned(self, fd: int, header: Header, firsts: Sequence[int]) -> tuple[Header, int]:
        encoder, samples, size = Encoder(), 0, segment.HEADER.size
        decoder = Decoder()  # one for all, so that the same series are the same object across files
        entries = (e for first in firsts for e in entries_of(self._fs, self._folder, first, decoder))
        for seq, end, ticks, missed in thin(entries, STEPS_MS[header.level]):
            body, key = encoder.encode(ticks, missed)
            count = sum(len(tick.values) for tick in ticks)
            record = Record(seq, end, ticks[0].at.wall_ms, count, key, body)
            size += self._put(fd, segment.encode(header.first_seq, record), size)
            samples += count
        header = header._replace(samples=samples)
        self._put(fd, segment.encode_header(header), 0)
        return header, size

    def _put(self, fd: int, data: bytes, at: int) -> int:
        written = self._fs.write(fd, data, at)
        self.written += written
        if written != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._folder)
        return written

    def _remove(self, first: int) -> None:
        with suppress(FileNotFoundError):
            self._fs.unlink(self._path(first))
        with self._lock:
            del self.sizes[first]
            self.thinned.pop(first, None)

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
            data = segment.encode_header(Header(self.end)) + data
            self._fd, self._first = self._create(), self.end
            self.sizes[self._first] = 0
        try:
            self._put(self._fd, data, self.sizes[self._first])
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

    def _create(self) -> int:
        path = self._path(self.end)
        try:
            fd = self._fs.create(path)
        except FileExistsError:
            self._set_aside(self.end)
            fd = self._fs.create(path)
        except FileNotFoundError:  # somebody removed the folder
            self._fs.make_folder(self._folder)
            fd = self._fs.create(path)
        self._new_names = True
        return fd

    def _set_aside(self, first: int) -> None:
        """Make way for the next files where one is there that stands behind the last record.

        It holds no record itself: it is the torn first write of a process that died, or nothing but
        damage, which is kept aside for a person to see.
        """
        path = self._path(first)
        if self._fs.size(path) <= segment.HEADER.size + segment.RECORD.size:
            self._fs.unlink(path)
        else:
            self._fs.rename(path, path + ".damaged")
        self.sizes.pop(first, None)

    def _recover(self) -> int:
        """Find the end of the log, and what its last records say; return the position after it."""
        for name in self._fs.list(self._folder):
            if name.endswith(TEMPORARY):  # of a process that died while thinning
                self._fs.unlink(f"{self._folder}/{name}")
        covered = 0
        for first in segment.listing(self._fs, self._folder):
            header = self._header(first)
            if first < covered:  # its thinned successor is there: the process died before it was removed
                self._fs.unlink(self._path(first))
                continue
            self.sizes[first] = self._fs.size(self._path(first))
            if header.level:
                self.thinned[first] = header
                covered = header.end_seq
        if self.sizes:
            with suppress(OSError):
                self._fs.sync_folder(self._folder)
        end, reached = covered, False
        for first in sorted(self.sizes, reverse=True):
            found = self._last_records(first)
            if found is not None:
                key, end, reached = found[0], max(end, found[1]), True
                if self._remember(Reader(self._fs, self._folder, key)):
                    break
            elif not reached and first not in self.thinned:
                # Now, before anybody reads it and waits for what comes behind.  Where it cannot be moved,
                # the numbers go on behind it.
                try:
                    self._set_aside(first)
                except OSError:
                    end = max(end, first + 1)
        return end

    def _header(self, first: int) -> Header:
        fd = self._fs.open(self._path(first))
        try:
            data = self._fs.read(fd, segment.HEADER.size, 0)
            with suppress(OSError):  # a process that was killed need not have synced it
                self._fs.sync(fd)
        finally:
            self._fs.close(fd)
        try:
            return segment.decode_header(data, first) or Header(first)
        except segment.Short:
            return Header(first)
        except segment.NewerVersion as error:
            raise NewerFormat(
                self._path(first), str(error), "Run the newer version of Limpet that wrote it."
            ) from None

    def _last_records(self, first: int) -> tuple[int, int] | None:
        """Return the seq of the file's last key frame and the position after its last record."""
        key = end = None
        try:
            file = File(self._fs, self._folder, first)
        except segment.Short:
            return None
        try:
            while (record := file.next()) is not None:
                if isinstance(record, Record):
                    end = record.end
                    key = record.seq if record.key or key is None else key
        finally:
            file.close()
        return None if key is None or end is None else (key, end)

    def _remember(self, reader: Reader) -> bool:
        """Keep what the log says from there on; False where nothing of it can be read."""
        found = False
        try:
            while (entry := reader.next()) is not None:
                found, self.missed = True, entry.missed
                for tick in entry.ticks:
                    self.last[tick.group] = entry.wall_ms, len(tick.values)
        finally:
            reader.close()
        return found
