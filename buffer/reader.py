"""Reading the log: from a position on, across segment files, live or at rest, without changing it.

Promises: every record that is valid and whose key frame is readable is returned once, in order.  A
torn tail is silent; damage is skipped and counted in `damaged`, and costs at most the records up to
the next key frame.  A reader that has returned None may be asked again: it goes on where the log
went on.  Memory: one window of a file (64 KiB, more only for a record that is larger or damaged).
"""

from __future__ import annotations

from typing import NamedTuple

from buffer import segment
from buffer.codec import CodecError, Decoder
from buffer.fs import Fs
from buffer.model import Tick
from buffer.segment import Damaged, Record, Torn

WINDOW = 64 << 10


class Entry(NamedTuple):
    """A record with its ticks decoded.  The next entry's `seq` is `end` where nothing is missing."""

    seq: int
    end: int
    wall_ms: int
    ticks: list[Tick]
    missed: int


class File:
    """The records of one segment file, one after another.

    Raises FileNotFoundError, Short and NewerVersion when it is opened.
    """

    def __init__(self, fs: Fs, folder: str, first_seq: int) -> None:
        self._fs, self.first_seq = fs, first_seq
        self._fd = fs.open(f"{folder}/{segment.name(first_seq)}")
        self._data, self._base, self._at = b"", 0, 0
        try:
            self._data = fs.read(self._fd, WINDOW, 0)
            base = segment.decode_header(self._data)
        except BaseException:
            self.close()
            raise
        # Without its header the file is as good: its name says the same.
        self.damaged_header = base is None
        self._first_seq = first_seq if base is None else base
        self._at = segment.HEADER.size

    @property
    def offset(self) -> int:
        """Where the next record starts."""
        return self._base + self._at

    def seek(self, offset: int) -> None:
        """Go on at the record that starts at `offset`."""
        self._data, self._base, self._at = b"", offset, 0

    def next(self) -> Record | Damaged | None:
        """Return the next record or stretch of damage; None at the end, clean or torn, for now."""
        while True:
            found = segment.decode(self._data, self._at, self._first_seq)
            whole = isinstance(found, Record) or (isinstance(found, Damaged) and found.end < len(self._data))
            if not whole and self._more():
                continue
            if found is None or isinstance(found, Torn):
                return None
            at, self._at = self._at, found.end
            return (
                found._replace(at=self._base + at, end=self.offset) if isinstance(found, Damaged) else found
            )

    def _more(self) -> bool:
        """Extend the window by what the file has; False where it ends."""
        size = max(WINDOW, len(self._data) - self._at)
        more = self._fs.read(self._fd, size, self._base + len(self._data))
        if more:
            self._data = self._data[self._at :] + more
            self._base += self._at
            self._at = 0
        return bool(more)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            self._fs.close(self._fd)
            self._fd = -1


class Reader:
    """The log's entries from sample number `seq` on.  Not thread-safe."""

    def __init__(self, fs: Fs, folder: str, seq: int = 0) -> None:
        self._fs, self._folder, self._seq = fs, folder, seq
        self._file: File | None = None
        self._done = -1
        self._decoder = Decoder()
        self.damaged = 0
        """Stretches of damage, unreadable records and unreadable files met so far."""

    def next(self) -> Entry | None:
        """Return the next entry; None where the log ends for now."""
        while True:
            # Listed before reading: only a file that was not the newest then is surely at its end.
            names = segment.listing(self._fs, self._folder)
            if self._file is None and not self._open(names):
                return None
            file = self._file
            assert file is not None  # _open has set it
            entry = self._read(file)
            if entry is not None:
                return entry
            if names[-1:] <= [file.first_seq]:
                return None
            self._done = file.first_seq
            self.close()

    def _read(self, file: File) -> Entry | None:
        while (found := file.next()) is not None:
            if isinstance(found, Damaged):
                self.damaged += 1
                self._decoder.reset()
                continue
            end = found.seq + found.samples
            try:
                frame = self._decoder.decode(found.body, found.wall_ms, found.key)
            except CodecError:
                self.damaged += 1
                continue
            if end > self._seq:
                self._seq = end
                return Entry(found.seq, end, found.wall_ms, frame.ticks, frame.missed)
        return None

    def _open(self, names: list[int]) -> bool:
        """Open the file that holds the position, at the last key frame before it."""
        while names := [first for first in names if first > self._done]:
            first = max((first for first in names if first <= self._seq), default=names[0])
            try:
                file = File(self._fs, self._folder, first)
            except FileNotFoundError:  # dropped since the folder was listed
                self._done = first
            except segment.Short:
                if first == names[-1]:  # being written at this moment, or the writer died
                    return False
                self._done = first
            except segment.NewerVersion:
                self.damaged += 1
                self._done = first
            else:
                self.damaged += file.damaged_header
                self._decoder.reset()
                file.seek(_last_key(file, self._seq))
                self._file = file
                return True
        return False

    def close(self) -> None:
        """Close the file that is open; the reader may go on being used."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _last_key(file: File, seq: int) -> int:
    """Return the offset of the last key frame that is not behind the record with sample `seq`."""
    key = offset = file.offset
    while (found := file.next()) is not None:
        if isinstance(found, Record):
            if found.seq > seq:
                break
            if found.key:
                key = offset
        offset = file.offset
    return key
