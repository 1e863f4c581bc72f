"""Thinning: ticks at a coarser step, so that a month offline leaves a coarse month, not a fine week.

Promises: in each bucket of the step, a thinned log keeps one sample of every series that was in it: the mean of a
gauge, the last value of everything else.  Its time is that of the series' last tick in the bucket, so it is on the
collection grid and no time occurs twice.  Mean values have six significant digits, because more would cost space and
say nothing; a value that never changed, and one of a bucket with a single tick, is kept bit for bit.  A stale marker
stays what it is, and replaces no value, because it is in a group of its own (`buffer.model.ENDED`).

A thinned record takes the position of the last record of its bucket.  A cursor in the middle of a bucket may
therefore send some samples a second time, as part of the mean and with a new timestamp.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, groupby
from typing import NamedTuple

from buffer import segment
from buffer.codec import Decoder, Encoder
from buffer.fs import TEMPORARY, Fs, write_all
from buffer.ledger import Ledger
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick
from buffer.reader import Entry, entries_of
from buffer.segment import MAX_SPAN, Header, Record

STEPS_MS = (0, 60_000, 600_000, 3_600_000)
"""The step of each level; level 0 is as collected, and level 3 is of history only (`buffer.history.tiers`)."""
COLLECTED_MS = 10_000
"""The step that level 0 is taken to have, to estimate how much thinning saves."""
KEEP_RAW, KEEP_FINE = 1 / 4, 1 / 2
"""Shares of `max_size`: so much of the newest data stays as collected, so much is thinned no further than once."""


class Thinned(NamedTuple):
    """A record of a thinned segment: the ticks of one instant for the positions up to `end`."""

    seq: int
    end: int
    ticks: list[Tick]
    missed: int


class _Group:
    """The ticks of one set of series in one bucket."""

    def __init__(self, tick: Tick) -> None:
        self.name, self.series = tick.group, tick.series
        self.at = tick.at
        self.rows: list[list[float]] = []

    def add(self, tick: Tick) -> None:
        self.at = tick.at
        self.rows.append(list(tick.values))

    def tick(self) -> Tick:
        columns = zip(*self.rows, strict=True)
        values = [_one(series, column) for series, column in zip(self.series, columns, strict=True)]
        return Tick(self.at, self.name, self.series, values)


def thin(entries: Iterable[Entry], step_ms: int) -> Iterator[Thinned]:
    """Return the thinned records of consecutive entries, in order, their positions without a gap."""
    for _, bucket in groupby(entries, key=lambda e: (e.wall_ms // step_ms, e.ticks[0].at.boot_id)):
        yield from _bucket(list(bucket))


def _bucket(entries: list[Entry]) -> Iterator[Thinned]:
    groups: dict[tuple[str, int], _Group] = {}
    for entry in entries:
        for tick in entry.ticks:
            # By identity: the decoder returns one object for as long as the set stays the same.
            groups.setdefault((tick.group, id(tick.series)), _Group(tick)).add(tick)
    instants: dict[Instant, list[Tick]] = {}
    for group in groups.values():
        instants.setdefault(group.at, []).append(group.tick())
    seq, end, missed = entries[0].seq, entries[-1].end, entries[-1].missed
    ordered = sorted(instants.items())
    for number, (_, ticks) in enumerate(ordered, 1):
        # At least one position for each record, and all the rest for the last one.
        upto = end if number == len(ordered) else seq + sum(len(tick.values) for tick in ticks)
        yield Thinned(seq, upto, ticks, missed)
        seq = upto


def _one(series: Series, column: tuple[float, ...]) -> float:
    last = column[-1]
    if series.type != "gauge" or last != last or column.count(last) == len(column):
        return last
    numbers = [value for value in column if value == value]
    return float(f"{sum(numbers) / len(numbers):.6g}")


def replace(fs: Fs, folder: str, old: Sequence[Header], level: int) -> tuple[Header, int]:
    """Write one segment thinned to `level` in place of the first of these consecutive ones; return its header and size.

    After a kill or a power cut at any moment each position is in the old files or in the new one: the new one takes
    the first one's place by a rename, and its header says where it ends.  Readers pass over what is left of the old
    ones, and the next start removes it.  Raises OSError, and the old ones are then still there.
    """
    header = Header(old[0].first_seq, level, old[-1].end_seq, 0)
    path = f"{folder}/{segment.name(header.first_seq)}"
    with suppress(FileNotFoundError):
        fs.unlink(path + TEMPORARY)
    fd = fs.create(path + TEMPORARY)
    try:
        size = segment.HEADER.size
        for record in _records(fs, folder, [each.first_seq for each in old], level):
            size += write_all(fs, fd, segment.encode(header.first_seq, record), size)
            header = header._replace(samples=header.samples + record.samples)
        write_all(fs, fd, segment.encode_header(header), 0)
        fs.sync(fd)
    except OSError:
        with suppress(OSError):
            fs.unlink(path + TEMPORARY)
        raise
    finally:
        fs.close(fd)
    fs.rename(path + TEMPORARY, path)
    fs.sync_folder(folder)
    return header, size


def _records(fs: Fs, folder: str, firsts: Sequence[int], level: int) -> Iterator[Record]:
    encoder, decoder = (
        Encoder(),
        Decoder(),
    )  # one decoder, so that all files share the objects of their series
    entries = chain.from_iterable(entries_of(fs, folder, first, decoder) for first in firsts)
    for seq, end, ticks, missed in thin(entries, STEPS_MS[level]):
        body, key = encoder.encode(ticks, missed)
        yield Record(seq, end, ticks[0].at.wall_ms, sum(len(tick.values) for tick in ticks), key, body)


def thinnable(
    segments: Sequence[tuple[Header, int]],
    limits: Limits,
    ledgers: Sequence[Ledger],
    ahead: Iterable[int | None] = (),
) -> tuple[int, list[Header]]:
    """Return which consecutive segments to thin next, and to which level; none where nothing may be thinned.

    The newest data stays fine (`KEEP_RAW`, `KEEP_FINE`), and what every destination has settled is not worth thinning.
    Skip a segment that contains a cursor, or the edge of a stretch, also of one about to start (`ahead`): samples
    already on their way must not be sent again inside a thinned record.  Segments with such an edge between them are
    not joined.  What nobody knows the time of is in no bucket, and what is an estimate waits for its mark.  The result fits in one segment, as far as the step allows to estimate.
    """
    sizes = [size for _, size in segments]
    newer = [sum(sizes[i + 1 :]) for i in range(len(sizes))]
    edges = {edge for ledger in ledgers for edge in (ledger.position, *chain.from_iterable(ledger.ahead))}
    edges |= {edge for edge in ahead if edge is not None}
    for level, share in ((1, KEEP_RAW), (2, KEEP_FINE)):
        run: list[Header] = []
        room = whole = limits.sealed_at * STEPS_MS[level] // max(STEPS_MS[level - 1], COLLECTED_MS)
        for (header, size), behind in zip(segments[:-1], newer, strict=False):
            good = (
                header.level == level - 1
                and header.base_ms is None
                and behind >= limits.max_size * share
                and _is_wanted(header, ledgers)
            )
            if run and not (good and room >= size and _is_one(run[0], header, edges)):
                if len(run) >= level:
                    break
                run, room = [], whole
            if good and room >= size and _is_one(header, header, edges):
                run.append(header)
                room -= size
        # A single segment is worth thinning; of coarse ones only several are, because they then share their tables.
        if len(run) >= level:
            return level, run
    return 0, []


def _is_wanted(header: Header, ledgers: Sequence[Ledger]) -> bool:
    """Whether some destination has not settled all of a segment; also where there is no destination."""
    return not ledgers or any(ledger.unsettled(header.first_seq, header.end_seq) for ledger in ledgers)


def _is_one(first: Header, last: Header, edges: Collection[int]) -> bool:
    """Whether the segments from the first to the last may become one: no edge is inside."""
    return last.end_seq - first.first_seq <= MAX_SPAN and not any(
        first.first_seq < edge < last.end_seq for edge in edges
    )
