"""Segment files: the on-disk format, versions 1 and 2, and nothing else.

    segment := header record*
    header  := magic "LMPT" | version u16 | level u16 | first_seq u64 | end_seq u64 | samples u64 | crc32 u32
                                                                                          36 bytes
    record  := mark u8 | length u24 | crc32 u32 | seq u32 | time u48 | samples u30 thinned u1 key u1
               | span u32 (where `thinned`) | body u8[..]                                 22 + length

Little-endian, no padding.  Positions in the log count samples: a segment's `first_seq` is the number
of samples appended to the log before it, a record's `seq` the number since then.  So the next record's
seq is seq + samples, and a jump says exactly how many samples are not there.  `time` is the UTC time of
its ticks in milliseconds since 1970.  The body is the tick codec's (`buffer.codec`); it can be read
without the records before it where `key` is 1, as it is in the first record of every segment.

A segment is written as ticks come in, with level 0 and zeros for end_seq and samples.  One of level 1
or 2 was made from such segments by thinning (`buffer.thin`).  It represents the positions from first_seq
to end_seq and holds `samples`.  Its records have `thinned` set, and each represents `span` positions.

The header's checksum covers the header.  A record's covers the segment's first_seq and all of the
record but mark and checksum, so a record is valid in one file only.  A record is valid if and only
if its mark is there, all its bytes are there, and its checksum matches.  Records never span segments.
File name: first_seq, 20 digits, ".seg"; it replaces a damaged header.

A segment of version 2 is *provisional*: the clock was not believed when it was written.  Its times are as the clock was.
In the place of end_seq it holds the clock's base (its wall time minus the monotonic time, in ms), and in that of samples,
where level is 1, the base that the clock had when it was believed in this boot, and where level is 0, because it never was,
the time of the newest record before it whose clock was believed (0: there is none).  All of them are signed.  Level 2 is as 0, and what the
base was when the clock was believed before, in this boot, has turned out to be wrong.
When the times are known, a note is appended as the last record of the file:

    note    := a record with samples 0, and seq and time 0 | shift i64 (ms) | base i64 (ms) | estimated u8      39 bytes

Each record's time is then its own plus the shift, and base is that of the right clock.  estimated is 0, or 1, or 2 where
the estimate is marked by a series of its own; that one byte is rewritten in place, and the checksum takes 2 for 1.  A note counts if it is valid and ends the file; after it nothing is
appended, and what was torn before it was cut off.  All other segments are of version 1, as before.

A record that is cut short by the end of the file is *torn*: the writer died there, nothing in it was
acknowledged.  Anything else that is invalid, and everything invalid that has a valid record behind
it, is *damage*; reading continues at that record.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from buffer.fs import Fs

MAGIC = b"LMPT"
PLAIN_VERSION, VERSION = 1, 2
"""Of a segment whose clock was believed, and of a provisional one."""
MARK = 0xA7
SUFFIX = ".seg"
HEADER = struct.Struct("<4sHHQQQI")
PROVISIONAL = struct.Struct("<4sHHQqqI")
"""The header of a provisional segment."""
RECORD = struct.Struct("<IIIIHI")
_NOTE = struct.Struct("<qqB")
NOTE_SIZE = RECORD.size + _NOTE.size
MARKED = b"\2"
"""The last byte of a note whose estimate is marked."""
MAX_LENGTH = (1 << 24) - 1
MAX_SPAN = 1 << 30
"""Positions of a record, and of a segment."""
MAX_POSITION = 1 << 62
"""No log gets that far: such a number is damage, or belongs to something else."""

_MARK = bytes((MARK,))
_REFUTED = 2


class Header(NamedTuple):
    """Where a segment begins; for a thinned one also its level, where it ends, and how many samples it holds."""

    first_seq: int
    level: int = 0
    end_seq: int = 0
    samples: int = 0
    base_ms: int | None = None
    """Of a provisional segment: wall time minus monotonic time of the clock that nobody believed."""
    good_ms: int | None = None
    """Of a provisional segment: the base that the clock of this boot had when it was believed."""
    kept_ms: int = 0
    """The time of the newest record before it whose clock was believed, where `good_ms` is not known."""
    refuted: bool = False
    """Of a provisional segment: the base of this boot's clock was wrong, when it was believed before."""

    def holes(self, spans: Iterable[tuple[int, int]]) -> int:
        """Return how many positions of these spans hold no sample, in a segment that was thinned.

        The positions without a sample are taken to be spread evenly.
        """
        return sum(self._holes_from(start) - self._holes_from(end) for start, end in spans)

    def _holes_from(self, position: int) -> int:
        span = self.end_seq - self.first_seq
        ahead = min(span, self.end_seq - position)
        return (span - self.samples) * ahead // span if ahead > 0 else 0


class Record(NamedTuple):
    """A valid record: its `samples` represent the positions from `seq` to before `end`.

    There are as many as positions, unless it was thinned.  `after` is where it ends in the data.
    """

    seq: int
    end: int
    wall_ms: int
    samples: int
    key: bool
    body: bytes
    after: int = 0


class Note(NamedTuple):
    """By how many ms the clock of a provisional segment was behind, the base of the right one, whether that is an estimate."""

    shift_ms: int
    base_ms: int
    is_estimated: bool = False
    is_marked: bool = False
    """Whether there is a series that says so."""


class Torn(NamedTuple):
    """The file ends within the record at `at`."""

    at: int


class Damaged(NamedTuple):
    """The bytes from `at` to before `after` are no valid record."""

    at: int
    after: int
    why: str


class NewerVersion(ValueError):
    """The file is a segment of a version that this program does not know."""


class Short(ValueError):
    """The file ends within its header: its writer died there, or is writing it."""


def encode_header(header: Header) -> bytes:
    """Return the bytes of a header."""
    first_seq, level, end_seq, samples, base_ms, good_ms, kept_ms, refuted = header
    if base_ms is None:
        head = HEADER.pack(MAGIC, PLAIN_VERSION, level, first_seq, end_seq, samples, 0)[:-4]
    else:
        level, known = (_REFUTED if refuted else 0, kept_ms) if good_ms is None else (1, good_ms)
        head = PROVISIONAL.pack(MAGIC, VERSION, level, first_seq, base_ms, known, 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "little")


def decode_header(data: bytes, named: int) -> Header | None:
    """Return the header of a segment that is named for this seq; None where it is damaged or another file's.

    Raises Short, NewerVersion.
    """
    if len(data) < HEADER.size:
        raise Short("the file ends within its header")
    magic, version, level, first_seq, end_seq, samples, crc = HEADER.unpack_from(data)
    if magic != MAGIC or crc != zlib.crc32(data[: HEADER.size - 4]):
        return None
    if not PLAIN_VERSION <= version <= VERSION:
        raise NewerVersion(f"format version {version}; this program knows versions up to {VERSION}")
    header = Header(first_seq, level, end_seq, samples)
    if version == VERSION:
        *_, base_ms, known, _ = PROVISIONAL.unpack_from(data)
        good_ms, kept_ms = (known, 0) if level == 1 else (None, known)
        header = Header(first_seq, 0, 0, 0, base_ms, good_ms, kept_ms, level == _REFUTED)
    return header if first_seq == named and _is_sound(header) else None


def version(data: bytes) -> int | None:
    """Return the version of the segment that begins with these bytes; None where its header is damaged or cut short."""
    if len(data) < HEADER.size or data[:4] != MAGIC:
        return None
    *_, crc = HEADER.unpack_from(data)
    return HEADER.unpack_from(data)[1] if crc == zlib.crc32(data[: HEADER.size - 4]) else None


def _is_sound(header: Header) -> bool:
    """Whether the header is plausible: files that it claims to replace are removed."""
    span = header.end_seq - header.first_seq
    return header.level == header.end_seq == header.samples == 0 or (
        header.level > 0 and header.samples <= span and 0 < span <= MAX_SPAN
    )


def encode(first_seq: int, record: Record) -> bytes:
    """Return the bytes of a record of the segment that begins at `first_seq`.

    Raises ValueError where it does not fit the format.
    """
    seq, end, wall_ms, samples, key, body, _ = record
    thinned = samples != end - seq
    if thinned:
        body = (end - seq).to_bytes(4, "little") + body
    if len(body) > MAX_LENGTH or not first_seq <= seq < end <= first_seq + MAX_SPAN:
        raise ValueError(f"a record of {samples} samples in {len(body)} bytes is over the format's limits")
    if not 0 <= wall_ms < 1 << 48:
        raise ValueError(f"{wall_ms} ms is not a time after 1970")
    head = RECORD.pack(
        MARK | len(body) << 8,
        0,
        seq - first_seq,
        wall_ms & 0xFFFFFFFF,
        wall_ms >> 32,
        samples << 2 | thinned << 1 | key,
    )
    rest = head[8:] + body
    return head[:4] + _checksum(first_seq, head[1:4], rest).to_bytes(4, "little") + rest


def _checksum(first_seq: int, length: bytes, rest: bytes) -> int:
    return zlib.crc32(rest, zlib.crc32(length, zlib.crc32(first_seq.to_bytes(8, "little"))))


def encode_note(first_seq: int, note: Note) -> bytes:
    """Return the bytes of the note that ends the provisional segment which begins at `first_seq`."""
    body = _NOTE.pack(note.shift_ms, note.base_ms, note.is_estimated)
    head = RECORD.pack(MARK | len(body) << 8, 0, 0, 0, 0, 0)
    rest = head[8:] + body
    return head[:4] + _checksum(first_seq, head[1:4], rest).to_bytes(4, "little") + rest


def decode_note(data: bytes, first_seq: int) -> Note | None:
    """Return the note that the last NOTE_SIZE bytes of a provisional segment are; None where they are something else."""
    is_marked = data[-1:] == MARKED
    found = decode(data[:-1] + b"\1" if is_marked else data, 0, first_seq)
    if not isinstance(found, Record) or not is_note(found) or len(found.body) != _NOTE.size:
        return None
    shift_ms, base_ms, is_estimated = _NOTE.unpack(found.body)
    return Note(shift_ms, base_ms, bool(is_estimated), is_marked)


def is_note(record: Record) -> bool:
    """Whether this is a note, which holds no samples."""
    return record.samples == 0 and record.seq == record.end


def next_mark(data: bytes, at: int) -> int:
    """Return the next offset from `at` on where a record may start; the end of `data` where none may."""
    found = data.find(_MARK, at)
    return len(data) if found < 0 else found


def decode(data: bytes, at: int, first_seq: int, longest: int = MAX_LENGTH) -> Record | Torn | Damaged | None:
    """Read the record at `at` of a segment that begins at `first_seq`.  None is a clean end.

    A body of more than `longest` bytes is taken for damage without a look.
    """
    if at >= len(data):
        return None
    if data[at] != MARK:
        return Damaged(at, at + 1, "no record starts here")
    if at + RECORD.size > len(data):
        return Torn(at)
    first, crc, offset, low, high, bits = RECORD.unpack_from(data, at)
    after = at + RECORD.size + (first >> 8)
    if after > len(data):
        return Torn(at)
    if first >> 8 > longest:
        return Damaged(at, at, "too much damage to look at a long record")
    seq, samples = first_seq + offset, bits >> 2
    if _checksum(first_seq, data[at + 1 : at + 4], data[at + 8 : after]) != crc:
        return Damaged(at, after, f"the record of seq {seq} fails its checksum")
    end, body = seq + samples, data[at + RECORD.size : after]
    if bits & 2:
        end, body = seq + int.from_bytes(body[:4], "little"), body[4:]
    return Record(seq, end, high << 32 | low, samples, bool(bits & 1), body, after)


def name(first_seq: int) -> str:
    """Return the file name of the segment that starts with this seq."""
    return f"{first_seq:020d}{SUFFIX}"


def listing(fs: Fs, folder: str) -> list[int]:
    """Return the first seqs of the segments in a folder, oldest first; other files are left out."""
    stems = [entry.removesuffix(SUFFIX) for entry in fs.list(folder) if entry.endswith(SUFFIX)]
    numbers = [int(stem) for stem in stems if len(stem) == 20 and stem.isascii() and stem.isdigit()]
    return sorted(number for number in numbers if number <= MAX_POSITION)


def listed(fs: Fs, folder: str) -> list[int]:
    """Return the same as `listing`; nothing where there is no such folder."""
    try:
        return listing(fs, folder)
    except FileNotFoundError:
        return []
