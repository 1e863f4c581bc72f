"""What makes panels a dashboard: the choice at its head, the marks over its graphs, links, and its rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from dashboards import levels
from dashboards.panels import HEADINGS, SOURCE, PanelBuilder, Query, number
from dashboards.selectors import ID, LOSS_RATIO, PLACES, all_of, chosen, one_of

LINKS = {
    "limpet-fleet": "Fleet",
    "limpet-host": "Host",
    "limpet-agents": "Limpet",
    "limpet-capacity": "Capacity",
}

SAID = {
    "environment": "Hosts of these environments.",
    "region": "Hosts of these regions.",
    "datacenter": "Hosts of these datacenters.",
    "role": "Hosts of these roles.",
    "hostname": "These hosts.",
}


def worst_loss() -> PanelBuilder:
    """Return the figure that more than one dashboard begins with: is the budget of losses kept?"""
    return number(
        "Worst loss",
        "The share of samples that one host lost for good: dropped or never collected. The budget is 0.1 %.",
        levels.LOSS,
        Query(f"max({all_of(LOSS_RATIO)})"),
    )


def variables(*, one_host: bool) -> list[Builder[model.VariableModel]]:
    """Return the choices at the head: data source, place, host; each offers what fits the ones before it."""
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
    """Return marks over all graphs; what only Grafana's Prometheus part of annotations knows is in `MARKS`."""
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
    """Return a dashboard as the JSON that Grafana loads; `sections` are rows of panels, by their heading."""
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
