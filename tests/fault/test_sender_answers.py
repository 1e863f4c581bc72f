"""What a receiver answers, and what becomes of the batch: every row of `agent.destinations.remote_write.outcome`, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.config import BasicAuth, Secret
from agent.send.state import LONGEST_WISH, State
from agent.system.events import Event
from tests.support.exchanges import Deliver, delivering, received
from tests.support.net import wait_for
from tests.support.protocols import PROTOCOLS, V1
from tests.support.receiver import HEADERS, Answer, Receiver
from tests.support.sending import PASSWORD, destination, host
from tests.support.wire import Write

pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)


@pytest.fixture
def deliver(tmp_path: Path, protocol: str) -> Deliver:
    return partial(received, tmp_path, protobuf_message=protocol)


def test_a_request_is_as_remote_write_requires(tmp_path: Path, protocol: str) -> None:
    with Receiver() as receiver:
        settings: dict[str, Any] = {"headers": {"X-Scope-OrgID": "é"}, "protobuf_message": protocol}
        with delivering(tmp_path, receiver, f"{receiver.url}?tenant=1", **settings):
            pass
        [request] = receiver.requests
    assert (request.method, request.path) == ("POST", "/api/v1/write?tenant=1")
    assert {name: value for name, value in request.headers.items() if name != "content-length"} == {
        "host": f"127.0.0.1:{receiver.port}",
        "user-agent": "limpet/0.0.0",
        "accept-encoding": "identity",
        "x-scope-orgid": "é".encode().decode("latin-1"),
        **{name.lower(): value for name, value in HEADERS["1.0" if protocol == V1 else "2.0"].items()},
    }


# What is settled.


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_an_answer_that_takes_the_batch(deliver: Deliver, status: int) -> None:
    with deliver() as (one, receiver):
        receiver.default = Answer(status, body=b"error: 400 Bad Request")  # the words do not count
        one.collect(30)
        one.settled()
        assert one.lane.stats.retries == 0


# What is retried.

RETRIED = (408, 421, 425, 429, 500, 501, 502, 503, 504, 599)


@pytest.mark.parametrize("status", RETRIED)
def test_what_is_retried_by_its_status(deliver: Deliver, status: int) -> None:
    """The same request, until it is taken, with the number of the try; nothing newer before it."""
    bad = 3
    with deliver([Answer(status, body=b"busy")] * bad) as (one, receiver):
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
def test_retry_after_is_waited_for(deliver: Deliver, wait: Callable[[], str], status: int) -> None:
    with deliver([Answer(status, {"Retry-After": wait()})]) as (_, receiver):
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
def test_a_retry_after_that_says_nothing_is_no_wait(deliver: Deliver, value: str) -> None:
    with deliver([Answer(503, {"Retry-After": value})] * 2) as (one, _):
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

HELD = (401, 402, 403, 404, 405, 406, 407, 410, 411, 418, 426, 428, 431, 451, 499, 511)


@pytest.mark.parametrize("status", [*HELD, 300, 301, 302, 303, 307, 308])
def test_what_an_operator_can_correct_is_held(deliver: Deliver, status: int) -> None:
    """Nothing is dropped; empty writes probe it, and the first good answer lets it continue."""
    with deliver([Answer(status)] * 3) as (one, receiver):
        one.collect(30)
        assert one.held().startswith(f"HTTP {status}: ")
        one.settled()
        assert (one.warned(Event.HELD), len(one.logged(Event.RESUMED))) == (1, 1)
    first, *probes = [request.write.samples for request in receiver.requests]
    assert first > 0
    assert probes[:3] == [0, 0, 0]


def test_a_redirect_is_held_and_nothing_goes_to_where_it_points(deliver: Deliver) -> None:
    auth = BasicAuth(username="limpet", password=Secret(PASSWORD))
    with Receiver() as elsewhere:
        where = f"http://x:{PASSWORD}@127.0.0.1:{elsewhere.port}/?{PASSWORD}"
        with deliver([Answer(307, {"Location": where})] * 3, basic_auth=auth) as (one, receiver):
            text = f"a redirect to http://127.0.0.1:{elsewhere.port}/, which is not followed"
            assert text in one.held()
            one.settled()
        assert {request.method for request in receiver.requests} == {"POST"}
        assert not elsewhere.requests


# What is cut to size.


def test_a_batch_that_is_too_large_is_halved(deliver: Deliver) -> None:
    with deliver([Answer(), Answer(413), Answer(413)]) as (one, receiver):
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
            entries, text = one.logged(Event.REJECTED), f"HTTP {status}: limit exceeded"
            assert sum(entry["samples"] for entry in entries) == one.cursor.ledger.dropped["rejected"] == 31
            assert {entry["error"] for entry in entries} == {text}
            assert [entry["log_level"] for entry in entries] == ["error"] + ["debug"] * (len(entries) - 1)
