"""After an outage: in which order a backlog goes out, how fast, and what of it is left out, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.config import QueueConfig
from agent.send.order import PROBE
from agent.send.state import State
from agent.system.events import Event
from buffer.ledger import MAX_STRETCHES
from tests.support.net import wait_for
from tests.support.protocols import PROTOCOLS
from tests.support.receiver import Answer, Receiver
from tests.support.sending import FIRST_MS, STEP_MS, Host, destination, host
from tests.support.wire import Write

QUEUE = QueueConfig(batch_send_deadline=0.05, max_samples_per_send=20)
BACKLOG = 200
"""Ticks of two samples."""


def ticks_of(write: Write) -> list[int]:
    """The numbers of the ticks in a request, in the order of time."""
    times = {at for series in write.series for at, _ in series.samples}
    return sorted((at - FIRST_MS) // STEP_MS for at in times)


def order(receiver: Receiver) -> list[int]:
    return [
        tick
        for request in receiver.requests
        if request.answer.status // 100 == 2
        for tick in ticks_of(request.write)
        if tick >= 0
    ]


def everything(one: Host, receiver: Receiver) -> None:
    """Each sample has arrived once, whatever the order, and the ledger says so."""
    found: dict[object, dict[int, float]] = {}
    for labels, samples in receiver.received().items():
        if dict(labels)["__name__"] == PROBE:
            continue
        for at, value in samples:
            assert at not in found.setdefault(labels, {}), "it came twice"
            found[labels][at] = value
    assert found == one.expected
    assert (one.cursor.ledger.delivered, one.cursor.pending()) == (one.buffer.log.end, 0)
    assert one.cursor.ledger.ahead == ()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_oldest_first_is_the_order_of_time(tmp_path: Path, protocol: str) -> None:
    with Receiver() as receiver:
        to = destination(receiver.url, queue_config=QUEUE, protobuf_message=protocol)
        with host(tmp_path, to, ticks=BACKLOG) as one:
            one.settled()
            assert order(receiver) == list(range(BACKLOG))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_fresh_first_sends_the_newest_at_once_and_the_backlog_behind_it(
    tmp_path: Path, protocol: str
) -> None:
    with Receiver() as receiver:
        to = destination(
            receiver.url, queue_config=QUEUE, protobuf_message=protocol, drain_order="fresh_first"
        )
        with host(tmp_path, to, ticks=BACKLOG) as one:
            one.settled()
            everything(one, receiver)
            assert order(receiver)[0] == BACKLOG - 1
            assert order(receiver)[1:] == list(range(BACKLOG - 1))


def test_what_is_new_goes_before_the_rest_of_a_backlog(tmp_path: Path) -> None:
    """The backlog is slowed down by its bandwidth; what is collected meanwhile is not."""
    with Receiver() as receiver:
        to = destination(receiver.url, queue_config=QUEUE, drain_order="fresh_first", max_bandwidth=4_000)
        with host(tmp_path, to, ticks=BACKLOG) as one:
            wait_for(lambda: len(receiver.requests) >= 2, 10, "the first request of the backlog")
            one.collect()
            wait_for(lambda: BACKLOG in order(receiver), 1.0, "the new tick")
            assert one.cursor.pending() > BACKLOG  # most of the backlog waits
            assert len(one.cursor.ledger.ahead) == 1


def test_each_return_of_the_link_sends_the_newest_first(tmp_path: Path) -> None:
    with Receiver() as receiver:
        to = destination(receiver.url, queue_config=QUEUE, drain_order="fresh_first", max_bandwidth=4_000)
        with host(tmp_path, to, ticks=BACKLOG) as one:
            wait_for(lambda: len(receiver.requests) >= 2, 10, "the backlog to begin")
            receiver.stop()
            one.collect(50)
            wait_for(lambda: one.logged(Event.RETRY), 10, "the outage to be noticed")
            receiver.start()
            wait_for(lambda: BACKLOG + 49 in order(receiver), 10, "the newest tick")
            assert one.cursor.pending() > BACKLOG
    with Receiver(port=receiver.port) as second:
        second.default, second.answers = receiver.default, receiver.answers
        to = destination(second.url, queue_config=QUEUE, drain_order="fresh_first")
        with host(tmp_path, to) as one:  # after a restart it continues where it was
            one.settled()
            assert one.cursor.ledger.ahead == ()
            sent = [*order(receiver), *order(second)]
            assert sorted(set(sent)) == list(range(one.ticks))


def test_what_is_new_does_not_wait_for_the_bandwidth_of_the_backlog(tmp_path: Path) -> None:
    """However long a request of the backlog has to wait; also when nothing new was there as it was due."""
    with Receiver() as receiver:
        to = destination(receiver.url, queue_config=QUEUE, drain_order="fresh_first", max_bandwidth=50)
        with host(tmp_path, to, ticks=BACKLOG) as one:
            wait_for(
                lambda: len(receiver.requests) == 2, 30, "a request of the backlog, which costs 10 s or more"
            )
            wait_for(lambda: one.lane.state is not State.SENDING, 10, "its end")
            time.sleep(2 * QUEUE.batch_send_deadline)
            one.collect()
            wait_for(lambda: BACKLOG in order(receiver), 8.0, "the new tick")  # the backlog waits for 10 s
            assert len(receiver.requests) == 3


def test_an_outage_that_is_a_stretch_too_many_keeps_the_bandwidth(tmp_path: Path) -> None:
    """It cannot be left as a gap, so it goes out before the rest of the backlog, but it is backlog itself."""
    with Receiver() as receiver, capture_logs() as logs:
        to = destination(receiver.url, queue_config=QUEUE, drain_order="fresh_first", max_bandwidth=4_000)
        one = Host(tmp_path, to, logs)
        one.collect(2)
        for _ in range(MAX_STRETCHES):
            one.cursor.go_ahead(1)
            chunk = one.cursor.read_ahead(2)
            one.cursor.commit(chunk.start, chunk.end, chunk.samples, {})
            one.collect(2)
        one.collect(BACKLOG)
        assert len(one.cursor.ledger.ahead) == MAX_STRETCHES
        began = time.monotonic()
        one.lane.start()
        try:
            wait_for(lambda: one.ticks - 1 in order(receiver), 20, "the newest")
            took, stats = time.monotonic() - began, one.lane.stats
            assert stats.wire_bytes - stats.wire_bytes / stats.requests * 2 <= took * 4_000
        finally:
            one.lane.stop(2.0)
            one.buffer.close()


def no_window(width_ms: int) -> Callable[[Write], Answer | None]:
    """A receiver that takes nothing that is older than its newest by so much."""
    newest = [0]

    def refuse(write: Write) -> Answer | None:
        times = [at for series in write.series for at, _ in series.samples]
        if min(times) < newest[0] - width_ms:
            return Answer(400, body=b"out of order sample")
        newest[0] = max(newest[0], *times)
        return None

    return refuse


@pytest.mark.parametrize(("width_ms", "first"), [(10**9, "fresh_first"), (0, "oldest_first")])
def test_auto_asks_with_a_probe_and_does_what_the_receiver_takes(
    tmp_path: Path, width_ms: int, first: str
) -> None:
    with Receiver() as receiver:
        receiver.refuse = no_window(width_ms)
        to = destination(receiver.url, queue_config=QUEUE, drain_order="auto")
        now_ms = FIRST_MS + BACKLOG * STEP_MS
        with host(tmp_path, to, ticks=BACKLOG, wall=lambda: now_ms / 1000, labels={"hostname": "a"}) as one:
            one.settled()
        [told] = one.logged(Event.DRAIN_ORDER)
        assert told["order"] == first
        probes = [
            (dict(series.labels)["hostname"], series.samples[0][0])
            for request in receiver.requests
            for series in request.write.series
            if dict(series.labels)["__name__"] == PROBE
        ]
        assert probes[0] == ("a", now_ms)
        assert len(probes) == 2
        assert probes[1][1] < now_ms - (BACKLOG - 30) * STEP_MS  # the oldest that was pending then
        if first == "fresh_first":
            everything(one, receiver)
            assert BACKLOG - 1 in order(receiver)[:40]


def test_the_bandwidth_is_kept_while_a_backlog_drains(tmp_path: Path) -> None:
    with Receiver() as receiver:
        to = destination(receiver.url, queue_config=QUEUE, max_bandwidth=20_000)
        with host(tmp_path, to, ticks=BACKLOG) as one:
            began = time.monotonic()
            one.settled()
            took, stats = time.monotonic() - began, one.lane.stats
            assert len(receiver.requests) > 10
            largest = stats.wire_bytes / stats.requests * 2
            assert stats.wire_bytes - largest <= took * 20_000
            assert stats.wire_bytes > stats.bytes_sent  # heads and packets count


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_samples_over_the_age_limit_are_dropped_as_aged(tmp_path: Path, protocol: str) -> None:
    """Ten ticks are too old when their turn comes; no more become so on the way."""
    queue = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=20, sample_age_limit=3600.0)
    now_ms = FIRST_MS + 10 * STEP_MS + 3_600_000 - 1
    with Receiver() as receiver:
        to = destination(receiver.url, queue_config=queue, protobuf_message=protocol)
        with host(tmp_path, to, ticks=50, wall=lambda: now_ms / 1000) as one:
            one.settled()
        ledger = one.cursor.ledger
        assert (ledger.delivered, ledger.dropped) == (80, {"aged": 20})
        assert order(receiver) == list(range(10, 50))
        assert one.quarantine.items() == []


def test_what_ages_while_it_waits_is_left_out_of_the_next_try(tmp_path: Path) -> None:
    queue = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=20, sample_age_limit=3600.0)
    clock = [FIRST_MS / 1000]
    with Receiver([Answer(503)] * 2) as receiver:
        to = destination(receiver.url, queue_config=queue)
        with host(tmp_path, to, ticks=10, wall=lambda: clock[0]) as one:
            wait_for(lambda: one.logged(Event.RETRY), 10, "a failure")
            clock[0] += 3600 + 5 * STEP_MS / 1000 - 0.001
            one.settled()
        ledger = one.cursor.ledger
        assert (ledger.delivered, ledger.dropped) == (10, {"aged": 10})
        assert order(receiver) == list(range(5, 10))
