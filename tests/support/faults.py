"""File systems for tests of the buffer: one in memory whose power can be cut, and wrappers that fail.

Each has the calls of `buffer.fs.Fs` and nothing that the real one does not have.  They compose:
`Failing(MemoryFs(), n, eio)` fails call number n, `Failing(MemoryFs(), n, power_cut)` loses power there.
What they promise is tested in `test_buffer_faults.py`: a fake that is kinder than a disk proves nothing.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Collection
from typing import Any

from buffer.fs import Fs, RealFs


class PowerLost(BaseException):
    """The process is gone in the middle of a call.  No `except Exception` catches it."""


class Node:
    """A file: what it holds, and what of that is on the medium."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = b""


class MemoryFs:
    """A file system in memory that forgets, when its power is cut, what was not synced.

    A file's bytes are kept by `sync`, the entries of a folder by `sync_folder`, and each by itself: a synced
    file whose entry was not synced is gone.  Whatever was not synced may survive a power cut or not; `cut`
    takes the choice from a generator of random numbers.  What was done to one folder survives in the order
    in which it was done, as with every file system that keeps a journal; nothing else has an order.
    `capacity` is the size of the volume in bytes; a write that does not fit is short, or fails with ENOSPC.
    """

    def __init__(self, capacity: int = 1 << 40) -> None:
        self.capacity = capacity
        self.entries: dict[str, Node] = {}
        self.durable: dict[str, Node] = {}
        self._history: dict[str, list[dict[str, Node]]] = {}
        self.open_files: dict[int, tuple[Node, bool]] = {}
        self._last_fd = 1000

    # The calls of `Fs`.

    def create(self, path: str) -> int:
        if path in self.entries:
            raise FileExistsError(errno.EEXIST, "exists", path)
        node = self.entries[path] = Node()
        self._changed(path)
        return self._descriptor(node, writable=True)

    def open(self, path: str) -> int:
        return self._descriptor(self._node(path), writable=False)

    def modify(self, path: str) -> int:
        return self._descriptor(self._node(path), writable=True)

    def write(self, fd: int, data: bytes, at: int) -> int:
        node, writable = self._of(fd)
        if not writable:
            raise OSError(errno.EBADF, "not open for writing")
        room = self.capacity - self.used + max(0, len(node.data) - at)
        if data and room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if at > len(node.data):
            node.data += bytes(at - len(node.data))
        node.data[at : at + len(data[:room])] = data[:room]
        return min(len(data), room)

    def truncate(self, fd: int, size: int) -> None:
        node, writable = self._of(fd)
        if not writable:
            raise OSError(errno.EINVAL, "not open for writing")
        node.data = node.data[:size].ljust(size, b"\0")

    def read(self, fd: int, size: int, at: int) -> bytes:
        return bytes(self._of(fd)[0].data[at : at + size])

    def size(self, path: str) -> int:
        return len(self._node(path).data)

    def sync(self, fd: int) -> None:
        node = self._of(fd)[0]
        node.durable = bytes(node.data)

    def close(self, fd: int) -> None:
        self._of(fd)
        del self.open_files[fd]

    def rename(self, old: str, new: str) -> None:
        node = self._node(old)
        del self.entries[old]
        self.entries[new] = node
        self._changed(new)
        if _folder(old) != _folder(new):
            self._changed(old)

    def unlink(self, path: str) -> None:
        self._node(path)
        del self.entries[path]
        self._changed(path)

    def list(self, folder: str) -> list[str]:
        return [path[len(folder) + 1 :] for path in tuple(self.entries) if _folder(path) == folder]

    def make_folder(self, folder: str) -> None:
        """Folders are there when they are needed; these tests are not about folders."""

    def remove_folder(self, folder: str) -> None:
        if self.list(folder):
            raise OSError(errno.ENOTEMPTY, "not empty", folder)

    def sync_folder(self, folder: str) -> None:
        self.durable = {path: node for path, node in self.durable.items() if _folder(path) != folder}
        self.durable |= self._in(folder)
        self._history.pop(folder, None)

    def free(self, folder: str) -> tuple[int, int]:
        return max(0, self.capacity - self.used), self.capacity

    # What a test does to it.

    @property
    def used(self) -> int:
        """Bytes taken, those of removed files that are still open among them."""
        nodes = {id(node): node for node in tuple(self.entries.values())}
        nodes |= {id(node): node for node, _ in tuple(self.open_files.values())}
        return sum(len(node.data) for node in nodes.values())

    def kill(self) -> None:
        """Close what a process that was killed left open."""
        self.open_files.clear()

    def cut(self, choose: random.Random) -> None:
        """Cut the power: keep what was synced, and of the rest whatever `choose` chooses.

        A file keeps what was synced and a part of what was appended
        since, in which a hole of zeros may be.
        """
        self.kill()
        survived: dict[str, Node] = {}
        for folder in sorted({_folder(path) for path in (*self.entries, *self.durable)}):
            synced = {path: node for path, node in self.durable.items() if _folder(path) == folder}
            survived |= choose.choice([synced, *self._history.get(folder, [])])
        self._history.clear()
        for node in {id(node): node for node in survived.values()}.values():
            node.data = _what_is_left(node, choose)
            node.durable = bytes(node.data)
        self.entries = survived
        self.durable = dict(survived)

    def _in(self, folder: str) -> dict[str, Node]:
        return {path: node for path, node in tuple(self.entries.items()) if _folder(path) == folder}

    def _changed(self, path: str) -> None:
        folder = _folder(path)
        self._history.setdefault(folder, []).append(self._in(folder))

    def _node(self, path: str) -> Node:
        try:
            return self.entries[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", path) from None

    def _of(self, fd: int) -> tuple[Node, bool]:
        try:
            return self.open_files[fd]
        except KeyError:
            raise OSError(errno.EBADF, "not an open file") from None

    def _descriptor(self, node: Node, *, writable: bool) -> int:
        self._last_fd += 1
        self.open_files[self._last_fd] = node, writable
        return self._last_fd


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _what_is_left(node: Node, choose: random.Random) -> bytearray:
    if not node.data.startswith(node.durable):  # cut back below what was synced: that may survive or not
        return node.data if choose.random() < 0.5 else bytearray(node.durable)
    kept = node.data[: choose.randint(len(node.durable), len(node.data))]
    if choose.random() < 0.3 and len(kept) > len(node.durable):
        hole = choose.randint(len(node.durable), len(kept) - 1)
        end = choose.randint(hole, len(kept))
        kept[hole:end] = bytes(end - hole)
    return kept


# What goes wrong, given the call and its arguments; each returns what the call returns, or raises.

Fault = Callable[[Fs, str, tuple[Any, ...]], Any]
WRITING = frozenset({"create", "write", "sync", "rename", "sync_folder", "make_folder"})


def eio(inner: Fs, name: str, args: tuple[Any, ...]) -> Any:
    """Fail; a file is closed all the same."""
    if name == "close":
        inner.close(*args)
    raise OSError(errno.EIO, os.strerror(errno.EIO), name)


def disk_full(inner: Fs, name: str, args: tuple[Any, ...]) -> Any:
    """Fail where something would have to be written."""
    if name not in WRITING:
        return getattr(inner, name)(*args)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


def short_write(inner: Fs, name: str, args: tuple[Any, ...]) -> Any:
    """Write half of it; no other call can be short."""
    if name != "write":
        return getattr(inner, name)(*args)
    fd, data, at = args
    return inner.write(fd, data[: len(data) // 2], at)


def broken_write(inner: Fs, name: str, args: tuple[Any, ...]) -> Any:
    """Write half of it, and fail all the same."""
    if name == "write":
        short_write(inner, name, args)
    return eio(inner, name, args)


def died(_inner: Fs, _name: str, _args: tuple[Any, ...]) -> Any:
    """The process is killed before the call, or its machine loses power."""
    raise PowerLost


def died_in_write(inner: Fs, name: str, args: tuple[Any, ...]) -> Any:
    """The process is killed within the call."""
    if name == "write":
        short_write(inner, name, args)
    raise PowerLost


# name: what happens, and to which calls; () means all.
FAULTS: dict[str, tuple[Fault, Collection[str]]] = {
    "eio": (eio, ()),
    "disk_full": (disk_full, WRITING),
    "short_write": (short_write, ["write"]),
    "broken_write": (broken_write, ["write"]),
}
# At a call that reads it is the same as at the next of these.
DEATHS: dict[str, tuple[Fault, Collection[str]]] = {
    "at_a_call": (died, WRITING | {"unlink", "truncate"}),
    "in_a_write": (died_in_write, ["write"]),
}


class Failing:
    """Passes every call on, and lets call number `fail_at` fail, and all later ones where it is `lasting`.

    Where a fault strikes certain calls only, these are the ones that count.
    """

    def __init__(
        self, inner: Fs, fail_at: int, fault: Fault, *, lasting: bool = False, only: Collection[str] = ()
    ) -> None:
        self._inner, self._fail_at, self._fault, self._lasting = inner, fail_at, fault, lasting
        self._only = only
        self._dead = False
        self.calls = 0
        self.failed: str | None = None
        """The call that failed first."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        passed_on = getattr(self._inner, name)

        def call(*args: Any) -> Any:
            # A dead process does nothing in a `finally` either; only its files are closed.
            if self._dead:
                if name == "close":
                    return passed_on(*args)
                raise PowerLost
            if self._only and name not in self._only:
                return passed_on(*args)
            self.calls += 1
            if self.calls == self._fail_at or (self._lasting and self.calls > self._fail_at):
                self.failed = self.failed or name
                try:
                    return self._fault(self._inner, name, args)
                except PowerLost:
                    self._dead = True
                    if name == "close":
                        passed_on(*args)
                    raise
            return passed_on(*args)

        return call


class Switch:
    """Passes every call on to the file system in `to`, which a test exchanges while something is open."""

    def __init__(self, to: Fs) -> None:
        self.to = to

    def __getattr__(self, name: str) -> Any:
        return getattr(self.to, name)


class Counting:
    """Passes every call on and counts them by name, and the bytes that were read."""

    def __init__(self, inner: Fs | None = None) -> None:
        self._inner = inner or RealFs()
        self.calls: dict[str, int] = {}
        self.bytes_read = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        passed_on = getattr(self._inner, name)

        def call(*args: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            found = passed_on(*args)
            if name == "read":
                self.bytes_read += len(found)
            return found

        return call

    def reset(self) -> None:
        self.calls, self.bytes_read = {}, 0
