"""Lanes that are replaced while their receivers do what they like."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from agent.config import DestinationConfig, HttpDestination
from agent.destinations.base import Request
from agent.destinations.types import speaks as speaks_of
from agent.http.answer import Answer as HttpAnswer
from agent.http.failures import Failure
from agent.send.client import Client
from agent.send.lane import Lane
from agent.send.lanes import PATIENCE, Lanes
from agent.send.stats import SendStats
from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Instant, Tick
from buffer.quarantine import Quarantine
from tests.support.net import wait_for
from tests.support.receiver import Answer, Receiver
from tests.support.sending import BOOT, FIRST_MS, QUICK, SERIES, destination


class Rig:
    """A buffer with two cursors, and the lanes to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.buffer = Buffer(str(folder), Limits(), ["there", "other"])
        self.lanes = Lanes(self._open)
        self.opened: list[Lane] = []
        self.ticks = 0

    def _open(self, to: DestinationConfig, labels: Mapping[str, str], stats: SendStats) -> Lane:
        speaks, wire, kept = speaks_of(to), self.wire(to), Quarantine(str(self.folder))
        log = structlog.get_logger()
        lane = Lane(to, speaks, wire, self.buffer, kept, log, labels=labels, stats=stats, rules=QUICK)
        self.opened.append(lane)
        return lane

    def wire(self, to: DestinationConfig) -> Client:
        assert isinstance(to, HttpDestination)
        return Client(to, "0")

    def collect(self, count: int = 1) -> None:
        for _ in range(count):
            self.ticks += 1
            at = Instant(FIRST_MS + self.ticks, self.ticks, BOOT)
            self.buffer.append([Tick(at, "all", SERIES, (float(self.ticks), 2.0))])

    def pending(self, name: str = "there") -> int:
        return self.buffer.cursors[name].pending()

    def settled(self) -> None:
        wait_for(lambda: self.is_changed() and not self.pending(), 10, "all to be sent")

    def is_changed(self) -> bool:
        self.lanes.look()
        return not self.lanes.is_changing


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_an_unchanged_destination_continues_undisturbed(rig: Rig) -> None:
    with Receiver() as receiver, capture_logs() as logs:
        for n in range(20):
            rig.lanes.want([destination(receiver.url)], {"hostname": "a"})
            if n % 5 == 0:
                rig.collect()
        rig.settled()
        (lane,) = rig.opened
        rig.lanes.want([destination(receiver.url, remote_timeout=6.0)], {"hostname": "a"})
        rig.collect()
        rig.settled()
        assert len(rig.opened) == 2
        assert rig.lanes.stats["there"] is lane.stats is rig.opened[1].stats
        assert lane.stats.requests == len(receiver.requests)
        rig.lanes.want([], {})
        assert rig.lanes.names == list(rig.lanes.stats) == []
        wait_for(lambda: all(one.has_ended for one in rig.opened), 5, "all to end")
        rig.lanes.stop(1.0)
        rig.buffer.close()
    assert receiver.samples == 2 * rig.ticks
    assert not [entry for entry in logs if entry["log_level"] in ("warning", "error")]


def test_a_request_that_is_answered_in_time_is_not_repeated(rig: Rig) -> None:
    with Receiver() as slow, capture_logs():
        slow.default = Answer(delay_s=0.5)
        rig.collect(5)
        for timeout in (5.0, 6.0, 7.0, 8.0):
            rig.lanes.want([destination(slow.url, remote_timeout=timeout)], {})
            wait_for(lambda: len(slow.requests) > len(slow.accepted), 5, "a request")
            rig.collect()
            assert len([lane for lane in rig.opened if not lane.has_ended]) == 1
            wait_for(rig.is_changed, 5, "the lane before to end")
        rig.settled()
        rig.lanes.stop(1.0)
        rig.buffer.close()
    assert slow.samples == 2 * rig.ticks == sum(write.samples for write in slow.accepted)


def test_one_that_hangs_is_cut_and_the_next_one_sends_the_same(rig: Rig) -> None:
    with Receiver() as hanging, Receiver() as good, capture_logs() as logs:
        hanging.default = Answer(hang=True)
        rig.collect(3)
        rig.lanes.want([destination(hanging.url, remote_timeout=60.0)], {})
        wait_for(lambda: hanging.requests, 5, "a request that hangs")
        begun = time.monotonic()
        rig.lanes.want([destination(good.url)], {})
        assert time.monotonic() - begun < PATIENCE  # it does not wait for the one that hangs
        assert len(rig.opened) == 1
        rig.settled()
        assert PATIENCE <= time.monotonic() - begun < PATIENCE + 20  # the remote timeout is 60
        assert good.samples == 6
        rig.lanes.stop(1.0)
        rig.buffer.close()
    assert not [entry for entry in logs if entry["log_level"] in ("warning", "error")]


def test_a_lane_that_misses_the_wake_up_to_leave_is_woken_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as good, capture_logs():
        rig.collect()
        rig.lanes.want([destination(good.url)], {})
        cursor = rig.buffer.cursors["there"]
        wait_for(
            lambda: not rig.pending() and list(rig.buffer._waiting.values()) == [cursor.position],
            5,
            "it to wait for any sample",
        )
        wake, lost = rig.buffer.wake, list[None]()
        monkeypatch.setattr(rig.buffer, "wake", lambda: wake() if lost else lost.append(None))
        rig.lanes.want([], {})
        assert lost
        wait_for(rig.is_changed, PATIENCE + 3, "it to leave")
        rig.lanes.stop(1.0)
        rig.buffer.close()


class LookingUp(Client):
    """A name server that does not answer: nothing ends the look-up, as in libc."""

    answer = threading.Event()

    def exchange(
        self, request: Request, attempt: int = 0, within: float | None = None
    ) -> HttpAnswer | Failure:
        self.answer.wait(20)
        return super().exchange(request, attempt, within=0.01)


def test_while_a_name_is_looked_up_there_is_no_second_lane_at_the_cursor(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as good, Receiver() as other, capture_logs():
        monkeypatch.setattr(
            rig, "wire", lambda to: (LookingUp if to.remote_timeout == 9 else Client)(to, "0")
        )
        rig.collect()
        stuck = destination(good.url, remote_timeout=9.0)
        beside = destination(other.url, name="other")
        rig.lanes.want([stuck, beside], {})
        wait_for(lambda: not rig.pending("other"), 5, "the other one to have it")
        rig.lanes.want([destination(good.url), beside], {})
        until = time.monotonic() + PATIENCE + 0.2
        wait_for(lambda: rig.is_changed() or time.monotonic() > until, 5, "some time")
        assert rig.lanes.is_changing
        assert len(rig.opened) == 2
        assert rig.pending() == 2
        LookingUp.answer.set()
        rig.settled()
        assert good.samples == 2
        rig.lanes.stop(1.0)
        rig.buffer.close()


def test_a_stop_in_the_middle_of_it_ends_in_time(rig: Rig) -> None:
    with Receiver() as hanging, capture_logs():
        hanging.default = Answer(hang=True)
        rig.collect()
        rig.lanes.want([destination(hanging.url, remote_timeout=60.0)], {})
        wait_for(lambda: hanging.requests, 5, "a request that hangs")
        rig.lanes.want([destination(hanging.url, remote_timeout=50.0)], {})
        begun = time.monotonic()
        rig.lanes.stop(1.0)
        assert time.monotonic() - begun < 20
        assert all(lane.has_ended for lane in rig.opened)
        assert rig.pending() == 2
        rig.buffer.close()
