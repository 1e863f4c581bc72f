"""Six hours without a link while another host is up to date, and a real Prometheus.

With the configuration that ships, unchanged, Prometheus takes all of the backlog. With Prometheus's default window it
refuses the old part for its age: the agent keeps that part, the fresh part arrives, and a replay delivers the rest once
the setting has been changed. Each sample is compared by time and value.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.destinations.remote_write.too_old import age
from buffer.buffer import Buffer
from buffer.model import Instant, Series, Tick
from buffer.quarantine import Quarantine
from tests.support.agent import Agent
from tests.support.limpet import limpet
from tests.support.net import wait_for
from tests.support.prometheus import CONFIG, Prometheus
from tests.support.protocols import PROTOCOLS
from tests.support.server import Samples

HOUR_MS = 3_600_000
STEP_MS = 10_000
TICKS = 6 * HOUR_MS // STEP_MS
BOOT = "0123456789abcdef0123456789abcdef"
SERIES = tuple(Series(f"tide_{i:02}", (("hostname", "rock"),)) for i in range(20))
BACKLOG = '{__name__=~"tide_[0-9]+"}'
NAME = "prometheus"


class Hosts:
    """A host that was cut off for six hours, not started yet, and another one that runs and is up to date."""

    def __init__(self, folder: Path, server: Prometheus, protocol: str, batch: int = 10_000) -> None:
        to: dict[str, Any] = {"url": server.write_url, "name": NAME, "protobuf_message": protocol}
        self.other = Agent(folder / "other", [to], hostname="other")
        slow = {"max_samples_per_send": batch, "batch_send_deadline": "1s"}
        self.cut_off = Agent(
            folder / "rock", [to | {"queue_config": slow}], hostname="rock", collect={"interval": "1h"}
        )
        self.last = int(time.time() * 1000) // STEP_MS * STEP_MS
        self.first = self.last - TICKS * STEP_MS
        ticks = [
            Tick(
                Instant(self.first + n * STEP_MS, n * STEP_MS, BOOT),
                "all",
                SERIES,
                [float(n * 100 + i) for i in range(len(SERIES))],
            )
            for n in range(TICKS)
        ]
        buffer = Buffer(str(self.cut_off.data_dir))
        for tick in ticks:
            buffer.append([tick])
        buffer.close()
        self.backlog = by_labels(ticks)

    def until_settled(self) -> dict[str, Any]:
        """Run the host that was cut off, together with the other, until its backlog is settled; return its ledger."""
        with self.other:
            wait_for(lambda: self.other.destination(NAME).get("ledger", {}).get("delivered"), 20, "the other")
            with self.cut_off:
                wait_for(
                    lambda: self.cut_off.destination(NAME).get("pending_samples") == 0,
                    60,
                    "all to be settled",
                )
                assert self.cut_off.stop() == 0
            assert self.other.destination(NAME)["lag_seconds"] < 5
            assert self.other.stop() == 0
        assert sum(self.other.destination(NAME)["ledger"]["dropped"].values()) == 0
        ledger: dict[str, Any] = self.cut_off.destination(NAME)["ledger"]
        assert ledger["appended"] == ledger["delivered"] + sum(ledger["dropped"].values())
        return ledger


def by_labels(ticks: list[Tick]) -> Samples:
    found = Samples()
    for tick in ticks:
        for series, value in zip(tick.series, tick.values, strict=True):
            labels = tuple(sorted([*series.labels, ("__name__", series.name)]))
            found.setdefault(labels, []).append((tick.at.wall_ms, value))
    return found


def count(samples: Samples) -> int:
    return sum(map(len, samples.values()))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_configuration_that_ships_takes_a_backlog_of_six_hours(
    tmp_path: Path, prometheus_program: Path, protocol: str
) -> None:
    with Prometheus(prometheus_program, tmp_path / "prometheus", config=CONFIG) as server:
        hosts = Hosts(tmp_path, server, protocol)
        ledger = hosts.until_settled()
        assert sum(ledger["dropped"].values()) == 0
        assert ledger["delivered"] >= count(hosts.backlog) == TICKS * len(SERIES)
        assert server.raw_samples(BACKLOG, hosts.first, hosts.last) == hosts.backlog


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("batch", [50_000, 2_000], ids=["one batch", "several batches"])
def test_with_the_window_at_its_default_what_is_old_is_kept_and_a_replay_brings_it(
    tmp_path: Path, prometheus_program: Path, batch: int, protocol: str
) -> None:
    shipped = yaml.safe_load(CONFIG.read_text())
    del shipped["storage"]["tsdb"]["out_of_order_time_window"]
    settings = tmp_path / "prometheus.yml"
    settings.write_text(yaml.safe_dump(shipped))
    with Prometheus(prometheus_program, tmp_path / "prometheus", config=settings) as server:
        hosts = Hosts(tmp_path, server, protocol, batch)
        ledger = hosts.until_settled()
        quarantine = Quarantine(str(hosts.cut_off.data_dir))
        items = quarantine.items()
        kept = by_labels(
            [tick for item in items for entry in quarantine.entries(item.id) for tick in entry.ticks]
        )
        stored = server.raw_samples(BACKLOG, hosts.first, hosts.last)
        both = {
            labels: kept.get(labels, []) + stored.get(labels, []) for labels in {**hosts.backlog, **stored}
        }
        assert both == hosts.backlog  # each is in one of the two, and what is kept is older
        dropped = {reason: samples for reason, samples in ledger["dropped"].items() if samples}
        assert dropped == {"aged": count(kept)}
        # Prometheus takes what is an hour older than its newest, or a bit more: of that nothing but the search
        # is missing.
        hour = HOUR_MS // STEP_MS
        assert 0.9 * hour * len(SERIES) < count(stored) < 1.6 * hour * len(SERIES)
        assert all(item.reason == "aged" and age(item.message) for item in items)
        told = hosts.cut_off.events("sender.aged")
        assert sum(event["level"] == "error" for event in told) == 1
        assert "out_of_order_time_window" in told[0]["do"]

        # The setting is changed, and the quarantine replayed.
        server.stop()
        settings.write_text(CONFIG.read_text())
        server.start()
        config = hosts.cut_off.config_file
        done = limpet(tmp_path, "buffer quarantine replay --all --config", config, "--json")
        assert done.status == 0, done
        assert quarantine.items() == []
        assert server.raw_samples(BACKLOG, hosts.first, hosts.last) == hosts.backlog
