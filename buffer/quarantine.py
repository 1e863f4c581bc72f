"""The quarantine: what a destination refused for good, with its own words, to be inspected and replayed.

    data_dir/quarantine/<destination>-<position>/about.json       what `Item` has
    data_dir/quarantine/<destination>-<position>/*.seg            the ticks, as in the log

Promises: an item is there whole or not at all (its folder gets its name when all is in it), and
putting the same one twice leaves one.  All items together take at most `max_size` bytes of the disk, in whole blocks, and
are at most MAX_ITEMS, of FILES inodes each: beyond that the oldest ones go, and `put` says which.  A `put` reads only what
it has not seen.  Below `min_free` and a RESERVE nothing is put, and the oldest items go (`give_way`), so that segments keep
the room.  Any process may read and drop items while the agent runs.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from buffer import segment
from buffer.codec import Encoder
from buffer.fs import Fs, RealFs, names, read_all, write_new
from buffer.model import Tick
from buffer.reader import Entry, entries_of
from buffer.segment import Header, Record

ABOUT = "about.json"
MAX_ABOUT = 64 << 10
MAX_ITEMS = 500
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
        self.limit(max_size, min_free)

    def limit(self, max_size: int, min_free: Callable[[int], int] | None = None) -> None:
        """Take at most so many bytes from the next `put` on, and leave so many free on a volume of a size."""
        self._max_size, self._min_free = max_size, min_free

    def give_way(self) -> list[Item]:
        """Remove the oldest items as long as the volume has too little room; return them.  Raises OSError."""
        gone: list[Item] = []
        items = self._known("") if self._lacks_room(0) else []
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
        data = _segment(ticks)
        times = [tick.at.wall_ms for tick in ticks]
        samples = sum(len(tick.values) for tick in ticks)
        name = f"{destination}-{position:020d}"
        item = Item(
            name, destination, now_ms, reason, code, message, samples, len(data), min(times), max(times)
        )
        if self._lacks_room(_used(len(data))):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        gone = self._make_room(len(data), name)
        folder, building = f"{self._folder}/{name}", f"{self._folder}/.{name}"
        self._remove(building)
        self._fs.make_folder(building)
        write_new(self._fs, f"{building}/{segment.name(0)}", data)
        write_new(self._fs, f"{building}/{ABOUT}", json.dumps(item.document()).encode())
        self._fs.sync_folder(building)
        self._remove(folder)
        self._fs.rename(building, folder)
        self._fs.sync_folder(self._folder)
        return gone

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
            return item if sound else None
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None

    def entries(self, name: str) -> Iterator[Entry]:
        """Yield the entries of an item.  Raises FileNotFoundError where there is none of this id."""
        if not _ID.fullmatch(name):
            raise FileNotFoundError(name)
        return entries_of(self._fs, f"{self._folder}/{name}", 0)

    def drop(self, name: str) -> bool:
        """Remove an item; False where there is none of this id.  Raises OSError."""
        if self.get(name) is None:
            return False
        self._remove(f"{self._folder}/{name}")
        return True

    def _make_room(self, size: int, name: str) -> list[Item]:
        items = self._known(name)
        total, gone = sum(_used(item.bytes) for item in items) + _used(size), list[Item]()
        for item in items:
            if total <= self._max_size and len(items) - len(gone) < MAX_ITEMS:
                break
            self._remove(f"{self._folder}/{item.id}")
            total -= _used(item.bytes)
            gone.append(item)
        return gone

    def _known(self, but: str) -> list[Item]:
        """Return what `items` does, without that one; only new items are read."""
        found = {
            name: item
            for name in names(self._fs, self._folder)
            if name != but and (item := self._seen.get(name) or self.get(name)) is not None
        }
        self._seen = found
        return sorted(found.values(), key=lambda item: (item.refused_at_ms, item.id))

    def _remove(self, folder: str) -> None:
        with suppress(FileNotFoundError):
            for name in self._fs.list(folder):
                self._fs.unlink(f"{folder}/{name}")
            self._fs.remove_folder(folder)


def _used(size: int) -> int:
    """Return the bytes of the disk that an item takes whose ticks take `size`."""
    return (FILES - 1) * BLOCK + -(-size // BLOCK) * BLOCK


def _segment(ticks: Sequence[Tick]) -> bytes:
    encoder, seq = Encoder(), 0
    parts = [segment.encode_header(Header(0))]
    for tick in ticks:
        body, key = encoder.encode([tick], 0)
        end = seq + len(tick.values)
        parts.append(segment.encode(0, Record(seq, end, tick.at.wall_ms, end - seq, key, body)))
        seq = end
    if not seq:
        raise ValueError("there is nothing to keep")
    return b"".join(parts)
