"""`limpet collect`: runs the collectors here and now, and shows what the agent would send.

Opens no buffer, sends nothing. A collector that hangs is left behind after its timeout, as in the agent,
and named; the others are shown, and so is what a collector could not read. Exit status 1 where a collector
could not be read at all.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from agent.cli import arguments as common
from agent.cli import output
from agent.text import human
from agent.text.exposition import Reading, documents, exposition

if TYPE_CHECKING:
    from agent.ops.collect import Collectors, Group

ONCE_SECONDS, WATCH_SECONDS = 1.0, 2.0


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Runs every enabled collector twice, one second apart, because rates need two readings, and shows "
        "the second. No buffer is opened and nothing is sent."
    )
    common.config(parser, more="; default: every collector, with its defaults")
    parser.add_argument("--watch", action="store_true", help="show every further reading too, until Ctrl-C")
    parser.add_argument(
        "--interval",
        metavar="DURATION",
        type=common.duration,
        help="time between two readings, such as 500ms or 5s; default: 1s, with --watch 2s",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--format",
        choices=("table", "prometheus", "json"),
        help="a table for people (default), Prometheus's text format 0.0.4, or a JSON array",
    )
    common.json(form, "the same as --format json; with --watch one array a line")


def run(args: Namespace) -> int:
    """Show the readings; once, or until Ctrl-C. Raises ConfigErrors."""
    from agent.config import Config, load_file
    from agent.ops.collect import Collectors

    config = load_file(args.config).config if args.config else Config()
    with closing(Collectors(config)) as collectors:
        if collectors.note:
            print(f"mask: {collectors.note}", file=sys.stderr)
        collectors.read()  # what rates are computed from
        return _show(collectors, args)


def _show(collectors: Collectors, args: Namespace) -> int:
    pause = args.interval or (WATCH_SECONDS if args.watch else ONCE_SECONDS)
    rounds = sys.maxsize if args.watch else 1
    if args.json or args.format == "json":
        return _each(collectors, pause, rounds, lambda groups: _json(groups, one_line=args.watch))
    if args.format == "prometheus":
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale: the format requires it
        return _each(collectors, pause, rounds, lambda groups: exposition(_readings(groups)))
    from agent.cli import show

    host = collectors.host
    if args.watch:
        show.live(lambda width, height: show.readings_live(collectors.read(), host, width, height), pause)
    return _each(collectors, pause, 1, lambda groups: show.text(show.readings(groups, host)))


def _json(groups: list[Group], *, one_line: bool) -> str:
    return output.json_text(documents(list(_readings(groups))), one_line=one_line)


def _each(collectors: Collectors, pause: float, rounds: int, render: Callable[[list[Group]], str]) -> int:
    groups: list[Group] = []
    for _ in range(rounds):
        time.sleep(pause)
        groups = collectors.read()
        output.write(render(groups))
        for group in groups:
            for text in (group.problem, *group.unread):
                if text:
                    print(f"{group.name}: {human.plain(text)}", file=sys.stderr)
    return 1 if any(group.problem for group in groups) else 0


def _readings(groups: list[Group]) -> Iterator[Reading]:
    return (reading for group in groups for reading in group.readings)
