"""OTLP through everything that remote write goes through, over real sockets, read by OpenTelemetry's own definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.config import OTLP, QueueConfig
from agent.destinations.otlp.destination import UNREADABLE
from buffer.model import Instant, Series, Tick
from tests.support.certs import Certs
from tests.support.otlp import decode, partial
from tests.support.receiver import Answer, Receiver
from tests.support.sending import BOOT, FIRST_MS, SERIES, STEP_MS, arrived, by_labels, host

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def otlp(port: int, scheme: str = "http", **settings: Any) -> OTLP:
    queue = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=20)
    url = f"{scheme}://127.0.0.1:{port}/v1/metrics"
    return OTLP(**{"url": url, "name": "there", "remote_timeout": 5.0, "queue_config": queue, **settings})


def receiver(*answers: Answer, certs: Certs | None = None) -> Receiver:
    return Receiver(answers, certs=certs, read=decode, unreadable=UNREADABLE)


@pytest.mark.parametrize("status", [200, 202, 204, 301, 401, 404, 413, 408, 429, 503])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_every_class_of_status_ends_with_everything_delivered(
    tmp_path: Path, status: int, compression: str
) -> None:
    to = {"compression": compression}
    with receiver(Answer(), *[Answer(status)] * 3) as there, host(tmp_path, otlp(there.port, **to)) as one:
        one.outlives(there, status)
        assert {request.path for request in there.requests} == {"/v1/metrics"}


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, body=b"label is not allowed"),
        Answer(500, PROTOBUF, b"\x08\x0d\x12\x04oops"),
        Answer(200, PROTOBUF, partial(1, "no such metric")),
    ],
    ids=["400", "500", "partial success"],
)
def test_one_bad_series_costs_itself(tmp_path: Path, answer: Answer) -> None:
    """A partial success counts one point, but may say less than the truth: each part is sent again."""
    with receiver() as there:
        there.refuse = lambda write: answer if "memory" in str(write.series) else None
        with host(tmp_path, otlp(there.port)) as one:
            one.collect(30)
            one.settled()
            assert {dict(labels)["__name__"] for labels in one.kept()} == {"memory"}
            assert one.cursor.ledger.dropped == {"rejected": 31}
            assert one.cursor.ledger.delivered == 31


def test_what_is_too_old_is_aged_and_the_rest_arrives(tmp_path: Path) -> None:
    oldest = FIRST_MS + 13 * STEP_MS
    with receiver() as there:
        there.refuse = lambda write: (
            Answer(400, body=b"out of bounds")
            if any(at < oldest for one in write.series for at, _ in one.samples)
            else None
        )
        with host(tmp_path, otlp(there.port), ticks=30) as one:
            one.settled()
            one.accounted(there)
            # A search has a bound, so it may end a tick beyond what is too old.
            assert one.cursor.ledger.dropped.keys() == {"aged"}
            assert 2 * 13 <= one.cursor.ledger.dropped["aged"] <= 2 * 15


def test_series_of_one_identity_are_one(tmp_path: Path) -> None:
    series = (*SERIES, Series("cpu", (("empty", ""), ("hostname", "a"))))
    with receiver() as there, host(tmp_path, otlp(there.port), series=series, ticks=20) as one:
        one.settled()
        assert one.cursor.ledger.dropped == {"rejected": 20}
        assert one.cursor.ledger.delivered == 40


def latencies(rows: int, bounds: int) -> list[Tick]:
    """Return ticks of a histogram, and of a series next to it."""
    own = ("hostname", "a")
    of = [Series("http_seconds_bucket", (own, ("le", f"{n}.0")), "histogram") for n in range(bounds)]
    of.append(Series("http_seconds_bucket", (own, ("le", "+Inf")), "histogram"))
    of += [Series(f"http_seconds{end}", (own,), "histogram") for end in ("_sum", "_count")]
    series = (*of, Series("jobs", (own,)))

    def values(n: int) -> list[float]:
        counts = [float(n * 10 + i) for i in range(bounds + 1)]
        return [*counts, n / 3, counts[-1], float(n)]

    instants = (Instant(FIRST_MS + n * STEP_MS, n * STEP_MS, BOOT) for n in range(rows))
    return [Tick(at, "all", series, values(n)) for n, at in enumerate(instants)]


@pytest.mark.parametrize("largest", [8000, 500])
def test_a_histogram_that_is_cut_arrives_all_the_same(tmp_path: Path, largest: int) -> None:
    ticks = latencies(20, 30)
    with receiver() as there:
        there.refuse = lambda write: (
            Answer(413) if sum(len(one.samples) for one in write.series) > largest else None
        )
        to = otlp(there.port, queue_config=QueueConfig(batch_send_deadline=0.02, max_samples_per_send=2000))
        with host(tmp_path, to, series=ticks[0].series, ticks=0) as one:
            for tick in ticks:
                one.buffer.append([tick])
            one.settled()
            assert not one.cursor.ledger.dropped
        assert arrived(there) == by_labels(ticks)


@pytest.mark.parametrize(
    "answer", [Answer(400, body=b"no"), Answer(200, PROTOBUF, partial(1, "no"))], ids=["400", "partial"]
)
def test_a_histogram_that_is_refused_costs_itself(tmp_path: Path, answer: Answer) -> None:
    ticks = latencies(5, 3)
    with receiver() as there:
        there.refuse = lambda write: answer if "http_seconds" in str(write.series) else None
        with host(tmp_path, otlp(there.port), series=ticks[0].series, ticks=0) as one:
            for tick in ticks:
                one.buffer.append([tick])
            one.settled()
            assert one.cursor.ledger.dropped == {"rejected": 5 * 6}
            assert one.cursor.ledger.delivered == 5
            assert {**one.kept(), **by_labels(ticks)} == by_labels(ticks)
            assert {dict(labels)["__name__"] for labels in one.kept()} == {
                f"http_seconds_{end}" for end in ("bucket", "sum", "count")
            }
