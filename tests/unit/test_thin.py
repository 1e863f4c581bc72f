"""Thinning, where series end: markers stay, and take the place of no value."""

from __future__ import annotations

from itertools import pairwise

import pytest

from agent.collect.series import markers
from buffer.model import Instant, Series, Tick, is_stale
from buffer.reader import Entry
from buffer.thin import STEPS_MS, _one, thin
from tests.support.ticks import BOOT, bits

MINUTE = 29_000_000 * 60_000
ALL = Series("sda", (), "counter"), Series("sdb", (), "counter"), Series("sdc", (), "gauge")
FEWER, GONE = ALL[:2], ALL[2:]


def entry(seq: int, second: int, *parts: tuple[Series, ...], ended: tuple[Series, ...] = ()) -> Entry:
    at = Instant(MINUTE + second * 1000, second * 1000, BOOT)
    ticks = [Tick(at, "disk_io", series, [float(second)] * len(series)) for series in parts]
    if ended:
        ticks.append(markers(at, "disk_io", ended))
    samples = sum(len(tick.values) for tick in ticks)
    return Entry(seq, seq + samples, at.wall_ms, samples, ticks, 0)


def test_a_series_that_ends_within_a_bucket_keeps_its_value_and_its_marker() -> None:
    entries = [
        entry(0, 5, ALL),
        entry(3, 15, ALL),
        entry(6, 25, FEWER, ended=GONE),
        entry(9, 35, FEWER),
        entry(11, 44, ended=FEWER),  # a stop
        entry(13, 55, FEWER),  # and another start
    ]
    found: dict[str, list[tuple[int, float]]] = {}
    records = list(thin(entries, STEPS_MS[1]))
    for record in records:
        for tick in record.ticks:
            for series, value in zip(tick.series, tick.values, strict=True):
                found.setdefault(series.name, []).append((tick.at.wall_ms - MINUTE, value))
    shown = {name: [(at, "end" if is_stale(v) else v) for at, v in of] for name, of in found.items()}
    assert shown["sdc"] == [(15_000, 10.0), (25_000, "end")]
    # One value for each series and set: those before the set changed, and those after it.
    assert shown["sda"] == shown["sdb"] == [(15_000, 15.0), (44_000, "end"), (55_000, 55.0)]
    marks = [v for of in found.values() for _, v in of if v != v]
    assert bits(marks) == bits(markers(Instant(0, 0, BOOT), "disk_io", ALL).values)
    assert (records[0].seq, records[-1].end) == (0, 15)
    assert all(a.end == b.seq for a, b in pairwise(records))


@pytest.mark.parametrize("kind", ["counter", "histogram", "summary", "unknown", "info", "stateset"])
def test_only_of_a_gauge_a_mean_says_something(kind: str) -> None:
    assert _one(Series("a_bucket", (), kind), (1.0, 2.0, 6.0)) == 6.0
    assert _one(Series("a_bucket", (), "gauge"), (1.0, 2.0, 6.0)) == 3.0
