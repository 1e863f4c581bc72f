"""Keeping history: which files there are, and which of them go, the oldest first.

Promises: a file that is kept was settled for every destination, so nothing of it is counted again, whatever becomes of it.
Of two files that hold the same positions, the packed or coarser one counts; the others are removed, at the latest when the
buffer is opened again.

Nothing here is worth an error of the log: what cannot be read is left alone, and what cannot be removed is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from typing import NamedTuple

from buffer import segment
from buffer.fs import TEMPORARY, Fs, make_way
from buffer.history import packed
from buffer.history.packed import Head, PackedFile

FOLDER = "history"
MOST_FILES = 1024
"""Each takes a block of the disk and an inode at least; a box that restarts every minute makes very small ones."""


class Kept(NamedTuple):
    """A file: a segment as the log left it, or a packed one, whose head is known if it can be read."""

    first: int
    is_segment: bool
    size: int
    head: Head | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return segment.name(self.first) if self.is_segment else packed.name(self.first)


class History:
    """The files of one folder, which may not exist.  One thread at a time."""

    def __init__(self, fs: Fs, data_dir: str) -> None:
        self._fs, self.folder = fs, f"{data_dir}/{FOLDER}"
        self.files: list[Kept] = []
        """Oldest first."""
        self.size = 0
        """Of all files, in bytes."""
        with suppress(OSError):
            self._load()

    def _load(self) -> None:
        for entry in self._fs.list(self.folder):
            if entry.endswith(TEMPORARY):  # of a process that died
                self._unlink(entry)
        for first in packed.listed(self._fs, self.folder):
            head = None
            with suppress(OSError, ValueError), closing(PackedFile(self._fs, self.folder, first)) as file:
                head = file.head
            self._add(first, head, is_segment=False)
        for first in segment.listing(self._fs, self.folder):
            self._add(first, None, is_segment=True)
        for head in [one.head for one in self.files if one.head is not None]:
            self._remove_covered(head)

    def _add(self, first: int, head: Head | None, *, is_segment: bool, size: int | None = None) -> None:
        one = Kept(first, is_segment, 0, head)
        with suppress(FileNotFoundError):
            self._put(one._replace(size=self._fs.size(f"{self.folder}/{one.name}") if size is None else size))

    def _put(self, one: Kept) -> None:
        self._discount([each for each in self.files if each[:2] == one[:2]])
        self.files = sorted([*self.files, one], key=lambda each: each[:2])
        self.size += one.size

    def _discount(self, gone: Sequence[Kept]) -> None:
        self.files = [one for one in self.files if one not in gone]
        self.size -= sum(one.size for one in gone)

    def __len__(self) -> int:
        return len(self.files)

    def make_folder(self) -> None:
        """Make the folder.  Raises OSError."""
        make_way(self._fs, self.folder)

    def took(self, first: int, size: int) -> None:
        """Count a segment that is in the folder by now."""
        self._add(first, None, is_segment=True, size=size)

    def took_packed(self, head: Head, size: int, instead_of: Sequence[Kept] = ()) -> None:
        """Count a packed file that is in the folder by now, and remove those whose place it takes."""
        self._add(head.first_seq, head, is_segment=False, size=size)
        self._remove_covered(head)
        for one in instead_of:
            self.drop(one)

    def _remove_covered(self, head: Head) -> None:
        for one in self.files:
            if not one.is_segment and head.first_seq < one.first < head.end_seq:
                self.drop(one)

    def packed_until(self, first: int, following: int | None) -> int:
        """Return up to which position the segment that begins at `first` is packed already; `following` is after it."""
        heads = [one.head for one in self.files if one.head is not None]
        ends = [one.end_seq for one in heads if following is None or one.first_seq < following]
        return max([first, *ends])

    def drop(self, one: Kept) -> bool:
        """Remove a file; False where it cannot be removed."""
        if self._unlink(one.name):
            self._discount([each for each in self.files if each[:2] == one[:2]])
            return True
        return False

    def drop_oldest(self) -> bool:
        """Remove the oldest file that can be removed; False where there is none."""
        return any(self.drop(one) for one in self.files)

    def drop_before(self, position: int, log_begins: int) -> None:
        """Remove the oldest files as long as all their positions are before this one; the log begins at `log_begins`."""
        firsts = [*(one.first for one in self.files), log_begins]
        for one, after in zip(list(self.files), firsts[1:], strict=True):
            end = one.head.end_seq if one.head is not None else after
            if end > position or not self.drop(one):
                return

    def _unlink(self, entry: str) -> bool:
        try:
            with suppress(FileNotFoundError):
                self._fs.unlink(f"{self.folder}/{entry}")
        except OSError:
            return False
        return True
