"""Alertmanager's configuration: every route, and, in a real Alertmanager, what is grouped, muted and kept for the day."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import prometheus
from tests.support.alertmanager import CONFIG, EXTERNAL_URL, Alertmanager, shipped
from tests.support.certs import Certs
from tests.support.channels import Channels
from tests.support.net import wait_for

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
    (WARNING | {"group": "fleet"}, "fleet"),
    (CRITICAL, "critical"),  # an alert of somebody else's
    (WARNING, "warning"),
    ({"alertname": "Own"}, "default"),
    ({"severity": "info"}, "default"),
]
CHANNELS = {
    "default": {"email"},
    "critical": {"email", "slack", "pagerduty", "webhook"},
    "warning": {"email", "slack", "webhook"},
    "link-critical": {"email", "slack", "pagerduty", "webhook"},
    "link-warning": {"email", "slack", "webhook"},
    "fleet": {"email", "slack", "pagerduty", "webhook"},
}


def config() -> Any:
    return yaml.safe_load(CONFIG.read_text())


def routes(node: Any) -> list[Any]:
    return [node, *(found for child in node.get("routes", ()) for found in routes(child))]


def receivers(amtool: Path, labels: dict[str, str]) -> str:
    words = [f"{name}={value}" for name, value in labels.items()]
    command = [str(amtool), "config", "routes", "test", f"--config.file={CONFIG}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_amtool_finds_nothing_wrong(amtool: Path) -> None:
    done = subprocess.run([amtool, "check-config", CONFIG], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("labels", "receiver"), ROUTES, ids=lambda value: str(value))
def test_each_alert_goes_to_its_receiver(amtool: Path, labels: dict[str, str], receiver: str) -> None:
    assert receivers(amtool, labels) == receiver


def test_no_route_and_no_receiver_is_without_a_test() -> None:
    tested = {receiver for _, receiver in ROUTES}
    routed = [route["receiver"] for route in routes(config()["route"])]
    assert sorted(routed) == sorted(
        tested
    )  # each route has a receiver of its own, so its test is a route's test
    assert {one["name"] for one in config()["receivers"]} == tested
    found = {
        one["name"]: {key.removesuffix("_configs") for key in one if key != "name"}
        for one in config()["receivers"]
    }
    assert found == CHANNELS


def test_every_alert_that_ships_has_a_route_of_its_own_kind(amtool: Path) -> None:
    kinds = {
        (rule["labels"]["severity"], rule["labels"]["group"])
        for file in (prometheus.CONFIG.parent / "rules").glob("*.yml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert kinds
    for severity, group in sorted(kinds):
        there = {"fleet": "fleet", "link": f"link-{severity}"}.get(group, severity)
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


def status(alertmanager: Alertmanager, what: str, **labels: str) -> list[str]:
    """What mutes an alert: `inhibitedBy`, or `mutedBy` time intervals."""
    for one in alertmanager.alerts():
        if labels.items() <= one["labels"].items():
            found: list[str] = one["status"][what]
            return found
    return []


def test_hosts_of_a_site_that_are_silent_are_one_message(
    alertmanager: Alertmanager, channels: Channels
) -> None:
    names = [f"edge-{n}" for n in range(8)]
    alertmanager.fire(*(alert("LimpetHostSilent", name, "critical", "link") for name in names))
    [message] = wait_for(lambda: told(channels, alertname="LimpetHostSilent"), 10, "the message")
    assert [one["labels"]["hostname"] for one in message["alerts"]] == names
    mail = wait_for(lambda: [m for m in channels.mails if "Silent" in m.subject], 5, "the mail")[0]
    assert mail.subject == "CRITICAL: 8 x LimpetHostSilent in dc1"
    assert all(f"LimpetHostSilent on {name}, since " in mail.text for name in names)
    assert mail.text.count("https://example.com/LimpetHostSilent.md") == 1
    wait_for(lambda: channels.said("pagerduty"), 5, "the page")
    assert len(channels.said("pagerduty")) == 1
    assert len(channels.said("slack")) == 1


def test_an_outage_of_the_fleet_is_one_message_and_its_hosts_are_in_it(
    alertmanager: Alertmanager, channels: Channels
) -> None:
    for region in ("us-east", "asia"):
        for n in range(15):
            silent = alert(
                "LimpetHostSilent", f"{region}-{n}", "critical", "link", region=region, datacenter=f"dc{n}"
            )
            alertmanager.fire(silent)
    alertmanager.fire(
        *(
            alert("LimpetFleetSilent", None, "critical", "fleet", region=region)
            for region in ("us-east", "asia")
        )
    )
    [message] = wait_for(lambda: told(channels, alertname="LimpetFleetSilent"), 10, "the message")
    assert [one["labels"]["region"] for one in message["alerts"]] == ["asia", "us-east"]
    assert message["receiver"] == "fleet"

    # Hosts that are silent in a third region are told of, later; those of the two regions are not.
    alertmanager.fire(alert("LimpetHostSilent", "third-1", "critical", "link", region="third"))
    wait_for(lambda: told(channels, alertname="LimpetHostSilent", region="third"), 10, "the third region")
    for region in ("us-east", "asia"):
        assert status(alertmanager, "inhibitedBy", alertname="LimpetHostSilent", region=region)
        assert not told(channels, alertname="LimpetHostSilent", region=region)


def test_a_critical_alert_mutes_the_warning_of_the_same_thing_and_no_other(
    alertmanager: Alertmanager, channels: Channels
) -> None:
    disk = {"group": "disk_usage", "hostname": "full-1", "name": "HostDiskFull"}
    alertmanager.fire(
        alert(severity="critical", mountpoint="/var", **disk),
        alert(severity="warning", mountpoint="/var", **disk),
        alert(severity="warning", mountpoint="/home", **disk),
    )
    [warning] = wait_for(lambda: told(channels, hostname="full-1", severity="warning"), 10, "the warning")
    [critical] = wait_for(lambda: told(channels, hostname="full-1", severity="critical"), 10, "the page")
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
        alert("HostCpuHigh", "gone-1", "critical", "cpu"),
        alert("LimpetBacklogGrowing", "gone-1", "warning", "link"),
        alert("HostCpuHigh", "there-1", "critical", "cpu"),
    )
    wait_for(lambda: told(channels, hostname="gone-1"), 10, "the silence's message")
    wait_for(lambda: told(channels, hostname="there-1"), 10, "the other host's message")
    for name in ("HostCpuHigh", "LimpetBacklogGrowing"):
        assert status(alertmanager, "inhibitedBy", hostname="gone-1", alertname=name)
        assert not told(channels, hostname="gone-1", alertname=name)


def test_an_alert_that_goes_on_is_not_told_again_and_one_more_is(
    alertmanager: Alertmanager, channels: Channels
) -> None:
    on = {"hostname": "still-1", "severity": "critical", "group": "network", "name": "HostNetworkBusy"}
    flushes = flushes_of(alertmanager, "HostNetworkBusy")
    alertmanager.fire(alert(interface="eth0", **on))
    wait_for(lambda: told(channels, hostname="still-1"), 10, "the message")
    alertmanager.fire(alert(interface="eth0", **on))
    wait_for(lambda: flushes() >= 2, 15, "the next time that Alertmanager looks")
    assert len(told(channels, hostname="still-1")) == 1
    alertmanager.fire(alert(interface="eth1", **on))
    more = wait_for(lambda: told(channels, hostname="still-1")[1:], 15, "the message of one more")
    assert [one["labels"]["interface"] for one in more[0]["alerts"]] == ["eth0", "eth1"]


def flushes_of(alertmanager: Alertmanager, alertname: str) -> Callable[[], int]:
    """How often Alertmanager has looked whether there is something to tell of this alert."""
    return lambda: sum(
        "msg=flushing" in line and alertname in line for line in alertmanager.log.read_text().splitlines()
    )


def test_warnings_wait_for_the_morning_and_critical_alerts_do_not(
    tmp_path: Path, alertmanager_program: Path, certs: Certs
) -> None:
    warnings = [
        alert("HostDiskBusy", "night-1", "warning", "disk_io"),
        alert("LimpetBacklogGrowing", "night-1", "warning", "link"),
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
                wait_for(lambda: told(channels, alertname=name), 10, name)  # noqa: B023
            assert not told(channels, severity="warning")

            shipped(tmp_path / "config", channels, certs, night=False)
            assert alertmanager.pid
            subprocess.run(["kill", f"-{signal.SIGHUP}", str(alertmanager.pid)], check=True)
            for one in warnings:
                name = one["labels"]["alertname"]
                wait_for(lambda: told(channels, alertname=name), 20, f"{name} in the morning")  # noqa: B023
    assert all(message["externalURL"] == EXTERNAL_URL for message in channels.said("webhook"))
