"""Reading the log: from a position on, across segment files, while it is written or at rest, without changing it.

Promises: every record that is valid and whose key frame is readable is returned once, in order.  A torn
tail is passed over in silence.  Damage is skipped and counted in `damaged`; it costs at most the records up
to the next key frame.  A reader that has returned None can be called again, and continues with what was
appended since.  Memory: one window of a file (64 KiB; more only for a larger or a damaged record).

What cannot be read is damage, as long as the disk as a whole works: a block that fails twice reads as zeros, and of a
file with many such blocks, or one that cannot be opened, the rest is skipped.  `judge` decides about the disk: it is
called with the first position of the file before anything is taken for damage, and raises OSError where the disk
itself is ill.  Then nothing is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

from buffer import segment
from buffer.codec import CodecError, Decoder
from buffer.fs import Fs
from buffer.implied import implied
from buffer.model import Tick
from buffer.segment import Damaged, Record, Torn

WINDOW = 64 << 10
PATIENCE = 16
"""While searching for a record, checksum at most this many bytes in vain for each byte of the file."""

BLOCK = 4 << 10
BAD_BLOCKS = 64
"""After so many unreadable blocks the rest of a file is given up: each can take a disk seconds."""
Judge = Callable[[int], None]


def _is_damage(_first: int) -> None:
    """The disk is well."""


class Entry(NamedTuple):
    """A decoded record: its ticks hold `samples` for the positions from `seq` to before `end`."""

    seq: int
    end: int
    wall_ms: int
    samples: int
    ticks: list[Tick]
    missed: int


class File:
    """The records of one segment file, in order.

    `header` is the decoded header, or, where that is damaged, what the rest of the file implies (`buffer.implied`).
    Raises FileNotFoundError, Short, NewerVersion and OSError when it is opened.
    """

    def __init__(self, fs: Fs, folder: str, first_seq: int, judge: Judge = _is_damage) -> None:
        self._fs, self.first_seq, self._judge = fs, first_seq, judge
        self._path = f"{folder}/{segment.name(first_seq)}"
        self._fd = fs.open(self._path)
        self._data, self._base, self._at, self._bad = b"", 0, 0, 0
        try:
            self._data = self._read(WINDOW, 0)
            header = segment.decode_header(self._data, first_seq)
        except BaseException:
            self.close()
            raise
        self.damaged_header = header is None
        self._ends: int | None = None  # where the note begins
        self.note = self._find_note() if header is None or header.base_ms is not None else None
        """What is known of the clock of a provisional segment; None: nothing, or it is none."""
        self.header = header or implied(self._data, first_seq, self.note)
        self._at = segment.HEADER.size
        self._checked = 0

    @property
    def offset(self) -> int:
        """Where the next record starts."""
        return self._base + self._at

    @property
    def is_blank(self) -> bool:
        """Whether there is only a header so far."""
        return self.offset == segment.HEADER.size and not self.damaged_header

    @property
    def is_unplaced(self) -> bool:
        """Whether nobody knows yet at what times this segment was written: its times are as the clock was."""
        return self.header.base_ms is not None and self.note is None

    @property
    def shift_ms(self) -> int:
        """What has to be added to the times in the file."""
        return self.note.shift_ms if self.note is not None else 0

    def _find_note(self) -> segment.Note | None:
        """Return the note at the end of the file. Raises OSError."""
        at = self._fs.size(self._path) - segment.NOTE_SIZE
        if at < segment.HEADER.size:
            return None
        note = segment.decode_note(self._fs.read(self._fd, segment.NOTE_SIZE, at), self.first_seq)
        self._ends = at if note is not None else None
        return note

    def seek(self, offset: int) -> None:
        """Continue at the record that starts at `offset`."""
        if not self._base <= offset <= self._base + len(self._data):
            self._data, self._base = b"", offset
        self._at = offset - self._base

    def peek(self, at: int, size: int) -> bytes:
        """Return up to `size` bytes from an offset; what cannot be read is zeros.  Raises OSError as `next` does."""
        return self._read(size, at)

    def __iter__(self) -> Iterator[Record | Damaged]:
        """Yield the records and the stretches of damage that follow, up to the present end of the file."""
        while (found := self.next()) is not None:
            yield found

    def next(self) -> Record | Damaged | None:
        """Return the next record or stretch of damage; None at the end, clean or torn, for now."""
        if self._ends is not None and self.offset >= self._ends:
            return None
        found = self._next()
        while isinstance(found, Record) and segment.is_note(found):
            found = self._next()
        if self.note is not None and isinstance(found, Record):
            found = found._replace(wall_ms=max(0, found.wall_ms + self.note.shift_ms))
        return found

    def _next(self) -> Record | Damaged | None:
        if not self._checked:  # no damage yet, so no limit on the search for a record
            found = segment.decode(self._data, self._at, self.header.first_seq)
            if isinstance(found, Record):
                self._at = found.after
                return found
        return self._search()

    def _search(self) -> Record | Damaged | None:
        start, torn, why = self.offset, -1, ""
        # The whole record first: to look for others in a part of a long one would exhaust the patience.
        while self._is_cut() and self._more():
            pass
        while True:
            patience = PATIENCE * (1 << 22) + PATIENCE * self.offset - self._checked
            found = segment.decode(self._data, self._at, self.header.first_seq, max(0, patience))
            if isinstance(found, Record):
                return self._found(found, start, why)
            if found is not None:
                if isinstance(found, Damaged):
                    why, self._checked = why or found.why, self._checked + found.after - found.at
                elif torn < 0:
                    torn = self.offset
                # If a valid record begins further on, this one is damage, whatever length it claims.
                self._at = segment.next_mark(self._data, self._at + 1)
                continue
            end = torn if torn >= 0 else self.offset
            self._at = end - self._base
            if self._more():
                torn = -1
                continue
            # Read a torn tail again next time: the writer may have cut it off by then.
            self._data, self._base, self._at = b"", end, 0
            return Damaged(start, end, why) if end > start else None

    def _is_cut(self) -> bool:
        """Return whether the window ends before the record at hand does."""
        found = segment.decode(self._data, self._at, self.header.first_seq, 0)
        return found is None or isinstance(found, Torn)

    def _found(self, record: Record, start: int, why: str) -> Record | Damaged:
        if self.offset > start:
            return Damaged(start, self.offset, why or "a record runs into the next one")
        self._at = record.after
        return record

    def _more(self) -> bool:
        """Extend the window by what the file has; False where it ends."""
        size = max(WINDOW, len(self._data) - self._at)
        more = self._read(size, self._base + len(self._data))
        if more:
            self._data = self._data[self._at :] + more
            self._base += self._at
            self._at = 0
        return bool(more)

    def _read(self, size: int, at: int) -> bytes:
        """Read up to `size` bytes; what cannot be read is zeros.  Raises OSError where that is too much, or the disk."""
        try:
            return self._fs.read(self._fd, size, at)
        except OSError:
            end = min(at + size, self._fs.size(self._path))
            return b"".join(self._block(start, min(BLOCK, end - start)) for start in range(at, end, BLOCK))

    def _block(self, at: int, size: int) -> bytes:
        try:
            return self._fs.read(self._fd, size, at)
        except OSError:
            self._bad += 1
            if self._bad > BAD_BLOCKS:
                raise
            self._judge(self.first_seq)
            return bytes(size)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._fs.close(fd)


class Entries:
    """The entries of one file, decoded; damage and what cannot be decoded is passed over and counted in `damaged`."""

    def __init__(self, file: File, decoder: Decoder) -> None:
        decoder.reset()
        self.file, self._decoder = file, decoder
        self._next_seq = -1
        self.damaged = int(file.damaged_header)

    def next(self) -> Entry | None:
        """Return the next entry; None at the end of the file for now."""
        while (found := self.file.next()) is not None:
            if isinstance(found, Damaged):
                self.damaged += 1
                self._decoder.reset()
                continue
            seq, end, wall_ms, samples, key, body, _ = found
            if seq != self._next_seq:  # records are missing, or are there twice
                self._decoder.reset()
            self._next_seq = end
            try:
                ticks, missed = self._decoder.decode(body, wall_ms - self.file.shift_ms, key)
            except CodecError:
                self.damaged += 1
                continue
            if self.file.note is not None:
                at = ticks[0].at._replace(wall_ms=wall_ms)
                ticks = [tick._replace(at=at) for tick in ticks]
            return Entry(seq, end, wall_ms, samples, ticks, missed)
        return None


class Reader:
    """The log's entries from position `seq` on.  Not thread-safe."""

    def __init__(self, fs: Fs, folder: str, seq: int = 0, judge: Judge = _is_damage) -> None:
        self._fs, self._folder, self._seq, self._judge = fs, folder, seq, judge
        self._entries: Entries | None = None
        self._done = -1
        self._decoder = Decoder()
        self.damaged = 0
        """Stretches of damage, unreadable records and unreadable files met so far."""

    @property
    def position(self) -> int:
        """The position behind what was returned: another reader that begins there continues with what follows."""
        return self._seq

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries that follow, up to the present end of the log."""
        while (entry := self.next()) is not None:
            yield entry

    def next(self) -> Entry | None:
        """Return the next entry; None where the log ends for now."""
        while self._entries is not None or self._open():
            entry = self._read()
            if entry is not None:
                return entry
            newest = segment.listing(self._fs, self._folder)[-1:]
            if newest <= [self._first]:
                if self._entries is not None and self._entries.file.is_blank:
                    self.close()  # a writer whose first append fails removes the file and makes another
                return None
            # The writer has left this file: its last records are there by now.
            if (entry := self._read()) is not None:
                return entry
            if self._entries is not None:
                self._leave(self._entries.file)
        return None

    @property
    def _first(self) -> int:
        return self._entries.file.first_seq if self._entries is not None else -1

    def _read(self) -> Entry | None:
        if (entries := self._entries) is None:
            return None
        entry = None
        try:
            while (entry := entries.next()) is not None and entry.end <= self._seq:
                pass
        except OSError:
            self._give_up(entries.file)
        finally:
            self.damaged, entries.damaged = self.damaged + entries.damaged, 0
        if entry is not None:
            self._seq = entry.end
        return entry

    def _give_up(self, file: File) -> None:
        """Take the rest of a file for damage.  Raises OSError where the disk is ill."""
        self._judge(file.first_seq)
        self.damaged += 1
        self._leave(file)

    def _leave(self, file: File) -> None:
        """Continue with the next file."""
        self._done = file.first_seq
        # Pass the end of a thinned file even where its last records are damaged.
        self._seq = max(self._seq, file.header.end_seq)
        self.close()

    def _open(self) -> bool:
        """Open the file that holds the position, at the last key frame before it."""
        names = segment.listing(self._fs, self._folder)
        file = None
        # A file that was read already holds the position again if it was thinned since, with later ones.
        again = max((first for first in names if first <= min(self._seq, self._done)), default=None)
        if again is not None and (file := self._try(again)) and file.header.end_seq <= self._seq:
            file.close()
            file = None
        while file is None and (names := [first for first in names if first > self._done]):
            first = max((first for first in names if first <= self._seq), default=names[0])
            file = self._try(first)
            if file is None:
                if first == names[-1] and first > self._done:
                    return False  # being written at this moment, or the writer died
                self._done = first
        if file is None:
            return False
        self._entries = Entries(file, self._decoder)
        try:
            file.seek(_last_key(file, self._seq))
        except OSError:
            try:
                self._give_up(file)
            finally:
                self.close()
        return True

    def _try(self, first: int) -> File | None:
        try:
            return opened(self._fs, self._folder, first, self._judge)
        except (FileNotFoundError, segment.Short):  # dropped since, or torn
            return None
        except OSError:
            self._judge(first)
        except segment.NewerVersion:
            pass
        self.damaged += first > self._done
        self._done = max(self._done, first)
        return None

    def close(self) -> None:
        """Close the open file; the reader can still be used."""
        entries, self._entries = self._entries, None
        if entries is not None:
            entries.file.close()


def opened(fs: Fs, folder: str, first: int, judge: Judge = _is_damage) -> File:
    """Open a segment file, at the second attempt if the first one fails.  Raises as `File` does."""
    try:
        return File(fs, folder, first, judge)
    except FileNotFoundError:
        raise
    except OSError:
        return File(fs, folder, first, judge)


def _last_key(file: File, seq: int) -> int:
    """Return the offset of the last key frame at or before the record with position `seq`."""
    key = offset = file.offset
    for found in file:
        if isinstance(found, Record):
            if found.seq > seq:
                break
            if found.key:
                key = offset
        offset = file.offset
    return key


def entries_of(fs: Fs, folder: str, first_seq: int, decoder: Decoder | None = None) -> Iterator[Entry]:
    """Yield the entries of one segment file; damage is passed over.  Raises OSError where too much cannot be read.

    Files that are read with the same decoder share the objects of the same series.
    """
    try:
        file = File(fs, folder, first_seq)
    except (segment.Short, segment.NewerVersion):
        return
    with closing(file):
        entries = Entries(file, decoder or Decoder())
        while (entry := entries.next()) is not None:
            yield entry
