"""Which queries `send_unchanged_every` changes, and which not, in a real Prometheus: docs/sender.md has the table."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import structlog

from agent.config import QueueConfig, RelabelConfig, RemoteWrite
from agent.destinations.types import speaks
from agent.send.client import Client
from agent.send.lane import Lane
from agent.send.state import Rules
from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import STALE, Instant, Labels, Series, Tick
from buffer.quarantine import Quarantine
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.ticks import BOOT

STEP, TICKS = 10, 120
"""Seconds between two ticks; twenty minutes of them."""
SERIES = tuple(
    Series(name, (("hostname", "a"),), "counter" if name.endswith("_total") else "gauge")
    for name in ("idle", "level", "quiet_total", "busy_total", "gone")
)

SAME = [
    "idle{$}",
    "level{$}",
    "quiet_total{$}",
    "busy_total{$}",
    "gone{$}",
    "level{$} > 1",
    "absent(idle{$})",
    "absent(gone{$})",
    "absent_over_time(level{$}[2m])",
    "sum by (hostname) ({__name__=~'idle|level',$})",
    "last_over_time(level{$}[5m])",
    "resets(quiet_total{$}[5m])",
    "increase(busy_total{$}[5m])",
    "rate(busy_total{$}[1m])",
    "increase(idle{$}[5m])",
    "level{$} offset 3m",
]
EDGES = ["max_over_time(level{$}[5m])", "min_over_time(level{$}[5m])", "changes(level{$}[5m])"]
"""Their window may be up to a minute shorter: the last of the equal samples before a change is not there."""
CHANGED = [
    "count_over_time(idle{$}[5m])",
    "rate(idle{$}[1m])",
    "increase(quiet_total{$}[10m])",
    "avg_over_time(level{$}[10m])",
    "stddev_over_time(level{$}[2m])",
    "sum_over_time(level{$}[5m])",
]


def value(name: str, n: int) -> float:
    """Return what a series is at tick `n`: constant, a level that changes each 4 minutes, and counters."""
    match name:
        case "level":
            return float(n // 24 % 3)
        case "quiet_total":
            return float(n // 30 * 30)
        case "busy_total":
            return float(3 * n)
        case _:
            return 7.0


@pytest.mark.parametrize("protocol", ["auto", "prometheus.WriteRequest"])
def test_queries_over_values_of_which_only_changes_were_sent(
    tmp_path: Path, prometheus_program: Path, protocol: str
) -> None:
    with Prometheus(prometheus_program, tmp_path / "prometheus") as prometheus:
        begin = int(time.time()) // STEP * STEP - TICKS * STEP
        ledgers = send(tmp_path / "data", prometheus.write_url, begin, protocol)
        whole, part = ledgers["all"], ledgers["changes"]
        assert whole == {"delivered": len(SERIES) * TICKS - (TICKS - 1) // 2}
        assert part["delivered"] + part["unchanged"] == whole["delivered"]
        assert part["unchanged"] > whole["delivered"] // 2

        def answers(query: str, sent: str) -> dict[tuple[Labels, int], float]:
            found = prometheus.query_range(
                query.replace("$", f'sent="{sent}"'), begin + 600, begin + TICKS * STEP, 7
            )
            return {
                (tuple(pair for pair in labels if pair[0] != "sent"), at): value
                for labels, samples in found.items()
                for at, value in samples
            }

        for query in SAME:
            assert answers(query, "changes") == pytest.approx(answers(query, "all")), query
        for query in EDGES:
            got, right = answers(query, "changes"), answers(query, "all")
            for (labels, at), value in got.items():
                soon = {
                    right[labels, later] for later in range(at, at + 60_000, 7000) if (labels, later) in right
                }
                assert value in soon, (query, at)
            assert got.keys() == right.keys()
        for query in CHANGED:
            assert answers(query, "changes") != pytest.approx(answers(query, "all")), query


def send(folder: Path, url: str, begin: int, protocol: str) -> dict[str, dict[str, int]]:
    """Send the ticks twice: all of them, and what has changed. Return the ledgers. `gone` ends in the middle, with its marker."""
    wanted = {"all": 0.0, "changes": 60.0}
    buffer, quarantine = Buffer(str(folder), Limits(), wanted), Quarantine(str(folder))
    lanes = []
    for name, every in wanted.items():
        to = RemoteWrite(
            url=url,
            name=name,
            send_unchanged_every=every,
            protobuf_message=protocol,  # type: ignore[arg-type]
            write_relabel_configs=(RelabelConfig(target_label="sent", replacement=name),),
            queue_config=QueueConfig(max_samples_per_send=40, batch_send_deadline=1.0),
        )
        wire, log, rules = Client(to, "0"), structlog.get_logger(), Rules(1.0, 60.0, first_pause=0.0)
        lanes.append(Lane(to, speaks(to), wire, buffer, quarantine, log, rules=rules))
    try:
        for n in range(TICKS):
            at = Instant((begin + n * STEP) * 1000, n * STEP * 1000, BOOT)
            series = SERIES if n <= TICKS // 2 else SERIES[:-1]
            values = [value(one.name, n) for one in series]
            if n == TICKS // 2:
                values[-1] = STALE
            buffer.append([Tick(at, "all", series, values)])
        for lane in lanes:
            lane.start()
        cursors = buffer.cursors.values()
        wait_for(lambda: not any(cursor.pending() for cursor in cursors), 60, "all to be settled")
    finally:
        for lane in lanes:
            lane.stop(2.0)
        buffer.close()
    return {
        name: {"delivered": cursor.ledger.delivered, **cursor.ledger.dropped}
        for name, cursor in buffer.cursors.items()
    }
