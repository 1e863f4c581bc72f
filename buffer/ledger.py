"""The ledger of a destination: its position, what became of every sample before that, and its file.

The file, `cursors/<name>.json`, has two slots of 4096 bytes.  A slot is one line of JSON and the CRC-32
of that line; what stands behind them means nothing:

    {"version": 1, "generation": .., "position": .., "start": .., "delivered": .., "dropped": {reason: ..},
     "missed_before": .., "damaged": .., "state": .., "error": .., "rate": .., "removed_ms": ..}

The valid slot with the higher generation counts; the other one is written next, in place, so that a torn
write leaves the one before, and that the medium sees one block, not a new file and its folder.

Positions count samples (see `buffer.segment`), so the ledger balances by construction:

    appended = end of the log - start = delivered + pending + sum(dropped)
    pending  = end of the log - position - what was thinned away behind the position
    position - start = delivered + sum(dropped)                      checked on loading

(What was thinned away behind the position is `dropped` for those who ask, and in the file once the
position has passed it.)

Position and sums are one write: after a kill at any moment they agree.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from buffer.fs import Fs, read_all
from buffer.segment import MAX_POSITION

VERSION = 1
SLOT = 4096
MAX_ERROR = 250
"""Characters of an error that are kept: they and the rest fit in a slot."""
SUFFIX = ".json"


class Ledger(NamedTuple):
    """What a cursor file holds: position, sums, and the destination's last known state."""

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

    def settle(self, to: int, dropped: Mapping[str, int], rest: str) -> Ledger:
        """Return the ledger at position `to`: `dropped` of the samples up to there by their reasons,
        all others by `rest`, which is "delivered" or a reason.
        """
        other = to - self.position - sum(dropped.values())
        sums = dict(self.dropped)
        for reason, count in (*dropped.items(), *([] if rest == "delivered" else [(rest, other)])):
            if count:
                sums[reason] = sums.get(reason, 0) + count
        delivered = self.delivered + (other if rest == "delivered" else 0)
        return self._replace(position=to, delivered=delivered, dropped=sums)

    def not_before(self, first: int) -> Ledger:
        """Return the ledger in line with a log that begins at `first`.

        A segment is dropped before the cursors that lose by it are written, because the disk may be
        full.  After a kill in between, this is where it is accounted for.
        """
        return self if self.position >= first else self.settle(first, {}, "evicted")


def encode(ledger: Ledger, generation: int = 0) -> bytes:
    """Return the contents of a slot."""
    fields = {"version": VERSION, "generation": generation, **ledger._asdict()}
    line = json.dumps(fields).encode()
    slot = line + b"\n%08x\n" % zlib.crc32(line)
    return slot if len(slot) <= SLOT else encode(ledger._replace(error=None), generation)


def decode(data: bytes) -> Ledger | None:
    """Return what a cursor file holds; None where no slot is valid."""
    found = newest(data)
    return found[1] if found else None


def newest(data: bytes) -> tuple[int, Ledger] | None:
    """Return the generation and the ledger of the slot that counts; None where none is valid."""
    slots = [slot for at in (0, SLOT) if (slot := _slot(data[at : at + SLOT])) is not None]
    return max(slots, key=lambda slot: slot[0], default=None)


def _slot(data: bytes) -> tuple[int, Ledger] | None:
    line, _, crc = data.partition(b"\n")
    if crc[:9] != b"%08x\n" % zlib.crc32(line):
        return None
    try:
        fields: dict[str, Any] = json.loads(line)
        generation = fields.pop("generation")
        if fields.pop("version") != VERSION or type(generation) is not int:
            return None
        ledger = Ledger(**fields)
        return (generation, ledger) if _is_sound(ledger) else None
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None


def _is_sound(ledger: Ledger) -> bool:
    """Whether every field is what it should be, and the sums balance."""
    fields: tuple[Any, ...] = ledger  # its types are what is to be found out
    position, start, delivered, dropped, missed_before, damaged, state, error, rate, removed_ms = fields
    counts = (position, start, delivered, *dropped.values(), missed_before, damaged, removed_ms or 0)
    return (
        all(type(count) is int and 0 <= count <= MAX_POSITION for count in counts)
        and isinstance(state, str)
        and (error is None or isinstance(error, str))
        and isinstance(rate, int | float)
        and 0 <= rate < math.inf
        and position - start == delivered + sum(dropped.values())
    )


def load(fs: Fs, path: str) -> Ledger | None:
    """Read a cursor file; None where it is missing, unreadable or wrong."""
    try:
        return decode(read_all(fs, path, 2 * SLOT))
    except OSError:
        return None


def load_all(fs: Fs, data_dir: str) -> dict[str, Ledger]:
    """Read every cursor file of a data directory that can be read, by the names of the destinations."""
    try:
        names = sorted(fs.list(f"{data_dir}/cursors"))
    except FileNotFoundError:
        return {}
    found = {name: load(fs, f"{data_dir}/cursors/{name}") for name in names if name.endswith(SUFFIX)}
    return {name.removesuffix(SUFFIX): ledger for name, ledger in found.items() if ledger is not None}
