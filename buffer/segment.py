"""Segment files: the on-disk format, version 1, and nothing else.

    segment := header record*
    header  := magic "LMPT" | version u16 | flags u16 | first_seq u64                     16 bytes
    record  := mark u16 | crc32 u32 | length u32 | seq u64 | wall_ms i64 | count u32 | key u8
               | body u8[length]                                                          31 + length

Little-endian, no padding.  `seq` counts samples: it is the number of samples appended to the log
before this record, `count` the number in it, so the next record's seq is seq + count, and a jump says
exactly how many samples are not there.  `wall_ms` is the UTC time of its ticks.  The body is the tick
codec's (`buffer.codec`); it can be read without the records before it where `key` is 1, as it is in
the first record of every segment.

The checksum covers everything behind it.  A record is valid if and only if its mark is there, its
length is within MAX_LENGTH, all its bytes are there, and its checksum matches.  Records never span
segments.  File name: first_seq, 20 digits, ".seg".  Flags are 0.

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
MARK = b"\xa7\x4c"
SUFFIX = ".seg"
HEADER = struct.Struct("<4sHHQ")
RECORD = struct.Struct("<2sIIQqIB")
MAX_LENGTH = 16 << 20
_COVERED = struct.Struct("<IQqIB")
_COVERED_AT = 6


class Record(NamedTuple):
    """A valid record; it ends before offset `end` of its file."""

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


class NotASegment(ValueError):
    """The file has no header of a known version."""


class NewerVersion(NotASegment):
    """The file is a segment of a version that this program does not know."""


class Short(NotASegment):
    """The file ends within its header: its writer died there, or is writing it."""


def encode_header(first_seq: int) -> bytes:
    """Return the header of a segment whose first record has this seq."""
    return HEADER.pack(MAGIC, VERSION, 0, first_seq)


def decode_header(data: bytes) -> int:
    """Return a segment's first seq.  Raises NotASegment."""
    if len(data) < HEADER.size:
        raise Short("the file ends within its header")
    magic, version, _, first_seq = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise NotASegment("no segment file of Limpet's")
    if version != VERSION:
        raise NewerVersion(f"format version {version}; this program knows version {VERSION}")
    return int(first_seq)


def encode(seq: int, wall_ms: int, count: int, key: bool, body: bytes) -> bytes:
    """Return the bytes of a record."""
    if len(body) > MAX_LENGTH:
        raise ValueError(f"a record of {len(body)} bytes is over the limit of {MAX_LENGTH}")
    covered = _COVERED.pack(len(body), seq, wall_ms, count, key)
    return MARK + struct.pack("<I", zlib.crc32(body, zlib.crc32(covered))) + covered + body


def decode(data: bytes, at: int) -> Record | Torn | Damaged | None:
    """Read the record at `at` of `data`, which goes up to the end of the file.  None is a clean end.

    The `end` of a Damaged is where the next valid record starts, or the end of the file.
    """
    found = _decode(data, at)
    if not isinstance(found, Torn | Damaged):
        return found
    end = at
    while (end := data.find(MARK, end + 1)) >= 0:
        if isinstance(_decode(data, end), Record):
            why = found.why if isinstance(found, Damaged) else "a record runs into the next one"
            return Damaged(at, end, why)
    return found if isinstance(found, Torn) else found._replace(end=len(data))


def _decode(data: bytes, at: int) -> Record | Torn | Damaged | None:
    if at >= len(data):
        return None
    if data[at : at + 2] != MARK[: len(data) - at]:
        return Damaged(at, at, "no record starts here")
    if at + RECORD.size > len(data):
        return Torn(at)
    _, crc, length, seq, wall_ms, count, key = RECORD.unpack_from(data, at)
    if length > MAX_LENGTH:
        return Damaged(at, at, f"length {length} is over the limit of {MAX_LENGTH}")
    end = at + RECORD.size + length
    if end > len(data):
        return Torn(at)
    body = data[at + RECORD.size : end]
    if zlib.crc32(body, zlib.crc32(data[at + _COVERED_AT : at + RECORD.size])) != crc:
        return Damaged(at, at, f"the record of seq {seq} fails its checksum")
    return Record(seq, wall_ms, count, bool(key), body, end)


def name(first_seq: int) -> str:
    """Return the file name of the segment that starts with this seq."""
    return f"{first_seq:020d}{SUFFIX}"


def listing(fs: Fs, folder: str) -> list[int]:
    """Return the first seqs of the segments in a folder, oldest first; other files are left out."""
    stems = [entry.removesuffix(SUFFIX) for entry in fs.list(folder) if entry.endswith(SUFFIX)]
    return sorted(int(stem) for stem in stems if len(stem) == 20 and stem.isascii() and stem.isdigit())
