"""The promise that everything else is for: an outage, a kill -9 in the middle, and nothing is missing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from agent.collect import grid
from tests.support.agent import HOSTNAME, Agent
from tests.support.certs import Certs
from tests.support.net import free_port, wait_for
from tests.support.prometheus import Prometheus
from tests.support.server import Login, Samples

INTERVAL_MS = 1000
NAME = "prometheus"
GROUPS = {  # a series of each collector that runs every second
    "cpu": "cpu_user_seconds_total",
    "memory": "memory_total_bytes",
    "network": "network_connections",
    "host": "host_info",
    "limpet/presence": "limpet_start_time_seconds",
}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_an_outage_with_a_kill_in_it_costs_nothing_but_the_time_the_agent_was_dead(
    tmp_path: Path, prometheus_program: Path, certs: Certs, secure: bool
) -> None:
    login = Login("host", "its password") if secure else None
    prometheus = Prometheus(
        prometheus_program, tmp_path / "prometheus", certs=certs if secure else None, login=login
    )
    to: dict[str, Any] = {"url": prometheus.write_url, "name": NAME}
    if login:
        to |= {
            "basic_auth": {"username": login.user, "password": login.password},
            "tls_config": {"ca_file": str(certs.ca)},
        }
    # The second destination takes nothing, so the log keeps everything: what Prometheus has is compared
    # with what was appended, sample by sample.
    nobody = {"url": f"http://127.0.0.1:{free_port()}/api/v1/write", "name": "nobody"}
    agent = Agent(tmp_path / "agent", [to, nobody])
    with prometheus, agent:
        wait_for(lambda: agent.destination(NAME).get("ledger", {}).get("delivered"), 20, "a first delivery")
        prometheus.stop()
        grows_by(agent, 300)

        agent.kill()
        killed = time.time()
        wait_for(lambda: time.time() > killed + 2.5, 5, "some ticks that nobody collects")
        restarted = agent.start()
        waiting = wait_for(lambda: agent.destination(NAME)["state"] == "waiting", 10, "a failed try")
        assert waiting
        grows_by(agent, 300)
        assert "refused" in agent.destination(NAME)["last_error"]

        prometheus.start()
        wait_for(lambda: agent.destination(NAME)["pending_samples"] == 0, 30, "the backlog to drain")
        stopping = time.time()  # how long the stop takes does not matter: it may try to send once more
        assert agent.stop() == 0

        stored = prometheus.raw_samples(f'{{hostname="{HOSTNAME}"}}', int(killed * 1000) - 120_000, now_ms())
        appended, ended = agent.buffered(), agent.ended()
        status = agent.status()

    assert stored == appended
    # By the stop, not by the kill. What the clock is believed for changes when a receiver that proves who it is agrees.
    once = {len(of) for labels, of in ended.items() if ("__name__", "limpet_clock_believed") not in labels}
    assert once == {1}
    assert set(ended) <= set(appended)
    for name in GROUPS.values():
        check_grid(times(stored, name), killed, restarted, stopping)

    total = agent.appended()
    for destination in status["destinations"]:
        ledger = destination["ledger"]
        assert ledger["appended"] == total
        assert total == ledger["delivered"] + ledger["pending"] + sum(ledger["dropped"].values())
        assert ledger["missed"] > 0  # nobody collected for a while
    assert status["writer_pid"] is None
    ledgers = {d["name"]: d["ledger"] for d in status["destinations"]}
    assert (ledgers[NAME]["delivered"], ledgers[NAME]["pending"]) == (total, 0)
    assert (ledgers["nobody"]["delivered"], ledgers["nobody"]["pending"]) == (0, total)


def grows_by(agent: Agent, samples: int) -> None:
    before = agent.destination(NAME)["pending_samples"]
    wait_for(lambda: agent.destination(NAME)["pending_samples"] >= before + samples, 20, "a backlog")


def times(samples: Samples, name: str) -> list[int]:
    """The times of a series, or of one of several that share a name."""
    labels = min(labels for labels in samples if ("__name__", name) in labels)
    return [at for at, _ in samples[labels]]


def check_grid(found: list[int], killed: float, restarted: float, stopping: float) -> None:
    """Every grid time from the first to the stop is there once, but those at which no agent was running."""
    assert found == sorted(set(found))
    offset = grid.offset(HOSTNAME, INTERVAL_MS)
    last = grid.slot(int((stopping - 0.5) * 1000), INTERVAL_MS, offset)
    expected = set(range(found[0], last + 1, INTERVAL_MS))
    assert set(found) <= expected | {last + INTERVAL_MS, last + 2 * INTERVAL_MS}
    missing = sorted(expected - set(found))
    assert missing, "nothing is missing although the agent was dead for more than two intervals"
    # A tick that was due in the last moments before the kill may not have been acknowledged.
    assert killed - 0.5 < missing[0] / 1000
    assert missing[-1] / 1000 < restarted


def now_ms() -> int:
    return int(time.time() * 1000)
