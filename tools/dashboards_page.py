"""docs/dashboards.md, made from the dashboards: `python -m tools.dashboards_page > docs/dashboards.md`.

A test compares the page with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from dashboards import kit, levels
from dashboards.made import dashboards

HEAD = """# Dashboards

<!-- Made by tools/dashboards_page.py from the dashboards' code. Do not edit by hand. -->

Four dashboards for Grafana 10.1 and later, made with Grafana's own builder library from the code in
[dashboards/](../dashboards); the files to load are in [dashboards/json](../dashboards/json).

| dashboard | what it answers |
|---|---|
{list}
They link to each other: a click on a host's name opens Host, and the links at the head keep the choice and the time. In Grafana
the "i" of a panel says more than the sentence below.

## Install them

- **By hand**: in Grafana, Dashboards, New, Import, and each file of `dashboards/json`.
- **By files**: copy `dashboards/json` to `/var/lib/grafana/dashboards/limpet`,
  [provisioning/dashboards/limpet.yaml](../dashboards/provisioning/dashboards/limpet.yaml) to
  `/etc/grafana/provisioning/dashboards`, and one file of
  [provisioning/datasources](../dashboards/provisioning/datasources) to `/etc/grafana/provisioning/datasources`.

Any data source of the type *Prometheus* works: Prometheus, Mimir, and VictoriaMetrics queried as one. Set its *scrape
interval* to `collect.interval` (10s): rates are taken over four of them. Panels that need a long memory (silent hosts, loss,
forecasts) use the [recording rules](../config/prometheus/rules). With Mimir they run in the ruler, with
VictoriaMetrics in vmalert. Without rules, those panels say so, and the others work.

## Choices and marks

| choice | what it does |
|---|---|
{variables}
*All* also includes hosts without the label. Two hosts with the same name in two environments are two on
Fleet; on Host they are one until you choose an environment.

- **Reboots** (purple) mark when a host was booted, by `host_boot_time_seconds`; they are off on pages of many hosts.
- **Arrived late** (orange) marks a stretch in which the oldest waiting sample was more than 2 minutes old: it was buffered, and
  arrived afterwards.

Colors are those of the [alerts](alerts.md): yellow where a warning fires, red where an alert pages somebody. A gap in
a line is a gap in the data: no line is drawn over it.
"""

UNITS = {
    "none": "",
    "short": "",
    "s": "seconds",
    "Bps": "bytes/s",
    "cps": "1/s",
    "reqps": "1/s",
    "iops": "1/s",
}
UNITS |= {
    "pps": "1/s",
    "h": "hours",
    "d": "days",
    "percentunit": "share",
    "percent": "%",
    "currencyUSD": "money",
}


def page() -> str:
    """Return the whole page."""
    made = dashboards()
    listed = "".join(
        f"| [{name(one)}](#{name(one).lower()}) | {one['description']} |\n" for one in made.values()
    )
    choices = {v["name"]: v for one in made.values() for v in one["templating"]["list"]}
    choices |= {v["name"]: v for v in made["limpet-fleet"]["templating"]["list"]}
    variables = "".join(f"| {one['label']} | {one['description']} |\n" for one in choices.values())
    return HEAD.format(list=listed, variables=variables) + "".join(section(one) for one in made.values())


def name(dashboard: Mapping[str, Any]) -> str:
    """Return the name of a dashboard."""
    return kit.LINKS[dashboard["uid"]]


def section(dashboard: Mapping[str, Any]) -> str:
    """Return the section of one dashboard: its panels, row by row."""
    text = f"\n## {name(dashboard)}\n\n{dashboard['description']}\n\n| panel | yellow, red | what it is for |\n|---|---|---|\n"
    for panel in dashboard["panels"]:
        text += f"| ***{panel['title']}*** | | |\n" if panel["type"] == "row" else row(panel)
    return text


def row(panel: Mapping[str, Any]) -> str:
    """Return a line of a table; a panel that is a table has limits in its columns."""
    if panel["type"] == "table":
        columns = [
            (one["matcher"]["options"], {each["id"]: each["value"] for each in one["properties"]})
            for one in panel["fieldConfig"]["overrides"]
        ]
        given = [(heading, has) for heading, has in columns if "thresholds" in has]
        bounds = "; ".join(f"{heading} {limits(has['thresholds']['steps'])}" for heading, has in given)
    else:
        defaults = panel["fieldConfig"]["defaults"]
        bounds = limits(defaults["thresholds"]["steps"])
        unit = UNITS.get(defaults["unit"], defaults["unit"])
        bounds = f"{bounds} {unit}" if bounds and unit else bounds
    return f"| {panel['title']} | {bounds} | {first_sentence(panel['description'])} |\n"


def first_sentence(text: str) -> str:
    """Return a text up to its first full stop."""
    return re.split(r"(?<=[.?]) (?=[A-Z])", text)[0]


def limits(steps: Iterable[Mapping[str, Any]]) -> str:
    """Return where a value turns yellow, and where red."""
    first, *others = steps
    if not others:
        return ""
    if first["color"] in (levels.RED, levels.YELLOW):  # less is worse
        return "below " + ", ".join(f"{step['value']:g}" for step in reversed(others))
    found = {step["color"]: f"{step['value']:g}" for step in others}
    return ", ".join(found.get(color, "-") for color in (levels.YELLOW, levels.RED))


if __name__ == "__main__":
    print(page(), end="")
