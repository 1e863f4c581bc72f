"""What `limpet query` and `limpet show` share: the time that is meant, and reading with a bar and warnings."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.progress import Bar
from agent.text import human
from buffer.errors import LimpetError

if TYPE_CHECKING:
    from agent.query.limits import Budget
    from agent.query.source import BufferSource
    from agent.query.value import Steps

POINTS = 240
"""Steps of a time, where no step is given: more than a terminal of 80 columns can show."""
SHORTEST_STEP_MS = 10_000
SECONDS = 300.0
"""How long a query may take here: a person waits, sees a bar, and can press Ctrl-C."""
HOUR_MS = 3_600_000


def times(parser: Any) -> None:
    """Add the options for a span of time."""
    common.option(parser, "--last DURATION", "the time until now, such as 6h or 7d", type=length)
    common.option(parser, "--since TIME", "from a time on: a date, or 6h (ago)")
    common.option(parser, "--until TIME", "until a time; default: now")


def length(text: str) -> int:
    """Return a duration above 0, in milliseconds."""
    from agent.config.units import parse_duration

    try:
        found = round(parse_duration(text) * 1000)
    except ValueError:
        found = 0
    if found <= 0:
        raise argparse.ArgumentTypeError(f"expected a duration such as 30s, 6h or 7d, not {text!r}")
    return found


def span(args: Namespace, now: float, default_ms: int = HOUR_MS) -> tuple[int, int]:
    """Return the first and the last millisecond that is meant. Raises LimpetError."""
    if args.last is not None and (args.since is not None or args.until is not None):
        raise LimpetError("--last", "it is the time until now", "Leave out --since and --until, or --last.")
    now_ms = int(now) * 1000
    until_ms = now_ms if args.until is None else common.parse_time("--until", args.until, now)
    if args.since is not None:
        since_ms = common.parse_time("--since", args.since, now)
    else:
        since_ms = until_ms - (args.last or default_ms)
    if since_ms >= until_ms:
        raise LimpetError("--since", "it is not before --until", "Give an earlier time.")
    return since_ms, until_ms


def steps(since_ms: int, until_ms: int, step_ms: int | None) -> Steps:
    """Return the steps of a span. Where no step is given there are up to `POINTS`, and the last one is at its end.

    So the newest samples are seen, whatever the step is: that of a year takes a day and a half.
    """
    from agent.query.value import Steps

    if step_ms is not None:
        return Steps(since_ms, until_ms, step_ms)
    step = math.ceil((until_ms - since_ms) / POINTS / SHORTEST_STEP_MS) * SHORTEST_STEP_MS
    last_ms = max(since_ms, until_ms - until_ms % SHORTEST_STEP_MS)
    return Steps(last_ms - (last_ms - since_ms) // step * step, last_ms, step)


def budget() -> Budget:
    """Return what a query at the command line may cost."""
    from agent.query.limits import Budget, Limits

    return Budget(Limits(seconds=SECONDS), time.monotonic)


@contextmanager
def source(data_dir: str, allowed: Budget) -> Iterator[BufferSource]:
    """Give the buffer to read from, with a bar for as long as it takes. Raises LimpetError."""
    from agent.query.source import BufferSource

    with Bar(1) as bar, common.readable(data_dir):
        yield BufferSource(data_dir, allowed, bar.of)


def nothing(found: BufferSource, since_ms: int, until_ms: int) -> int:
    """Say that there is no data in a span of time, and what there is; return the exit status."""
    newest = found.newest_ms()
    there = "the buffer is empty" if newest is None else f"the newest sample is of {human.moment(newest)}"
    when = human.moment(until_ms) if since_ms == until_ms else human.span(since_ms, until_ms)
    output.complain(f"no data for {when}; {there}")
    return 1


def room() -> tuple[int, int]:
    """Return the columns and lines of the terminal; of anything else, those of a small one."""
    size = shutil.get_terminal_size((80, 24))
    return size.columns, size.lines if sys.stdout.isatty() else 24


def writer(unit: str) -> Callable[[float], str]:
    """Return what writes a value with its unit."""
    return lambda value: human.quantity("", value, unit)
