"""The queries of docs/influxdb.md for three tiers, run by a real InfluxDB."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import pytest

from tests.support import influxdb
from tests.support.net import wait_for

PAGE = (Path(__file__).parents[2] / "docs" / "influxdb.md").read_text(encoding="utf-8")
SETUP, AGAIN = [block.strip().splitlines() for block in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)]
MINUTE, HOUR = 60_000, 3_600_000
Rows = dict[int, tuple[float, ...]]


@pytest.fixture
def server(influxdb_program: Path, tmp_path: Path) -> Iterator[influxdb.InfluxDB]:
    with influxdb.InfluxDB(influxdb_program, tmp_path / "influxdb") as running:
        yield running


def rows(server: influxdb.InfluxDB, tier: str) -> Rows:
    """What a tier has of the one series: value, min, max and last by the time."""
    found = server.ask(f'SELECT "value", "min", "max", "last" FROM "{tier}"."cpu" GROUP BY *')  # noqa: S608
    assert all(series["tags"] == {"hostname": "a"} for series in found)
    return {int(at): tuple(values) for series in found for at, *values in series["values"]}


def expected(samples: dict[int, float]) -> tuple[Rows, Rows]:
    """Return the minutes and the hours of samples; the mean of an hour is that of its minutes."""
    minutes: dict[int, list[float]] = {}
    for at, value in sorted(samples.items()):
        minutes.setdefault(at // MINUTE * MINUTE, []).append(value)
    fine: Rows = {at: (mean(one), min(one), max(one), one[-1]) for at, one in minutes.items()}
    hours: dict[int, list[tuple[float, ...]]] = {}
    for at, row in fine.items():
        hours.setdefault(at // HOUR * HOUR, []).append(row)
    coarse: Rows = {}
    for at, some in hours.items():
        means, least, most, last = zip(*some, strict=True)
        coarse[at] = mean(means), min(least), max(most), last[-1]
    return fine, coarse


def same(found: Rows, wanted: Rows) -> bool:
    return found.keys() == wanted.keys() and all(found[at] == pytest.approx(wanted[at]) for at in wanted)


def write(server: influxdb.InfluxDB, first_ms: int, count: int) -> dict[int, float]:
    samples = {first_ms + n * 10_000: float(n * n % 97) for n in range(count)}
    server.post("".join(f"cpu,hostname=a value={value} {at}\n" for at, value in samples.items()))
    return samples


def test_the_continuous_queries_make_minutes_and_hours(server: influxdb.InfluxDB) -> None:
    for query in SETUP:
        # As on the page, but for how often: nobody waits for a full hour.
        server.ask(re.sub(r"EVERY 1[mh]", "EVERY 1s", query))
    policies = {row[0]: row[1] for row in server.ask('SHOW RETENTION POLICIES ON "limpet"')[0]["values"]}
    assert {name: policies[name] for name in ("raw", "one_minute", "one_hour")} == {
        "raw": "168h0m0s",
        "one_minute": "720h0m0s",
        "one_hour": "8784h0m0s",
    }
    samples = write(server, (int(time.time()) - 900) * 1000, 60)
    fine, coarse = expected(samples)
    wait_for(lambda: same(rows(server, "one_minute"), fine), 60, "the minutes")
    wait_for(lambda: same(rows(server, "one_hour"), coarse), 60, "the hours")


def test_the_queries_for_a_host_that_was_away_do_the_same_for_a_day(server: influxdb.InfluxDB) -> None:
    for query in SETUP:
        if "CONTINUOUS" not in query:
            server.ask(query)
    day = int(time.time()) // 86_400 * 86_400 - 3 * 86_400
    samples = write(server, day * 1000, 1000)
    write(server, (day + 2 * 86_400) * 1000, 10)  # which is not asked for
    first, after = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for at in (day, day + 86_400)]
    for query in AGAIN * 2:
        server.ask(query.replace("2026-01-01T00:00:00Z", first).replace("2026-01-02T00:00:00Z", after))
    fine, coarse = expected(samples)
    assert same(rows(server, "one_minute"), fine)
    assert same(rows(server, "one_hour"), coarse)
