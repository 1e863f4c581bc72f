"""The tables of docs/capacity.md are computed, from what was measured and what is configured."""

from __future__ import annotations

import re

import pytest
import yaml

from agent.config.units import parse_duration
from tests.support.compose import PROJECT, read
from tools import sizing
from tools.sizing import Fleet

MIMIR = yaml.safe_load((PROJECT / "packaging/compose/mimir.yaml").read_text())
BENCHMARKS = (PROJECT / "docs/benchmarks.md").read_text()


def test_the_page_has_every_table_as_it_is_computed() -> None:
    text = sizing.PAGE.read_text()
    assert set(re.findall(r"<!-- sizing: (\w+) -->", text)) == set(sizing.TABLES)
    assert text == sizing.filled(text), "python -m tools.sizing"


@pytest.mark.parametrize(
    ("figure", "constant"),
    [
        ("steady request bodies, 2.0", sizing.WIRE_STEADY),
        ("steady request bodies, 1.0", sizing.WIRE_STEADY_1),
        ("steady request bodies, 2.0, no metadata", sizing.WIRE_STEADY_BARE),
        (r"on the wire, draining \(2.0, 200 ms\)", sizing.WIRE_DRAINING),
        (r"of these request bodies \(2.0, 200 ms\)", sizing.DRAINING_BODIES),
        (r"draining \(2.0, 200 ms\)", sizing.DRAIN_SAMPLES_PER_S),
    ],
)
def test_what_was_measured_is_what_the_benchmarks_say(figure: str, constant: float) -> None:
    (measured,) = re.findall(rf"^\| {figure} +\|[^|]*\| +([\d,.]+) \|", BENCHMARKS, re.MULTILINE)
    assert float(measured.replace(",", "")) == constant


def test_disk_figures_are_those_on_the_page() -> None:
    text = sizing.PAGE.read_text()
    shown = re.search(
        r"takes ([\d.]+) bytes at 10 s, ([\d.]+) at 1 min and ([\d.]+) at 1 h", " ".join(text.split())
    )
    assert shown
    assert tuple(map(float, shown.groups())) == tuple(sizing.DISK.values())


def test_mimirs_limits_are_those_that_are_computed_and_fit_the_fleet() -> None:
    limits, fleet = MIMIR["limits"], Fleet(sizing.STACK_HOSTS)
    assert limits["ingestion_rate"] == sizing.INGESTION_RATE >= 4 * fleet.rate
    assert limits["ingestion_burst_size"] == sizing.INGESTION_BURST >= 100 * 10_000
    assert limits["max_global_series_per_user"] == sizing.MAX_SERIES >= 1.5 * fleet.all_series
    assert limits["compactor_blocks_retention_period"] == f"{sizing.RETENTION_DAYS}d"
    page = sizing.PAGE.read_text()
    for name, value in limits.items():
        if name != "ruler_alertmanager_client_config":
            assert re.search(rf"`{name}`.*\| {value} \|", page), name


def test_prometheus_keeps_what_the_tables_count_with() -> None:
    flags = read(PROJECT / "packaging/compose/compose.yaml")["prometheus"]["command"]
    (kept,) = [flag.partition("=")[2] for flag in flags if flag.startswith("--storage.tsdb.retention.time")]
    assert parse_duration(kept) == sizing.RETENTION_DAYS * sizing.DAY_S


def test_a_thousand_hosts_by_hand() -> None:
    fleet = Fleet(1000)
    assert (fleet.series, fleet.rate) == (230_000, 23_000)
    assert fleet.disk(1) == pytest.approx(23_000 * 86_400 * 1.97 * 1.1)
    assert fleet.wire(10) == pytest.approx(23_000 * 86_400 * 10 + 1000 * 2880 * 398, rel=0.001)
    assert fleet.mimir(1)[0] == pytest.approx(23_000 / 25_000 + 270_000 / 300_000)
    assert fleet.ingesters == 3
    assert Fleet(10_000).ingesters == 9


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (150e9, "150 GB"),
        (1.55e12, "1.6 TB"),
        (2e15, "2000 TB"),
    ],
)
def test_sizes_for_people(value: float, shown: str) -> None:
    assert sizing.size(value) == shown
