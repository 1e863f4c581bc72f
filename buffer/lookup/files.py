"""Which files hold what, while the writer moves, packs, thins and drops them.

Promises:
- Each position is read from one file: from a packed one where there is one, else from a segment.
- A file that goes while it is looked for has become another one, which is then read; or it was given up, and is missing. What was
  read from the files of before is left out where another one has it too.
- If the writer is faster than that for `TRIES` times, `is_whole` says so.
- A file whose times do not reach into the span is not read, but for its head; rows reach forward by their step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from typing import Generic, NamedTuple, TypeVar

from buffer import segment
from buffer.fs import Fs
from buffer.history import packed
from buffer.history.keep import FOLDER
from buffer.history.packed import PackedFile
from buffer.lookup.cache import Cache
from buffer.lookup.packed import tables
from buffer.lookup.rows import Rows
from buffer.lookup.table import Table
from buffer.segment import MAX_POSITION
from buffer.thin import STEPS_MS

TRIES = 20

T = TypeVar("T")
Visit = Callable[[Table], Iterable[T]]


class _Read(NamedTuple, Generic[T]):
    """What was found in a file, which has the positions from `first` to before `end`."""

    first: int
    end: int
    found: list[T]


class Lookup:
    """Looks into the files of a data directory. One thread at a time; many may share a cache.

    Attributes:
        damaged: places that could not be read.
        is_whole: False where the writer was too fast, and something may be missing.
    """

    def __init__(self, fs: Fs, data_dir: str, cache: Cache | None = None) -> None:
        self._fs, self._cache = fs, cache or Cache()
        self._history, self._log = f"{data_dir}/{FOLDER}", f"{data_dir}/segments"
        self.damaged, self.is_whole = 0, True
        self._bad: set[str] = set()
        self._is_complete = True

    def collect(
        self,
        first_ms: int,
        last_ms: int,
        visit: Visit[T],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[list[T]]:
        """Return what `visit` makes of the tables with something of a span of time, for each file; the oldest first.

        Raises OSError, and what `visit` raises.
        """
        read: list[_Read[T]] = []
        for _ in range(TRIES):
            self._is_complete = True
            files = self._files()
            for number, (folder, first, is_segment) in enumerate(files):
                one = self._segment if is_segment else self._packed
                try:
                    read = one(folder, first, (first_ms, last_ms), visit, read)
                except FileNotFoundError:
                    self._is_complete = False
                if progress is not None:
                    progress(number + 1, len(files))
            if self._is_complete:
                break
        else:
            self.is_whole = False
        return [one.found for one in sorted(read, key=lambda one: one[:2])]

    def newest_ms(self) -> int | None:
        """Return when the newest sample was; None where there is none. Raises OSError."""
        found = []
        for folder, first, is_segment in self._files():
            with suppress(FileNotFoundError, ValueError):
                if is_segment:
                    with closing(Rows(self._fs, folder, first, self._cache)) as rows:
                        found += [one.newest_ms for one in rows.stretches if one.newest_ms < MAX_POSITION]
                else:
                    with closing(PackedFile(self._fs, folder, first)) as file:
                        found += [file.head.newest_ms] if file.head.samples else []
        return max(found, default=None)

    def _files(self) -> list[tuple[str, int, bool]]:
        """Return folder, first position, and whether it is a segment; packed files before segments."""
        # The log first: what moves to history meanwhile is then seen twice, not never.
        log = segment.listed(self._fs, self._log)
        names = self._packed_and_segments()
        for _ in range(TRIES):  # a large folder is not listed at one moment
            before, names = names, self._packed_and_segments()
            if before == names:
                break
        of_history, old = names
        found = [(self._history, first, False) for first in of_history]
        in_log = set(log)
        found += [(self._history, first, True) for first in old if first not in in_log]
        return found + [(self._log, first, True) for first in log]

    def _packed_and_segments(self) -> tuple[list[int], list[int]]:
        return packed.listed(self._fs, self._history), segment.listed(self._fs, self._history)

    def _packed(
        self, folder: str, first: int, span: tuple[int, int], visit: Visit[T], read: list[_Read[T]]
    ) -> list[_Read[T]]:
        """Read a packed file, and return what is read by then. Raises FileNotFoundError."""
        try:
            with closing(PackedFile(self._fs, folder, first)) as file:
                end, found = file.head.end_seq, list[T]()
                if _upto(read, first) >= end:
                    return read
                head, step_ms = file.head, STEPS_MS[min(file.head.level, len(STEPS_MS) - 1)]
                if head.samples and head.oldest_ms <= span[1] and head.newest_ms + step_ms >= span[0]:
                    for table in tables(file, self._cache, self._complain):
                        found += visit(table)
        except FileNotFoundError:
            raise
        except (OSError, ValueError):
            return self._left_out(folder, first, read)
        return self._put(read, _Read(first, end, found))

    def _segment(
        self, folder: str, first: int, span: tuple[int, int], visit: Visit[T], read: list[_Read[T]]
    ) -> list[_Read[T]]:
        """Read what of a segment is in no other file, and return what is read by then. Raises FileNotFoundError."""
        try:
            with closing(Rows(self._fs, folder, first, self._cache)) as rows:
                since, found = _upto(read, first), list[T]()
                if since >= rows.end:
                    return read
                if rows.level:  # a row is of the samples of several files: all of it, or nothing
                    since = first
                for table in rows.tables(*span, since):
                    found += visit(table)
                self.damaged += rows.damaged
        except FileNotFoundError:
            raise
        except segment.Short:  # its writer died, or is about to write it
            return read
        except (OSError, segment.NewerVersion):
            return self._left_out(folder, first, read)
        return self._put(read, _Read(since, rows.end, found))

    def _put(self, read: Iterable[_Read[T]], new: _Read[T]) -> list[_Read[T]]:
        """Return what is read, with this instead of whatever has some of its positions."""
        left = [one for one in read if one.end <= new.first or one.first >= new.end]
        gone = [one for one in read if one not in left]
        # What else these had is in other files by now, which are looked for again.
        self._is_complete &= all(new.first <= one.first and one.end <= new.end for one in gone)
        return [*left, new]

    def _complain(self) -> None:
        self.damaged += 1

    def _left_out(self, folder: str, first: int, read: list[_Read[T]]) -> list[_Read[T]]:
        """Count a file that cannot be read, once."""
        name = f"{folder}/{first}"
        self.damaged += name not in self._bad
        self._bad.add(name)
        return read


def _upto(read: Iterable[_Read[T]], first: int) -> int:
    """Return up to which position everything from `first` on is read."""
    for one in sorted(read, key=lambda one: one[:2]):
        if one.first <= first < one.end:
            first = one.end
    return first
