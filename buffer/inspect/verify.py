"""Verification: every checksum of every segment, how the segments join, and the cursors.

Promises:
- What is called readable is what the agent can send: a readable record (`buffer.inspect.scan`) at positions that no
  earlier file holds.  Lost is what should be there as well and is not readable.  Only for damage after the last
  record of the log nobody can say what it was.
- What the agent leaves behind by itself is no damage: a torn tail, a file that a thinned one covers, the files it
  is writing, dropping or thinning at the moment.  Whatever looks like damage is read a second time.
- Memory: a window of one file, and a few numbers for each.

`deep` decodes every body as well: it finds what was wrong before its checksum was made, a defect of the
writer, and takes some ten times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from buffer import lock, segment
from buffer.fs import TEMPORARY, Fs, RealFs, names
from buffer.history import packed
from buffer.history.keep import FOLDER
from buffer.history.packed import Head, PackedFile
from buffer.inspect.scan import Damage, Scan, Times, reason_of, scan_file
from buffer.ledger import SUFFIX, load

ROUNDS = 20
"""List the folder again at most this often while files come and go."""
UNREADABLE = (
    "it cannot be read, or its sums are wrong; the destination starts again at the oldest record: "
    "some samples are sent twice, none is lost"
)
"""What is wrong with a cursor file that has no valid slot."""

Progress = Callable[[int, int], None]
_Key = tuple[int, int | None]
"""What distinguishes the files: first seq and size; no size for the newest one, which grows."""


class VerifiedSegment(NamedTuple):
    """What is in one segment file.  `damage` is the first of it, `damaged_bytes` all of it.

    A `leftover` is covered by a thinned segment: nothing in it counts.  `history` is what every destination has settled.
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
    history: bool = False


class Gap(NamedTuple):
    """Positions that no file holds."""

    first_seq: int
    end_seq: int


class VerifiedCursor(NamedTuple):
    """One cursor file; `position` is None where it cannot be read."""

    name: str
    position: int | None
    problem: str | None


class ForeignFile(NamedTuple):
    """A file that is not part of the log, by its path below the data directory."""

    path: str
    what: str


class Verification(NamedTuple):
    """Everything that was found."""

    segments: list[VerifiedSegment]
    gaps: list[Gap]
    cursors: list[VerifiedCursor]
    notes: list[ForeignFile]

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
) -> Verification:
    """Read everything and return what was found.  Raises OSError where a folder cannot be listed.

    `progress` is called now and then with the number of bytes that were read, and of those there are.
    """
    fs, folder = fs or RealFs(data_dir), f"{data_dir}/segments"
    # The cursors first: the log that is read after them reaches at least as far.
    cursors, notes = _cursors(fs, data_dir)
    found: dict[_Key, Scan] = {}
    keys: list[_Key] = []
    for _ in range(ROUNDS):
        keys = _keys(fs, folder)
        missing = [key for key in keys if key not in found]
        if not missing:
            break
        report = _progress(fs, folder, missing, progress)
        for key in missing:
            scan = scan_file(fs, folder, key[0], deep=deep, progress=report)
            if scan.damage:  # a writer that takes a failed append back, and appends again, can look like that
                scan = scan_file(fs, folder, key[0], deep=deep, progress=report)
            found[key] = scan
    segments, gaps = _join([found[key] for key in keys if key in found and not found[key].gone])
    kept = _history(fs, f"{data_dir}/{FOLDER}", progress, deep=deep)
    end = max((one.end_seq for one in segments), default=0)
    notes += _foreign(fs, data_dir)
    segments = kept + segments
    return Verification(segments, gaps, [_checked(cursor, reach, end) for cursor, reach in cursors], notes)


def _history(fs: Fs, folder: str, progress: Progress | None, *, deep: bool) -> list[VerifiedSegment]:
    keys = _keys(fs, folder)
    report = _progress(fs, folder, keys, progress)
    scans = [scan_file(fs, folder, first, deep=deep, progress=report) for first, _ in keys]
    # What every destination has: what is missing there is missed by nobody.
    found, _ = _join([scan for scan in scans if not scan.gone])
    found += [one for first in packed.listed(fs, folder) for one in _packed(fs, folder, first, deep=deep)]
    return [one._replace(history=True) for one in sorted(found, key=lambda one: (one.first_seq, one.name))]


def _packed(fs: Fs, folder: str, first: int, *, deep: bool) -> Iterator[VerifiedSegment]:
    """Yield what is in a packed file; nothing where it has gone."""
    name, size, damage, damaged = packed.name(first), 0, None, 0
    head = Head(0, first, first, 0, 0, 0)
    records = 0
    try:
        size = fs.size(f"{folder}/{name}")
        with closing(PackedFile(fs, folder, first)) as file:
            head = file.head
            for offset, length, what in file.check(deep=deep):
                damage, damaged = damage or Damage(offset, what), damaged + length
            records = file.records
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        damage, damaged, head = Damage(0, reason_of(error)), size, head._replace(samples=0)
    oldest, newest = (head.oldest_ms, head.newest_ms) if head.samples else (None, None)
    yield VerifiedSegment(
        name,
        head.level,
        first,
        head.end_seq,
        size,
        records,
        head.samples,
        0,
        damaged,
        damage,
        oldest,
        newest,
        False,
    )


def _keys(fs: Fs, folder: str) -> list[_Key]:
    """Return the files by position and size, and none where another one has taken in what has gone meanwhile."""
    firsts: list[int] = []
    for _ in range(ROUNDS):
        firsts = segment.listed(fs, folder)
        found = [(first, size) for first in firsts[:-1] if (size := _size(fs, folder, first)) is not None]
        if len(found) == len(firsts[:-1]):
            return [*found, *((one, None) for one in firsts[-1:])]
    return [(one, None) for one in firsts]


def _size(fs: Fs, folder: str, first: int) -> int | None:
    try:
        return fs.size(f"{folder}/{segment.name(first)}")
    except OSError:
        return None  # dropped since


def _progress(fs: Fs, folder: str, keys: Sequence[_Key], progress: Progress | None) -> Callable[[int], None]:
    """Return what adds up the bytes that were read of these files, and reports them."""
    if progress is None:
        return lambda _: None
    total, done = sum(size or _size(fs, folder, first) or 0 for first, size in keys), 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress(min(done, total), total)

    return report


def _verified(
    scan: Scan, samples: int, lost: int, damage: Damage | None, *, leftover: bool = False
) -> VerifiedSegment:
    return VerifiedSegment(
        segment.name(scan.first),
        scan.header.level,
        scan.first,
        scan.end,
        scan.size,
        scan.records,
        samples,
        lost,
        scan.damaged_bytes,
        damage,
        *(Times() if leftover else scan.times),
        leftover,
    )


def _join(scans: Sequence[Scan]) -> tuple[list[VerifiedSegment], list[Gap]]:
    """Put the files together, in the order in which they are read."""
    found: list[VerifiedSegment] = []
    gaps: list[Gap] = []
    position, covered = scans[0].first if scans else 0, 0
    for i, scan in enumerate(scans):
        start = scan.first
        if scan.first < covered and scan.end <= covered:
            found.append(_verified(scan, 0, 0, None, leftover=True))
            continue
        if i and start > position:
            _explain(found, gaps, scans[i - 1], Gap(position, start))
        samples, lost, damage = scan.samples, scan.lost, scan.damage
        if start < position and scan.end > start:
            damage = damage or Damage(0, f"what it holds up to {min(scan.end, position)} is in another file")
            samples = max(0, samples - (min(scan.end, position) - start))
            lost = min(lost, max(0, scan.end - position))
        found.append(_verified(scan, samples, lost, damage))
        position = max(position, scan.end)
        if scan.header.level:
            covered = scan.end
    return found, gaps


def _explain(found: list[VerifiedSegment], gaps: list[Gap], before: Scan, gap: Gap) -> None:
    """Attribute a gap to the file before it where that was visibly cut short; else no file held it."""
    last = found[-1]
    if not (before.torn or before.open_end) or last.leftover:
        gaps.append(gap)
        return
    damage = last.damage or Damage(before.at, "the file is cut short")
    lost = last.samples_lost + gap.end_seq - gap.first_seq
    found[-1] = last._replace(samples_lost=lost, damage=damage, end_seq=gap.end_seq)


def _cursors(fs: Fs, data_dir: str) -> tuple[list[tuple[VerifiedCursor, int]], list[ForeignFile]]:
    """Return the cursors, each with the position after the last one that is settled, and the foreign files."""
    folder, found, notes = f"{data_dir}/cursors", [], []
    for name in names(fs, folder):
        if not name.endswith(SUFFIX):
            if not name.endswith(TEMPORARY):
                notes.append(ForeignFile(f"cursors/{name}", "not a file of Limpet's"))
            continue
        ledger = load(fs, f"{folder}/{name}")
        # It may have been forgotten, or be absent for the instant of a rename.
        if ledger is None and name in fs.list(folder):
            ledger = load(fs, f"{folder}/{name}")
        stem = name.removesuffix(SUFFIX)
        if ledger is None:
            found.append((VerifiedCursor(stem, None, UNREADABLE), 0))
        else:
            found.append((VerifiedCursor(stem, ledger.position, None), ledger.reach))
    return found, notes


def _checked(cursor: VerifiedCursor, reach: int, end: int) -> VerifiedCursor:
    if reach <= end:
        return cursor
    problem = (
        f"it is {reach - end} samples ahead of the log, whose newest records are missing; "
        "new ones continue from there"
    )
    return cursor._replace(problem=problem)


def _foreign(fs: Fs, data_dir: str) -> list[ForeignFile]:
    folder = f"{data_dir}/segments"
    known = {segment.name(first) for first in segment.listed(fs, folder)}
    writing = lock.holder(f"{data_dir}/lock") is not None
    notes = []
    for name in names(fs, folder):
        if name in known or (name.endswith(TEMPORARY) and writing):
            continue
        what = "not a file of Limpet's"
        if name.endswith(TEMPORARY):
            what = "left by a process that died while thinning; the next start removes it"
        elif name.endswith(".damaged"):
            what = "kept aside when the agent started: no record in it could be read"
        notes.append(ForeignFile(f"segments/{name}", what))
    return notes
