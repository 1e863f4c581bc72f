"""What a receiver gets about metrics: their type, unit and help, and when counters began. Over real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import MetadataConfig, QueueConfig
from agent.destinations.remote_write.descriptions import AGAIN
from buffer.model import Instant, Series, Tick
from tests.support.net import wait_for
from tests.support.protocols import V1, V2
from tests.support.receiver import Answer, Receiver
from tests.support.sending import BOOT, FIRST_MS, STEP_MS, destination, host
from tests.support.wire import Metadata

QUEUE = QueueConfig(batch_send_deadline=0.02)
SERIES = (
    Series(
        "disk_read_bytes_total", (("device", "sda"), ("hostname", "a")), "counter", "bytes", "Bytes read."
    ),
    Series(
        "disk_read_bytes_total", (("device", "sdb"), ("hostname", "a")), "counter", "bytes", "Bytes read."
    ),
    Series("memory_free_bytes", (("hostname", "a"),), "gauge", "bytes", "Free."),
)
DESCRIBED = {
    Metadata("disk_read_bytes_total", "counter", "bytes", "Bytes read."),
    Metadata("memory_free_bytes", "gauge", "bytes", "Free."),
}
TYPES_ALONE = {one._replace(unit="", help="") for one in DESCRIBED}
NEW = Series("disk_count", (), "gauge", "", "Disks.")


class Clock:
    """A monotonic clock that goes a step with each look, so that lanes wait for nothing."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def described(receiver: Receiver) -> list[set[Metadata]]:
    """Return the metadata of each request that has samples."""
    return [set(request.write.metadata) for request in receiver.requests if request.write.samples]


@pytest.mark.parametrize(("protocol", "else_"), [(V1, set()), (V2, TYPES_ALONE)])
def test_a_metric_is_described_again_when_its_interval_has_passed(
    tmp_path: Path, protocol: str, else_: set[Metadata]
) -> None:
    clock = Clock()
    to_settings = {"queue_config": QUEUE, "protobuf_message": protocol}
    with Receiver() as receiver:
        to = destination(receiver.url, metadata_config=MetadataConfig(send_interval=60.0), **to_settings)
        with host(tmp_path, to, series=SERIES, ticks=0, clock=clock) as one:
            for step in (0.0, 1.0, 1.0, 60.0, 1.0):
                clock.now += step
                one.collect()
                one.settled()
        one.accounted(receiver)
        assert described(receiver) == [DESCRIBED, else_, else_, DESCRIBED, else_]


def test_a_metric_is_described_again_after_trouble_and_not_more_than_each_five_minutes(
    tmp_path: Path,
) -> None:
    clock = Clock()
    with Receiver() as receiver:
        to = destination(receiver.url, queue_config=QUEUE, protobuf_message=V2)
        with host(tmp_path, to, series=SERIES, ticks=0, clock=clock) as one:
            for step, answers in ((0, []), (AGAIN + 1, []), (1, [500]), (1, []), (1, [500]), (1, [])):
                clock.now += step
                receiver.answers.extend(Answer(status) for status in answers)
                one.collect()
                one.settled()
        one.accounted(receiver)
        told = [one == DESCRIBED for one in described(receiver)]
        # first; -; a failure and the same again; described; a failure and the same again; -
        assert told == [True, False, False, False, True, False, False, False]


def test_a_series_that_is_new_or_another_is_described(tmp_path: Path) -> None:
    with Receiver() as receiver:
        to = destination(receiver.url, queue_config=QUEUE, protobuf_message=V2)
        with host(tmp_path, to, series=SERIES, ticks=1) as one:
            one.settled()
            better = SERIES[0]._replace(help="Better.")
            for n, series in enumerate([(*SERIES, NEW), (better,), (better,)]):
                at = Instant(FIRST_MS + (n + 1) * STEP_MS, (n + 1) * STEP_MS, BOOT)
                one.buffer.append([Tick(at, "all", series, [1.0] * len(series))])
                one.settled()
        told = [{metadata.help for metadata in found if metadata.help} for found in described(receiver)]
        assert told[1:] == [{NEW.help}, {"Better."}, set()]


def test_1_0_describes_what_was_not_delivered_again(tmp_path: Path) -> None:
    with Receiver([Answer(500), Answer(400, body=b"no")]) as receiver:
        to = destination(receiver.url, queue_config=QUEUE, protobuf_message=V1)
        with host(tmp_path, to, series=SERIES, ticks=1) as one:
            one.settled()
            one.collect()
            one.settled()
        told = described(receiver)
        assert told[:2] == [DESCRIBED, DESCRIBED]  # the repeated request is the same
        assert told[-1] == DESCRIBED  # the batch that was refused in part did not count


def test_1_0_describes_no_more_at_once_than_is_allowed(tmp_path: Path) -> None:
    with Receiver() as receiver:
        to = destination(
            receiver.url,
            queue_config=QUEUE,
            protobuf_message=V1,
            metadata_config=MetadataConfig(max_samples_per_send=1),
        )
        with host(tmp_path, to, series=SERIES, ticks=0) as one:
            for _ in range(3):
                one.collect()
                one.settled()
        told = described(receiver)
        assert [len(one) for one in told] == [1, 1, 0]
        assert set().union(*told) == DESCRIBED


def test_2_0_describes_each_series_in_each_request_where_that_is_wanted(tmp_path: Path) -> None:
    with Receiver() as receiver:
        always = MetadataConfig(send_interval=0.0001)
        to = destination(receiver.url, queue_config=QUEUE, protobuf_message=V2, metadata_config=always)
        with host(tmp_path, to, series=SERIES, ticks=0) as one:
            for _ in range(3):
                one.collect()
                one.settled()
        one.accounted(receiver)
        assert described(receiver) == [DESCRIBED] * 3
        for request in receiver.requests:
            assert all(series.metadata in DESCRIBED for series in request.write.series)


@pytest.mark.parametrize("protocol", [V1, V2])
def test_nothing_is_described_when_it_is_switched_off(tmp_path: Path, protocol: str) -> None:
    off = MetadataConfig(send=False)
    with Receiver() as receiver:
        to = destination(receiver.url, queue_config=QUEUE, protobuf_message=protocol, metadata_config=off)
        with host(tmp_path, to, series=SERIES, ticks=3) as one:
            one.settled()
        one.accounted(receiver)
        assert not any(described(receiver))


def test_2_0_carries_when_the_hosts_counters_began(tmp_path: Path) -> None:
    """The host of these tests was booted at FIRST_MS: its ticks' monotonic times begin there."""
    with Receiver() as receiver:
        to = destination(receiver.url, queue_config=QUEUE, protobuf_message=V2)
        with host(tmp_path, to, series=SERIES, ticks=5, from_boot=frozenset(["all"])) as one:
            one.settled()
        one.accounted(receiver)
        wait_for(lambda: receiver.requests, 5, "a request")
        for request in receiver.requests:
            for series in request.write.series:
                told = dict(zip([at for at, _ in series.samples], series.starts, strict=False))
                counts = dict(series.labels)["__name__"].endswith("_total")
                # A sample at the very moment of the boot has counted nothing yet.
                assert told == ({at: FIRST_MS if at > FIRST_MS else 0 for at in told} if counts else {})
