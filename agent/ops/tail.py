"""The newest ticks of a log, and those that follow; reads from outside, and takes no lock.

Decodes from the key frame before the first tick that is wanted, not the whole log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from buffer import segment
from buffer.fs import Fs, RealFs
from buffer.model import Tick
from buffer.reader import Entry, File, Reader
from buffer.segment import Record


def last(folder: str, number: int, fs: Fs | None = None) -> tuple[Reader, Iterable[Tick]]:
    """Return the last `number` ticks of a log, and the reader that continues after them. Raises OSError.

    There are fewer where the log has no more, and none where it does not exist yet.
    """
    fs = fs or RealFs()
    records, before = number, -1
    while True:
        start = _start(fs, folder, records)
        reader = Reader(fs, folder, start)
        ticks: deque[Tick] = deque(maxlen=number)
        while (entry := following(reader)) is not None:
            ticks.extend(entry.ticks)
        # A record holds a tick or more, but damage can hide some: then it takes more records.
        if len(ticks) >= number or start == before:
            return reader, ticks
        reader.close()
        records, before = records * 4, start


def following(reader: Reader) -> Entry | None:
    """Return what the reader has next; None while nothing is appended, or no log exists yet. Raises OSError."""
    try:
        return reader.next()
    except FileNotFoundError:  # no segment was ever written, or the folder is just being replaced
        return None


def _start(fs: Fs, folder: str, records: int) -> int:
    """Return the position of the last record but so many; the oldest one's, where there are not so many."""
    start = 0
    try:
        firsts = segment.listing(fs, folder)
    except FileNotFoundError:
        return 0
    for first in reversed(firsts):
        try:
            file = File(fs, folder, first)
        except (FileNotFoundError, segment.Short, segment.NewerVersion):
            continue
        found = deque((one for one in file if isinstance(one, Record)), maxlen=max(1, records))
        file.close()
        if found and not records:
            return found[-1].end
        if len(found) >= records > 0:
            return found[0].seq
        records -= len(found)
        start = found[0].seq if found else start
    return start
