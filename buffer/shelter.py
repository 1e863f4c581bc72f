"""The file system of a buffer whose disk can be ill: the disk, and new segments in memory while it is.

Promises: a segment is in one of the two, and is found under its name wherever it is.  While `active`, new segments are
created in memory, and one on the disk that has to be changed is copied there; everything else is still attempted on the disk.  While `blind`, nothing is: nobody could find out
what is on it, so nothing of it may be changed.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Any

from buffer.fs import TEMPORARY, Fs, write_new
from buffer.memory import FIRST_DESCRIPTOR, MemoryFs
from buffer.segment import SUFFIX

BLOCK = 4096
"""Bytes that a file takes of a disk at least."""


class Shelter:
    """See above."""

    # ruff: noqa: D102
    def __init__(self, disk: Fs, capacity: int) -> None:
        self.real, self.memory = disk, MemoryFs(capacity)
        self.active = self.blind = False
        self._known: set[str] = set()
        """The paths of segments that are on the disk."""

    @property
    def _disk(self) -> Fs:
        if self.blind:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self.real

    def __getattr__(self, name: str) -> Any:
        """Return a call that concerns the disk alone."""
        return getattr(self._disk, name)

    def create(self, path: str) -> int:
        if not path.endswith(SUFFIX):
            return self._disk.create(path)
        if self.active:
            return self.memory.create(path)
        fd = self._disk.create(path)
        self._known.add(path)
        return fd

    def open(self, path: str) -> int:
        return self.memory.open(path) if path in self.memory.files else self._disk.open(path)

    def modify(self, path: str) -> int:
        if path in self.memory.files:
            return self.memory.open(path)
        if self.active and path.endswith(SUFFIX):
            self._copy(path)
            return self.memory.open(path)
        return self._disk.modify(path)

    def _copy(self, path: str) -> None:
        """Have a segment of the ill disk in memory, where it can be changed.  Raises OSError; half of the memory is for new ones."""
        size = self._disk.size(path)
        if self.memory.used + size > self.memory.capacity // 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        fd = self._disk.open(path)
        try:
            data = bytearray()
            while more := self._disk.read(fd, size - len(data), len(data)):
                data += more
        finally:
            self._disk.close(fd)
        self.memory.files[path] = data

    def _with(self, fd: int) -> Fs | MemoryFs:
        return self.memory if fd >= FIRST_DESCRIPTOR else self._disk

    def write(self, fd: int, data: bytes, at: int) -> int:
        return self._with(fd).write(fd, data, at)

    def truncate(self, fd: int, size: int) -> None:
        self._with(fd).truncate(fd, size)

    def read(self, fd: int, size: int, at: int) -> bytes:
        return self._with(fd).read(fd, size, at)

    def size(self, path: str) -> int:
        data = self.memory.files.get(path)
        return self._disk.size(path) if data is None else len(data)

    def sync(self, fd: int) -> None:
        if fd < FIRST_DESCRIPTOR:
            self._disk.sync(fd)

    def close(self, fd: int) -> None:
        if fd >= FIRST_DESCRIPTOR:
            self.memory.close(fd)
        else:
            self.real.close(fd)

    def rename(self, old: str, new: str) -> None:
        self._disk.rename(old, new)
        self.memory.files.pop(new, None)
        self._known.discard(old)

    def unlink(self, path: str) -> None:
        if path in self.memory.files:
            self.memory.unlink(path)
        else:
            self._disk.unlink(path)
            self._known.discard(path)

    def list(self, folder: str) -> list[str]:
        """Return the names; none where the folder is missing.

        What is on a disk that cannot be listed is not gone: while `active`, it is what was there the last time.
        """
        try:
            found = self._disk.list(folder)
        except OSError as error:
            if not self.active and not isinstance(error, FileNotFoundError):
                raise
            missing = self.blind or isinstance(error, FileNotFoundError)
            known = () if missing else self._known
            found = [path.rpartition("/")[2] for path in known if path.startswith(f"{folder}/")]
        self._known |= {f"{folder}/{name}" for name in found if name.endswith(SUFFIX)}
        return list({*found, *self.memory.list(folder)})

    def probe(self, folder: str) -> None:
        """Write the files that are needed next, make them durable, and remove them.  Raises OSError.

        One for each in memory and one more, so that a disk with a single inode left is not taken up in vain.
        """
        paths = [f"{folder}/probe{i}{TEMPORARY}" for i in range(len(self.memory.files) + 1)]
        try:
            for path in paths:
                write_new(self.real, path, bytes(BLOCK))
        finally:
            for path in paths:
                with suppress(FileNotFoundError):
                    self.real.unlink(path)

    def settle_down(self) -> None:
        """Move everything that is in memory to the disk, oldest first.  Raises OSError; the rest is still in memory."""
        for path in sorted(self.memory.files):
            temporary = path + TEMPORARY
            try:
                self.real.unlink(temporary)
            except FileNotFoundError:
                pass
            write_new(self.real, temporary, bytes(self.memory.files[path]))
            self.rename(temporary, path)
            self.real.sync_folder(path.rpartition("/")[0])
