"""`limpet collect`: runs the collectors here and now, and shows what the agent would send.

Opens no buffer, sends nothing. A collector that hangs is left behind after its timeout, as in the agent,
and named; the others are shown, and so is what a collector could not read. Exit status 1 where a collector
could not be read at all.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.view import DANGER, DIM, HEAD, WARNING, Styled, Table, View
from agent.text import human
from agent.text.exposition import Reading, documents, exposition
from buffer.model import Labels

if TYPE_CHECKING:
    from agent.ops.collect import Collectors, Group

INDENT = "    "
ONCE_SECONDS, WATCH_SECONDS = 1.0, 2.0


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Runs every enabled collector twice, one second apart, because rates need two readings, and shows "
        "the second. No buffer is opened and nothing is sent."
    )
    common.config(parser, ", without which every collector runs, with its defaults")
    common.option(parser, "--watch", "show every further reading too, until Ctrl-C")
    common.option(
        parser,
        "--interval DURATION",
        "time between two readings, such as 500ms or 5s; default: 1s, with --watch 2s",
        type=common.duration,
    )
    common.option(parser, "--traceback", "show where in its code a collector failed")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--format",
        choices=("table", "prometheus", "json"),
        help="a table for people (default), Prometheus's text format 0.0.4, or a JSON array",
    )
    common.json(form, "the same as --format json; with --watch one array a line")


def run(args: Namespace) -> int:
    """Show the readings; once, or until Ctrl-C. Raises ConfigErrors."""
    from agent.config import Config
    from agent.ops.collect import Collectors

    file = args.config or common.default_config()
    if not args.config and file and not os.access(file, os.R_OK):
        output.complain(f"{file}: this user may not read it, so the defaults are shown")
        file = None
    config = common.load(file).config if file else Config()
    with closing(Collectors(config)) as collectors:
        if collectors.note:
            output.complain(f"mask: {collectors.note}")
        collectors.read()  # what rates are computed from
        return _show(collectors, args)


def _show(collectors: Collectors, args: Namespace) -> int:
    pause = args.interval or (WATCH_SECONDS if args.watch else ONCE_SECONDS)
    rounds = sys.maxsize if args.watch else 1
    if args.json or args.format == "json":
        return _each(collectors, pause, rounds, lambda groups: _json(groups, one_line=args.watch), args)
    if args.format == "prometheus":
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale: the format requires it
        return _each(collectors, pause, rounds, lambda groups: exposition(_readings(groups)), args)
    host = collectors.host
    if args.watch:
        output.live(lambda _, height: show_live(collectors.read(), host, height), pause)
    from agent.cli import screen

    return _each(collectors, pause, 1, lambda groups: screen.text(show(groups, host, screen.width())), args)


def _json(groups: list[Group], *, one_line: bool) -> str:
    return output.json_text(documents(list(_readings(groups))), one_line=one_line)


def _each(
    collectors: Collectors, pause: float, rounds: int, render: Callable[[list[Group]], str], args: Namespace
) -> int:
    groups: list[Group] = []
    for _ in range(rounds):
        time.sleep(pause)
        groups = collectors.read()
        output.write(render(groups))
        for group in groups:
            for text in (group.problem, *group.unread):
                if text:
                    output.complain(f"{group.name}: {text}")
            if args.traceback:
                output.complain(*group.traceback.splitlines())
    return 1 if any(group.problem for group in groups) else 0


def _readings(groups: list[Group]) -> Iterator[Reading]:
    return (reading for group in groups for reading in group.readings)


def show(groups: Sequence[Group], host: Mapping[str, str], columns: int) -> View:
    """Return every series with its own labels and its value, by collector; the labels of all come first, once.

    Where a table has no room in so many columns, the labels are below the name.
    """
    from agent.cli import screen

    rows: list[tuple[str | Styled, Styled, str]] = []
    for group in groups:
        rows.append((Styled(group.name, HEAD), _problem(group), ""))
        for series, value in group.readings:
            own = ", ".join(f"{key}={label}" for key, label in _own(series.labels, host))
            value_text = human.quantity(series.name, value, series.unit)
            rows.append((f"  {series.name}", Styled(own, DIM), value_text))
    table = Table("series, labels, >value", rows)
    if screen.fits(table, columns):
        return [_identity(host), "", table]
    lines: View = [_identity(host), ""]
    widest = max((len(name) for name, *_ in rows if isinstance(name, str)), default=0)
    for name, labels, shown in rows:
        lines.append([f"{name:<{widest}}  ", shown] if isinstance(name, str) else [name, "  ", labels])
        if isinstance(name, str) and labels.text:
            lines.append([INDENT, labels])
    return lines


def show_live(groups: Sequence[Group], host: Mapping[str, str], lines: int) -> View:
    """Return a row for each metric, with a value for each device; as many rows as there are lines.

    Where there are too few lines, the counters are left out first: the rates give the same at a glance. Then each
    collector has its first rows, and those with many have the fewer of them.
    """
    every = [list(_rows(group, host)) for group in groups]
    room = max(1, lines - 4)
    counters, hidden = 0, 0
    if sum(map(len, every)) > room:
        counters = sum(row.counter for of in every for row in of)
        every = [[row for row in of if not row.counter] for of in every]
    if (count := sum(map(len, every))) > room:
        hidden = count - room
        every = [of[:share] for of, share in zip(every, shares([len(of) for of in every], room), strict=True)]
    rows = [row for of in every for row in of]
    parts: View = [_identity(host), "", Table(", ~", [(row.title, row.value) for row in rows])]
    left_out = [
        human.plural(number, what) for number, what in ((counters, "counter"), (hidden, "metric")) if number
    ]
    return [*parts, Styled(f"Not shown here: {' and '.join(left_out)}.", DIM)] if left_out else parts


def shares(wanted: Sequence[int], room: int) -> list[int]:
    """Return how much each gets of what there is: as much as it wants, or else as much as any other, the first ones first."""
    given = [0] * len(wanted)
    while room and given != list(wanted):
        for at, most in enumerate(wanted):
            if room and given[at] < most:
                given[at], room = given[at] + 1, room - 1
    return given


def _present(group: Group) -> list[Reading]:
    """Return the readings but for those of a swap that is not there, which are zeros."""
    has_none = any(series.name == "swap_total_bytes" and not value for series, value in group.readings)
    return [one for one in group.readings if not (has_none and one[0].name.startswith("swap_"))]


class Row(NamedTuple):
    """A line of the live view."""

    title: str | Styled
    value: list[str | Styled]
    counter: bool


def _rows(group: Group, host: Mapping[str, str]) -> Iterator[Row]:
    yield Row(Styled(group.name, HEAD), [_problem(group)], counter=False)
    by_name: dict[str, list[Reading]] = {}
    for reading in _present(group):
        by_name.setdefault(reading[0].name, []).append(reading)
    for name, found in by_name.items():
        value: list[str | Styled] = []
        for title, (series, number) in zip(_titles(found, host), found, strict=True):
            value += ["  " if value else "", Styled(f"{title} " if title else "", DIM)]
            value.append(human.quantity(name, number, series.unit))
        yield Row(f"  {name}", value, found[0][0].type == "counter")


def _titles(found: Sequence[Reading], host: Mapping[str, str]) -> list[str]:
    """Return what distinguishes the series of a metric: the last label that does so alone, else all of them."""
    labels = [_own(series.labels, host) for series, _ in found]
    for at in range(-1, -1 - min(map(len, labels)), -1):
        last = [one[at][1] for one in labels]
        if len(set(last)) == len(last):
            return last
    return ["/".join(value for _, value in one) for one in labels]


def _own(labels: Labels, host: Mapping[str, str]) -> Labels:
    return tuple(label for label in labels if label[0] not in host)


def _identity(host: Mapping[str, str]) -> list[str | Styled]:
    rest = "".join(f"  {key}={value}" for key, value in host.items() if key != "hostname")
    return [Styled(host["hostname"], HEAD), Styled(rest, DIM)]


def _problem(group: Group) -> Styled:
    return Styled(group.problem, DANGER) if group.problem else Styled("; ".join(group.unread), WARNING)
