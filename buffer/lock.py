"""One writer at a time: an advisory lock on a file that names its holder.

The kernel releases it when the process ends, however it ends; a stale pid in the file means nothing.  What has the
name of the lock and is no regular file is moved out of the way, since nobody can hold it.

The holder shows how its disk is by two more locks on the same file (`Lock.show`): where the ranges of bytes that are locked begin
and how long they are is what is to be said.  The kernel keeps that, so that it can be said and read where nothing can be written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from contextlib import suppress
from typing import NamedTuple

from buffer.errors import BufferInUse
from buffer.fs import RealFs

STATES = ("ok", "full", "readonly", "failing")
"""What a disk can be."""
_PATIENCE = 1.0
_MISSED = 1 << 48
"""Where the second range begins: behind any end of the first one."""
_RANGE = struct.Struct("@hhqqi0q")
"""The kernel's struct flock: type, whence, first byte, bytes, pid."""


class Lock:
    """Held from construction to `close`.  Raises BufferInUse where another process holds it, and OSError."""

    def __init__(self, path: str) -> None:
        try:
            self._fd, is_writable = _open(path), True
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            # It locks all the same, but names nobody.
            self._fd, is_writable = RealFs(os.path.dirname(path)).open(path), False
        deadline = time.monotonic() + _PATIENCE
        while not _take(self._fd, fcntl.LOCK_EX):
            # `holder` takes a shared lock for an instant: wait for that.
            if time.monotonic() > deadline:
                pid = _pid(self._fd)
                os.close(self._fd)
                raise BufferInUse(
                    path,
                    f"the buffer is in use by process {pid or 'unknown'}",
                    "Stop that process, or set another data_dir.",
                )
            time.sleep(0.02)
        if is_writable:
            with suppress(OSError):  # a full disk: the lock holds without a name
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        self.show()

    @property
    def is_there(self) -> bool:
        """Whether the file has not been removed: else another process could take the same lock."""
        return os.fstat(self._fd).st_nlink > 0

    def show(self, state: str = STATES[0], unbuffered: int = 0, missed: int = 0) -> None:
        """Show everybody how the disk is, how many samples were appended in memory, and the running total of missed ones."""
        first = len(STATES) * os.getpid() + STATES.index(state)
        ranges = (fcntl.F_RDLCK, first, unbuffered + 1), (fcntl.F_RDLCK, _MISSED, missed + 1)
        with suppress(OSError, AttributeError):  # only Linux has such locks, and not on every file system
            for kind, *span in (fcntl.F_UNLCK, 0, 0), *ranges:
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _RANGE.pack(kind, os.SEEK_SET, *span, 0))

    def close(self) -> None:
        """Release the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Holder(NamedTuple):
    """The process that holds a lock, how its disk is, and how many samples it has appended in memory.

    `missed` is its running total of samples that could not be collected; 0 while it has nothing in memory.
    """

    pid: int | None
    state: str = STATES[0]
    unbuffered: int = 0
    missed: int = 0


def look(path: str) -> Holder | None:
    """Return who holds the lock, or None.  Changes nothing."""
    try:
        fd = RealFs(os.path.dirname(path)).open(path)
    except OSError:
        return None
    try:
        return None if _take(fd, fcntl.LOCK_SH) else _shown(fd) or Holder(_pid(fd))
    finally:
        os.close(fd)


def holder(path: str) -> int | None:
    """Return the pid of the process that holds the lock, or None.  Changes nothing."""
    found = look(path)
    return found.pid if found is not None else None


def _shown(fd: int) -> Holder | None:
    """Return what `Lock.show` shows; None where that is nothing."""
    with suppress(OSError, AttributeError):
        first, count = _locked(fd, 0, _MISSED)
        if first and count:
            missed = _locked(fd, _MISSED, 0)[1]
            return Holder(first // len(STATES), STATES[first % len(STATES)], count - 1, max(0, missed - 1))
    return None


def _locked(fd: int, start: int, length: int) -> tuple[int, int]:
    """Return the first byte and the length of what is locked in a range; zeros if nothing is.  A length of 0 is to the end."""
    asked = _RANGE.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind, _, first, count, _ = _RANGE.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
    return (first, count) if kind == fcntl.F_RDLCK else (0, 0)


def _open(path: str) -> int:
    """Open the file for writing, or create it."""
    fs = RealFs(os.path.dirname(path))
    while True:
        try:
            return fs.modify(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.EMLINK, errno.EFBIG):
                raise
            fs.rename(path, path + ".damaged")
        try:
            return fs.create(path)
        except FileExistsError:
            continue  # another process was faster


def _take(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
