"""Agents that are stopped and continued at random moments.

In full, two hundred stops of 0.1 to 40 seconds in five minutes: LIMPET_STOP_AGENTS=20 pytest tests/load/test_stops.py
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from traceback import format_exception

import pytest

from tests.support.stops import endure

AGENTS = int(os.environ.get("LIMPET_STOP_AGENTS", "2"))
STOPS, LONGEST = (10, 40.0) if AGENTS >= 20 else (3, 5.0)


@pytest.mark.timeout(900)
def test_every_stop_is_endured(tmp_path: Path) -> None:
    with ThreadPoolExecutor(AGENTS) as pool:
        runs = [pool.submit(endure, tmp_path / str(seed), seed, STOPS, LONGEST) for seed in range(AGENTS)]
    errors = [error for run in runs if (error := run.exception()) is not None]
    assert not errors, "\n".join(line for error in errors for line in format_exception(error))
    print("grid times awake and samples missed:", [run.result() for run in runs])
