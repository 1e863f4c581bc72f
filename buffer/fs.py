"""The handful of file calls that the buffer makes, so that a test can make any of them fail.

Everything raises OSError as the system does.  Paths are strings.  `write` may write less than it was
given: the caller looks at what it returns.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Protocol

TEMPORARY = ".tmp"


class Fs(Protocol):
    """What the buffer needs of a file system; `RealFs` says what each call does."""

    # ruff: noqa: D102
    def create(self, path: str) -> int: ...
    def open(self, path: str) -> int: ...
    def modify(self, path: str) -> int: ...
    def write(self, fd: int, data: bytes, at: int) -> int: ...
    def truncate(self, fd: int, size: int) -> None: ...
    def read(self, fd: int, size: int, at: int) -> bytes: ...
    def size(self, path: str) -> int: ...
    def sync(self, fd: int) -> None: ...
    def close(self, fd: int) -> None: ...
    def rename(self, old: str, new: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def list(self, folder: str) -> list[str]: ...
    def make_folder(self, folder: str) -> None: ...
    def remove_folder(self, folder: str) -> None: ...
    def sync_folder(self, folder: str) -> None: ...
    def free(self, folder: str) -> tuple[int, int]: ...


class RealFs:
    """The system's own calls.  Files are readable by their owner only."""

    def create(self, path: str) -> int:
        """Create a new file for writing; FileExistsError where there is one."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def open(self, path: str) -> int:
        """Open a file for reading.  A pipe of that name holds nobody up: it is empty, or an error."""
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def modify(self, path: str) -> int:
        """Open a file for reading and writing in place."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, fd: int, data: bytes, at: int) -> int:
        """Write at offset `at`, and return how many bytes were written."""
        return os.pwrite(fd, data, at)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(fd, size)

    def read(self, fd: int, size: int, at: int) -> bytes:
        """Return up to `size` bytes from offset `at`."""
        return os.pread(fd, size, at)

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        return os.stat(path).st_size

    def sync(self, fd: int) -> None:
        """Return when the file's data is on the medium."""
        os.fdatasync(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def rename(self, old: str, new: str) -> None:
        """Replace `new` by `old`, atomically."""
        os.replace(old, new)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def list(self, folder: str) -> list[str]:
        """Return the names in a folder."""
        return os.listdir(folder)

    def make_folder(self, folder: str) -> None:
        """Create a folder and those above it, for their owner only."""
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def remove_folder(self, folder: str) -> None:
        """Remove an empty folder."""
        os.rmdir(folder)

    def sync_folder(self, folder: str) -> None:
        """Return when the folder's entries are on the medium."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free(self, folder: str) -> tuple[int, int]:
        """Return the bytes that are free to us on the volume, and its size."""
        stat = os.statvfs(folder)
        return stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize


def make_way(fs: Fs, folder: str) -> None:
    """Make a folder; what has its place and is no folder is renamed, and kept for a person to see.  Raises OSError."""
    try:
        fs.make_folder(folder)
    except FileExistsError:
        set_apart(fs, folder)
        fs.make_folder(folder)


def set_apart(fs: Fs, path: str) -> None:
    """Rename what has the place of a file or folder.  Raises OSError."""
    fs.rename(path, path.rstrip("/") + ".damaged")


def write_atomic(fs: Fs, path: str, data: bytes) -> None:
    """Replace the file's contents: after a power cut it holds the old ones or the new ones, whole."""
    temporary = path + TEMPORARY
    with suppress(FileNotFoundError):
        fs.unlink(temporary)  # of a process that died here
    write_new(fs, temporary, data)
    fs.rename(temporary, path)


def write_new(fs: Fs, path: str, data: bytes) -> None:
    """Write a new file and make its data durable; FileExistsError where there is one."""
    fd = fs.create(path)
    try:
        write_all(fs, fd, data, 0)
        fs.sync(fd)
    finally:
        fs.close(fd)


def write_all(fs: Fs, fd: int, data: bytes, at: int) -> int:
    """Write all the data at offset `at` by one call, and return its size.  Raises OSError, also for a short write."""
    if (written := fs.write(fd, data, at)) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return written


def names(fs: Fs, folder: str) -> list[str]:
    """Return the sorted names in a folder; none where there is no such folder."""
    try:
        return sorted(fs.list(folder))
    except FileNotFoundError:
        return []


def read_all(fs: Fs, path: str, limit: int) -> bytes:
    """Return the file's first `limit` bytes."""
    fd = fs.open(path)
    try:
        return fs.read(fd, limit, 0)
    finally:
        fs.close(fd)
