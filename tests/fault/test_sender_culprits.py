"""A poisoned batch over real HTTP: the culprits are kept with the receiver's words, the rest arrives."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from agent.config import QueueConfig
from agent.system.events import Event
from buffer.model import Series
from buffer.quarantine import Item
from tests.support.net import wait_for
from tests.support.protocols import PROTOCOLS
from tests.support.receiver import Answer, Receiver
from tests.support.sending import (
    FIRST_MS,
    STEP_MS,
    Host,
    Samples,
    arrived,
    count,
    destination,
    host,
    labels_of,
)
from tests.support.wire import Write

pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)

SERIES = tuple(Series(f"m{i:03}", (("hostname", "a"),)) for i in range(100))
TICKS = 20
Refuse = Callable[[Write], Answer | None]


def running(folder: Path, url: str, protocol: str) -> AbstractContextManager[Host]:
    """A host with so many ticks of so many series, all in one batch."""
    queue = QueueConfig(batch_send_deadline=0.02)
    return host(
        folder, destination(url, queue_config=queue, protobuf_message=protocol), series=SERIES, ticks=TICKS
    )


def only(samples: Samples, *indices: int) -> Samples:
    """The samples of these series."""
    return {labels_of(SERIES[i]): samples[labels_of(SERIES[i])] for i in indices}


def refuses(*indices: int, status: int = 400) -> Refuse:
    """Refuse what has one of these series in it, naming the first of them."""
    bad = {labels_of(SERIES[i]) for i in indices}

    def refuse(write: Write) -> Answer | None:
        names = sorted(dict(s.labels)["__name__"] for s in write.series if s.labels in bad)
        return Answer(status, body=f"label of {names[0]} is too long".encode()) if names else None

    return refuse


def older(than: int) -> Refuse:
    """Refuse what has a sample in it that is older than tick number `than`."""
    time = FIRST_MS + than * STEP_MS
    answer = Answer(400, body=b"too old sample\n")
    return lambda write: answer if any(at < time for s in write.series for at, _ in s.samples) else None


def words(items: list[Item]) -> list[tuple[str, str, int, str]]:
    return [(item.id, item.reason, item.code, item.message) for item in items]


def test_a_receiver_that_refuses_a_sample_for_now_as_well_is_held_and_nothing_is_lost(
    tmp_path: Path, protocol: str
) -> None:
    limit = Answer(400, body=b"per-user series limit of 150000 exceeded (err-mimir-max-series-per-user)\n")
    with Receiver() as receiver:
        receiver.to_fresh, receiver.refuse = limit, lambda _: limit
        with running(tmp_path, receiver.url, protocol) as one:
            assert one.held().startswith("HTTP 400: per-user series limit of 150000 exceeded")
            asked = len(receiver.checks)
            wait_for(lambda: len(receiver.checks) > asked + 4, 20, "more probes")
            assert "held" in {one.cursor.ledger.state, one.lane.state}
            assert (one.cursor.ledger.delivered, one.cursor.ledger.dropped, one.kept()) == (0, {}, {})
            # A sample of the host, sent ahead, would come out of order.
            receiver.refuse = lambda write: limit if write.samples == 1 else None
            receiver.to_fresh = None
            one.settled()
            assert one.cursor.ledger.dropped == {}
            one.accounted(receiver)


@pytest.mark.parametrize("status", [400, 409, 422])
def test_one_series_of_a_hundred_costs_itself(tmp_path: Path, status: int, protocol: str) -> None:
    with Receiver() as receiver:
        receiver.refuse = refuses(37, status=status)
        with running(tmp_path, receiver.url, protocol) as one:
            one.settled()
            one.accounted(receiver)
        assert one.kept() == only(one.expected, 37)
        assert one.cursor.ledger.dropped == {"rejected": TICKS}
        said = f"HTTP {status}: label of m037 is too long"
        assert words(one.quarantine.items()) == [("there-00000000000000000000", "rejected", status, said)]
        [entry] = one.logged(Event.REJECTED)
        assert (entry["samples"], entry["error"]) == (TICKS, said)
        assert len(receiver.requests) <= 1 + 2 * 7


def test_culprits_are_kept_each_with_its_own_words(tmp_path: Path, protocol: str) -> None:
    with Receiver() as receiver:
        receiver.refuse = refuses(3, 80)
        with running(tmp_path, receiver.url, protocol) as one:
            one.settled()
            one.accounted(receiver)
        assert one.kept() == only(one.expected, 3, 80)
        assert [item.message for item in one.quarantine.items()] == [
            "HTTP 400: label of m003 is too long",
            "HTTP 400: label of m080 is too long",
        ]


def test_when_everything_is_refused_a_handful_of_requests_find_out(tmp_path: Path, protocol: str) -> None:
    with Receiver() as receiver:
        receiver.default = Answer(400, body=b"no")
        with running(tmp_path, receiver.url, protocol) as one:
            one.settled()
            one.accounted(receiver)
        assert len(receiver.requests) == 7
        assert one.kept() == one.expected
        assert len(one.quarantine.items()) == 1
        assert one.cursor.ledger.dropped == {"rejected": TICKS * len(SERIES)}


@pytest.mark.parametrize("after", [0, 1, 2, 5, 9, 12])
def test_a_kill_in_the_middle_keeps_nothing_twice(tmp_path: Path, after: int, protocol: str) -> None:
    """The lane stops in the middle of a request, as by a kill, and another one continues with the same folder."""
    with Receiver() as receiver:
        first, answered = refuses(3, 80), list[Write]()

        def hangs(write: Write) -> Answer | None:
            answered.append(write)
            return Answer(hang=True) if len(answered) > after else first(write)

        receiver.refuse = hangs
        with running(tmp_path, receiver.url, protocol) as one:
            wait_for(lambda: len(answered) > after, 10, "the middle")
            one.lane.stop(0.3)
            assert one.cursor.position == 0
        receiver.refuse = first
        with running(tmp_path, receiver.url, protocol) as two:
            two.settled()
            two.accounted(receiver, repeated=True)
        assert two.kept() == only(two.expected, 3, 80)
        assert [item.samples for item in two.quarantine.items()] == [TICKS, TICKS]
        assert (two.cursor.ledger.delivered, two.cursor.ledger.dropped) == (
            98 * TICKS,
            {"rejected": 2 * TICKS},
        )


@pytest.mark.parametrize(
    "trouble",
    [Answer(503), Answer(429, headers={"Retry-After": "0"}), Answer(close=True), Answer(401), Answer(413)],
    ids=["503", "429", "cut", "401", "413"],
)
def test_trouble_in_the_middle_waits_and_continues(tmp_path: Path, trouble: Answer, protocol: str) -> None:
    with Receiver() as receiver:
        first, answered = refuses(3, 80), list[Write]()

        def troubled(write: Write) -> Answer | None:
            answered.append(write)
            return trouble if len(answered) in (2, 3, 6) and write.samples else first(write)

        receiver.refuse = troubled
        with running(tmp_path, receiver.url, protocol) as one:
            one.settled()
            # A batch that is too large is sent again, in halves.
            one.accounted(receiver, repeated=trouble.status == 413)
            assert one.cursor.ledger.delivered >= 98 * TICKS
        assert one.kept() == only(one.expected, 3, 80)


def test_what_is_too_old_is_aged_and_the_rest_arrives(tmp_path: Path, protocol: str) -> None:
    with Receiver() as receiver:
        receiver.refuse = older(than=8)
        with running(tmp_path, receiver.url, protocol) as one:
            one.settled()
            one.accounted(receiver)
        delivered = count(arrived(receiver))
        assert delivered >= 12 * len(SERIES) - 2 * TICKS
        assert one.cursor.ledger.dropped == {"aged": TICKS * len(SERIES) - delivered}
        assert {item.reason for item in one.quarantine.items()} == {"aged"}
        [entry] = one.logged(Event.AGED)
        assert entry["log_level"] == "error"
        assert "storage.tsdb.out_of_order_time_window" in entry["do"]
        assert not one.logged(Event.REJECTED)


def test_a_batch_that_is_too_old_as_a_whole_costs_one_small_request_more(
    tmp_path: Path, protocol: str
) -> None:
    with Receiver() as receiver:
        receiver.refuse = older(than=1000)
        with running(tmp_path, receiver.url, protocol) as one:
            one.settled()
            one.accounted(receiver)
        assert [request.write.samples for request in receiver.requests] == [TICKS * len(SERIES), 1]
        assert one.kept() == one.expected
