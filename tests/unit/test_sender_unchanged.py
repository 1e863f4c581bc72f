"""What `send_unchanged_every` leaves out: only what the receiver knows already, whatever becomes of requests and of the agent."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from agent.config import QueueConfig, load
from agent.http.answer import Answer
from agent.http.failures import Failure
from buffer.model import STALE, Instant, Series, Tick
from tests.support import wire
from tests.support.scripted import (
    BOOT,
    DELIVERED,
    NO_ANSWER,
    OLD,
    QUEUE,
    REJECTED,
    RETRY,
    TOO_LARGE,
    Rig,
    Script,
)
from tests.support.ticks import bits

EVERY = 60.0
STEP_MS = 10_000
A, B, C = (Series(name, (("hostname", "a"),)) for name in "abc")


def rig(script: Script | None = None, queue: QueueConfig = QUEUE) -> Rig:
    return Rig(script=script, queue=queue, send_unchanged_every=EVERY)


def add(
    host: Rig, *values: float, series: tuple[Series, ...] = (A,), boot: str = BOOT, ms: int = STEP_MS
) -> None:
    """Append a tick with a value for each series, `ms` after the one before."""
    host.first_ms += ms
    host.append(Tick(Instant(host.first_ms, 0, boot), "all", series, list(values)))


def stored(host: Rig, series: Series = A) -> list[tuple[int, float]]:
    """Return what the receiver has of a series, the times in ticks."""
    samples = host.script.stored.get((("__name__", series.name), ("hostname", "a")), {})
    return [(at // STEP_MS, value) for at, value in samples.items()]


def test_a_constant_goes_once_in_so_much_time_and_each_change_at_once() -> None:
    host = rig()
    for value in (1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 1, 1):
        add(host, value)
        host.drain()
    assert stored(host) == [(1, 1), (7, 1), (9, 2), (11, 1)]
    assert host.ledger == (4, {"unchanged": 8})


def test_it_is_the_same_in_one_request() -> None:
    host = rig()
    for value in (1, 1, 1, 1, 1, 1, 1, 1, 2, 2):
        add(host, value)
    host.drain()
    assert stored(host) == [(1, 1), (7, 1), (9, 2)]
    assert host.ledger == (3, {"unchanged": 7})


def test_off_by_default() -> None:
    host = Rig()
    for _ in range(3):
        add(host, 1)
    host.drain()
    assert host.ledger == (3, {})


@pytest.mark.parametrize(
    ("before", "after", "goes"),
    [
        (0.0, -0.0, True),
        (float("nan"), float("nan"), False),
        (STALE, STALE, True),
        (float("nan"), STALE, True),
        (5.0, 5.0, False),
    ],
)
def test_equal_is_bit_for_bit_and_a_marker_always_goes(before: float, after: float, goes: bool) -> None:
    host = rig()
    add(host, before)
    host.drain()
    add(host, after)
    host.drain()
    assert host.ledger[0] == 1 + goes


def test_a_series_that_returns_after_its_marker_goes() -> None:
    host = rig()
    for value in (1, STALE, 1, 1):
        add(host, value)
        host.drain()
    assert [at for at, _ in stored(host)] == [1, 2, 3]


def test_a_counter_goes_that_begins_again_at_the_same_value_after_a_boot() -> None:
    host = rig()
    add(host, 0, 0, series=(A, B))
    host.drain()
    add(host, 0, 0, series=(A, B), boot="f" * 32)
    host.drain()
    assert host.ledger == (4, {})


def test_a_restart_sends_rather_than_leaves_out() -> None:
    host = rig()
    for _ in range(3):
        add(host, 1)
        host.drain()
        host.start_again()
    assert host.ledger == (3, {})


def test_what_was_never_acknowledged_does_not_count_as_sent() -> None:
    host = rig(Script(RETRY, NO_ANSWER))
    add(host, 1)
    host.step()
    add(host, 1)
    host.drain()
    assert stored(host)[0] == (1, 1)
    add(host, 1)
    host.drain()
    assert host.ledger == (1, {"unchanged": 2})


def test_what_was_refused_does_not_count_as_sent() -> None:
    script = Script()
    script.refuse = lambda write: REJECTED if first_of_a(write) else None
    host = rig(script)
    add(host, 1, 0, series=(A, B))
    host.drain()
    add(host, 1, 1, series=(A, B))
    host.drain()
    assert stored(host, A) == [(2, 1)]
    assert host.ledger == (3, {"rejected": 1})


@pytest.mark.parametrize(("answer", "reason"), [(OLD, "aged"), (REJECTED, "rejected")])
def test_what_was_left_out_for_a_sample_of_its_chunk_that_is_refused_shares_its_fate(
    answer: Answer, reason: str
) -> None:
    script = Script()
    script.refuse = lambda write: answer if first_of_a(write) else None
    host = rig(script)
    for n in range(3):
        add(host, 1, n, series=(A, B))
    host.drain()
    delivered, dropped = host.ledger
    assert dropped == {reason: 6 - delivered}
    kept = host.kept()[(("__name__", "a"), ("hostname", "a"))]
    assert kept == {n * STEP_MS: 1 for n in (1, 2, 3)}
    add(host, 1, 3, series=(A, B))
    host.drain()
    assert stored(host, A) == [(4, 1)]
    assert [at for at, _ in stored(host, B)][-3:] == [2, 3, 4]


def first_of_a(write: wire.Write) -> bool:
    return any(one.labels[0][1] == "a" and one.samples[0][0] == STEP_MS for one in write.series)


def test_what_was_evicted_is_not_passed_over() -> None:
    host = rig()
    add(host, 1)
    host.drain()
    add(host, 2)
    host.evict(2)
    add(host, 1)
    host.drain()
    assert stored(host) == [(1, 1), (3, 1)]


def test_two_values_for_one_time_do_not_count_as_either() -> None:
    host = rig()
    add(host, 1)
    add(host, 2, ms=0)
    add(host, 2)
    host.drain()
    assert stored(host) == [(1, 1), (2, 2)]


def test_a_clock_that_was_set_back_sends() -> None:
    host = rig(queue=QUEUE)
    add(host, 1)
    host.drain()
    host.script.stored.clear()
    add(host, 1, ms=-5000)
    host.drain()
    assert host.ledger == (2, {})


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_only_what_the_receiver_knows_is_left_out(seed: int) -> None:
    dice = random.Random(seed)
    script = Script()
    bad = dice.choice([frozenset[str](), frozenset("b"), frozenset("bc")])

    def refuse(write: wire.Write) -> Answer | Failure | None:
        if dice.random() < 0.2:
            size = TOO_LARGE if write.samples > 1 else DELIVERED
            trouble: list[Answer | Failure] = [RETRY, NO_ANSWER, size]
            return dice.choice(trouble)
        until = 20 * STEP_MS
        old = any(one.labels[0][1] in bad and at < until for one in write.series for at, _ in one.samples)
        return dice.choice([OLD, REJECTED]) if old else None

    script.refuse = refuse
    host = rig(script, QueueConfig(max_samples_per_send=dice.choice([3, 10, 40])))
    values = [0.0, 0.0, 0.0]
    for _ in range(60):
        values = [value if dice.random() < 0.7 else float(dice.randrange(3)) for value in values]
        series = (A, B, C) if dice.random() < 0.9 else (C, A)
        add(host, *values[: len(series)], series=series, ms=dice.choice([1, 1, 1, 2, 7]) * STEP_MS)
        if dice.random() < 0.3:
            host.drain()
        if dice.random() < 0.05:
            host.start_again()
        if dice.random() < 0.05:
            host.evict(host.buffer.log.end)
    host.drain()
    everything, evicted, kept = host.everything(), host.ledger[1].get("evicted", 0), host.kept()
    gone = Counter[str]()
    for labels, samples in everything.items():
        have, times = host.script.stored.get(labels, {}), sorted(samples)
        for at in times:
            if at in have:
                assert bits([have[at]]) == bits([samples[at]])
            elif at in kept.get(labels, {}):
                gone["kept"] += 1
            elif is_known(at, times, samples, have):
                gone["known"] += 1
            else:
                gone["lost"] += 1
    assert gone["lost"] <= evicted
    dropped = host.ledger[1]
    assert sum(dropped.values()) + host.ledger[0] == host.buffer.log.end
    assert dropped.get("unchanged", 0) <= gone["known"]
    assert dropped.get("unchanged", 0) > 0
    if not evicted:
        assert gone["known"] == dropped["unchanged"]


def is_known(at: int, times: list[int], samples: dict[int, float], have: dict[int, float]) -> bool:
    """Return whether the receiver has an equal sample from less than EVERY before, and none between is different."""
    for before in reversed(times[: times.index(at)]):
        if bits([samples[before]]) != bits([samples[at]]) or at - before >= EVERY * 1000:
            return False
        if before in have:
            return True
    return False


def test_a_time_behind_which_queries_do_not_look_is_a_warning() -> None:
    text = "remote_write: [{url: 'https://a/w', send_unchanged_every: %s}]"
    assert load(text % "4m", "f").warnings == ()
    [warning] = load(text % "5m", "f").warnings
    assert "send_unchanged_every: constant series may have gaps: queries look back 5m" in warning
