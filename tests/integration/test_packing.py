"""zstd to a real VictoriaMetrics, and what happens when a Prometheus takes its place."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.agent import HOSTNAME, Agent
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.server import Samples
from tests.support.victoria import VictoriaMetrics

NAME = "there"


def test_a_prometheus_takes_over_from_a_victoriametrics_that_was_sent_zstd(
    tmp_path: Path, victoria_program: Path, prometheus_program: Path
) -> None:
    first = VictoriaMetrics(victoria_program, tmp_path / "first")
    second = Prometheus(prometheus_program, tmp_path / "second", port=first.port)
    agent = Agent(
        tmp_path / "agent",
        [{"url": f"{first.url}/api/v1/write", "name": NAME, "protobuf_message": "prometheus.WriteRequest"}],
    )

    def stored(where: Prometheus | VictoriaMetrics) -> Samples:
        return where.raw_samples(f'{{hostname="{HOSTNAME}"}}', 0, int(time.time() * 1000))

    def spoken() -> list[str]:
        return [event["remote_write"] for event in agent.events("sender.protocol")]

    with agent:
        with first:
            wait_for(lambda: spoken() == ["1.0 zstd"], 60, "zstd")
            since = len(agent.events("sender.delivered"))
            wait_for(lambda: len(agent.events("sender.delivered")) > since + 3, 60, "requests in zstd")
            before = stored(first)
        second.start()
        wait_for(lambda: spoken() == ["1.0 zstd", "1.0"], 60, "snappy")
        since = len(agent.events("sender.delivered"))
        wait_for(lambda: len(agent.events("sender.delivered")) > since + 3, 60, "requests in snappy")
        agent.stop()
        after = stored(second)
        second.stop()
    ledger = agent.destination(NAME)["ledger"]
    assert not any(ledger["dropped"].values())
    assert ledger["appended"] == ledger["delivered"] + ledger["pending"]
    # Each tick is in one of the two, or in both where the first one has not answered any more.
    ticks = [{at for samples in found.values() for at, _ in samples} for found in (before, after)]
    everything = {at for samples in agent.buffered().values() for at, _ in samples}
    assert {at for at in everything if min(ticks[0]) <= at <= max(ticks[1])} <= ticks[0] | ticks[1]
    assert len(before.keys() & after.keys()) > 100
