"""A real Alertmanager after a restart: Prometheus sends it all that fires again, and what mutes may come last."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.alertmanager import FASTER, Alertmanager, shipped
from tests.support.certs import Certs
from tests.support.channels import Channels
from tests.support.net import wait_for

ROOT = Path(__file__).resolve().parents[2]
FLAG = "--dispatch.start-delay"
PLACE = {"environment": "production", "region": "eu-west", "severity": "critical"}


def shipped_flag() -> str:
    """The flag in the stack that ships, the same that the page names, with its time made shorter."""
    stack = yaml.safe_load((ROOT / "packaging" / "compose" / "compose.yaml").read_text())
    [flag] = [one for one in stack["services"]["alertmanager"]["command"] if one.startswith(FLAG)]
    assert f"`{flag}`" in (ROOT / "docs" / "alerts.md").read_text()
    [minutes] = re.findall(r"=(\d+)m$", flag)
    return f"{FLAG}={int(minutes) * 60 * 1000 // FASTER}ms"


def alert(labels: dict[str, str]) -> dict[str, Any]:
    """An alert that has fired for an hour (of a fleet whose time runs faster: for long)."""
    begun = datetime.now(UTC) - timedelta(hours=1)
    return {"labels": PLACE | labels, "startsAt": begun.isoformat()}


@pytest.mark.parametrize("delayed", [True, False])
def test_after_a_restart_what_is_muted_stays_so_though_what_mutes_it_comes_last(
    delayed: bool, alertmanager_program: Path, certs: Certs, tmp_path: Path
) -> None:
    """Without the delay each old alert is sent at once: it has waited long enough, and nothing mutes it yet."""
    hosts = [
        alert({"alertname": "HostCpuHigh", "group": "cpu", "hostname": f"edge-{n:02}"}) for n in range(30)
    ]
    crowd = alert({"alertname": "LimpetManyHosts", "group": "fleet", "of": "cpu"})
    with Channels(certs) as channels:
        file = shipped(tmp_path / "config", channels, certs)
        flags = (shipped_flag(),) if delayed else ()
        with Alertmanager(alertmanager_program, tmp_path, file, flags=flags) as alertmanager:
            alertmanager.fire(*hosts)
            time.sleep(60 / FASTER)  # what Prometheus takes to send each alert again
            alertmanager.fire(crowd)

            def names() -> set[str]:
                return {
                    one["labels"]["alertname"]
                    for message in channels.said("webhook")
                    for one in message["alerts"]
                }

            wait_for(lambda: "LimpetManyHosts" in names(), 30, "the message about the crowd")
            looked = wait_for(
                lambda: [one for one in alertmanager.alerts() if one["status"]["inhibitedBy"]],
                30,
                "what is muted",
            )
            assert len(looked) == len(hosts)
            assert ("HostCpuHigh" in names()) == (not delayed)
