"""Stopping in the middle of a failure, and lanes that run at the same time."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from agent.config import QueueConfig, RemoteWrite
from agent.destinations.remote_write.formats import remote_write
from agent.send.client import Client
from agent.send.lane import Lane, stop_all
from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Instant, Tick
from buffer.quarantine import Quarantine
from tests.fault.test_sender_faults import FAULTS, Fault
from tests.support.front import Front
from tests.support.net import wait_for
from tests.support.protocols import PROTOCOLS
from tests.support.receiver import Answer, Receiver
from tests.support.sending import BOOT, FIRST_MS, SERIES, Host, destination, host
from tests.support.tcp import listener

MARGIN = 20.0  # the remote timeout is 60
"""Seconds on top of those that a stop is given, on a machine that does something else as well: far from a request's 60 s."""


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_stop_cuts_a_request_that_is_never_answered(tmp_path: Path, scheme: str) -> None:
    """Over https it is the handshake that is never answered."""
    asked = threading.Event()

    def silent(connection: socket.socket) -> None:
        while connection.recv(1 << 16):  # until the other side ends it
            asked.set()

    with listener(silent) as url, capture_logs() as logs:
        to = destination(url.replace("http", scheme), remote_timeout=60.0)
        one = Host(tmp_path, to, logs)
        one.collect()
        one.lane.start()
        assert asked.wait(60)
        began = time.monotonic()
        one.lane.stop(1.0)
        assert time.monotonic() - began < 1.0 + MARGIN
        assert one.lane.has_ended  # it was cut, not left behind
        assert one.cursor.ledger.state == "stopped"
        assert one.cursor.pending() == 2
        one.buffer.close()
        assert not [entry for entry in logs if entry["log_level"] != "debug"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_stop_in_the_middle_of_a_fault_loses_nothing(tmp_path: Path, fault: Fault, protocol: str) -> None:
    """It ends in time, and what the next process sends is all that is missing."""
    with Receiver() as receiver, Front(receiver, [None, *[fault.act] * 1000]) as front:
        to = destination(front.url, protobuf_message=protocol, remote_timeout=60.0)
        with host(tmp_path, to) as one:
            one.collect(40)
            wait_for(lambda: len(front.acts) < 1000, 10, "the fault")
            began = time.monotonic()
            one.lane.stop(0.5)
            assert time.monotonic() - began < 0.5 + MARGIN
        front.acts.clear()
        with host(tmp_path, to) as one:
            one.settled()
            # What a receiver stored while the lane was stopped is sent again.
            one.accounted(receiver, repeated=True)


def test_a_dead_destination_delays_no_other(tmp_path: Path) -> None:
    with Receiver([Answer(hang=True)] * 9) as dead, Receiver() as alive, capture_logs():
        buffer = Buffer(str(tmp_path), Limits(), ["dead", "alive"])
        kept, log = Quarantine(str(tmp_path)), structlog.get_logger()
        lanes = []
        for name, url in (("dead", dead.url), ("alive", alive.url)):
            to = RemoteWrite(
                url=url,
                name=name,
                remote_timeout=30.0,
                queue_config=QueueConfig(batch_send_deadline=0.01),
            )
            lanes.append(Lane(to, remote_write(to), Client(to, "0"), buffer, kept, log))
        for lane in lanes:
            lane.start()
        for n in range(5):
            buffer.append([Tick(Instant(FIRST_MS + n, n, BOOT), "all", SERIES, (1.0, 2.0))])
            wait_for(lambda: buffer.cursors["alive"].pending() == 0, 5, "the tick to arrive")
        began = time.monotonic()
        stop_all(lanes, 1.0)
        assert time.monotonic() - began < 1.0 + MARGIN
        buffer.close()
        assert buffer.cursors["dead"].pending() == 10
    assert alive.samples == 10


def test_what_is_settled_survives_the_process(tmp_path: Path) -> None:
    with Receiver() as receiver:
        to = destination(receiver.url)
        with host(tmp_path, to) as one:
            one.collect(20)
            one.settled()
        with host(tmp_path, to) as one:
            assert one.cursor.pending() == 0
            one.collect(20)
            one.settled()
            one.accounted(receiver)
