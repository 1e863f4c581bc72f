"""The rules at the size of a fleet, under promtool: what no test of a single alert can show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import rules

pytestmark = pytest.mark.timeout(600)

PLACE = 'environment="production", region="{region}"'


def firing(alertname: str) -> str:
    return f'ALERTS{{alertname="{alertname}", alertstate="firing"}}'


def last_seen(hostname: str, region: str, silent_until: int | None) -> dict[str, str]:
    """A host's newest sample: at minute 5 the host falls silent, until this minute or for good; None: it never does."""
    labels = PLACE.format(region=region)
    values = "0+30x300"
    if silent_until is not None:
        values = f"0+30x10 {f'300x{2 * silent_until - 12}'} {60 * silent_until}+30x{300 - 2 * silent_until}"
    return {
        "series": f'limpet:last_seen:timestamp_seconds{{hostname="{hostname}", {labels}}}',
        "values": values,
    }


def at(expr: str, when: str, value: float) -> dict[str, Any]:
    return {
        "expr": f"count({expr}) or vector(0)",
        "eval_time": when,
        "exp_samples": [{"value": value}],
    }


def played(promtool: Path, folder: Path, groups: list[dict[str, Any]], *tests: dict[str, Any]) -> None:
    """Run these tests, each on these groups of rules alone, in one promtool, and find nothing wrong."""
    (folder / "fleet.rules").write_text(json.dumps({"groups": groups}))
    path = folder / "fleet.test.yml"
    test = {"rule_files": ["fleet.rules"], "evaluation_interval": "30s", "tests": list(tests)}
    path.write_text(json.dumps(test | {"group_eval_order": [group["name"] for group in groups]}))
    assert rules.run(promtool, [path]) == {test["name"]: "" for test in tests}


def test_a_region_that_returns_raises_nothing_about_its_hosts(tmp_path: Path, promtool_program: Path) -> None:
    """Three hundred hosts at once, and thirty one after the other: no message is about a host that is back.

    When each host was seen is given, since promtool has no room for the samples of so many.
    """
    [presence, silence] = [
        group for group in rules.groups("fleet") if group["name"] in ("limpet-presence", "limpet-silence")
    ]
    given = ("limpet:last_seen:timestamp_seconds", "limpet:buffer_room:seconds")
    presence["rules"] = [rule for rule in presence["rules"] if rule["record"] not in given]
    alone = f"{firing('LimpetHostSilent')} unless on (environment, region) {firing('LimpetFleetSilent')}"
    test = {
        "name": "returns",
        "interval": "30s",
        "input_series": [
            *(last_seen(f"a-{n:03}", "at-once", 25) for n in range(300)),
            last_seen("lost", "at-once", 140),
            last_seen("well", "at-once", None),
            *(last_seen(f"b-{n:02}", "one-by-one", 25 + n) for n in range(30)),
        ],
        "promql_expr_test": [
            at(firing("LimpetHostSilent"), "20m", 331),
            at(firing("LimpetFleetSilent"), "20m", 2),
            *(at(f"({alone}) unless on (hostname) limpet:silent:bool", f"{n}m", 0) for n in range(10, 120)),
            # a host that did not return has an alert of its own when the region's is over
            at(firing("LimpetFleetSilent"), "2h", 0),
            at(alone, "2h", 1),
        ],
    }
    played(promtool_program, tmp_path, [presence, silence], test)
