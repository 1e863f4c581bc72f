"""When a clock is believed: each kind of evidence alone, and what outweighs what."""

from __future__ import annotations

import pytest

from agent.collect.guard import (
    ALWAYS,
    ANCIENT,
    BEHIND,
    CHIP,
    DOUBT,
    GRACE,
    LONGEST,
    PLAUSIBLE,
    STEPPED,
    SYNCED,
    UNSET,
    Guard,
    Trust,
)

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


class Host:
    """A host, its guard, and its clocks.  A real one without anything special: nothing is known of its clock."""

    def __init__(self, trust: str = "auto", **evidence: bool) -> None:
        known = {"synced": False, "chip": False, "service": False, "network": True} | evidence
        self.is_synced, self.has_chip, self.has_service, self.has_network = (
            lambda key=key: known[key] for key in ("synced", "chip", "service", "network")
        )
        self.known, self.mono_ms, self.wall_ms, self.kept_ms = known, 20_000, NOW_MS, 0
        self.guard = Guard("always" if trust == "always" else "auto", 30.0, self)

    def look(self, after: float = 10.0, step: float = 0.0) -> Trust:
        """Look once more, after so many seconds, in which the clock was set ahead by others."""
        self.mono_ms += round(after * 1000)
        self.wall_ms += round((after + step) * 1000)
        return self.guard.look(self.wall_ms, self.mono_ms, self.kept_ms)


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        ({}, PLAUSIBLE),
        ({"chip": True}, CHIP),
        ({"chip": True, "service": True}, CHIP),
        ({"synced": True, "service": True}, SYNCED),
        ({"service": True}, UNSET),
    ],
    ids=["a container", "a server", "a server that boots", "a board that is set", "a board that boots"],
)
def test_a_healthy_host_is_believed_at_its_first_look_and_a_board_when_it_is_set(
    evidence: dict[str, bool], found: Trust
) -> None:
    host = Host("auto", **evidence)
    assert host.look() == found
    host.known["synced"] = True
    assert host.look() == SYNCED


def test_1970_is_wrong_whatever_is_said_for_it() -> None:
    host = Host(synced=True, chip=True)
    host.wall_ms = 0
    assert host.look() == ANCIENT
    assert host.look(2 * LONGEST) == ANCIENT
    assert Host("always").look(step=-NOW_MS / 1000) == ALWAYS


def test_a_clock_behind_what_is_stored_is_wrong_unless_it_is_synchronized() -> None:
    host = Host(chip=True)
    host.kept_ms = NOW_MS + HOUR_MS
    assert host.look() == BEHIND
    host.known["synced"] = True
    assert host.look() == SYNCED
    near = Host(chip=True)
    near.kept_ms = NOW_MS + 30_000
    assert near.look() == CHIP


def test_a_host_that_nothing_sets_is_believed_after_a_while_with_a_network() -> None:
    host = Host(service=True, network=False)
    assert host.look(2 * GRACE) == UNSET  # nobody could have set it, and nothing could be sent
    host.known["network"] = True
    assert host.look(GRACE - 20) == UNSET
    assert host.look(30) == PLAUSIBLE
    alone = Host(service=True, network=False)
    assert alone.look() == UNSET
    assert alone.look(LONGEST) == PLAUSIBLE


def test_an_agent_that_is_started_long_after_the_boot_does_not_wait_again() -> None:
    host = Host(service=True)
    host.mono_ms = round(GRACE * 1000)
    assert host.look() == PLAUSIBLE


def test_a_step_of_a_clock_that_nothing_vouches_for_is_doubted() -> None:
    host = Host(chip=True)
    assert [host.look(), host.look(step=7200), host.look(DOUBT - 20), host.look(30)] == [
        CHIP,
        STEPPED,
        STEPPED,
        CHIP,
    ]
    assert (host.guard.steps, host.guard.last_step) == (1, 7200.0)


def test_a_step_that_is_taken_back_is_over_at_once() -> None:
    host = Host()
    assert [host.look(), host.look(step=7200), host.look(step=-7200)] == [PLAUSIBLE, STEPPED, PLAUSIBLE]
    assert (host.guard.steps, host.guard.last_step) == (2, -7200.0)


def test_another_step_is_doubted_anew() -> None:
    host = Host()
    host.look()
    host.look(step=7200)
    host.look(DOUBT - 20)
    assert host.look(15, step=-3600) == STEPPED
    assert host.look(DOUBT - 20) == STEPPED
    assert host.look(20) == PLAUSIBLE


@pytest.mark.parametrize("step", [-3600.0, 3600.0, 20.0])
def test_a_step_by_ntp_and_a_small_one_change_nothing(step: float) -> None:
    host = Host(synced=abs(step) > 30)
    before = host.look()
    assert host.look(step=step) == before
    assert host.guard.steps == 1


def test_slewing_and_a_leap_second_are_no_reason_to_doubt() -> None:
    host = Host()
    for _ in range(1000):
        assert host.look(10, step=-0.005) == PLAUSIBLE  # 500 ppm, the most that the kernel does
    assert host.look(step=-1) == PLAUSIBLE
    assert host.guard.good_base == host.wall_ms - host.mono_ms


def test_a_changed_setting_counts_from_the_next_look_on() -> None:
    host = Host(service=True)
    assert host.look() == UNSET
    host.guard.configure("always", 30.0)
    assert host.look() == ALWAYS
