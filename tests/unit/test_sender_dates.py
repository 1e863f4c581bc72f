"""A lane asks for the receiver's time while nobody knows whether the host's clock is right."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from agent.config import TlsConfig
from agent.send.dates import FIRST, LONGEST
from agent.send.lane import has_proof
from agent.send.state import State
from tests.support.scripted import NO_ANSWER, Rig, destination

SECURE: dict[str, Any] = {"url": "https://receiver.example/api/v1/write"}


def rest(rig: Rig) -> None:
    """Let the lane do one thing, and wait for as long as it wants to."""
    rig.now += rig.lane.step().seconds


def test_it_asks_while_that_is_wanted_ever_more_slowly_and_no_longer() -> None:
    wanted = [True]
    rig = Rig(wants_date=lambda: wanted[0], **SECURE)
    begun, asked = rig.now, [rig.now]
    while rig.now < begun + 86_400:
        before, at = len(rig.script.bodies), rig.now
        rest(rig)
        asked += [at] * (len(rig.script.bodies) - before)
    pauses = [round(after - at) for at, after in pairwise(asked)]
    doubled = [FIRST * 2**n for n in range(7)]
    assert pauses[:7] == doubled
    assert set(pauses[7:]) == {LONGEST}
    wanted[0] = False
    before = len(rig.script.bodies)
    for _ in range(5):
        rest(rig)
    assert len(rig.script.bodies) == before


def test_whatever_comes_of_it_changes_nothing() -> None:
    rig = Rig([NO_ANSWER], wants_date=lambda: True, **SECURE)
    while not rig.script.bodies:
        rest(rig)
    assert (rig.lane.state, rig.lane.error) == (State.IDLE, None)
    rig.collect()
    rig.drain()


@pytest.mark.parametrize(
    ("settings", "proves"),
    [
        ({}, False),
        (SECURE, True),
        ({"url": "HTTPS://receiver.example/"}, True),
        (SECURE | {"tls_config": TlsConfig(insecure_skip_verify=True)}, False),
    ],
)
def test_only_a_receiver_that_proves_who_it_is_counts(settings: dict[str, Any], proves: bool) -> None:
    assert has_proof(destination(**settings)) is proves
    rig = Rig(wants_date=lambda: True, **settings)
    rig.collect()
    rig.drain()
    rig.lane.stats.hear(1_800_000_000.0, 0.0)  # slow, as the host has booted long ago
    assert rig.lane.stats.heard is None
