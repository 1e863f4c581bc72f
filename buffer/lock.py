"""One writer at a time: an advisory lock on a file that names its holder.

The kernel releases it when the process ends, however it ends; a stale pid in the file means nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress

from buffer.errors import BufferInUse

_PATIENCE = 1.0


class Lock:
    """Held from construction to `close`.  Raises BufferInUse where another process holds it."""

    def __init__(self, path: str) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            is_writable = True
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # it locks all the same, but names nobody
            is_writable = False
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

    @property
    def is_there(self) -> bool:
        """Whether the file has not been removed: else another process could take the same lock."""
        return os.fstat(self._fd).st_nlink > 0

    def close(self) -> None:
        """Release the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def holder(path: str) -> int | None:
    """Return the pid of the process that holds the lock, or None.  Changes nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _take(fd, fcntl.LOCK_SH) else _pid(fd)
    finally:
        os.close(fd)


def _take(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
