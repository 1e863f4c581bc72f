"""A fleet whose receiver is away for a while, and returns: real agents at the defaults, a real Prometheus.

The whole, and its picture: python -m tests.bench.fleet --agents 150 --away 120. LIMPET_FLEET=20 makes the test smaller.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median

import pytest

from tests.support.many import Fleet
from tests.support.prometheus import Prometheus
from tools.servers import ensure

HOSTS = int(os.environ.get("LIMPET_FLEET", "100"))


@pytest.mark.timeout(900)
def test_a_fleet_is_back_at_once_and_has_lost_nothing(tmp_path: Path) -> None:
    since = time.time()
    with Prometheus(ensure("prometheus").path, tmp_path / "prometheus") as prometheus:
        fleet = Fleet(tmp_path, prometheus, HOSTS)
        with fleet.running():
            outage = fleet.outage(steady_for=10, away_for=25)
            fleet.stop()
        assert len(outage.back) == HOSTS
        assert max(outage.back.values()) < 30, sorted(outage.back.values())
        ledgers = {name: agent.destination("central")["ledger"] for name, agent in fleet.agents.items()}
        for name in fleet.agents:
            assert fleet.lost(name, since) == {}, name
    for name, ledger in ledgers.items():
        assert not any(ledger["dropped"].values()), name
        assert ledger["appended"] == ledger["delivered"] + ledger["pending"], name
        assert ledger["delivered"] > 100 * 5, name  # a hundred series, since before the outage
    print(
        f"{HOSTS} hosts: median {median(outage.back.values()):.1f} s, "
        f"at most {outage.peak} requests in a second, {outage.steady:.1f} before"  # none, if a busy machine took long to begin
    )
