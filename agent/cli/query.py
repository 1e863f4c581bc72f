"""`limpet query`: the answer to an expression, from what the buffer holds.

Read-only; the agent may run, be stopped or be dead. At one time it prints a table, over time a chart.
Exit status: 0 there is an answer, 1 there is no data, 2 the expression or an option is wrong.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from agent.cli import arguments as common
from agent.cli import output, querying
from agent.cli.view import DIM, Styled, Table, View
from agent.text import human
from buffer.errors import LimpetError

if TYPE_CHECKING:
    from agent.query.engine import Result
    from agent.query.source import BufferSource, Found
    from agent.query.tree import Matchers
    from agent.query.value import Steps


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = "Answers an expression in PromQL from what the buffer holds, delivered or not."
    parser.add_argument("expression", metavar="EXPRESSION", nargs="?", help="PromQL, see docs/query.md")
    common.option(parser, "--at TIME", "the answer at one time: a date, or 6h (ago); default: now")
    querying.times(parser)
    common.option(parser, "--step DURATION", "the time between two points", type=querying.length)
    what = parser.add_mutually_exclusive_group()
    common.option(what, "--series SELECTOR", "list the series that match, instead of an answer")
    what.add_argument(
        "--labels", metavar="LABEL", nargs="?", const="", help="list all labels, or the values of one"
    )
    form = parser.add_mutually_exclusive_group()
    common.json(form, "print JSON, as Prometheus's API has it")
    common.option(form, "--csv", "print CSV, as limpet buffer export does")
    common.buffer(parser)


def run(args: Namespace) -> int:
    """Print what is wanted. Raises LimpetError."""
    if sum(one is not None for one in (args.expression, args.series, args.labels)) != 1:
        raise LimpetError(
            "limpet query", "one thing is expected", "Give EXPRESSION, --series SELECTOR or --labels."
        )
    ranged = any(one is not None for one in (args.last, args.since, args.until))
    if args.at is not None and (ranged or args.step is not None):
        raise LimpetError("--at", "it is one time", "Leave out --last, --since, --until and --step, or --at.")
    if args.step is not None and not ranged:
        raise LimpetError("--step", "it needs a span of time", "Add --last 6h, for instance.")
    if args.expression is None:
        if args.csv or args.at is not None or args.step is not None:
            raise LimpetError(
                "limpet query", "--csv, --at and --step are for an expression", "Leave them out."
            )
        return _listed(args, ranged)
    return _answered(args, ranged)


# An expression.


def _answered(args: Namespace, ranged: bool) -> int:
    from agent.query.engine import evaluate
    from agent.query.parse import parse

    tree = parse(args.expression)
    steps = _steps(args, ranged)
    data_dir, budget = common.place(args).data_dir, querying.budget()
    with querying.source(data_dir, budget) as source:
        result = evaluate(tree, args.expression, steps, source.read, budget)
    warnings = source.warnings()
    output.complain(*warnings)
    if args.json:
        from agent.query import answer

        output.write_json(answer.document(answer.of_result(result), warnings))
    elif args.csv:
        _write_csv(result)
    if not (result.lines or result.raw or result.type in ("scalar", "string")):
        with common.readable(data_dir):
            return querying.nothing(source, steps.start_ms, steps.end_ms)
    if not args.json and not args.csv:
        output.show(_view(result, args.expression, source))
    return 0


def _steps(args: Namespace, ranged: bool) -> Steps:
    from agent.query.value import Steps

    now = time.time()
    if ranged:
        return querying.steps(*querying.span(args, now), args.step)
    at_ms = int(now) * 1000 if args.at is None else common.parse_time("--at", args.at, now)
    return Steps(at_ms, at_ms, 1)


def _view(result: Result, expression: str, source: BufferSource) -> View:
    if result.type == "string":
        return [result.text]
    if result.raw:
        return [_samples(result, source)]
    if len(result.times) == 1:
        return [_values(result, source)]
    return drawn(result, expression, source)


def _values(result: Result, source: BufferSource) -> Table:
    from agent.cli import chart

    names = chart.names_of([line.labels for line in result.lines], source.host)
    rows = [
        [_written(line.labels, value, source), name]
        for name, line in zip(names, result.lines, strict=True)
        for value in line.values
        if value is not None
    ]
    return Table(">,", rows)


def _samples(result: Result, source: BufferSource) -> Table:
    from agent.cli import chart

    rows = [
        [human.moment(ms), _written(one.labels, value, source), name]
        for one, name in zip(
            result.raw, chart.names_of([one.labels for one in result.raw], source.host), strict=True
        )
        for ms, value in zip(one.times, one.values, strict=True)
    ]
    return Table(",>,", rows)


def _written(labels: tuple[tuple[str, str], ...], value: float, source: BufferSource) -> str:
    """Return a value as people read it; its unit is known where it still has the name of a metric."""
    name = dict(labels).get("__name__", "")
    return human.quantity(name, value, source.units.get(name, ""))


def drawn(result: Result, expression: str, source: BufferSource) -> View:
    """Return the chart of a range, with as many series as it has room for."""
    from agent.cli import chart
    from agent.query.answer import points

    lines = result.lines[: chart.MOST]
    metrics = {dict(line.labels).get("__name__", "") for line in result.lines}
    unit = source.units.get(metrics.pop(), "") if len(metrics) == 1 else ""
    text = querying.writer(unit)
    columns, rows = querying.room()
    summaries = [chart.summary([value for _, value in points(line, result.times)]) for line in lines]
    names = chart.legend_names([line.labels for line in lines], source.host)
    height = max(5, rows - len(lines) - 6)
    every = human.duration((result.times[1] - result.times[0]) / 1000)
    note = f"a point every {every}"
    if len(result.lines) > len(lines):
        note += f"; {len(result.lines) - len(lines)} more series are not drawn: --json has all, topk(8, ...) picks"
    return [
        Styled(expression, DIM),
        *chart.chart(lines, result.times, columns, height, text),
        chart.legend(names, summaries, text),
        Styled(note, DIM),
    ]


def _write_csv(result: Result) -> None:
    from agent.query.answer import points
    from agent.text.export import csv
    from buffer.model import Instant, Series, Tick

    found = [(line.labels, points(line, result.times)) for line in result.lines]
    found += [(one.labels, list(zip(one.times, one.values, strict=True))) for one in result.raw]
    if result.type == "string":
        raise LimpetError("--csv", "the answer is a text, not numbers", "Leave out --csv.")
    ticks = (
        Tick(Instant(ms, 0, ""), "", series, (value,))
        for labels, pairs in found
        for series in [
            (Series(dict(labels).get("__name__", ""), tuple(x for x in labels if x[0] != "__name__")),)
        ]
        for ms, value in pairs
    )
    for piece in csv(ticks):
        output.write(piece)


# What there is.


def _listed(args: Namespace, ranged: bool) -> int:
    from agent.ops.replay.selection import FIRST_MS, LAST_MS

    matchers: Matchers = ()
    if args.series is not None:
        from agent.ops.selector import parse

        matchers = parse(args.series).matchers
    since_ms, until_ms = querying.span(args, time.time()) if ranged else (FIRST_MS, LAST_MS)
    data_dir, budget = common.place(args).data_dir, querying.budget()
    with querying.source(data_dir, budget) as source:
        found = source.series(matchers, (since_ms, until_ms))
    warnings = source.warnings()
    output.complain(*warnings)
    document, view = _series(found, source) if args.series is not None else _labels(found, args.labels)
    if args.json:
        from agent.query import answer

        output.write_json(answer.document(document, warnings))
    if not document:
        output.complain("no series is there, or none matches")
        return 1
    if not args.json:
        output.show(view)
    return 0


def _series(found: list[Found], source: BufferSource) -> tuple[list[Any], View]:
    from agent.cli.chart import names_of

    names = names_of([one.labels for one in found], source.host)
    rows = [
        [human.count(one.samples), human.moment(one.first_ms), human.moment(one.last_ms), name]
        for one, name in zip(found, names, strict=True)
    ]
    return [dict(one.labels) for one in found], [Table(">samples,first,last,series", rows)]


def _labels(found: list[Found], name: str) -> tuple[list[str], View]:
    values: dict[str, dict[str, int]] = {}
    for one in found:
        for key, value in one.labels:
            counts = values.setdefault(key, {})
            counts[value] = counts.get(value, 0) + 1
    if name:
        counts = values.get(name, {})
        return sorted(counts), [Table(">series,value", [[str(counts[key]), key] for key in sorted(counts)])]
    rows = [[str(len(values[key])), key, ", ".join(sorted(values[key])[:5])] for key in sorted(values)]
    return sorted(values), [Table(">values,label,~such as", rows)]
