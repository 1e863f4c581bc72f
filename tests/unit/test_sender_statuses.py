"""What becomes of a batch by the status of its answer, all of them, with a good probe and without.

The lane is real, over a buffer in memory; the page's table is made from what it does (`tools.states_table`).
"""

from __future__ import annotations

import pytest

from agent.http.answer import Answer
from tests.support.scripted import DELIVERED, Rig, Script
from tools import states_table
from tools.states_table import Fate

SAMPLES = 4


def _expected(status: int, *, probe: bool) -> Fate:
    """Say it again, without a look at the code."""
    if 200 <= status <= 299:
        return Fate.DELIVERED if probe else Fate.HELD
    if status == 413:
        return Fate.HALVED
    if status in (400, 409, 422):
        return Fate.REFUSED if probe else Fate.HELD
    if status == 511 or (300 <= status <= 499 and status not in (408, 421, 425, 429)):
        return Fate.HELD
    return Fate.REPEATED


@pytest.mark.parametrize("probe", [True, False], ids=["good probe", "bad probe"])
def test_what_becomes_of_a_batch(probe: bool) -> None:
    found = {status: states_table.fate(status, probe=probe) for status in range(100, 600)}
    assert found == {status: _expected(status, probe=probe) for status in range(100, 600)}


@pytest.mark.parametrize("probe", [True, False], ids=["good probe", "bad probe"])
@pytest.mark.parametrize("status", [302, *range(400, 413), *range(414, 432), 451, 499, 500, 503, 511])
def test_nothing_is_lost_and_all_of_it_arrives_when_it_is_repaired(status: int, probe: bool) -> None:
    """But for what the receiver has judged."""
    answer = Answer(status, {}, b"because")
    script = Script(rest=answer)
    script.to_empty = DELIVERED if probe else answer
    rig = Rig(script=script)
    rig.collect(SAMPLES // 2)
    for _ in range(12):
        rig.step()
    refused = states_table.fate(status, probe=probe) is Fate.REFUSED
    assert rig.ledger == (0, {"rejected": SAMPLES} if refused else {})
    script.rest, script.to_empty = DELIVERED, None
    rig.drain()
    assert rig.ledger == ((0, {"rejected": SAMPLES}) if refused else (SAMPLES, {}))
    assert rig.script.stored == ({} if refused else rig.everything())
