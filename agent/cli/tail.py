"""`limpet buffer tail`: the newest ticks, and those that follow.

Read-only; it continues while the agent appends, stops, dies and starts again, and while segments are dropped.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from functools import partial
from itertools import islice
from typing import Any

from agent.cli import arguments as common
from agent.cli import output
from agent.text import human
from agent.text.exposition import selector
from buffer.fs import RealFs
from buffer.model import Series, Tick

POLL_SECONDS = 0.5
VALUES_IN_A_LINE = 4
UNLIMITED = 1 << 30
INDENT = "    "
_BETWEEN_LABELS = re.compile(r'(?<=[^\\]",)')


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    common.buffer(parser)
    common.option(
        parser, "-n --number N", "how many ticks to show (default 10)", type=common.count, default=10
    )
    common.option(parser, "-f --follow", "continue with what is appended, until Ctrl-C")
    form = parser.add_mutually_exclusive_group()
    common.option(form, "--values", "print every sample, one a line")
    common.json(form, "print one JSON object per tick, one a line")


def run(args: Namespace) -> int:
    """Print the last ticks; with `--follow` those to come, too."""
    from agent.ops.tail import following, last

    data_dir = common.place(args).data_dir
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNLIMITED
    render = json_line if args.json else partial(values if args.values else line, room=room)
    with common.readable(data_dir):
        reader, ticks = last(f"{data_dir}/segments", args.number, RealFs(data_dir))
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


def line(tick: Tick, room: int) -> str:
    """Return a tick on one line of at most `room` columns: time, collector, number of series, some values.

    No name is cut, nor left to the terminal to fold: where a collector or the first series has a long one, there are more lines.
    """
    at, group, count = human.moment(tick.at.wall_ms), human.plain(tick.group), f"{len(tick.values):>5} series"
    head = f"{at}  {group:<10} {count}  "
    if len(head.rstrip()) > room:
        between = "  " if len(at) + 2 + len(group) <= room else f"\n{INDENT}"
        head = f"{at}{between}{group}\n{INDENT}{count.lstrip()}  "
    host = _shared_labels(tick.series)
    shown = islice(zip(tick.series, tick.values, strict=True), VALUES_IN_A_LINE)
    pieces = [human.plain(f"{_named(s, host)} {human.quantity(s.name, v, s.unit)}") for s, v in shown]
    if pieces and len(head.rpartition("\n")[2]) + len(pieces[0]) > room - 2 >= len(INDENT) + len(pieces[0]):
        head = f"{head.rstrip()}\n{INDENT}"
    *before, head = head.rpartition("\n")
    whole, text = len(tick.values) == len(pieces), head + ", ".join(pieces)
    while pieces and len(text) + (0 if whole else 2) > room:  # a name that is cut could not be copied
        pieces, whole = pieces[:-1], False
        text = head + ", ".join(pieces)
    return "".join(before) + text.rstrip() + ("" if whole else " …") + "\n"


def values(tick: Tick, room: int = UNLIMITED) -> str:
    """Return a tick's samples, one a line: time, value, series with all its labels.

    A series that has no room is on lines of its own, folded between its labels, so that it can be copied as it is.
    """
    at = human.moment(tick.at.wall_ms)
    found = []
    for series, value in zip(tick.series, tick.values, strict=True):
        head = f"{at}  {human.quantity(series.name, value, series.unit):>12}"
        name = human.plain(selector(series.name, series.labels))
        found += (
            [f"{head}  {name}"] if len(head) + 2 + len(name) <= room else [head, *_between_labels(name, room)]
        )
    return "".join(f"{row}\n" for row in found)


def _between_labels(name: str, room: int) -> list[str]:
    lines = [INDENT]
    for part in _BETWEEN_LABELS.split(name):
        if len(lines[-1]) + len(part) > room and lines[-1] != INDENT:
            lines.append(INDENT)
        lines[-1] += part
    return lines


def json_line(tick: Tick) -> str:
    """Return a tick as one line of JSON."""
    return output.json_text(document(tick), one_line=True)


def document(tick: Tick) -> dict[str, Any]:
    """Return a tick as `--json` prints it."""
    from agent.text.jsonl import special

    samples = [
        {"name": one.name, "labels": dict(one.labels), "value": special(value)}
        for one, value in zip(tick.series, tick.values, strict=True)
    ]
    at = tick.at
    return {"timestamp_ms": at.wall_ms, "boot_id": at.boot_id, "collector": tick.group, "samples": samples}


def _shared_labels(series: Iterable[Series]) -> frozenset[tuple[str, str]]:
    """Return the labels that all of several series carry: the host's."""
    sets = [frozenset(one.labels) for one in series]
    return frozenset.intersection(*sets) if len(sets) > 1 else frozenset()


def _named(series: Series, host: frozenset[tuple[str, str]]) -> str:
    return selector(series.name, tuple(label for label in series.labels if label not in host))
