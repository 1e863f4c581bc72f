"""Scanning one segment file to its end: what it holds, what of that is readable, and what is damaged.

A record is readable if its bytes pass their checksum, and so do all records since its key frame.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from buffer import segment
from buffer.codec import CodecError, Decoder
from buffer.fs import Fs
from buffer.reader import File
from buffer.segment import MAX_POSITION, RECORD, Damaged, Header, Record

_REPORT_EVERY = 1 << 12
"""Records between two reports of progress."""


class Damage(NamedTuple):
    """Where a file is damaged, in bytes, and how."""

    offset: int
    reason: str


class Times(NamedTuple):
    """The wall times in ms of the oldest and the newest of some records; None where there are none."""

    oldest: int | None = None
    newest: int | None = None


class Scan:
    """What is in one segment file, looked at by itself.

    `records`, `key_frames`, `stored` (samples) and `stored_times` count every record that passes its checksum;
    `samples` and `times` only the readable ones at positions that no earlier record holds.  `lost` is the number of
    samples that should be there and are not readable.  `end` is the position after the last valid record, `at` the
    offset in bytes after what was read.  `damage` is the first damage, `stretches` and `damaged_bytes` are all of it.

    `gone`: there is no such file.  `torn`: it ends within a record.  `open_end`: it ends with damage, so nobody
    knows what followed.  `error` is the OSError that ended the scan.
    """

    def __init__(self, first: int, size: int = 0) -> None:
        self.first, self.size = first, size
        self.header, self.is_unplaced = Header(first), False
        self.gone = self.torn = self.open_end = False
        self.records = self.key_frames = self.stored = self.samples = self.lost = 0
        self.stretches = self.damaged_bytes = 0
        self.at, self.end = 0, first
        self.damage: Damage | None = None
        self.error: OSError | None = None
        self.stored_times, self.times = Times(), Times()

    def damaged(self, at: int, size: int, reason: str) -> None:
        """Count a stretch of damage."""
        self.stretches += 1
        self.damaged_bytes += size
        self.suspect(at, reason)

    def suspect(self, at: int, reason: str) -> None:
        """Keep what is wrong at this offset, unless something before it was."""
        self.damage = self.damage or Damage(at, reason)


def _no_progress(_count: int) -> None:
    """Nobody waits for it."""


def scan_file(
    fs: Fs, folder: str, first: int, *, deep: bool = False, progress: Callable[[int], None] = _no_progress
) -> Scan:
    """Scan a file; with `deep` decode every body.  `progress` is called with the bytes read since its last call."""
    scan = Scan(first)
    try:
        scan.size = fs.size(f"{folder}/{segment.name(first)}")
        with closing(File(fs, folder, first)) as file:
            scan.header, scan.is_unplaced = file.header, file.is_unplaced
            if file.damaged_header:
                reason = "the header fails its checksum, or is another file's"
                scan.damaged(0, segment.HEADER.size, reason)
            _walk(scan, file, Decoder() if deep else None, progress)
    except FileNotFoundError:
        scan.gone = True
    except segment.Short:
        scan.torn = True
    except (segment.NewerVersion, OSError) as error:
        scan.error = error if isinstance(error, OSError) else None
        scan.open_end = True
        scan.damaged(scan.at, max(0, scan.size - scan.at), reason_of(error))
    return scan


def reason_of(error: Exception) -> str:
    """Return the words for an error that ended a scan."""
    if isinstance(error, OSError):
        return f"it cannot be read: {(error.strerror or str(error)).lower()}"
    return str(error)


def _walk(scan: Scan, file: File, decoder: Decoder | None, progress: Callable[[int], None]) -> None:
    position = expected = scan.header.first_seq
    readable = explained = False
    records = keys = samples = reported = other = 0
    oldest, newest, other_oldest, other_newest = MAX_POSITION, -1, MAX_POSITION, -1
    try:
        for found in file:
            if isinstance(found, Damaged):
                scan.damaged(found.at, found.after - found.at, found.why)
                readable, explained, scan.open_end = False, True, True
                continue
            seq, end, wall_ms, count, key, _, _ = found
            if not readable or seq != expected or decoder is not None:
                at = _start(file, found)
                if seq != expected:
                    readable = False
                    if not explained:
                        scan.suspect(at, f"expected the record of seq {expected}, found {seq}")
                readable, explained, scan.open_end = readable or key, False, False
                if readable and decoder is not None and not _decodes(decoder, found):
                    scan.damaged(at, file.offset - at, f"the record of seq {seq} cannot be decoded")
                    readable = False
                if not readable:
                    scan.suspect(at, "it does not begin with a key frame")
                scan.end = max(scan.end, end)
            expected, records, keys = end, records + 1, keys + key
            if readable and end > position:
                if seq > position:
                    scan.lost += seq - position
                position, samples = end, samples + count
                if wall_ms > newest:
                    newest = wall_ms
                if wall_ms < oldest:
                    oldest = wall_ms
            else:
                other += count
                other_oldest, other_newest = min(other_oldest, wall_ms), max(other_newest, wall_ms)
            if not records & _REPORT_EVERY - 1:
                progress(file.offset - reported)
                reported = file.offset
    finally:
        scan.at, scan.end = file.offset, max(scan.end, position)
        scan.records, scan.key_frames = records, keys
        scan.samples, scan.stored = samples, samples + other
        scan.times = _times(oldest, newest)
        scan.stored_times = _times(min(oldest, other_oldest), max(newest, other_newest))
    progress(scan.size - reported)
    scan.torn = scan.at < scan.size
    scan.lost += scan.end - position
    if scan.header.level:
        scan.end, scan.open_end = max(scan.end, scan.header.end_seq), False
        scan.lost = max(0, scan.header.samples - scan.samples)


def _times(oldest: int, newest: int) -> Times:
    return Times(oldest, newest) if newest >= 0 else Times()


def _start(file: File, record: Record) -> int:
    """Return the offset of the record that the file returned last."""
    span = 4 if record.samples != record.end - record.seq else 0
    return file.offset - RECORD.size - span - len(record.body)


def _decodes(decoder: Decoder, record: Record) -> bool:
    try:
        frame = decoder.decode(record.body, record.wall_ms, record.key)
    except CodecError:
        return False
    return sum(len(tick.values) for tick in frame.ticks) == record.samples
