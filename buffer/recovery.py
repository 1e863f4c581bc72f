"""Recovery: what the files of a log hold when its writer opens it.

A file that holds a record is not changed here, nor removed unless a thinned one covers it.  What a writer left behind
that died while thinning is removed.  A newest file without a record is moved out of the way (`set_aside`).
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing, suppress
from typing import NamedTuple

from buffer import segment
from buffer.codec import CodecError, Decoder
from buffer.errors import NewerFormat
from buffer.fs import TEMPORARY, Fs
from buffer.model import Instant
from buffer.placing import Unplaced
from buffer.reader import File, Reader, entries_of, opened
from buffer.segment import Header, Note, Record


class Clocks(NamedTuple):
    """The provisional segments whose times are not known, in order; what is known of boots; what was placed by an estimate
    that is not marked; and the newest time of what was placed.
    """

    unplaced: list[Unplaced]
    bases: dict[str, int]
    unmarked: list[tuple[Unplaced, Note]]
    placed_ms: int


class Recovered(NamedTuple):
    """A log as it was found: the sizes of its files and the headers of the thinned ones, by first seq; the position
    after its last record, and what that record and those since its key frame say (see `buffer.log.Log`).

    `kept_ms` is the time of the newest record whose clock was believed.
    """

    sizes: dict[int, int]
    thinned: dict[int, Header]
    end: int
    missed: int
    last: dict[str, tuple[int, int]]
    clocks: Clocks
    kept_ms: int


def recover(fs: Fs, folder: str) -> Recovered:
    """Clear up a log's folder and find the end of the log.  Raises NewerFormat, OSError.

    A file that cannot be read is damage.  Only where the newest one cannot be read, and cannot be moved either, OSError
    is raised: nobody knows then where the log ends, and numbers are never reused.
    """
    sizes, thinned, provisional = _files(fs, folder)
    if sizes:
        with suppress(OSError):
            fs.sync_folder(folder)
    end = max((header.end_seq for header in thinned.values()), default=0)
    is_reached = False
    for first in sorted(sizes, reverse=True):
        found, is_readable = _last_records(fs, folder, first)
        if found is not None:
            key, end, is_reached = found[0], max(end, found[1]), True
            if (remembered := _remembered(fs, folder, key)) is not None:
                clocks = _clocks(fs, folder, sizes, provisional)
                missed, last, base = remembered
                if base is not None and first not in provisional:
                    clocks.bases.setdefault(*base)
                kept_ms = max(found[2], clocks.placed_ms)
                return Recovered(sizes, thinned, end, missed, last, clocks, kept_ms)
        elif not is_reached and first not in thinned:
            # Now, before anybody reads it and waits for what follows it.  The numbering continues after it where it
            # cannot be moved, or may hold records that cannot be read.
            try:
                set_aside(fs, folder, first)
                del sizes[first]
                if is_readable:
                    continue
            except OSError:
                if not is_readable:
                    raise
            end = max(end, first + 1)
    return Recovered(sizes, thinned, end, 0, {}, _clocks(fs, folder, sizes, provisional), 0)


def _clocks(fs: Fs, folder: str, sizes: Collection[int], provisional: Collection[int]) -> Clocks:
    """Return what is known of the clocks by which the segments of a log were written."""
    unplaced: list[Unplaced] = []
    unmarked: list[tuple[Unplaced, Note]] = []
    bases: dict[str, int] = {}
    placed_ms = 0
    for first in sorted(provisional):
        with suppress(OSError, segment.Short), closing(opened(fs, folder, first)) as file:
            if (at := _first_instant(file)) is None:
                continue
            one = _unplaced(file, at)
            if file.note is None:
                unplaced.append(one if unplaced else one._replace(kept_ms=max(one.kept_ms, placed_ms)))
                continue
            placed_ms = max(placed_ms, one.last_ms + file.note.shift_ms)
            if not file.note.is_estimated:
                bases[at.boot_id] = file.note.base_ms
            elif not file.note.is_marked:
                unmarked.append((one, file.note))
    bases |= {one.boot_id: one.good_ms for one in unplaced if one.good_ms is not None}
    lost = {one.boot_id for one in unplaced} - set(bases) - {one.boot_id for one in unplaced if one.refuted}
    for first in sorted(set(sizes) - set(provisional), reverse=True) if lost else ():
        with suppress(OSError, segment.Short), closing(opened(fs, folder, first)) as file:
            if (at := _first_instant(file)) is not None and at.boot_id in lost:
                # The first tick of a process is stamped with a time that is over: the latest one is the truest.
                bases[at.boot_id] = max(
                    one.ticks[0].at.wall_ms - one.ticks[0].at.mono_ms
                    for one in entries_of(fs, folder, first)
                    if one.ticks[0].at.boot_id == at.boot_id
                )
                lost.discard(at.boot_id)
    return Clocks(unplaced, bases, unmarked, placed_ms)


def _first_instant(file: File) -> Instant | None:
    """Return when a file begins, as the clock was; None where that cannot be read."""
    offset, found = file.offset, file.next()
    file.seek(offset)
    if not isinstance(found, Record):
        return None
    try:
        at = Decoder().decode(found.body, found.wall_ms - file.shift_ms, found.key).ticks[0].at
    except (CodecError, LookupError):
        return None
    base_ms = file.header.base_ms
    mono_ms = at.mono_ms if base_ms is None else at.wall_ms - base_ms
    return at._replace(mono_ms=mono_ms)


def _unplaced(file: File, at: Instant) -> Unplaced:
    header, end, last_ms, size = file.header, file.first_seq, at.wall_ms, file.offset
    for found in file:
        if isinstance(found, Record):
            end, last_ms, size = found.end, max(last_ms, found.wall_ms - file.shift_ms), file.offset
    return Unplaced(
        file.first_seq,
        end,
        at.boot_id,
        header.base_ms or 0,
        at.wall_ms,
        last_ms,
        header.kept_ms,
        size,
        header.good_ms,
        header.refuted,
    )


def set_aside(fs: Fs, folder: str, first: int) -> None:
    """Make way for the file of that name: an existing one starts at the end of the log and holds no record.

    It is the torn first write of a process that died, which is removed, or nothing but damage, which is kept for a
    person to see.  Raises OSError.
    """
    path = f"{folder}/{segment.name(first)}"
    if fs.size(path) <= segment.HEADER.size + segment.RECORD.size:
        fs.unlink(path)
    else:
        fs.rename(path, path + ".damaged")


def _files(fs: Fs, folder: str) -> tuple[dict[int, int], dict[int, Header], set[int]]:
    """Remove what is left of a thinning; return the sizes of the others, the headers of the thinned ones, and which are
    provisional.
    """
    for name in fs.list(folder):
        if name.endswith(TEMPORARY):  # of a process that died while thinning
            with suppress(OSError):
                fs.unlink(f"{folder}/{name}")
    sizes: dict[int, int] = {}
    thinned: dict[int, Header] = {}
    provisional: set[int] = set()
    covered = 0
    for first in segment.listing(fs, folder):
        path = f"{folder}/{segment.name(first)}"
        header = _header(fs, path, first)
        if first < covered:  # its thinned successor exists: the process died before this one was removed
            with suppress(OSError):
                fs.unlink(path)
            continue
        sizes[first] = 0
        with suppress(OSError):
            sizes[first] = fs.size(path)
        if header.level:
            thinned[first] = header
            covered = header.end_seq
        elif header.base_ms is not None:
            provisional.add(first)
    return sizes, thinned, provisional


def _header(fs: Fs, path: str, first: int) -> Header:
    try:
        fd = fs.open(path)
        try:
            data = fs.read(fd, segment.HEADER.size, 0)
            with suppress(OSError):  # a process that was killed need not have synced it
                fs.sync(fd)
        finally:
            fs.close(fd)
        return segment.decode_header(data, first) or _implied(fs, path, first)
    except OSError:  # it may be readable in part
        return Header(first)
    except segment.Short:
        return Header(first)
    except segment.NewerVersion as error:
        raise NewerFormat(path, str(error), "Run the newer version of Limpet that wrote it.") from None


def _implied(fs: Fs, path: str, first: int) -> Header:
    """Return what the rest of a file says where its header is damaged.  Raises OSError."""
    with closing(opened(fs, path.rpartition("/")[0], first)) as file:
        return file.header


def _last_records(fs: Fs, folder: str, first: int) -> tuple[tuple[int, int, int] | None, bool]:
    """Return the seq of the file's last key frame, the position after its last record, and the time of that, or, where
    that is not known, of the newest record before the file; None without a record.

    And whether the file could be read.
    """
    key, end, kept_ms, is_readable = -1, first, 0, True
    try:
        with closing(opened(fs, folder, first)) as file:
            for found in file:
                if isinstance(found, Record):
                    end = found.end
                    kept_ms = _kept_ms(file, found.wall_ms)
                    if found.key or key < 0:
                        key = found.seq
    except segment.Short:
        pass
    except OSError:
        is_readable = False
    return None if key < 0 else (key, end, kept_ms), is_readable


def _kept_ms(file: File, wall_ms: int) -> int:
    """Return the time of a record, or, where that is not known, of the newest one before its file."""
    base_ms, good_ms = file.header.base_ms, file.header.good_ms
    if base_ms is None or not file.is_unplaced:
        return wall_ms
    return file.header.kept_ms if good_ms is None else wall_ms - base_ms + good_ms


def _remembered(
    fs: Fs, folder: str, key: int
) -> tuple[int, dict[str, tuple[int, int]], tuple[str, int] | None] | None:
    """Return what the log says from this key frame on: see `Recovered`; and its boot, with the base of the clock.

    None where nothing of it can be read.  The first tick of a process is stamped with a time that is over: the latest
    base is the truest.
    """
    missed, last, base = None, dict[str, tuple[int, int]](), None
    with closing(Reader(fs, folder, key)) as reader:
        for entry in reader:
            missed = entry.missed
            at = entry.ticks[0].at
            if base is None or base[0] != at.boot_id or base[1] < at.wall_ms - at.mono_ms:
                base = at.boot_id, at.wall_ms - at.mono_ms
            for tick in entry.ticks:
                last[tick.group] = entry.wall_ms, len(tick.values)
    return None if missed is None else (missed, last, base)
