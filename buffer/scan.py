"""Looking at one segment file as a whole: what in it is readable, and what is wrong with it; read-only.

Readable is a record whose bytes pass their checksum, with all records since its key frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from buffer import segment
from buffer.codec import CodecError, Decoder
from buffer.fs import Fs
from buffer.reader import File
from buffer.segment import RECORD, Damaged, Header, Record

_TELL_EVERY = 1 << 12
"""Records between two words about progress."""


class Damage(NamedTuple):
    """Where something is wrong in a file, in bytes, and what."""

    offset: int
    reason: str


class Scan:
    """One file by itself.

    `gone`: it is not there.  `torn`: it ends within a record.  `open_end`: it ends with damage, so that
    nobody can tell from it what followed.  `end` is the position after its last valid record, `at` the
    offset in bytes behind what was read; `damage` is the first of it, `damaged_bytes` all of it.
    """

    def __init__(self, first: int, size: int) -> None:
        self.first, self.size = first, size
        self.header = Header(first)
        self.gone = self.torn = self.open_end = False
        self.records = self.samples = self.lost = self.damaged_bytes = 0
        self.at = 0
        self.end = first
        self.damage: Damage | None = None
        self.oldest: int | None = None
        self.newest: int | None = None

    def damaged(self, at: int, size: int, reason: str) -> None:
        """Count damage."""
        self.damaged_bytes += size
        self.damage = self.damage or Damage(at, reason)


def scan_file(fs: Fs, folder: str, first: int, deep: bool, tell: Callable[[int], None]) -> Scan:
    """Read a file to its end; with `deep` decode every body.  `tell` hears of every so many bytes read."""
    scan = Scan(first, 0)
    try:
        scan.size = fs.size(f"{folder}/{segment.name(first)}")
        file = File(fs, folder, first)
    except FileNotFoundError:
        scan.gone = True
        return scan
    except segment.Short:
        scan.torn = True
        return scan
    except segment.NewerVersion as error:
        scan.open_end = True
        scan.damaged(0, scan.size, str(error))
        return scan
    except OSError as error:
        scan.open_end = True
        scan.damaged(0, scan.size, _reason(error))
        return scan
    try:
        scan.header = file.header
        if file.damaged_header:
            scan.damaged(0, segment.HEADER.size, "the header fails its checksum, or is another file's")
        _walk(scan, file, Decoder() if deep else None, tell)
    except OSError as error:
        scan.open_end = True
        scan.damaged(scan.at, max(0, scan.size - scan.at), _reason(error))
    finally:
        file.close()
    return scan


def _walk(scan: Scan, file: File, decoder: Decoder | None, tell: Callable[[int], None]) -> None:
    position = expected = scan.header.first_seq
    readable = explained = False
    records = samples = told = 0
    oldest, newest = 1 << 62, -1
    try:
        while (found := file.next()) is not None:
            if isinstance(found, Damaged):
                scan.damaged(found.at, found.after - found.at, found.why)
                readable, explained, scan.open_end = False, True, True
                continue
            seq, end, wall_ms, count, key, _, _ = found
            if not readable or seq != expected or decoder is not None:
                if seq != expected:
                    readable = False
                    if not explained:
                        scan.damaged(
                            _at(file, found), 0, f"expected the record of seq {expected}, found {seq}"
                        )
                readable, explained, scan.open_end = readable or key, False, False
                if readable and decoder is not None and not _decodes(decoder, found):
                    at = _at(file, found)
                    scan.damaged(at, file.offset - at, f"the record of seq {seq} cannot be decoded")
                    readable = False
                if not readable and scan.damage is None:
                    scan.damaged(_at(file, found), 0, "it does not begin with a key frame")
                scan.end = max(scan.end, end)
            expected, records = end, records + 1
            if readable and end > position:
                if seq > position:
                    scan.lost += seq - position
                position, samples = end, samples + count
                if wall_ms > newest:
                    newest = wall_ms
                if wall_ms < oldest:
                    oldest = wall_ms
            if not records & _TELL_EVERY - 1:
                tell(file.offset - told)
                told = file.offset
    finally:
        scan.at, scan.end = file.offset, max(scan.end, position)
        scan.records, scan.samples = records, samples
        scan.oldest, scan.newest = (oldest, newest) if samples else (None, None)
    tell(scan.size - told)
    scan.torn = scan.at < scan.size
    scan.lost += scan.end - position
    if scan.header.level:
        scan.end, scan.open_end = max(scan.end, scan.header.end_seq), False
        scan.lost = max(0, scan.header.samples - scan.samples)


def _at(file: File, record: Record) -> int:
    """Return where the record begins that the file gave last."""
    span = 4 if record.samples != record.end - record.seq else 0
    return file.offset - RECORD.size - span - len(record.body)


def _decodes(decoder: Decoder, record: Record) -> bool:
    try:
        frame = decoder.decode(record.body, record.wall_ms, record.key)
    except CodecError:
        return False
    return sum(len(tick.values) for tick in frame.ticks) == record.samples


def _reason(error: OSError) -> str:
    return f"it cannot be read: {(error.strerror or str(error)).lower()}"
