"""The dashboards as they ship: what every panel has, that Grafana's own model knows it all, and that none is stale."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import kit, levels, made, selectors
from dashboards.expressions import expressions, filled, panels, values
from tools import dashboards_page

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(made.FOLDER.glob("*.json"))}
PANELS = [(uid, panel) for uid, dashboard in DASHBOARDS.items() for panel in panels(dashboard)]
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}

LIMITS = {  # of `levels` and so of the rules, by the metric shown; a panel in other units is about something else
    "cpu_usage_percent": levels.CPU,
    "memory_usage_percent": levels.MEMORY,
    "disk_usage_percent": levels.DISK,
    "inode_usage_percent": levels.INODES,
    "disk_io_util_percent": levels.BUSY,
    "disk_await_time_ms": levels.AWAIT,
    "network_bandwidth_usage_percent": levels.BANDWIDTH,
    "network_drops:ratio_rate5m": levels.DROPS,
    "limpet:loss:ratio": levels.LOSS,
}


def test_there_are_four_and_each_is_as_the_code_makes_it() -> None:
    assert DASHBOARDS.keys() == kit.LINKS.keys()
    for path, text in made.files().items():
        assert path.read_text() == text, "make it again: python -m dashboards"


def test_the_page_is_not_stale() -> None:
    again = "make it again: python -m tools.dashboards_page > docs/dashboards.md"
    assert (ROOT / "docs" / "dashboards.md").read_text() == dashboards_page.page(), again


def test_uids_titles_ids_and_queries_are_unique() -> None:
    assert len({dashboard["title"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)
    for uid, dashboard in DASHBOARDS.items():
        assert dashboard["uid"] == uid
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids) and 0 not in ids
        titles = [panel["title"] for panel in panels(dashboard)]
        assert len(set(titles)) == len(titles), "the documentation names a panel by its title"
        for panel in panels(dashboard):
            refs = [target["refId"] for target in panel["targets"]]
            assert len(set(refs)) == len(refs) > 0


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_grafanas_own_model_knows_all_of_it(uid: str) -> None:
    """Read into the library's model and written again it is the same, but for what its model of annotations lacks."""
    register_default_plugins()
    plain = json.loads(json.dumps(DASHBOARDS[uid]))
    for mark in plain["annotations"]["list"]:
        for key in kit.MARKS[mark["name"]]:
            del mark[key]
    again = json.loads(json.dumps(Dashboard.from_json(plain), cls=JSONEncoder))
    assert again == plain


@pytest.mark.parametrize(("uid", "panel"), PANELS, ids=[f"{uid}/{panel['title']}" for uid, panel in PANELS])
def test_every_panel_says_what_it_is_for_in_which_unit_and_within_which_limits(
    uid: str, panel: Mapping[str, Any]
) -> None:
    text = panel["description"]
    assert len(text) > 15 and text.endswith("."), "a purpose, in whole sentences"
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] in UNITS
    assert defaults["thresholds"]["steps"][0]["value"] is None
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    columns = {
        one["matcher"]["options"]: {each["id"]: each["value"] for each in one["properties"]}
        for one in panel["fieldConfig"]["overrides"]
    }
    headings = panel["transformations"][1]["options"]["renameByName"] if panel["type"] == "table" else {}
    for number, target in enumerate(panel["targets"]):
        shown = defaults
        if panel["type"] == "table":
            place = "Value" if len(panel["targets"]) == 1 else f"Value #{target['refId']}"
            shown = columns[headings[place]]
            assert shown["unit"] in UNITS, f"column {number}"
        for limits in limits_of(target["expr"], shown["unit"]):
            given = [step["value"] for step in shown["thresholds"]["steps"][1:]]
            assert given == [value for value in (limits.warning, limits.critical) if value is not None]


def limits_of(expr: str, unit: str) -> list[levels.Limits]:
    """The limits of the metrics in an expression, where they are in the unit that is shown."""
    found = set(re.findall(r"[:\w]+", expr))
    return [limits for metric, limits in LIMITS.items() if limits.unit == unit and metric in found]


def test_every_limit_is_that_of_some_graph() -> None:
    found = [
        limits
        for _, panel in PANELS
        for target in panel["targets"]
        for limits in limits_of(target["expr"], panel["fieldConfig"]["defaults"]["unit"])
    ]
    assert set(found) == set(LIMITS.values())


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_panels_fill_the_lines_of_the_grid_and_none_overlaps(uid: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARDS[uid]["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"], f"({x}, {y})"
    bottom = max(y for _, y in taken)
    assert [(x, y) for y in range(bottom + 1) for x in range(24) if (x, y) not in taken] == []


def test_every_selector_heeds_the_choice_at_the_head() -> None:
    """Each metric of a panel or annotation is followed by the choice, and what it says is a variable that is there."""
    for uid, dashboard in DASHBOARDS.items():
        names = {variable["name"] for variable in dashboard["templating"]["list"]}
        chosen = values()
        assert names - chosen.keys() == {"datasource"}
        choice = selectors.ONE if uid == "limpet-host" else selectors.FILTER
        for expression in expressions(dashboard):
            filled(expression.text, chosen)  # raises for an unknown variable
            if expression.kind != "variable":
                found = re.findall(r"\{([^}]*)\}", expression.text)
                assert found and all(each.startswith(choice) for each in found), expression


def test_the_fleet_page_asks_few_questions_whatever_the_number_of_hosts() -> None:
    """Also nothing of it reaches back more than 15 minutes for each point: that is for the rules."""
    asked = expressions(DASHBOARDS["limpet-fleet"])
    assert len(asked) <= 50
    for expression in asked:
        assert set(re.findall(r"\[(\w+)\]", expression.text)) <= {"15m"}, expression
        if expression.kind == "range":
            total = re.match(r"(count|sum|max|1 - sum|quantile)\b", expression.text)
            assert total, f"a line for each host: {expression}"


def test_the_provisioning_is_for_each_kind_of_server() -> None:
    folder = ROOT / "dashboards" / "provisioning"
    sources = {path.stem: yaml.safe_load(path.read_text()) for path in (folder / "datasources").iterdir()}
    assert sources.keys() == {"prometheus", "mimir", "victoriametrics"}
    for name, found in sources.items():
        [source] = found["datasources"]
        assert (source["type"], source["uid"]) == ("prometheus", f"limpet-{name}")
        assert source["jsonData"]["timeInterval"] == "10s"
        assert source["url"].startswith("https://")
        secrets = source["secureJsonData"].values()
        assert all(value.startswith("$__file{") or name == "mimir" for value in secrets)
    [provider] = yaml.safe_load((folder / "dashboards" / "limpet.yaml").read_text())["providers"]
    assert provider["type"] == "file" and provider["options"]["path"]
