"""Two hundred stops of 0.1 to 40 seconds each: twenty agents, ten stops each, in five minutes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.stops import endure

AGENTS, STOPS, LONGEST = 20, 10, 40.0


@pytest.mark.timeout(900)
def test_two_hundred_stops(tmp_path: Path) -> None:
    with ThreadPoolExecutor(AGENTS) as pool:
        runs = [pool.submit(endure, tmp_path / str(seed), seed, STOPS, LONGEST) for seed in range(AGENTS)]
        found = [(run.exception(), run.exception() or run.result()) for run in runs]
    for error, result in found:
        print(result)
    assert not [error for error, _ in found if error is not None]
