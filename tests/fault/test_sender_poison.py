"""A poisoned batch over real HTTP: the culprits are kept with the receiver's words, the rest arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs
from structlog.typing import EventDict

from agent.config import QueueConfig, RemoteWrite
from agent.sender.client import Client
from agent.sender.events import Event
from agent.sender.lane import Lane
from agent.sender.state import Rules
from buffer.buffer import Buffer
from buffer.model import Instant, Series, Tick
from buffer.quarantine import Item, Quarantine
from tests.support.net import wait_for
from tests.support.receiver import Answer, Receiver
from tests.support.wire import Labels, Write

BOOT = "0123456789abcdef0123456789abcdef"
FIRST_MS = 1_800_000_000_000
SERIES = tuple(Series(f"m{i:03}", (("hostname", "a"),)) for i in range(100))
TICKS = 20
Samples = dict[Labels, dict[int, float]]
Refuse = Callable[[Write], Answer | None]


def key(index: int) -> Labels:
    return (("__name__", f"m{index:03}"), ("hostname", "a"))


def refuses(*indices: int, status: int = 400) -> Refuse:
    """Refuse what has one of these series in it, naming the first of them."""
    bad = {key(i) for i in indices}

    def refuse(write: Write) -> Answer | None:
        names = sorted(dict(s.labels)["__name__"] for s in write.series if s.labels in bad)
        return Answer(status, body=f"label of {names[0]} is too long".encode()) if names else None

    return refuse


def older(than: int) -> Refuse:
    """Refuse what has a sample in it that is older than tick number `than`."""
    time = FIRST_MS + than * 10_000
    answer = Answer(400, body=b"too old sample\n")
    return lambda write: answer if any(at < time for s in write.series for at, _ in s.samples) else None


def by_labels(ticks: Iterator[Tick]) -> Samples:
    found: Samples = {}
    for tick in ticks:
        for series, value in zip(tick.series, tick.values, strict=True):
            labels = tuple(sorted([*series.labels, ("__name__", series.name)]))
            found.setdefault(labels, {})[tick.at.wall_ms] = value
    return found


class Host:
    """A buffer of TICKS ticks, and its lane; one after another on the same folder, as after a restart."""

    def __init__(self, folder: Path, url: str, logs: list[EventDict]) -> None:
        self.logs = logs
        self.buffer = Buffer(str(folder), ["there"])
        self.cursor = self.buffer.cursors["there"]
        self.quarantine = Quarantine(str(folder))
        if not self.buffer.log.end:
            self.collect(0)
        queue = QueueConfig(batch_send_deadline=0.02)
        self.lane = Lane(
            RemoteWrite(url=url, name="there", queue_config=queue),
            self.cursor,
            self.buffer,
            self.quarantine,
            Client(RemoteWrite(url=url, name="there", remote_timeout=5.0), "0"),
            structlog.get_logger(),
            rules=Rules(0.01, 0.05, 0.01, 0.05),
        )

    def collect(self, first: int) -> None:
        for n in range(first, first + TICKS):
            at, values = FIRST_MS + n * 10_000, [float(n * 1000 + i) for i in range(len(SERIES))]
            self.buffer.append([Tick(Instant(at, n * 10_000, BOOT), "all", SERIES, values)])

    def settled(self) -> None:
        wait_for(lambda: self.cursor.pending() == 0, 20, f"all to be settled ({self.lane.error})")

    def kept(self) -> Samples:
        items = self.quarantine.items()
        return by_labels(
            tick for item in items for entry in self.quarantine.entries(item.id) for tick in entry.ticks
        )

    def told(self, event: Event) -> list[EventDict]:
        return [entry for entry in self.logs if entry["event"] == event]


@contextmanager
def host(folder: Path, url: str) -> Iterator[Host]:
    with capture_logs() as logs:
        one = Host(folder, url, logs)
        one.lane.start()
        try:
            yield one
        finally:
            one.lane.stop(2.0)
            one.buffer.close()
        ledger = one.cursor.ledger
        assert one.buffer.log.end == ledger.delivered + sum(ledger.dropped.values()) + one.cursor.pending()
        assert "sender.failed" not in repr(logs)


def everything(ticks: int = TICKS) -> Samples:
    return {
        key(i): {FIRST_MS + n * 10_000: float(n * 1000 + i) for n in range(ticks)} for i in range(len(SERIES))
    }


def arrived(receiver: Receiver) -> Samples:
    """What was taken; repeated samples have the same value, and new ones are newer."""
    assert not receiver.broken
    found: Samples = {}
    for labels, samples in receiver.received().items():
        known = found.setdefault(labels, {})
        for at, value in samples:
            assert known.get(at, value) == value
            assert at in known or at > max(known, default=0)
            known[at] = value
    return found


def words(items: list[Item]) -> list[tuple[str, str, int, str]]:
    return [(item.id, item.reason, item.status, item.message) for item in items]


@pytest.mark.parametrize("status", [400, 409, 422, 418])
def test_one_series_of_a_hundred_costs_itself(tmp_path: Path, status: int) -> None:
    with Receiver() as receiver:
        receiver.refuse = refuses(37, status=status)
        with host(tmp_path, receiver.url) as one:
            one.settled()
        expected = everything()
        culprit = {key(37): expected.pop(key(37))}
        assert (arrived(receiver), one.kept()) == (expected, culprit)
        assert one.cursor.ledger.dropped == {"rejected": TICKS}
        said = f"HTTP {status}: label of m037 is too long"
        assert words(one.quarantine.items()) == [("there-00000000000000000000", "rejected", status, said)]
        [entry] = one.told(Event.REJECTED)
        assert (entry["samples"], entry["error"]) == (TICKS, said)
        assert len(receiver.requests) <= 1 + 2 * 7


def test_culprits_are_kept_each_with_its_own_words(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.refuse = refuses(3, 80)
        with host(tmp_path, receiver.url) as one:
            one.settled()
        expected = everything()
        culprits = {key(i): expected.pop(key(i)) for i in (3, 80)}
        assert (arrived(receiver), one.kept()) == (expected, culprits)
        assert [item.message for item in one.quarantine.items()] == [
            "HTTP 400: label of m003 is too long",
            "HTTP 400: label of m080 is too long",
        ]


def test_when_everything_is_refused_a_handful_of_requests_find_out(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.default = Answer(400, body=b"no")
        with host(tmp_path, receiver.url) as one:
            one.settled()
        assert len(receiver.requests) == 7
        assert one.kept() == everything()
        assert len(one.quarantine.items()) == 1
        assert one.cursor.ledger.dropped == {"rejected": TICKS * len(SERIES)}


@pytest.mark.parametrize("after", [0, 1, 2, 5, 9, 12])
def test_a_kill_in_the_middle_keeps_nothing_twice(tmp_path: Path, after: int) -> None:
    """The lane is left in the middle of a request, as a kill does, and another goes on with the same folder."""
    with Receiver() as receiver:
        first, answered = refuses(3, 80), list[Write]()

        def hangs(write: Write) -> Answer | None:
            answered.append(write)
            return Answer(hang=True) if len(answered) > after else first(write)

        receiver.refuse = hangs
        with host(tmp_path, receiver.url) as one:
            wait_for(lambda: len(answered) > after, 10, "the middle")
            one.lane.stop(0.3)
            assert one.cursor.position == 0
        receiver.refuse = first
        with host(tmp_path, receiver.url) as two:
            two.settled()
        expected = everything()
        culprits = {key(i): expected.pop(key(i)) for i in (3, 80)}
        assert (arrived(receiver), two.kept()) == (expected, culprits)
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
def test_trouble_in_the_middle_waits_and_goes_on(tmp_path: Path, trouble: Answer) -> None:
    with Receiver() as receiver:
        first, answered = refuses(3, 80), list[Write]()

        def troubled(write: Write) -> Answer | None:
            answered.append(write)
            return trouble if len(answered) in (2, 3, 6) and write.samples else first(write)

        receiver.refuse = troubled
        with host(tmp_path, receiver.url) as one:
            one.settled()
            assert one.lane.stats.samples_sent >= 98 * TICKS
        expected = everything()
        culprits = {key(i): expected.pop(key(i)) for i in (3, 80)}
        assert (arrived(receiver), one.kept()) == (expected, culprits)


def test_what_is_too_old_is_aged_and_the_rest_arrives(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.refuse = older(than=8)
        with host(tmp_path, receiver.url) as one:
            one.settled()
        got, kept, expected = arrived(receiver), one.kept(), everything()
        assert {labels: kept[labels] | got.get(labels, {}) for labels in kept} == expected
        delivered = sum(map(len, got.values()))
        assert delivered >= 12 * len(SERIES) - 2 * TICKS
        assert one.cursor.ledger.delivered == delivered
        assert one.cursor.ledger.dropped == {"aged": TICKS * len(SERIES) - delivered}
        assert {item.reason for item in one.quarantine.items()} == {"aged"}
        [entry] = one.told(Event.AGED)
        assert entry["log_level"] == "error"
        assert "storage.tsdb.out_of_order_time_window" in entry["do"]
        assert not one.told(Event.REJECTED)


def test_a_batch_that_is_too_old_as_a_whole_costs_one_small_request_more(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.refuse = older(than=1000)
        with host(tmp_path, receiver.url) as one:
            one.settled()
        assert [request.write.samples for request in receiver.requests] == [TICKS * len(SERIES), 1]
        assert one.kept() == everything()
