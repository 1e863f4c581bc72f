"""When a file system is full, if it continues as it did: the trend of its free space, and how sure that is.

The method is Theil and Sen's: the median of the slopes between all pairs of points, so that a file of some gigabytes that
was there for an hour changes nothing. The range is that of 90 % confidence, of Kendall's S (Sen 1968, "Estimates of the
regression coefficient based on Kendall's tau"). Neighboring points depend on each other, so the true range is
wider. Pure: values in, values out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

METHOD = "Theil-Sen: the median slope between all pairs of points; range of 90 % confidence by Kendall's S"
DAY = 86400.0
LEAST_POINTS = 8
LEAST_SECONDS = 3600.0
"""What it takes to see a trend at all."""
LONGEST_DAYS = 3650.0
"""What is further away is not foretold."""
_Z = 1.6449
"""The quantile of the normal distribution for 90 %, both sides."""


class Trend(NamedTuple):
    """Change per second: the median, and the ends of its range."""

    slope: float
    low: float
    high: float


def trend(points: Sequence[tuple[float, float]]) -> Trend | None:
    """Return the trend of values over times in seconds; None where they are too few or too close together."""
    count = len(points)
    if count < LEAST_POINTS or points[-1][0] - points[0][0] < LEAST_SECONDS:
        return None
    slopes = sorted(
        (b[1] - a[1]) / (b[0] - a[0]) for i, a in enumerate(points) for b in points[i + 1 :] if b[0] > a[0]
    )
    half = _Z * math.sqrt(count * (count - 1) * (2 * count + 5) / 18) / 2
    middle = len(slopes) / 2
    low, high = max(0, math.floor(middle - half)), min(len(slopes) - 1, math.ceil(middle + half))
    at = len(slopes) // 2
    median = slopes[at] if len(slopes) % 2 else (slopes[at - 1] + slopes[at]) / 2
    return Trend(median, slopes[low], slopes[high])


def days_until_full(free: float, slope: float) -> float | None:
    """Return the days until nothing is free; None where it does not get less, or takes longer than LONGEST_DAYS."""
    if slope >= 0:
        return None
    days = free / -slope / DAY
    return round(days, 2) if days <= LONGEST_DAYS else None


def document(labels: dict[str, str], points: Sequence[tuple[float, float]], free: float) -> dict[str, Any]:
    """Return the forecast of one file system, from points of its free bytes over Unix seconds."""
    found = trend(points)
    span = points[-1][0] - points[0][0] if points else 0.0
    out: dict[str, Any] = {
        "labels": labels,
        "free_bytes": free,
        "points": len(points),
        "span_seconds": span,
        "free_bytes_per_day": None,
        "free_bytes_per_day_range": None,
        "days_until_full": None,
        "days_until_full_range": None,
    }
    if found is not None:
        out |= {
            "free_bytes_per_day": round(found.slope * DAY, 3),
            "free_bytes_per_day_range": [round(found.low * DAY, 3), round(found.high * DAY, 3)],
            "days_until_full": days_until_full(free, found.slope),
            "days_until_full_range": [days_until_full(free, found.low), days_until_full(free, found.high)],
        }
    return out
