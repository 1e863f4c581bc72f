"""A small file system in memory: where the log continues while the disk is ill (`buffer.shelter`).

Promises: all files together take at most `capacity` bytes; a write beyond that is refused whole.  A file that was
removed or replaced can be read to its end through its open descriptors.
"""

from __future__ import annotations

import errno
import os
from itertools import count

FIRST_DESCRIPTOR = 1 << 30
"""Descriptors are from here on: no process has so many real ones."""


class MemoryFs:
    """The calls of `buffer.fs.Fs` that a log makes for its segment files.  There are no folders."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.files: dict[str, bytearray] = {}
        self._open: dict[int, bytearray] = {}
        self._numbers = count(FIRST_DESCRIPTOR)

    @property
    def used(self) -> int:
        """Bytes in files."""
        return sum(map(len, tuple(self.files.values())))

    def create(self, path: str) -> int:
        """Create a new file."""
        if path in self.files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self.files[path] = bytearray()
        return self.open(path)

    def open(self, path: str) -> int:
        """Open a file for reading and writing."""
        try:
            data = self.files[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        fd = next(self._numbers)
        self._open[fd] = data
        return fd

    def write(self, fd: int, data: bytes, at: int) -> int:
        """Write at offset `at`, which is not behind the end."""
        file = self._open[fd]
        if self.used + max(0, at + len(data) - len(file)) > self.capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file[at : at + len(data)] = data
        return len(data)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        del self._open[fd][size:]

    def read(self, fd: int, size: int, at: int) -> bytes:
        """Return up to `size` bytes from offset `at`."""
        return bytes(self._open[fd][at : at + size])

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        del self._open[fd]

    def unlink(self, path: str) -> None:
        """Remove a file."""
        del self.files[path]

    def list(self, folder: str) -> list[str]:
        """Return the names of the files in a folder."""
        return [path.rpartition("/")[2] for path in tuple(self.files) if path.rpartition("/")[0] == folder]
