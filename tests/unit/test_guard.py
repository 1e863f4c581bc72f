"""When a clock is believed: each kind of evidence alone, and what outweighs what."""

from __future__ import annotations

import pytest

from agent.collect.guard import (
    ALWAYS,
    ANCIENT,
    BEHIND,
    CHIP,
    CHIP_EVERY,
    CONTRADICTED,
    DOUBT,
    GRACE,
    LONGEST,
    PLAUSIBLE,
    RECEIVERS,
    STEPPED,
    SYNCED,
    UNSET,
    Guard,
    Trust,
)
from agent.system.heard import KEPT_MS, WRONG_MS, Heard, Receivers, receivers

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


class Host:
    """A host, its guard, and its clocks.  A real one without anything special: nothing is known of its clock."""

    def __init__(self, trust: str = "auto", **evidence: bool) -> None:
        known = {"synced": False, "chip": False, "service": False, "network": True} | evidence
        self.is_synced, self.has_service, self.has_network = (
            lambda key=key: known[key] for key in ("synced", "service", "network")
        )
        self.chip_off, self.chip_reads = 0.0, 0
        self.answers: list[Heard] = []
        self.known, self.mono_ms, self.wall_ms, self.kept_ms = known, 20_000, NOW_MS, 0
        self.guard = Guard("always" if trust == "always" else "auto", 30.0, self)

    def chip_ms(self) -> int | None:
        self.chip_reads += 1
        return round(self.wall_ms + self.chip_off * 1000) if self.known["chip"] else None

    def heard(self) -> list[Heard]:
        return self.answers

    def answer(self, *off: float, took: float = 0.2) -> None:
        """Have receivers answer just now, whose clocks are so many seconds ahead of this host's."""
        ended, now = self.mono_ms / 1000, self.wall_ms / 1000
        self.answers = [Heard(float(int(now + one)), ended - took, ended) for one in off]

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


def test_a_step_is_doubted_by_the_next_process_too() -> None:
    host = Host()
    host.guard.recall(None, None, NOW_MS - host.mono_ms)
    assert host.look(step=3600) is STEPPED
    assert host.look(after=DOUBT - 1) is STEPPED
    assert host.look(after=2) is PLAUSIBLE
    host = Host()
    host.guard.recall(None, None, NOW_MS - host.mono_ms)
    assert host.look() is PLAUSIBLE  # it was set back meanwhile


def test_another_step_is_doubted_again() -> None:
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


@pytest.mark.parametrize("lost", [86_400.0, -40.0])
def test_a_chip_that_has_another_time_vouches_for_nothing(lost: float) -> None:
    """As of a board whose battery is empty, or was never there."""
    host = Host(chip=True, service=True)
    host.chip_off = lost
    assert host.look() == UNSET
    assert Host(chip=True, service=True).look() == CHIP


def test_the_chip_is_read_once_a_minute_and_after_a_step() -> None:
    host = Host(chip=True)
    for _ in range(100):
        host.look(CHIP_EVERY / 10)
    assert host.chip_reads == 10
    host.look(1.0, step=2.0)
    assert host.chip_reads == 11


def test_a_receiver_that_agrees_ends_every_doubt_but_that_of_1970() -> None:
    board = Host(service=True)
    assert board.look() == UNSET
    board.answer(0)
    assert board.look() == RECEIVERS
    behind = Host(chip=True)
    behind.kept_ms = NOW_MS + HOUR_MS
    assert behind.look() == BEHIND
    behind.answer(2)
    assert behind.look() == RECEIVERS
    stepped = Host()
    assert [stepped.look(), stepped.look(step=3600)] == [PLAUSIBLE, STEPPED]
    stepped.answer(0)
    assert stepped.look() == RECEIVERS
    ancient = Host()
    ancient.wall_ms = 1000
    ancient.answer(0)
    assert ancient.look() == ANCIENT


@pytest.mark.parametrize("chip", [True, False])
def test_a_receiver_that_disagrees_makes_a_plausible_clock_doubted(chip: bool) -> None:
    host = Host(chip=chip)
    assert host.look().is_good
    host.answer(7200)
    assert host.look() == CONTRADICTED
    assert (host.guard.good_base, host.guard.refuted) == (None, True)
    assert host.look(10, step=7200) == RECEIVERS  # somebody has set it, and the answer still counts
    assert not host.guard.refuted


def test_what_was_right_before_a_step_is_not_forgotten() -> None:
    host = Host(synced=True)
    host.answer(0)
    host.look()
    base_ms = host.guard.good_base
    host.known["synced"] = False
    assert host.look(step=3600) == CONTRADICTED
    assert (host.guard.good_base, host.guard.refuted) == (base_ms, False)


def test_a_receiver_does_not_outweigh_the_kernel_nor_the_setting() -> None:
    host = Host(synced=True)
    host.answer(7200)
    assert host.look() == SYNCED
    always = Host("always")
    always.answer(7200)
    assert always.look() == ALWAYS


def test_a_receiver_that_disagrees_is_heeded_for_a_day_and_no_longer() -> None:
    host = Host()
    found = []
    for _ in range(30):
        host.answer(-7200)
        found.append(host.look(LONGEST / 24))
    assert found == [CONTRADICTED] * 24 + [PLAUSIBLE] * 6


def test_receivers_of_different_opinions_count_for_nothing() -> None:
    host = Host()
    host.answer(0, 7200)
    assert host.look() == PLAUSIBLE
    host.answer(7200, 7210)
    assert host.look() == CONTRADICTED
    board = Host(service=True)
    board.answer(0, 7200)
    assert board.look() == UNSET


@pytest.mark.parametrize(
    ("off", "agrees", "disagrees"),
    [
        (0.0, True, False),
        (28.0, True, False),
        (-28.0, True, False),
        (33.0, False, False),  # not so much that it does harm
        (-290.0, False, False),
        (303.0, False, True),
        (-303.0, False, True),
        (86_400.0, False, True),
    ],
)
def test_what_a_date_says(off: float, agrees: bool, disagrees: bool) -> None:
    mono_ms, base_ms = 1_000_000, NOW_MS
    one = Heard((base_ms + mono_ms) / 1000 + off, 999.8, 1000.0)
    said = receivers([one], mono_ms, 30_000)
    assert said is not None
    assert (said.agree(base_ms, 30_000), said.disagree(base_ms, 30_000)) == (agrees, disagrees)
    assert not said.disagree(base_ms, 2 * 86_400_000)
    assert said.low - 1 <= base_ms + off * 1000 <= said.high
    assert WRONG_MS == 300_000


def test_a_date_that_is_old_or_was_slow_to_come_says_nothing() -> None:
    one = Heard(1_800_000_000.0, 99.0, 100.0)
    assert receivers([one], 100_000, 30_000) == Receivers(1_799_999_900_000, 1_799_999_902_000)
    assert receivers([one], 100_001 + KEPT_MS, 30_000) is None
    assert receivers([one._replace(begun=69.0)], 100_000, 30_000) is None
    assert receivers([], 100_000, 30_000) is None
