"""A process that is stopped and continued, or frozen and thawed, at random moments continues as if nothing had happened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.stops import endure


def test_agents_that_are_stopped_and_frozen_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    """The short form of tests/load/test_stops.py."""
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(endure, tmp_path / str(seed), seed, 5, 3.0) for seed in range(4)]
        for run in runs:
            awake, missed = run.result()
            assert awake > 2
            assert missed > 0
