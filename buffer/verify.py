"""Verification: every checksum of every segment, how the segments join, and the cursors; read-only.

Promises:
- What is called readable is what the agent can send: a record whose bytes pass their checksum, with all
  records since its key frame, at positions that no file before it holds.  Lost is what should be there
  beside it; only of damage behind the last record of the log nobody can tell what it was.
- What the agent leaves behind by itself is no damage: a torn tail, a file that a thinned one covers,
  the files it is just writing, dropping or thinning.  Whatever looks like damage is looked at twice.
- Nothing is locked, created or changed.  Memory: a window of one file, and a few numbers for each.

`deep` decodes every body as well: it finds what was wrong before its checksum was made, a defect of the
writer, and takes some ten times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from buffer import lock, segment
from buffer.fs import TEMPORARY, Fs, RealFs
from buffer.ledger import SUFFIX, load
from buffer.scan import Damage, Scan, scan_file

ROUNDS = 20
"""How often the folder is looked at again while files come and go."""

Progress = Callable[[int, int], None]


class Segment(NamedTuple):
    """What is in one segment file.  `damage` is the first of it, `damaged_bytes` all of it.

    A `leftover` is covered by a thinned segment: nothing in it counts.
    """

    name: str
    level: int
    first_seq: int
    end_seq: int
    bytes: int
    records: int
    samples: int
    samples_lost: int
    damaged_bytes: int
    damage: Damage | None
    oldest_timestamp_ms: int | None
    newest_timestamp_ms: int | None
    leftover: bool


class Gap(NamedTuple):
    """Positions that no file holds."""

    first_seq: int
    end_seq: int


class Cursor(NamedTuple):
    """One cursor file; `position` is None where it cannot be read."""

    name: str
    position: int | None
    problem: str | None


class Note(NamedTuple):
    """A file that is not part of the log, by its path below the data directory."""

    path: str
    what: str


class Report(NamedTuple):
    """Everything that was found."""

    segments: list[Segment]
    gaps: list[Gap]
    cursors: list[Cursor]
    notes: list[Note]

    @property
    def ok(self) -> bool:
        """Whether there is no damage anywhere."""
        bad_segment = any(one.damage for one in self.segments)
        return not (bad_segment or self.gaps or any(one.problem for one in self.cursors))

    @property
    def samples(self) -> int:
        """Samples that are readable."""
        return sum(one.samples for one in self.segments)

    @property
    def samples_lost(self) -> int:
        """Samples that should be there and are not readable."""
        between = sum(gap.end_seq - gap.first_seq for gap in self.gaps)
        return between + sum(one.samples_lost for one in self.segments)

    @property
    def span(self) -> tuple[int | None, int | None]:
        """Wall times in ms of the oldest and the newest readable record."""
        ends = [(one.oldest_timestamp_ms, one.newest_timestamp_ms) for one in self.segments]
        times = [t for pair in ends for t in pair if t is not None]
        return min(times, default=None), max(times, default=None)


def verify(
    data_dir: str, *, deep: bool = False, fs: Fs | None = None, progress: Progress | None = None
) -> Report:
    """Read everything and return what was found.  Raises OSError where a folder cannot be listed.

    `progress` is called with the bytes that were read and how many there are, now and then.
    """
    fs, folder = fs or RealFs(), f"{data_dir}/segments"
    # The cursors first: the log that is read after them reaches at least as far.
    ledgers, notes = _cursors(fs, data_dir)
    found: dict[tuple[int, int | None], Scan] = {}
    keys: list[tuple[int, int | None]] = []
    for _ in range(ROUNDS):
        keys = _keys(fs, folder)
        if all(key in found for key in keys):
            break
        missing = [key for key in keys if key not in found]
        tell = _teller(fs, folder, missing, progress)
        for key in missing:
            scan = scan_file(fs, folder, key[0], deep, tell)
            # A writer that takes a failed append back, and appends again, can show both for an instant.
            found[key] = scan_file(fs, folder, key[0], deep, tell) if scan.damage else scan
    segments, gaps = _judge([found[key] for key in keys if key in found and not found[key].gone])
    notes += _foreign(fs, data_dir)
    end = max((one.end_seq for one in segments), default=0)
    return Report(segments, gaps, [_checked(cursor, reach, end) for cursor, reach in ledgers], notes)


def _keys(fs: Fs, folder: str) -> list[tuple[int, int | None]]:
    """Return what tells the files apart: first seq and size, of the newest, which grows, no size."""
    firsts = _firsts(fs, folder)
    keys: list[tuple[int, int | None]] = []
    for first in firsts[:-1]:
        try:
            keys.append((first, fs.size(f"{folder}/{segment.name(first)}")))
        except OSError:
            continue  # dropped since
    return keys + [(first, None) for first in firsts[-1:]]


def _firsts(fs: Fs, folder: str) -> list[int]:
    try:
        return segment.listing(fs, folder)
    except FileNotFoundError:
        return []


def _teller(
    fs: Fs, folder: str, keys: Sequence[tuple[int, int | None]], progress: Progress | None
) -> Callable[[int], None]:
    if progress is None:
        return lambda _: None
    total, done = sum(size or _size(fs, folder, first) for first, size in keys), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress(min(done, total), total)

    return tell


def _size(fs: Fs, folder: str, first: int) -> int:
    try:
        return fs.size(f"{folder}/{segment.name(first)}")
    except OSError:
        return 0


def _segment(
    scan: Scan, samples: int, lost: int, damage: Damage | None, *, leftover: bool = False
) -> Segment:
    name, level, end, size, records = (
        segment.name(scan.first),
        scan.header.level,
        scan.end,
        scan.size,
        scan.records,
    )
    oldest, newest = (None, None) if leftover else (scan.oldest, scan.newest)
    return Segment(
        name,
        level,
        scan.first,
        end,
        size,
        records,
        samples,
        lost,
        scan.damaged_bytes,
        damage,
        oldest,
        newest,
        leftover,
    )


def _judge(scans: Sequence[Scan]) -> tuple[list[Segment], list[Gap]]:
    """Put the files together, in the order in which they are read."""
    found: list[Segment] = []
    gaps: list[Gap] = []
    position, covered = scans[0].first if scans else 0, 0
    for i, scan in enumerate(scans):
        start = scan.first
        if scan.first < covered and scan.end <= covered:
            found.append(_segment(scan, 0, 0, None, leftover=True))
            continue
        if i and start > position:
            _missing(found, gaps, scans[i - 1], Gap(position, start))
        samples, lost, damage = scan.samples, scan.lost, scan.damage
        if start < position and scan.end > start:
            damage = damage or Damage(0, f"what it holds up to {min(scan.end, position)} is in another file")
            samples = max(0, samples - (min(scan.end, position) - start))
            lost = min(lost, max(0, scan.end - position))
        found.append(_segment(scan, samples, lost, damage))
        position = max(position, scan.end)
        if scan.header.level:
            covered = scan.end
    return found, gaps


def _missing(found: list[Segment], gaps: list[Gap], before: Scan, gap: Gap) -> None:
    """Say of the file before a gap that it was cut, where that shows; else no file had it."""
    last = found[-1]
    if not (before.torn or before.open_end) or last.leftover:
        gaps.append(gap)
        return
    damage = last.damage or Damage(before.at, "the file is cut short")
    lost = last.samples_lost + gap.end_seq - gap.first_seq
    found[-1] = last._replace(samples_lost=lost, damage=damage, end_seq=gap.end_seq)


def _cursors(fs: Fs, data_dir: str) -> tuple[list[tuple[Cursor, int]], list[Note]]:
    try:
        names = sorted(fs.list(f"{data_dir}/cursors"))
    except FileNotFoundError:
        return [], []
    found, notes = [], []
    for name in names:
        if not name.endswith(SUFFIX):
            if not name.endswith(TEMPORARY):
                notes.append(Note(f"cursors/{name}", "not a file of Limpet's"))
            continue
        ledger = load(fs, f"{data_dir}/cursors/{name}")
        # It may have been let go, or not be there for the instant of a rename.
        if ledger is None and name in fs.list(f"{data_dir}/cursors"):
            ledger = load(fs, f"{data_dir}/cursors/{name}")
        problem = (
            None
            if ledger
            else (
                "it cannot be read, or its sums are wrong; the destination starts again at the oldest record: "
                "some samples are sent twice, none is lost"
            )
        )
        position = ledger.position if ledger else None
        found.append((Cursor(name.removesuffix(SUFFIX), position, problem), ledger.reach if ledger else 0))
    return found, notes


def _checked(cursor: Cursor, reach: int, end: int) -> Cursor:
    if reach <= end:
        return cursor
    ahead = reach - end
    problem = (
        f"it is {ahead} samples ahead of the log, whose newest records are missing; new ones go on from there"
    )
    return cursor._replace(problem=problem)


def _foreign(fs: Fs, data_dir: str) -> list[Note]:
    try:
        names = sorted(fs.list(f"{data_dir}/segments"))
    except FileNotFoundError:
        return []
    known = {segment.name(first) for first in segment.listing(fs, f"{data_dir}/segments")}
    writing = lock.holder(f"{data_dir}/lock") is not None
    notes = []
    for name in names:
        if name in known or (name.endswith(TEMPORARY) and writing):
            continue
        what = "not a file of Limpet's"
        if name.endswith(TEMPORARY):
            what = "left by a process that died while thinning; the next start removes it"
        elif name.endswith(".damaged"):
            what = "kept aside when the agent started: no record in it could be read"
        notes.append(Note(f"segments/{name}", what))
    return notes
