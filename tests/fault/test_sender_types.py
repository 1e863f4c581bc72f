"""A third destination type in twenty lines, through everything that remote write goes through, over real sockets.

It posts compressed JSON: of each series its labels, and its samples by their times.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from agent.config import TlsConfig
from agent.destinations.base import REJECTED, Destination, Encoded, Outcome, Request, Verdict, failed
from agent.destinations.columns import merge
from agent.http.answer import Answer as HttpAnswer
from agent.http.answer import is_temporary, is_web_page, words
from agent.http.failures import Failure
from agent.send.state import State
from agent.system.events import Event
from buffer.model import Series, Tick
from tests.fault.test_sender_faults import CUT, FAULTS, Fault
from tests.support.certs import Certs
from tests.support.front import Front
from tests.support.net import wait_for
from tests.support.receiver import Answer, Receiver
from tests.support.sending import HELD, destination, host
from tests.support.wire import TimeSeries, Write

# The type.


def carries(series: Series) -> bytes | None:
    return json.dumps(sorted([*series.labels, ("__name__", series.name)])).encode() if series.name else None


def encode(ticks: Sequence[Tick], part: bool) -> Encoded:
    merged = merge(ticks, carries)
    rows = [
        (json.loads(key), list(zip(block.stamps, values, strict=True)))
        for block in merged.blocks
        for key, _, values in block.columns
    ]
    body = gzip.compress(json.dumps(rows).encode(), mtime=0)
    headers = {"Content-Type": b"application/json", "Content-Encoding": b"gzip"}
    return Encoded(Request(body, merged.samples, "json", headers), {REJECTED: merged.repeated})


def classify(request: Request, answer: HttpAnswer | Failure) -> Outcome:
    if isinstance(answer, Failure):
        return failed(request, answer)
    status = answer.status
    error = f"HTTP {status}: {words(answer.body)}"
    if 200 <= status <= 299 and not is_web_page(*answer):
        return Outcome(Verdict.DELIVERED, status)
    if status == 413:
        return Outcome(Verdict.TOO_LARGE, status, error)
    if status <= 299 or is_temporary(status):
        return Outcome(Verdict.RETRY, status, error)
    return Outcome(Verdict.HELD if status in HELD else Verdict.REJECTED, status, error)


JSON = Destination("json", encode, classify, lambda: Request(gzip.compress(b"[]"), 0, "json"), carries)

# Its receiver, and the script.


def read(body: bytes, headers: Mapping[str, str]) -> Write:
    rows = json.loads(gzip.decompress(body))
    return Write(tuple(TimeSeries(tuple(map(tuple, key)), tuple(map(tuple, of))) for key, of in rows))


def receiver(*answers: Answer, certs: Certs | None = None) -> Receiver:
    return Receiver(answers, certs=certs, read=read)


@pytest.mark.parametrize("status", [200, 204, 301, 401, 404, 413, 408, 429, 500, 503])
def test_every_class_of_status_ends_with_everything_delivered(tmp_path: Path, status: int) -> None:
    with (
        receiver(Answer(), *[Answer(status)] * 3) as there,
        host(tmp_path, destination(there.url), speaks=lambda: JSON) as one,
    ):
        one.outlives(there, status)


def test_one_bad_series_costs_itself(tmp_path: Path) -> None:
    with receiver() as there:
        there.refuse = lambda write: Answer(400, body=b"no memory") if "memory" in str(write.series) else None
        with host(tmp_path, destination(there.url), speaks=lambda: JSON) as one:
            one.collect(30)
            one.settled()
            one.accounted(there)
            assert {dict(labels)["__name__"] for labels in one.kept()} == {"memory"}
            assert {entry["error"] for entry in one.logged(Event.REJECTED)} == {"HTTP 400: no memory"}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_after_a_fault_everything_has_arrived(tmp_path: Path, fault: Fault) -> None:
    with receiver() as there, Front(there, [None, fault.act, fault.act]) as front:
        to = destination(front.url, remote_timeout=fault.timeout)
        with host(tmp_path, to, speaks=lambda: JSON) as one:
            one.collect(40)
            one.settled()
            assert not front.acts
            troubles = [str(entry["error"]) for entry in one.logged(Event.RETRY)]
            beginnings = tuple(words[:8] for words in fault.words or CUT)  # the rest is the type's own
            assert all(error.startswith(beginnings) for error in troubles)
            assert len(troubles) in fault.troubles or not fault.words
            one.accounted(there, repeated=fault.stored)


def test_a_certificate_that_is_refused_is_held_until_it_fits(tmp_path: Path, certs: Certs) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certs.unknown_ca.read_bytes())
    with receiver(certs=certs) as there:
        to = destination(there.url, tls_config=TlsConfig(ca_file=str(ca)))
        with host(tmp_path, to, speaks=lambda: JSON) as one:
            assert one.held().startswith("TLS: ")
            ca.write_bytes(certs.ca.read_bytes())
            one.settled()
            one.accounted(there)


def test_a_receiver_that_restarts_and_an_agent_that_does(tmp_path: Path) -> None:
    with receiver() as there:
        to = destination(there.url)
        for _ in range(3):
            with host(tmp_path, to, speaks=lambda: JSON) as one:
                one.collect(15)
                one.settled()
                there.stop()
                one.collect(15)
                wait_for(lambda: one.lane.state is State.WAITING, 10, "a failed try")
            there.start()
        with host(tmp_path, to, speaks=lambda: JSON) as one:
            one.settled()
            one.accounted(there)
