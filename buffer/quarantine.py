"""The quarantine: what a destination refused for good, with its own words, to be inspected and replayed.

    data_dir/quarantine/<destination>-<position>/about.json       what `Item` has
    data_dir/quarantine/<destination>-<position>/*.seg            the ticks, as in the log

What a destination refuses in the same words goes into the same item, until that has a part of 1 in SHARE of the room. So
few files hold what is refused for weeks. Where there are FEW items, what is refused in new words shares an item, too.

Promises: what is put is there whole or not at all: about.json, which is replaced, says how much of the segment counts.
Putting the same once more after a kill leaves one.  All items together take at most `max_size` bytes of the disk, in whole
blocks, and are at most MAX_ITEMS, of FILES inodes each: beyond that items go, those of the reason LEAST and then the oldest
first, and `put` says which.  A `put` reads only what it has not seen.  Below `min_free` and a RESERVE nothing is put, and
items go (`give_way`), so that segments keep the room.  Any process may read items while the agent runs, and drop what it
has read: what was added meanwhile stays.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, NamedTuple

from buffer import segment
from buffer.codec import Encoder
from buffer.fs import Fs, RealFs, names, read_all, write_all, write_atomic, write_new
from buffer.model import Tick
from buffer.reader import Entry, File, entries_of
from buffer.segment import MAX_POSITION, Header, Record
from buffer.whole import records

ABOUT = "about.json"
MAX_ABOUT = 64 << 10
MAX_ITEMS = 128
SHARE = 16
"""An item that is larger than one part in so many of the room grows no more."""
FEW = 64
"""Items, from which on what is refused in new words shares one for each destination and reason."""
SEVERAL = "several answers, the last one: "
LEAST = "duplicate"
"""The reason whose items go first: the receiver has other samples for the same times."""
IN_ORDER = "apart"
"""The reason whose items are sent again in their order: each is full before the next one begins, whatever the words."""
PATIENCE = 5.0
"""Seconds that `drop` waits for a process that adds to the item."""
FILES, BLOCK = 3, 4096
"""What an item takes of the disk: inodes (its folder and two files), and the unit in which each takes space."""
RESERVE = 16 << 20
"""Bytes above `min_free`: segments are removed for want of space only below that."""
ABOUT_VERSION = 1
"""Of about.json, which says it in a field "version" from 2 on."""
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}-[0-9]{20}")  # a dot first: it is being built


class Item(NamedTuple):
    """A refused batch.  `code` is the receiver's own, "status" in about.json; the buffer gives it no meaning."""

    id: str
    destination: str
    refused_at_ms: int
    reason: str
    code: int
    message: str
    samples: int
    bytes: int
    oldest_timestamp_ms: int
    newest_timestamp_ms: int

    def document(self) -> dict[str, Any]:
        """Return the fields as about.json has them, and as the commands print them."""
        return {"status" if key == "code" else key: value for key, value in self._asdict().items()}


_LIKE = Item("", "", 0, "", 0, "", 0, 0, 0, 0)


class Quarantine:
    """The refused batches of one data directory."""

    def __init__(
        self,
        data_dir: str,
        max_size: int = 32 << 20,
        fs: Fs | None = None,
        min_free: Callable[[int], int] | None = None,
    ) -> None:
        self._fs, self._data_dir = fs or RealFs(data_dir), data_dir
        self._folder = f"{data_dir}/quarantine"
        self._seen: dict[str, Item] = {}
        self._grew: set[str] = set()  # to which this process has added
        self._lock = threading.Lock()
        self.limit(max_size, min_free)

    def limit(self, max_size: int, min_free: Callable[[int], int] | None = None) -> None:
        """Take at most so many bytes from the next `put` on, and leave so many free on a volume of a size."""
        self._max_size, self._min_free = max_size, min_free

    def give_way(self) -> list[Item]:
        """Remove items as long as the volume has too little room; return them.  Raises OSError."""
        gone: list[Item] = []
        with self._lock:
            items = self._known(names(self._fs, self._folder)) if self._lacks_room(0) else []
            for item in items:
                if not self._lacks_room(0):
                    break
                self._remove(f"{self._folder}/{item.id}")
                gone.append(item)
        return gone

    def _lacks_room(self, size: int) -> bool:
        if self._min_free is None:
            return False
        free, volume = self._fs.free(self._data_dir)
        return free - size < self._min_free(volume) + RESERVE

    def put(
        self,
        destination: str,
        position: int,
        ticks: Sequence[Tick],
        reason: str,
        code: int,
        message: str,
        now_ms: int,
    ) -> list[Item]:
        """Keep the ticks that a destination refused at this position; return the items removed for it.

        Raises OSError where it cannot be written, and ValueError for no ticks.
        """
        data = b"".join([segment.encode_header(Header(0)), *records(_each(ticks), 0)])
        times = [tick.at.wall_ms for tick in ticks]
        samples = sum(len(tick.values) for tick in ticks)
        name = f"{destination}-{position:020d}"
        item = Item(
            name, destination, now_ms, reason, code, message, samples, len(data), min(times), max(times)
        )
        with self._lock:
            if self._lacks_room(_used(len(data))):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken = names(self._fs, self._folder)
            known = self._known(taken)
            if len(known) >= FEW and all(_key(one) != _key(item) for one in known):
                item = item._replace(message=SEVERAL + message.removeprefix(SEVERAL))
            gone = self._make_room(known, item)
            if any(self._grow(one, item, ticks) for one in reversed(known[len(gone) :])):
                return gone
            while item.id in taken:  # what was put there is something else
                position += 1
                item = item._replace(id=f"{destination}-{position:020d}")
            self._write(item, data)
            return gone

    def _write(self, item: Item, data: bytes) -> None:
        folder, building = f"{self._folder}/{item.id}", f"{self._folder}/.{item.id}"
        self._remove(building)
        self._fs.make_folder(building)
        write_new(self._fs, _segment(building), data)
        write_new(self._fs, f"{building}/{ABOUT}", json.dumps(item.document()).encode())
        self._fs.sync_folder(building)
        self._fs.rename(building, folder)
        self._fs.sync_folder(self._folder)
        self._seen[item.id] = item
        self._grew.add(item.id)

    def _grow(self, one: Item, more: Item, ticks: Sequence[Tick]) -> bool:
        """Add to an item; False where it is for others, large, gone, damaged, or being dropped."""
        folder = f"{self._folder}/{one.id}"
        if _key(one) != _key(more):
            return False
        with suppress(FileNotFoundError), self._locked(one) as fd:
            if fd < 0 or self.get(one.id) != one or self._fs.size(_segment(folder)) < one.bytes:
                return False
            # What was put before this process began may be put once more: the cursor was behind when it was killed.
            if one.id not in self._grew and _has(self._fs, folder, one, ticks):
                return True
            if one.bytes + more.bytes > self._max_size // SHARE:
                return False
            self._seen[one.id] = _append(self._fs, fd, folder, one, more, ticks)
            self._grew.add(one.id)
            return True
        return False

    @contextmanager
    def _locked(self, item: Item) -> Iterator[int]:
        """Open and lock the segment of an item; -1 where another process has it. Raises OSError."""
        fd = self._fs.modify(_segment(f"{self._folder}/{item.id}"))
        try:
            yield fd if _taken(fd) else -1
        finally:
            self._fs.close(fd)

    def items(self) -> list[Item]:
        """Return the items, oldest refusal first; what is not an item is left out."""
        found = [item for name in names(self._fs, self._folder) if (item := self.get(name)) is not None]
        return sorted(found, key=lambda item: (item.refused_at_ms, item.id))

    def get(self, name: str) -> Item | None:
        """Return one item; None where there is none of this id."""
        if not _ID.fullmatch(name):
            return None
        try:
            fields = json.loads(read_all(self._fs, f"{self._folder}/{name}/{ABOUT}", MAX_ABOUT))
            item = Item(code=fields.pop("status"), **fields)._replace(id=name)
            sound = all(type(value) is type(like) for value, like in zip(item, _LIKE, strict=True))
            numbers = [value for value in item if isinstance(value, int)]
            return item if sound and all(abs(number) <= MAX_POSITION for number in numbers) else None
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None

    def entries(self, name: str) -> Iterator[Entry]:
        """Yield the entries of an item.  Raises FileNotFoundError where there is none of this id."""
        if not _ID.fullmatch(name):
            raise FileNotFoundError(name)
        if (item := self.get(name)) is None:
            raise FileNotFoundError(name)
        return (
            entry
            for entry in entries_of(self._fs, f"{self._folder}/{name}", 0)
            if entry.seq < item.samples  # what follows was not acknowledged
        )

    def drop(self, name: str, as_read: Item | None = None) -> bool:
        """Remove an item; False where there is none of this id, or it is not as it was read.  Raises OSError."""
        if (found := self.get(name)) is None or as_read not in (None, found):
            return False
        with suppress(FileNotFoundError):
            deadline = time.monotonic() + PATIENCE
            while True:
                with self._locked(found) as fd:
                    if fd >= 0:
                        if as_read not in (None, self.get(name)):
                            return False
                        self._remove(f"{self._folder}/{name}")
                        return True
                if time.monotonic() > deadline:
                    raise OSError(errno.EAGAIN, "another process is writing to it")
                time.sleep(0.01)
        self._remove(f"{self._folder}/{name}")  # it has no segment
        return True

    def _make_room(self, known: Sequence[Item], item: Item) -> list[Item]:
        """Remove the first of these until there is room for one more."""
        total, gone = sum(_used(one.bytes) for one in known) + _used(item.bytes), list[Item]()
        for one in known:
            if total <= self._max_size and len(known) - len(gone) < MAX_ITEMS:
                break
            self._remove(f"{self._folder}/{one.id}")
            total -= _used(one.bytes)
            gone.append(one)
        return gone

    def _known(self, listed: Sequence[str]) -> list[Item]:
        """Return the items of these names in the order in which they go; only new ones are read."""
        found = {
            name: item for name in listed if (item := self._seen.get(name) or self.get(name)) is not None
        }
        self._seen = found
        self._grew &= found.keys()
        return sorted(found.values(), key=lambda item: (item.reason != LEAST, item.refused_at_ms, item.id))

    def _remove(self, folder: str) -> None:
        with suppress(FileNotFoundError):
            for name in self._fs.list(folder):
                self._fs.unlink(f"{folder}/{name}")
            self._fs.remove_folder(folder)


def _key(item: Item) -> tuple[str, str, str]:
    """Return what items have in common that go together."""
    words = SEVERAL if item.message.startswith(SEVERAL) else item.message
    return item.destination, item.reason, "" if item.reason == IN_ORDER else words


def _taken(fd: int) -> bool:
    """Lock a file until it is closed, and return whether that was possible."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _used(size: int) -> int:
    """Return the bytes of the disk that an item takes whose ticks take `size`."""
    return (FILES - 1) * BLOCK + -(-size // BLOCK) * BLOCK


def _segment(folder: str) -> str:
    return f"{folder}/{segment.name(0)}"


def _append(fs: Fs, fd: int, folder: str, one: Item, more: Item, ticks: Sequence[Tick]) -> Item:
    """Add ticks to the segment of an item, and then to its about.json; return it as it is now. Raises OSError."""
    data = b"".join(records(_each(ticks), one.samples))
    grown = one._replace(
        code=more.code,
        message=more.message,
        samples=one.samples + more.samples,
        bytes=one.bytes + len(data),
        oldest_timestamp_ms=min(one.oldest_timestamp_ms, more.oldest_timestamp_ms),
        newest_timestamp_ms=max(one.newest_timestamp_ms, more.newest_timestamp_ms),
    )
    fs.truncate(fd, one.bytes)  # what a kill has left there
    write_all(fs, fd, data, one.bytes)
    fs.sync(fd)
    write_atomic(fs, f"{folder}/{ABOUT}", json.dumps(grown.document()).encode())
    fs.sync_folder(folder)
    return grown


def _has(fs: Fs, folder: str, one: Item, ticks: Sequence[Tick]) -> bool:
    """Return whether the same ticks were put into an item before. Raises OSError."""
    with closing(File(fs, folder, 0)) as file:
        records = [found for found in file if isinstance(found, Record) and found.seq < one.samples]
    found = [zlib.crc32(record.body) for record in records]
    wanted = [zlib.crc32(body) for body in _bodies(ticks)]
    starts = range(len(found) - len(wanted) + 1)
    return any(found[at] == wanted[0] and found[at : at + len(wanted)] == wanted for at in starts)


def _bodies(ticks: Sequence[Tick]) -> Iterator[bytes]:
    encoder = Encoder()
    for tick in ticks:
        yield encoder.encode([tick], 0)[0]


def _each(ticks: Sequence[Tick]) -> Iterator[list[Tick]]:
    """Yield each tick by itself: an item is added to, and looked through, tick by tick."""
    return ([tick] for tick in ticks)
