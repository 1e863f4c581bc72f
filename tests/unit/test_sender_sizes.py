"""Receivers that take requests of some size only: what goes out fits, and nothing is held or lost for its size."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import QueueConfig, RemoteWrite
from agent.destinations.base import Request
from agent.destinations.remote_write.formats import remote_write
from agent.http.answer import Answer
from agent.http.failures import Cause, Failure
from agent.send.state import FEW, LARGEST, LONG, MANY, QUICKLY, TICKS, USUAL, Situation, State, grown
from buffer.model import Series, Tick
from tests.support import wire
from tests.support.scripted import RETRY, TOO_LARGE, Rig, Script, by_labels

QUEUE = QueueConfig(max_samples_per_send=100, batch_send_deadline=30.0)


def many(count: int, label: str = "") -> tuple[Series, ...]:
    return tuple(Series(f"m{i:05}", (("hostname", "a"), ("label", f"{label}{i}"))) for i in range(count))


def takes(samples: float = float("inf"), size: float = float("inf"), answer: Answer = TOO_LARGE) -> Script:
    """A receiver that takes so many samples and so many bytes in a request."""
    script = Script()

    def refuse(write: wire.Write) -> Answer | None:
        return answer if write.samples > samples or len(script.bodies[-1]) > size else None

    script.refuse = refuse
    return script


WIDE = many(600)


def wide(script: Script, ticks: int = 100, queue: QueueConfig | None = None) -> Rig:
    """A host with a backlog of so many ticks of 600 series."""
    rig = Rig(queue=queue or QueueConfig(), script=script)
    rig.collect(ticks, WIDE)
    return rig


def test_a_backlog_of_many_series_goes_out_in_larger_requests_each_label_once() -> None:
    rig = wide(Script(), ticks=60)
    rig.drain()
    sizes = rig.script.sizes
    assert sizes[0] <= USUAL
    assert max(sizes) == FEW // 600 * 600
    labels = [series.labels for series in wire.decode(rig.script.bodies[sizes.index(max(sizes))]).series]
    assert len(labels) == len(set(labels)) == 600
    assert rig.script.stored == rig.everything()  # in order: the receiver looks
    assert rig.ledger == (36_000, {})


def test_requests_of_a_few_series_grow_too_and_a_configured_size_stays_as_it_is() -> None:
    few = Rig(queue=QueueConfig(), script=Script())
    few.collect(1000, many(50))
    few.drain()
    assert few.script.sizes[0] == USUAL
    assert max(few.script.sizes) == FEW
    assert few.script.stored == few.everything()
    capped = wide(Script(), queue=QueueConfig(max_samples_per_send=1200))
    capped.drain()
    assert max(capped.script.sizes) == 1200


def test_each_metric_of_a_record_that_is_larger_than_a_request_is_described() -> None:
    to = RemoteWrite(
        url="http://127.0.0.1/",
        name="there",
        queue_config=QUEUE,
        protobuf_message="prometheus.WriteRequest",
    )
    rig = Rig(queue=QUEUE, script=Script(), speaks=remote_write(to, clock=lambda: 0.0))
    rig.collect(3, WIDE)
    rig.drain()
    assert max(rig.script.sizes) <= 100
    found = [one.name for body in rig.script.bodies for one in wire.decode(body).metadata]
    assert set(found) == {series.name for series in WIDE}
    assert len(found) == 600


def test_requests_are_as_before_when_there_are_few_series_again() -> None:
    rig = Rig(queue=QueueConfig(), script=Script())
    rig.collect(50, many(1500))
    rig.collect(1500, many(50))
    rig.drain()
    assert max(rig.script.sizes) >= TICKS * 1500 > FEW
    assert max(rig.script.sizes[-2:]) <= FEW


def test_when_a_backlog_is_gone_requests_are_as_small_as_before() -> None:
    script = takes()
    rig = wide(script, ticks=100)
    rig.drain()
    assert max(script.sizes) == FEW // 600 * 600
    rig.step()  # nothing is left to be sent
    drained = len(script.sizes)
    rig.collect(60, WIDE)
    script.answers = [RETRY]  # the receiver went away, and another one takes its place
    rig.drain()
    assert script.sizes[drained : drained + 2] == [USUAL // 600 * 600] * 2
    assert max(script.sizes[drained:]) == FEW // 600 * 600


def test_in_normal_operation_nothing_waits_for_a_larger_request() -> None:
    rig = wide(Script())
    rig.drain()
    rig.collect(17, WIDE)  # more than is usual, less than the last one had
    rig.step()
    assert rig.cursor.pending() == 0


def test_larger_requests_end_where_a_receiver_takes_no_larger_ones() -> None:
    rig = wide(takes(samples=11_000))
    rig.drain()
    assert rig.ledger == (60_000, {})
    assert rig.script.stored == rig.everything()
    assert sum(size > 11_000 for size in rig.script.sizes) <= 2


BODY = Request(bytes(400_000), USUAL, "1.0")


def test_requests_grow_by_what_they_cost_and_shrink_where_an_answer_takes_long() -> None:
    most, series = 100_000, 5_000
    was = Situation(USUAL)
    assert grown(was, BODY._replace(body=bytes(100_000)), most, series, 1.0).limit == 2 * USUAL
    assert grown(was, BODY, most, series, 1.0).limit == 2 * USUAL
    assert grown(was._replace(limit=2 * USUAL), BODY, most, series, 1.0).limit == 22_500  # 900,000 bytes
    assert grown(was, BODY, most, series, 2 * QUICKLY).limit == USUAL
    assert (
        grown(was._replace(limit=80_000), BODY._replace(samples=80_000), most, series, 11.0).limit == 40_000
    )
    small = BODY._replace(body=bytes(40_000))
    assert grown(was, small, most, 400, 0.01).limit == FEW
    assert grown(was._replace(limit=FEW), small, most, 400, 0.01).limit == FEW
    assert grown(was._replace(limit=FEW), small, most, 400, 2 * LONG).limit == 2 * FEW
    assert grown(was._replace(limit=MANY), small, most, 400, 2 * LONG).limit == MANY
    assert grown(was._replace(limit=MANY), small._replace(samples=MANY), most, 400, 0.01).limit == FEW
    assert grown(was, BODY, 15_000, series, 1.0).limit == 15_000


TOO_BIG = {
    "413": TOO_LARGE,
    "VictoriaMetrics": Answer(400, {}, b"too big data size; data.len=101 exceeds 100"),
    "VictoriaMetrics, unpacked": Answer(400, {}, b"too big unpacked request; mustn't exceed 9 bytes"),
    "snappy": Answer(400, {}, b"snappy: decoded length 4000 exceeds 100"),
    "Go's snappy": Answer(400, {}, b"snappy: decoded block is too large"),
    "Go": Answer(400, {}, b"http: request body too large"),
    "Mimir": Answer(
        400,
        {},
        b"the incoming push request has been rejected because its message size of 9 bytes is larger than",
    ),
    "Cortex": Answer(500, {}, b"rpc error: received message larger than max (9 vs. 8)"),
    "Node": Answer(400, {}, b"PayloadTooLargeError: request entity too large"),
    "Envoy": Answer(400, {}, b"Payload Too Large"),
}


@pytest.mark.parametrize("answer", TOO_BIG.values(), ids=TOO_BIG)
def test_too_large_is_understood_and_nothing_is_refused_for_it(answer: Answer) -> None:
    rig = Rig(queue=QUEUE, script=takes(samples=30, answer=answer))
    rig.collect(50, many(20))
    rig.drain()
    assert rig.ledger == (1000, {})
    assert rig.script.stored == rig.everything()
    assert not rig.items()
    assert len([size for size in rig.script.sizes if size > 30]) <= 4


@pytest.mark.parametrize(
    "words",
    [
        b"label value too long",
        b"received a series whose number of labels exceeds the limit",
        b"per-user series limit of 10 exceeded",
        b"too many labels",
    ],
)
def test_a_limit_of_a_series_is_no_limit_of_a_request(words: bytes) -> None:
    script = Script()
    script.refuse = lambda write: (
        Answer(400, {}, words) if any("m00003" in dict(s.labels)["__name__"] for s in write.series) else None
    )
    rig = Rig(queue=QUEUE, script=script)
    rig.collect(2, many(20))
    rig.drain()
    assert rig.ledger == (38, {"rejected": 2})


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 120), st.integers(1, 6), st.integers(1, 60), st.integers(600, 4000))
def test_whatever_a_receiver_takes_it_gets_everything(
    series: int, ticks: int, samples: int, size: int
) -> None:
    rig = Rig(queue=QUEUE, script=takes(samples, size))
    rig.collect(ticks, many(series))
    rig.drain()
    assert rig.script.stored == rig.everything()
    assert rig.ledger == (series * ticks, {})


def test_a_record_above_the_limit_of_samples_goes_out_in_parts() -> None:
    rig = Rig(queue=QUEUE)
    rig.collect(3, many(450))
    rig.drain()
    assert max(rig.script.sizes) <= 100
    assert min(rig.script.sizes) >= 50
    assert rig.script.stored == rig.everything()


def test_no_request_is_larger_than_what_gateways_take() -> None:
    rig = Rig(queue=QueueConfig(max_samples_per_send=100_000))
    noise = [chr(0x4E00 + i * i * 7919 % 20_000) for i in range(1000)]
    for name in "abcdefg":
        labels = ["".join([noise[(i * 31 + k * k) % 1000] for k in range(1000)]) for i in range(200)]
        rig.collect(1, tuple(Series(name, (("l", label),)) for label in labels))
    rig.drain()
    sizes = [len(body) for body in rig.script.bodies]
    assert max(sizes) <= LARGEST
    assert sum(sizes) > LARGEST
    assert rig.ledger == (1400, {})


def test_what_is_too_old_or_comes_twice_is_still_counted_once_where_a_chunk_is_cut() -> None:
    rig = Rig(queue=QUEUE, script=takes(samples=30))
    rig.collect(3, many(20))
    again: Tick = rig.appended[-1]
    rig.append(again._replace(values=[value + 0.5 for value in again.values]))
    rig.collect(2, many(20))
    rig.drain()
    assert rig.ledger == (100, {"rejected": 20})
    assert rig.script.stored == by_labels(rig.appended)


def test_a_culprit_in_a_part_costs_itself() -> None:
    script = takes(samples=30)
    too_large = script.refuse
    script.refuse = lambda write: (
        too_large(write)
        or (
            Answer(400, {}, b"no")
            if any(dict(s.labels)["__name__"] in ("m00007", "m00033") for s in write.series)
            else None
        )
    )
    rig = Rig(queue=QUEUE, script=script)
    rig.collect(4, many(50))
    rig.drain()
    assert rig.ledger == (192, {"rejected": 8})
    assert sum(map(len, rig.kept().values())) == 8
    assert rig.lane.state is State.IDLE


def slow(room: int) -> Script:
    """A link over which so many bytes go in the time of a request."""
    script = Script()
    script.refuse = lambda _: (
        Failure(Cause.TIMEOUT, "timeout: too slow", went=room) if len(script.bodies[-1]) > room else None
    )
    return script


def test_a_request_that_the_link_is_too_slow_for_is_sent_once() -> None:
    """And the next request needs half of the time."""
    rig = Rig(queue=QueueConfig(), script=slow(1000))
    rig.collect(10, many(100))
    rig.drain()
    assert rig.ledger == (1000, {})
    assert rig.script.stored == rig.everything()
    first, *others = [len(body) for body in rig.script.bodies]
    assert first > 1000
    assert max(others) <= 500


def test_a_single_sample_for_which_the_link_is_too_slow_waits_apart_from_what_goes() -> None:
    rig = Rig(queue=QueueConfig(), script=slow(1000))
    rig.collect(2, (*many(20), Series("giant", (("l", noise(8000, 1)),))))
    rig.drain()
    assert rig.ledger == (40, {"apart": 2})


def test_a_stop_that_cuts_a_request_short_teaches_nothing() -> None:
    rig = Rig(queue=QueueConfig(), script=slow(100))
    rig.collect(1, many(100))
    before = rig.lane.sender._delivery.now.largest
    rig.lane.sender.is_stopping = True
    rig.lane.sender.last_try(1.0)
    assert rig.script.bodies
    assert rig.lane.sender._delivery.now.largest == before


def noise(size: int, seed: int) -> str:
    """So many bytes of a text that does not compress to less than half."""
    return random.Random(seed).randbytes(size // 2).hex()


@pytest.mark.parametrize("size", [LARGEST, 16_000])
def test_a_record_of_megabytes_of_labels_drains(size: int) -> None:
    rig = Rig(queue=QueueConfig(), script=takes(size=size))
    rig.collect(1, tuple(Series(f"m{i}", (("l", noise(3000, i)),)) for i in range(800)))
    rig.drain()
    assert rig.ledger == (800, {})


@pytest.mark.parametrize("others", [0, 20])
def test_a_single_sample_that_is_too_large_waits_apart(others: int) -> None:
    """It blocks nobody, and comes back when the limit is raised."""
    script = takes(size=2000)
    rig = Rig(queue=QueueConfig(), script=script)
    giant = Series("giant", (("l", noise(8000, 1)),))
    rig.collect(2, (*many(others), giant))
    rig.drain()
    assert rig.ledger == (2 * others, {"apart": 2})
    assert "wait apart, because of: HTTP 413" in str(rig.lane.error)
    requests = len(script.bodies)
    assert requests < 30
    rig.collect(2, (*many(others), giant))
    rig.drain()
    assert len(script.bodies) <= requests + 2
    script.refuse = lambda _: None
    rig.now += 3600
    rig.collect(1, (*many(others), giant))
    rig.now += 30
    while rig.items():
        rig.step()
    rig.drain()
    assert rig.ledger == (5 * (others + 1), {})
    assert script.stored == rig.everything()


@pytest.mark.parametrize("script", [takes(size=2000), takes(samples=30), slow(1000)])
def test_the_size_that_goes_is_known_after_a_restart(script: Script) -> None:
    """And it still grows when there is room again."""
    rig = Rig(queue=QueueConfig(), script=script)
    rig.collect(10, many(100))
    rig.drain()
    rig.start_again()
    before = len(script.bodies)
    rig.collect(10, many(100))
    rig.drain()
    refused = [body for body in script.bodies[before:] if script.refuse(wire.decode(body))]
    assert len(refused) <= 3  # one that was tried after 16 of them, not ten times the size
    assert max(map(len, script.bodies[before:])) < 4100
    small = max(script.sizes[before:])
    script.refuse = lambda _: None
    rig.start_again()
    rig.collect(100, many(100))
    rig.drain()
    assert max(script.sizes[-3:]) > 2 * small
    assert script.stored == rig.everything()
