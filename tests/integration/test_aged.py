"""A real Prometheus refuses an old backlog for its age: it is kept, the fresh part arrives, a replay brings the rest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.sender.age import age
from buffer.buffer import Buffer
from buffer.model import Instant, Series, Tick
from buffer.quarantine import Quarantine
from tests.support.agent import Agent
from tests.support.limpet import limpet
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.server import Samples

STEP_MS = 60_000
BOOT = "0123456789abcdef0123456789abcdef"
SERIES = tuple(Series(f"tide_{i:02}", (("hostname", "rock"),)) for i in range(40))
FRESH = "tide_fresh"


def append(folder: Path, first_ms: int, count: int, series: tuple[Series, ...]) -> None:
    buffer = Buffer(str(folder))
    for n in range(count):
        at = first_ms + n * STEP_MS
        values = [float(n * 100 + i) for i in range(len(series))]
        buffer.append([Tick(Instant(at, n * STEP_MS, BOOT), "all", series, values)])
    buffer.close()


def by_labels(ticks: list[Tick]) -> Samples:
    found = Samples()
    for tick in ticks:
        for series, value in zip(tick.series, tick.values, strict=True):
            labels = tuple(sorted([*series.labels, ("__name__", series.name)]))
            found.setdefault(labels, []).append((tick.at.wall_ms, value))
    return found


@pytest.mark.parametrize("batch", [10_000, 2_000], ids=["one batch", "several batches"])
def test_an_old_backlog_is_aged_the_fresh_part_arrives_and_a_replay_brings_the_rest(
    tmp_path: Path, prometheus_program: Path, batch: int
) -> None:
    settings = tmp_path / "prometheus.yml"
    settings.write_text("global: {scrape_interval: 1m}\n")  # no window for what is out of order
    now = int(time.time() * 1000) // STEP_MS * STEP_MS
    first = now - 4 * 3_600_000
    server = Prometheus(prometheus_program, tmp_path / "prometheus", config=settings)
    data = tmp_path / "agent/data"
    with server:
        # Another host is up to date.
        append(tmp_path / "fresh", now - STEP_MS, 2, (Series(FRESH, ()),))
        done = limpet(
            tmp_path, "buffer", "replay", "--data-dir", tmp_path / "fresh", "--to", server.write_url
        )
        assert done.status == 0, done
        append(data, first, 240, SERIES)
        to: dict[str, Any] = {
            "url": server.write_url,
            "name": "prometheus",
            "queue_config": {"max_samples_per_send": batch, "batch_send_deadline": "1s"},
        }
        agent = Agent(tmp_path / "agent", [to], collect={"interval": "1h"})
        with agent:
            wait_for(
                lambda: agent.destination("prometheus").get("pending_samples") == 0, 30, "all to be settled"
            )
            assert agent.stop() == 0
        ledger = agent.destination("prometheus")["ledger"]
        quarantine = Quarantine(str(data))
        items = quarantine.items()
        kept = by_labels(
            [tick for item in items for entry in quarantine.entries(item.id) for tick in entry.ticks]
        )
        stored = server.raw_samples('{__name__=~"tide_[0-9]+"}', first, now)
        old, new = sum(map(len, kept.values())), sum(map(len, stored.values()))
        assert old + new == 240 * len(SERIES)
        dropped = {reason: count for reason, count in ledger["dropped"].items() if count}
        assert dropped == {"aged": old}
        assert ledger["appended"] == ledger["delivered"] + old
        # What Prometheus takes goes back an hour and a half at most: of that nothing but the search is missing.
        assert new >= 55 * len(SERIES) - 6 * 240
        assert all(item.reason == "aged" and age(item.message) for item in items)
        told = agent.events("sender.aged")
        assert sum(event["level"] == "error" for event in told) == 1
        assert "out_of_order_time_window" in told[0]["do"]

        # The setting is changed, and the quarantine replayed.
        server.stop()
        settings.write_text(yaml.safe_dump({"storage": {"tsdb": {"out_of_order_time_window": "1d"}}}))
        server.start()
        done = limpet(
            tmp_path, "buffer", "quarantine", "replay", "--all", "--config", agent.config_file, "--json"
        )
        assert done.status == 0, done
        assert quarantine.items() == []
        stored = server.raw_samples('{__name__=~"tide_[0-9]+"}', first, now)
        assert {len(samples) for samples in stored.values()} == {240}
        assert len(stored) == len(SERIES)
