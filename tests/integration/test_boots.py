"""A host that is dead is not a link that is dead: real agents, a real Prometheus, and the rules that ship.

What a power cut leaves is an agent that was killed and a kernel with another boot id, which is mounted over its own in a namespace.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import namespaces, rules
from tests.support.agent import Agent
from tests.support.net import wait_for
from tests.support.prometheus import CONFIG, Prometheus
from tests.support.proxy import Proxy

SOONER = {">= 600": ">= 3", ">= 300": ">= 3", "offset 30m": "offset 5s"}
"""What is changed in the rules, so that an outage of some seconds is a long one."""
BOOT = "mount --bind {file} /proc/sys/kernel/random/boot_id"


class Box(Agent):
    """An agent on a host that can be booted again."""

    def boot(self, number: int, *, now: bool = False) -> None:
        """Start it in a boot with this number, which has begun just now, or with the machine."""
        file = self.folder / "boot_id"
        file.write_text(f"{number:08x}-0000-4000-8000-000000000000\n")
        up = int(time.clock_gettime(time.CLOCK_BOOTTIME))
        more = ["--time", "--boottime", f"-{up}"] if now else []
        self.inside, environment = namespaces.inside(BOOT.format(file=file) + '\nexec "$@"', more=more)
        self.inside = [*self.inside, "sh"]
        self.environment = {**self.environment, **environment}
        self.start()


@pytest.fixture
def prometheus(prometheus_program: Path, tmp_path: Path) -> Prometheus:
    return Prometheus(prometheus_program, tmp_path / "prometheus")


def reasons(prometheus: Prometheus) -> dict[str, float]:
    """Return the newest counts of boots by reason."""
    found = prometheus.query("limpet_boots_total")
    return {dict(labels)["reason"]: value for labels, value in found.items()}


def test_a_power_cut_a_stop_and_a_kill(tmp_path: Path, prometheus: Prometheus) -> None:
    box = Box(tmp_path / "agent", [{"url": prometheus.write_url, "name": "central"}])
    with prometheus:
        box.boot(1)
        try:
            wait_for(lambda: reasons(prometheus) == {"unknown": 1}, 30, "the first boot")
            box.kill()
            box.boot(1)  # the agent was killed, and not the host
            wait_for(lambda: len(box.events("agent.started")) == 2, 30, "a start")
            box.kill()
            box.boot(2)
            wait_for(lambda: reasons(prometheus).get("power_loss") == 1, 30, "a power cut")
            assert reasons(prometheus)["unknown"] == 1
            seen = prometheus.query('increase(limpet_boots_total{reason="power_loss"}[5m]) > 0')
            assert seen  # the first one of its kind is a rise, too
            assert box.stop() == 0
            box.boot(3)  # somebody has stopped the agent, so nobody knows
            wait_for(lambda: reasons(prometheus).get("unknown") == 2, 30, "a boot after a stop")
            [(labels, down)] = prometheus.query("limpet_boot_down_seconds").items()
            assert dict(labels)["hostname"] == "test-host"
            assert down >= 0
        finally:
            box.__exit__()


@pytest.fixture
def ruler(prometheus_program: Path, tmp_path: Path) -> Prometheus:
    """A Prometheus with the rules that ship, where everything is sooner."""

    def sooner(rule: dict[str, Any]) -> None:
        rule.pop("keep_firing_for", None)
        if rule["alert"] in ("LimpetLinkWasDown", "HostWasDown"):
            for was, now in SOONER.items():
                rule["expr"] = rule["expr"].replace(was, now)

    folder = rules.changed(tmp_path / "rules", sooner).parent
    for path in (folder / "rules").iterdir():
        file = yaml.safe_load(path.read_text())
        for group in file["groups"]:
            group["interval"] = "1s"
        text = yaml.safe_dump(file, sort_keys=False, width=1 << 20)
        path.write_text(text.replace("[1h:1m]", "[1m:1s]"))  # when a host was last seen, to the second
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.read_text())
    return Prometheus(prometheus_program, tmp_path / "prometheus", config=config)


def test_the_rules_know_a_dead_link_from_a_dead_host(tmp_path: Path, ruler: Prometheus) -> None:
    def fired() -> set[tuple[str, str]]:
        found = ruler.query('last_over_time(ALERTS{alertname=~".*WasDown"}[1h])')
        return {(dict(labels)["hostname"], dict(labels)["alertname"]) for labels in found}

    def since(host: str) -> float:
        """Return for how many evaluations the rules have known a host."""
        series = f'limpet:last_seen:timestamp_seconds{{hostname="{host}"}}'
        return sum(ruler.query(f"count_over_time({series}[1h])").values())

    with ruler, Proxy() as way:
        through = f"http://127.0.0.1:{way.port}"
        linked = Agent(
            tmp_path / "linked", [{"url": ruler.write_url, "proxy_url": through}], hostname="linked"
        )
        off = Box(tmp_path / "off", [{"url": ruler.write_url}], hostname="off")
        with linked:
            off.boot(1)
            try:
                wait_for(lambda: min(since("linked"), since("off")) > 8, 60, "the rules to know them")
                way.__exit__()
                off.kill()
                gone = time.monotonic()
                wait_for(lambda: time.monotonic() > gone + 6, 20, "an outage")
                assert fired() == set()
                way.__enter__()
                off.boot(2, now=True)
                both = {("linked", "LimpetLinkWasDown"), ("off", "HostWasDown")}
                wait_for(lambda: fired() >= both, 60, "both alerts")
                wait_for(lambda: not ruler.query('ALERTS{alertname=~".*WasDown"}'), 120, "their end")
                assert fired() == both
            finally:
                off.__exit__()
