"""Looking at a buffer from outside: read-only, whether its writer runs, was stopped, or is dead.

Nothing here takes the writer's lock, creates, changes or removes a file; it works on a read-only copy.

`segments` reads every record.  `status` has to be quick on a small box with a full buffer: it reads the
newest segment whole, and of the others the header and the first record, which say what was written.
What damage has taken of them is known once a destination has met it; `verify` looks for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from buffer import lock, segment
from buffer.fs import Fs, RealFs
from buffer.ledger import Ledger, load_all
from buffer.log import holes
from buffer.reader import File, Reader
from buffer.segment import Damaged, Header, Record


class Segment(NamedTuple):
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


def segments(data_dir: str, fs: Fs | None = None) -> list[Segment]:
    """Read every segment file and return what is in each, oldest first."""
    fs = fs or RealFs()
    folder = f"{data_dir}/segments"
    return [found for first in _listing(fs, folder) if (found := _segment(fs, folder, first)) is not None]


def _glance(fs: Fs, folder: str) -> list[Segment]:
    """Return what the segments say of themselves; of the newest one, what is in it."""
    firsts = _listing(fs, folder)
    found = []
    for first, following in zip_longest(firsts, firsts[1:]):
        whole = None if following is None else _outline(fs, folder, first, following)
        found.append(whole or _segment(fs, folder, first))
    return [each for each in found if each is not None]


def _outline(fs: Fs, folder: str, first: int, following: int) -> Segment | None:
    """Return what a sealed segment holds by its header, its first record, and the next one's name.

    None where its beginning is damaged.
    """
    name = segment.name(first)
    try:
        size = fs.size(f"{folder}/{name}")
        file = File(fs, folder, first)
    except (FileNotFoundError, segment.Short, segment.NewerVersion):
        return None
    record, header = file.next(), file.header
    file.close()
    if file.damaged_header or not isinstance(record, Record):
        return None
    end, samples = (header.end_seq, header.samples) if header.level else (following, following - first)
    return Segment(name, header.level, first, end, size, 0, 0, samples, record.wall_ms, None, 0, 0)


def _listing(fs: Fs, folder: str) -> list[int]:
    try:
        return segment.listing(fs, folder)
    except FileNotFoundError:
        return []


def _segment(fs: Fs, folder: str, first: int) -> Segment | None:
    name = segment.name(first)
    empty = Segment(name, 0, first, first, 0, 0, 0, 0, None, None, 0, 0)
    try:
        size = fs.size(f"{folder}/{name}")
    except FileNotFoundError:  # dropped since the folder was listed
        return None
    try:
        file = File(fs, folder, first)
    except FileNotFoundError:
        return None
    except segment.Short:
        return empty._replace(bytes=size)
    except segment.NewerVersion:
        return empty._replace(bytes=size, damaged=1, damaged_bytes=size)
    end, records, keys, samples = first, 0, 0, 0
    damaged, damaged_bytes = int(file.damaged_header), file.damaged_header * segment.HEADER.size
    oldest: int | None = None
    newest: int | None = None
    while (found := file.next()) is not None:
        if isinstance(found, Damaged):
            damaged, damaged_bytes = damaged + 1, damaged_bytes + found.after - found.at
            continue
        records, keys, samples = records + 1, keys + found.key, samples + found.samples
        end = found.end
        oldest = found.wall_ms if oldest is None else min(oldest, found.wall_ms)
        newest = found.wall_ms if newest is None else max(newest, found.wall_ms)
    file.close()
    level, end = file.header.level, max(end, file.header.end_seq)
    return Segment(
        name, level, first, end, size, records, keys, samples, oldest, newest, damaged, damaged_bytes
    )


def status(data_dir: str, max_bytes: int | None = None, now: float | None = None) -> dict[str, Any]:
    """Return what `limpet buffer status --json` prints; docs/buffer.md explains every key.

    `max_bytes` is the configured cap, None where the configuration is not known; `now` is the UTC
    time in seconds.
    """
    fs, now = RealFs(), time.time() if now is None else now
    writer = lock.holder(f"{data_dir}/lock")
    # The cursors first: what is appended and sent between the two reads is then pending, not negative.
    ledgers = load_all(fs, data_dir)
    files = _glance(fs, f"{data_dir}/segments")
    if writer is None and files:  # it may have died between dropping a segment and accounting for it
        ledgers = {name: ledger.not_before(files[0].first_seq) for name, ledger in ledgers.items()}
    size = sum(file.bytes for file in files)
    samples = sum(file.samples for file in files)
    # A cursor can be ahead of the log after a power cut; the writer numbers on from there.
    end = max([0, *(file.end_seq for file in files), *(ledger.reach for ledger in ledgers.values())])
    times = [t for f in files for t in (f.oldest_timestamp_ms, f.newest_timestamp_ms) if t is not None]
    missed = _missed(fs, data_dir, end)
    destinations = [
        _destination(fs, data_dir, name, ledger, files, end, missed, writer, now)
        for name, ledger in ledgers.items()
    ]
    return {
        "data_dir": data_dir,
        "bytes": size,
        "max_bytes": max_bytes,
        "segments": len(files),
        "samples": samples,
        "bytes_per_sample": round(size / samples, 3) if samples else 0.0,
        "oldest_timestamp_ms": min(times, default=None),
        "newest_timestamp_ms": max(times, default=None),
        "writer_pid": writer,
        "time_until_full_seconds": _until_full(max_bytes, size, times, destinations),
        "damaged_records": max([sum(f.damaged for f in files), *(each.damaged for each in ledgers.values())]),
        "destinations": destinations,
    }


def _missed(fs: Fs, data_dir: str, end: int) -> int:
    """Return the running total of missed samples, from the last record."""
    reader, missed = Reader(fs, f"{data_dir}/segments", max(0, end - 1)), 0
    try:
        while (entry := reader.next()) is not None:
            missed = entry.missed
    except FileNotFoundError:
        pass
    reader.close()
    return missed


def _destination(
    fs: Fs,
    data_dir: str,
    name: str,
    ledger: Ledger,
    files: list[Segment],
    end: int,
    missed: int,
    writer: int | None,
    now: float,
) -> dict[str, Any]:
    gaps = ledger.gaps(end)
    thinned = sum(holes(Header(f.first_seq, f.level, f.end_seq, f.samples), gaps) for f in files if f.level)
    pending = ledger.unsettled(ledger.position, end) - thinned
    size, oldest = _pending(fs, data_dir, gaps, files) if pending else (0, None)
    state = "stopped" if writer is None else ledger.state
    dropped = {"evicted": 0, "rejected": 0, **ledger.dropped}
    if thinned:
        dropped["thinned"] = dropped.get("thinned", 0) + thinned
    appended, missing = end - ledger.start, max(0, missed - ledger.missed_before)
    lost = sum(dropped.values()) + missing
    return {
        "name": name,
        "state": state,
        "last_error": ledger.error,
        "removed_timestamp_ms": ledger.removed_ms,
        "pending_samples": pending,
        "pending_bytes": size,
        "oldest_pending_timestamp_ms": oldest,
        "lag_seconds": round(max(0.0, now - oldest / 1000), 3) if oldest is not None else 0.0,
        "drain_eta_seconds": round(pending / ledger.rate, 1) if state == "sending" and ledger.rate else None,
        "ledger": {
            "appended": appended,
            "delivered": ledger.delivered,
            "pending": pending,
            "dropped": dropped,
            "missed": missing,
            "loss_ratio": round(lost / (appended + missing), 6) if lost else 0.0,
        },
    }


def _pending(
    fs: Fs, data_dir: str, gaps: Sequence[tuple[int, int]], files: list[Segment]
) -> tuple[int, int | None]:
    """Return the bytes of what stands in these gaps, and the wall time of the first record there."""
    size, oldest = 0, None
    for file in files:
        here = [(start, end) for start, end in gaps if start < file.end_seq and end > file.first_seq]
        if not here:
            continue
        found, first = file.bytes, file.oldest_timestamp_ms
        if here[0][0] > file.first_seq or here[0][1] < file.end_seq:
            found, first = _within(fs, data_dir, here, file)
        size += found
        oldest = first if oldest is None else oldest
    return size, oldest


def _within(fs: Fs, data_dir: str, gaps: Sequence[tuple[int, int]], file: Segment) -> tuple[int, int | None]:
    """Return the same of one file in which gaps begin or end; its end is not read if nothing changes there."""
    try:
        records = File(fs, f"{data_dir}/segments", file.first_seq)
    except (FileNotFoundError, segment.Short, segment.NewerVersion):
        return file.bytes, None
    last = max(edge for gap in gaps for edge in gap if edge < file.end_seq)
    size, oldest, at = 0, None, 0
    while (found := records.next()) is not None:
        if isinstance(found, Record):
            rest = found.seq >= last
            if any(found.seq < end and found.end > start for start, end in gaps):
                size += (file.bytes if rest else records.offset) - at
                oldest = found.wall_ms if oldest is None else oldest
            if rest:
                break
        at = records.offset
    records.close()
    return size, oldest


def _until_full(
    max_bytes: int | None, size: int, times: list[int], destinations: list[dict[str, Any]]
) -> float | None:
    """Return the seconds until the cap is reached at the pace of what is there; None while it drains."""
    span = (max(times) - min(times)) / 1000 if times else 0
    stuck = any(d["state"] in ("waiting", "held", "stopped") for d in destinations)
    if max_bytes is None or not span or not stuck:
        return None
    return round(max(0, max_bytes - size) / (size / span), 1)
