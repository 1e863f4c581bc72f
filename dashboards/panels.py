"""The kinds of panels, of Grafana's own builders, with what every panel here must have.

A panel takes a title, a purpose (Grafana shows it as the description), how its values are shown, and queries. Values
are shown by a unit alone, or by limits, those of the alerts: they color it. Widths are in columns of Grafana's grid, 24 to a line. Queries are PromQL that Prometheus, Mimir and
VictoriaMetrics understand alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as shape
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.levels import BLUE, Limits

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
PanelBuilder = Builder[model.Panel]


Shown = str | Limits
"""A unit, or limits with theirs."""


class Query(NamedTuple):
    """An expression, and how each of its series is called: a template of labels, or a table's column."""

    expr: str
    legend: str = ""


def unit_of(shown: Shown) -> str:
    """Return Grafana's name of the unit."""
    return shown if isinstance(shown, str) else shown.unit


def thresholds(shown: Shown) -> build.ThresholdsConfig:
    """Return Grafana's form of limits; without any, one neutral color."""
    steps = [model.Threshold(None, BLUE)] if isinstance(shown, str) else shown.steps()
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def targets(queries: Sequence[Query], *, instant: bool, as_table: bool = False) -> list[Any]:
    """Return the queries as Grafana's, named A, B, ...; of a table by their column."""
    found = []
    for number, query in enumerate(queries):
        one = prometheus.Dataquery().expr(query.expr).datasource(SOURCE).ref_id(chr(ord("A") + number))
        one = one.instant() if instant else one.range()
        if query.legend and not as_table:
            one.legend_format(query.legend)
        if "limpet_" in query.expr and "$__rate_interval" in query.expr:
            one.interval("1m")  # the agents' own series come so often, and a rate needs several samples
        if "[1d" in query.expr and not instant:
            one.interval("1d")  # a point for each day (UTC), of that day
        one.format(PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES)
        found.append(one)
    return found


def number(
    title: str,
    purpose: str,
    shown: Shown,
    *queries: Query,
    width: int = 3,
    decimals: int | None = None,
    text: bool = False,
    nothing: str = "-",
) -> PanelBuilder:
    """Return a large figure, as it is now. With `text` the name of the series is shown instead of its value."""
    panel = (
        stat.Panel()
        .title(title)
        .description(purpose)
        .unit(unit_of(shown))
        .datasource(SOURCE)
        .height(4)
        .span(width)
        .targets(targets(queries, instant=True))
        .thresholds(thresholds(shown))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .color_mode(
            shape.BigValueColorMode.VALUE if isinstance(shown, str) else shape.BigValueColorMode.BACKGROUND
        )
        .graph_mode(shape.BigValueGraphMode.NONE)
        .justify_mode(shape.BigValueJustifyMode.CENTER)
        .text_mode(shape.BigValueTextMode.NAME if text else shape.BigValueTextMode.AUTO)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .no_value(nothing)
    )
    if decimals is None and isinstance(shown, Limits):
        decimals = shown.decimals
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def graph(
    title: str,
    purpose: str,
    shown: Shown,
    *queries: Query,
    width: int = 8,
    height: int = 8,
    low: float | None = 0,
    stacked: bool = False,
    mirrored: str | None = None,
    dashed: str | None = None,
) -> PanelBuilder:
    """Lines over time, with the limits as dashed lines. Stretches without data stay empty: a gap is news.

    `mirrored` and `dashed` are regular expressions for the names of lines that go below zero, or are drawn dashed.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(purpose)
        .unit(unit_of(shown))
        .datasource(SOURCE)
        .height(height)
        .span(width)
        .targets(targets(queries, instant=False))
        .thresholds(thresholds(shown))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC))
        .draw_style(shape.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(30 if stacked else 0 if any("{{" in query.legend for query in queries) else 8)
        .show_points(shape.VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(
            common.VizLegendOptions()
            .display_mode(shape.LegendDisplayMode.LIST)
            .placement(shape.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
        .tooltip(
            common.VizTooltipOptions().mode(shape.TooltipDisplayMode.MULTI).sort(shape.SortOrder.DESCENDING)
        )
    )
    if isinstance(shown, Limits):
        style = common.GraphThresholdsStyleConfig().mode(shape.GraphTresholdsStyleMode.DASHED)
        panel.thresholds_style(style)
        if shown.top is not None:
            panel.max(shown.top)
    if low is not None and mirrored is None:
        panel.min(low)
    if stacked:
        panel.stacking(common.StackingConfig().mode(shape.StackingMode.NORMAL).group("A"))
    if mirrored:
        panel.override_by_regexp(mirrored, [model.DynamicConfigValue("custom.transform", "negative-Y")])
    if dashed:
        style_value = {"fill": "dash", "dash": [8, 6]}
        panel.override_by_regexp(
            dashed,
            [
                model.DynamicConfigValue("custom.lineStyle", style_value),
                model.DynamicConfigValue("custom.fillOpacity", 0),
            ],
        )
    return panel


narrow = partial(graph, width=6)
"""Return a graph a quarter of the page wide."""


def timeline(
    title: str,
    purpose: str,
    *queries: Query,
    states: dict[str, tuple[str, str]],
    limits: Limits,
    width: int = 24,
    height: int = 6,
    nothing: str = "-",
) -> PanelBuilder:
    """Return a strip for each series that shows which state it was in when; `states` names values, with their colors."""
    names = {
        value: model.ValueMappingResult(text=text, color=color, index=number)
        for number, (value, (text, color)) in enumerate(states.items())
    }
    return (
        statetimeline.Panel()
        .title(title)
        .description(purpose)
        .unit("none")
        .datasource(SOURCE)
        .height(height)
        .span(width)
        .targets(targets(queries, instant=False))
        .mappings([model.ValueMap(options=names)])
        .thresholds(thresholds(limits))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .show_value(shape.VisibilityMode.NEVER)
        .merge_values(True)
        .row_height(0.8)
        .fill_opacity(80)
        .line_width(0)
        .legend(
            common.VizLegendOptions().display_mode(shape.LegendDisplayMode.LIST).show_legend(False).calcs([])
        )
        .tooltip(common.VizTooltipOptions().mode(shape.TooltipDisplayMode.SINGLE).sort(shape.SortOrder.NONE))
        .no_value(nothing)
    )


class Column(NamedTuple):
    """A column of a table: its query, its heading, and how its values are shown."""

    expr: str
    heading: str
    shown: Shown
    decimals: int | None = None


HEADINGS = {
    "environment": "Environment",
    "region": "Region",
    "datacenter": "Datacenter",
    "role": "Role",
    "hostname": "Host",
    "device": "Device",
    "mountpoint": "Mount point",
    "interface": "Interface",
    "destination": "Destination",
    "collector": "Collector",
    "version": "Version",
    "severity": "Severity",
    "alertname": "Alert",
    "job": "Job",
    "instance": "Instance",
    "signal": "Signal",
}
HOST_LINK = (
    "/d/limpet-host?var-datasource=${datasource}&var-environment=$__all&var-region=$__all&var-datacenter=$__all"
    "&var-role=$__all&var-hostname=${__value.raw:percentencode}&${__url_time_range}"
)


def rows(
    title: str,
    purpose: str,
    labels: Sequence[str],
    columns: Sequence[Column],
    *,
    sort: str,
    descending: bool = True,
    width: int = 24,
    height: int = 12,
    nothing: str = "-",
) -> PanelBuilder:
    """Return a table that a click on a heading sorts: a line for each set of `labels`, a query for each column.

    Each column's query must give no labels but these, so that its values land in the same lines.
    """
    queries = [Query(column.expr, column.heading) for column in columns]
    first = sorted(labels, key=lambda label: label != "hostname")  # the host leads, else as given
    order = {name: place for place, name in enumerate(first)}
    # With one query Grafana calls its values `Value`, with several `Value #A`, `Value #B`, ...
    values = (
        ["Value"]
        if len(columns) == 1
        else [f"Value #{chr(ord('A') + place)}" for place in range(len(columns))]
    )
    order |= {value: len(order) + place for place, value in enumerate(values)}
    names = {label: HEADINGS[label] for label in labels}
    names |= {value: column.heading for value, column in zip(values, columns, strict=True)}
    panel = (
        table.Panel()
        .title(title)
        .description(purpose)
        .unit("none")
        .datasource(SOURCE)
        .height(height)
        .span(width)
        .targets(targets(queries, instant=True, as_table=True))
        .thresholds(thresholds("none"))
        .show_header(True)
        .cell_height(shape.TableCellHeight.SM)
        .with_transformation(model.DataTransformerConfig("merge", options={}))
        .with_transformation(
            model.DataTransformerConfig(
                "organize",
                options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names},
            )
        )
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(descending)])
        .no_value(nothing)
    )
    if "hostname" in labels:
        link = [{"title": "Everything about this host", "url": HOST_LINK, "targetBlank": False}]
        panel.override_by_name(HEADINGS["hostname"], [model.DynamicConfigValue("links", link)])
    for column in columns:
        panel.override_by_name(column.heading, list(_cell(column)))
    return panel


def _cell(column: Column) -> Iterable[model.DynamicConfigValue]:
    limits = column.shown if isinstance(column.shown, Limits) else None
    decimals = limits.decimals if limits and column.decimals is None else column.decimals
    yield model.DynamicConfigValue("unit", unit_of(column.shown))
    if decimals is not None:
        yield model.DynamicConfigValue("decimals", decimals)
    if limits is not None:
        yield model.DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"})
        yield model.DynamicConfigValue("color", {"mode": "thresholds"})
        steps = [{"value": step.value, "color": step.color} for step in limits.steps()]
        steps[0 if not limits.below else -1]["color"] = "transparent"
        yield model.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": steps})
