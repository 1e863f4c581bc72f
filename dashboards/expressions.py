"""Every expression of a dashboard, found in its JSON, with what Grafana puts in the place of its variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Kind = Literal["instant", "range", "variable", "annotation"]

VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


class Expression(NamedTuple):
    """An expression, and its place, such as a dashboard's uid and a panel's title. `label` is a variable's."""

    dashboard: str
    where: str
    kind: Kind
    text: str
    label: str = ""


def expressions(dashboard: Mapping[str, Any]) -> list[Expression]:
    """All expressions of a dashboard: of its variables, annotations and panels, those in rows too."""
    uid: str = dashboard["uid"]
    found: list[Expression] = []
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            match = LABEL_VALUES.fullmatch(variable["query"]["query"])
            if match is None:
                raise ValueError(
                    f"{uid}: the variable {variable['name']} is no label_values(SELECTOR, LABEL)"
                )
            found.append(Expression(uid, f"${variable['name']}", "variable", match[1], match[2]))
    found += [
        Expression(uid, f"@{one['name']}", "annotation", one["expr"])
        for one in dashboard["annotations"]["list"]
    ]
    for panel in panels(dashboard):
        for target in panel["targets"]:
            kind: Kind = "instant" if target.get("instant") else "range"
            found.append(Expression(uid, f"{panel['title']} / {target['refId']}", kind, target["expr"]))
    return found


def panels(dashboard: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All panels that show something, in their order."""
    found: list[Mapping[str, Any]] = []
    for panel in dashboard["panels"]:
        found += panel.get("panels") or []
        if panel["type"] != "row":
            found.append(panel)
    return found


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return the expression with the variables' values. Raises KeyError for a variable that has none."""
    return VARIABLE.sub(lambda match: values[match[1] or match[2]], text)


def values(
    hostname: str = ".*", *, span: float = 21600.0, step: float = 30.0, **chosen: str
) -> dict[str, str]:
    """Return what Grafana fills in: everything of one host or of all, `span` seconds, a point every `step` seconds.

    The data source says that a sample comes every 10 s, of which `$__rate_interval` is four at least.
    """
    everything = dict.fromkeys(("environment", "region", "datacenter", "role"), ".*")
    return {
        **everything,
        "hostname": hostname,
        "price": "5",
        "__range": f"{span:.0f}s",
        "__interval": f"{step:.0f}s",
        "__rate_interval": f"{max(40.0, step + 10):.0f}s",
        **chosen,
    }
