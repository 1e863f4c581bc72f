"""What people see: tables and live views. No command imports rich but through the views.

The views are pure functions from values and a width to something rich can print. Texts from outside
(mount points, a receiver's words) are shown escaped: none of them reaches the terminal as a command.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from agent.cli import output
from agent.text import human
from agent.text.exposition import Reading
from buffer.model import Labels
from buffer.thin import STEPS_MS

if TYPE_CHECKING:
    from agent.ops.collect import Group as Collected
    from buffer.inspect.status import DestinationStatus, SegmentStatus, Status

BUDGET = 0.001  # the share of samples that may be lost
UNLIMITED = 1000  # the width of what is no terminal: a file, or the next program
DANGER, WARNING, GOOD, DIM, HEAD = "red", "yellow", "green", "dim", "bold"
STATES = {"sending": GOOD, "idle": GOOD, "waiting": WARNING, "held": DANGER, "stopped": DIM}


def width() -> int:
    """The columns that there are."""
    return _console().width


def text(view: RenderableType) -> str:
    """The view as text for standard output, with colors where it is a terminal that has them."""
    console = _console()
    with console.capture() as captured:
        console.print(view)
    lines = captured.get().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def live(view: Callable[[int, int], RenderableType], every: float) -> NoReturn:
    """Show the view, given columns and lines, again and again until Ctrl-C or SIGTERM.

    On a terminal it has the screen, which is then restored; elsewhere it is printed each time.
    """
    console = _console()
    if not console.is_terminal or console.is_dumb_terminal:
        while True:
            output.write(text(view(console.width, sys.maxsize)) + "\n")
            time.sleep(every)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    with Live(console=console, screen=True, auto_refresh=False) as screen:
        while True:
            note = Text(
                f"{human.moment(time.time() * 1000)}, every {human.duration(every)}; Ctrl-C ends it", DIM
            )
            room = console.size
            screen.update(Group(view(room.width, room.height - 2), Text(), note), refresh=True)
            time.sleep(every)


def status(found: Status, now: float, columns: int) -> RenderableType:
    """The view of what `buffer.inspect.status.status` returns, at the UTC time `now` in seconds."""
    parts: list[RenderableType] = [_header(found, now)]
    destinations = found.destinations
    if not destinations:
        return Group(*parts, Text(), Text("No destination has a cursor in this buffer.", DIM))
    whole = _destinations(destinations, FIGURES)
    backlog, ledger = FIGURES[:BACKLOG_FIGURES], FIGURES[BACKLOG_FIGURES:]
    tables = [whole] if _fits(whole, columns) else [_destinations(destinations, f) for f in (backlog, ledger)]
    for table in tables:
        parts += [Text(), table]
    notes = [note for one in destinations for note in _notes(one)]
    return Group(*parts, *([Text()] if notes else []), *notes)


def _notes(one: DestinationStatus) -> list[Text]:
    """What there is to say of a destination in words: its last error, and that it was removed."""
    found = []
    if one.last_error:
        found.append((one.last_error, DANGER if one.state == "held" else WARNING))
    if one.removed_timestamp_ms is not None:
        removed = f"not in the configuration since {human.moment(one.removed_timestamp_ms)}"
        found.append((removed, WARNING))
    return [Text(human.plain(f"{one.name}: {told}"), style, overflow="fold") for told, style in found]


def _header(found: Status, now: float) -> Table:
    table = properties()
    cap, size = found.max_bytes, found.bytes
    used = Text(human.size(size))
    if cap:
        share = size / cap
        style = DANGER if share >= 0.95 else WARNING if share >= 0.8 else GOOD
        used = Text.assemble((human.bar(share, 24), style), f" {human.size(size)} of {human.size(cap)}")
    pid, full = found.writer_pid, found.time_until_full_seconds
    table.add_row("buffer", Text(human.plain(found.data_dir)))
    table.add_row("size", used)
    counted = f"{human.count(found.samples)} in {human.plural(found.segments, 'segment')}"
    each = f", {found.bytes_per_sample:.2f} bytes each" if found.samples else ""
    table.add_row("samples", counted + each)
    table.add_row("oldest", _age(found.oldest_timestamp_ms, now))
    table.add_row("newest", _age(found.newest_timestamp_ms, now))
    table.add_row("writer", Text("not running", WARNING) if pid is None else f"process {pid}")
    if cap:
        table.add_row(
            "full in", "-" if full is None else f"{human.duration(full)}, at the pace of what is there"
        )
    if found.damaged_records:
        table.add_row("damage", Text(human.plural(found.damaged_records, "stretch", "stretches"), DANGER))
    return table


def _age(timestamp_ms: int | None, now: float) -> str:
    if timestamp_ms is None:
        return "-"
    age = now - timestamp_ms / 1000
    when = f"{human.duration(age)} ago" if age >= 0 else f"{human.duration(-age)} ahead of this clock"
    return f"{human.moment(timestamp_ms)}, {when}"


class Figure(NamedTuple):
    """A column of the destinations' table."""

    title: str
    of: Callable[[DestinationStatus], Text | str]


def _loss(one: DestinationStatus) -> Text:
    ratio = one.ledger.loss_ratio
    shown = f"{ratio * 100:.3f}".rstrip("0").rstrip(".")
    return Text(f"{shown} %", DANGER if ratio > BUDGET else GOOD)


def _dropped(one: DestinationStatus) -> Text:
    reasons = [f"{human.count(n)} {reason}" for reason, n in one.ledger.dropped.items() if n]
    return Text("\n".join(reasons) or "0", WARNING if reasons else "")


def _eta(one: DestinationStatus) -> str:
    eta = one.drain_eta_seconds
    return "-" if eta is None else human.duration(eta)


FIGURES = (
    Figure("state", lambda one: Text(one.state, STATES.get(one.state, ""))),
    Figure("pending", lambda one: human.count(one.pending_samples)),
    Figure("on disk", lambda one: human.size(one.pending_bytes)),
    Figure("lag", lambda one: human.duration(one.lag_seconds) if one.pending_samples else "-"),
    Figure("drained in", _eta),
    Figure("delivered", lambda one: human.count(one.ledger.delivered)),
    Figure("dropped", _dropped),
    Figure("missed", lambda one: human.count(one.ledger.missed)),
    Figure(f"lost (limit {BUDGET * 100:g} %)", _loss),
)
BACKLOG_FIGURES = 5


def _destinations(destinations: Sequence[DestinationStatus], figures: Sequence[Figure]) -> Table:
    table = plain_table()
    table.add_column("destination", overflow="fold")
    for figure in figures:
        table.add_column(figure.title, justify="left" if figure.title == "state" else "right", no_wrap=True)
    for one in destinations:
        table.add_row(Text(human.plain(one.name)), *(figure.of(one) for figure in figures))
    return table


def _fits(table: Table, columns: int) -> bool:
    console = Console(width=UNLIMITED)
    return Measurement.get(console, console.options, table).maximum <= columns


def segments(found: Sequence[SegmentStatus]) -> RenderableType:
    """The view of what `buffer.inspect.status.segments` returns."""
    table = plain_table()
    for title in ("segment", "size", "step", "records", "keys", "samples", "oldest", "newest", "damage"):
        table.add_column(title, justify="left" if title in ("segment", "oldest", "newest") else "right")
    for one in found:
        times = (
            "-" if t is None else human.moment(t) for t in (one.oldest_timestamp_ms, one.newest_timestamp_ms)
        )
        table.add_row(
            one.name.removesuffix(".seg").lstrip("0") or "0",
            human.size(one.bytes),
            human.duration(STEPS_MS[one.level] / 1000) if one.level else "full",
            human.count(one.records),
            human.count(one.key_frames),
            human.count(one.samples),
            *times,
            Text(str(one.damaged), DANGER if one.damaged else ""),
        )
    size = human.size(sum(one.bytes for one in found))
    samples = human.count(sum(one.samples for one in found))
    return Group(table, Text(f"{human.plural(len(found), 'segment')}, {size}, {samples} samples", DIM))


def readings(groups: Sequence[Collected], host: Mapping[str, str]) -> RenderableType:
    """Every series with its labels and its value, by collector; what all carry stands above, once."""
    table = plain_table()
    table.add_column("series", overflow="fold")
    table.add_column("labels", overflow="fold", style=DIM)
    table.add_column("value", justify="right", no_wrap=True)
    for group in groups:
        table.add_row(Text(group.name, HEAD), *_problem(group))
        for series, value in group.readings:
            own = ", ".join(f"{key}={label}" for key, label in _own(series.labels, host))
            shown = human.quantity(series.name, value, series.unit)
            table.add_row(f"  {series.name}", Text(human.plain(own)), shown)
    return Group(_identity(host), Text(), table)


def readings_live(
    groups: Sequence[Collected], host: Mapping[str, str], columns: int, lines: int
) -> RenderableType:
    """A row for each metric, with a value for each device; as many rows as there are lines.

    Where there are too few, the counters go first: the rates beside them say the same at a glance.
    """
    rows = _rows(groups, host)
    room = max(1, lines - 4)
    counters, hidden = 0, 0
    if len(rows) > room:
        counters = sum(row.counter for row in rows)
        rows = [row for row in rows if not row.counter]
    if len(rows) > room:
        hidden = len(rows) - room
        rows = rows[:room]
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=max((row.title.cell_len for row in rows), default=0))
    table.add_column(no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(row.title, row.value)
    left_out = [
        human.plural(number, what) for number, what in ((counters, "counter"), (hidden, "metric")) if number
    ]
    note = f"Not shown here: {' and '.join(left_out)}." if left_out else ""
    parts: list[RenderableType] = [_identity(host), Text(), table]
    return Group(*parts, Text(note, DIM)) if note else Group(*parts)


class Row(NamedTuple):
    """A line of the live view."""

    title: Text
    value: Text
    counter: bool


def _rows(groups: Sequence[Collected], host: Mapping[str, str]) -> list[Row]:
    rows = []
    for group in groups:
        rows.append(Row(Text(group.name, HEAD), Text().join(_problem(group)), counter=False))
        by_name: dict[str, list[Reading]] = {}
        for reading in group.readings:
            by_name.setdefault(reading[0].name, []).append(reading)
        for name, found in by_name.items():
            value = Text()
            for title, (series, number) in zip(_titles(found, host), found, strict=True):
                value.append("  " if value else "")
                value.append(f"{title} " if title else "", DIM)
                value.append(human.quantity(name, number, series.unit))
            rows.append(Row(Text(f"  {name}"), value, found[0][0].type == "counter"))
    return rows


def _titles(found: Sequence[Reading], host: Mapping[str, str]) -> list[str]:
    """What tells the series of a metric apart: the last label that does so alone, else all of them."""
    labels = [_own(series.labels, host) for series, _ in found]
    for at in range(-1, -1 - min(map(len, labels)), -1):
        last = [one[at][1] for one in labels]
        if len(set(last)) == len(last):
            return [human.plain(title) for title in last]
    return [human.plain("/".join(value for _, value in one)) for one in labels]


def _own(labels: Labels, host: Mapping[str, str]) -> Labels:
    return tuple(label for label in labels if label[0] not in host)


def _identity(host: Mapping[str, str]) -> Text:
    rest = "".join(f"  {key}={value}" for key, value in host.items() if key != "hostname")
    return Text.assemble((human.plain(host["hostname"]), HEAD), (human.plain(rest), DIM))


def _problem(group: Collected) -> list[Text]:
    if group.problem:
        return [Text(human.plain(group.problem), DANGER)]
    return [Text(human.plain("; ".join(group.unread)), WARNING)] if group.unread else []


def plain_table() -> Table:
    """A table without lines."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=DIM)


def properties() -> Table:
    """A table of titles, and of what they stand for."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style=DIM, no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _console() -> Console:
    whole = None if sys.stdout.isatty() or "COLUMNS" in os.environ else UNLIMITED
    return Console(file=sys.stdout, width=whole, highlight=False, markup=False, emoji=False)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
