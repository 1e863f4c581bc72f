"""Whether the medium of a destination is there, and a way to it that leads nowhere else.

A stick that was pulled leaves an empty folder on the host's own disk. What is written there fills that disk, and is hidden when
the stick is back. So files go only to:

- a folder that is a mount point: what is mounted there is another file system than that of the folder above;
- or one that holds a MARKER, a file that somebody has put there: for a folder on this disk, or a bind mount.

`opened` keeps the folder open meanwhile, and its path leads to what is open: also if it is unmounted at this very moment. No link on
the medium is followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from agent.config import File
from buffer.fs import Fs, RealFs

MARKER = ".limpet-files"
_MOUNTS = "/proc/self/mountinfo"


class NotThereError(Exception):
    """There is no medium; the message says what to do."""


@contextmanager
def opened(to: File) -> Iterator[tuple[Fs, str]]:
    """Yield the files of the medium, and the destination's folder there, which may not exist yet. Raises NotThereError and OSError."""
    fd, below = _open(to)
    top = f"/proc/self/fd/{fd}"
    try:
        yield RealFs(top, as_owner=False), top + below
    finally:
        os.close(fd)


def volume(to: File) -> int:
    """Return the device number of the medium. Raises as `opened` does."""
    fd, _ = _open(to)
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def _open(to: File) -> tuple[int, str]:
    """Open the mount point, or the folder with a marker; return it, and the way from there to the path."""
    try:
        fd = os.open(to.mounted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotThereError(f"nothing is mounted at {to.mounted}, which does not exist: {_do(to)}") from None
    try:
        if os.fstat(fd).st_dev != os.stat("..", dir_fd=fd).st_dev:
            return fd, to.path.removeprefix(to.mounted.rstrip("/"))
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    try:
        fd = os.open(to.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotThereError(f"nothing is mounted at {to.mounted}: {_do(to)}") from None
    if MARKER in os.listdir(fd):
        return fd, ""
    os.close(fd)
    raise NotThereError(f"nothing is mounted at {to.mounted}: {_do(to)}")


def _do(to: File) -> str:
    return f"mount the medium; where the files belong on this disk, make {to.path}/{MARKER}"


def mounts() -> bytes:
    """Return what changes when something is mounted or unmounted. It asks no file system, so it does not hang."""
    try:
        with open(_MOUNTS, "rb") as file:
            return file.read()
    except OSError:
        return b""
