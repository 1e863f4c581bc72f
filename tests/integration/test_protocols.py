"""Both protocols on real sockets: what the tests' receiver takes and refuses, and that Prometheus takes our bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import snappy

from agent.destinations.remote_write.encode1 import Encoder1
from agent.destinations.remote_write.encode2 import Encoder2
from buffer.model import Instant, Series, Tick
from tests.support.prometheus import Prometheus
from tests.support.receiver import HEADERS, Answer, Foreign, Receiver
from tests.support.wire import Metadata, TimeSeries, Version, Write, encode

A = (("__name__", "a"), ("host", "x"))
ONE = TimeSeries(A, ((1, 1.0), (2, 2.0)))
TOLD = ONE._replace(metadata=Metadata("a", "counter", "bytes", "Help."), starts=(1, 1))
WRITTEN = "x-prometheus-remote-write-samples-written"
COUNTS = {
    WRITTEN,
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
}
OTHER: Mapping[Version, Version] = {"1.0": "2.0", "2.0": "1.0"}


def push(url: str, version: Version, series: list[TimeSeries], **headers: str) -> httpx.Response:
    return httpx.post(
        url, content=encode(series, version), headers={**HEADERS[version], **headers}, timeout=10
    )


def counts(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name in COUNTS}


def test_the_receiver_speaks_both_and_counts_what_it_wrote_of_2_0() -> None:
    with Receiver([Answer(503), Answer(200, {WRITTEN: "1"})]) as receiver:
        assert counts(push(receiver.url, "2.0", [TOLD])) == dict.fromkeys(COUNTS, "0")
        assert counts(push(receiver.url, "2.0", [TOLD]))[WRITTEN] == "1"
        answer = push(receiver.url, "2.0", [TOLD])
        assert (answer.status_code, counts(answer)) == (204, {**dict.fromkeys(COUNTS, "0"), WRITTEN: "2"})
        assert counts(push(receiver.url, "1.0", [ONE])) == {}
        assert list(receiver.accepted) == [
            Write((TOLD,), (Metadata("a", "counter", "bytes", "Help."),), "2.0"),
            Write((TOLD,), (Metadata("a", "counter", "bytes", "Help."),), "2.0"),
            Write((ONE,)),
        ]
        receiver.counts = False
        assert counts(push(receiver.url, "2.0", [TOLD])) == {}
        assert receiver.samples == 8


@pytest.mark.parametrize("speaks", ["1.0", "2.0"])
@pytest.mark.parametrize(("how", "status"), [("415", 415), ("400", 400), ("silent", 204)])
def test_a_receiver_of_one_protocol_stores_nothing_of_the_other(
    speaks: Version, how: Foreign, status: int
) -> None:
    with Receiver([Answer(502), Answer(200)], speaks=speaks, to_foreign=how) as receiver:
        answer = push(receiver.url, OTHER[speaks], [ONE])
        assert (answer.status_code, counts(answer)) == (502, {})  # what goes wrong before it is read
        receiver.requests.clear()
        answer = push(receiver.url, OTHER[speaks], [ONE])
        assert (answer.status_code, counts(answer)) == (status, {})
        assert [(one.write.version, one.write.samples) for one in receiver.foreign] == [(OTHER[speaks], 2)]
        assert (len(receiver.requests), receiver.samples, len(receiver.broken)) == (0, 0, 0)
        assert push(receiver.url, speaks, [ONE]).status_code == 204
        receiver.speaks = "both"
        assert push(receiver.url, OTHER[speaks], [ONE]).status_code == 204
        assert receiver.samples == 4
        assert len(receiver.foreign) == 1


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "application/x-protobuf;proto=other"},
        {"Content-Encoding": "identity"},
        {"X-Prometheus-Remote-Write-Version": "1.0.0"},
    ],
)
def test_headers_of_no_protocol_are_refused(version: Version, wrong: dict[str, str]) -> None:
    with Receiver() as receiver:
        assert push(receiver.url, version, [ONE], **wrong).status_code == 400
        assert push(receiver.url, version, [ONE], **HEADERS[OTHER[version]]).status_code == 400
        assert (len(receiver.broken), receiver.samples) == (2, 0)


def test_prometheus_takes_what_both_encoders_write(prometheus_program: Path, tmp_path: Path) -> None:
    now = time.time_ns() // 1_000_000
    sent = Series("sent_bytes_total", (("device", "eth0"),), "counter", "bytes", "Bytes sent.")
    odd = Series("free_bytes", (("mountpoint", "/mnt/\udcff"), ("none", "")), "gauge", "bytes", "Free.")

    def ticks(end: int) -> list[Tick]:
        return [
            Tick(Instant(at, 3_600_000 + at - end, "boot"), "net", (sent, odd), [float(at % 1000), -0.0])
            for at in range(end - 20_000, end + 1, 10_000)
        ]

    expected: dict[tuple[tuple[str, str], ...], list[tuple[int, float]]] = {}
    with Prometheus(prometheus_program, tmp_path) as server:
        first, second = ticks(now - 60_000), ticks(now)
        encoder = Encoder1()
        encoded = encoder.encode(first, encoder.families(first))
        answer = httpx.post(
            server.write_url, content=snappy.compress(encoded.body), headers=HEADERS["1.0"], timeout=10
        )
        assert answer.status_code == 204, answer.text

        encoded = Encoder2(from_boot=frozenset({"net"})).encode(second)
        answer = httpx.post(
            server.write_url, content=snappy.compress(encoded.body), headers=HEADERS["2.0"], timeout=10
        )
        assert (answer.status_code, answer.headers.get(WRITTEN)) == (204, "6"), answer.text

        empty = snappy.compress(Encoder2().encode(()).body)
        answer = httpx.post(server.write_url, content=empty, headers=HEADERS["2.0"], timeout=10)
        assert (answer.status_code, answer.headers.get(WRITTEN)) == (204, "0"), answer.text

        for one in first + second:
            for labels, value in zip(
                (
                    (("__name__", "sent_bytes_total"), ("device", "eth0")),
                    (("__name__", "free_bytes"), ("mountpoint", "/mnt/\\udcff")),
                ),
                one.values,
                strict=True,
            ):
                expected.setdefault(labels, []).append((one.at.wall_ms, value))
        found = {
            **server.raw_samples("sent_bytes_total", now - 100_000, now),
            **server.raw_samples("free_bytes", now - 100_000, now),
        }
        assert found == expected
