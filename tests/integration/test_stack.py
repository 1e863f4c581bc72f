"""The stack of packaging/compose, run as its files say: its own certificates, passwords, commands, names and ports.

There is no container engine here, so `tests.support.compose` runs the services of compose.yaml as processes with roots
and a network of their own. Grafana and Mimir are not available as programs, so they are not started:
tests/unit/test_stack_files.py checks their files. Only three things differ from what ships: the agent sends every second,
the stack's programs are scraped every second, and there is one more rule, whose alert always fires.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import yaml

from tests.conftest import program
from tests.support.compose import PROJECT, Stack
from tests.support.limpet import LIMPET
from tests.support.net import wait_for
from tests.support.run import output
from tests.support.server import Login

PROMETHEUS, ALERTMANAGER, YEAR = "https://prometheus:9090", "https://alertmanager:9093", "https://year:9091"
IN_ORDER = True
ALWAYS = """
groups:
  - name: test
    interval: 1s
    rules:
      - {alert: Always, expr: vector(1), for: 7s, labels: {severity: warning}}
      - {record: test:avg_1h, expr: vector(3)}
      - {record: test:avg_1m, expr: vector(3)}
"""
# For some seconds after its start, Prometheus knows no Alertmanager. An alert that fires then is sent a minute later.


@pytest.fixture(scope="module")
def programs(alertmanager_program: Path) -> dict[str, list[str]]:
    alertmanager_program.parent.chmod(0o755)  # the services have users of their own
    own = alertmanager_program.with_name("share")
    there = ["env", "-C", str(own.resolve())] if own.exists() else []
    return {
        "prometheus": [str(program("prometheus"))],
        "promtool": [str(program("promtool"))],
        "alertmanager": [*there, str(alertmanager_program)],
        "amtool": [str(program("amtool"))],
        "limpet": [LIMPET],
    }


@pytest.fixture
def stack(request: pytest.FixtureRequest, tmp_path: Path, programs: dict[str, list[str]]) -> Iterator[Stack]:
    """The stack after its set-up, in a copy of the project's files."""
    own = shutil.ignore_patterns("secrets", ".env", "__pycache__")
    for part in ("packaging/compose", "config", "dashboards"):
        shutil.copytree(PROJECT / part, tmp_path / part, ignore=own)
    folder = tmp_path / "packaging" / "compose"
    limpet = yaml.safe_load((folder / "limpet.yaml").read_text())
    limpet["collect"]["interval"] = "1s"
    limpet["remote_write"][0]["queue_config"] = {"batch_send_deadline": "1s", "max_backoff": "1s"}
    (folder / "limpet.yaml").write_text(yaml.safe_dump(limpet))
    for name in ("prometheus.yml", "prometheus.year.yml"):
        prometheus = yaml.safe_load((folder / name).read_text())
        prometheus["global"]["scrape_interval"] = "1s"
        prometheus["rule_files"].append("rules/test.rules.yml")
        (folder / name).write_text(yaml.safe_dump(prometheus))
    (tmp_path / "config" / "prometheus" / "rules" / "test.rules.yml").write_text(ALWAYS)
    variables = {"LIMPET_HOSTNAME": "edge-01"}
    with Stack(folder / request.param, tmp_path / "run", programs, variables) as started:
        assert started.finished("setup") == 0, started.said("setup")
        yield started


def secret(stack: Stack, name: str) -> Path:
    return stack.file.parent / "secrets" / name


def login(stack: Stack, user: str, server: str) -> Login:
    return Login(user, secret(stack, f"passwords/{user}@{server}").read_text())


def seen(stack: Stack, url: str) -> Any:
    """What a server answers Grafana's user."""
    name = str(urlsplit(url).hostname)
    status, body = stack.ask(url, secret(stack, "ca/ca.pem"), login(stack, "grafana", name))
    assert status == 200, body
    return json.loads(body)


def asked(stack: Stack, expr: str, server: str = PROMETHEUS) -> list[Any]:
    """The result of a query at a Prometheus."""
    found: list[Any] = seen(stack, f"{server}/api/v1/query?{urlencode({'query': expr})}")["data"]["result"]
    return found


def alerts(stack: Stack) -> list[Any]:
    """The alerts that Alertmanager has."""
    found: list[Any] = seen(stack, f"{ALERTMANAGER}/api/v2/alerts")
    return found


def lines(stack: Stack, name: str, *words: str) -> list[str]:
    """What a service has said with these words in it."""
    return [line for line in stack.said(name).splitlines() if all(word in line for word in words)]


@pytest.mark.parametrize("stack", ["compose.year.yaml"], indirect=True)
def test_samples_and_alerts_pass_over_tls_with_passwords(stack: Stack) -> None:
    """The stack with a year of hourly samples, which has all that the plain one has."""
    for name in ("alertmanager", "year", "prometheus", "limpet"):
        stack.start(name)
    for name in ("alertmanager", "year", "prometheus"):
        stack.wait(name)
    wait_for(lambda: asked(stack, 'memory_total_bytes{hostname="edge-01",role="monitoring"}'), 20, "samples")
    stack.wait("limpet")
    wait_for(lambda: [a for a in alerts(stack) if a["labels"]["alertname"] == "Always"], 20, "an alert")
    scraped = 'up{job=~"prometheus|alertmanager|year"} == 1'
    wait_for(lambda: len(asked(stack, scraped)) == 3, 10, "the stack's programs to be scraped")
    # Of all that is recorded and pushed, the hourly samples reach the second Prometheus, and nothing else.
    wait_for(lambda: asked(stack, "test:avg_1h", YEAR), 10, "an hourly sample")
    assert asked(stack, "test:avg_1m")
    names = {entry["metric"]["__name__"] for entry in asked(stack, '{__name__=~".+"}', YEAR)}
    assert names == {"test:avg_1h"}
    kept = asked(stack, "prometheus_tsdb_retention_limit_seconds / 86400")
    assert {one["metric"]["job"]: one["value"][1] for one in kept} == {"prometheus": "35", "year": "365"}
    assert not asked(stack, "prometheus_rule_evaluation_failures_total > 0")

    # Nobody else gets in, and nobody is talked to without being known.
    ca, other = secret(stack, "ca/ca.pem"), Login("limpet", "change-me")
    queries = [f"{one}/api/v1/query?query=1" for one in (PROMETHEUS, YEAR)]
    for url in (*queries, f"{ALERTMANAGER}/api/v2/alerts"):
        assert stack.ask(url, ca)[0] == 401
        assert stack.ask(url, ca, other)[0] == 401
        assert stack.ask(url.replace("https", "http"), ca)[0] in (0, 400)
    limpet = login(stack, "limpet", "prometheus")
    assert stack.ask(f"{ALERTMANAGER}/api/v2/alerts", ca, limpet)[0] == 401


@pytest.mark.parametrize("stack", ["compose.yaml"], indirect=True)
def test_another_authority_is_believed_by_nobody(stack: Stack, tmp_path: Path) -> None:
    """With the certificate of another authority in its folder, neither client sends anything."""
    output("sh", PROJECT / "packaging/compose/setup.sh", tmp_path / "other")
    for name in ("limpet", "prometheus"):
        target = secret(stack, f"{name}/ca.pem")
        target.write_text((tmp_path / "other/ca/ca.pem").read_text())  # its owner stays
    for name in ("alertmanager", "prometheus", "limpet"):
        stack.start(name)
    stack.wait("alertmanager")
    refused = "certificate signed by unknown authority"
    wait_for(lambda: lines(stack, "prometheus", refused, ":9093/api/v2/alerts"), 20, "failures")
    held = wait_for(lambda: lines(stack, "limpet", "sender.held"), 20, "the agent to hold")
    assert "certificate" in held[0]
    assert alerts(stack) == []
    assert asked(stack, "memory_total_bytes") == []
    assert not stack.healthy("prometheus")  # its own tools do not know it either
