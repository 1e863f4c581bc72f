"""How much is in a buffer, what waits for each destination, and what became of the rest.

It is quick on a small host with a full buffer (`buffer.inspect.segments`).  What damage has taken of all but the newest
segment is known once a destination has met it; `verify` looks for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, NamedTuple

from buffer import lock, segment
from buffer.fs import Fs, RealFs
from buffer.hints import Progress
from buffer.history.keep import FOLDER
from buffer.inspect.segments import SegmentStatus, Spans, glance, kept, span
from buffer.ledger import SUFFIX, Ledger, load_all, load_hints
from buffer.lock import STATES
from buffer.quarantine import Quarantine
from buffer.reader import File, Reader
from buffer.segment import Record
from buffer.usage import Link, UsageNote, link

NO_LOSS = frozenset(("relabeled", "unstorable", "unchanged"))
"""Reasons for which the operator has chosen that samples are not delivered: by a rule, by the type of the destination, by
`send_unchanged_every`."""
SLOWEST = 0.1
"""Samples a second: what cursors round to. By less nothing is foretold."""


class Balance(NamedTuple):
    """What became of the samples since a destination began: appended = delivered + pending + sum(dropped)."""

    appended: int
    delivered: int
    pending: int
    dropped: dict[str, int]
    missed: int
    loss_ratio: float


class DestinationStatus(NamedTuple):
    """What waits for one destination, and its ledger."""

    name: str
    state: str
    last_error: str | None
    removed_timestamp_ms: int | None
    pending_samples: int
    pending_bytes: int
    oldest_pending_timestamp_ms: int | None
    lag_seconds: float
    drain_eta_seconds: float | None
    ledger: Balance
    delivered_timestamp_ms: int | None = None
    failed_tries: int = 0
    next_try_timestamp_ms: int | None = None
    clock_skew_seconds: float | None = None
    link: Link | None = None


class Status(NamedTuple):
    """The state of a buffer; docs/commands.md explains every field."""

    data_dir: str
    bytes: int
    max_bytes: int | None
    segments: int
    samples: int
    bytes_per_sample: float
    oldest_timestamp_ms: int | None
    newest_timestamp_ms: int | None
    writer_pid: int | None
    disk_state: str | None
    unbuffered_samples: int
    time_until_full_seconds: float | None
    damaged_records: int
    destinations: list[DestinationStatus]
    free_bytes: int = 0
    volume_bytes: int = 0
    min_free_bytes: int | None = None
    quarantine_items: int = 0
    quarantine_samples: int = 0
    quarantine_reasons: tuple[str, ...] = ()
    history_bytes: int = 0
    history_max_bytes: int | None = None
    history_segments: int = 0
    history_samples: int = 0
    history_oldest_timestamp_ms: int | None = None
    provisional_samples: int = 0

    def document(self) -> dict[str, Any]:
        """Return it as `limpet buffer status --json` prints it."""
        destinations = [
            {**one._asdict(), "ledger": one.ledger._asdict(), "link": one.link and one.link._asdict()}
            for one in self.destinations
        ]
        return {**self._asdict(), "destinations": destinations}


class _Log(NamedTuple):
    """The log as `status` sees it: its segments, its end, and the running total of missed samples."""

    fs: Fs
    folder: str
    segments: list[SegmentStatus]
    end: int
    missed: int


def status(
    data_dir: str,
    max_bytes: int | None = None,
    now: float | None = None,
    min_free: Callable[[int], int] | None = None,
    history_max_bytes: int | None = None,
) -> Status:
    """Return the state of a buffer at the UTC time `now` in seconds.  Raises OSError.

    `max_bytes` and `history_max_bytes` are the configured limits, and `min_free` returns the floor of free space for a volume's size; None where the
    configuration is not known.
    """
    fs, now = RealFs(data_dir), time.time() if now is None else now
    writer = lock.look(f"{data_dir}/lock")
    # The cursors first: what is appended and sent between the two reads is then pending, not negative.
    ledgers = load_all(fs, data_dir)
    files = glance(fs, f"{data_dir}/segments")
    history = kept(fs, f"{data_dir}/{FOLDER}", files[0].first_seq if files else None)
    if writer is None and files:  # it may have died between dropping a segment and accounting for it
        ledgers = {name: ledger.not_before(files[0].first_seq) for name, ledger in ledgers.items()}
    # A cursor can be ahead of the log after a power cut; the writer continues the numbering from there.
    end = max([0, *(file.end_seq for file in files), *(ledger.reach for ledger in ledgers.values())])
    # While the disk is ill, what the newest records say is in the writer's memory.
    missed = max(_missed(fs, f"{data_dir}/segments", end), writer.missed if writer else 0)
    log = _Log(fs, f"{data_dir}/segments", files, end, missed)
    size, samples = sum(file.bytes for file in files), sum(file.samples for file in files)
    oldest, newest = span(files)
    destinations = [
        _destination(
            log,
            name,
            ledger,
            load_hints(fs, f"{data_dir}/cursors/{name}{SUFFIX}").progress,
            "stopped" if writer is None else ledger.state,
            now,
        )
        for name, ledger in ledgers.items()
    ]
    free, volume = fs.free(data_dir)
    floor = min_free(volume) if min_free else None
    refused = Quarantine(data_dir).items()
    # It grows to its limit, or to the floor of free space: what comes first.  On a full disk it does not grow at all.
    # History counts as free, since it goes first.
    spare = free + sum(one.bytes for one in history) - (floor or 0)
    room = min(max(0, (max_bytes or 0) - size), max(0, spare))
    is_full = (writer is not None and writer.state != STATES[0]) or spare < 0
    return Status(
        data_dir=data_dir,
        bytes=size,
        max_bytes=max_bytes,
        segments=len(files),
        samples=samples,
        bytes_per_sample=round(size / samples, 3) if samples else 0.0,
        oldest_timestamp_ms=oldest,
        newest_timestamp_ms=newest,
        writer_pid=writer.pid if writer else None,
        disk_state=writer.state if writer else None,
        unbuffered_samples=writer.unbuffered if writer else 0,
        time_until_full_seconds=None
        if is_full or max_bytes is None
        else _until_full(room, files, destinations),
        damaged_records=max([sum(f.damaged for f in files), *(each.damaged for each in ledgers.values())]),
        destinations=destinations,
        free_bytes=free,
        volume_bytes=volume,
        min_free_bytes=floor,
        quarantine_items=len(refused),
        quarantine_samples=sum(item.samples for item in refused),
        quarantine_reasons=tuple(sorted({item.reason for item in refused})),
        history_bytes=sum(one.bytes for one in history),
        history_max_bytes=history_max_bytes,
        history_segments=len(history),
        history_samples=sum(one.samples for one in history),
        history_oldest_timestamp_ms=span(history)[0],
        provisional_samples=sum(file.samples for file in files if file.provisional),
    )


def _missed(fs: Fs, folder: str, end: int) -> int:
    """Return the running total of missed samples, from the last record."""
    missed = 0
    with closing(Reader(fs, folder, max(0, end - 1))) as reader:
        try:
            for entry in reader:
                missed = entry.missed
        except FileNotFoundError:
            pass
    return missed


def _destination(
    log: _Log, name: str, ledger: Ledger, progress: Progress, state: str, now: float
) -> DestinationStatus:
    gaps = ledger.gaps(log.end)
    thinned = sum(file.holes(gaps) for file in log.segments)
    pending = ledger.unsettled(ledger.position, log.end) - thinned
    size, oldest = _pending(log, gaps) if pending else (0, None)
    dropped = {"evicted": 0, "rejected": 0, **ledger.dropped}
    if thinned:
        dropped["thinned"] = dropped.get("thinned", 0) + thinned
    appended, missed = log.end - ledger.start, max(0, log.missed - ledger.missed_before)
    lost = sum(count for reason, count in dropped.items() if reason not in NO_LOSS) + missed
    return DestinationStatus(
        name=name,
        state=state,
        last_error=ledger.error,
        removed_timestamp_ms=ledger.removed_ms,
        pending_samples=pending,
        pending_bytes=size,
        oldest_pending_timestamp_ms=oldest,
        lag_seconds=round(max(0.0, now - oldest / 1000), 3) if oldest is not None else 0.0,
        drain_eta_seconds=round(pending / ledger.rate, 1)
        if state == "sending" and ledger.rate >= SLOWEST
        else None,
        ledger=Balance(
            appended=appended,
            delivered=ledger.delivered,
            pending=pending,
            dropped=dropped,
            missed=missed,
            loss_ratio=round(lost / (appended + missed), 6) if lost else 0.0,
        ),
        delivered_timestamp_ms=progress.delivered_ms,
        failed_tries=progress.tries,
        next_try_timestamp_ms=progress.next_try_ms if state in ("waiting", "held") else None,
        clock_skew_seconds=progress.skew,
        link=link(UsageNote(log.fs, log.folder.removesuffix("/segments"), name).load(), int(now * 1000)),
    )


def _pending(log: _Log, gaps: Spans) -> tuple[int, int | None]:
    """Return the bytes of the records in these gaps, and the wall time of the first one."""
    size, oldest = 0, None
    for file in log.segments:
        here = [(start, end) for start, end in gaps if start < file.end_seq and end > file.first_seq]
        if not here:
            continue
        found, first = file.bytes, file.oldest_timestamp_ms
        if here[0][0] > file.first_seq or here[0][1] < file.end_seq:
            found, first = _within(log, here, file)
        size += found
        oldest = first if oldest is None else oldest
    return size, oldest


def _within(log: _Log, gaps: Spans, file: SegmentStatus) -> tuple[int, int | None]:
    """Return the same of a file in which gaps begin or end.  It is read up to the last such edge only."""
    last = max(edge for gap in gaps for edge in gap if edge < file.end_seq)
    size, oldest, at = 0, None, 0
    try:
        with closing(File(log.fs, log.folder, file.first_seq)) as records:
            for found in records:
                if isinstance(found, Record):
                    rest = found.seq >= last
                    if any(found.seq < end and found.end > start for start, end in gaps):
                        size += (file.bytes if rest else records.offset) - at
                        oldest = found.wall_ms if oldest is None else oldest
                    if rest:
                        break
                at = records.offset
    except (OSError, segment.Short, segment.NewerVersion):
        return file.bytes, None
    return size, oldest


def _until_full(
    room: int, files: Iterable[SegmentStatus], destinations: Iterable[DestinationStatus]
) -> float | None:
    """Return the seconds until the room is used up at the present rate of growth; None while it drains, or where no time is known."""
    placed = [file for file in files if not file.provisional]
    oldest, newest = span(placed)
    size, span_ms = sum(file.bytes for file in placed), (newest or 0) - (oldest or 0)
    stuck = any(one.state in ("waiting", "held", "stopped") for one in destinations)
    return round(room / (size / (span_ms / 1000)), 1) if stuck and span_ms > 0 else None
