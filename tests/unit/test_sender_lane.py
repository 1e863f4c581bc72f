"""The lane against a model receiver, on a clock that moves only when the lane waits.

What the real sockets add is in tests/fault/test_sender_*.py.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from structlog.typing import EventDict

from agent.config import MetadataConfig, QueueConfig, RemoteWrite
from agent.destinations.remote_write.encode import Encoded
from agent.destinations.remote_write.outcome import Outcome, Verdict
from agent.destinations.remote_write.protocol import Protocol
from agent.send.lane import LOOK_EVERY, Lane, stop_all
from agent.send.state import Rules, State
from agent.system.events import Event
from buffer.model import Chunk, Instant, Series, Tick
from buffer.quarantine import Item
from tests.support import wire
from tests.support.net import wait_for
from tests.support.protocols import EMPTY

SERIES = tuple(Series(name, (("hostname", "a"),)) for name in ("cpu", "memory"))
LATER = tuple(Series(name, (("hostname", "a"),)) for name in ("cpu", "disk", "memory"))
QUEUE = QueueConfig(max_samples_per_send=10, batch_send_deadline=30.0, min_backoff=1.0, max_backoff=300.0)

DELIVERED = Outcome(Verdict.DELIVERED, 204)
RETRY = Outcome(Verdict.RETRY, 503, "HTTP 503")
NO_ANSWER = Outcome(Verdict.RETRY, 0, "no connection")
HELD = Outcome(Verdict.HELD, 401, "HTTP 401")
TOO_LARGE = Outcome(Verdict.TOO_LARGE, 413, "HTTP 413")
WORDS = "HTTP 400: label value too long"
REJECTED = Outcome(Verdict.REJECTED, 400, WORDS)
ALL_REJECTED = [REJECTED] * 3  # the batch, and each of its two series
AGED = Outcome(Verdict.REJECTED, 400, "HTTP 400: too old sample")


class Clock:
    """A clock, and the event that a lane waits for: waiting moves the one and sets the other at its end."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.stopped = False

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += max(0.0, seconds)
        return self.stopped

    def is_set(self) -> bool:
        return self.stopped


class Memory:
    """A buffer and its only cursor: a list of records, each the ticks of one instant."""

    def __init__(self, clock: Clock) -> None:
        self.records: list[list[Tick]] = []
        self.position = 0
        self.delivered = 0
        self.dropped: dict[str, int] = {}
        self.notes: list[tuple[str, str | None]] = []
        self.waits: list[float] = []
        self.broken: OSError | None = None
        self._clock = clock

    def append(self, *ticks: Tick) -> None:
        self.records.append(list(ticks))

    @property
    def end(self) -> int:
        return sum(_size(record) for record in self.records)

    ahead = None

    def pending(self) -> int:
        return self.end - self.position

    def pending_ahead(self) -> int:
        return self.pending()

    def go_ahead(self, samples: int) -> bool:
        raise AssertionError("everything goes in its order")

    def read_ahead(self, max_samples: int) -> Chunk:
        raise AssertionError("everything goes in its order")

    def read(self, max_samples: int) -> Chunk:
        at, ticks, samples = 0, list[Tick](), 0
        for record in self.records:
            if at >= self.position:
                if ticks and samples + _size(record) > max_samples:
                    break
                ticks += record
                samples += _size(record)
            at += _size(record)
        return Chunk(ticks, self.position, self.position + samples, samples)

    def commit(self, start: int, end: int, delivered: int, dropped: Mapping[str, int]) -> None:
        assert end > start == self.position
        assert delivered + sum(dropped.values()) == end - self.position
        self.position = end
        self.delivered += delivered
        for reason, count in dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count
        if self.broken:
            raise self.broken

    def note(self, state: str, error: str | None) -> None:
        if self.notes[-1:] != [(state, error)]:
            self.notes.append((state, error))
        if self.broken:
            raise self.broken

    def wait(self, position: int, timeout: float) -> None:
        assert self.end <= position, "the lane waits for what is there"
        self.waits.append(timeout)
        self._clock.now += timeout

    def wake(self) -> None:
        pass


def _size(record: Sequence[Tick]) -> int:
    return sum(len(tick.values) for tick in record)


class Shelf:
    """A quarantine that takes everything, or fails as it is told to, or has too little room."""

    def __init__(self) -> None:
        self.items: list[tuple[int, list[Tick], str, int, str]] = []
        self.broken: Exception | None = None
        self.gone: list[Item] = []

    def put(
        self,
        destination: str,
        position: int,
        ticks: Sequence[Tick],
        reason: str,
        status: int,
        message: str,
        now_ms: int,
    ) -> Sequence[Item]:
        assert destination == "there" and now_ms > 0
        if self.broken:
            raise self.broken
        self.items.append((position, list(ticks), reason, status, message))
        return self.gone

    def samples(self) -> dict[wire.Labels, dict[int, float]]:
        return by_labels(tick for _, ticks, *_ in self.items for tick in ticks)


class Script:
    """A receiver that answers as it is told, and keeps what it answered 2xx (`lost`: or would have)."""

    def __init__(self, outcomes: Sequence[Outcome] = (), lost: bool = False) -> None:
        self.outcomes = list(outcomes)
        self.refuse: Callable[[wire.Write], Outcome | None] = lambda _: None
        self.lost = lost
        self.bodies: list[bytes] = []
        self.attempts: list[int] = []
        self.within: list[float | None] = []
        self.stored: dict[wire.Labels, dict[int, float]] = {}
        self.closed = False
        self.changes: list[bool] = []

    def changed(self) -> bool:
        return self.changes.pop(0) if self.changes else False

    def wire_bytes(self) -> int:
        return sum(map(len, self.bodies))

    def post(self, body: bytes, speaking: Protocol, attempt: int = 0, within: float | None = None) -> Outcome:
        assert speaking is Protocol.V1
        self.bodies.append(body)
        self.attempts.append(attempt)
        self.within.append(within)
        outcome = self.outcomes.pop(0) if self.outcomes else self.refuse(wire.decode(body)) or DELIVERED
        if outcome.verdict is Verdict.DELIVERED or (self.lost and outcome is NO_ANSWER):
            for labels, samples, *_ in wire.decode(body).series:
                known = self.stored.setdefault(labels, {})
                for at, value in samples:
                    if at not in known:
                        assert at > max(known, default=-1), "older than what this series has"
                    assert known.setdefault(at, value) == value, "another value for the same instant"
        return outcome

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def destination(queue: QueueConfig = QUEUE) -> RemoteWrite:
    return RemoteWrite(
        url="http://127.0.0.1/",
        name="there",
        queue_config=queue,
        protobuf_message="prometheus.WriteRequest",
        metadata_config=MetadataConfig(send=False),
    )


class Rig:
    """A lane on a memory buffer, driven step by step."""

    def __init__(
        self, outcomes: Sequence[Outcome] = (), queue: QueueConfig = QUEUE, *, lost: bool = False
    ) -> None:
        self.clock = Clock()
        self.memory = Memory(self.clock)
        self.shelf = Shelf()
        self.script = Script(outcomes, lost)
        self.lane = Lane(
            destination(queue),
            self.memory,
            self.memory,
            self.shelf,
            self.script,
            structlog.get_logger(),
            clock=self.clock,
            wall=lambda: 1.0,
            random=lambda: 0.5,
        )
        self.lane._stopping = self.clock  # type: ignore[assignment]
        self.lane._due = self.clock.now
        self.ticks = 0

    def collect(self, count: int = 1, series: tuple[Series, ...] = SERIES) -> None:
        for _ in range(count):
            self.ticks += 1
            at = Instant(self.ticks * 10_000, 0, "boot")
            self.memory.append(
                Tick(at, "all", series, [float(self.ticks * 10 + i) for i in range(len(series))])
            )

    def step(self) -> None:
        self.lane._step()

    def drain(self) -> None:
        for _ in range(1000):
            if not self.memory.pending():
                return
            self.step()
        raise AssertionError("the lane does not get on")

    def everything(self) -> dict[wire.Labels, dict[int, float]]:
        return by_labels(tick for record in self.memory.records for tick in record)


def by_labels(ticks: Iterable[Tick]) -> dict[wire.Labels, dict[int, float]]:
    found: dict[wire.Labels, dict[int, float]] = {}
    for tick in ticks:
        for (name, labels, *_), value in zip(tick.series, tick.values, strict=True):
            key = tuple(sorted([("__name__", name), *labels]))
            found.setdefault(key, {})[tick.at.wall_ms] = value
    return found


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from([DELIVERED, RETRY, NO_ANSWER, HELD, TOO_LARGE]), max_size=25),
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from([SERIES, LATER])), min_size=1, max_size=5),
    st.booleans(),
)
def test_whatever_goes_wrong_everything_arrives_once_and_in_order(
    outcomes: list[Outcome], appends: list[tuple[int, tuple[Series, ...]]], lost: bool
) -> None:
    rig = Rig(outcomes, lost=lost)
    for count, series in appends:
        rig.collect(count, series)
        rig.step()
    rig.drain()
    assert rig.script.stored == rig.everything()
    assert (rig.memory.delivered, rig.memory.dropped) == (rig.memory.end, {})
    assert rig.lane.stats.samples_sent == rig.memory.end


@given(st.lists(st.sampled_from([DELIVERED, RETRY, REJECTED, HELD]), max_size=20))
@settings(deadline=None)
def test_what_is_refused_is_in_the_ledger_and_nothing_else_is_missing(outcomes: list[Outcome]) -> None:
    rig = Rig(outcomes)
    rig.collect(40)
    rig.drain()
    stored = sum(len(samples) for samples in rig.script.stored.values())
    assert rig.memory.delivered == stored
    kept = rig.shelf.samples()
    assert sum(map(len, kept.values())) == rig.memory.dropped.get("rejected", 0) == 80 - stored
    for labels, samples in kept.items():
        assert samples.keys().isdisjoint(rig.script.stored.get(labels, {}))


def test_the_first_batch_goes_out_at_once_and_then_one_in_each_deadline() -> None:
    rig = Rig()
    rig.collect()
    rig.step()
    assert len(rig.script.bodies) == 1
    sent_at = rig.clock.now
    rig.collect(3)
    rig.step()
    assert len(rig.script.bodies) == 1
    assert rig.clock.now == sent_at + 30.0  # it waited, and for nothing less than a full batch
    rig.step()
    assert [wire.decode(body).samples for body in rig.script.bodies] == [2, 6]


def test_a_full_batch_waits_for_nothing() -> None:
    rig = Rig()
    rig.collect(12)
    while len(rig.script.bodies) < 2:
        rig.step()
    assert (rig.clock.now, rig.memory.waits) == (1000.0, [])
    assert [wire.decode(body).samples for body in rig.script.bodies] == [10, 10]


def test_a_batch_merges_the_ticks_of_each_series() -> None:
    rig = Rig()
    rig.collect(5)
    rig.step()
    [body] = rig.script.bodies
    assert sorted(len(series.samples) for series in wire.decode(body).series) == [5, 5]


def test_an_idle_lane_waits_for_the_next_sample_without_polling() -> None:
    rig = Rig()
    rig.step()
    assert rig.memory.waits == [3600.0]
    assert rig.memory.notes == [("idle", None)]


def test_a_retry_repeats_the_very_same_request_and_counts() -> None:
    rig = Rig([RETRY, NO_ANSWER, RETRY])
    rig.collect(2)
    rig.step()
    rig.collect(3)  # newer samples do not join a batch that is on its way
    rig.drain()
    assert len({*rig.script.bodies[:4]}) == 1
    assert rig.script.attempts == [0, 1, 2, 3, 0]
    stats = rig.lane.stats
    assert (stats.requests, stats.retries, stats.consecutive_failures, stats.last_status) == (5, 3, 0, 204)
    assert stats.bytes_sent == sum(map(len, rig.script.bodies))


def test_after_an_outage_what_came_in_meanwhile_goes_out_at_once() -> None:
    rig = Rig([NO_ANSWER])
    rig.collect(5)
    rig.step()
    rig.collect(1)
    rig.drain()
    assert rig.clock.now == 1001.5  # the wait after the failure, and nothing else
    assert len(rig.script.bodies) == 3


def test_a_held_destination_is_probed_and_resumes_by_itself() -> None:
    rig = Rig([HELD, HELD, NO_ANSWER, DELIVERED])
    rig.collect(5)
    with capture_logs() as logs:
        rig.step()
        assert rig.memory.notes[-1] == ("held", "HTTP 401")
        rig.step()
        rig.step()
        assert rig.lane.state is State.HELD
        assert rig.memory.delivered == 0
        rig.drain()
    assert rig.script.bodies[1:4] == [EMPTY] * 3
    assert rig.script.bodies[4] == rig.script.bodies[0]
    assert rig.clock.now - 1000.0 == 45 + 75 + (30 + 30 * 7) / 2 + 15
    assert told(logs) == [
        ("warning", Event.HELD, "HTTP 401"),
        ("debug", Event.HELD, "HTTP 401"),
        ("warning", Event.HELD, "no connection"),
        ("debug", Event.DELIVERED, None),
        ("info", Event.RESUMED, None),
    ]
    assert rig.lane.error is None


def test_a_held_destination_is_probed_as_soon_as_a_file_has_changed() -> None:
    rig = Rig([HELD, HELD, DELIVERED])
    rig.collect(1)
    rig.step()
    rig.script.changes = [False, False, True]
    before = rig.clock.now
    rig.step()
    assert rig.clock.now - before == 3 * LOOK_EVERY
    assert rig.lane.state is State.HELD  # it was no better
    before = rig.clock.now
    rig.step()
    assert rig.clock.now - before == 75.0  # and is asked ever more rarely, as before
    rig.drain()
    assert rig.script.bodies[1:3] == [EMPTY] * 2


def test_a_changed_file_does_not_shorten_the_wait_for_a_receiver_in_trouble() -> None:
    rig = Rig([RETRY])
    rig.script.changes = [True] * 100
    rig.collect(1)
    rig.step()
    before = rig.clock.now
    rig.step()
    assert rig.clock.now - before == 1.5
    assert len(rig.script.changes) == 100


def test_a_receiver_that_takes_only_empty_writes_is_asked_ever_more_rarely() -> None:
    rig = Rig([HELD, DELIVERED] * 8)
    rig.collect(1)
    waits = []
    for _ in range(8):
        rig.step()  # the batch
        before = rig.clock.now
        rig.step()  # the probe
        waits.append(rig.clock.now - before)
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (45.0, 165.0)
    assert rig.memory.delivered == 0


def test_too_large_a_batch_is_halved_and_stays_so() -> None:
    rig = Rig([TOO_LARGE, TOO_LARGE])
    rig.collect(10)
    with capture_logs() as logs:
        rig.drain()
    assert [wire.decode(body).samples for body in rig.script.bodies] == [10, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    assert [(e["log_level"], e["limit"]) for e in logs if e["event"] == Event.BATCH_HALVED] == [
        ("info", 5),
        ("info", 2),
    ]


def test_a_single_record_that_is_too_large_is_held_not_lost() -> None:
    rig = Rig([TOO_LARGE, TOO_LARGE])
    rig.collect(1)
    rig.step()
    rig.clock.now += 30
    rig.step()
    assert (rig.lane.state, rig.lane.error) == (State.HELD, "HTTP 413")
    rig.drain()
    assert (rig.memory.delivered, rig.memory.dropped) == (2, {})


def test_a_refused_batch_is_told_with_the_receivers_words() -> None:
    rig = Rig(ALL_REJECTED)
    rig.collect(2)
    with capture_logs() as logs:
        rig.drain()
    assert told(logs) == [
        *[("debug", Event.REFUSED, WORDS)] * 3,
        ("error", Event.REJECTED, WORDS),
        ("info", Event.QUARANTINED, WORDS),
    ]
    assert [entry["samples"] for entry in logs] == [4, 2, 2, 4, 4]
    assert (rig.memory.position, rig.memory.dropped) == (4, {"rejected": 4})
    assert rig.lane.error == WORDS


def test_a_refused_batch_is_in_the_quarantine_before_the_cursor_moves() -> None:
    rig = Rig([*ALL_REJECTED, DELIVERED, *ALL_REJECTED])
    rig.collect(6)
    commit, kept_before = rig.memory.commit, []

    def look(start: int, end: int, delivered: int, dropped: Mapping[str, int]) -> None:
        kept_before.append(len(rig.shelf.items))
        commit(start, end, delivered, dropped)

    rig.memory.commit = look  # type: ignore[method-assign]
    rig.collect(6)
    rig.drain()
    assert rig.shelf.items == [
        (0, [tick for record in rig.memory.records[:5] for tick in record], "rejected", 400, WORDS),
        (20, [tick for record in rig.memory.records[10:] for tick in record], "rejected", 400, WORDS),
    ]
    assert kept_before == [1, 1, 2]


def test_what_was_evicted_on_its_way_is_kept_as_it_was_refused() -> None:
    rig = Rig([RETRY, *ALL_REJECTED])
    rig.collect(6)
    rig.step()
    rig.memory.position = 4  # the buffer was full, and dropped its oldest
    rig.memory.dropped["evicted"] = 4

    def tolerant(start: int, end: int, delivered: int, dropped: Mapping[str, int]) -> None:
        rig.memory.position = end  # the true cursor counts what was evicted once; see its own tests

    rig.memory.commit = tolerant  # type: ignore[method-assign]
    for _ in range(3):
        rig.step()
    [(position, ticks, *_)] = rig.shelf.items
    assert position == 0
    assert [tick.at.wall_ms for tick in ticks] == [10_000, 20_000, 30_000, 40_000, 50_000]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("too large")])
def test_a_refused_batch_that_cannot_be_kept_is_told_and_settled_all_the_same(error: Exception) -> None:
    rig = Rig(ALL_REJECTED)
    rig.collect(5)
    rig.shelf.broken = error
    with capture_logs() as logs:
        rig.drain()
    assert (rig.memory.position, rig.memory.dropped) == (10, {"rejected": 10})
    failed = [entry for entry in logs if entry["event"] == Event.QUARANTINE_FAILED]
    assert [(e["log_level"], e["samples"], e["error"]) for e in failed] == [("error", 10, str(error))]


def test_what_had_to_go_for_a_refused_batch_is_told() -> None:
    rig = Rig(ALL_REJECTED)
    rig.collect(5)
    rig.shelf.gone = [Item("other-" + "0" * 20, "other", 1, "rejected", 400, "no", 7, 100, 1, 2)]
    with capture_logs() as logs:
        rig.drain()
    [gone] = [entry for entry in logs if entry["event"] == Event.QUARANTINE_FULL]
    assert gone == {
        "event": Event.QUARANTINE_FULL,
        "log_level": "warning",
        "destination": "other",
        "item": "other-" + "0" * 20,
        "samples": 7,
    }


def test_a_lane_that_was_left_behind_puts_nothing_into_the_quarantine() -> None:
    rig = Rig(ALL_REJECTED)
    rig.collect(5)
    rig.lane._settlement.leave()
    for _ in range(3):
        rig.step()
    assert len(rig.script.bodies) == 3
    assert (rig.shelf.items, rig.memory.position) == ([], 0)


WIDE = tuple(Series(f"m{i:02}", (("hostname", "a"),)) for i in range(16))
BIG = QueueConfig(max_samples_per_send=1000, batch_send_deadline=30.0, min_backoff=1.0, max_backoff=300.0)


def label(index: int) -> wire.Labels:
    return (("__name__", f"m{index:02}"), ("hostname", "a"))


def refuses(*indices: int) -> Callable[[wire.Write], Outcome | None]:
    bad = {label(i) for i in indices}

    def refuse(write: wire.Write) -> Outcome | None:
        found = min((series.labels for series in write.series if series.labels in bad), default=None)
        if found is None:
            return None
        return Outcome(Verdict.REJECTED, 400, f"HTTP 400: no {dict(found)['__name__']}")

    return refuse


def older(than: int) -> Callable[[wire.Write], Outcome | None]:
    return lambda write: AGED if any(at < than for s in write.series for at, _ in s.samples) else None


def poisoned(refuse: Callable[[wire.Write], Outcome | None], outcomes: Sequence[Outcome] = ()) -> Rig:
    rig = Rig(outcomes, BIG)
    rig.script.refuse = refuse
    rig.collect(20, WIDE)
    return rig


def test_a_poisoned_series_costs_itself() -> None:
    rig = poisoned(refuses(5))
    rig.drain()
    everything = rig.everything()
    culprit = {label(5): everything.pop(label(5))}
    assert (rig.script.stored, rig.shelf.samples()) == (everything, culprit)
    assert (rig.memory.delivered, rig.memory.dropped) == (300, {"rejected": 20})
    assert [(position, *rest) for position, _, *rest in rig.shelf.items] == [
        (0, "rejected", 400, "HTTP 400: no m05")
    ]
    assert len(rig.script.bodies) <= 1 + 2 * 4
    assert rig.lane.error == "HTTP 400: no m05"
    assert rig.lane.stats.samples_sent == 300


def test_culprits_with_words_of_their_own_are_items_of_their_own() -> None:
    rig = poisoned(refuses(2, 11))
    rig.drain()
    assert [(position, message) for position, *_, message in rig.shelf.items] == [
        (0, "HTTP 400: no m02"),
        (1, "HTTP 400: no m11"),
    ]
    assert (rig.memory.delivered, rig.memory.dropped) == (280, {"rejected": 40})


def test_a_series_that_is_refused_again_and_again_costs_two_requests_each_time() -> None:
    rig = poisoned(refuses(5))
    rig.drain()
    before = len(rig.script.bodies)
    rig.collect(20, WIDE)
    rig.drain()
    assert len(rig.script.bodies) - before == 3
    assert rig.memory.dropped == {"rejected": 40}


@pytest.mark.parametrize("after", range(1, 10))
def test_a_kill_in_the_middle_sends_it_again_and_keeps_nothing_twice(after: int) -> None:
    rig = poisoned(refuses(2, 11))
    for _ in range(after):
        rig.step()
    assert rig.memory.position == 0  # nothing is settled before all is
    again = Rig(queue=BIG)
    again.memory.records, again.script.refuse = rig.memory.records, refuses(2, 11)
    again.script.stored = rig.script.stored  # what it asserts: the same values, and nothing out of order
    again.drain()
    rig.drain()
    assert again.shelf.items == rig.shelf.items
    assert (again.memory.delivered, again.memory.dropped) == (280, {"rejected": 40})


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([RETRY, NO_ANSWER, HELD, TOO_LARGE]), max_size=4),
    st.integers(1, 12),
    st.sets(st.integers(0, 15), max_size=2),
)
def test_trouble_in_the_middle_waits_and_goes_on(trouble: list[Outcome], after: int, bad: set[int]) -> None:
    rig = poisoned(refuses(*bad))
    with capture_logs():
        for _ in range(after):
            if rig.memory.pending():
                rig.step()
        rig.script.outcomes = list(trouble)
        rig.collect(3, WIDE)
        rig.drain()
    everything = rig.everything()
    culprits = {label(i): everything.pop(label(i)) for i in bad}
    assert (rig.script.stored, rig.shelf.samples()) == (everything, culprits)
    assert rig.memory.delivered == rig.memory.end - rig.memory.dropped.get("rejected", 0)


def test_what_is_too_old_is_aged_and_the_rest_is_delivered() -> None:
    rig = poisoned(older(than=110_000))  # ten ticks of twenty
    with capture_logs() as logs:
        rig.drain()
    new = {
        labels: {at: v for at, v in of.items() if at >= 110_000} for labels, of in rig.everything().items()
    }
    for labels, samples in rig.script.stored.items():
        assert samples.items() <= new[labels].items()
    assert rig.memory.delivered == sum(map(len, rig.script.stored.values())) >= 160 - 2 * 20
    assert rig.memory.dropped == {"aged": 320 - rig.memory.delivered}
    kept, stored = rig.shelf.samples(), rig.script.stored
    assert {labels: kept[labels] | stored.get(labels, {}) for labels in kept} == rig.everything()
    assert {reason for _, _, reason, *_ in rig.shelf.items} == {"aged"}
    [aged] = [entry for entry in logs if entry["event"] == Event.AGED]
    assert aged["log_level"] == "error"
    assert "storage.tsdb.out_of_order_time_window" in aged["do"]


def test_a_row_of_batches_that_are_too_old_is_told_aloud_once_and_costs_little() -> None:
    rig = Rig(queue=QueueConfig(max_samples_per_send=160))
    rig.script.refuse = older(than=310_000)
    rig.collect(30, WIDE)
    with capture_logs() as logs:
        rig.drain()
    told_levels = [entry["log_level"] for entry in logs if entry["event"] == Event.AGED]
    assert told_levels == ["error", "debug", "debug"]
    assert len(rig.script.bodies) == 2 * 3
    assert rig.memory.dropped == {"aged": 480}
    rig.collect(10, WIDE)
    rig.drain()
    rig.script.refuse = older(than=10_000_000)
    rig.collect(10, WIDE)
    with capture_logs() as logs:
        rig.drain()
    assert [entry["log_level"] for entry in logs if entry["event"] == Event.AGED] == ["error"]


def test_a_defect_in_the_middle_begins_the_batch_anew() -> None:
    rig = poisoned(refuses(5))
    rig.step()
    rig.step()
    encode, calls = rig.lane._composer._encoder.encode, list[None]()

    def broken(ticks: Iterable[Tick], describe: Collection[str] = ()) -> Encoded:
        calls.append(None)
        if len(calls) == 1:
            raise MemoryError
        return encode(ticks, describe)

    rig.lane._composer._encoder.encode = broken  # type: ignore[method-assign]
    with capture_logs() as logs:
        rig.lane._guarded(rig.step)
    assert told(logs)[-1] == ("error", Event.LANE_FAILED, "MemoryError: ")
    rig.drain()
    assert (rig.memory.delivered, rig.memory.dropped) == (300, {"rejected": 20})
    assert rig.script.bodies[3] == rig.script.bodies[0]


def test_a_batch_that_is_evicted_in_the_middle_is_let_go() -> None:
    rig = poisoned(refuses(5))
    rig.step()
    rig.step()
    rig.memory.position = 320  # the buffer was full, and dropped its oldest
    rig.collect(1, WIDE)
    rig.drain()
    assert (rig.memory.delivered, rig.memory.dropped) == (15, {"rejected": 1})


def test_instants_that_are_there_twice_are_asked_once_and_balance() -> None:
    rig = poisoned(refuses(5))
    rig.memory.append(rig.memory.records[0][0]._replace(values=[-1.0] * 16))
    rig.drain()
    assert (rig.memory.delivered, rig.memory.dropped) == (300, {"rejected": 20 + 16})
    assert rig.script.stored[label(6)][10_000] == 16.0


def test_a_row_of_failures_is_told_aloud_once() -> None:
    rig = Rig([RETRY, NO_ANSWER, RETRY])
    rig.collect(1)
    with capture_logs() as logs:
        rig.drain()
    assert [entry for entry in told(logs) if entry[1] == Event.RETRY] == [
        ("warning", Event.RETRY, "HTTP 503"),
        ("debug", Event.RETRY, "no connection"),
        ("debug", Event.RETRY, "HTTP 503"),
    ]
    assert all(entry["destination"] == "there" for entry in logs)


def test_an_instant_that_is_there_twice_is_sent_once_and_balances() -> None:
    rig = Rig()
    rig.collect(2)
    rig.memory.append(rig.memory.records[0][0]._replace(values=[-1.0, -1.0]))
    with capture_logs() as logs:
        rig.step()
    assert rig.script.stored[("__name__", "cpu"), ("hostname", "a")] == {10_000: 10.0, 20_000: 20.0}
    assert (rig.memory.delivered, rig.memory.dropped) == (4, {"rejected": 2})
    assert ("warning", Event.REPEATED, None) in told(logs)
    rig.memory.append(Tick(Instant(90_000, 0, "boot"), "all", SERIES * 2, (1.0, 2.0, 3.0, 4.0)))
    with capture_logs() as logs:
        rig.drain()
    assert ("debug", Event.REPEATED, None) in told(logs)


def test_a_refused_batch_counts_what_it_repeated_too() -> None:
    rig = Rig(ALL_REJECTED)
    rig.collect(2)
    rig.memory.append(rig.memory.records[0][0])
    rig.drain()
    assert (rig.memory.delivered, rig.memory.dropped) == (0, {"rejected": 6})


def test_records_without_samples_are_passed_over() -> None:
    rig = Rig()
    rig.memory.append(Tick(Instant(1, 0, "boot"), "all", (), ()))
    rig.collect(1)
    rig.drain()
    assert rig.memory.delivered == 2


def test_what_cannot_be_read_yet_does_not_make_the_lane_spin() -> None:
    rig = Rig()
    rig.collect(6)

    def nothing(max_samples: int) -> Chunk:
        return Chunk([], 0, 0, 0)

    rig.memory.read = nothing  # type: ignore[method-assign]
    rig.step()
    assert rig.clock.now == 1001.0
    assert rig.script.bodies == []


def test_a_batch_that_was_evicted_while_it_waited_is_let_go() -> None:
    rig = Rig([RETRY])
    rig.collect(5)
    rig.step()
    rig.collect(1)
    rig.memory.position = 10  # the buffer was full, and dropped its oldest
    rig.drain()
    assert [wire.decode(body).samples for body in rig.script.bodies] == [10, 2]
    assert rig.memory.delivered == 2


def test_a_cursor_that_cannot_be_written_stops_nothing() -> None:
    rig = Rig()
    rig.collect(10)
    rig.memory.broken = OSError(errno.ENOSPC, "No space left on device")
    with capture_logs() as logs:
        rig.step()
        rig.step()
    assert (rig.memory.delivered, rig.clock.now) == (20, 1000.0)
    assert told(logs).count(("error", Event.LANE_FAILED, "[Errno 28] No space left on device")) == 1


def test_an_error_of_the_disk_or_a_defect_is_told_and_tried_again() -> None:
    rig = Rig()
    rig.collect(1)
    read, calls = rig.memory.read, []

    def broken(max_samples: int) -> Chunk:
        calls.append(max_samples)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return read(max_samples)

    rig.memory.read = broken  # type: ignore[method-assign]
    rig.lane._due = 0.0
    with capture_logs() as logs:
        rig.lane._guarded(rig.step)
    assert told(logs) == [("error", Event.LANE_FAILED, "OSError: [Errno 5] Input/output error")]
    assert rig.memory.notes[-1][1] == "OSError: [Errno 5] Input/output error"
    rig.drain()
    assert rig.memory.delivered == 2


class Gate(Memory):
    """A memory buffer whose `wait` really waits, as the true one does."""

    def __init__(self) -> None:
        super().__init__(Clock())
        self._arrived = threading.Condition()

    def wait(self, position: int, timeout: float) -> None:
        with self._arrived:
            if self.end <= position:
                self._arrived.wait(timeout)

    def wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()


class Stuck(Script):
    """A receiver that never answers; `deaf`: and a request that cannot be cut either."""

    def __init__(self, deaf: bool) -> None:
        super().__init__()
        self.deaf, self.called, self.cut = deaf, threading.Event(), threading.Event()

    def post(self, body: bytes, speaking: Protocol, attempt: int = 0, within: float | None = None) -> Outcome:
        self.called.set()
        self.cut.wait(30)
        return NO_ANSWER

    def interrupt(self) -> None:
        if not self.deaf:
            self.cut.set()


def running(script: Script, **options: Any) -> tuple[Lane, Gate]:
    gate = Gate()
    lane = Lane(destination(), gate, gate, Shelf(), script, structlog.get_logger(), **options)
    return lane, gate


def tick(at: int) -> Tick:
    return Tick(Instant(at, 0, "boot"), "all", SERIES, (1.0, 2.0))


def test_a_stop_sends_what_is_pending() -> None:
    script = Script()
    lane, gate = running(script)
    with capture_logs():
        lane.start()
        gate.append(tick(1))
        gate.wake()
        wait_for(lambda: gate.delivered == 2, 5, "the first batch")
        gate.append(tick(2))  # not due for 30 seconds
        lane.stop(5.0)
    assert gate.delivered == 4
    assert script.within[-1] is not None
    assert gate.notes[-1] == ("stopped", None)
    assert script.closed


def test_a_stop_is_heard_by_a_lane_that_is_just_about_to_wait() -> None:
    lane, gate = running(Script())
    wake = gate.wake
    calls: list[None] = []

    def late() -> None:
        calls.append(None)
        if len(calls) > 1:  # the first one comes before the lane waits
            wake()

    gate.wake = late  # type: ignore[method-assign]
    lane.start()
    wait_for(lambda: lane._thread.is_alive() and gate.notes, 5, "the lane to be idle")
    lane.stop(5.0)
    assert gate.notes[-1] == ("stopped", None)


@pytest.mark.parametrize("outcome", [RETRY, HELD], ids=["waiting", "held"])
def test_a_stop_tries_nothing_when_there_is_trouble(outcome: Outcome) -> None:
    script = Script([outcome] * 100)
    lane, gate = running(script, rules=Rules(100.0, 100.0, 100.0, 100.0))
    with capture_logs():
        gate.append(tick(1))
        lane.start()
        wait_for(lambda: lane.state in (State.WAITING, State.HELD), 5, "trouble")
        lane.stop(5.0)
    assert len(script.bodies) == 1
    assert gate.notes[-1] == ("stopped", outcome.error)


@pytest.mark.parametrize("deaf", [False, True])
def test_a_stop_returns_in_time_whatever_the_receiver_does(deaf: bool) -> None:
    script = Stuck(deaf)
    lane, gate = running(script)
    clock: Callable[[], float] = lane._clock
    with capture_logs() as logs:
        gate.append(tick(1))
        lane.start()
        assert script.called.wait(5)
        began = clock()
        stop_all([lane], 0.5)
        assert clock() - began < 0.7
        before = list(gate.notes)
        script.cut.set()
        lane._thread.join(5)
        assert not lane._thread.is_alive()
    assert gate.position == 0
    if deaf:
        assert gate.notes == before  # it was left behind, and must not touch the cursor any more
    else:
        assert gate.notes[-1] == ("stopped", None)
    assert logs == []


def told(logs: list[EventDict]) -> list[tuple[str, str, str | None]]:
    return [(entry["log_level"], entry["event"], entry.get("error")) for entry in logs]
