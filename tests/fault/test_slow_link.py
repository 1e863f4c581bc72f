"""A link that is too slow for a batch within the timeout: requests become as small as it needs, and grow again with it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agent.config import QueueConfig, TlsConfig
from agent.destinations.base import Outcome, Request, Verdict
from agent.destinations.remote_write import formats
from agent.send.client import Client
from agent.system.events import Event
from buffer.model import Series
from tests.support.certs import Certs
from tests.support.net import wait_for
from tests.support.protocols import V1
from tests.support.receiver import Receiver
from tests.support.sending import Host, destination, host
from tests.support.slow import SlowLink

RATE = 8000.0
SERIES = tuple(Series(f"m{i:03}", (("hostname", "a"), ("id", f"{i * 7919 * 7919:x}"))) for i in range(200))
QUEUE = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=10_000)


def sizes(receiver: Receiver) -> list[int]:
    """The samples in each request that the receiver got."""
    return [one.write.samples for one in receiver.requests if one.write.samples]


def too_slow(one: Host) -> int:
    """How often a request was found to be too slow."""
    return sum("the link is too slow" in entry["error"] for entry in one.logged(Event.BATCH_HALVED))


@pytest.mark.parametrize("message", ["auto", V1])
def test_what_takes_longer_than_the_timeout_goes_out_in_smaller_requests(
    tmp_path: Path, message: str
) -> None:
    """After an outage: what was collected meanwhile needs several times as long as a request may take."""
    with Receiver(keep=4000) as receiver, SlowLink(receiver.port, RATE) as link:
        to = destination(link.url, remote_timeout=1.0, queue_config=QUEUE, protobuf_message=message)
        with host(tmp_path, to, series=SERIES, ticks=40) as one:
            one.settled(120)
            assert 1 <= too_slow(one) <= 4
            assert link.passed < 3 * sum(len(request.body) for request in receiver.requests)
            small = max(sizes(receiver))
            assert small < 4000
            link.rate = 1e9
            for _ in range(20):  # it grows again, the later the more often it was too slow
                one.collect(100)
                one.settled(120)
                if max(sizes(receiver)) >= 2 * small:
                    break
            assert max(sizes(receiver)) >= 2 * small
            one.accounted(receiver, repeated=True)


def test_the_size_that_a_link_takes_is_known_after_a_restart(tmp_path: Path) -> None:
    """The next backlog goes out in requests of that size."""
    with Receiver(keep=4000) as receiver, SlowLink(receiver.port, RATE) as link:
        to = destination(link.url, remote_timeout=1.0, queue_config=QUEUE)
        with host(tmp_path, to, series=SERIES, ticks=20) as one:
            one.settled(120)
            assert too_slow(one) >= 1
            one.lane.stop(5.0)
            known, before = one.cursor.size, len(sizes(receiver))
            one.collect(10)
        assert known is not None
        with host(tmp_path, to, series=SERIES) as one:
            one.settled(120)
            assert max(sizes(receiver)[before:]) <= known.samples
            one.accounted(receiver, repeated=True)


# One exchange.


def sent(link: SlowLink, size: int, certs: Certs | None = None) -> Outcome:
    """Send so many bytes, as two samples, in 2 seconds; what became of them."""
    tls = TlsConfig(ca_file=str(certs.ca)) if certs else TlsConfig()
    url = link.url.replace("http:", "https:") if certs else link.url
    client = Client(destination(url, remote_timeout=1.0, tls_config=tls), "0")
    request = Request(b"x" * size, 2, "1.0")
    answer = client.exchange(request)
    client.close()
    return formats.classify(request, answer, 0.0)


@pytest.mark.parametrize("tls", [False, True])
def test_the_timeout_does_not_run_while_the_request_is_on_its_way(certs: Certs, tls: bool) -> None:
    """It takes longer than the timeout, and is answered."""
    given = certs if tls else None
    with Receiver(certs=given) as receiver, SlowLink(receiver.port, RATE) as link:
        assert sent(link, int(1.3 * RATE), given).status == 400


@pytest.mark.parametrize("size", [40_000, 16_000_000])
@pytest.mark.parametrize("tls", [False, True])
def test_a_request_that_is_too_slow_says_so_and_nothing_of_it_follows(
    certs: Certs, tls: bool, size: int
) -> None:
    """Whether all of it fits into the kernel's memory, or not."""
    given = certs if tls else None
    with Receiver(certs=given) as receiver, SlowLink(receiver.port, RATE) as link:
        found = sent(link, size, given)
        assert found.verdict is Verdict.TOO_LARGE
        assert found.went is not None
        assert found.went <= 2 * RATE + 10_000  # what the relay holds besides
        wait_for(lambda: not link.open, 30, "the end of the connection")
        assert link.passed < 3 * RATE
        assert not receiver.requests


@pytest.mark.parametrize("size", [100, 40_000])
def test_a_link_that_stops_is_no_slow_one(size: int) -> None:
    """It is sent again, the same: an outage says nothing of sizes."""
    with Receiver() as receiver, SlowLink(receiver.port, RATE) as link:
        stop = threading.Timer(0.0 if size == 100 else 0.3, setattr, (link, "rate", 0.001))
        stop.start()
        if size == 100:
            stop.join()
        found = sent(link, size)
        stop.join()
    assert (found.verdict, found.went) == (Verdict.RETRY, None)
