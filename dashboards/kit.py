"""What the dashboards are built of: Grafana's own builders, with what every panel here must have.

A panel takes a title, a purpose (Grafana shows it as the description), a unit and queries; limits are those of the
alerts and color it. Widths are in columns of Grafana's grid, 24 to a line. Queries are PromQL that Prometheus, Mimir and
VictoriaMetrics understand alike; `all_of` and `one_of` make selectors of what was chosen at the dashboard's head.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import (
    common,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as shape
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
PLACES = ("environment", "region", "datacenter", "role")
ID = ", ".join((*PLACES, "hostname"))
"""The labels that make a host: `max by (ID) (...)` keeps those of them that it has."""

GREEN, YELLOW, RED, BLUE, GRAY = "green", "#EAB839", "red", "blue", "#808080"
LINKS = {
    "limpet-fleet": "Fleet",
    "limpet-host": "Host",
    "limpet-agents": "Limpet",
    "limpet-capacity": "Capacity",
}

PanelBuilder = Builder[model.Panel]


class Query(NamedTuple):
    """An expression, and how each of its series is called: a template of labels, or a table's column."""

    expr: str
    legend: str = ""


class Limits(NamedTuple):
    """Where a value is worth a warning, and where it is critical; with `below`, what is less is worse."""

    warning: float | None
    critical: float | None
    below: bool = False

    def steps(self) -> list[model.Threshold]:
        """The colors from the lowest value on."""
        if self.below:
            first = YELLOW if self.critical is None else RED
            colors = [(self.critical, YELLOW), (self.warning, GREEN)]
        else:
            first, colors = GREEN, [(self.warning, YELLOW), (self.critical, RED)]
        known = [model.Threshold(value, color) for value, color in colors if value is not None]
        return [model.Threshold(None, first), *known]


# The limits of the alerts (config/prometheus/rules), so that a panel is red when somebody is called.
CPU = Limits(80, 95)
MEMORY = Limits(85, 95)
DISK = Limits(80, 90)
INODES = Limits(80, None)
BUSY = Limits(80, None)
AWAIT = Limits(100, 500)
BANDWIDTH = Limits(80, 95)
DROPS = Limits(0.01, None)
LOSS = Limits(0.0005, 0.001)
AGE = Limits(300, 3600)
SILENT = Limits(120, 300)
SKEW = Limits(5, 30)
QUALITY = Limits(0.99, 0.9, below=True)
DAYS = Limits(30, 7, below=True)
NONE_WANTED = Limits(None, 1)
SOME = Limits(1, None)
UNUSUAL = Limits(3, 4)

# What the rules record (config/prometheus/rules), for what is too much to compute at each look.
LAST_SEEN = "limpet:last_seen:timestamp_seconds"
LOSS_RATIO = "limpet:loss:ratio"
DISK_FULL = "disk_full:seconds"


def thresholds(limits: Limits | None) -> build.ThresholdsConfig:
    """Grafana's form of limits; without any, one neutral color."""
    steps = limits.steps() if limits else [model.Threshold(None, BLUE)]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def targets(queries: Sequence[Query], *, instant: bool, as_table: bool = False) -> list[Any]:
    """The queries as Grafana's, named A, B, ...; of a table by their column."""
    found = []
    for number, query in enumerate(queries):
        one = prometheus.Dataquery().expr(query.expr).datasource(SOURCE).ref_id(chr(ord("A") + number))
        one = one.instant() if instant else one.range()
        if query.legend and not as_table:
            one.legend_format(query.legend)
        one.format(PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES)
        found.append(one)
    return found


def number(
    title: str,
    purpose: str,
    unit: str,
    *queries: Query,
    limits: Limits | None = None,
    width: int = 3,
    decimals: int | None = None,
    text: bool = False,
    nothing: str = "-",
) -> PanelBuilder:
    """A large figure, as it is now. With `text` the name of the series is shown instead of its value."""
    panel = (
        stat.Panel()
        .title(title)
        .description(purpose)
        .unit(unit)
        .datasource(SOURCE)
        .height(4)
        .span(width)
        .targets(targets(queries, instant=True))
        .thresholds(thresholds(limits))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .color_mode(shape.BigValueColorMode.BACKGROUND if limits else shape.BigValueColorMode.VALUE)
        .graph_mode(shape.BigValueGraphMode.NONE)
        .justify_mode(shape.BigValueJustifyMode.CENTER)
        .text_mode(shape.BigValueTextMode.NAME if text else shape.BigValueTextMode.AUTO)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .no_value(nothing)
    )
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def graph(
    title: str,
    purpose: str,
    unit: str,
    *queries: Query,
    limits: Limits | None = None,
    width: int = 8,
    height: int = 8,
    top: float | None = None,
    low: float | None = 0,
    stacked: bool = False,
    mirrored: str | None = None,
    dashed: str | None = None,
) -> PanelBuilder:
    """Lines over time, with the limits as dashed lines. Stretches without data stay empty: a gap is news.

    `mirrored` and `dashed` are regular expressions for the names of lines that go below zero, or stand back.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(purpose)
        .unit(unit)
        .datasource(SOURCE)
        .height(height)
        .span(width)
        .targets(targets(queries, instant=False))
        .thresholds(thresholds(limits))
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
    if limits:
        style = common.GraphThresholdsStyleConfig().mode(shape.GraphTresholdsStyleMode.DASHED)
        panel.thresholds_style(style)
    if low is not None and mirrored is None:
        panel.min(low)
    if top is not None:
        panel.max(top)
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
    """A strip for each series that shows which state it was in when; `states` names values, with their colors."""
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
    """A column of a table: its query, heading, unit and limits; `width` in pixels."""

    expr: str
    heading: str
    unit: str
    limits: Limits | None = None
    decimals: int | None = None
    width: int | None = None


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
    """A table that a click on a heading sorts: a line for each set of `labels`, a query for each column.

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
        .thresholds(thresholds(None))
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
    yield model.DynamicConfigValue("unit", column.unit)
    if column.decimals is not None:
        yield model.DynamicConfigValue("decimals", column.decimals)
    if column.width is not None:
        yield model.DynamicConfigValue("custom.width", column.width)
    if column.limits is not None:
        yield model.DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"})
        yield model.DynamicConfigValue("color", {"mode": "thresholds"})
        steps = [{"value": step.value, "color": step.color} for step in column.limits.steps()]
        steps[0 if not column.limits.below else -1]["color"] = "transparent"
        yield model.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": steps})


def chosen(names: Sequence[str]) -> str:
    """A selector of what was chosen at the head; `.*`, which All stands for, also takes series without the label."""
    return ", ".join(f'{name}=~"${name}"' for name in names)


FILTER = chosen((*PLACES, "hostname"))
ONE = chosen(PLACES) + ', hostname="$hostname"'
"""The same where a single host is shown: equality, since Grafana escapes no expression in a single choice."""


def all_of(metric: str, *more: str) -> str:
    """The series of a metric of the chosen hosts, with further matchers."""
    return f"{metric}{{{', '.join((FILTER, *more))}}}"


def one_of(metric: str, *more: str) -> str:
    """The series of a metric of the one host that is shown, with further matchers."""
    return f"{metric}{{{', '.join((ONE, *more))}}}"


SAID = {
    "environment": "Hosts of these environments.",
    "region": "Hosts of these regions.",
    "datacenter": "Hosts of these datacenters.",
    "role": "Hosts of these roles.",
    "hostname": "These hosts.",
}


def variables(*, one_host: bool) -> list[Builder[model.VariableModel]]:
    """The choice at the head: data source, place, host; each offers what fits the ones before it."""
    found: list[Builder[model.VariableModel]] = [
        build.DatasourceVariable("datasource")
        .label("Data source")
        .type("prometheus")
        .description("Prometheus, Mimir or VictoriaMetrics: where Limpet pushes to.")
    ]
    names = (*PLACES, "hostname")
    for place, name in enumerate(names):
        single = one_host and name == "hostname"
        before = chosen(names[:place])
        query = (
            f"label_values(limpet_build_info{{{before}}}, {name})"
            if before
            else (f"label_values(limpet_build_info, {name})")
        )
        one = (
            build.QueryVariable(name)
            .label(HEADINGS[name])
            .description("The host that is shown." if single else SAID[name])
            .datasource(SOURCE)
            .query({"query": query, "refId": f"limpet-{name}", "qryType": 1})
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(model.VariableSort.ALPHABETICAL_ASC)
            .multi(not single)
            .include_all(not single)
        )
        if not single:
            one.all_value(".*").current(model.VariableOption(selected=True, text="All", value="$__all"))
        found.append(one)
    return found


def annotation(name: str, expr: str, color: str, *, enable: bool = True) -> Builder[model.AnnotationQuery]:
    """Marks over all graphs; what only Grafana's Prometheus part of annotations knows is in `MARKS`."""
    return build.AnnotationQuery().name(name).datasource(SOURCE).expr(expr).icon_color(color).enable(enable)


REBOOTS = "Reboots"
LATE = "Arrived late"
MARKS: dict[str, dict[str, Any]] = {
    REBOOTS: {
        "useValueForTime": True,
        "step": "60s",
        "titleFormat": "Boot",
        "textFormat": "{{hostname}} was booted",
    },
    LATE: {
        "step": "60s",
        "titleFormat": "Arrived late",
        "textFormat": "{{hostname}} could not reach {{destination}}: this stretch was buffered, and came afterwards",
    },
}
"""Keys of annotations that the library's model lacks, by name; added to the JSON at the end.

A boot is marked at the time that is the series' value, in milliseconds.
"""


def marks(*, one_host: bool, reboots: bool) -> list[Builder[model.AnnotationQuery]]:
    """Reboots, and stretches that arrived late: while they lasted, the oldest sample that waited grew old."""
    of = one_of if one_host else all_of
    boots = f"max by ({ID}) (round({of('host_boot_time_seconds')}, 60)) * 1000"
    late = f"max by ({ID}, destination) ({of('limpet_destination_oldest_pending_age_seconds')}) > 120"
    return [annotation(REBOOTS, boots, "purple", enable=reboots), annotation(LATE, late, "orange")]


def dashboard(
    uid: str,
    purpose: str,
    sections: dict[str, list[PanelBuilder]],
    *,
    one_host: bool = False,
    since: str = "now-6h",
    refresh: str = "1m",
    reboots: bool = True,
    more: Sequence[Builder[model.VariableModel]] = (),
) -> dict[str, Any]:
    """A dashboard as the JSON that Grafana loads; `sections` are rows of panels, by their heading."""
    made = (
        build.Dashboard(f"Limpet / {LINKS[uid]}")
        .uid(uid)
        .description(purpose)
        .tags(["limpet"])
        .readonly()
        .time(since, "now")
        .timezone("browser")
        .refresh(refresh)
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .variables([*variables(one_host=one_host), *more])
        .annotations(marks(one_host=one_host, reboots=reboots))
    )
    for other, title in LINKS.items():
        if other != uid:
            link = build.DashboardLink(title).type(model.DashboardLinkType.LINK).url(f"/d/{other}")
            made.link(link.include_vars(True).keep_time(True))
    for heading, panels in sections.items():
        made.with_row(build.Row(heading))
        for panel in panels:
            made.with_panel(panel)
    whole = made.build()
    for place, panel_model in enumerate(whole.panels or [], 1):
        panel_model.id_val = place
    found: dict[str, Any] = json.loads(json.dumps(whole, cls=JSONEncoder))
    for mark in found["annotations"]["list"]:
        mark |= MARKS[mark["name"]]
    return found
