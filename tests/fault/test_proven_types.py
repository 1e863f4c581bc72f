"""What every type over HTTP that needs proof of its receiver goes through, over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.config import BasicAuth, DestinationConfig, Secret, TlsConfig
from agent.send.state import State
from agent.system.events import Event
from tests.fault import test_influxdb, test_otlp
from tests.fault.test_sender_faults import CUT, FAULTS, Fault
from tests.support.certs import Certs
from tests.support.front import Front
from tests.support.net import wait_for
from tests.support.receiver import Answer, Receiver
from tests.support.sending import PASSWORD, host


class Kind(NamedTuple):
    """How a destination of the type is made, and a receiver of it."""

    to: Callable[..., DestinationConfig]
    receiver: Callable[..., Receiver]


KINDS = {
    "influxdb": Kind(test_influxdb.influxdb, test_influxdb.receiver),
    "otlp": Kind(test_otlp.otlp, test_otlp.receiver),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_after_a_fault_everything_has_arrived(kind: Kind, tmp_path: Path, fault: Fault) -> None:
    with kind.receiver() as there, Front(there, [None, fault.act, fault.act]) as front:
        to = kind.to(front.port, remote_timeout=fault.timeout)
        with host(tmp_path, to) as one:
            one.collect(40)
            one.settled()
            assert not front.acts
            events = Event.RETRY, Event.HELD  # a page that answers is held
            troubles = [str(entry["error"]) for event in events for entry in one.logged(event)]
            beginnings = tuple(words[:8] for words in fault.words or CUT)  # the rest is the type's own
            assert all(error.startswith(beginnings) for error in troubles)
            assert len(troubles) in fault.troubles or not fault.words
            # What was answered before a fault met the check of the answer is sent again.
            one.accounted(there, repeated=True)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_page_that_takes_anything_is_held(kind: Kind, tmp_path: Path) -> None:
    with kind.receiver() as there:
        there.to_unreadable = Answer(200)
        with host(tmp_path, kind.to(there.port)) as one:
            assert "no receiver" in one.held()
            there.to_unreadable = None
            one.settled()
            one.accounted(there, repeated=True)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_tls_and_a_password_that_is_corrected(kind: Kind, tmp_path: Path, certs: Certs) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certs.unknown_ca.read_bytes())
    with kind.receiver(certs=certs) as there:
        auth = BasicAuth(username="limpet", password=Secret(PASSWORD))
        to = kind.to(there.port, "https", tls_config=TlsConfig(ca_file=str(ca)), basic_auth=auth)
        with host(tmp_path, to) as one:
            assert one.held().startswith("TLS: ")
            ca.write_bytes(certs.ca.read_bytes())
            one.settled()
            one.accounted(there)
            assert all("authorization" in request.headers for request in there.requests)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_receiver_that_restarts_and_an_agent_that_does(kind: Kind, tmp_path: Path) -> None:
    with kind.receiver() as there:
        to = kind.to(there.port)
        for _ in range(2):
            with host(tmp_path, to) as one:
                one.collect(15)
                one.settled()
                there.stop()
                one.collect(15)
                wait_for(lambda: one.lane.state is State.WAITING, 10, "a failed try")
            there.start()
        with host(tmp_path, to) as one:
            one.settled()
            one.accounted(there)
