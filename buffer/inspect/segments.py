"""What is in each file of a buffer: of history, and of the log.

`segments` reads every record and every column.  `glance` and `kept` must be quick on a small host with a full buffer: they read
the newest segment whole, and of the others what they say at their beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import zip_longest
from typing import NamedTuple

from buffer import segment
from buffer.fs import Fs, RealFs
from buffer.history import packed
from buffer.history.keep import FOLDER
from buffer.history.packed import PackedFile
from buffer.inspect.scan import scan_file
from buffer.ledger import Ledger
from buffer.reader import File
from buffer.segment import MAX_POSITION, Header, Record

Spans = Sequence[tuple[int, int]]


class SegmentStatus(NamedTuple):
    """What is in one segment file."""

    name: str
    level: int
    first_seq: int
    end_seq: int
    bytes: int
    records: int
    key_frames: int
    samples: int
    oldest_timestamp_ms: int | None
    newest_timestamp_ms: int | None
    damaged: int
    damaged_bytes: int
    history: bool = False
    """Whether every destination has settled it, and it is kept all the same."""
    provisional: bool = False
    """Whether its times are not known: those here are as the clock was."""

    def pending(self, ledger: Ledger) -> int:
        """Return how many samples in it a destination has not settled."""
        positions = ledger.unsettled(self.first_seq, self.end_seq)
        return positions - self.holes(ledger.gaps(self.end_seq))

    def holes(self, spans: Spans) -> int:
        """Return how many positions of these spans were thinned away in it."""
        return (
            Header(self.first_seq, self.level, self.end_seq, self.samples).holes(spans) if self.level else 0
        )


def segments(data_dir: str, fs: Fs | None = None) -> list[SegmentStatus]:
    """Read every segment file and return what is in each, oldest first: history, then the log.  Raises OSError."""
    fs, found = fs or RealFs(data_dir), list[SegmentStatus]()
    # The log first: what moves from it to history meanwhile is seen twice, not never.
    log = _segments(fs, f"{data_dir}/segments")
    begins = log[0].first_seq if log else MAX_POSITION
    folder = f"{data_dir}/{FOLDER}"
    found += [one for one in _segments(fs, folder) if one.first_seq < begins]
    found += [
        one
        for first in packed.listed(fs, folder)
        if (one := _packed(fs, folder, first, whole=True)) is not None
    ]
    return _in_order(found) + log


def _segments(fs: Fs, folder: str) -> list[SegmentStatus]:
    firsts = segment.listed(fs, folder)
    found = (_segment(fs, folder, *pair) for pair in zip_longest(firsts, firsts[1:]))
    return [one for one in found if one is not None]


def span(files: Iterable[SegmentStatus]) -> tuple[int | None, int | None]:
    """Return the oldest and the newest wall time in ms that is known of these segments."""
    times = [t for f in files for t in (f.oldest_timestamp_ms, f.newest_timestamp_ms) if t is not None]
    return min(times, default=None), max(times, default=None)


def glance(fs: Fs, folder: str) -> list[SegmentStatus]:
    """Return what the segments say of themselves; of the newest one, what is in it."""
    firsts = segment.listed(fs, folder)
    found = []
    for first, following in zip_longest(firsts, firsts[1:]):
        outline = None if following is None else _outline(fs, folder, first, following)
        found.append(outline or _segment(fs, folder, first, following))
    return [each for each in found if each is not None]


def kept(fs: Fs, folder: str, log_begins: int | None) -> list[SegmentStatus]:
    """Return what the files of history say of themselves; the log begins at the position where they end."""
    firsts = [first for first in segment.listed(fs, folder) if log_begins is None or first < log_begins]
    found = [_packed(fs, folder, first) for first in packed.listed(fs, folder)]
    for first, following in zip_longest(firsts, firsts[1:], fillvalue=log_begins):
        outline = None if following is None else _outline(fs, folder, first or 0, following)
        found.append(outline or _segment(fs, folder, first or 0, following))
    return _in_order(found)


def _in_order(found: Iterable[SegmentStatus | None]) -> list[SegmentStatus]:
    """Return the files of history in their order, without what another one has as well."""
    left: list[SegmentStatus] = []
    upto = -1
    for one in sorted((one for one in found if one is not None), key=lambda one: (one.first_seq, one.name)):
        if one.end_seq > upto:
            left.append(one._replace(history=True))
            upto = one.end_seq
    return left


def _packed(fs: Fs, folder: str, first: int, *, whole: bool = False) -> SegmentStatus | None:
    """Return what a packed file has in its header, and with `whole` what of it is damaged; None where it is gone."""
    name, damaged, size, records = packed.name(first), 0, 0, 0
    try:
        size = fs.size(f"{folder}/{name}")
        with closing(PackedFile(fs, folder, first)) as file:
            head = file.head
            if whole:
                damaged, records = sum(size for _, size, _ in file.check()), file.records
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return SegmentStatus(name, 0, first, first + 1, size, 0, 0, 0, None, None, 1, size)
    oldest, newest = (head.oldest_ms, head.newest_ms) if head.samples else (None, None)
    end, bad = head.end_seq, int(damaged > 0)
    return SegmentStatus(
        name, head.level, first, end, size, records, 0, head.samples, oldest, newest, bad, damaged
    )


def _outline(fs: Fs, folder: str, first: int, following: int) -> SegmentStatus | None:
    """Return what a sealed segment holds by its header, its first record, and the next one's name.

    None where its beginning is damaged.
    """
    name = segment.name(first)
    try:
        size = fs.size(f"{folder}/{name}")
        with closing(File(fs, folder, first)) as file:
            record, header = file.next(), file.header
    except (OSError, segment.Short, segment.NewerVersion):
        return None
    if file.damaged_header or not isinstance(record, Record):
        return None
    end, samples = (header.end_seq, header.samples) if header.level else (following, following - first)
    return SegmentStatus(
        name,
        header.level,
        first,
        end,
        size,
        0,
        0,
        samples,
        record.wall_ms,
        None,
        0,
        0,
        provisional=file.is_unplaced,
    )


def _segment(fs: Fs, folder: str, first: int, following: int | None) -> SegmentStatus | None:
    """Return what is in a segment; None where it was dropped since the folder was listed.

    One that cannot be read ends where the next one begins.
    """
    scan = scan_file(fs, folder, first)
    if scan.gone:
        return None
    end = max(scan.end, following or 0) if scan.error is not None else scan.end
    return SegmentStatus(
        segment.name(first),
        scan.header.level,
        first,
        end,
        scan.size,
        scan.records,
        scan.key_frames,
        scan.stored,
        *scan.stored_times,
        scan.stretches,
        scan.damaged_bytes,
        provisional=scan.is_unplaced,
    )
