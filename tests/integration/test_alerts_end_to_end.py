"""From a disk that fills to the mail in somebody's hands, and a backlog that wakes nobody: all of it real.

The real agent, with made-up values, pushes to a real Prometheus with the rules that ship. That one sends its alerts
over TLS to a real Alertmanager with the configuration that ships, and mail, Slack, PagerDuty and webhook arrive at real
servers. A minute of the rules and waits passes in a second (`tests.support.alertmanager`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import alertmanager, madeup
from tests.support.alertmanager import Alertmanager
from tests.support.certs import Certs
from tests.support.channels import Channels
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tools.alert_texts import MESSAGES, comparable, render

IN_ORDER = True
HOUR_MS = 3_600_000


class Stack(NamedTuple):
    """What runs, and how an agent gets there."""

    prometheus: Prometheus
    channels: Channels
    write: dict[str, Any]


@pytest.fixture(scope="module")
def stack(
    prometheus_program: Path,
    alertmanager_program: Path,
    certs: Certs,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("alerts")
    with Channels(certs) as channels:
        shipped = alertmanager.shipped(folder / "alertmanager-config", channels, certs)
        with Alertmanager(alertmanager_program, folder / "alertmanager", shipped, certs=certs) as server:
            rules = alertmanager.rules(folder / "rules")
            alertmanager.alerting(rules, server)
            with Prometheus(
                prometheus_program,
                folder / "prometheus",
                config=rules,
                certs=certs,
                flags=("--rules.alert.resend-delay=1s",),  # 1m: how old what Alertmanager knows can be
            ) as prometheus:
                write = {"url": prometheus.write_url, "tls_config": {"ca_file": str(certs.ca)}}
                yield Stack(prometheus, channels, write)


def told(channels: Channels, hostname: str, name: str, status: str) -> list[dict[str, Any]]:
    """The messages, as the webhook has them, whose alerts are of this host, name and status."""
    return [
        message
        for message in channels.said("webhook")
        if message["status"] == status
        and {"hostname": hostname, "alertname": name}.items() <= message["commonLabels"].items()
    ]


def incidents(channels: Channels, action: str) -> list[dict[str, Any]]:
    """Return the events about the disk that PagerDuty got."""
    return [
        said
        for said in channels.said("pagerduty")
        if said["event_action"] == action
        and (action == "resolve" or said["payload"]["class"] == "HostDiskFull")
    ]


def alerts(prometheus: Prometheus, hostname: str) -> set[tuple[str, str, str]]:
    """Name, severity and state of each alert that the host has had, for however short a time."""
    found = prometheus.query(f'count_over_time(ALERTS{{hostname="{hostname}"}}[1h])')
    return {(labels["alertname"], labels["severity"], labels["alertstate"]) for labels in map(dict, found)}


def now_ms() -> int:
    return int(time.time() * 1000)


def test_a_disk_fills_and_people_learn_what_they_need_to_know_and_when_it_is_over(
    tmp_path: Path, stack: Stack, amtool: Path
) -> None:
    prometheus, channels = stack.prometheus, stack.channels
    host = madeup.Host(tmp_path, "web-01", stack.write)
    start, day = now_ms(), 24 * HOUR_MS
    written = host.past(
        range(start - day - 2 * HOUR_MS, start, 60_000),
        lambda at: madeup.disk(57.0 if at < start - day // 2 else 62.5),
    )
    busy = madeup.cpu(97.2)
    host.tell({**madeup.disk(62.5), **busy})
    with host:
        wait_for(lambda: drained(host), 20, "the history")
        assert prometheus.query('count_over_time(disk_usage_percent{hostname="web-01"}[27h])')
        assert written > 12_000
        wait_for(lambda: told(channels, "web-01", "HostCpuHigh", "firing"), 20, "the first trouble's page")
        assert ("HostDiskFull", "critical") not in {each[:2] for each in alerts(prometheus, "web-01")}

        host.tell({**madeup.disk(93.4), **busy})
        firing = 'ALERTS{alertname="HostDiskFull",alertstate="firing",severity="critical",hostname="web-01"}'
        wait_for(lambda: prometheus.query(firing), 20, "Prometheus to fire")
        [message] = wait_for(lambda: told(channels, "web-01", "HostDiskFull", "firing"), 15, "the webhook")
        compare(channels, message, amtool, tmp_path, "disk-full")
        [said] = wait_for(lambda: incidents(channels, "trigger"), 10, "PagerDuty")
        assert (said["event_action"], said["routing_key"]) == ("trigger", "a-routing-key")
        assert said["payload"]["severity"] == "critical"
        mail = next(one for one in channels.mails if "/var" in one.subject)
        assert mail.to == ("ops@example.com",)
        for text in (mail.text, mail.html, said["payload"]["custom_details"]["text"]):
            for needed in (
                "93.4 %",
                "90 % for 2 minutes",
                "62.5 %",
                "57.0 %",
                "/var",
                "web-01",
                "eu-west",
                "HostDiskFull.md",
                "HostCpuHigh",  # also wrong
            ):
                assert needed in text

        host.tell({**madeup.disk(61.0), **busy})
        [over] = wait_for(lambda: told(channels, "web-01", "HostDiskFull", "resolved"), 30, "the end")
        compare(channels, over, amtool, tmp_path, "disk-full-over")
        [end] = wait_for(lambda: incidents(channels, "resolve"), 10, "PagerDuty to resolve it")
        assert end["dedup_key"] == said["dedup_key"]

    [threads] = {
        one.headers["References"] for one in channels.mails if "HostDiskFull" in one.text + one.subject
    }
    assert threads  # the mail that it is over is in the first one's thread

    # The warning of the same disk fired too, and nobody was notified of it.
    assert ("HostDiskFull", "warning", "firing") in alerts(prometheus, "web-01")
    severities = {one["commonLabels"].get("severity") for one in channels.said("webhook")}
    assert severities == {"critical"}
    assert not channels.refused


def compare(channels: Channels, message: dict[str, Any], amtool: Path, folder: Path, name: str) -> None:
    """Every channel got what the template makes of this message; the docs show that very message (`MESSAGES`)."""
    data = folder / f"{name}.json"
    data.write_text(json.dumps(message))
    subject, text, html, slack = (
        render(amtool, f"limpet.{which}", data, "html" if which == "email.html" else "text")
        for which in ("subject", "email.text", "email.html", "slack.text")
    )
    mail = wait_for(lambda: [one for one in channels.mails if one.subject == subject], 10, subject)[-1]
    assert mail.text.strip() == text.strip()
    assert mail.html.strip() == html.strip()

    def posted() -> bool:
        attachments = [one for post in channels.said("slack") for one in post["attachments"]]
        return (subject, slack) in {(one["title"], one["text"]) for one in attachments}

    wait_for(posted, 10, f"Slack to have {slack}")
    shown = json.loads((MESSAGES / f"{name}.json").read_text())
    assert comparable(message) == comparable(shown), (
        f"docs/alerts.md is stale: python -m tools.alert_texts {data}"
    )


def test_a_backlog_with_a_busy_stretch_in_it_wakes_nobody_and_the_same_stretch_now_does(
    tmp_path: Path, stack: Stack
) -> None:
    prometheus, channels = stack.prometheus, stack.channels
    start = now_ms()
    busy = range(start - 4 * HOUR_MS, start - 4 * HOUR_MS + 1_800_000)
    alive: madeup.Values = {("limpet_start_time_seconds", ()): start / 1000 - 7 * 3600}
    hosts = {}
    for order in ("oldest_first", "fresh_first"):
        name = order.replace("_", "-")
        host = hosts[name] = madeup.Host(tmp_path / name, name, stack.write | {"drain_order": order})
        host.past(
            range(start - 6 * HOUR_MS, start, 10_000),
            lambda at: {**madeup.cpu(99.0 if at in busy else 12.0), **alive},
        )
        host.tell(madeup.cpu(12.0))
    late, other = hosts.values()
    with late, other:
        for name, host in hosts.items():
            wait_for(lambda: drained(host), 20, f"the backlog of {name}")  # noqa: B023
        arrived = prometheus.raw_samples('cpu_usage_percent{core="all"}', busy.start, busy.stop - 1)
        assert {dict(labels)["hostname"] for labels in arrived} == set(hosts)
        assert {len(samples) for samples in arrived.values()} == {180}
        assert {value for samples in arrived.values() for _, value in samples} == {99.0}
        evaluated(prometheus, "host-cpu", 3)
        for name in hosts:
            assert "HostCpuHigh" not in {each[0] for each in alerts(prometheus, name)}
            assert prometheus.query(f'cpu_usage_percent{{core="all",hostname="{name}"}}')
            assert name not in json.dumps([post.said for post in channels.posts])  # nobody is notified
            assert name not in str([mail.subject for mail in channels.mails])

        print({name: alerts(prometheus, name) for name in hosts})
        late.tell(madeup.cpu(99.0))
        wait_for(lambda: told(channels, "oldest-first", "HostCpuHigh", "firing"), 20, "the page")
        fired = {each[0] for each in alerts(prometheus, "fresh-first")}
        assert "HostCpuHigh" not in fired


def drained(host: madeup.Host) -> bool:
    there = host.agent.destination("central")
    return bool(there) and there["pending_samples"] < 100 and there["ledger"]["delivered"] > 1000


def evaluated(prometheus: Prometheus, group: str, seconds: float) -> None:
    """Wait until a group of rules has been evaluated for these seconds from now on: a dozen times, and more."""
    end = time.time() + seconds

    def last() -> bool:
        groups = json.loads(prometheus.get("/api/v1/rules"))["data"]["groups"]
        [at] = [one["lastEvaluation"] for one in groups if one["name"] == group]
        return datetime.fromisoformat(at[:19] + "+00:00").timestamp() > end

    wait_for(last, seconds + 10, f"the evaluation of {group}")
