"""Which remote write is spoken, over real sockets: whatever the receiver understands, every sample arrives once.

A receiver that speaks only one answers the other as real ones do: with 415, with 400, or with a 204 and nothing
stored, which is the one that loses samples of a sender that believes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from agent.config import BasicAuth, QueueConfig
from agent.send.state import Rules
from agent.system.events import Event
from tests.support.net import wait_for
from tests.support.protocols import V1, V2
from tests.support.receiver import Answer, Receiver
from tests.support.sending import Host, destination, host

FOREIGN: tuple[Literal["silent", "415", "400"], ...] = ("silent", "415", "400")


def spoken(one: Host) -> list[str]:
    return [event["remote_write"] for event in one.logged(Event.PROTOCOL)]


def test_auto_finds_out_that_the_receiver_speaks_2_0(tmp_path: Path) -> None:
    with Receiver() as receiver, host(tmp_path, destination(receiver.url)) as one:
        one.collect(30)
        one.settled()
        one.accounted(receiver)
        assert spoken(one) == ["2.0"]
        assert {request.headers["x-prometheus-remote-write-version"] for request in receiver.requests} == {
            "2.0.0"
        }


@pytest.mark.parametrize("foreign", FOREIGN)
def test_auto_falls_back_to_1_0_and_sends_the_same_again(
    tmp_path: Path, foreign: Literal["silent", "415", "400"]
) -> None:
    with Receiver(speaks="1.0", to_foreign=foreign) as receiver:
        with host(tmp_path, destination(receiver.url)) as one:
            one.collect(30)
            one.settled()
            one.accounted(receiver)
            assert spoken(one) == ["1.0"]
        assert len(receiver.foreign) == 1  # tried once


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_is_sent_again_as_1_0_does_not_wait_for_the_next_deadline(
    tmp_path: Path, foreign: Literal["silent", "415", "400"]
) -> None:
    queue = QueueConfig(batch_send_deadline=3600.0)
    with (
        Receiver(speaks="1.0", to_foreign=foreign) as receiver,
        host(tmp_path, destination(receiver.url, queue_config=queue)) as one,
    ):
        one.settled(10)
        one.accounted(receiver)


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("trouble", [401, 503])
def test_a_batch_that_waits_is_encoded_again_when_the_protocol_is_found_out(
    tmp_path: Path, foreign: Literal["silent", "415", "400"], trouble: int
) -> None:
    """The probe of a held destination may find out, too: what waits is in 2.0 then."""
    with (
        Receiver([Answer(trouble)], speaks="1.0", to_foreign=foreign) as receiver,
        host(tmp_path, destination(receiver.url)) as one,
    ):
        one.collect(30)
        one.settled()
        one.accounted(receiver)
        assert spoken(one) == ["1.0"]


@pytest.mark.parametrize("foreign", ["silent", "415"])
def test_a_receiver_that_is_replaced_by_an_older_one_loses_nothing(
    tmp_path: Path, foreign: Literal["silent", "415"]
) -> None:
    with Receiver() as receiver, host(tmp_path, destination(receiver.url)) as one:
        one.settled()
        receiver.speaks, receiver.to_foreign = "1.0", foreign
        one.collect(30)
        one.settled()
        one.accounted(receiver)
        assert spoken(one) == ["2.0", "1.0"]


@pytest.mark.parametrize("foreign", ["silent", "415"])
def test_only_2_0_is_held_until_the_receiver_speaks_it(
    tmp_path: Path, foreign: Literal["silent", "415"]
) -> None:
    with (
        Receiver(speaks="1.0", to_foreign=foreign) as receiver,
        host(tmp_path, destination(receiver.url, protobuf_message=V2)) as one,
    ):
        assert "protobuf_message" in one.held()
        receiver.speaks = "both"
        one.collect(30)
        one.settled()
        one.accounted(receiver)


def test_only_1_0_is_held_by_a_receiver_of_2_0_alone(tmp_path: Path) -> None:
    with (
        Receiver(speaks="2.0") as receiver,
        host(tmp_path, destination(receiver.url, protobuf_message=V1)) as one,
    ):
        assert "protobuf_message" in one.held()
        receiver.speaks = "both"
        one.settled()
        one.accounted(receiver)


def test_counts_that_are_not_all_mean_1_0(tmp_path: Path) -> None:
    """The receiver has stored some of it by then: what comes again has the same times and values."""
    few = Answer(200, {"X-Prometheus-Remote-Write-Samples-Written": "1"})
    with Receiver([few]) as receiver, host(tmp_path, destination(receiver.url)) as one:
        one.collect(30)
        one.settled()
        one.accounted(receiver, repeated=True)
        assert spoken(one) == ["1.0"]


FEW = {"X-Prometheus-Remote-Write-Samples-Written": "1"}


@pytest.mark.parametrize(
    "answer", [Answer(400, {"X-Prometheus-Remote-Write-Samples-Written": ""}), Answer(200, FEW)]
)
def test_auto_comes_back_to_a_receiver_of_2_0_alone(tmp_path: Path, answer: Answer) -> None:
    """One answer looked as if it spoke 1.0: it is held for that no longer than until the next probe."""
    with Receiver([answer], speaks="2.0") as receiver, host(tmp_path, destination(receiver.url)) as one:
        one.collect(30)
        one.settled()
        one.accounted(receiver, repeated=True)
        assert spoken(one) == ["1.0", "2.0", "2.0"]  # tried again, and proven
        assert "remote write 1.0" in one.logged(Event.HELD)[0]["error"]


def test_a_receiver_that_takes_neither_is_held(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.default = Answer(415)
        slowly = Rules(0.01, 0.05, 0.3, 0.3)
        with host(tmp_path, destination(receiver.url), rules=slowly) as one:
            one.held()
            before = len(receiver.requests)
            wait_for(lambda: len(receiver.requests) > before + 8, 20, "some probes")
            # A probe and a batch or two each time, so these are three rounds, with two waits of 0.3 s in between.
            first, last = (receiver.requests[before + n].at for n in (0, 8))
            assert last - first >= 0.5
            assert not any(one.cursor.ledger.dropped.values())
            receiver.default = Answer()
            one.settled()
            one.accounted(receiver)


def test_a_password_that_is_corrected_finds_an_old_receiver(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("guessed")
    with Receiver(speaks="1.0", to_foreign="silent") as receiver:
        receiver.answers.extend([Answer(401)] * 3)
        to = destination(receiver.url, basic_auth=BasicAuth(username="u", password_file=str(file)))
        with host(tmp_path, to) as one:
            wait_for(lambda: one.logged(Event.HELD), 10, "it to be held")
            one.collect(30)
            file.write_text("hunter2")
            one.settled()
            one.accounted(receiver)
