"""When disks are full: the trend that is there is found, and none where there is none."""

from __future__ import annotations

import random

import pytest

from agent.serve import forecast
from agent.serve.forecast import DAY, document, trend

HOUR = 3600.0
GIB = 1 << 30


def falling(per_day: float, noise: float = 0.0, count: int = 168) -> list[tuple[float, float]]:
    chance = random.Random(3)
    return [(i * HOUR, 100 * GIB - i / 24 * per_day + chance.gauss(0, noise)) for i in range(count)]


def test_a_straight_line_is_found_and_is_certain() -> None:
    found = trend(falling(GIB))
    assert found is not None
    assert found.slope * DAY == pytest.approx(-GIB)
    assert found.low == pytest.approx(found.high)


def test_the_range_holds_the_true_trend_in_noise_nine_times_of_ten() -> None:
    held = 0
    for seed in range(100):
        chance = random.Random(seed)
        points = [(i * HOUR, -i * 1000.0 + chance.gauss(0, 50_000)) for i in range(60)]
        found = trend(points)
        assert found is not None
        assert found.low <= found.slope <= found.high
        held += found.low <= -1000 / HOUR <= found.high
    assert 80 <= held <= 98


def test_a_file_that_was_there_for_some_hours_changes_little() -> None:
    points = falling(GIB, noise=1e6)
    for i in range(40, 46):
        points[i] = points[i][0], points[i][1] - 60 * GIB
    found = trend(points)
    assert found is not None
    assert found.slope * DAY == pytest.approx(-GIB, rel=0.05)


def test_days_until_full_are_those_of_the_free_bytes_now() -> None:
    found = document({"mountpoint": "/"}, falling(GIB), 12 * GIB)
    assert found["days_until_full"] == pytest.approx(12)
    assert found["days_until_full_range"] == [pytest.approx(12), pytest.approx(12)]
    assert found["free_bytes_per_day"] == pytest.approx(-GIB)


@pytest.mark.parametrize(
    ("points", "known"),
    [
        (falling(-GIB), True),  # it gets emptier
        (falling(0.0), True),
        (falling(1.0), True),  # in thousands of years
        (falling(GIB, count=forecast.LEAST_POINTS - 1), False),
        ([(i * 60.0, -i * 1e9) for i in range(30)], False),  # half an hour is no trend
        ([], False),
    ],
)
def test_nothing_is_foretold_that_is_not_seen(points: list[tuple[float, float]], known: bool) -> None:
    found = document({}, points, 50 * GIB)
    assert found["days_until_full"] is None
    assert (found["free_bytes_per_day"] is not None) == known
