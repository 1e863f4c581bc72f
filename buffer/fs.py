"""The handful of file calls that the buffer makes, so that a test can make any of them fail.

Everything raises OSError as the system does.  Paths are strings.  `write` may write less than it was
given: the caller looks at what it returns.

Here is decided how a file is opened that somebody else may have put there (`open_foreign`): never through a link, never
waiting, and only a regular file.  Whatever else has its name is an error of the kind that a bad disk makes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Protocol

from buffer.owner import acting_in

TEMPORARY = ".tmp"
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FOREIGN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SMALL, _HOLES = 64 << 20, 64
"""A file above the one size, of which the disk holds less than one part in the other, is taken for no file of ours."""


def open_foreign(name: str, *, folder: int | None = None, write: bool = False) -> int:
    """Open a file of a folder (a descriptor) that others may write to.  Raises OSError where it is no regular file.

    With `write` also where it has a second name, which may be anywhere.  A huge file of holes, which takes nobody
    anything to make and would take hours to read, is refused too.
    """
    # Looked at before, since to open a device can be to act; and again after, since it may have been exchanged.
    _check(os.stat(name, dir_fd=folder, follow_symlinks=False), write=write)
    fd = os.open(name, (os.O_RDWR if write else os.O_RDONLY) | _FOREIGN, dir_fd=folder)
    try:
        _check(os.fstat(fd), write=write)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check(found: os.stat_result, *, write: bool) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "it is a symbolic link")
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if found.st_size > _SMALL and found.st_blocks * 512 < found.st_size // _HOLES:
        raise OSError(errno.EFBIG, "it is a huge file of holes")
    if write and found.st_nlink > 1:
        raise OSError(errno.EMLINK, "it has a second name (a hard link)")


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
    """The system's own calls.  Files are readable by their owner only.

    Below `root`, the data directory, no folder is entered through a link: each is opened by the descriptor of the one
    above it, so nothing outside is reached, whatever is exchanged meanwhile.  There root acts as the owner of that
    directory (`buffer.owner`), unless `as_owner` is False: for a medium that may hang, because who acts as somebody else keeps
    everybody from that meanwhile.
    """

    def __init__(self, root: str = "", *, as_owner: bool = True) -> None:
        self._root, self._as_owner = root, as_owner

    def create(self, path: str) -> int:
        """Create a new file for writing; FileExistsError where there is one."""
        with self._parent(path) as (folder, name):
            return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)

    def open(self, path: str) -> int:
        """Open a file for reading, as `open_foreign` does."""
        with self._parent(path) as (folder, name):
            return open_foreign(name, folder=folder)

    def modify(self, path: str) -> int:
        """Open a file for reading and writing in place, as `open_foreign` does."""
        with self._parent(path) as (folder, name):
            return open_foreign(name, folder=folder, write=True)

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
        with self._parent(path) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size

    def sync(self, fd: int) -> None:
        """Return when the file's data is on the medium."""
        os.fdatasync(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def rename(self, old: str, new: str) -> None:
        """Replace `new` by `old`, atomically."""
        with self._parent(old) as (source, name), self._parent(new) as (target, new_name):
            os.replace(name, new_name, src_dir_fd=source, dst_dir_fd=target)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        with self._parent(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def list(self, folder: str) -> list[str]:
        """Return the names in a folder."""
        with self._opened(folder, readable=True) as fd:
            return os.listdir(fd)

    def make_folder(self, folder: str) -> None:
        """Create a folder and those above it, for their owner only."""
        below = _below(self._root, folder)
        os.makedirs(folder if below is None else self._root, mode=0o700, exist_ok=True)
        for count in range(1, len(below or ()) + 1):
            path = "/".join((self._root, *(below or ())[:count]))
            with self._parent(path) as (above, name), suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=above)
            with self._opened(path):  # raises where it is something else
                pass

    def remove_folder(self, folder: str) -> None:
        """Remove an empty folder."""
        with self._parent(folder) as (above, name):
            os.rmdir(name, dir_fd=above)

    def sync_folder(self, folder: str) -> None:
        """Return when the folder's entries are on the medium."""
        with self._opened(folder, readable=True) as fd:
            os.fsync(fd)

    def free(self, folder: str) -> tuple[int, int]:
        """Return the bytes that are free to us on the volume, and its size."""
        stat = os.statvfs(folder)
        return stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """Open the folder of a file; yield its descriptor, and the file's name in it.  Errors name the whole path."""
        above, _, name = path.rpartition("/")
        try:
            with self._opened(above or ("/" if path[:1] == "/" else ".")) as fd:
                yield fd, name
        except OSError as error:
            error.filename = path
            raise

    @contextmanager
    def _opened(self, folder: str, *, readable: bool = False) -> Iterator[int]:
        """Open a folder: only to find something in it, unless it is to be `readable`."""
        how = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC if readable else _FOLDER
        below = _below(self._root, folder)
        # The way to the root may be one that its owner cannot go (a container's volume, say): that is ours to go.
        fd = os.open(folder if below is None else self._root, how)
        try:
            with acting_in(fd) if below is not None and self._as_owner else nullcontext():
                for name in below or ():
                    fd, above = os.open(name, how | os.O_NOFOLLOW, dir_fd=fd), fd
                    os.close(above)
                yield fd
        finally:
            os.close(fd)


def _below(root: str, path: str) -> list[str] | None:
    """Return the names that lead from the root to a path; None where that is elsewhere, or there is no root."""
    if not root or not (path == root or path.startswith(f"{root}/")):
        return None
    return [name for name in path[len(root) :].split("/") if name]


def make_way(fs: Fs, folder: str) -> None:
    """Make a folder; what has its place and is no folder is renamed, and kept for a person to see.  Raises OSError."""
    try:
        fs.make_folder(folder)
    except (FileExistsError, NotADirectoryError):
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
