"""Alertmanager's configuration: every route, and, in a real Alertmanager, what is grouped, muted and kept for the day."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache, partial
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import prometheus
from tests.support.alertmanager import CONFIG, EXTERNAL_URL, Alertmanager, shipped
from tests.support.certs import Certs
from tests.support.channels import Channels
from tests.support.net import wait_for
from tests.support.run import output
from tools import alert_texts
from tools.alert_texts import MESSAGES, comparable

IN_ORDER = True
HOST_GROUPS = ("cpu", "memory", "disk_io", "network", "disk_usage", "host", "agent")
CRITICAL = {"severity": "critical"}
WARNING = {"severity": "warning"}
ROUTES: list[tuple[dict[str, str], str]] = [
    *((CRITICAL | {"group": group}, "critical") for group in HOST_GROUPS),
    *((WARNING | {"group": group}, "warning") for group in HOST_GROUPS),
    (CRITICAL | {"group": "link"}, "link-critical"),
    ({"group": "link"}, "link-critical"),
    (WARNING | {"group": "link"}, "link-warning"),
    (CRITICAL | {"group": "fleet"}, "fleet"),
    (WARNING | {"group": "fleet"}, "fleet-warning"),
    (CRITICAL, "critical"),  # an alert of somebody else's
    (WARNING, "warning"),
    ({"alertname": "Own"}, "default"),
    ({"severity": "info"}, "info"),
    ({"severity": "info", "group": "link"}, "info"),
]
CHANNELS = {
    "default": {"email"},
    "critical": {"email", "slack", "pagerduty", "webhook"},
    "warning": {"email", "slack", "webhook"},
    "link-critical": {"email", "slack", "pagerduty", "webhook"},
    "link-warning": {"email", "slack", "webhook"},
    "fleet": {"email", "slack", "pagerduty", "webhook"},
    "fleet-warning": {"email", "slack", "webhook"},
    "info": {"webhook"},
}


def config() -> Any:
    return yaml.safe_load(CONFIG.read_text())


def routes(node: Any) -> list[Any]:
    return [node, *(found for child in node.get("routes", ()) for found in routes(child))]


def receivers(amtool: Path, labels: dict[str, str]) -> str:
    words = [f"{name}={value}" for name, value in labels.items()]
    return output(amtool, "config", "routes", "test", f"--config.file={CONFIG}", *words).strip()


def test_amtool_finds_nothing_wrong(amtool: Path) -> None:
    output(amtool, "check-config", CONFIG)


@pytest.mark.parametrize(("labels", "receiver"), ROUTES, ids=lambda value: str(value))
def test_each_alert_goes_to_its_receiver(amtool: Path, labels: dict[str, str], receiver: str) -> None:
    assert receivers(amtool, labels) == receiver


def test_no_route_and_no_receiver_is_without_a_test() -> None:
    tested = {receiver for _, receiver in ROUTES}
    routed = [route["receiver"] for route in routes(config()["route"])]
    # Each route has a receiver of its own, so its test is a route's test.
    assert sorted(routed) == sorted(tested)
    assert {one["name"] for one in config()["receivers"]} == tested
    found = {
        one["name"]: {key.removesuffix("_configs") for key in one if key != "name"}
        for one in config()["receivers"]
    }
    assert found == CHANNELS


@cache
def rules_that_ship() -> list[dict[str, Any]]:
    return [
        rule
        for file in (prometheus.CONFIG.parent / "rules").glob("*.yml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]


def test_what_inhibits_is_what_the_rules_have() -> None:
    names = {rule["alert"] for rule in rules_that_ship() if "alert" in rule}
    assert names >= set(re.findall(r'alertname!?="(\w+)"', CONFIG.read_text()))
    [regions] = [one["equal"] for one in config()["inhibit_rules"] if one["name"] == "silence-by-fleet"]
    [count] = [rule["expr"] for rule in rules_that_ship() if rule.get("record") == "limpet:silent:count"]
    assert f"by ({', '.join(regions)})" in count


@pytest.mark.parametrize("channel", ["email", "slack", "pagerduty", "webhook"])
def test_a_channel_can_be_deleted_as_the_page_says(amtool: Path, tmp_path: Path, channel: str) -> None:
    text = CONFIG.read_text()
    text, first = re.subn(rf"(?m)^    {channel}_configs:\n      - &{channel}\n(      .*\n)+", "", text)
    text, others = re.subn(rf"(?m)^    {channel}_configs: \[\*{channel}\]\n", "", text)
    assert first == 1
    assert others == sum(channel in channels for channels in CHANNELS.values()) - 1
    file = tmp_path / "alertmanager.yml"
    file.write_text(text.replace("templates/", f"{CONFIG.parent}/templates/"))
    found = {key for receiver in yaml.safe_load(text)["receivers"] for key in receiver}
    assert f"{channel}_configs" not in found
    output(amtool, "check-config", file)


def test_every_alert_that_ships_has_a_route_of_its_own_kind(amtool: Path) -> None:
    kinds = {
        (rule["labels"]["severity"], rule["labels"]["group"]) for rule in rules_that_ship() if "alert" in rule
    }
    assert kinds
    for severity, group in sorted(kinds):
        by_group = {
            "fleet": "fleet" if severity == "critical" else f"fleet-{severity}",
            "link": f"link-{severity}",
        }
        there = "info" if severity == "info" else by_group.get(group, severity)
        assert receivers(amtool, {"severity": severity, "group": group}) == there


def test_secrets_are_in_files_alone() -> None:
    def keys(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield key
                yield from keys(value)
        elif isinstance(node, list):
            for one in node:
                yield from keys(one)

    used = set(keys(config()))
    kept = ("smtp_auth_password", "slack_api_url", "routing_key", "url")
    assert used.isdisjoint(kept)
    assert used >= {f"{key}_file" for key in kept}


ONE_LINE = ("subject", "link", "runbook", "silence")
PARTS = (*ONE_LINE, "email.text", "email.html", "slack.color", "slack.text", "pagerduty.text")
TEXTS = {f"limpet.{part}": part.endswith(".html") for part in PARTS}  # template: whether it is HTML
escaped = partial(escape, quote=False)
CASES = sorted(file.stem for file in MESSAGES.glob("*.json"))


def test_every_template_that_the_configuration_uses_is_rendered_below() -> None:
    assert set(re.findall(r'template "([^"]+)"', CONFIG.read_text())) == set(TEXTS)


@pytest.mark.parametrize("case", [*CASES, "all-at-once", "many", "strange"])
def test_every_message_can_be_read_on_every_channel(amtool: Path, tmp_path: Path, case: str) -> None:
    data = tmp_path / "message.json"
    message = made_up(case)
    data.write_text(json.dumps(message))
    for template, is_html in TEXTS.items():
        text = alert_texts.render(amtool, template, data, "html" if is_html else "text")
        assert text.strip()
        assert "no value" not in text
        assert not re.search(r"\n\n\n|[ \t]\n", text), template
        if template in ("limpet.subject", "limpet.link", "limpet.runbook", "limpet.silence"):
            assert "\n" not in text
        if template in ("limpet.link", "limpet.silence", "limpet.runbook"):
            assert re.fullmatch(r"https://\S+", text)
        if template in ("limpet.email.text", "limpet.pagerduty.text"):
            for one in message["alerts"]:
                assert one["labels"]["hostname"] in text
        if is_html:
            assert balanced(text)
            assert all(link.startswith("https://") for link in re.findall(r'href="([^"]*)', text))
        if is_html or template == "limpet.slack.text":
            assert "<script>" not in text
            assert "<!channel>" not in text
            assert all(
                escaped(one["labels"]["hostname"]) in text.replace("&#34;", '"') for one in message["alerts"]
            )


def made_up(case: str) -> dict[str, Any]:
    """A message of `MESSAGES`, or one that is harder to say well."""
    if case in CASES:
        return dict(json.loads((MESSAGES / f"{case}.json").read_text()))
    message = dict(json.loads((MESSAGES / "disk-full.json").read_text()))
    one = message["alerts"][0]
    if case == "all-at-once":  # two that fire, one that is over
        second = {**one, "labels": {**one["labels"], "mountpoint": "/home"}}
        over = {**second, "status": "resolved", "endsAt": "2026-11-24T03:00:00Z"}
        message["alerts"] = [one, second, over]
    elif case == "many":  # from a Prometheus that does not know where the runbooks are to be read
        annotations = {**one["annotations"], "runbook_url": "docs/runbooks/HostDiskFull.md"}
        message["commonAnnotations"] = annotations
        message["alerts"] = [
            one | {"labels": {**one["labels"], "mountpoint": f"/{n}"}, "annotations": annotations}
            for n in range(5)
        ]
    else:  # one of somebody else's, without all that ours have, and with signs that mean something
        labels = {"alertname": "Own", "hostname": '<script>"&', "region": "<!channel>"}
        message |= {"groupLabels": labels, "commonLabels": labels, "commonAnnotations": {}}
        message["alerts"] = [one | {"labels": labels, "annotations": {"value": "> 3 & <script>"}}]
    return message


def balanced(text: str) -> bool:
    """Whether every tag of the HTML is closed where it should be."""
    open_tags: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Parser().feed(text)
    return not open_tags


def test_the_page_shows_what_the_templates_make(amtool: Path) -> None:
    page = alert_texts.PAGE.read_text()
    assert page == alert_texts.filled(page, amtool), "stale: python -m tools.alert_texts"
    assert set(re.findall(r"<!-- \S+ of (\S+) -->", page)) == set(CASES)


def alert(name: str, hostname: str | None, severity: str, group: str, **labels: str) -> dict[str, Any]:
    place = {"environment": "production", "region": "eu-west", "datacenter": "dc1"}
    host = {"hostname": hostname} if hostname else {}
    return {
        "labels": place | host | {"alertname": name, "severity": severity, "group": group} | labels,
        "annotations": {"summary": f"{name} on {hostname}", "runbook_url": f"https://example.com/{name}.md"},
    }


@pytest.fixture(scope="module")
def channels(certs: Certs) -> Iterator[Channels]:
    with Channels(certs) as running:
        yield running


@pytest.fixture(scope="module")
def alertmanager(
    alertmanager_program: Path, channels: Channels, certs: Certs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Alertmanager]:
    folder = tmp_path_factory.mktemp("alertmanager")
    file = shipped(folder / "config", channels, certs)
    with Alertmanager(alertmanager_program, folder, file, certs=certs) as running:
        yield running


def told(channels: Channels, **labels: str) -> list[dict[str, Any]]:
    """The messages (as the webhook has them) about an alert with these labels."""
    return [
        message
        for message in channels.said("webhook")
        if any(labels.items() <= one["labels"].items() for one in message["alerts"])
    ]


def awaited(channels: Channels, deadline_s: float = 10, **labels: str) -> list[dict[str, Any]]:
    """The messages about an alert with these labels, once there is one."""
    return wait_for(lambda: told(channels, **labels), deadline_s, f"a message about {labels}")


def status(alertmanager: Alertmanager, what: str, **labels: str) -> list[str]:
    """What mutes an alert: `inhibitedBy`, or `mutedBy` time intervals."""
    for one in alertmanager.alerts():
        if labels.items() <= one["labels"].items():
            found: list[str] = one["status"][what]
            return found
    return []


def silent(hostname: str) -> dict[str, Any]:
    """The alert as the rules that ship make it."""
    found = alert("LimpetHostSilent", hostname, "critical", "link", role="gateway")
    found["annotations"] = {
        "summary": f"Nothing from {hostname} for 10m 15s",
        "runbook_url": "https://docs.example.com/runbooks/LimpetHostSilent.md",
    }
    return found


def test_hosts_of_a_site_that_are_silent_are_one_message(
    alertmanager: Alertmanager, channels: Channels, tmp_path: Path
) -> None:
    names = [f"edge-{n}" for n in range(8)]
    alertmanager.fire(*map(silent, names))
    [message] = awaited(channels, alertname="LimpetHostSilent")
    assert [one["labels"]["hostname"] for one in message["alerts"]] == names
    mail = wait_for(lambda: [m for m in channels.mails if "Silent" in m.subject], 5, "the mail")[0]
    assert mail.subject == "CRITICAL: 8 x LimpetHostSilent in dc1"
    assert all(f"Nothing from {name} for 10m 15s, since " in mail.text for name in names)
    assert mail.text.count("/LimpetHostSilent.md") == 1
    shown = json.loads((MESSAGES / "hosts-silent.json").read_text())
    received = tmp_path / "hosts-silent.json"
    received.write_text(json.dumps(message))
    assert comparable(message) == comparable(shown), f"stale: python -m tools.alert_texts {received}"
    wait_for(lambda: channels.said("pagerduty"), 5, "the page")
    assert len(channels.said("pagerduty")) == 1
    assert len(channels.said("slack")) == 1


def test_a_label_with_line_breaks_adds_no_header_to_a_mail(
    alertmanager: Alertmanager, channels: Channels
) -> None:
    # `df`'s mount points and an agent's own labels may hold anything.
    one = alert(
        "Breaks", "h", "critical", "disk_usage", mountpoint="/x\r\nBcc: other@example.com\r\n\r\nbody"
    )
    one["annotations"]["summary"] = "{mountpoint} is full".format_map(one["labels"])
    alertmanager.fire(one)
    [mail] = wait_for(lambda: [m for m in channels.mails if "is full" in m.subject], 10, "the mail")
    assert mail.to == ("ops@example.com",) and "Bcc" not in mail.headers
    assert "What to do" in mail.text


def test_an_outage_of_the_fleet_is_one_message_and_its_hosts_are_in_it(
    alertmanager: Alertmanager, channels: Channels
) -> None:
    regions = ("us-east", "asia")
    alertmanager.fire(
        *(
            alert("LimpetHostSilent", f"{region}-{n}", "critical", "link", region=region, datacenter=f"dc{n}")
            for region in regions
            for n in range(15)
        ),
        *(alert("LimpetFleetSilent", None, "critical", "fleet", region=region) for region in regions),
    )
    [message] = awaited(channels, alertname="LimpetFleetSilent")
    assert [one["labels"]["region"] for one in message["alerts"]] == ["asia", "us-east"]
    assert message["receiver"] == "fleet"

    # A silent host of a third region is reported, later; those of the two regions are not.
    alertmanager.fire(alert("LimpetHostSilent", "third-1", "critical", "link", region="third"))
    awaited(channels, alertname="LimpetHostSilent", region="third")
    for region in regions:
        assert status(alertmanager, "inhibitedBy", alertname="LimpetHostSilent", region=region)
        assert not told(channels, alertname="LimpetHostSilent", region=region)


def test_the_end_of_an_outage_is_one_message_and_not_one_for_each_host(
    alertmanager: Alertmanager, channels: Channels
) -> None:
    """As the rules have it (`test_fleet_rules.py`): the region's alert begins before those of its hosts, and ends after."""
    region = alert("LimpetFleetSilent", None, "critical", "fleet", region="returns")
    hosts = [
        alert("LimpetHostSilent", f"returns-{n}", "critical", "link", region="returns") for n in range(300)
    ]
    flushes = flushes_of(alertmanager, "LimpetHostSilent")
    alertmanager.fire(region)
    awaited(channels, alertname="LimpetFleetSilent", region="returns")
    alertmanager.fire(*hosts)
    wait_for(lambda: status(alertmanager, "inhibitedBy", hostname="returns-299"), 30, "the hosts' alerts")
    begun = flushes()
    wait_for(lambda: flushes() > begun, 60, "a look at the hosts, all of which are silent")
    alertmanager.fire(*map(over, hosts))
    begun = flushes()
    wait_for(lambda: flushes() > begun, 60, "a look at the hosts, all of which are back")
    alertmanager.fire(over(region))

    def ended() -> bool:
        last = told(channels, alertname="LimpetFleetSilent", region="returns")[-1]
        return any(
            one["status"] == "resolved" and one["labels"] == region["labels"] for one in last["alerts"]
        )

    wait_for(ended, 60, "the end of the outage")
    assert not told(channels, alertname="LimpetHostSilent", region="returns")
    assert not [mail for mail in channels.mails if "returns-" in mail.text]


def test_one_bad_deploy_on_a_thousand_hosts_is_a_few_messages_an_hour(
    alertmanager_program: Path, certs: Certs, tmp_path: Path
) -> None:
    """CPU at 99 % on 1,000 hosts of ten regions: first four of one region, then all, then fewer, for an hour.

    Time runs sixty times as fast. Prometheus sends what fires each minute, and the rules (fleet.test.yml) put
    LimpetManyHosts in front of the hosts as soon as there are five.
    """
    hosts = [
        alert("HostCpuHigh", f"edge-{n:03}", severity, "cpu", region=f"region-{n % 10}")
        for n in range(1000)
        for severity in ("critical", "warning")
    ]
    crowds = [
        alert("LimpetManyHosts", None, severity, "fleet", region=f"region-{n}", of="cpu")
        for n in range(10)
        for severity in ("critical", "warning")
    ]
    alone = hosts[:6:2]  # three hosts with the critical alert, in three regions
    with Channels(certs) as channels:
        file = shipped(tmp_path / "config", channels, certs)
        with Alertmanager(alertmanager_program, tmp_path, file) as alertmanager:
            alertmanager.fire(*alone)
            for one in alone:
                awaited(channels, 60, hostname=one["labels"]["hostname"], severity="critical")
            first = len(channels.said("webhook"))
            begun = time.monotonic()
            alertmanager.fire(*crowds)
            alertmanager.fire(*hosts)
            minute = 0
            while time.monotonic() - begun < 60:
                minute += 1
                regions = (
                    10 if minute < 20 else 7 if minute < 40 else 3
                )  # one region after the other is well again
                alertmanager.fire(*(crowds[: 2 * regions]), *(map(over, crowds[2 * regions :])))
                alertmanager.fire(
                    *(one if int(one["labels"]["region"][7:]) < regions else over(one) for one in hosts)
                )
                wait_for(lambda: time.monotonic() - begun >= minute, 60, "the next minute")  # noqa: B023
            posts = {channel: channels.said(channel) for channel in ("webhook", "slack", "pagerduty")}
            mails = len(channels.mails)
    assert first == len(alone), "a host of its own has a message of its own"
    messages = {channel: len(said) for channel, said in posts.items()} | {"email": mails}
    assert max(messages.values()) <= 20 + first, messages
    crowd = told(channels, alertname="LimpetManyHosts")[0]["alerts"]
    assert {(one["labels"]["region"], one["labels"]["severity"]) for one in crowd} == {
        (f"region-{n}", "critical") for n in range(10)
    }


def over(one: dict[str, Any]) -> dict[str, Any]:
    """The alert as Prometheus sends it when it has ended."""
    return one | {"endsAt": datetime.now(UTC).isoformat()}


def test_a_critical_alert_mutes_the_warning_of_the_same_thing_and_no_other(
    alertmanager: Alertmanager, channels: Channels
) -> None:
    disk = {"group": "disk_usage", "hostname": "full-1", "name": "HostDiskFull"}
    on = (("critical", "/var"), ("warning", "/var"), ("warning", "/home"))
    alertmanager.fire(*(alert(severity=one, mountpoint=mountpoint, **disk) for one, mountpoint in on))
    [warning] = awaited(channels, hostname="full-1", severity="warning")
    [critical] = awaited(channels, hostname="full-1", severity="critical")
    for message, mountpoint in ((warning, "/home"), (critical, "/var")):
        assert [one["labels"]["mountpoint"] for one in message["alerts"]] == [mountpoint]
    about = {"hostname": "full-1", "severity": "warning"}
    assert status(alertmanager, "inhibitedBy", mountpoint="/var", **about)
    assert not status(alertmanager, "inhibitedBy", mountpoint="/home", **about)


def test_a_silent_host_mutes_its_other_alerts_and_those_of_no_other(
    alertmanager: Alertmanager, channels: Channels
) -> None:
    alertmanager.fire(alert("LimpetHostSilent", "gone-1", "critical", "link", region="gone"))
    wait_for(lambda: status(alertmanager, "inhibitedBy", hostname="gone-1") == [], 5, "the silence")
    alertmanager.fire(
        alert("HostCpuHigh", "gone-1", "critical", "cpu", region="gone"),
        alert("LimpetBacklogGrowing", "gone-1", "warning", "link", region="gone"),
        alert("HostMemoryHigh", "gone-1", "critical", "memory", region="another"),  # a host of the same name
        alert("HostCpuHigh", "there-1", "critical", "cpu"),
    )
    awaited(channels, hostname="gone-1")
    awaited(channels, hostname="there-1")
    awaited(channels, hostname="gone-1", alertname="HostMemoryHigh")
    for name in ("HostCpuHigh", "LimpetBacklogGrowing"):
        assert status(alertmanager, "inhibitedBy", hostname="gone-1", alertname=name)
        assert not told(channels, hostname="gone-1", alertname=name)


def test_the_info_on_an_outage_is_sent_while_the_silence_still_fires(
    alertmanager: Alertmanager, channels: Channels
) -> None:
    """LimpetHostSilent fires for ten minutes after the return, with which the info comes."""
    alertmanager.fire(alert("LimpetHostSilent", "back-1", "critical", "link", region="back"))
    wait_for(lambda: status(alertmanager, "inhibitedBy", hostname="back-1") == [], 5, "the silence")
    infos = {"LimpetLinkWasDown": "link", "HostWasDown": "host"}
    alertmanager.fire(*(alert(name, "back-1", "info", group, region="back") for name, group in infos.items()))
    for name in infos:
        [message] = awaited(channels, hostname="back-1", alertname=name)
        assert message["receiver"] == "info"


def test_an_alert_that_lasts_is_not_sent_again_and_a_new_one_is(
    alertmanager: Alertmanager, channels: Channels
) -> None:
    on = {"hostname": "still-1", "severity": "critical", "group": "network", "name": "HostNetworkBusy"}
    flushes = flushes_of(alertmanager, "HostNetworkBusy")
    alertmanager.fire(alert(interface="eth0", **on))
    awaited(channels, hostname="still-1")
    alertmanager.fire(alert(interface="eth0", **on))
    wait_for(lambda: flushes() >= 2, 15, "the next time that Alertmanager looks")
    assert len(told(channels, hostname="still-1")) == 1
    alertmanager.fire(alert(interface="eth1", **on))
    more = wait_for(lambda: told(channels, hostname="still-1")[1:], 15, "the message of one more")
    assert [one["labels"]["interface"] for one in more[0]["alerts"]] == ["eth0", "eth1"]


def test_the_commands_of_the_page_do_what_it_says(
    alertmanager: Alertmanager, channels: Channels, amtool: Path, tmp_path: Path, certs: Certs
) -> None:
    http = tmp_path / "http.yml"
    http.write_text(yaml.safe_dump({"tls_config": {"ca_file": str(certs.ca)}}))
    page = alert_texts.PAGE.read_text().replace("\\\n", " ")
    for command in re.findall(r"(?m)^    (amtool (?:alert|silence) .*)$", page):
        there = re.sub(r"--alertmanager.url=\S+", f"--alertmanager.url={alertmanager.url}", command)
        assert there != command
        output("sh", "-c", f"{amtool}{there.removeprefix('amtool')} --http.config.file={http}")
    [message] = awaited(channels, hostname="test-host")
    assert message["receiver"] == "critical"
    alertmanager.fire(
        alert("HostCpuHigh", "web-01", "critical", "cpu"),
        alert("LimpetHostSilent", "edge-9", "critical", "link"),
    )
    for hostname in ("web-01", "edge-9"):
        wait_for(lambda: status(alertmanager, "silencedBy", hostname=hostname), 10, hostname)  # noqa: B023


def flushes_of(alertmanager: Alertmanager, alertname: str) -> Callable[[], int]:
    """Return a function that counts how often Alertmanager has looked whether this alert needs a notification."""
    return lambda: sum(
        "msg=flushing" in line and alertname in line for line in alertmanager.log.read_text().splitlines()
    )


def test_warnings_wait_for_the_morning_and_critical_alerts_do_not(
    tmp_path: Path, alertmanager_program: Path, certs: Certs
) -> None:
    warnings = [
        alert("HostDiskBusy", "night-1", "warning", "disk_io"),
        alert("LimpetBacklogGrowing", "night-1", "warning", "link"),
        alert("LimpetManyHosts", None, "warning", "fleet", region="night", of="agent"),
    ]
    with Channels(certs) as channels:
        file = shipped(tmp_path / "config", channels, certs, night=True)
        with Alertmanager(alertmanager_program, tmp_path, file) as alertmanager:
            alertmanager.fire(*warnings)
            for one in warnings:
                name = one["labels"]["alertname"]
                muted = wait_for(lambda: status(alertmanager, "mutedBy", alertname=name), 10, name)  # noqa: B023
                assert muted == ["night"]
            alertmanager.fire(
                alert("HostCpuHigh", "night-1", "critical", "cpu"),
                alert("LimpetDestinationHeld", "night-2", "critical", "link"),
                alert("LimpetFleetSilent", None, "critical", "fleet", region="night"),
            )
            for name in ("HostCpuHigh", "LimpetDestinationHeld", "LimpetFleetSilent"):
                awaited(channels, alertname=name)
            assert not told(channels, severity="warning")

            shipped(tmp_path / "config", channels, certs, night=False)
            assert alertmanager.pid
            os.kill(alertmanager.pid, signal.SIGHUP)
            for one in warnings:
                name = one["labels"]["alertname"]
                awaited(channels, 20, alertname=name)
    assert all(message["externalURL"] == EXTERNAL_URL for message in channels.said("webhook"))
