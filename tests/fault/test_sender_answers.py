"""What a receiver answers, and what becomes of the batch: every row of `agent.destinations.remote_write.outcome`, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from agent.config import BasicAuth, Secret
from agent.send.state import LONGEST_WISH, State
from agent.system.events import Event
from tests.support.exchanges import delivering
from tests.support.net import wait_for
from tests.support.protocols import PROTOCOLS, V1, V2
from tests.support.receiver import Answer, Receiver
from tests.support.sending import PASSWORD, destination, host
from tests.support.wire import Write

pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)

HEADERS = {
    V1: {"content-type": "application/x-protobuf", "x-prometheus-remote-write-version": "0.1.0"},
    V2: {
        "content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        "x-prometheus-remote-write-version": "2.0.0",
    },
}
"""What distinguishes one protocol from the other."""


def test_a_request_is_as_the_specification_has_it(tmp_path: Path, protocol: str) -> None:
    with Receiver() as receiver:
        to = destination(
            receiver.url + "?tenant=1", headers={"X-Scope-OrgID": "é"}, protobuf_message=protocol
        )
        with host(tmp_path, to) as one:
            one.settled()
            one.accounted(receiver)
        [request] = receiver.requests
    assert request.method == "POST"
    assert request.path == "/api/v1/write?tenant=1"
    assert {name: value for name, value in request.headers.items() if name != "content-length"} == {
        "host": f"127.0.0.1:{receiver.port}",
        "user-agent": "limpet/0.0.0",
        "content-encoding": "snappy",
        "accept-encoding": "identity",
        "x-scope-orgid": "é".encode().decode("latin-1"),
        **HEADERS[protocol],
    }


# What is settled.


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_an_answer_that_takes_the_batch(tmp_path: Path, status: int, protocol: str) -> None:
    with Receiver() as receiver:
        receiver.default = Answer(status, body=b"error: 400 Bad Request")  # the words do not count
        with delivering(tmp_path, receiver, protobuf_message=protocol) as one:
            one.collect(30)
            one.settled()
            assert one.lane.stats.retries == 0


# What is retried.

RETRIED = (408, 421, 425, 429, 500, 501, 502, 503, 504, 599)


@pytest.mark.parametrize("status", RETRIED)
def test_what_is_retried_by_its_status(tmp_path: Path, status: int, protocol: str) -> None:
    """The same request, until it is taken, with the number of the try; nothing newer before it."""
    bad = 3
    with Receiver([Answer(status, body=b"busy")] * bad) as receiver:
        with delivering(tmp_path, receiver, protobuf_message=protocol) as one:
            one.collect(40)
            one.settled()
            assert [entry["error"] for entry in one.logged(Event.RETRY)] == [f"HTTP {status}: busy"] * bad
            assert [entry["log_level"] for entry in one.logged(Event.RETRY)] == ["warning", "debug", "debug"]
            assert len(one.logged(Event.RESUMED)) == 1
            assert one.lane.stats.retries == bad
        tries = list(receiver.requests)
        assert [request.headers.get("retry-attempt") for request in tries[:5]] == [None, "1", "2", "3", None]
        assert len({request.body for request in tries[: bad + 1]}) == 1
        assert tries[bad + 1].body != tries[0].body


WAITS: dict[str, Callable[[], str]] = {
    "seconds": lambda: "1",
    "a date": lambda: formatdate(time.time() + 2, usegmt=True),  # which has whole seconds: one at least
}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_retry_after_is_waited_for(
    tmp_path: Path, wait: Callable[[], str], status: int, protocol: str
) -> None:
    with Receiver([Answer(status, {"Retry-After": wait()})]) as receiver:
        with delivering(tmp_path, receiver, protobuf_message=protocol):
            pass
        first, second, *_ = receiver.requests
    assert second.at - first.at >= 0.95  # two clocks: theirs is the wall's


NO_WAIT = {
    "zero": "0",
    "a date that has passed": "Sun, 06 Nov 1994 08:49:37 GMT",
    "negative": "-99999",
    "words": "soon",
    "no date": "Fri, 99 Foo 9999 99:99:99 GMT",
    "nothing": "",
    "a fraction": "0.5",
    "bytes": "\xb2\xff",
}


@pytest.mark.parametrize("value", NO_WAIT.values(), ids=NO_WAIT)
def test_a_retry_after_that_says_nothing_is_no_wait(tmp_path: Path, value: str, protocol: str) -> None:
    with (
        Receiver([Answer(503, {"Retry-After": value})] * 2) as receiver,
        delivering(tmp_path, receiver, protobuf_message=protocol) as one,
    ):
        one.collect(30)
        one.settled(10)
        assert all(entry["next_try_seconds"] <= 0.1 for entry in one.logged(Event.RETRY))


AGES = {
    "a day": lambda: "86400",
    "an endless number": lambda: "9" * 400,
    "a date in a year": lambda: formatdate(time.time() + 365 * 86400, usegmt=True),
    "the last date there is": lambda: "Fri, 31 Dec 9999 23:59:59 GMT",
}


@pytest.mark.parametrize("value", AGES.values(), ids=AGES)
def test_a_retry_after_of_ages_has_a_ceiling(tmp_path: Path, value: Callable[[], str], protocol: str) -> None:
    """A quarter of an hour; a restart does not wait for its end, and begins with the same samples."""
    with Receiver([Answer(429, {"Retry-After": value()})]) as receiver:
        to = destination(receiver.url, protobuf_message=protocol)
        with host(tmp_path, to) as one:
            wait_for(lambda: one.lane.state is State.WAITING, 10, "the lane to wait")
            [text] = one.logged(Event.RETRY)
            assert LONGEST_WISH <= text["next_try_seconds"] <= LONGEST_WISH + 0.1
            one.collect(30)
        with host(tmp_path, to) as one:
            one.settled()
            one.accounted(receiver)
        first, second, *_ = [
            {one.labels: one.samples for one in request.write.series} for request in receiver.requests
        ]
        assert first.keys() == second.keys()
        assert all(second[labels][: len(samples)] == samples for labels, samples in first.items())


# What is held.


@pytest.mark.parametrize(
    "status",
    [
        300,
        301,
        302,
        303,
        307,
        308,
        401,
        402,
        403,
        404,
        405,
        406,
        407,
        410,
        411,
        418,
        426,
        428,
        431,
        451,
        499,
        511,
    ],
)
def test_what_an_operator_can_correct_is_held(tmp_path: Path, status: int, protocol: str) -> None:
    """Nothing is dropped; empty writes probe it, and the first good answer lets it continue."""
    with Receiver([Answer(status)] * 3) as receiver:
        with delivering(tmp_path, receiver, protobuf_message=protocol) as one:
            one.collect(30)
            assert one.held().startswith(f"HTTP {status}: ")
            one.settled()
            assert len([entry for entry in one.logged(Event.HELD) if entry["log_level"] == "warning"]) == 1
            assert len(one.logged(Event.RESUMED)) == 1
        sizes = [request.write.samples for request in receiver.requests]
        assert sizes[0] > 0
        assert sizes[1:4] == [0, 0, 0]


def test_a_redirect_is_held_and_nothing_goes_to_where_it_points(tmp_path: Path, protocol: str) -> None:
    auth = BasicAuth(username="limpet", password=Secret(PASSWORD))
    with Receiver() as elsewhere, Receiver() as receiver:
        receiver.default = Answer(
            307, {"Location": f"http://x:{PASSWORD}@127.0.0.1:{elsewhere.port}/?{PASSWORD}"}
        )
        to = destination(receiver.url, basic_auth=auth, protobuf_message=protocol)
        with host(tmp_path, to) as one:
            text = f"a redirect to http://127.0.0.1:{elsewhere.port}/, which is not followed"
            assert text in one.held()
            wait_for(lambda: len(receiver.requests) >= 3, 10, "probes")
            assert {request.method for request in receiver.requests} == {"POST"}
            receiver.default = Answer()
            one.settled()
            one.accounted(receiver)
        assert not elsewhere.requests


# What is cut to size.


def test_a_batch_that_is_too_large_is_halved(tmp_path: Path, protocol: str) -> None:
    with Receiver([Answer(), Answer(413), Answer(413)]) as receiver:
        with delivering(tmp_path, receiver, protobuf_message=protocol) as one:
            one.settled()
            one.collect(50)
        assert max(request.write.samples for request in list(receiver.requests)[3:]) <= 5


def test_a_record_that_is_too_large_by_itself_is_held(tmp_path: Path, protocol: str) -> None:
    with Receiver() as receiver:
        receiver.refuse = lambda write: Answer(413) if write.samples else None
        with delivering(tmp_path, receiver, protobuf_message=protocol) as one:
            one.collect(10)
            assert one.held() == "HTTP 413"
            receiver.refuse = lambda _: None


# What is refused for good. How the culprits are found is in test_sender_culprits.

REFUSED = (400, 409, 422)


def has(name: str, write: Write) -> bool:
    return any(dict(series.labels)["__name__"] == name for series in write.series)


@pytest.mark.parametrize("status", REFUSED)
def test_what_is_refused_costs_itself(tmp_path: Path, status: int, protocol: str) -> None:
    """The other series arrives; what was refused is in the quarantine and in the ledger, with the words."""
    with Receiver() as receiver:
        answer = Answer(status, body=b"limit exceeded\n")
        receiver.refuse = lambda write: answer if has("memory", write) else None
        with delivering(tmp_path, receiver, protobuf_message=protocol) as one:
            one.collect(30)
            one.settled()
            receiver.refuse = lambda _: None
            one.collect(30)
            one.settled()
            assert {dict(labels)["__name__"] for labels in one.kept()} == {"memory"}
            entries = one.logged(Event.REJECTED)
            assert sum(entry["samples"] for entry in entries) == one.cursor.ledger.dropped["rejected"] == 31
            assert {(entry["log_level"], entry["error"]) for entry in entries} == {
                ("error", f"HTTP {status}: limit exceeded")
            }
