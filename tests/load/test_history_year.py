"""A year of history fits its default room: some days of it are simulated here, all of it by LIMPET_YEAR_DAYS=365."""

from __future__ import annotations

import os
from pathlib import Path

from buffer.limits import Tiers
from tests.bench.query import of_tiers
from tests.bench.year import default_tiers, simulate

DAYS = float(os.environ.get("LIMPET_YEAR_DAYS", "1.25"))
DAY_MS = 86_400_000


def test_a_year_fits_and_costs_little(tmp_path: Path) -> None:
    limits = default_tiers()
    if DAYS < 60:  # the same tiers, sooner
        limits = Tiers(6 * 3600, 30 * 86400, 365 * 86400, limits.max_size)
    report = simulate(DAYS, limits, str(tmp_path))
    assert report.seconds < 0.01 * DAYS * 86400  # under one percent of a core
    if DAYS >= 365:
        assert report.most_bytes <= limits.max_size
        assert set(report.by_step) == {0, 60, 3600}
    else:
        raw, minutes = report.by_step[0], report.by_step[60]
        per_day = report.samples / DAYS
        week = raw[1] / raw[2] * per_day * 7.5
        months = minutes[1] / minutes[2] * per_day / 6 * 37  # an hour's rows are a sixtieth of a minute's
        assert 5 << 20 < week + months + months / 60 * 10 < 48 << 20
    for figure in of_tiers(tmp_path):
        assert figure.value < 1000  # milliseconds; benchmarks.md has what it is on a quiet machine
