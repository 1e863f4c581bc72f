"""One writer at a time: an advisory lock on a file that names its holder.

The kernel releases it when the process ends, however it ends; a stale pid in the file means nothing.  What has the
name of the lock and is no regular file is moved out of the way, since nobody can hold it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress

from buffer.errors import BufferInUse
from buffer.fs import RealFs

_PATIENCE = 1.0


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
        fd = RealFs(os.path.dirname(path)).open(path)
    except OSError:
        return None
    try:
        return None if _take(fd, fcntl.LOCK_SH) else _pid(fd)
    finally:
        os.close(fd)


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
