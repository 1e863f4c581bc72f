"""`limpet buffer tail`: the newest ticks, and those that follow.

Decodes from the key frame before the first tick that is shown, not the whole buffer. Read-only; it goes
on while the agent appends, stops, dies and starts again, and while segments are dropped.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from agent.cli import backlog, output
from agent.ops import jsonl
from agent.text import human
from agent.text.exposition import selector
from buffer import segment
from buffer.fs import Fs, RealFs
from buffer.model import Labels, Series, Tick
from buffer.reader import Entry, File, Reader
from buffer.segment import Record

POLL_SECONDS = 0.5
VALUES_IN_A_LINE = 4
UNLIMITED = 1 << 30


def tail(data_dir: str | None, config: str | None, number: int, form: str, *, follow: bool) -> int:
    """Print the last `number` ticks as `form` (lines, values, json); with `follow` those to come, too."""
    place = backlog.where(data_dir, config)
    fs, folder = RealFs(), f"{place.data_dir}/segments"
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNLIMITED
    render: Callable[[Tick], str] = {
        "lines": lambda tick: line(tick, room),
        "values": values,
        "json": lambda tick: output.json_text(document(tick), one_line=True),
    }[form]
    with backlog.readable(place.data_dir):
        reader, ticks = last(fs, folder, number)
    for tick in ticks:
        output.write(render(tick))
    while follow:
        with backlog.readable(place.data_dir):
            entry = _next(reader)
        if entry is None:
            time.sleep(POLL_SECONDS)
            continue
        output.write("".join(render(tick) for tick in entry.ticks))
    reader.close()
    return 0


def last(fs: Fs, folder: str, number: int) -> tuple[Reader, Iterable[Tick]]:
    """The last `number` ticks of a log, fewer where it has no more, and the reader that goes on after them.

    Raises OSError. A log that is not there yet has no ticks.
    """
    records, before = number, -1
    while True:
        start = _start(fs, folder, records)
        reader = Reader(fs, folder, start)
        ticks: deque[Tick] = deque(maxlen=number)
        while (entry := _next(reader)) is not None:
            ticks.extend(entry.ticks)
        # A record holds a tick or more, but damage can hide some: then it takes more records.
        if len(ticks) >= number or start == before:
            return reader, ticks
        reader.close()
        records, before = records * 4, start


def _start(fs: Fs, folder: str, records: int) -> int:
    """The position of the last record but so many; the oldest one's, where there are not so many."""
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
        ends: deque[int] = deque(maxlen=max(1, records))
        seqs: deque[int] = deque(maxlen=max(1, records))
        while (found := file.next()) is not None:
            if isinstance(found, Record):
                seqs.append(found.seq)
                ends.append(found.end)
        file.close()
        if ends and not records:
            return ends[-1]
        if len(seqs) >= records > 0:
            return seqs[0]
        records -= len(seqs)
        start = seqs[0] if seqs else start
    return start


def _next(reader: Reader) -> Entry | None:
    try:
        return reader.next()
    except FileNotFoundError:  # no segment was ever written, or the folder is just being replaced
        return None


def line(tick: Tick, room: int) -> str:
    """A tick on one line of at most `room` columns: time, collector, number of series, some values."""
    head = f"{human.moment(tick.at.wall_ms)}  {tick.group:<10} {len(tick.values):>5} series  "
    host = common(tick.series)
    shown = islice(zip(tick.series, tick.values, strict=True), VALUES_IN_A_LINE)
    text = head + ", ".join(f"{_named(s, host)} {human.quantity(s.name, v, s.unit)}" for s, v in shown)
    text += " …" if len(tick.values) > VALUES_IN_A_LINE else ""
    text = human.plain(text.rstrip())
    return (text if len(text) <= room else text[: room - 1] + "…") + "\n"


def values(tick: Tick) -> str:
    """A tick's samples, one a line: time, value, series with all its labels."""
    at = human.moment(tick.at.wall_ms)
    rows = (
        f"{at}  {human.quantity(s.name, v, s.unit):>12}  {selector(s.name, s.labels)}"
        for s, v in zip(tick.series, tick.values, strict=True)
    )
    return "".join(f"{human.plain(row)}\n" for row in rows)


def document(tick: Tick) -> dict[str, Any]:
    """A tick as `--json` prints it."""
    return {
        "timestamp_ms": tick.at.wall_ms,
        "boot_id": tick.at.boot_id,
        "collector": tick.group,
        "samples": [
            {"name": s.name, "labels": dict(s.labels), "value": jsonl.special(v)}
            for s, v in zip(tick.series, tick.values, strict=True)
        ],
    }


def common(series: Iterable[Series]) -> frozenset[tuple[str, str]]:
    """The labels that all of several series carry: the host's."""
    sets = [frozenset(one.labels) for one in series]
    return frozenset.intersection(*sets) if len(sets) > 1 else frozenset()


def _named(series: Series, host: frozenset[tuple[str, str]]) -> str:
    own: Labels = tuple(label for label in series.labels if label not in host)
    return selector(series.name, own)
