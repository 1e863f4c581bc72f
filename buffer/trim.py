"""Trimming: dropping the oldest segments because a person decided so.

Promises: whole segments go, oldest first, never the newest; what it costs is known before.  The ledgers balance,
whether the agent runs, is stopped or is killed meanwhile, and also if this process is killed: what a destination had
not settled is evicted for it, in the same way as when the buffer is full.

Only the writer changes a buffer.  Where no agent runs, the trim is the writer for a moment; otherwise it sends a
request to the agent (`buffer.requests`), which trims at its next sync.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from buffer import lock, requests
from buffer.buffer import Buffer
from buffer.errors import BufferInUse, LimpetError
from buffer.fs import Fs, RealFs
from buffer.inspect.segments import SegmentStatus, segments, span
from buffer.ledger import Ledger, load_all

PATIENCE = 30.0
"""Seconds to wait for the agent: three times its default sync_interval."""
_POLL = 0.1


class Cut(NamedTuple):
    """What a trim takes: everything before a position, and what that is."""

    before: int
    segments: int
    bytes: int
    samples: int
    oldest_timestamp_ms: int | None
    newest_timestamp_ms: int | None
    evicted: dict[str, int]
    """For each destination the samples that it has not received yet, and then never receives."""


def plan(data_dir: str, *, before_ms: int | None = None, to_size: int | None = None) -> Cut | None:
    """Return what a trim would take; None where there is nothing to take.  Raises OSError.

    Either everything in it is older than `before_ms`, or so much goes that `to_size` bytes are left.
    """
    fs = RealFs(data_dir)
    ledgers = load_all(fs, data_dir)  # first: what is delivered meanwhile costs less, not more
    return cut(segments(data_dir, fs), ledgers, before_ms=before_ms, to_size=to_size)


def cut(
    files: Sequence[SegmentStatus],
    ledgers: Mapping[str, Ledger],
    *,
    before_ms: int | None = None,
    to_size: int | None = None,
) -> Cut | None:
    """Choose of these segments; see `plan`."""
    count = _older(files[:-1], before_ms) if before_ms is not None else _larger(files, to_size or 0)
    if not count:
        return None
    gone, before = files[:count], files[count].first_seq
    evicted = {name: sum(file.pending(ledger) for file in gone) for name, ledger in ledgers.items()}
    size, samples = sum(f.bytes for f in gone), sum(f.samples for f in gone)
    return Cut(before, count, size, samples, *span(gone), evicted)


def _older(files: Sequence[SegmentStatus], before_ms: int) -> int:
    """Return how many files there are up to the last one before the first that is not older.

    A file without a readable record, or of a clock that nobody believed, has no age; it goes if one behind it does.
    """
    count = 0
    for i, file in enumerate(files, 1):
        if file.newest_timestamp_ms is not None and not file.provisional:
            if file.newest_timestamp_ms >= before_ms:
                break
            count = i
    return count


def _larger(files: Sequence[SegmentStatus], to_size: int) -> int:
    size, count = sum(f.bytes for f in files), 0
    while size > to_size and count < len(files) - 1:
        size -= files[count].bytes
        count += 1
    return count


def carry_out(
    data_dir: str,
    before: int,
    *,
    patience: float = PATIENCE,
    waiting: Callable[[int], None] = lambda _pid: None,
    fs: Fs | None = None,
) -> int | None:
    """Trim, and return when it is done: the pid of the agent that did it, None where this process did.

    `waiting` is called with the agent's pid when the request is made.  Raises OSError, and LimpetError where the
    agent does not trim within `patience` seconds; the request is then withdrawn.
    """
    fs = fs or RealFs(data_dir)
    deadline = time.monotonic() + patience
    asked: int | None = None
    try:
        while True:
            agent = lock.holder(f"{data_dir}/lock")
            if agent is None:
                if _by_itself(data_dir, before):
                    return None
            elif asked is None:
                requests.ask_trim(fs, data_dir, before)
                asked = agent
                waiting(agent)
            elif requests.trim(fs, data_dir) is None:
                return asked
            if time.monotonic() >= deadline:
                raise LimpetError(
                    data_dir,
                    f"process {agent or 'unknown'} has not trimmed it within {patience:g} s",
                    "Nothing waits for it any more: try again, or stop the agent and trim then.",
                )
            time.sleep(_POLL)
    finally:
        if asked is not None:
            requests.done(fs, data_dir)


def _by_itself(data_dir: str, before: int) -> bool:
    try:
        buffer = Buffer(data_dir, destinations=None)
    except BufferInUse:  # an agent has just started
        return False
    try:
        buffer.trim(before)
    finally:
        buffer.close()
    return True
