"""Keeping history: which files there are, and which of them go, the oldest first.

Promises: a file that is kept was settled for every destination, so nothing of it is counted again, whatever becomes of it.
History takes at most `max_size`, and never room that the log needs (`buffer.room`).  It goes when its newest sample is
older than its tier allows, one file in AGING seconds at most: a clock that is wrong for a while costs a file or two.  The
time of a file that lies in the future is no age.

Nothing here is worth an error of the log: what cannot be read has no age, and what cannot be removed is tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from itertools import pairwise

from buffer import segment
from buffer.fs import Fs, make_way
from buffer.limits import Tiers
from buffer.reader import File
from buffer.segment import Record

FOLDER = "history"
AGING = 600.0
"""Seconds between two files that go for their age."""
MOST_FILES = 1024
"""Each takes a block of the disk and an inode at least; a box that restarts every minute makes very small ones."""


class History:
    """The files of one folder, which may not exist.  One thread at a time."""

    def __init__(self, fs: Fs, data_dir: str, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._fs, self.folder, self._clock, self._wall = fs, f"{data_dir}/{FOLDER}", clock, wall
        self._sizes: dict[int, int] = {}
        self._begins: dict[int, int | None] = {}
        self._aged = -AGING
        with suppress(OSError):
            for first in segment.listing(fs, self.folder):
                self._sizes[first] = fs.size(self._path(first))

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(self._sizes.values())

    def _path(self, first: int) -> str:
        return f"{self.folder}/{segment.name(first)}"

    def last(self) -> int | None:
        """Return where the newest file begins; None where there is none."""
        return max(self._sizes, default=None)

    def make_folder(self) -> None:
        """Make the folder.  Raises OSError."""
        make_way(self._fs, self.folder)

    def took(self, first: int, size: int) -> None:
        """Count a file that is in the folder by now."""
        self._sizes[first] = size

    def drop_oldest(self) -> bool:
        """Remove the oldest file; False where there is none, or it cannot be removed."""
        first = min(self._sizes, default=None)
        if first is None:
            return False
        try:
            with suppress(FileNotFoundError):
                self._fs.unlink(self._path(first))
        except OSError:
            return False
        del self._sizes[first]
        self._begins.pop(first, None)
        return True

    def drop_before(self, position: int, log_begins: int) -> None:
        """Remove the oldest files as long as all their positions are before this one; the log begins at `log_begins`."""
        for _, after in list(pairwise([*sorted(self._sizes), log_begins])):
            if after > position or not self.drop_oldest():
                return

    def keep_to(self, tiers: Tiers, log_folder: str, log_begins: int) -> None:
        """Remove what is over the size, and one file at most whose age is over.  The log begins there."""
        if not tiers.raw:
            while self.drop_oldest():
                pass
        while (self.size > tiers.max_size or len(self) > MOST_FILES) and self.drop_oldest():
            pass
        now = self._clock()
        if self._sizes and now - self._aged >= AGING:
            self._aged = now
            newest = self._newest_ms(log_folder, log_begins)
            if newest is not None and newest < self._wall() * 1000 - tiers.raw * 1000:
                self.drop_oldest()

    def _newest_ms(self, log_folder: str, log_begins: int) -> int | None:
        """Return a time that nothing in the oldest file is newer than; None where it is not known.

        It is where the file after it begins, or where it begins itself: a clock that was behind for a while makes none old.
        """
        first, after = [*sorted(self._sizes), log_begins][:2]
        folder = self.folder if after in self._sizes else log_folder
        times = [self._time_of(self.folder, first), self._time_of(folder, after)]
        past = [t for t in times if t is not None and t <= self._wall() * 1000]
        return max(past) if len(past) == len(times) else None

    def _time_of(self, folder: str, first: int) -> int | None:
        """Return the wall time in ms of a file's first record."""
        if first not in self._begins:
            found = None
            with (
                suppress(OSError, segment.Short, segment.NewerVersion),
                closing(File(self._fs, folder, first)) as file,
            ):
                found = file.next()
            if not isinstance(found, Record):
                return None
            self._begins[first] = found.wall_ms
        return self._begins[first]
