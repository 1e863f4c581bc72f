"""Two hundred stops of 0.1 to 40 seconds each: twenty agents, ten stops each, in five minutes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from traceback import format_exception

import pytest

from tests.support.stops import endure

AGENTS, STOPS, LONGEST = 20, 10, 40.0


@pytest.mark.timeout(900)
def test_two_hundred_stops(tmp_path: Path) -> None:
    with ThreadPoolExecutor(AGENTS) as pool:
        runs = [pool.submit(endure, tmp_path / str(seed), seed, STOPS, LONGEST) for seed in range(AGENTS)]
    errors = [error for run in runs if (error := run.exception()) is not None]
    assert not errors, "\n".join(line for error in errors for line in format_exception(error))
    print("grid times awake and samples missed:", [run.result() for run in runs])
