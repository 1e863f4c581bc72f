"""The real agent with two types of destinations from one buffer: Prometheus by remote write, and InfluxDB."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.agent import QUICK, Agent
from tests.support.influxdb import InfluxDB
from tests.support.net import free_port, wait_for
from tests.support.prometheus import Prometheus


def test_each_gets_all_that_was_collected_over_a_kill_and_a_reload(
    prometheus_program: Path, influxdb_program: Path, tmp_path: Path
) -> None:
    """InfluxDB is added by a reload, begins with the oldest sample, and each relabels for itself."""
    since = int(time.time() * 1000) - 5000  # a tick has the time of its place on the grid, which is before it
    with (
        Prometheus(prometheus_program, tmp_path / "prometheus") as prometheus,
        InfluxDB(influxdb_program, tmp_path / "influxdb") as influxdb,
    ):
        # As long as one destination takes nothing, the buffer keeps all that it ever had.
        nobody = {"url": f"http://127.0.0.1:{free_port()}/api/v1/write", "name": "nobody"}
        agent = Agent(tmp_path / "agent", [{"url": prometheus.write_url, "name": "prometheus"}, nobody])
        rules = [{"source_labels": ["__name__"], "regex": "limpet_.*", "action": "drop"}]
        to = {"url": influxdb.url, "name": "influxdb", "db": "limpet", "queue_config": QUICK}
        with agent:
            wait_for(
                lambda: agent.destination("prometheus").get("ledger", {}).get("delivered"), 60, "samples"
            )
            changed = agent.reload(influxdb=[{**to, "write_relabel_configs": rules}])["changed"]
            assert changed == ["influxdb"]
            wait_for(lambda: influxdb.samples(), 60, "samples at InfluxDB")
            agent.kill()
            agent.start()
            influxdb.kill()
            wait_for(lambda: agent.destination("influxdb").get("state") == "waiting", 60, "a failed try")
            influxdb.start()
            before = agent.destination("influxdb")["ledger"]["delivered"]
            wait_for(
                lambda: agent.destination("influxdb")["ledger"]["delivered"] > before, 60, "more samples"
            )
            assert agent.stop() == 0
        ledger = agent.destination("influxdb")["ledger"]
        assert set(ledger["dropped"]) <= {"evicted", "rejected", "relabeled", "unstorable"}
        assert (ledger["dropped"]["evicted"], ledger["dropped"]["rejected"]) == (0, 0)
        assert ledger["loss_ratio"] == agent.destination("prometheus")["ledger"]["loss_ratio"]
        own = [labels for labels in agent.buffered() if dict(labels)["__name__"].startswith("limpet_")]
        received = influxdb.samples()
        assert own
        assert not received.keys() & set(own)
        lost = agent.lost(received)
        assert {labels: found for labels, found in lost.items() if labels not in own} == {}
        assert (
            agent.lost(prometheus.raw_samples('{hostname!=""}', since, int(time.time() * 1000) + 1000)) == {}
        )
