"""Lives of a host whose clock is often wrong: in the end the receiver has every sample that was promised, at its time.

`LIMPET_LIVES=2000` lives more of them; each prints its seed, and `LIMPET_LIFE=seed` lives one again.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from agent.collect.timekeeper import ESTIMATED
from buffer.model import is_stale
from tests.support.lives import BIRTH_MS, HOUR, MINUTE, Boot, Happens, Life, a_day, random_life

LIVES = int(os.environ.get("LIMPET_LIVES", "40"))
FIRST = int(os.environ.get("LIMPET_LIFE", "0"))
SEEDS = [FIRST] if "LIMPET_LIFE" in os.environ else range(LIVES)


def test_a_day_in_the_life_of_a_board(tmp_path: Path) -> None:
    life, lost = a_day(str(tmp_path), 3 * HOUR)
    assert life.good == set(life.boots) - {lost}
    life.check()
    begin, end = life.boots[lost]
    marked = [at - BIRTH_MS for at, value in life.receiver.stored[ESTIMATED].items() if not is_stale(value)]
    # It was off for 10 minutes before, and for an hour behind: half of that on either side.
    assert abs((max(marked) - min(marked)) - (end - begin)) < 20_000
    assert abs(min(marked) + BIRTH_MS - begin) <= 26 * MINUTE * 1000
    assert life.missed > 0  # while it was off


def test_nothing_is_lost_or_placed_twice_however_it_dies(tmp_path: Path) -> None:
    """It dies at each of the calls with which the times of two boots are given."""
    for number in range(1, 60):
        life = Life(str(tmp_path), random.Random(number))
        life.run(Boot("march", MINUTE, (), "kill", MINUTE))
        life.run(Boot("1970", 2 * MINUTE, (Happens(MINUTE, "set"),), "cut", MINUTE, dies_at=number))
        life.run(Boot("saved", 3 * MINUTE, (Happens(MINUTE, "set"),)))
        life.check()


def test_what_is_not_wanted_is_not_sent(tmp_path: Path) -> None:
    life = Life(str(tmp_path), random.Random(1))
    life.unplaced = "drop"
    life.run(Boot("march", 10 * MINUTE, (), "stop", HOUR))
    lost = set(life.kept)
    life.run(Boot("saved", 10 * MINUTE, (Happens(MINUTE, "set"),)))
    assert life.dropped == {"unplaced": len(lost)}
    assert not lost & set(life.receiver.stored["b"].values())
    assert ESTIMATED not in life.receiver.stored


def test_a_host_with_a_clock_chip_sends_at_once(tmp_path: Path) -> None:
    life = Life(str(tmp_path), random.Random(1), chip=True)
    life.run(Boot("right", MINUTE))
    assert set(life.receiver.stored["b"].values()) == life.kept
    assert life.log.events == []
    life.check()


@pytest.mark.parametrize("seed", SEEDS)
def test_random_lives(tmp_path: Path, seed: int) -> None:
    print(f"LIMPET_LIFE={seed}")
    random_life(str(tmp_path), seed).check()
