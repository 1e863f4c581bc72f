"""Durations as Prometheus, promtool and Alertmanager write them."""

from __future__ import annotations

import re

_UNITS_MS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def milliseconds(duration: str) -> int:
    """Return the milliseconds of `4w`, `1h30m` or `500ms`; raise AssertionError for anything else."""
    parts = re.findall(r"(\d+)(ms|[wdhms])", duration)
    assert "".join(map("".join, parts)) == duration, duration
    return sum(int(number) * _UNITS_MS[unit] for number, unit in parts)


def seconds(duration: str) -> int:
    """Return the whole seconds of a duration."""
    return milliseconds(duration) // 1000
