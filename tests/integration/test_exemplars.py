"""Exemplars of a target, by the real agent and remote write 2.0: to a real Prometheus, and to a receiver that refuses them."""

from __future__ import annotations

import json
import time
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.agent import Agent
from tests.support.exporter import OPENMETRICS, Exporter, Page
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.receiver import Answer, Receiver
from tests.support.wire import Write


def target() -> Page:
    """A counter with another exemplar in each scrape, and a histogram of which one bucket keeps its own."""
    scrapes, began = count(), time.time()

    def body() -> bytes:
        number = next(scrapes)
        return b"""\
# TYPE requests counter
requests_total{path="/a"} %d # {trace_id="t%d"} 0.25 %.3f
# TYPE wait_seconds histogram
wait_seconds_bucket{le="1"} 3 # {trace_id="kept",span_id="s"} 0.5 %.3f
wait_seconds_bucket{le="+Inf"} 3
wait_seconds_count 3
wait_seconds_sum 1.5
# EOF
""" % (number, number, time.time(), began)

    return Page(body, OPENMETRICS)


def agent_with(folder: Path, exporter: Exporter, url: str, **more: Any) -> Agent:
    scrape = {"targets": [{"url": f"{exporter.url}/metrics", "job": "app"}]}
    destination = {"name": "central", "url": url, **more}
    return Agent(folder, [destination], collect={"interval": "1s", "collectors": {"scrape": scrape}})


def test_exemplars_are_in_a_real_prometheus(tmp_path: Path, prometheus_program: Path) -> None:
    flags = ("--enable-feature=exemplar-storage",)
    folder, began = tmp_path / "prometheus", time.time()
    with (
        Exporter({"/metrics": target()}) as exporter,
        Prometheus(prometheus_program, folder, flags=flags) as prometheus,
        agent_with(tmp_path / "agent", exporter, prometheus.write_url, send_exemplars=True) as agent,
    ):

        def found(query: str) -> list[dict[str, Any]]:
            window = {"query": query, "start": f"{began - 60:.0f}", "end": f"{time.time() + 60:.0f}"}
            data = json.loads(prometheus.get("/api/v1/query_exemplars", window))["data"]
            return [one | {"of": each["seriesLabels"]} for each in data for one in each["exemplars"]]

        wait_for(lambda: len(found("requests_total")) >= 3, 60, "three exemplars")
        some = found("requests_total")
        names = [one["labels"]["trace_id"] for one in some]
        assert names == [f"t{i}" for i in range(int(names[0][1:]), int(names[0][1:]) + len(names))]
        assert {(one["value"], one["of"]["path"], one["of"]["job"]) for one in some} == {
            ("0.25", "/a", "app")
        }
        (kept,) = found("wait_seconds_bucket")
        assert kept["labels"] == {"trace_id": "kept", "span_id": "s"}
        assert kept["of"]["le"] == "1.0"
        assert began <= kept["timestamp"] + 0.002 <= time.time()
        assert agent.stop() == 0
        ledger = agent.destination("central")["ledger"]
    assert not any((*ledger["dropped"].values(), ledger["missed"]))


def test_a_receiver_that_refuses_exemplars_gets_every_sample(tmp_path: Path) -> None:
    refused = []

    def refuse(write: Write) -> Answer | None:
        if any(series.exemplars for series in write.series):
            refused.append(write)
            return Answer(400, body=b"err: out of order exemplar")
        return None

    with Exporter({"/metrics": target()}) as exporter, Receiver() as receiver:
        receiver.refuse = refuse
        with agent_with(tmp_path / "agent", exporter, receiver.url, send_exemplars=True) as agent:
            wait_for(lambda: len(refused) >= 3, 60, "three refusals")
            assert agent.stop() == 0
        arrived = sum(map(len, receiver.everything().values()))
        destination = agent.destination("central")
    assert arrived == destination["ledger"]["delivered"] > 0
    assert not any(destination["ledger"]["dropped"].values()), destination


def test_none_is_sent_by_default(tmp_path: Path) -> None:
    with Exporter({"/metrics": target()}) as exporter, Receiver() as receiver:
        with agent_with(tmp_path / "agent", exporter, receiver.url) as agent:
            wait_for(lambda: any("requests_total" in str(labels) for labels in receiver.received()), 60, "it")
            assert agent.stop() == 0
        assert receiver.accepted
        assert not [one for write in receiver.accepted for one in write.series if one.exemplars]
        assert not receiver.broken
