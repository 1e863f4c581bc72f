"""What is spoken to a receiver: the table of `agent.destinations.remote_write.protocol`, row by row."""

from __future__ import annotations

import pytest

from agent.destinations.base import Outcome, Verdict
from agent.destinations.remote_write.outcome import classify
from agent.destinations.remote_write.protocol import AGAIN_AFTER, HEADERS, Protocol, Speech, begin, heard, now

AUTO, ONLY = begin("auto"), begin("io.prometheus.write.v2.Request")
PROVEN = AUTO._replace(proven=True)
OLDER = Speech(Protocol.V1, chosen=False, again_at=1000.0 + AGAIN_AFTER)
COUNT = "x-prometheus-remote-write-samples-written"


def answer(status: int, written: str | None = None) -> Outcome:
    return classify(status, {} if written is None else {COUNT: written}, b"words", 0.0)


def test_what_is_spoken_first() -> None:
    assert (AUTO.protocol, AUTO.chosen) == (Protocol.V2, False)
    assert (ONLY.protocol, ONLY.chosen) == (Protocol.V2, True)
    assert begin("prometheus.WriteRequest") == Speech(Protocol.V1, chosen=True)
    assert [one.value for one in Protocol] == ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"]


def test_the_headers_are_those_of_the_specifications() -> None:
    assert HEADERS[Protocol.V1]["X-Prometheus-Remote-Write-Version"] == b"0.1.0"
    assert HEADERS[Protocol.V1]["Content-Type"] == b"application/x-protobuf"
    assert HEADERS[Protocol.V2]["X-Prometheus-Remote-Write-Version"] == b"2.0.0"
    assert (
        HEADERS[Protocol.V2]["Content-Type"] == b"application/x-protobuf;proto=io.prometheus.write.v2.Request"
    )
    assert {one["Content-Encoding"] for one in HEADERS.values()} == {b"snappy"}


@pytest.mark.parametrize("status", [200, 202, 204])
@pytest.mark.parametrize("speech", [AUTO, ONLY, PROVEN])
def test_matching_counts_prove_it(speech: Speech, status: int) -> None:
    outcome = answer(status, "10")
    assert heard(speech, 10, outcome, 1000.0) == (speech._replace(proven=True), outcome)


@pytest.mark.parametrize("written", [None, "9", "0", "ten", "", "-10", "99999999999999999999"])
@pytest.mark.parametrize("speech", [AUTO, PROVEN])
def test_a_2xx_without_counts_that_match_is_sent_again_as_1_0(speech: Speech, written: str | None) -> None:
    after, outcome = heard(speech, 10, answer(204, written), 1000.0)
    assert after == OLDER
    assert outcome.verdict is Verdict.REWRITE
    assert "counts" in str(outcome.error)


@pytest.mark.parametrize("speech", [AUTO, PROVEN])
def test_415_is_sent_again_as_1_0(speech: Speech) -> None:
    after, outcome = heard(speech, 10, answer(415), 1000.0)
    assert (after, outcome.verdict) == (OLDER, Verdict.REWRITE)


def test_a_400_of_a_receiver_that_never_counted_is_sent_again_as_1_0() -> None:
    after, outcome = heard(AUTO, 10, answer(400), 1000.0)
    assert (after, outcome.verdict) == (OLDER, Verdict.REWRITE)


@pytest.mark.parametrize(("speech", "written"), [(AUTO, "3"), (PROVEN, None), (ONLY, None)])
def test_a_400_of_a_receiver_that_speaks_it_is_a_refusal(speech: Speech, written: str | None) -> None:
    after, outcome = heard(speech, 10, answer(400, written), 1000.0)
    assert outcome.verdict is Verdict.REJECTED
    assert after == speech._replace(proven=speech.proven or written is not None)


@pytest.mark.parametrize(("status", "written"), [(204, None), (204, "9"), (415, None)])
def test_what_is_chosen_is_held_and_says_what_to_do(status: int, written: str | None) -> None:
    after, outcome = heard(ONLY, 10, answer(status, written), 1000.0)
    assert after.protocol is Protocol.V2
    assert outcome.verdict is Verdict.HELD
    assert "protobuf_message" in str(outcome.error)


@pytest.mark.parametrize("speech", [begin("prometheus.WriteRequest"), OLDER])
def test_1_0_needs_no_counts_and_415_holds_it(speech: Speech) -> None:
    assert heard(speech, 10, answer(204), 0.0) == (speech, answer(204))
    after, outcome = heard(speech, 10, answer(415), 0.0)
    assert outcome.verdict is Verdict.HELD
    assert after == (speech if speech.chosen else AUTO)
    assert "protobuf_message" in str(outcome.error)


@pytest.mark.parametrize("status", [401, 404, 413, 422, 429, 500, 503, 301, 0])
@pytest.mark.parametrize("speech", [AUTO, PROVEN, ONLY])
def test_everything_else_says_nothing_of_the_protocol(speech: Speech, status: int) -> None:
    outcome = answer(status)
    assert heard(speech, 10, outcome, 0.0) == (speech, outcome)


def test_2_0_is_tried_again_after_a_day() -> None:
    assert now(OLDER, 1000.0 + AGAIN_AFTER - 1) is OLDER
    assert now(OLDER, 1000.0 + AGAIN_AFTER) == AUTO
    chosen = begin("prometheus.WriteRequest")
    assert now(chosen, 1e9) is chosen
    assert now(PROVEN, 1e9) is PROVEN
