"""The catalog of a log: which segment files it has, how large they are, and which positions were thinned away."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

from buffer import segment
from buffer.fs import Fs
from buffer.placing import Unplaced
from buffer.segment import Header, Note
from buffer.thin import replace


class Catalog:
    """The segment files of one folder.  `end` is the position after the last record."""

    def __init__(
        self, fs: Fs, folder: str, sizes: dict[int, int], thinned: dict[int, Header], end: int
    ) -> None:
        self._fs, self.folder = fs, folder
        self._lock = threading.Lock()
        self.sizes, self.thinned, self.end = sizes, thinned, end
        self.in_memory_from: int | None = None
        """The position of the first record that was appended while the disk was ill (`Log.leave`)."""
        self.unplaced: dict[int, Unplaced] = {}
        """The provisional segments whose times nobody knows yet, by their first positions."""
        self.unmarked: list[tuple[Unplaced, Note]] = []
        """What was placed by an estimate, and has no series yet that shows it."""
        self._stuck: dict[int, int] = {}
        """The sizes of files that count no more and could not be removed: they still take room."""
        self.written = 0

    @property
    def size(self) -> int:
        """The size of all segment files."""
        return sum(self.sizes.values()) + sum(self._stuck.values())

    @property
    def first(self) -> int:
        """The position of the oldest record."""
        return min(self.sizes, default=self.end)

    def _path(self, first: int) -> str:
        return f"{self.folder}/{segment.name(first)}"

    def drop_oldest(self) -> None:
        """Remove the oldest segment file that may go (`oldest`).  Raises OSError."""
        if (found := self.oldest()) is None:
            raise ValueError("the newest segment is never dropped")
        self.drop(found[0])

    def drop(self, first: int) -> None:
        """Remove one segment file, which must not be the newest.  Raises OSError."""
        with suppress(FileNotFoundError):
            self._fs.unlink(self._path(first))
        self._discount(first)

    def hand_over(self, first: int, folder: str) -> int:
        """Move one segment file, which must not be the newest, to another folder, and return its size.  Raises OSError."""
        size = self.sizes[first]
        self._fs.rename(self._path(first), f"{folder}/{segment.name(first)}")
        self._discount(first)
        return size

    def give_up(self, first: int) -> None:
        """Leave a segment file that cannot be removed: nothing in it counts any more, but its size does."""
        self._stuck[first] = self.sizes[first]
        self._discount(first)

    def sweep(self) -> None:
        """Try again to remove the files that could not be removed."""
        for first in tuple(self._stuck):
            with suppress(OSError):
                self._fs.unlink(self._path(first))
                del self._stuck[first]

    def _discount(self, first: int) -> None:
        with self._lock:
            del self.sizes[first]
            self.thinned.pop(first, None)
            self.unplaced.pop(first, None)
            self.unmarked = [each for each in self.unmarked if each[0].first != first]

    def segments(self) -> list[tuple[Header, int]]:
        """Return the headers of all segments, with their ends filled in, and their sizes in bytes; oldest first."""
        with self._lock:
            firsts = sorted(self.sizes)
            ends = [*firsts, self.end][1:]
            # What is not marked is still to be written to.
            bases = {
                one.first: one.base_ms
                for one in (*self.unplaced.values(), *(one for one, _ in self.unmarked))
            }
            return [
                (
                    self.thinned.get(first) or Header(first, 0, end, end - first, bases.get(first)),
                    self.sizes[first],
                )
                for first, end in zip(firsts, ends, strict=True)
            ]

    def holes_in(self, spans: Sequence[tuple[int, int]]) -> int:
        """Return how many of the positions in these spans were thinned away; see `Header.holes`."""
        if not self.thinned:  # nearly always
            return 0
        with self._lock:
            return sum(header.holes(spans) for header in self.thinned.values())

    def thin(self, old: Sequence[Header], level: int) -> None:
        """Replace consecutive segments, none of them the newest, by a thinned one; see `buffer.thin.replace`."""
        header, size = replace(self._fs, self.folder, old, level)
        self.written += size
        with self._lock:
            self.sizes[header.first_seq], self.thinned[header.first_seq] = size, header
            for each in old[1:]:  # they count no more, even if they cannot be removed now
                del self.sizes[each.first_seq]
                self.thinned.pop(each.first_seq, None)
        for each in old[1:]:
            with suppress(OSError):
                self._fs.unlink(self._path(each.first_seq))

    def oldest(self) -> tuple[int, int] | None:
        """Return where the oldest file begins that may go, and where the next one does; None where none may.

        The newest one may not, and while the disk is ill neither may the newest one on it: they carry the numbering.
        """
        with self._lock:
            for first, after in pairwise(sorted(self.sizes)):
                if self.in_memory_from is None or not first < self.in_memory_from <= after:
                    return first, after
            return None

    def second(self) -> int | None:
        """Return the first position after the oldest file that may go, or None where none may."""
        found = self.oldest()
        return found[1] if found is not None else None
