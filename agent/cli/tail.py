"""`limpet buffer tail`: the newest ticks, and those that follow.

Decodes from the key frame before the first tick that is shown, not the whole buffer. Read-only; it goes
on while the agent appends, stops, dies and starts again, and while segments are dropped.
"""

from __future__ import annotations

import shutil
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import deque
from collections.abc import Iterable
from functools import partial
from itertools import islice
from typing import Any

from agent.cli import arguments as common
from agent.cli import output
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


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    common.buffer(parser)
    parser.add_argument(
        "-n",
        "--number",
        metavar="N",
        type=common.count,
        default=10,
        help="how many ticks to show (default 10)",
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="continue with what is appended, until Ctrl-C"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--values", action="store_true", help="print every sample, one a line")
    common.json(form, "print one JSON object per tick, one a line")


def run(args: Namespace) -> int:
    """Print the last ticks; with `--follow` those to come, too."""
    data_dir = common.place(args).data_dir
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNLIMITED
    render = _json if args.json else values if args.values else partial(line, room=room)
    with common.readable(data_dir):
        reader, ticks = last(RealFs(), f"{data_dir}/segments", args.number)
    for tick in ticks:
        output.write(render(tick))
    while args.follow:
        with common.readable(data_dir):
            entry = following(reader)
        if entry is None:
            time.sleep(POLL_SECONDS)
            continue
        output.write("".join(render(tick) for tick in entry.ticks))
    reader.close()
    return 0


def last(fs: Fs, folder: str, number: int) -> tuple[Reader, Iterable[Tick]]:
    """The last `number` ticks of a log, fewer where it has no more, and the reader that continues after them.

    Raises OSError. A log that is not there yet has no ticks.
    """
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


def following(reader: Reader) -> Entry | None:
    """Return what the reader has next; None while nothing is appended, or no log exists yet."""
    try:
        return reader.next()
    except FileNotFoundError:  # no segment was ever written, or the folder is just being replaced
        return None


def line(tick: Tick, room: int) -> str:
    """A tick on one line of at most `room` columns: time, collector, number of series, some values."""
    head = f"{human.moment(tick.at.wall_ms)}  {tick.group:<10} {len(tick.values):>5} series  "
    host = shared_labels(tick.series)
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


def _json(tick: Tick) -> str:
    return output.json_text(document(tick), one_line=True)


def document(tick: Tick) -> dict[str, Any]:
    """Return a tick as `--json` prints it."""
    from agent.ops import jsonl

    return {
        "timestamp_ms": tick.at.wall_ms,
        "boot_id": tick.at.boot_id,
        "collector": tick.group,
        "samples": [
            {"name": s.name, "labels": dict(s.labels), "value": jsonl.special(v)}
            for s, v in zip(tick.series, tick.values, strict=True)
        ],
    }


def shared_labels(series: Iterable[Series]) -> frozenset[tuple[str, str]]:
    """Return the labels that all of several series carry: the host's."""
    sets = [frozenset(one.labels) for one in series]
    return frozenset.intersection(*sets) if len(sets) > 1 else frozenset()


def _named(series: Series, host: frozenset[tuple[str, str]]) -> str:
    own: Labels = tuple(label for label in series.labels if label not in host)
    return selector(series.name, own)
