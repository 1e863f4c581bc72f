"""Destinations of all types at once, each with its own relabeling, from one buffer: to real servers and to files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.ops.replay.selection import FIRST_MS, LAST_MS
from agent.ops.replay.source import SegmentHistory
from buffer.model import Labels, Tick
from tests.integration.test_otlp import OWN
from tests.support.agent import HOSTNAME, Agent
from tests.support.folders import by_labels, folder, samples_of
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.server import Samples
from tests.support.ticks import Sample, values
from tests.support.victoria import VictoriaMetrics

QUEUE = {"batch_send_deadline": "200ms", "min_backoff": "50ms", "max_backoff": "500ms"}
DROPPED = {"prometheus": "memory_", "lines": "cpu_", "gateway": "disk_", "stick": "network_"}
"""By destination, the metrics that its relabeling drops. All set a label `to`, which is its name."""


def section(name: str, **keys: Any) -> list[dict[str, Any]]:
    rules = [
        {"source_labels": ["__name__"], "regex": f"{DROPPED[name]}.*", "action": "drop"},
        {"target_label": "to", "replacement": name},
    ]
    return [{"name": name, "queue_config": QUEUE, "write_relabel_configs": rules, **keys}]


@pytest.fixture
def victoria(victoria_program: Path, tmp_path: Path) -> Iterator[VictoriaMetrics]:
    flags = ("-influxSkipSingleField",)
    with VictoriaMetrics(victoria_program, tmp_path / "victoria", flags=flags) as running:
        yield running


def appended(agent: Agent, to: str) -> Samples:
    """What a destination has to have, without the markers of series that ended."""
    pieces = SegmentHistory(str(agent.data_dir), FIRST_MS, LAST_MS).pieces(0)
    ticks: Iterator[Tick] = (tick for piece in pieces for tick in piece.ticks)
    return Samples(
        {
            tuple(sorted([*labels, ("to", to)])): samples
            for labels, samples in values(by_labels(ticks)).items()
            if not dict(labels)["__name__"].startswith(DROPPED[to])
        }
    )


def test_each_has_what_its_rules_leave(
    prometheus_program: Path, victoria: VictoriaMetrics, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    folder(stick)
    with Prometheus(prometheus_program, tmp_path / "prometheus") as prometheus:
        agent = Agent(
            tmp_path / "agent",
            section("prometheus", url=prometheus.write_url),
            influxdb=section("lines", url=victoria.url, db="limpet"),
            otlp=section("gateway", url=f"{victoria.url}/opentelemetry/v1/metrics"),
            file=section("stick", path=str(stick)),
        )
        with agent:
            wait_for(lambda: all(delivered(agent, name) > 300 for name in DROPPED), 60, "samples everywhere")
            victoria.stop()  # two of them wait, and the others do not
            before = {name: delivered(agent, name) for name in DROPPED}
            wait_for(lambda: delivered(agent, "stick") > before["stick"] + 200, 60, "files")
            wait_for(lambda: delivered(agent, "prometheus") > before["prometheus"] + 200, 60, "samples")
            victoria.start()
            wait_for(lambda: delivered(agent, "lines") > before["lines"] + 300, 60, "the backlog")
            wait_for(lambda: delivered(agent, "gateway") > before["gateway"] + 300, 60, "the backlog")
            status = agent.status()
            until_ms = status["newest_timestamp_ms"] - 3000  # what is late by a round or two is not compared
            ends = {one["name"]: one["ledger"]["appended"] for one in status["destinations"]}
            wait_for(lambda: all(settled(agent, name) >= end for name, end in ends.items()), 60, "all")
            assert agent.stop() == 0
        ledgers = {one["name"]: one["ledger"] for one in agent.status()["destinations"]}
        found = before_ms(values(samples_of(stick)), until_ms)
        assert found == before_ms(appended(agent, "stick"), until_ms)
        check(prometheus, agent, "prometheus", until_ms)
        check(victoria, agent, "lines", until_ms)
        check(victoria, agent, "gateway", until_ms)
        assert {ledger["dropped"]["rejected"] for ledger in ledgers.values()} == {0}
        assert all(ledger["dropped"]["relabeled"] > 0 for ledger in ledgers.values())


def before_ms(samples: Mapping[Labels, Sequence[Sample]], until_ms: int) -> Samples:
    found = {labels: [one for one in of if one[0] <= until_ms] for labels, of in samples.items()}
    return Samples({labels: of for labels, of in found.items() if of})


def check(server: Prometheus | VictoriaMetrics, agent: Agent, to: str, until_ms: int) -> None:
    """The server has every sample that it has to have; it may keep 15 digits of each."""
    wanted = before_ms(appended(agent, to), until_ms)
    times = [at for samples in wanted.values() for at, _ in samples]

    def look() -> Samples | None:
        found = server.raw_samples(f'{{hostname="{HOSTNAME}", to="{to}"}}', min(times), max(times))
        plain = Samples()
        for labels, samples in found.items():
            own = tuple(pair for pair in labels if pair[0] not in {*OWN, "db"})
            plain[own] = sorted(set(samples))
        return plain if sum(map(len, plain.values())) >= len(times) else None

    found = wait_for(look, 60, f"{len(times)} samples of {to}")
    assert found.keys() == wanted.keys()
    for labels, samples in wanted.items():
        assert [at for at, _ in found[labels]] == [at for at, _ in samples]
        assert [v for _, v in found[labels]] == pytest.approx([v for _, v in samples], rel=1e-12)


def delivered(agent: Agent, name: str) -> int:
    ledger = agent.destination(name).get("ledger", {})
    return int(ledger.get("delivered", 0))


def settled(agent: Agent, name: str) -> int:
    ledger = agent.destination(name)["ledger"]
    return int(ledger["appended"] - ledger["pending"])
