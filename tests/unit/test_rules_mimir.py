"""The rules fit in Mimir's ruler as its reference has it (3.x): there is no Mimir that tests could run.

The limits are those of a tenant for whom nobody has changed any (`limits` in Mimir's configuration parameters).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.support import rules
from tests.support.compose import PROJECT
from tests.support.durations import seconds
from tools import metrics_page

RULES_PER_GROUP, GROUPS, LABELS = 20, 70, 30
"""ruler_max_rules_per_rule_group, ruler_max_rule_groups_per_tenant, max_label_names_per_series."""
GROUP_KEYS = {"name", "interval", "rules"}
RULE_KEYS = {"record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
HOST_LABELS = ("hostname", "environment", "region", "datacenter", "role")
OF_ALERTS = ("alertname", "alertstate")


def groups() -> list[dict[str, Any]]:
    return [
        group
        for path in rules.RULES.glob("*.rules.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
    ]


def mimir() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROJECT / "packaging/compose/mimir.yaml").read_text())
    return found


def test_a_tenant_with_the_limits_of_everybody_can_load_all_files_at_once() -> None:
    found = groups()
    assert len(found) <= GROUPS
    assert len({group["name"] for group in found}) == len(found)
    assert {
        group["name"]: len(group["rules"]) for group in found if len(group["rules"]) > RULES_PER_GROUP
    } == {}


def test_nothing_is_used_that_mimir_does_not_know() -> None:
    for group in groups():
        assert group.keys() == GROUP_KEYS  # so its own evaluation_interval of a minute is nobody's
        for rule in group["rules"]:
            assert rule.keys() <= RULE_KEYS


def test_no_alert_has_more_labels_than_a_series_may_have() -> None:
    own = max(map(len, metrics_page.LABELS.values()))
    of_rules = max(len(rule["labels"]) for rule in rules.alerts().values())
    assert len(("__name__", *HOST_LABELS, *OF_ALERTS)) + own + of_rules <= LABELS


def test_no_rule_looks_back_further_than_the_stack_keeps_samples() -> None:
    text = "".join(path.read_text() for path in rules.RULES.glob("*.rules.yml"))
    looked = max(
        seconds(window or "0s") + seconds(offset or "0s")
        for window, offset in re.findall(r"(?:\[(\w+)(?::\w*)?\])?(?:[ )]*offset (\w+))?", text)
    )
    assert looked == seconds("4w") + seconds("6h")
    assert looked < seconds(mimir()["limits"]["compactor_blocks_retention_period"])


def test_a_restart_of_the_ruler_begins_no_alert_again() -> None:
    """It restores those whose `for` is as long as this at least; by default 2 minutes, with which half would be over, and again."""
    grace = seconds(mimir()["ruler"]["for_grace_period"])
    assert min(seconds(rule["for"]) for rule in rules.alerts().values() if "for" in rule) >= grace
