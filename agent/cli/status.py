"""`limpet buffer status`: how much waits for each destination, and what became of the rest.

Read-only: no lock is taken and no file is changed, whether the agent runs, is stopped, or is dead.
"""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.view import BREAK, DANGER, DIM, GOOD, WARNING, Cell, Styled, Table, View, properties
from agent.text import human
from buffer.lock import STATES as DISK_STATES

if TYPE_CHECKING:
    from buffer.inspect.status import DestinationStatus, Status

BUDGET = 0.001
"""The share of samples that may be lost."""
CLOCK_WARNING = 5.0
"""Seconds between the clocks that are worth a line, as in `limpet status`."""
OK = DISK_STATES[0]
STATES = {"sending": GOOD, "idle": GOOD, "waiting": WARNING, "held": DANGER, "stopped": DIM}


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    common.buffer(parser)
    once = parser.add_mutually_exclusive_group()
    common.option(
        once,
        "--fresh DURATION",
        "exit status 1 unless an agent runs and its newest sample is at most this old: a health check",
        type=common.duration,
    )
    common.watch(once)
    common.json(parser, "print JSON; with --watch one document a line")


def run(args: Namespace) -> int:
    """Show the backlog: once, or with `--watch` until Ctrl-C.

    With `--fresh` the exit status is 1 where it is not fresh (`not_fresh`); the reason is on standard error.
    """
    from buffer.inspect.status import status

    place = common.place(args)

    def read() -> Status:
        with common.readable(place.data_dir):
            os.listdir(place.data_dir)  # it may have gone since
            limits = place.max_bytes, time.time(), place.min_free, place.history_max_bytes
            return status(place.data_dir, *limits)

    if args.watch is not None:
        output.watch(
            args.watch,
            lambda width, _: show(read(), time.time(), width),
            (lambda: read().document()) if args.json else None,
        )
    found = read()
    if args.json:
        output.write_json(found.document())
    else:
        from agent.cli import screen

        output.show(show(found, time.time(), screen.width()))
    why = None if args.fresh is None else not_fresh(found, args.fresh, time.time())
    if why is None:
        return 0
    output.complain(f"{place.data_dir}: {why}")
    return 1


def not_fresh(found: Status, within: float, now: float) -> str | None:
    """Return why a status does not show an agent that wrote a sample in the last `within` seconds; None where it does.

    A newest sample from the future is one: the clock was set back, and the agent works.
    """
    if found.writer_pid is None:
        return "no agent writes to it"
    if found.newest_timestamp_ms is None:
        return "it has no samples"
    age = now - found.newest_timestamp_ms / 1000
    if age <= within:
        return None
    ill = (
        ""
        if found.disk_state in (None, OK)
        else f": the disk is {found.disk_state}, and newer ones are in memory"
    )
    return f"the newest sample is {age:.0f} s old{ill}"


def show(found: Status, now: float, columns: int) -> View:
    """Return the view at the UTC time `now` in seconds.

    The destinations are one table where it has room, else two, else a block for each.
    """
    from agent.cli import screen

    parts: View = [_header(found, now), ""]
    destinations = found.destinations
    if not destinations:
        return [*parts, Styled("No destination has a cursor in this buffer.", DIM)]
    whole = _destinations(destinations, FIGURES)
    halves = [
        _destinations(destinations, of) for of in (FIGURES[:BACKLOG_FIGURES], FIGURES[BACKLOG_FIGURES:])
    ]
    if not screen.fits(whole, columns) and all(screen.fits(half, columns) for half in halves):
        parts += [halves[0], "", halves[1]]
    else:
        parts.append(whole)
    notes = [note for one in destinations for note in _notes(one, now)]
    return [*parts, *([""] if notes else []), *notes]


def _notes(one: DestinationStatus, now: float) -> list[Styled]:
    """Return what is to say about a destination in words: its last error, tries and delivery, its clock, what it cost on the wire, and that it was removed."""
    notes = []
    if one.last_error:
        style = DANGER if one.state == "held" else WARNING
        notes.append(Styled(f"{one.name}: {one.last_error}", style))
    if one.state in ("waiting", "held"):
        notes.append(Styled(f"{one.name}: {'; '.join(tries(one, now))}", DIM))
    if (skew := one.clock_skew_seconds) is not None and abs(skew) > CLOCK_WARNING:
        way = "ahead of" if skew > 0 else "behind"
        text = f"{one.name}: this host's clock is {human.duration(abs(skew))} {way} the receiver's"
        notes.append(Styled(text, WARNING))
    if one.link is not None:
        notes.append(Styled(f"{one.name}: on the wire {human.spent(*one.link)}", DIM))
    if one.removed_timestamp_ms is not None:
        since = human.moment(one.removed_timestamp_ms)
        notes.append(Styled(f"{one.name}: not in the configuration since {since}", WARNING))
    return notes


def tries(one: DestinationStatus, now: float) -> list[str]:
    """Return when samples were delivered last, how often it was tried since, and when it is tried again."""
    last, again = one.delivered_timestamp_ms, one.next_try_timestamp_ms
    said = ["nothing was delivered yet" if last is None else f"the last delivery was {ago(last, now)}"]
    if one.failed_tries:
        said.append(human.plural(one.failed_tries, "try", "tries") + " since")
    if again is not None:
        left = again / 1000 - now
        said.append(f"the next in {human.duration(left)}" if left > 1 else "the next within seconds")
    return said


def ago(timestamp_ms: int, now: float) -> str:
    """Return how long ago a UTC time in ms was."""
    age = now - timestamp_ms / 1000
    return f"{human.duration(age)} ago" if age >= 0 else f"{human.duration(-age)} ahead of this clock"


def _header(found: Status, now: float) -> Table:
    cap, size = found.max_bytes, found.bytes
    pid, full = found.writer_pid, found.time_until_full_seconds
    used: Cell = human.size(size)
    if cap:
        share = size / cap
        style = DANGER if share >= 0.95 else WARNING if share >= 0.8 else GOOD
        used = [Styled(human.bar(share, 24), style), f" {human.size(size)} of {human.size(cap)}"]
    each = f", {found.bytes_per_sample:.2f} bytes each" if found.samples else ""
    rows: list[tuple[str, Cell]] = [
        ("buffer", found.data_dir),
        ("size", used),
        ("samples", f"{human.count(found.samples)} in {human.plural(found.segments, 'segment')}{each}"),
        ("oldest", _age(found.oldest_timestamp_ms, now)),
        ("newest", _age(found.newest_timestamp_ms, now)),
        ("history", _history(found, now)),
        ("writer", Styled("not running", WARNING) if pid is None else f"process {pid}"),
    ]
    if found.disk_state not in (None, OK) or found.unbuffered_samples:
        ill = (
            f"{found.disk_state}, {human.count(found.unbuffered_samples)} samples were kept in memory so far"
        )
        rows.append(("disk", Styled(ill, WARNING if found.disk_state == OK else DANGER)))
    if found.min_free_bytes is not None and found.free_bytes + found.history_bytes < found.min_free_bytes:
        free, floor = human.size(found.free_bytes), human.size(found.min_free_bytes)
        short = f"{free} are free, less than buffer.min_free_space ({floor}): nothing is kept on disk"
        rows.append(("volume", Styled(short, DANGER)))
    elif cap and found.disk_state in (None, OK):
        rows.append(("full in", "-" if full is None else f"{human.duration(full)}, at the present pace"))
    if found.quarantine_items:
        items = human.plural(found.quarantine_items, "refused batch", "refused batches")
        kept = f"{items}, {human.count(found.quarantine_samples)} samples: limpet buffer quarantine list"
        rows.append(("refused", Styled(kept, WARNING)))
    if found.damaged_records:
        damage = human.plural(found.damaged_records, "stretch", "stretches")
        rows.append(("damage", Styled(damage, DANGER)))
    return properties(rows)


def _age(timestamp_ms: int | None, now: float) -> str:
    if timestamp_ms is None:
        return "-"
    return f"{human.moment(timestamp_ms)}, {ago(timestamp_ms, now)}"


def _history(found: Status, now: float) -> str:
    """Return how much is kept of what every destination has."""
    if not found.history_segments:
        return "none"
    most = f" of {human.size(found.history_max_bytes)}" if found.history_max_bytes else ""
    since = found.history_oldest_timestamp_ms
    reaches = "" if since is None else f", from {human.moment(since)}, {ago(since, now)}"
    return f"{human.size(found.history_bytes)}{most}, {human.count(found.history_samples)} samples{reaches}"


def _loss(one: DestinationStatus) -> Cell:
    ratio = one.ledger.loss_ratio
    shown = f"{ratio * 100:.3f}".rstrip("0").rstrip(".")
    return Styled(f"{shown} %", DANGER if ratio > BUDGET else GOOD)


def _dropped(one: DestinationStatus) -> Cell:
    reasons = [f"{human.count(n)} {reason}" for reason, n in one.ledger.dropped.items() if n]
    pieces = [piece for reason in reasons for piece in (BREAK, Styled(reason, WARNING))]
    return [*pieces[1:]] or "0"


def _eta(one: DestinationStatus) -> str:
    eta = one.drain_eta_seconds
    return "-" if eta is None else human.duration(eta)


FIGURES: tuple[tuple[str, Callable[[DestinationStatus], Cell]], ...] = (
    ("state", lambda one: Styled(one.state, STATES.get(one.state, ""))),
    (">pending", lambda one: human.count(one.pending_samples)),
    (">on disk", lambda one: human.size(one.pending_bytes)),
    (">lag", lambda one: human.duration(one.lag_seconds) if one.pending_samples else "-"),
    (">drained in", _eta),
    (">delivered", lambda one: human.count(one.ledger.delivered)),
    (">dropped", _dropped),
    (">missed", lambda one: human.count(one.ledger.missed)),
    (f">lost (limit {BUDGET * 100:g} %)", _loss),
)
"""The columns of the table of destinations: title and cell."""
BACKLOG_FIGURES = 5


def _destinations(
    found: Sequence[DestinationStatus], figures: Sequence[tuple[str, Callable[[DestinationStatus], Cell]]]
) -> Table:
    rows = [[one.name, *(cell(one) for _, cell in figures)] for one in found]
    return Table(", ".join(["destination", *(title for title, _ in figures)]), rows)
