"""Many kills of the real agent during an outage, then one drain: nothing that was due is missing.

`LIMPET_KILLS=100 pytest tests/fault/test_kills.py` is the long form.
"""

from __future__ import annotations

import os
import random
import time
from functools import partial
from pathlib import Path

import pytest

from agent.collect import grid
from tests.support.agent import HOSTNAME, Agent
from tests.support.net import free_port, wait_for
from tests.support.prometheus import Prometheus

KILLS = int(os.environ.get("LIMPET_KILLS", "30"))
INTERVAL_MS = 100
MARGIN = 0.25
"""Seconds at both ends of a life in which a tick may be under way."""


@pytest.mark.timeout(900)
def test_the_receiver_the_ledger_and_the_grid_agree_after_many_kills(
    tmp_path: Path, prometheus_program: Path
) -> None:
    prometheus = Prometheus(prometheus_program, tmp_path / "prometheus")
    nobody = f"http://127.0.0.1:{free_port()}/api/v1/write"  # keeps everything in the log
    agent = Agent(
        tmp_path / "agent",
        [{"url": prometheus.write_url, "name": "p"}, {"url": nobody, "name": "nobody"}],
        collect={"interval": f"{INTERVAL_MS}ms", "collectors": {"network": {"enabled": False}}},
        log={"format": "json", "level": "info"},
    )
    chance = random.Random(20261123)
    lives: list[tuple[float, float]] = []
    for _ in range(KILLS):
        started = agent.start()
        until = started + chance.uniform(0.0, 1.0)
        wait_for(partial(passed, until), 2, "the moment to kill")
        agent.kill()
        lives.append((started, time.time()))

    with prometheus, agent:
        wait_for(lambda: agent.destination("p").get("lag_seconds", 99) < 5, 120, "the drain")
        assert agent.stop() == 0
        first_ms = int(lives[0][0] * 1000) - 60_000
        stored = prometheus.raw_samples(f'{{hostname="{HOSTNAME}"}}', first_ms, int(time.time() * 1000))
        appended, status = agent.buffered(), agent.status()

    assert status["damaged_records"] == 0
    assert stored == appended
    total = agent.appended()
    ledgers = {each["name"]: each["ledger"] for each in status["destinations"]}
    assert ledgers["p"] | {"missed": 0, "loss_ratio": 0.0} == {
        "appended": total,
        "delivered": total,
        "pending": 0,
        "dropped": {"evicted": 0, "rejected": 0},
        "missed": 0,
        "loss_ratio": 0.0,
    }
    assert ledgers["nobody"]["pending"] == ledgers["nobody"]["appended"] == total

    labels = next(key for key in appended if ("__name__", "memory_total_bytes") in key)
    times = [at for at, _ in appended[labels]]
    assert times == sorted(set(times))
    offset = grid.offset(HOSTNAME, INTERVAL_MS)
    due = set[int]()
    for begun, ended in lives:
        first = grid.slot(int((begun + MARGIN) * 1000), INTERVAL_MS, offset)
        last = grid.slot(int((ended - MARGIN) * 1000), INTERVAL_MS, offset)
        due.update(range(first, last + 1, INTERVAL_MS))
    # A tick is left out where a busy machine has made the one before it last for a tenth of a second.
    assert len(due) > KILLS
    assert len(due - set(times)) < len(due) / 4


def passed(moment: float) -> bool:
    return time.time() >= moment
