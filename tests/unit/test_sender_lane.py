"""A lane against a scripted receiver, step by step, on a clock that moves only when it waits.

What the real sockets add is in tests/fault/test_sender_*.py.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.config import QueueConfig
from agent.destinations.base import Encoded, Request
from agent.destinations.remote_write.formats import remote_write
from agent.destinations.remote_write.protocol import UNREADABLE
from agent.http.answer import Answer
from agent.http.failures import Failure
from agent.send.delivery import Clocks
from agent.send.lane import FAILED_PAUSE, stop_all
from agent.send.sender import LOOK_EVERY
from agent.send.state import Rules, State
from agent.system.events import Event
from buffer.model import Chunk, Instant, Series, Tick
from buffer.quarantine import Item
from tests.support import wire
from tests.support.net import wait_for
from tests.support.protocols import EMPTY
from tests.support.scripted import (
    BOOT,
    DELIVERED,
    HELD,
    HELD_WORDS,
    NO_ANSWER,
    OLD,
    REJECTED,
    RETRY,
    SERIES,
    TOO_LARGE,
    UNREACHED,
    WORDS,
    Rig,
    Script,
    by_labels,
    destination,
    logged,
)

LATER = tuple(Series(name, (("hostname", "a"),)) for name in ("cpu", "disk", "memory"))
ALL_REJECTED = [REJECTED] * 3  # the batch, and each of its two series


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from([DELIVERED, RETRY, NO_ANSWER, HELD, TOO_LARGE]), max_size=25),
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from([SERIES, LATER])), min_size=1, max_size=5),
    st.booleans(),
)
def test_whatever_goes_wrong_everything_arrives_once_and_in_order(
    answers: list[Answer | Failure], appends: list[tuple[int, tuple[Series, ...]]], lost: bool
) -> None:
    rig = Rig(answers, lost=lost)
    for count, series in appends:
        rig.collect(count, series)
        rig.step()
    rig.drain()
    kept = rig.kept()  # a series that failed again and again
    for labels, samples in rig.script.stored.items():
        assert samples.keys().isdisjoint(kept.get(labels, {})) or lost
    keys = rig.script.stored.keys() | kept.keys()
    assert {k: kept.get(k, {}) | rig.script.stored.get(k, {}) for k in keys} == rig.everything()
    delivered, dropped = rig.ledger
    assert delivered + dropped.get("apart", 0) == rig.buffer.log.end


@given(st.lists(st.sampled_from([DELIVERED, RETRY, REJECTED, HELD]), max_size=20))
@settings(deadline=None)
def test_what_is_refused_is_in_the_ledger_and_nothing_else_is_missing(
    answers: list[Answer | Failure],
) -> None:
    rig = Rig(answers)
    rig.collect(40)
    rig.drain()
    stored = sum(len(samples) for samples in rig.script.stored.values())
    assert rig.ledger[0] == stored
    kept = rig.kept()
    assert sum(map(len, kept.values())) == sum(rig.ledger[1].values()) == 80 - stored
    for labels, samples in kept.items():
        assert samples.keys().isdisjoint(rig.script.stored.get(labels, {}))


def test_the_first_batch_goes_out_at_once_and_then_one_in_each_deadline() -> None:
    rig = Rig()
    rig.collect()
    rig.step()
    assert len(rig.script.bodies) == 1
    sent_at = rig.now
    rig.collect(3)
    rig.step()
    assert len(rig.script.bodies) == 1
    assert rig.now == sent_at + 30.0  # it waited, and for nothing less than a full batch
    rig.step()
    assert rig.script.sizes == [2, 6]


def test_a_full_batch_waits_for_nothing() -> None:
    rig = Rig()
    rig.collect(12)
    while len(rig.script.bodies) < 2:
        rig.step()
    assert rig.now == 1000.0
    assert rig.script.sizes == [10, 10]


def test_a_batch_merges_the_ticks_of_each_series() -> None:
    rig = Rig()
    rig.collect(5)
    rig.step()
    [body] = rig.script.bodies
    assert sorted(len(series.samples) for series in wire.decode(body).series) == [5, 5]


def test_an_idle_lane_waits_for_the_next_sample_without_polling() -> None:
    rig = Rig()
    assert rig.step() == (3600.0, 0)
    assert (rig.lane.state, rig.lane.error) == (State.IDLE, None)


def test_a_retry_repeats_the_very_same_request_and_counts() -> None:
    rig = Rig([RETRY, NO_ANSWER, RETRY])
    rig.collect(2)
    rig.step()
    rig.collect(3)  # newer samples do not join a batch that is on its way
    rig.drain()
    assert len({*rig.script.bodies[:4]}) == 1
    assert rig.script.attempts == [0, 1, 2, 3, 0]
    stats = rig.lane.stats
    assert (stats.requests, stats.retries) == (6, 3)  # and one check that it is a receiver
    assert stats.bytes_sent == sum(map(len, rig.script.bodies)) + len(UNREADABLE)


def test_after_an_outage_what_came_in_meanwhile_goes_out_at_once() -> None:
    rig = Rig([NO_ANSWER])
    rig.collect(5)
    rig.step()
    rig.collect(1)
    rig.drain()
    assert rig.now == 1001.5  # the wait after the failure, and nothing else
    assert len(rig.script.bodies) == 3


def test_a_held_destination_is_probed_and_resumes_by_itself() -> None:
    rig = Rig([HELD, HELD, NO_ANSWER, DELIVERED])
    rig.collect(5)
    with capture_logs() as logs:
        rig.step()
        assert (rig.cursor.ledger.state, rig.cursor.ledger.error) == ("held", HELD_WORDS)
        rig.step()
        rig.step()
        assert rig.lane.state is State.HELD
        assert rig.ledger[0] == 0
        rig.drain()
    assert rig.script.bodies[1:4] == [EMPTY] * 3
    assert rig.script.bodies[4] == rig.script.bodies[0]
    assert rig.now - 1000.0 == pytest.approx(0.8 * (2 + 4 + 8))
    assert logged(logs) == [
        ("warning", Event.HELD, HELD_WORDS),
        ("debug", Event.HELD, HELD_WORDS),
        ("warning", Event.HELD, "no answer"),
        ("debug", Event.DELIVERED, None),
        ("info", Event.FIRST_DELIVERED, None),
        ("info", Event.RESUMED, None),
    ]
    assert rig.lane.error is None


def test_a_held_destination_is_probed_as_soon_as_a_file_has_changed() -> None:
    rig = Rig([HELD, HELD, DELIVERED], rules=Rules(1.0, 60.0, 225.0, 1000.0))
    rig.collect(1)
    rig.step()
    rig.script.changes = [False, False, True]
    before = rig.now
    rig.step()
    assert rig.now - before == 2 * LOOK_EVERY
    assert rig.lane.state is State.HELD  # it was no better
    before = rig.now
    rig.step()
    assert rig.now - before == 720.0  # and is probed ever more rarely, as before
    rig.drain()
    assert rig.script.bodies[1:3] == [EMPTY] * 2


def test_a_changed_file_does_not_shorten_the_wait_for_a_receiver_in_trouble() -> None:
    rig = Rig([RETRY])
    rig.script.changes = [True] * 100
    rig.collect(1)
    rig.step()
    before = rig.now
    rig.step()
    assert rig.now - before == 1.5
    assert len(rig.script.changes) == 100


def test_a_receiver_that_takes_only_empty_writes_is_tried_ever_more_rarely() -> None:
    rig = Rig([HELD, DELIVERED] * 8)
    rig.collect(1)
    waits = []
    for _ in range(8):
        rig.step()  # the batch
        before = rig.now
        rig.step()  # the probe
        waits.append(rig.now - before)
    assert waits == sorted(waits)
    assert waits == pytest.approx([0.8 * 2**n for n in range(1, 9)])
    assert rig.ledger[0] == 0


def test_too_large_a_batch_is_halved_and_the_size_grows_back_later() -> None:
    rig = Rig([TOO_LARGE, TOO_LARGE])
    rig.collect(200)
    with capture_logs() as logs:
        rig.drain()
    assert rig.script.sizes[:3] == [10, 5, 2]  # of two series, of one, cut to what is known to go
    # The limit is 2, after 64 full requests 4, and so on.
    assert max(rig.script.sizes[3:40]) == 2
    assert max(rig.script.sizes[-20:]) > 2
    assert rig.ledger == (400, {})
    assert [(e["log_level"], e["limit"]) for e in logs if e["event"] == Event.BATCH_HALVED] == [
        ("info", 5),
        ("info", 2),
    ]


def test_a_single_record_that_is_too_large_is_cut() -> None:
    rig = Rig([TOO_LARGE])
    rig.collect(1)
    rig.step()
    assert rig.lane.state is State.IDLE
    rig.drain()
    assert rig.script.sizes == [2, 1, 1]
    assert rig.ledger == (2, {})


def test_a_single_sample_that_is_too_large_is_held_not_lost() -> None:
    rig = Rig([TOO_LARGE, TOO_LARGE])
    rig.collect(1)
    rig.step()
    rig.step()
    assert (rig.lane.state, rig.lane.error) == (State.HELD, "HTTP 413")
    rig.drain()
    assert rig.ledger == (2, {})


def test_a_refused_batch_is_logged_with_the_receivers_words() -> None:
    rig = Rig(ALL_REJECTED)
    rig.collect(2)
    with capture_logs() as logs:
        rig.drain()
    assert logged(logs) == [
        *[("debug", Event.REFUSED, WORDS)] * 3,
        ("debug", Event.DELIVERED, None),  # a sample for now
        ("info", Event.FIRST_DELIVERED, None),
        ("error", Event.REJECTED, WORDS),
        ("info", Event.QUARANTINED, WORDS),
    ]
    assert [entry["samples"] for entry in logs] == [4, 2, 2, 1, 1, 4, 4]
    assert (rig.cursor.position, rig.ledger[1]) == (4, {"rejected": 4})
    assert rig.lane.error == WORDS


def test_a_refused_batch_is_in_the_quarantine_before_the_cursor_moves() -> None:
    rig = Rig([*ALL_REJECTED, DELIVERED, *ALL_REJECTED])
    rig.collect(6)
    commit, kept_before = rig.cursor.commit, []

    def look(start: int, end: int, delivered: int, dropped: Mapping[str, int], before: int = 0) -> None:
        kept_before.append(sum(map(len, rig.kept().values())))
        commit(start, end, delivered, dropped, before)

    rig.cursor.commit = look  # type: ignore[method-assign]
    rig.collect(6)
    rig.drain()
    assert rig.items() == [(0, "rejected", 400, WORDS)]  # one item for the same words
    assert rig.kept() == by_labels([*rig.appended[:5], *rig.appended[10:]])
    assert kept_before == [10, 10, 14]


def test_what_was_evicted_on_its_way_is_kept_as_it_was_refused() -> None:
    rig = Rig([RETRY, *ALL_REJECTED])
    rig.collect(6)
    rig.step()
    rig.evict(4)
    for _ in range(3):
        rig.step()
    assert rig.items() == [(0, "rejected", 400, WORDS)]
    assert rig.kept() == by_labels(rig.appended[:5])
    assert rig.ledger == (0, {"evicted": 4, "rejected": 6})


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("too large")])
def test_a_refused_batch_that_cannot_be_kept_is_logged_and_settled_all_the_same(error: Exception) -> None:
    rig = Rig(ALL_REJECTED)
    rig.collect(5)

    def broken(*_: object) -> list[Item]:
        raise error

    rig.quarantine.put = broken  # type: ignore[method-assign, assignment]
    with capture_logs() as logs:
        rig.drain()
    assert (rig.cursor.position, rig.ledger) == (10, (0, {"rejected": 10}))
    failed = [entry for entry in logs if entry["event"] == Event.QUARANTINE_FAILED]
    assert [(e["log_level"], e["samples"], e["error"]) for e in failed] == [("error", 10, str(error))]
    assert failed[0]["do"] == ("Free space there: df -h DATA_DIR" if isinstance(error, OSError) else None)


def test_what_had_to_go_for_a_refused_batch_is_logged() -> None:
    rig = Rig(ALL_REJECTED)
    rig.collect(5)
    rig.quarantine.put("other", 0, rig.appended, "rejected", 400, "no", 1)
    rig.quarantine.limit(1)
    with capture_logs() as logs:
        rig.drain()
    [gone] = [entry for entry in logs if entry["event"] == Event.QUARANTINE_FULL]
    assert gone == {
        "event": Event.QUARANTINE_FULL,
        "log_level": "warning",
        "destination": "other",
        "item": "other-" + "0" * 20,
        "samples": 10,
    }


def test_a_lane_that_was_left_behind_puts_nothing_into_the_quarantine() -> None:
    rig = Rig(ALL_REJECTED)
    rig.collect(5)
    rig.lane.cut()
    for _ in range(3):
        rig.step()
    assert len(rig.script.bodies) == 3
    assert (rig.items(), rig.cursor.position) == ([], 0)


WIDE = tuple(Series(f"m{i:02}", (("hostname", "a"),)) for i in range(16))
BIG = QueueConfig(max_samples_per_send=1000, batch_send_deadline=30.0, min_backoff=1.0, max_backoff=300.0)


def label(index: int) -> wire.Labels:
    return (("__name__", f"m{index:02}"), ("hostname", "a"))


def refuses(*indices: int) -> Callable[[wire.Write], Answer | None]:
    bad = {label(i) for i in indices}

    def refuse(write: wire.Write) -> Answer | None:
        found = min((series.labels for series in write.series if series.labels in bad), default=None)
        if found is None:
            return None
        return Answer(400, {}, f"no {dict(found)['__name__']}".encode())

    return refuse


def older(than: int) -> Callable[[wire.Write], Answer | None]:
    return lambda write: OLD if any(at < than for s in write.series for at, _ in s.samples) else None


def poisoned(refuse: Callable[[wire.Write], Answer | None], answers: Iterable[Answer | Failure] = ()) -> Rig:
    rig = Rig(answers, BIG)
    rig.script.refuse = refuse
    rig.collect(20, WIDE)
    return rig


def test_a_poisoned_series_costs_itself() -> None:
    rig = poisoned(refuses(5))
    rig.drain()
    everything = rig.everything()
    culprit = {label(5): everything.pop(label(5))}
    assert (rig.script.stored, rig.kept()) == (everything, culprit)
    assert rig.ledger == (300, {"rejected": 20})
    assert rig.items() == [(0, "rejected", 400, "HTTP 400: no m05")]
    assert len(rig.script.bodies) <= 1 + 2 * 4
    assert rig.lane.error == "HTTP 400: no m05"


def test_culprits_with_words_of_their_own_are_items_of_their_own() -> None:
    rig = poisoned(refuses(2, 11))
    rig.drain()
    assert rig.items() == [
        (0, "rejected", 400, "HTTP 400: no m02"),
        (1, "rejected", 400, "HTTP 400: no m11"),
    ]
    assert rig.ledger == (280, {"rejected": 40})


def test_a_series_that_is_refused_again_and_again_costs_one_request_more() -> None:
    rig = poisoned(refuses(5))
    rig.drain()
    before = len(rig.script.bodies)
    rig.collect(20, WIDE)
    rig.drain()
    assert len(rig.script.bodies) - before == 2
    assert rig.ledger[1] == {"rejected": 40}


@pytest.mark.parametrize("after", range(1, 10))
def test_a_kill_in_the_middle_sends_it_again_and_keeps_nothing_twice(after: int) -> None:
    rig = poisoned(refuses(2, 11))
    for _ in range(after):
        rig.step()
    assert rig.cursor.position == 0  # nothing is settled before all is
    again = Rig(queue=BIG)
    for one in rig.appended:
        again.append(one)
    again.script.refuse = refuses(2, 11)
    again.script.stored = rig.script.stored  # what it asserts: the same values, and nothing out of order
    again.drain()
    rig.drain()
    assert again.items() == rig.items()
    assert again.ledger == (280, {"rejected": 40})


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([RETRY, NO_ANSWER, HELD, TOO_LARGE]), max_size=4),
    st.integers(1, 12),
    st.sets(st.integers(0, 15), max_size=2),
)
def test_trouble_in_the_middle_waits_and_continues(
    trouble: list[Answer | Failure], after: int, bad: set[int]
) -> None:
    rig = poisoned(refuses(*bad))
    with capture_logs():
        for _ in range(after):
            if rig.cursor.pending():
                rig.step()
        rig.script.answers = list(trouble)
        rig.collect(3, WIDE)
        rig.drain()
    everything = rig.everything()
    culprits = {label(i): everything.pop(label(i)) for i in bad}
    assert (rig.script.stored, rig.kept()) == (everything, culprits)
    assert rig.ledger[0] == rig.buffer.log.end - rig.ledger[1].get("rejected", 0)


def test_what_is_too_old_is_aged_and_the_rest_is_delivered() -> None:
    rig = poisoned(older(than=110_000))  # ten ticks of twenty
    with capture_logs() as logs:
        rig.drain()
    new = {
        labels: {at: v for at, v in of.items() if at >= 110_000} for labels, of in rig.everything().items()
    }
    for labels, samples in rig.script.stored.items():
        assert samples.items() <= new[labels].items()
    assert rig.ledger[0] == sum(map(len, rig.script.stored.values())) >= 160 - 2 * 20
    assert rig.ledger[1] == {"aged": 320 - rig.ledger[0]}
    kept, stored = rig.kept(), rig.script.stored
    assert {labels: kept[labels] | stored.get(labels, {}) for labels in kept} == rig.everything()
    assert {reason for _, reason, *_ in rig.items()} == {"aged"}
    [aged] = [entry for entry in logs if entry["event"] == Event.AGED]
    assert aged["log_level"] == "error"
    assert "storage.tsdb.out_of_order_time_window" in aged["do"]


def test_a_row_of_batches_that_are_too_old_is_one_error_and_costs_little() -> None:
    rig = Rig(queue=QueueConfig(max_samples_per_send=160))
    rig.script.refuse = older(than=310_000)
    rig.collect(30, WIDE)
    with capture_logs() as logs:
        rig.drain()
    told_levels = [entry["log_level"] for entry in logs if entry["event"] == Event.AGED]
    assert told_levels == ["error", "debug", "debug"]
    assert len(rig.script.bodies) == 2 * 3
    assert rig.ledger[1] == {"aged": 480}
    rig.collect(10, WIDE)
    rig.drain()
    rig.now += 3600
    rig.script.refuse = older(than=10_000_000)
    rig.collect(10, WIDE)
    with capture_logs() as logs:
        rig.drain()
    assert [entry["log_level"] for entry in logs if entry["event"] == Event.AGED] == ["error"]


def test_a_defect_in_the_middle_begins_the_batch_again() -> None:
    plain, calls = remote_write(destination()), list[None]()

    def broken(ticks: Sequence[Tick], part: bool) -> Encoded:
        calls.append(None)
        if len(calls) == 3:
            raise MemoryError
        return plain().encode(ticks, part)

    rig = Rig(queue=BIG, speaks=lambda: plain()._replace(encode=broken))
    rig.script.refuse = refuses(5)
    rig.collect(20, WIDE)
    with capture_logs() as logs:
        while len(calls) < 3:
            rig.lane.step()
    assert logged(logs)[-1] == ("error", Event.LANE_FAILED, "MemoryError: ")
    rig.drain()
    assert rig.ledger == (300, {"rejected": 20})
    assert rig.script.bodies[2] == rig.script.bodies[0]


def test_a_batch_that_is_evicted_in_the_middle_is_let_go() -> None:
    rig = poisoned(refuses(5))
    rig.step()
    rig.step()
    rig.evict(320)
    rig.collect(1, WIDE)
    rig.drain()
    assert rig.ledger == (15, {"evicted": 320, "rejected": 1})


def test_instants_that_are_there_twice_are_sent_once_and_balance() -> None:
    rig = poisoned(refuses(5))
    rig.append(rig.appended[0]._replace(values=[-1.0] * 16))
    rig.drain()
    assert rig.ledger == (300, {"rejected": 20 + 16})
    assert rig.script.stored[label(6)][10_000] == 16.0


def test_a_row_of_failures_is_one_warning() -> None:
    rig = Rig([RETRY, NO_ANSWER, RETRY])
    rig.collect(1)
    with capture_logs() as logs:
        rig.drain()
    assert [entry for entry in logged(logs) if entry[1] == Event.RETRY] == [
        ("warning", Event.RETRY, "HTTP 503"),
        ("debug", Event.RETRY, "no answer"),
        ("debug", Event.RETRY, "HTTP 503"),
    ]
    assert all(entry["destination"] == "there" for entry in logs)


def test_a_failure_that_lasts_is_one_warning_an_hour_with_its_count() -> None:
    rig = Rig([NO_ANSWER] * 2000)
    rig.collect(1)
    begun = rig.now
    with capture_logs() as logs:
        while rig.now - begun < 3.5 * 3600:
            rig.step()
    told = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [entry["event"] for entry in told] == [Event.RETRY] * 4
    assert "troubled_seconds" not in told[0]
    assert [round(entry["troubled_seconds"] / 3600, 1) for entry in told[1:]] == [1.0, 2.0, 3.0]
    tries = [entry["attempt"] for entry in told]
    assert tries[0] == 1
    assert tries == sorted(set(tries))


def test_a_held_destination_says_so_once_an_hour_with_its_count() -> None:
    rig = Rig([HELD] * 2000)
    rig.collect(1)
    begun = rig.now
    with capture_logs() as logs:
        while rig.now - begun < 2.5 * 3600:
            rig.step()
    told = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [(entry["event"], "troubled_seconds" in entry) for entry in told] == [
        (Event.HELD, False),
        (Event.HELD, True),
        (Event.HELD, True),
    ]
    assert told[-1]["attempt"] > told[1]["attempt"] > 1


def test_the_first_delivery_is_logged_once_with_the_url_and_without_its_secrets() -> None:
    rig = Rig(url="https://host:secret@there.example/write/of?token=secret#secret")
    rig.collect(1)
    with capture_logs() as logs:
        rig.drain()
        rig.collect(1)
        rig.drain()
    [first] = [entry for entry in logs if entry["event"] == Event.FIRST_DELIVERED]
    assert first["log_level"] == "info"
    assert first["url"] == "https://there.example/write/of"
    assert "secret" not in str(logs)


def test_an_instant_that_is_there_twice_is_sent_once_and_balances() -> None:
    rig = Rig()
    rig.collect(2)
    rig.append(rig.appended[0]._replace(values=[-1.0, -1.0]))
    with capture_logs() as logs:
        rig.step()
    assert rig.script.stored[("__name__", "cpu"), ("hostname", "a")] == {10_000: 10.0, 20_000: 20.0}
    assert rig.ledger == (4, {"rejected": 2})
    assert ("warning", Event.REPEATED, None) in logged(logs)
    rig.append(Tick(Instant(90_000, 0, BOOT), "all", SERIES * 2, (1.0, 2.0, 3.0, 4.0)))
    with capture_logs() as logs:
        rig.drain()
    assert ("debug", Event.REPEATED, None) in logged(logs)


def test_a_refused_batch_counts_what_it_repeated_too() -> None:
    rig = Rig(ALL_REJECTED)
    rig.collect(2)
    rig.append(rig.appended[0])
    rig.drain()
    assert rig.ledger == (0, {"rejected": 6})


def test_ticks_without_samples_are_passed_over() -> None:
    rig = Rig()
    at = Instant(1, 0, BOOT)
    rig.append(Tick(at, "none", (), ()), Tick(at, "all", SERIES, (1.0, 2.0)))
    rig.drain()
    assert rig.ledger == (2, {})


def test_what_cannot_be_read_yet_does_not_make_the_lane_spin() -> None:
    rig = Rig()
    rig.collect(6)

    def nothing(max_samples: int) -> Chunk:
        return Chunk([], 0, 0, 0)

    rig.cursor.read = nothing  # type: ignore[method-assign]
    rig.step()
    assert rig.now == 1001.0
    assert rig.script.bodies == []


def test_a_batch_that_was_evicted_while_it_waited_is_let_go() -> None:
    rig = Rig([RETRY])
    rig.collect(5)
    rig.step()
    rig.collect(1)
    rig.evict(10)
    rig.drain()
    assert rig.script.sizes == [10, 2]
    assert rig.ledger == (2, {"evicted": 10})


def test_a_cursor_that_cannot_be_written_stops_nothing() -> None:
    rig = Rig([RETRY])
    rig.collect(10)
    rig.fs.capacity = 0
    with capture_logs() as logs:
        rig.drain()
    assert (rig.ledger, rig.now) == ((20, {}), 1001.5)
    assert logged(logs).count(("error", Event.LANE_FAILED, "[Errno 28] No space left on device")) == 1


def test_an_error_of_the_disk_or_a_defect_is_logged_and_tried_again() -> None:
    rig = Rig()
    rig.collect(1)
    read, calls = rig.cursor.read, []

    def broken(max_samples: int) -> Chunk:
        calls.append(max_samples)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return read(max_samples)

    rig.cursor.read = broken  # type: ignore[method-assign]
    with capture_logs() as logs:
        assert rig.lane.step().seconds == FAILED_PAUSE
    assert logged(logs) == [("error", Event.LANE_FAILED, "OSError: [Errno 5] Input/output error")]
    assert rig.cursor.ledger.error == rig.lane.error == "OSError: [Errno 5] Input/output error"
    rig.now += 30
    rig.drain()
    assert rig.ledger == (2, {})


# The thread.


class Stuck(Script):
    """A receiver that never answers; `deaf`: and a request that cannot be cut either."""

    def __init__(self, *, deaf: bool) -> None:
        super().__init__()
        self.deaf, self.called, self.released = deaf, threading.Event(), threading.Event()

    def exchange(self, request: Request, attempt: int = 0, within: float | None = None) -> Answer | Failure:
        self.called.set()
        self.released.wait(30)
        return NO_ANSWER

    def interrupt(self) -> None:
        if not self.deaf:
            self.released.set()


def running(script: Script, rules: Rules | None = None) -> Rig:
    return Rig(script=script, clocks=Clocks(), rules=rules)


def test_a_stop_sends_what_is_pending() -> None:
    rig = running(Script())
    with capture_logs():
        rig.lane.start()
        rig.collect()
        wait_for(lambda: rig.ledger[0] == 2, 5, "the first batch")
        rig.collect()  # not due for 30 seconds
        rig.lane.stop(5.0)
    assert rig.ledger[0] == 4
    assert rig.script.within[-1] is not None
    assert (rig.cursor.ledger.state, rig.cursor.ledger.error) == ("stopped", None)
    assert rig.script.is_closed


def test_a_stop_is_heard_by_a_lane_that_is_just_about_to_wait() -> None:
    rig = running(Script())
    wake, calls = rig.buffer.wake, list[None]()

    def late() -> None:
        calls.append(None)
        if len(calls) > 1:  # the first one comes before the lane waits
            wake()

    rig.buffer.wake = late  # type: ignore[method-assign]
    rig.lane.start()
    wait_for(lambda: rig.cursor.ledger.state == "idle", 5, "the lane to be idle")
    rig.lane.stop(5.0)
    assert rig.cursor.ledger.state == "stopped"


@pytest.mark.parametrize("answer", [RETRY, HELD], ids=["waiting", "held"])
def test_a_stop_tries_nothing_when_there_is_trouble(answer: Answer) -> None:
    rig = running(Script(rest=answer), Rules(100.0, 100.0, 100.0, 100.0))
    with capture_logs():
        rig.collect()
        rig.lane.start()
        wait_for(lambda: rig.lane.state in (State.WAITING, State.HELD), 5, "trouble")
        rig.lane.stop(5.0)
    assert len(rig.script.bodies) == 1
    assert (rig.cursor.ledger.state, rig.cursor.ledger.error) == ("stopped", rig.lane.error)
    assert rig.lane.error


@pytest.mark.parametrize("answer", [RETRY, HELD, UNREACHED], ids=["waiting", "held", "not reached"])
def test_a_lane_that_waits_tries_now_on_request(answer: Answer | Failure) -> None:
    rig = running(Script(answer), Rules(900.0, 900.0, 900.0, 900.0))
    with capture_logs():
        rig.collect()
        rig.lane.start()
        wait_for(lambda: rig.lane.state in (State.WAITING, State.HELD), 5, "trouble")
        rig.lane.try_now()
        wait_for(lambda: rig.ledger[0] == 2, 5, "the delivery")
        rig.lane.stop(5.0)


class Told:
    """News that are there when a test says so."""

    def __init__(self) -> None:
        self.is_news, self.is_open = False, False

    def open(self) -> Told:
        self.is_open = True
        return self

    def heard(self) -> bool:
        was, self.is_news = self.is_news, False
        return was

    def close(self) -> None:
        self.is_open = False


@pytest.mark.parametrize("answer", [UNREACHED, NO_ANSWER, HELD], ids=["not reached", "no answer", "held"])
def test_news_of_the_network_ends_a_wait(answer: Answer | Failure) -> None:
    told = Told()
    rig = Rig([answer], rules=Rules(900.0, 900.0, 900.0, 900.0), listen=told.open)
    rig.collect()
    rig.lane.step()
    assert told.is_open
    before = rig.now
    for _ in range(5):
        rig.now += rig.lane.step().seconds
    assert len(rig.script.bodies) == 1
    told.is_news = True
    rig.drain()
    assert rig.ledger[0] == 2
    assert rig.now - before < 10
    assert not told.is_open


def test_news_of_the_network_does_not_hurry_a_receiver_that_is_in_trouble() -> None:
    told = Told()
    rig = Rig([RETRY], rules=Rules(900.0, 900.0), listen=told.open)
    rig.collect()
    rig.lane.step()
    before = rig.now
    while not rig.ledger[0]:
        told.is_news = True
        rig.now += rig.lane.step().seconds
    assert rig.now - before >= 900


@pytest.mark.parametrize("deaf", [False, True])
def test_a_stop_returns_in_time_whatever_the_receiver_does(deaf: bool) -> None:
    script = Stuck(deaf=deaf)
    rig = running(script)
    with capture_logs() as logs:
        rig.collect()
        rig.lane.start()
        assert script.called.wait(60)
        began = time.monotonic()
        stop_all([rig.lane], 0.5)
        assert time.monotonic() - began < 20  # the receiver answers after 30
        before = rig.cursor.ledger
        script.released.set()
        wait_for(lambda: rig.lane.has_ended, 5, "the thread to end")
    assert rig.cursor.position == 0
    if deaf:
        assert rig.cursor.ledger == before  # it was left behind, and must not touch the cursor any more
    else:
        assert (rig.cursor.ledger.state, rig.cursor.ledger.error) == ("stopped", None)
    assert logs == []
