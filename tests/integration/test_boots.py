"""A host that is dead is not a link that is dead: real agents, a real Prometheus, and the rules that ship.

What a power cut leaves is an agent that was killed and a kernel with another boot id, which is mounted over its own in a namespace.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import namespaces
from tests.support.agent import Agent
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus

BOOT = "mount --bind {file} /proc/sys/kernel/random/boot_id"


class Box(Agent):
    """An agent on a host that can be booted again."""

    def boot(self, number: int) -> None:
        """Start it in a boot with this number."""
        file = self.folder / "boot_id"
        file.write_text(f"{number:08x}-0000-4000-8000-000000000000\n")
        self.inside, environment = namespaces.inside(BOOT.format(file=file) + '\nexec "$@"', command=())
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
