"""Segment files: the on-disk format, version 1, and nothing else.

    segment := header record*
    header  := magic "LMPT" | version u16 | flags u16 | first_seq u64 | crc32 u32         20 bytes
    record  := mark u8 | length u24 | crc32 u32 | seq u32 | time u48 | samples u31 key u1 | body u8[length]
                                                                                          22 + length

Little-endian, no padding.  Positions in the log count samples: a segment's `first_seq` is the number
of samples appended to the log before it, a record's `seq` the number since then.  So the next record's
seq is seq + samples, and a jump says exactly how many samples are not there.  `time` is the UTC time of
its ticks in milliseconds since 1970.  The body is the tick codec's (`buffer.codec`); it can be read
without the records before it where `key` is 1, as it is in the first record of every segment.

The header's checksum covers the header.  A record's covers the segment's first_seq and all of the
record but mark and checksum, so a record is at home in one file only.  A record is valid if and only
if its mark is there, all its bytes are there, and its checksum matches.  Records never span segments.
File name: first_seq, 20 digits, ".seg"; it stands in for a damaged header.  Flags are 0.

A record that is cut short by the end of the file is *torn*: the writer died there, nothing in it was
acknowledged.  Anything else that is invalid, and everything invalid that has a valid record behind
it, is *damage*; reading goes on at that record.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from buffer.fs import Fs

MAGIC, VERSION = b"LMPT", 1
MARK = 0xA7
SUFFIX = ".seg"
HEADER = struct.Struct("<4sHHQI")
RECORD = struct.Struct("<IIIIHI")
MAX_LENGTH = (1 << 24) - 1
MAX_SAMPLES = 1 << 31
"""In a record, and in a segment."""

_MARK = bytes((MARK,))


class Record(NamedTuple):
    """A valid record; `seq` is its position in the log, `end` where it ends in its file."""

    seq: int
    wall_ms: int
    samples: int
    key: bool
    body: bytes
    end: int


class Torn(NamedTuple):
    """The file ends within the record at `at`."""

    at: int


class Damaged(NamedTuple):
    """The bytes from `at` to before `end` are not a record."""

    at: int
    end: int
    why: str


class NewerVersion(ValueError):
    """The file is a segment of a version that this program does not know."""


class Short(ValueError):
    """The file ends within its header: its writer died there, or is writing it."""


def encode_header(first_seq: int) -> bytes:
    """Return the header of a segment that begins at this position."""
    head = HEADER.pack(MAGIC, VERSION, 0, first_seq, 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "little")


def decode_header(data: bytes) -> int | None:
    """Return a segment's first seq; None where the header is damaged.  Raises Short, NewerVersion."""
    if len(data) < HEADER.size:
        raise Short("the file ends within its header")
    magic, version, _, first_seq, crc = HEADER.unpack_from(data)
    if magic != MAGIC or crc != zlib.crc32(data[: HEADER.size - 4]):
        return None
    if version != VERSION:
        raise NewerVersion(f"format version {version}; this program knows version {VERSION}")
    return int(first_seq)


def encode(first_seq: int, record: Record) -> bytes:
    """Return the bytes of a record of the segment that begins at `first_seq`; `end` does not matter.

    Raises ValueError where it does not fit the format.
    """
    seq, wall_ms, samples, key, body, _ = record
    if len(body) > MAX_LENGTH or not 0 <= seq - first_seq < MAX_SAMPLES or samples >= MAX_SAMPLES:
        raise ValueError(f"a record of {samples} samples in {len(body)} bytes is over the format's limits")
    if not 0 <= wall_ms < 1 << 48:
        raise ValueError(f"{wall_ms} ms is not a time after 1970")
    head = RECORD.pack(
        MARK | len(body) << 8,
        0,
        seq - first_seq,
        wall_ms & 0xFFFFFFFF,
        wall_ms >> 32,
        samples << 1 | key,
    )
    return head[:4] + _checksum(first_seq, head, body).to_bytes(4, "little") + head[8:] + body


def _checksum(first_seq: int, head: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(first_seq.to_bytes(8, "little") + head[1:4] + head[8:]))


def decode(data: bytes, at: int, first_seq: int) -> Record | Torn | Damaged | None:
    """Read the record at `at` of `data`, which goes up to the end of the file.  None is a clean end.

    The `end` of a Damaged is where the next valid record starts, or the end of the file.
    """
    found = _decode(data, at, first_seq)
    if not isinstance(found, Torn | Damaged):
        return found
    end = at
    while (end := data.find(_MARK, end + 1)) >= 0:
        if isinstance(_decode(data, end, first_seq), Record):
            why = found.why if isinstance(found, Damaged) else "a record runs into the next one"
            return Damaged(at, end, why)
    return found if isinstance(found, Torn) else found._replace(end=len(data))


def _decode(data: bytes, at: int, first_seq: int) -> Record | Torn | Damaged | None:
    if at >= len(data):
        return None
    if data[at] != MARK:
        return Damaged(at, at, "no record starts here")
    if at + RECORD.size > len(data):
        return Torn(at)
    first, crc, offset, low, high, samples = RECORD.unpack_from(data, at)
    end = at + RECORD.size + (first >> 8)
    if end > len(data):
        return Torn(at)
    body = data[at + RECORD.size : end]
    if _checksum(first_seq, data[at : at + RECORD.size], body) != crc:
        return Damaged(at, at, f"the record of seq {first_seq + offset} fails its checksum")
    return Record(first_seq + offset, high << 32 | low, samples >> 1, bool(samples & 1), body, end)


def name(first_seq: int) -> str:
    """Return the file name of the segment that starts with this seq."""
    return f"{first_seq:020d}{SUFFIX}"


def listing(fs: Fs, folder: str) -> list[int]:
    """Return the first seqs of the segments in a folder, oldest first; other files are left out."""
    stems = [entry.removesuffix(SUFFIX) for entry in fs.list(folder) if entry.endswith(SUFFIX)]
    return sorted(int(stem) for stem in stems if len(stem) == 20 and stem.isascii() and stem.isdigit())
