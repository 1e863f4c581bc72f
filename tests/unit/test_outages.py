"""For how long nothing was delivered, and why: with clocks that are handed in, and a host's files in a folder."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agent.destinations.base import Outcome, Verdict
from agent.http.failures import Cause as Failed
from agent.send.outages import Cause, Outage, Outages, cause
from agent.system.way import Way, interfaces, way

NOW = 1_800_000_000.0


class World:
    """Two clocks."""

    def __init__(self) -> None:
        self.mono, self.wall = 5000.0, NOW

    def after(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += seconds

    def outages(self) -> Outages:
        return Outages(lambda: self.mono, lambda: self.wall)


@pytest.fixture
def world() -> World:
    return World()


def test_without_a_failure_there_is_nothing_to_report(world: World) -> None:
    outages = world.outages()
    outages.delivered(0)
    assert outages.report() == ({}, None)
    assert outages.at_hand == (None, None)


def test_each_second_counts_for_one_cause(world: World) -> None:
    outages = world.outages()
    outages.failed(Cause.TCP, 2.0)
    assert outages.report() == ({"tcp": 0.0}, Outage(NOW - 2))  # first as 0: its rise is never lost
    world.after(10)
    assert outages.report()[0] == {"tcp": 12.0}
    outages.failed(Cause.DNS, 5.0)
    world.after(30)
    outages.delivered(700)
    world.after(100)
    assert outages.report()[0] == {"tcp": 12.0, "dns": 0.0}
    assert outages.report() == ({"tcp": 12.0, "dns": 30.0}, Outage(NOW - 2, NOW + 40, 700))
    outages.failed(Cause.DNS)
    world.after(1)
    assert outages.report() == ({"tcp": 12.0, "dns": 31.0}, Outage(NOW + 140, NOW + 40, 700))


def test_what_lasts_is_before_its_end_and_what_is_over_is_not(world: World) -> None:
    outages = world.outages()
    outages.failed(Cause.TCP)
    outages.delivered(1)  # in the same second
    _, last = outages.report()
    assert last is not None
    assert last.end >= last.start
    world.after(60)
    outages.failed(Cause.TCP)
    _, last = outages.report()
    assert last is not None
    assert last.end < last.start


def test_it_continues_after_a_restart(world: World) -> None:
    before = world.outages()
    before.failed(Cause.TLS)
    kept = before.at_hand
    assert kept == ("tls", int(NOW * 1000))
    world.after(600)
    after = world.outages()
    after.remember(*kept)
    assert after.report() == ({"tls": 0.0}, Outage(NOW))
    world.after(20)
    after.delivered(5)
    after.remember(*kept)  # as a new lane of the same process does
    assert after.report() == ({"tls": 20.0}, Outage(NOW, NOW + 620, 5))


@pytest.mark.parametrize("kept", [("tls", None), (None, 5), ("\x00", 5), ("no cause", 5)])
def test_a_hint_that_makes_no_sense_is_none(world: World, kept: tuple[str | None, int | None]) -> None:
    outages = world.outages()
    outages.remember(*kept)
    assert outages.report() == ({}, None)


def test_a_clock_that_is_set_makes_no_outage_longer(world: World) -> None:
    outages = world.outages()
    world.wall = 100.0  # a board that has just booted
    outages.failed(Cause.CLOCK)
    world.after(60)
    world.wall = NOW
    outages.delivered(3)
    assert outages.report()[1] == Outage(NOW - 60, NOW, 3)


def test_the_begin_does_not_move_by_drift(world: World) -> None:
    outages = world.outages()
    outages.failed(Cause.TCP)
    for _ in range(50):
        world.after(60)
        world.wall += 0.01
        _, last = outages.report()
        assert last is not None
        assert last.start == NOW


ANSWERS = {
    401: Cause.AUTH,
    403: Cause.AUTH,
    407: Cause.AUTH,
    429: Cause.THROTTLED,
    404: Cause.REFUSED,
    302: Cause.REFUSED,
    200: Cause.REFUSED,
    408: Cause.SERVER,
    500: Cause.SERVER,
    503: Cause.SERVER,
    511: Cause.SERVER,
}


@pytest.mark.parametrize("status", ANSWERS)
def test_the_cause_of_an_answer(status: int) -> None:
    assert cause(Outcome(Verdict.HELD, status), "remote_write", lambda: Way.NO_LINK) is ANSWERS[status]


def failed(what: Failed, found: Way = Way.THERE) -> Cause:
    return cause(Outcome(Verdict.RETRY, cause=what), "remote_write", lambda: found)


def test_the_cause_of_no_answer() -> None:
    assert {what: failed(what) for what in Failed} == {
        Failed.ADDRESS: Cause.DNS,
        Failed.REFUSED: Cause.TCP,
        Failed.UNREACHABLE: Cause.TCP,
        Failed.TIMEOUT: Cause.TCP,
        Failed.CUT: Cause.TCP,
        Failed.TLS: Cause.TLS,
        Failed.PROXY: Cause.PROXY,
        Failed.TOKEN: Cause.AUTH,
        Failed.FILE: Cause.AUTH,
        Failed.PROTOCOL: Cause.SERVER,
    }


def test_a_missing_link_explains_what_fails_on_the_way() -> None:
    not_there = {Failed.ADDRESS, Failed.UNREACHABLE}
    on_the_way = {*not_there, Failed.TIMEOUT, Failed.CUT}
    assert {what for what in Failed if failed(what, Way.NO_LINK) is Cause.LINK} == on_the_way
    assert {what for what in Failed if failed(what, Way.NO_ADDRESS) is Cause.ADDRESS} == not_there


def test_a_folder_is_a_medium() -> None:
    assert cause(Outcome(Verdict.RETRY, cause=Failed.FILE), "file") is Cause.MEDIUM


ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wan\t{destination}\t010200C0\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0
"""
DEFAULT_6 = "0" * 32 + " 00 " + "0" * 32 + " 00 " + "0" * 32 + " 00000400 00000001 00000000 {flags} {name}\n"


def found(folder: Path, *, links: dict[str, bool] | None, routes: str = "", routes_6: str = "") -> Way:
    """Return what is found on a host with these links."""
    (folder / "route").write_text(routes)
    (folder / "ipv6_route").write_text(routes_6)
    return way(lambda: links, str(folder / "route"), str(folder / "ipv6_route"))


def test_what_way_out_there_is(tmp_path: Path) -> None:
    default = ROUTES.format(destination="0" * 8, flags="0003", mask="0" * 8)
    near = ROUTES.format(destination="000200C0", flags="0001", mask="00FFFFFF")
    down = ROUTES.format(destination="0" * 8, flags="0002", mask="0" * 8)
    by_6 = DEFAULT_6.format(flags="00000003", name="wan")
    unreachable = DEFAULT_6.format(flags="00200200", name="lo")
    up, bridge = {"wan": True, "docker0": False}, {"wan": False, "docker0": True}
    assert found(tmp_path, links={}) is Way.NO_LINK
    assert found(tmp_path, links={"wan": False}, routes=near) is Way.NO_LINK
    assert found(tmp_path, links=bridge, routes=default) is Way.NO_LINK
    assert found(tmp_path, links=bridge, routes_6=by_6) is Way.NO_LINK
    assert found(tmp_path, links=up, routes=near, routes_6=unreachable) is Way.NO_ADDRESS
    assert found(tmp_path, links=up, routes=down) is Way.NO_ADDRESS
    assert found(tmp_path, links=up, routes=default) is Way.THERE
    assert found(tmp_path, links=up, routes_6=by_6) is Way.THERE


def test_what_cannot_be_read_is_there(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert way(lambda: {"wan": True}, nowhere, nowhere) is Way.THERE
    assert found(tmp_path, links=None) is Way.THERE
    garbage = "\x00\n" * 50 + "x " * 11 + "\n" + ROUTES.format(destination="0" * 8, flags="?", mask="0" * 8)
    assert found(tmp_path, links={"wan": True}, routes=garbage, routes_6="z " * 10) is Way.NO_ADDRESS


def test_the_kernel_says_which_interfaces_there_are() -> None:
    known = interfaces()
    assert known is not None
    assert set(known) == {name for _, name in socket.if_nameindex()} - {"lo"}
