"""This machine's own clock is set two hours ahead for a few seconds, by `date -s`, while a real agent sends to a real Prometheus.

Every process of the machine sees it, so it is done only where LIMPET_SET_CLOCK=1 asks for it, and by root.  The clock is put
back by the monotonic one, whatever happens.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.agent import HOSTNAME, Agent
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus

NAME = "prometheus"
DEADLINE = 60.0
AHEAD = 7200.0
SECONDS = 5.0

pytestmark = pytest.mark.skipif(
    os.environ.get("LIMPET_SET_CLOCK") != "1" or os.geteuid() != 0,
    reason="this machine's clock is set only with LIMPET_SET_CLOCK=1, and by root",
)


@contextmanager
def set_ahead(seconds: float) -> Iterator[None]:
    """Set the clock of this machine ahead, and back at the end."""
    base = time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    try:
        subprocess.run(["date", "-s", f"@{time.time() + seconds:.6f}"], check=True, capture_output=True)
        yield
    finally:
        time.clock_settime(time.CLOCK_REALTIME, base + time.clock_gettime(time.CLOCK_MONOTONIC))


def test_a_clock_that_is_set_ahead_and_back_costs_nothing(tmp_path: Path, prometheus_program: Path) -> None:
    prometheus = Prometheus(prometheus_program, tmp_path / "prometheus")
    agent = Agent(tmp_path / "agent", [{"url": prometheus.write_url, "name": NAME}])
    with prometheus, agent:
        wait_for(
            lambda: agent.destination(NAME).get("ledger", {}).get("delivered", 0) > 100,
            DEADLINE,
            "a delivery",
        )
        before = time.monotonic()
        with set_ahead(AHEAD):
            while time.monotonic() < before + SECONDS:  # no longer, whatever is seen by then
                time.sleep(0.1)
        placed = time.time()
        wait_for(lambda: agent.events("clock.placed"), DEADLINE, "the clock to be believed")

        def newest() -> int:
            found = prometheus.raw_samples(match, 0, int((time.time() + 2 * AHEAD) * 1000))
            return max((at for samples in found.values() for at, _ in samples), default=0)

        match = f'memory_total_bytes{{hostname="{HOSTNAME}"}}'
        wait_for(lambda: newest() / 1000 > placed + 2, DEADLINE, "what is newer")
        agent.stop()
        ledger = agent.destination(NAME)["ledger"]
        ((_, samples),) = prometheus.raw_samples(match, 0, int((time.time() + 2 * AHEAD) * 1000)).items()
    times = [at / 1000 for at, _ in samples]
    print(f"{len(times)} samples, gaps up to {max(b - a for a, b in pairwise(times))} s, {ledger}")
    assert [one["source"] for one in agent.events("clock.doubted")] == ["stepped"]
    assert times[-1] <= time.time()  # none from the future
    # None lost: but at each of the two steps a tick or two are left out.
    assert all(0 < after - before <= 3.5 for before, after in pairwise(times)), times
    assert set(ledger["dropped"].values()) <= {0}  # none refused
    assert ledger["appended"] == ledger["delivered"] + ledger["pending"]
