"""The ledger of a destination: what is settled, what became of every settled sample, and its file.

The file, `cursors/<name>.json`, has two slots of 4096 bytes.  A slot is one line of JSON and the CRC-32
of that line.  A second such pair may follow, which has hints (`buffer.hints`) and is no part of the ledger: a program
that does not know them passes over them, and what is damaged is none.  What else follows means nothing.

    {"version": 1, "generation": .., "position": .., "start": .., "delivered": .., "dropped": {reason: ..},
     "missed_before": .., "damaged": .., "state": .., "error": .., "rate": .., "removed_ms": ..}

Everything before the position is settled, and so are a few stretches `[start, end)` after it, which were settled
ahead of their turn.  While there are any, the version is 2, and the line has one field more:

     "ahead": [[start, end], ..]         in order; none touches the position or another; at most MAX_STRETCHES

A file without stretches is still written as version 1.  A file whose newest slot is of a later version is not touched
(`buffer.versions`): a later version keeps `version`, `generation`, the slots and their checksum, and writes the
earliest version that can express its contents.

The valid slot with the higher generation counts; the other one is written next, in place, so that a torn
write leaves the one before, and that the medium sees one block, not a new file and its folder.

Positions count samples (see `buffer.segment`), so the ledger balances by construction:

    appended = end of the log - start = delivered + pending + sum(dropped)
    pending  = end of the log - position - sum(stretches) - what was thinned away of what is pending
    position - start + sum(stretches) = delivered + sum(dropped)     checked on loading

(What was thinned away of what is pending is shown as `dropped`, and is so in the file once it is settled.)

Position, stretches and sums are one write: after a kill at any moment they agree.
"""

from __future__ import annotations

import errno
import json
import math
import zlib
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

from buffer import hints
from buffer.fs import Fs, names, read_all, set_apart, write_all, write_atomic
from buffer.hints import NONE, Hints
from buffer.segment import MAX_POSITION

PLAIN_VERSION = 1
AHEAD_VERSION = 2
"""Of a slot with stretches."""
MAX_STRETCHES = 16
"""Far fewer than would fit in a slot: each is a link that came and went while a backlog drained."""
SLOT = 4096
_BLOCKED = (
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ELOOP,
    errno.EINVAL,
    errno.EMLINK,
    errno.EFBIG,
)
"""What it means that something else, or an unreadable file, has the place of a cursor file."""
MAX_ERROR = 250
"""Characters of an error that are kept: they and the rest fit in a slot."""
SUFFIX = ".json"


class Ledger(NamedTuple):
    """What a cursor file holds: what is settled, sums, and the destination's last known state."""

    position: int
    start: int
    delivered: int
    dropped: dict[str, int]
    missed_before: int
    damaged: int
    state: str
    error: str | None
    rate: float
    removed_ms: int | None
    """When the destination was first found to be no longer configured; None while it is."""
    ahead: tuple[tuple[int, int], ...] = ()
    """Stretches behind the position that are settled: in order, apart from it and from each other."""

    @classmethod
    def starting(cls, position: int, missed: int) -> Ledger:
        """Return the ledger of a destination that starts at a position, where so many samples had been missed."""
        return cls(position, position, 0, {}, missed, 0, "stopped", None, 0.0, None)

    @property
    def reach(self) -> int:
        """The position after the last one that is settled."""
        return self.ahead[-1][1] if self.ahead else self.position

    def gaps(self, end: int) -> list[tuple[int, int]]:
        """Return what is not settled before `end`: spans of positions, in order, none of them empty."""
        found, at = [], self.position
        for start, stop in (*self.ahead, (end, end)):
            if at < min(start, end):
                found.append((at, min(start, end)))
            at = stop
        return found

    def unsettled(self, start: int, end: int) -> int:
        """Return how many positions from `start` to before `end` are not settled."""
        if not self.ahead:  # as good as always
            return max(0, end - max(start, self.position))
        return sum(stop - max(at, start) for at, stop in self.gaps(end) if stop > start)

    def settle(self, start: int, end: int, dropped: Mapping[str, int], rest: str) -> Ledger:
        """Return the ledger with everything from `start` to before `end` settled.

        Of those positions that were not, `dropped` are dropped by their reasons, all others go by `rest`,
        which is "delivered" or a reason.  Raises ValueError where it would be a stretch too many.
        """
        position, ahead = _joined(self.position, self.ahead, start, end)
        other = self.unsettled(start, end) - sum(dropped.values())
        sums = dict(self.dropped)
        for reason, count in (*dropped.items(), *([] if rest == "delivered" else [(rest, other)])):
            if count:
                sums[reason] = sums.get(reason, 0) + count
        delivered = self.delivered + (other if rest == "delivered" else 0)
        return self._replace(position=position, ahead=ahead, delivered=delivered, dropped=sums)

    def returned(self, reason: str, samples: int) -> Ledger:
        """Return the ledger with samples delivered that had been dropped for this reason."""
        count = min(samples, self.dropped.get(reason, 0))
        dropped = {**self.dropped, reason: self.dropped.get(reason, 0) - count}
        return self._replace(delivered=self.delivered + count, dropped=dropped)

    def not_before(self, first: int) -> Ledger:
        """Return the ledger in line with a log that begins at `first`.

        A segment is dropped before the cursors that lose by it are written, because the disk may be
        full.  After a kill in between, this is where it is accounted for.
        """
        return self if self.position >= first else self.settle(self.position, first, {}, "evicted")


def _joined(
    position: int, ahead: tuple[tuple[int, int], ...], start: int, end: int
) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Return position and stretches with one more span settled; whatever touches becomes one."""
    if end <= start:
        return position, ahead
    if start <= position and not ahead:  # as good as always
        return max(position, end), ahead
    found: list[tuple[int, int]] = []
    for first, after in sorted((*ahead, (start, end))):
        if first <= position:
            position = max(position, after)
        elif found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], after)
        else:
            found.append((first, after))
    if len(found) > MAX_STRETCHES:
        raise ValueError(f"more than {MAX_STRETCHES} stretches behind the position")
    return position, tuple(found)


def encode(ledger: Ledger, generation: int = 0) -> bytes:
    """Return the contents of a slot."""
    fields = {"version": PLAIN_VERSION, "generation": generation, **ledger._asdict()}
    if ledger.ahead:
        fields["version"] = AHEAD_VERSION
    else:
        del fields["ahead"]
    line = json.dumps(fields).encode()
    slot = _sealed(line)
    return slot if len(slot) <= SLOT else encode(ledger._replace(error=None), generation)


def load_hints(fs: Fs, path: str) -> Hints:
    """Read the hints of a cursor file, as far as there are any."""
    try:
        data = read_all(fs, path, 2 * SLOT)
        slots = [data[at : at + SLOT] for at in (0, SLOT)]
        _, slot = max((found[0], slot) for slot in slots if (found := _slot(slot)))
        fields = json.loads(_line(slot[slot.index(b"\n") + 10 :]))
    except (OSError, ValueError, LookupError, RecursionError):
        fields = None
    return hints.read(fields if isinstance(fields, dict) else {})


def decode(data: bytes) -> Ledger | None:
    """Return what a cursor file holds; None where no slot is valid."""
    found = newest(data)
    return found[1] if found else None


def newest(data: bytes) -> tuple[int, Ledger] | None:
    """Return the generation and the ledger of the slot that counts; None where none is valid."""
    slots = [slot for at in (0, SLOT) if (slot := _slot(data[at : at + SLOT])) is not None]
    return max(slots, key=lambda slot: slot[0], default=None)


def _slot(data: bytes) -> tuple[int, Ledger] | None:
    try:
        fields: dict[str, Any] = json.loads(_line(data))
        generation = fields.pop("generation")
        version = fields.pop("version")
        if version == AHEAD_VERSION:
            fields["ahead"] = tuple((start, end) for start, end in fields["ahead"])
        elif version != PLAIN_VERSION or "ahead" in fields:
            return None
        if type(generation) is not int:
            return None
        ledger = Ledger(**fields)
        return (generation, ledger) if _is_sound(ledger) else None
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None


def _is_sound(ledger: Ledger) -> bool:
    """Whether every field is what it should be, and the sums balance."""
    fields: tuple[Any, ...] = ledger  # its types are what is to be found out
    position, start, delivered, dropped, missed_before, damaged, state, error, rate, removed_ms, ahead = (
        fields
    )
    edges = [edge for stretch in ahead for edge in stretch]
    counts = (position, start, delivered, *dropped.values(), missed_before, damaged, removed_ms or 0, *edges)
    return (
        all(type(count) is int and 0 <= count <= MAX_POSITION for count in counts)
        and isinstance(state, str)
        and (error is None or isinstance(error, str))
        and isinstance(rate, int | float)
        and 0 <= rate < math.inf
        and len(ahead) <= MAX_STRETCHES
        and all(before < after for before, after in pairwise((position, *edges)))
        and position - start + sum(after - first for first, after in ahead)
        == delivered + sum(dropped.values())
    )


def version(data: bytes) -> int | None:
    """Return the version of the newest slot, which need not be one that is known here; None where none is valid."""
    found: list[tuple[int, int]] = []
    for at in (0, SLOT):
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            fields = json.loads(_line(data[at : at + SLOT]))
            generation, version = fields["generation"], fields["version"]
            if type(generation) is type(version) is int:
                found.append((generation, version))
    return max(found)[1] if found else None


def _sealed(line: bytes) -> bytes:
    return line + b"\n%08x\n" % zlib.crc32(line)


def _line(slot: bytes) -> bytes:
    """Return the line of a slot.  Raises ValueError where its checksum is not right."""
    line, _, crc = slot.partition(b"\n")
    if crc[:9] != b"%08x\n" % zlib.crc32(line):
        raise ValueError("the slot fails its checksum")
    return line


def load(fs: Fs, path: str) -> Ledger | None:
    """Read a cursor file; None where it is missing, unreadable or wrong."""
    try:
        return decode(read_all(fs, path, 2 * SLOT))
    except OSError:
        return None


def load_each(fs: Fs, data_dir: str) -> dict[str, Ledger | None]:
    """Read every cursor file of a data directory, by the names of the destinations; None for one that cannot be read."""
    folder = f"{data_dir}/cursors"
    return {
        n.removesuffix(SUFFIX): load(fs, f"{folder}/{n}") for n in names(fs, folder) if n.endswith(SUFFIX)
    }


def load_all(fs: Fs, data_dir: str) -> dict[str, Ledger]:
    """Read every cursor file of a data directory that can be read, by the names of the destinations."""
    return {name: ledger for name, ledger in load_each(fs, data_dir).items() if ledger is not None}


class LedgerFile:
    """The cursor file of one destination, at `path`.  It is opened when it is first written.  Not thread-safe."""

    def __init__(self, fs: Fs, data_dir: str, name: str) -> None:
        self._fs, self._folder = fs, f"{data_dir}/cursors"
        self.path = f"{self._folder}/{name}{SUFFIX}"
        self._fd, self._generation, self._is_hinted = -1, 0, False
        self.written = 0

    def write(self, ledger: Ledger, kept: Hints = NONE) -> None:
        """Write a ledger and its hints over the older slot, and make them durable.  Raises OSError."""
        if self._fd >= 0:
            try:
                self._fs.size(self.path)
            except FileNotFoundError:  # somebody removed it: nobody could read what is written to it
                self.close()
        if self._fd < 0:
            found = self._open(ledger)
            self._generation = found[0] if found else 0
        self._is_hinted = self._is_hinted or kept != NONE  # else nothing has to be ended
        hint = _sealed(hints.line(kept)) if self._is_hinted else b""
        slot = encode(ledger, self._generation + 1) + hint
        slot = slot[:SLOT]
        at = SLOT * ((self._generation + 1) % 2)
        self.written += write_all(self._fs, self._fd, slot, at)
        self._fs.sync(self._fd)
        self._generation += 1

    def _open(self, ledger: Ledger) -> tuple[int, Ledger] | None:
        """Open the file, or a new one if there is none, and return its newest slot.

        What has its place and cannot be read is set apart.
        """
        data = b""
        try:
            data = read_all(self._fs, self.path, 2 * SLOT)
            self._is_hinted = b'"samples"' in data
            self._fd = self._fs.modify(self.path)
        except FileNotFoundError:
            self._fs.make_folder(self._folder)
        except OSError as error:
            if error.errno not in _BLOCKED:
                raise
            set_apart(self._fs, self.path)
            data = b""
        if len(data) < 2 * SLOT:
            # A new file is valid from the first moment on: one that a kill left blank would be a reset.
            data = (data or encode(ledger)).ljust(2 * SLOT)
            write_atomic(self._fs, self.path, data)
            self._fs.sync_folder(self._folder)
            self.close()
            self._fd = self._fs.modify(self.path)
        return newest(data)

    def remove(self) -> None:
        """Remove the file.  Raises OSError."""
        with suppress(FileNotFoundError):
            self._fs.unlink(self.path)

    def close(self) -> None:
        """Close the file; it can still be written."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._fs.close(fd)
