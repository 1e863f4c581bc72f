"""Reading history and the log as one: from a position on, also while files move from one to the other and become others.

Promises are those of `buffer.reader`: every entry once, in order, and a reader that has returned None can be called again.
A file that becomes history while it is waited for is read there.  Of what is packed, times are those of the ticks, and positions
are within the file's; a file that was made coarser while it was read continues there at about the same time.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

from buffer import segment
from buffer.codec import Decoder
from buffer.fs import Fs
from buffer.history import packed
from buffer.history.keep import FOLDER
from buffer.history.packed import Damaged, PackedFile, Table
from buffer.model import Instant, Series, Tick
from buffer.reader import Entries, Entry, File, Reader, opened
from buffer.segment import Record


class WholeReader:
    """The entries of a data directory from position `seq` on: history, then the log.  Not thread-safe."""

    def __init__(self, fs: Fs, data_dir: str, seq: int = 0) -> None:
        self._seq = seq
        self._history = HistoryReader(fs, f"{data_dir}/{FOLDER}", seq)
        self._log = Reader(fs, f"{data_dir}/segments", seq)
        self._waiting: Entry | None = None
        self._is_ahead = True
        """Whether history may have something before what waits."""

    @property
    def damaged(self) -> int:
        """Stretches of damage, unreadable records, columns and files met so far."""
        return self._log.damaged + self._history.damaged

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries that follow, up to the present end of the log."""
        while (entry := self.next()) is not None:
            yield entry

    def next(self) -> Entry | None:
        """Return the next entry; None where the log ends for now.  Raises OSError."""
        while True:
            if self._is_ahead:
                until = self._waiting.seq if self._waiting is not None else None
                if (entry := self._history.next(self._seq, until)) is not None:
                    self._seq = max(self._seq, entry.end)
                    return entry
                self._is_ahead = False
            if self._waiting is not None:
                entry, self._waiting = self._waiting, None
                self._seq = entry.end
                return entry
            if (found := self._next_of_log()) is None:
                return None
            self._waiting = found
            self._is_ahead = (
                found.seq > self._seq
            )  # what is between the two may have become history meanwhile

    def _next_of_log(self) -> Entry | None:
        with suppress(FileNotFoundError):  # there is none yet
            while (entry := self._log.next()) is not None:
                if entry.end > self._seq:
                    return entry
        return None

    def close(self) -> None:
        """Close the open files."""
        self._history.close()
        self._log.close()


class HistoryReader:
    """The entries of history."""

    def __init__(self, fs: Fs, folder: str, seq: int) -> None:
        self._fs, self._folder, self._seq = fs, folder, seq
        self._decoder = Decoder()
        self._entries: Iterator[Entry] | None = None
        self._file: File | PackedFile | None = None
        self._passed: set[tuple[int, bool]] = set()
        """Segments that were read to their end, and files that cannot be read."""
        self.damaged = 0

    def next(self, seq: int, until: int | None) -> Entry | None:
        """Return the next entry that ends after a position, and not after another one.  Raises OSError."""
        self._seq = max(self._seq, seq)
        while self._entries is not None or self._open():
            for entry in self._entries or ():
                if until is not None and entry.end > until:
                    self._leave()
                    return None
                if entry.end > self._seq:
                    self._seq = entry.end
                    return entry
            if isinstance(self._file, File):
                self._passed.add((self._file.first_seq, True))
            elif self._file is not None:
                self._seq = max(self._seq, self._file.head.end_seq)
            self._leave()
        return None

    def _open(self) -> bool:
        """Open the file that continues at the position; False where there is none."""
        while (found := self._following()) is not None:
            first, is_segment = found
            try:
                if is_segment:
                    self._file = file = opened(self._fs, self._folder, first)
                    self._entries = self._segment(file)
                    return True
                self._file = packed_file = PackedFile(self._fs, self._folder, first)
                self._entries = self._packed(packed_file)
                return True
            except FileNotFoundError:  # it has just gone: look again
                continue
            except (OSError, ValueError):
                self.damaged += 1
                self._passed.add(found)
        return False

    def _following(self) -> tuple[int, bool] | None:
        """Return the file with the position, a packed one before a segment; else the first one behind it."""
        both = [(first, False) for first in packed.listed(self._fs, self._folder)]
        both += [(first, True) for first in segment.listed(self._fs, self._folder)]
        left = [one for one in both if one not in self._passed]
        for kind in (False, True):
            begun = max((one for one in left if one[0] <= self._seq and one[1] is kind), default=None)
            if begun is not None and (kind or self._reaches(begun[0])):
                return begun
        return min((one for one in left if one[0] > self._seq), default=None)

    def _reaches(self, first: int) -> bool:
        """Whether a packed file reaches beyond the position."""
        try:
            with closing(PackedFile(self._fs, self._folder, first)) as file:
                return file.head.end_seq > self._seq
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            self.damaged += 1
            self._passed.add((first, False))
            return False

    def _segment(self, file: File) -> Iterator[Entry]:
        entries = Entries(file, self._decoder)
        try:
            while (entry := entries.next()) is not None:
                yield entry
        except OSError:
            self.damaged += 1
        finally:
            self.damaged += entries.damaged

    def _packed(self, file: PackedFile) -> Iterator[Entry]:
        try:
            yield from entries_in(file, self._count)
        except (OSError, Damaged):
            self.damaged += 1

    def _count(self) -> None:
        self.damaged += 1

    def _leave(self) -> None:
        file, self._file = self._file, None
        self._entries = None
        if file is not None:
            file.close()

    def close(self) -> None:
        """Close the open file."""
        self._leave()


def entries_in(file: PackedFile, damaged: Callable[[], None]) -> Iterator[Entry]:
    """Yield what is in a packed file as entries of the log.  Raises OSError, and Damaged where nothing of it can be read.

    `damaged` is called for each column that cannot be read; its series is then left out.
    """
    tables = [_Rows(file, table, damaged) for table in file.tables()]
    times, head = file.times(), file.head
    samples = done = 0
    exact = head.samples == head.end_seq - head.first_seq
    following: dict[int, list[_Rows]] = {}
    for rows in tables:
        following.setdefault(rows.at(), []).append(rows)
    seq = head.first_seq
    for number, wall_ms in enumerate(times):
        ticks = []
        for rows in following.pop(number, ()):
            ticks.append(rows.tick(Instant(wall_ms, 0, "")))
            following.setdefault(rows.at(), []).append(rows)
        samples = sum(len(tick.values) for tick in ticks)
        done += samples
        share = done if exact else (number + 1) * (head.end_seq - head.first_seq) // len(times)
        end = head.end_seq if number == len(times) - 1 else head.first_seq + share
        if ticks and end > seq:
            yield Entry(seq, end, wall_ms, samples, ticks, 0)
            seq = end


class _Rows:
    """The ticks of a table, one after the other."""

    def __init__(self, file: PackedFile, table: Table, damaged: Callable[[], None]) -> None:
        self._group = table.group
        columns: list[array[float]] = []
        series: list[Series] = []
        for one, ref in zip(table.series, table.values, strict=True):
            try:
                columns.append(file.column(ref, table.rows))
                series.append(one)
            except Damaged:
                damaged()
        self._series = tuple(series)
        self._at = iter(file.records_of(table))
        self._values = zip(*columns, strict=True)

    def at(self) -> int:
        """Return the number of the record that the next tick belongs to; -1 where there is none."""
        return next(self._at, -1) if self._series else -1

    def tick(self, at: Instant) -> Tick:
        """Return the next tick."""
        return Tick(at, self._group, self._series, next(self._values))


def end_of(fs: Fs, data_dir: str) -> int:
    """Return the position after the last record of history where the log does not reach beyond it; else 0.

    Positions are never used again, also where somebody removed the log and left its history.
    """
    folder = f"{data_dir}/{FOLDER}"
    with suppress(OSError):
        log = max(segment.listed(fs, f"{data_dir}/segments"), default=-1)
        ends = [0]
        for first in packed.listed(fs, folder)[-1:]:
            with suppress(OSError, ValueError), closing(PackedFile(fs, folder, first)) as file:
                ends.append(file.head.end_seq)
        for first in segment.listed(fs, folder)[-1:]:
            if first >= log:
                ends += [first + 1, *_ends(fs, folder, first)]
        return max(ends) if max(ends) > log else 0
    return 0


def _ends(fs: Fs, folder: str, first: int) -> list[int]:
    with suppress(OSError, ValueError), closing(File(fs, folder, first)) as file:
        return [file.header.end_seq, *(found.end for found in file if isinstance(found, Record))]
    return []
