"""`limpet show`: charts of this host for people who know no PromQL.

Read-only; the agent may run, be stopped or be dead. What is drawn are means of the time between two points; the numbers
next to them are of all samples. Exit status: 0 shown, 1 there is no data, 2 wrong usage.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.cli import arguments as common
from agent.cli import output, querying
from agent.cli.view import DIM, HEAD, Cell, Styled, Table, View
from buffer.errors import LimpetError

if TYPE_CHECKING:
    from agent.cli.chart import Summary
    from agent.query.selecting import Data
    from agent.query.source import BufferSource
    from agent.query.value import Line, Steps
    from buffer.model import Labels

DEFAULT_MS = 3 * querying.HOUR_MS


class Panel(NamedTuple):
    """A chart: its title, and the metrics in it."""

    title: str
    metrics: tuple[str, ...]


class Subject(NamedTuple):
    """What a name shows."""

    help: str
    panels: tuple[Panel, ...]


SUBJECTS = {
    "cpu": Subject(
        "how busy the processors are",
        (
            Panel("CPU in use", ("cpu_usage_percent",)),
            Panel("CPU in use, by core", ("cpu_usage_per_core_percent",)),
        ),
    ),
    "memory": Subject(
        "memory and swap in use",
        (Panel("memory and swap in use", ("memory_usage_percent", "swap_usage_percent")),),
    ),
    "disk": Subject(
        "how full the file systems are",
        (Panel("space in use", ("disk_usage_percent",)), Panel("inodes in use", ("inode_usage_percent",))),
    ),
    "io": Subject(
        "how busy the disks are",
        (
            Panel("time with requests in flight", ("disk_io_util_percent",)),
            Panel("read and written", ("disk_read_bytes_per_sec", "disk_write_bytes_per_sec")),
        ),
    ),
    "network": Subject(
        "what the interfaces receive and send",
        (Panel("received", ("network_bytes_recv_per_sec",)), Panel("sent", ("network_bytes_sent_per_sec",))),
    ),
    "load": Subject(
        "the load average",
        (Panel("load average", ("load_average_1m", "load_average_5m", "load_average_15m")),),
    ),
    "temperature": Subject(
        "what the sensors measure", (Panel("temperature", ("sensor_temperature_celsius",)),)
    ),
}


class Drawn(NamedTuple):
    """A panel with its lines, and for each the numbers of all its samples."""

    panel: Panel
    lines: list[Line]
    summaries: list[Summary]
    unit: str


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Draws what this host did, from what the buffer holds. Without a name: what there is to show."
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help=f"one of: {', '.join(SUBJECTS)}")
    querying.times(parser)
    common.json(parser, "print what is drawn as JSON")
    common.buffer(parser)


def run(args: Namespace) -> int:
    """Draw the charts of a name, or list the names. Raises LimpetError."""
    if args.name is None:
        if args.json:
            output.write_json({"names": list(SUBJECTS)})
        else:
            rows: list[list[Cell]] = [[name, Styled(one.help, DIM)] for name, one in SUBJECTS.items()]
            output.show([Table(",", rows)])
        return 0
    subject = SUBJECTS.get(args.name)
    if subject is None:
        what = f"there is no {args.name!r}"
        raise LimpetError(
            "limpet show", what, f"Give one of: {', '.join(SUBJECTS)}; or ask with `limpet query`."
        )
    return _shown(args, subject)


def _shown(args: Namespace, subject: Subject) -> int:
    from agent.query.engine import evaluate
    from agent.query.parse import parse
    from agent.query.selecting import Whole, needs

    since_ms, until_ms = querying.span(args, time.time(), DEFAULT_MS)
    steps = querying.steps(since_ms, until_ms, None)
    data_dir, budget = common.place(args).data_dir, querying.budget()
    texts = {
        metric: f"avg_over_time({metric}[{steps.step_ms}ms])"
        for one in subject.panels
        for metric in one.metrics
    }
    trees = {metric: parse(text) for metric, text in texts.items()}
    with querying.source(data_dir, budget) as source:
        data = source.read(
            {key: Whole(*span) for tree in trees.values() for key, span in needs(tree, steps, budget).items()}
        )
        found = {
            metric: evaluate(tree, texts[metric], steps, lambda _: data, budget).lines
            for metric, tree in trees.items()
        }
    warnings = source.warnings()
    output.complain(*warnings)
    summaries = _summaries(data)
    panels = [one for panel in subject.panels if (one := _drawn(panel, found, summaries, source)).lines]
    if args.json:
        output.write_json(_document(args.name, panels, steps, warnings))
    if not panels:
        with common.readable(data_dir):
            return querying.nothing(source, since_ms, until_ms)
    if not args.json:
        output.show(_view(panels, steps, source.host))
    return 0


def _summaries(data: Data) -> dict[Labels, Summary]:
    """Return the numbers of each series, of every sample in the time."""
    from agent.cli.chart import summarized
    from agent.query.selecting import marker_free

    whole = {one.labels: marker_free(one) for found in data.values() for one in found}
    return {labels: summarized(one) for labels, one in whole.items() if one.values}


def _drawn(
    panel: Panel, found: dict[str, list[Line]], summaries: dict[Labels, Summary], source: BufferSource
) -> Drawn:
    from agent.ops.selector import NAME
    from agent.query.value import changed

    lines, numbers = [], []
    for metric in panel.metrics:
        for line in found[metric]:
            labels = changed(line.labels, NAME, metric)
            lines.append(line._replace(labels=labels))
            numbers.append(summaries[labels])
    units = {source.units.get(metric, "") for metric in panel.metrics if found[metric]}
    return Drawn(panel, lines, numbers, units.pop() if len(units) == 1 else "")


def _view(panels: list[Drawn], steps: Steps, host: Labels) -> View:
    from agent.cli import chart

    columns, rows = querying.room()
    legends = sum(min(len(one.lines), chart.MOST) + 4 for one in panels)
    height = max(4, (rows - legends - 1) // len(panels))
    view: View = []
    for one in panels:
        text = querying.writer(one.unit)
        lines, more = one.lines[: chart.MOST], len(one.lines) - chart.MOST
        names = chart.legend_names([line.labels for line in lines], host)
        view.append(Styled(f"{one.panel.title}{f' (and {more} more)' if more > 0 else ''}", HEAD))
        view += chart.chart(lines, steps.times, columns, height, text)
        view += [chart.legend(names, one.summaries[: chart.MOST], text), ""]
    return view[:-1]


def _document(name: str, panels: list[Drawn], steps: Steps, warnings: list[str]) -> dict[str, Any]:
    from agent.query import answer

    return {
        "name": name,
        "panels": [
            {
                "title": one.panel.title,
                "unit": one.unit,
                "series": [
                    answer.series(line.labels, answer.points(line, steps.times))
                    | {"summary": numbers._asdict()}
                    for line, numbers in zip(one.lines, one.summaries, strict=True)
                ],
            }
            for one in panels
        ],
        "warnings": warnings,
    }
