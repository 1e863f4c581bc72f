"""The cases of prometheus/compliance (`remotewrite/sender`), by their names, as far as they apply to this sender.

Each file there is a table here. Where that suite only requires that a sender continues, these tests also require that
every sample is accounted for. What does not apply:

- no_retry_on_401, no_retry_on_404: the write is not retried, but neither dropped (`held`): it waits for the operator.
- histograms_test, exemplars_test, combined_test and what concerns them in others: there are none, exemplars unless asked for.
- symbols_test, fallback_test, content_type_with_proto_param, process_written_count_headers,
  handle_partial_write_response, handle_missing_written_headers, start_timestamp_*: remote write 2.0, which has tests of
  its own (test_sender_protocols.py).
- metadata_test, metadata_batching, rw1_metadata_handling: metadata has tests of its own.
- label_names_not_empty, label_name_format_valid, metric_name_format_valid, no_duplicate_label_names,
  label_values_may_be_empty, reserved_label_prefix: the receiver of these tests refuses what breaks them, in every test.
- job_instance_labels_present: a push has no job; `hostname` is on each series.
- invalid_url_scheme: refused by `limpet check-config`, see test_config.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import snappy

from agent.send.state import Rules
from agent.system.events import Event
from buffer.model import Instant, Series, Tick
from tests.fault.test_sender_faults import FAULTS
from tests.support.front import Act, Exchange, Front
from tests.support.net import free_port, wait_for
from tests.support.protocols import PROTOCOLS, V1
from tests.support.receiver import Answer, Received, Receiver
from tests.support.sending import BOOT, FIRST_MS, SERIES, STEP_MS, destination, host, labels_of

pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)


def cases(table: Mapping[str, object]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", table.values(), ids=table)


# protocol_test, and the half of rw1_compat_test that is about headers.

PROTOCOL: dict[str, Callable[[Received], bool]] = {
    "content_type_protobuf": lambda r: r.headers["content-type"].startswith("application/x-protobuf"),
    "content_encoding_snappy": lambda r: r.headers["content-encoding"] == "snappy",
    "version_header_present": lambda r: "x-prometheus-remote-write-version" in r.headers,
    "user_agent_present": lambda r: r.headers["user-agent"].startswith("limpet/"),
    "snappy_block_format": lambda r: bool(snappy.uncompress(r.body)) and not r.body.startswith(b"\xff\x06"),
    "protobuf_parseable": lambda r: r.write.samples > 0,
    "TestHTTPMethod": lambda r: r.method == "POST",
}
V1_ONLY: dict[str, Callable[[Received], bool]] = {
    "rw1_version_header": lambda r: r.headers["x-prometheus-remote-write-version"] == "0.1.0",
    "rw1_content_type": lambda r: r.headers["content-type"] == "application/x-protobuf",
}


@cases(PROTOCOL)
def test_protocol(tmp_path: Path, case: Callable[[Received], bool], protocol: str) -> None:
    assert case(sent(tmp_path, protocol, [tick(0, SERIES, (1.0, 2.0))])[0])


@cases(V1_ONLY)
def test_rw1_compat(tmp_path: Path, case: Callable[[Received], bool], protocol: str) -> None:
    if protocol != V1:
        pytest.skip("of remote write 1.0")
    assert case(sent(tmp_path, protocol, [tick(0, SERIES, (1.0, 2.0))])[0])


def tick(n: int, series: Sequence[Series], values: Sequence[float], at_ms: int | None = None) -> Tick:
    return Tick(
        Instant(FIRST_MS + n * STEP_MS if at_ms is None else at_ms, n * STEP_MS, BOOT),
        "all",
        tuple(series),
        values,
    )


def sent(folder: Path, protocol: str, ticks: Sequence[Tick]) -> list[Received]:
    """The requests in which these ticks arrive, which the receiver has found no fault with."""
    with Receiver() as receiver:
        with host(folder, destination(receiver.url, protobuf_message=protocol), ticks=0) as one:
            for each in ticks:
                one.buffer.append([each])
            one.settled()
            assert not one.logged(Event.REFUSED)
        assert not receiver.broken
        return list(receiver.requests)


# samples_test, timestamps_test, special_float_combinations of edge_cases_test, rw1_samples_encoding.

VALUES = {
    "float_value_encoding": (123.456, -0.1),
    "integer_value_encoding": (42.0, 2.0**53),
    "zero_value_encoding": (0.0, -0.0),
    "negative_value_encoding": (-123.456, -1.0),
    "positive_infinity_encoding": (math.inf, 1.0),
    "negative_infinity_encoding": (-math.inf, 1.0),
    "nan_encoding": (math.nan, 1.0),
    "large_float_values": (1.7976931348623157e308, 1e300),
    "small_float_values": (5e-324, 2.2250738585072014e-308),
    "scientific_notation": (1.23e-10, 4.56e20),
    "precision_preservation": (0.1 + 0.2, 3.141592653589793),
    "special_float_combinations": (math.nan, -math.inf),
}


@cases(VALUES)
def test_samples(tmp_path: Path, case: tuple[float, float], protocol: str) -> None:
    """Bit for bit, by their millisecond."""
    requests = sent(tmp_path, protocol, [tick(n, SERIES, case, FIRST_MS + 1 + n * 999) for n in range(3)])
    found: dict[str, list[tuple[int, bytes]]] = {}
    for request in requests:
        for labels, samples, *_ in request.write.series:
            found.setdefault(dict(labels)["__name__"], []).extend(
                (at, struct.pack("<d", value)) for at, value in samples
            )
    times = [FIRST_MS + 1, FIRST_MS + 1000, FIRST_MS + 1999]
    assert found == {
        series.name: [(at, struct.pack("<d", value)) for at in times]
        for series, value in zip(SERIES, case, strict=True)
    }


TIMES = {
    "timestamp_int64_milliseconds": [FIRST_MS, FIRST_MS + 1],
    "zero_timestamp": [0, 1],
    "timestamp_future_values": [FIRST_MS, FIRST_MS + 50 * 365 * 86_400_000],
    "timestamp_ordering_within_series": [FIRST_MS + n for n in range(100)],
    "TestSampleOrdering": [FIRST_MS + 2000, FIRST_MS + 1000, FIRST_MS + 3000],  # a clock was set back
}


@cases(TIMES)
def test_timestamps(tmp_path: Path, case: list[int], protocol: str) -> None:
    requests = sent(tmp_path, protocol, [tick(n, SERIES[:1], (float(n),), at) for n, at in enumerate(case)])
    for request in requests:
        for series in request.write.series:
            assert all(one < other for (one, _), (other, _) in pairwise(series.samples))
    found = {at: value for r in requests for series in r.write.series for at, value in series.samples}
    assert found == {at: float(n) for n, at in enumerate(case)}


# labels_test, and what edge_cases_test has of labels, names and sizes; rw1_labels_encoding.

LABELS: dict[str, list[Series]] = {
    "label_lexicographic_ordering": [
        Series("m", (("A", "1"), ("Z", "2"), ("_", "3"), ("a", "4"), ("b", "5")))
    ],
    "metric_name_label_present": [Series("m", ())],
    "metric_name_with_colons": [Series("job:m:rate5m", (("a", "1"),))],
    "very_long_metric_name": [Series("m" * 1000, (("a", "1"),))],
    "unicode_in_label_values": [Series("m", (("a", "héllo wörld 日本 🐚"),))],
    "special_chars_in_label_values": [Series("m", (("a", '"quo\\ted"\n\t{}=,\x00\x7f'),))],
    "very_long_label_names": [Series("m", (("a" * 1000, "1"),))],
    "very_long_label_values": [Series("m", (("a", "v" * 1000),))],
    "huge_label_values": [Series("m", (("a", "v" * 20_000),))],
    "many_labels_per_series": [Series("m", tuple((f"l{n:03}", str(n)) for n in range(100)))],
    "many_timeseries": [Series(f"m{n:04}", (("a", "1"),)) for n in range(1000)],
    "high_cardinality": [Series("m", (("id", f"{n:04}"),)) for n in range(1000)],
    "handles_varying_cardinality": [Series("m", tuple((f"l{i}", "x") for i in range(n))) for n in range(5)],
    "multiple_series_per_request": list(SERIES),
}


@cases(LABELS)
def test_labels(tmp_path: Path, case: list[Series], protocol: str) -> None:
    requests = sent(tmp_path, protocol, [tick(0, case, [float(n) for n in range(len(case))])])
    series = [one for request in requests for one in request.write.series]
    assert {one.labels: one.samples for one in series} == {
        labels_of(one): ((FIRST_MS, float(n)),) for n, one in enumerate(case)
    }
    assert len(series) == len(case)


# batching_test and empty_scrape.


def test_empty_scrape(tmp_path: Path, protocol: str) -> None:
    assert sent(tmp_path, protocol, []) == []


def test_batch_size_reasonable(tmp_path: Path, protocol: str) -> None:
    """As large as configured, and no larger."""
    requests = sent(tmp_path, protocol, [tick(n, SERIES, (1.0, 2.0)) for n in range(100)])
    assert max(request.write.samples for request in requests) == 20
    assert sum(request.write.samples for request in requests) == 200


def test_concurrent_requests(tmp_path: Path, protocol: str) -> None:
    """There are none, since the samples of a series have to arrive in order: one is answered, then the next comes."""
    open_now, most = [0], [0]

    def counted(x: Exchange) -> None:
        open_now[0] += 1
        most[0] = max(most[0], open_now[0])
        answer = x.pass_on()
        open_now[0] -= 1
        x.send(answer)

    with (
        Receiver() as receiver,
        Front(receiver, [counted] * 1000) as front,
        host(tmp_path, destination(front.url, protobuf_message=protocol)) as one,
    ):
        one.collect(60)
        one.settled()
        one.accounted(receiver)
    assert most == [1]


# retry_test and backoff_test.


class Retry:
    """What a status is answered by, in numbers of requests while it lasts."""

    def __init__(self, status: int, *, retried: bool) -> None:
        self.status, self.retried = status, retried


RETRY = {
    "no_retry_on_400": Retry(400, retried=False),
    "no_retry_on_413": Retry(413, retried=False),
    "may_retry_on_429": Retry(429, retried=True),
    "retry_on_500": Retry(500, retried=True),
    "retry_on_502": Retry(502, retried=True),
    "retry_on_503": Retry(503, retried=True),
    "retry_on_504": Retry(504, retried=True),
    "no_retry_on_401": Retry(401, retried=False),
    "no_retry_on_404": Retry(404, retried=False),
}


@cases(RETRY)
def test_retry(tmp_path: Path, case: Retry, protocol: str) -> None:
    """Whether the same request comes again; and when it is taken in the end, nothing has been lost."""
    with Receiver() as receiver:
        receiver.refuse = lambda write: Answer(case.status, body=b"no") if write.samples else None
        with host(tmp_path, destination(receiver.url, protobuf_message=protocol), rules=SLOW_PROBES) as one:
            if case.retried:
                wait_for(lambda: len(receiver.requests) >= 4, 10, "some tries")
            elif case.status == 400:
                one.settled()
            else:
                one.held()
            bodies = [request.body for request in receiver.requests if request.write.samples]
            # After a 413 one repeated request is allowed: a single sample that is too large is tried once more.
            again = len(bodies) - len(set(bodies)) - (case.status == 413)
            assert (again > 0) == case.retried
            receiver.refuse = lambda _: None
        with host(tmp_path, destination(receiver.url, protobuf_message=protocol)) as one:
            one.settled()
            one.accounted(receiver)


SLOW_PROBES = Rules(0.01, 0.05, 900.0, 900.0)


def test_backoff_required(tmp_path: Path, protocol: str) -> None:
    """Never at once; exponential_backoff_on_retries, backoff_max_delay, backoff_with_jitter: see test_sender_outcome."""
    with Receiver([Answer(503)] * 8) as receiver:
        rules = Rules(0.05, 0.2)
        with host(tmp_path, destination(receiver.url, protobuf_message=protocol), rules=rules) as one:
            one.settled()
            one.accounted(receiver)
        assert all(later.at - one.at >= 0.05 for one, later in pairwise(list(receiver.requests)[:9]))


# response_test.

RESPONSES = {
    "ignore_response_body_on_success": Answer(200, body=b'{"status": "error", "error": "HTTP 400"}'),
    "handle_204_no_content": Answer(204),
    "handle_200_ok": Answer(200),
    "handle_empty_response": Answer(200, {"Content-Type": "text/plain"}),
    "TestContentTypeNegotiation": Answer(200, {"Content-Type": "application/json"}, b"{}"),
}


@cases(RESPONSES)
def test_response(tmp_path: Path, case: Answer, protocol: str) -> None:
    with Receiver() as receiver:
        receiver.default = case
        with host(tmp_path, destination(receiver.url, protobuf_message=protocol)) as one:
            one.collect(30)
            one.settled()
            one.accounted(receiver)
            assert one.lane.stats.retries == 0


def test_log_error_messages_verbatim(tmp_path: Path, protocol: str) -> None:
    with Receiver([Answer(503, body='sämple "limit" {of} 50%d\n'.encode())]) as receiver:
        with host(tmp_path, destination(receiver.url, protobuf_message=protocol)) as one:
            one.settled()
            one.accounted(receiver)
        assert one.logged(Event.RETRY)[0]["error"] == 'HTTP 503: sämple "limit" {of} 50%d'


@pytest.mark.parametrize("status", [400, 500])
def test_handle_large_error_body(tmp_path: Path, status: int, protocol: str) -> None:
    with Receiver([Answer(status, body=b"x" * (1 << 20))]) as receiver:
        with host(tmp_path, destination(receiver.url, protobuf_message=protocol)) as one:
            one.collect(30)
            one.settled()
            one.accounted(receiver)
        assert all(len(str(entry.get("error"))) < 300 for entry in one.logs)


# error_handling_test.

ERRORS: dict[str, Act] = {
    "handle_timeout": FAULTS["hang"].act,
    "handle_partial_write": FAULTS["half a body"].act,
    "handle_malformed_response": FAULTS["no valid header"].act,
    "handle_invalid_status_code": FAULTS["a status of no kind"].act,
    "sender_continues_after_errors": FAULTS["half a body of a refusal"].act,
}


@cases(ERRORS)
def test_error_handling(tmp_path: Path, case: Act, protocol: str) -> None:
    with Receiver() as receiver, Front(receiver, [case]) as front:
        to = destination(front.url, protobuf_message=protocol, remote_timeout=0.5)
        with host(tmp_path, to) as one:
            one.collect(30)
            one.settled()
            one.accounted(receiver)


@pytest.mark.parametrize("name", ["handle_connection_refused", "dns_resolution_failure"])
def test_network_errors(tmp_path: Path, name: str, protocol: str) -> None:
    refused = name == "handle_connection_refused"
    url = f"http://127.0.0.1:{free_port()}/" if refused else "http://nonexistent.invalid:9999/api/v1/write"
    with host(tmp_path, destination(url, protobuf_message=protocol)) as one:
        wait_for(lambda: one.lane.stats.retries >= 2, 20, "some tries")
        words = "connection refused" if refused else "cannot be resolved"
        assert words in str(one.lane.error)
        assert one.cursor.pending() == 2
