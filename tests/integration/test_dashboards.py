"""Every expression of a dashboard or rule, on real servers filled by real agents (`tests.support.fleet`).

Each gives data, or is in a table here with the reason why it rightly gives none; and names only metrics that the agent
sends or that a rule records. VictoriaMetrics answers all of them too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
import yaml

from agent import health
from agent.collectors import COLLECTORS
from agent.scrape import target, textfile
from agent.send import thrift
from dashboards.expressions import Expression, expressions, filled, values
from dashboards.made import FOLDER
from tests.conftest import program
from tests.support.fleet import CENTRAL, HOUR, RULES, Fleet
from tests.support.net import wait_for
from tests.support.promql import metrics
from tests.support.server import Server
from tools import sizing

pytestmark = pytest.mark.timeout(600)

DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
EXPRESSIONS = [each for dashboard in DASHBOARDS.values() for each in expressions(dashboard)]
OF_THE_RULER = {"ALERTS", "ALERTS_FOR_STATE"}
"""What Prometheus, Mimir's ruler and vmalert record of alerts by themselves."""

EMPTY: dict[tuple[str, str], str] = {}
"""Expressions of dashboards that rightly give nothing here: (uid, where), and why."""

EMPTY_RULES: dict[str, str] = {
    "LimpetFleetSilent": "one host of three is silent, which is no outage of a fleet",
    "LimpetManyHosts": "three hosts are no crowd",
    "limpet:long_silent:bool": "no host is silent for half an hour",
    "limpet:usually_off:bool": "so none is off at the same time each day",
    "HostDiskFilling": "the past of two weeks, moment by moment, is not recorded here",
    "LimpetAgentRestarting": "each agent starts once",
    "LimpetBufferIll": "each disk takes what is appended",
    "HostTargetDown": "these hosts scrape nothing",
    "HostTextFileError": "and read no text files",
    "LimpetDataBudgetSpent": "no host has a data budget",
    "limpet:budget_used:ratio": "nor uses one",
    "limpet:next_sign:timestamp_seconds": "nor gives a sign of life instead of its samples",
    "LimpetCertificateEnds": "each certificate is new",
    "LimpetLinkWasDown": "no outage was long enough",
    "HostWasDown": "no host was booted",
    "LimpetHostTwice": "each host has its name",
    "LimpetConfigReloadFailed": "no agent reloads its configuration",
    "LimpetLossBudgetSpent": "what was missed before the rules knew a host is forgiven",
}
"""Rules whose expression rightly gives nothing here, by name, and why."""


class Rule(NamedTuple):
    """An alert or a recorded series."""

    file: str
    name: str
    expr: str
    records: bool


def rules() -> list[Rule]:
    """All rules that ship."""
    return [
        Rule(path.name, rule.get("record") or rule["alert"], rule["expr"], "record" in rule)
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def known() -> set[str]:
    """The metrics that there are: what the agent sends, what rules record, what rulers add."""
    tables = (
        *(kind.metrics for kind in COLLECTORS.values()),
        health.METRICS,
        target.METRICS,
        textfile.METRICS,
    )
    sent = {metric.name for table in tables for metric in table}
    sent |= {thrift.SERIES, thrift.NEXT}  # signs of life
    return sent | {rule.name for rule in rules() if rule.records} | OF_THE_RULER


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, prometheus_program: Path) -> Iterator[Fleet]:
    folder, victoria = tmp_path_factory.mktemp("fleet"), program("victoria-metrics")
    with Fleet(folder, prometheus_program, victoria) as running:
        running.start()
        running.remember()
        running.run_rules()
        last = {"disk_full:seconds", "limpet:loss:ratio", "limpet:silent:count"}
        wait_for(lambda: last <= names(running), 40, "all rules to be evaluated")
        wait_for(lambda: running.server.query('ALERTS{alertstate="firing"}'), 20, "an alert to fire")
        yield running


def names(fleet: Fleet) -> set[str]:
    """The names of what rules have recorded since they run."""
    return {
        dict(labels)["__name__"] for labels in fleet.server.query('count by (__name__) ({__name__=~".+:.+"})')
    }


def test_the_rules_record_few_series_of_a_host(fleet: Fleet) -> None:
    """Without the tiers, which are off by default. What a further destination adds is not of a usual host."""
    recorded = (
        'count by (hostname, destination) ({__name__=~".+:.+", __name__!~".+:(avg|min|max|last)_1[mh]"})'
    )
    found = {
        tuple(dict(of).get(k, "") for k in ("hostname", "destination")): n
        for of, n in fleet.server.query(recorded).items()
    }
    of_the_host, of_a_link = found["edge-01", ""], found["edge-01", CENTRAL]
    assert 20 < of_the_host + of_a_link <= sizing.RECORDED_PER_HOST


def asked(server: Server, expression: Expression, chosen: Mapping[str, str], end: float) -> list[Any]:
    """What a server answers to an expression as Grafana asks it; raises ServerFailed with its words for an error."""
    text, span = filled(expression.text, chosen), float(chosen["__range"].removesuffix("s"))
    if expression.kind == "variable":
        window = {"match[]": text, "start": f"{end - span:.0f}", "end": f"{end:.0f}"}
        data = json.loads(server.get(f"/api/v1/label/{quote(expression.label)}/values", window))["data"]
    elif expression.kind == "instant":
        data = json.loads(server.get("/api/v1/query", {"query": text, "time": f"{end:.3f}"}))["data"][
            "result"
        ]
    else:
        window = {"start": f"{end - span:.3f}", "end": f"{end:.3f}", "step": "60"}
        data = json.loads(server.get("/api/v1/query_range", {"query": text} | window))["data"]["result"]
    assert isinstance(data, list)
    return data


def now(fleet: Fleet) -> float:
    """This moment by the server's clock."""
    return fleet.server.query("time()")[()]


def test_no_metric_is_named_that_nobody_sends_or_records(fleet: Fleet) -> None:
    there, wrong = known(), {}
    for expression in EXPRESSIONS:
        text = filled(expression.text, values("edge-01"))
        if unknown := metrics(fleet.server, text) - there:
            wrong[expression.dashboard, expression.where] = unknown
    for rule in rules():
        if unknown := metrics(fleet.server, rule.expr) - there:
            wrong[rule.file, rule.name] = unknown
    assert wrong == {}


def test_every_expression_of_a_dashboard_gives_data(fleet: Fleet) -> None:
    end, empty = now(fleet), set()
    for expression in EXPRESSIONS:
        one_host = expression.dashboard == "limpet-host"
        hosts = fleet.agents if one_host else [".*"]
        if not any(asked(fleet.server, expression, values(name, step=60), end) for name in hosts):
            empty.add((expression.dashboard, expression.where))
    assert empty == EMPTY.keys(), "give data and are in the table, or the other way round"


def test_every_expression_of_a_rule_gives_data(fleet: Fleet) -> None:
    """At some time of the last two hours, in which a good deal goes wrong on these hosts."""
    end, empty = now(fleet), set()
    for rule in rules():
        if not fleet.server.query_range(rule.expr, end - 2 * HOUR, end, 15):
            empty.add(rule.name)
    assert empty == EMPTY_RULES.keys()


def test_victoria_metrics_answers_every_expression(fleet: Fleet) -> None:
    assert fleet.victoria is not None
    end, with_data = now(fleet), 0
    fleet.victoria.get("/internal/force_flush")
    for expression in EXPRESSIONS:
        host = "edge-01" if expression.dashboard == "limpet-host" else ".*"
        with_data += bool(asked(fleet.victoria, expression, values(host, step=60), end))
    for rule in rules():
        fleet.victoria.get("/api/v1/query", {"query": rule.expr, "time": f"{end:.3f}"})
    assert with_data > len(EXPRESSIONS) / 2  # the rest is what rules record, which no vmalert does here


def test_the_choice_of_hosts_works_where_a_label_is_missing(fleet: Fleet) -> None:
    """`edge-02` has no datacenter: All has it, a datacenter has not, and what is offered leads from one to the next."""
    end = now(fleet)
    offered = {
        expression.where: expression
        for expression in EXPRESSIONS
        if expression.dashboard == "limpet-fleet" and expression.kind == "variable"
    }

    def of(name: str, **chosen: str) -> list[str]:
        return sorted(asked(fleet.server, offered[f"${name}"], values() | chosen, end))

    assert of("environment") == ["production", "staging"]
    assert of("region", environment="production") == ["eu-west"]
    assert of("datacenter") == ["ams1", "nyc2"]
    assert of("datacenter", environment="production") == ["ams1"]
    assert of("hostname") == ["edge-01", "edge-02", "edge-03"]
    assert of("hostname", datacenter="ams1") == ["edge-01"]
    assert of("hostname", environment="(production|staging)", role="gateway") == ["edge-01", "edge-02"]


def test_the_silent_host_and_the_backlog_are_seen_on_the_fleet_page(fleet: Fleet) -> None:
    found = {
        expression.where: asked(fleet.server, expression, values(), now(fleet))
        for expression in EXPRESSIONS
        if expression.dashboard == "limpet-fleet" and expression.kind == "instant"
    }
    assert float(found["Hosts silent / A"][0]["value"][1]) == 1
    assert float(found["Hosts reporting / A"][0]["value"][1]) == 2
    ages = {one["metric"]["hostname"]: float(one["value"][1]) for one in found["Hosts / A"]}
    assert ages.keys() == fleet.agents.keys()
    assert ages["edge-03"] > 1200 > 60 > max(ages["edge-01"], ages["edge-02"])
    waiting = {one["metric"]["hostname"]: float(one["value"][1]) for one in found["Hosts / G"]}
    assert waiting["edge-02"] > max(5, waiting["edge-01"])
