"""OTLP as bytes and answers: what OpenTelemetry's own library reads of a request, and what an answer means."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors import COLLECTORS
from agent.config import OTLP, RelabelConfig
from agent.destinations.base import Age, Request, Verdict
from agent.destinations.otlp import semantic
from agent.destinations.otlp.destination import otlp
from agent.destinations.otlp.outcome import classify
from agent.destinations.otlp.protobuf import fields
from agent.http.answer import Answer
from buffer.model import STALE, Instant, Series, Tick
from tests.support.otlp import Point, partial, points, request

URL = "https://otel.example.com/v1/metrics"
HOST = ("hostname", "web-01")
BOOT = "0123456789abcdef0123456789abcdef"
AT_MS = 1_800_000_000_000
NOW = AT_MS / 1000
"""Of the answers, whose times do not count here."""
SENT = Request(b"", 10, "OTLP", note=10)


def tick(series: tuple[Series, ...], values: list[float], n: int = 0, group: str = "cpu") -> Tick:
    return Tick(Instant(AT_MS + n * 10_000, 50_000 + n * 10_000, BOOT), group, series, values)


def read(*ticks: Tick, **settings: object) -> list[Point]:
    spoken = otlp(OTLP(url=URL, **settings), frozenset(("cpu",)))()  # type: ignore[arg-type]
    made = spoken.encode(ticks, False).request
    headers = {name.lower(): value.decode() for name, value in made.headers.items()}
    found = list(points(made.body, headers))
    assert made.samples == len(found)
    return found


def test_a_counter_is_a_sum_from_the_boot_on_and_a_gauge_a_gauge() -> None:
    series = (
        Series("cpu_seconds_total", (("cpu", "0"), HOST), "counter", "seconds", "CPU time."),
        Series("cpu_usage_percent", (HOST,), "gauge", "percent", "CPU in use."),
    )
    counted, used = read(tick(series, [17.5, 3.0]))
    whose = {"host.name": "web-01", "service.instance.id": "web-01", "service.name": "limpet"}
    labels = (("cpu", "0"), HOST)
    assert counted == Point(
        whose, "cpu_seconds_total", "CPU time.", "s", True, labels, AT_MS - 50_000, AT_MS, 17.5
    )
    assert used == Point(whose, "cpu_usage_percent", "CPU in use.", "%", False, (HOST,), 0, AT_MS, 3.0)


def test_a_counter_that_may_be_older_than_the_boot_has_no_start() -> None:
    [one] = read(tick((Series("jobs_total", (HOST,), "counter"),), [3.0], group="scrape"))
    assert (one.is_sum, one.start_ms) == (True, 0)


def test_what_a_target_calls_job_and_instance_is_the_service() -> None:
    series = Series("up", (HOST, ("instance", "a:9100"), ("job", "node")))
    [one] = read(tick((series,), [1.0]))
    assert one.resource == {"host.name": "web-01", "service.instance.id": "a:9100", "service.name": "node"}
    assert one.labels == series.labels


def test_a_series_that_ended_is_a_point_without_a_value() -> None:
    """The reader takes a point with that flag only where it has no value."""
    series = (Series("jobs_total", (HOST,), "counter"), Series("temperature", (HOST,)))
    found = read(tick(series, [STALE, STALE], group="cpu"))
    assert [struct.pack("<d", one.value) for one in found] == [struct.pack("<d", STALE)] * 2
    assert [one.start_ms for one in found] == [0, 0]


def test_rules_apply_and_what_they_drop_is_counted() -> None:
    rule = RelabelConfig(source_labels=("__name__",), regex="drop_me", action="drop")
    series = (Series("drop_me", (HOST,)), Series("keep_me", (HOST,)))
    spoken = otlp(OTLP(url=URL, write_relabel_configs=(rule,)))()
    encoded = spoken.encode([tick(series, [1.0, 2.0]), tick(series, [1.0, 2.0], 1)], False)
    assert encoded.dropped == {"relabeled": 2}
    assert encoded.request.samples == 2
    assert spoken.carries(series[0]) is None


def distribution(name: str, kind: str, by: str, *at: str) -> tuple[Series, ...]:
    """Return the series of a histogram or summary: count, sum, then those by bound or quantile."""
    of = (HOST, ("path", "/"))
    each = tuple(
        Series(
            f"{name}_bucket" if by == "le" else name,
            tuple(sorted((*of, (by, text)))),
            kind,
            "seconds",
            "Time.",
        )
        for text in at
    )
    return (*each, *(Series(f"{name}{end}", of, kind, "seconds", "Time.") for end in ("_sum", "_count")))


LATENCY = distribution("http_seconds", "histogram", "le", "0.1", "1.0", "1e+06", "+Inf")
PAUSES = distribution("gc_seconds", "summary", "quantile", "0.0", "0.5", "1.0")


def kinds(found: list[Point]) -> set[str]:
    return {one.of for one in found}


def as_samples(found: list[Point]) -> list[tuple[str, object, int, bytes]]:
    return sorted((one.metric, one.labels, one.at_ms, struct.pack("<d", one.value)) for one in found)


def as_sent(*ticks: Tick) -> list[tuple[str, object, int, bytes]]:
    return sorted(
        (series.name, series.labels, one.at.wall_ms, struct.pack("<d", value))
        for one in ticks
        for series, value in zip(one.series, one.values, strict=True)
    )


@pytest.mark.parametrize(
    ("series", "values", "kind"),
    [
        (LATENCY, [1.0, 3.0, 3.0, 7.0, -2.5, 7.0], "histogram"),
        (LATENCY, [0.0] * 4 + [math.nan, 0.0], "histogram"),
        (LATENCY[3:], [2.0**53 - 1, 1e300, 2.0**53 - 1], "histogram"),
        (PAUSES, [0.0, math.nan, math.inf, 0.5, 3.0], "summary"),
        (PAUSES[3:], [0.5, 3.0], "summary"),
    ],
)
def test_a_histogram_or_summary_that_is_whole_is_one_point_an_instant(
    series: tuple[Series, ...], values: list[float], kind: str
) -> None:
    ticks = [tick(series, values, 0, "scrape"), tick(series, [STALE] * len(values), 1, "scrape")]
    found = read(*ticks)
    assert kinds(found) == {kind}
    assert {(one.unit, one.help) for one in found} == {("s", "Time.")}
    assert as_samples(found) == as_sent(*ticks)
    spoken = otlp(OTLP(url=URL, compression="none"))()
    [metric] = (
        request(spoken.encode(ticks, False).request.body, {"content-type": "application/x-protobuf"})
        .resource_metrics[0]
        .scope_metrics[0]
        .metrics
    )
    assert (metric.name, len(getattr(metric, kind).data_points)) == (
        series[-1].name.removesuffix("_count"),
        2,
    )


@pytest.mark.parametrize(
    ("series", "values"),
    [
        (LATENCY[:3], [1.0, 2.0, 3.0]),
        (LATENCY[:3] + LATENCY[4:], [1.0, 2.0, 3.0, 1.0, 3.0]),
        (LATENCY[:5], [1.0, 2.0, 3.0, 4.0, 1.0]),
        (LATENCY, [1.0, 2.0, 3.0, 4.0, 1.0, 5.0]),
        (LATENCY, [1.0, 2.0, 1.0, 4.0, 1.0, 4.0]),
        (LATENCY, [0.5, 2.0, 3.0, 4.0, 1.0, 4.0]),
        (LATENCY, [-1.0, 2.0, 3.0, 4.0, 1.0, 4.0]),
        (LATENCY, [1.0, 2.0, 3.0, math.inf, 1.0, math.inf]),
        (LATENCY, [1.0, 2.0, 3.0, 2.0**53, 1.0, 2.0**53]),
        (LATENCY, [1.0, 2.0, 3.0, 4.0, STALE, 4.0]),
        (distribution("a", "histogram", "le", "1.0", "1.00", "+Inf"), [1.0, 1.0, 1.0, 1.0, 1.0]),
        (distribution("a", "gaugehistogram", "le", "1.0", "+Inf"), [1.0] * 4),
        (PAUSES, [-1.0, 1.0, 1.0, 1.0, 1.0]),
        (PAUSES[:4], [1.0] * 4),
        ((Series("_sum", (HOST,), "summary"), Series("_count", (HOST,), "summary")), [1.0, 1.0]),
    ],
)
def test_what_is_no_whole_histogram_or_summary_is_sent_as_series(
    series: tuple[Series, ...], values: list[float]
) -> None:
    one = tick(series, values, 0, "scrape")
    found = read(one)
    assert kinds(found) == {""}
    assert as_samples(found) == as_sent(one)


@pytest.mark.parametrize(
    ("kind", "by", "text"),
    [
        *(("histogram", "le", text) for text in ("1_0", " 1", "x", "NaN", "-Inf", "\N{FULLWIDTH DIGIT ONE}")),
        ("summary", "quantile", "1.5"),
    ],
)
def test_a_bound_that_is_none_is_a_series_next_to_the_whole(kind: str, by: str, text: str) -> None:
    series = distribution("a", kind, by, text, *(("+Inf",) if by == "le" else ()))
    one = tick(series, [1.0] * len(series), 0, "scrape")
    found = read(one)
    assert [dict(of.labels)[by] for of in found if not of.of] == [text]
    assert as_samples(found) == as_sent(one)


def test_an_instant_at_which_a_histogram_is_broken_costs_only_itself() -> None:
    ticks = [
        tick(LATENCY, [1.0, 2.0, 3.0, 4.0, 9.0, count], n, "scrape")
        for n, count in enumerate((4.0, 5.0, 4.0))
    ]
    found = read(*ticks)
    assert {(one.at_ms, one.of) for one in found} == {
        (AT_MS, "histogram"),
        (AT_MS + 10_000, ""),
        (AT_MS + 20_000, "histogram"),
    }


def test_the_created_series_of_openmetrics_is_the_start() -> None:
    of, began = LATENCY[-1].labels, AT_MS - 60_000
    series = (
        *LATENCY,
        Series("http_seconds_created", of, "histogram"),
        Series("jobs_total", (HOST,), "counter"),
        Series("jobs_created", (HOST,), "counter"),
    )
    values = [1.0, 2.0, 3.0, 4.0, 9.0, 4.0, began / 1000, 5.0, began / 1000]
    found = read(tick(series, values, 0, "scrape"), tick(series, [STALE] * len(series), 1, "scrape"))
    assert {(one.metric, one.start_ms) for one in found if one.at_ms == AT_MS} == {
        *((one.name, began) for one in (*LATENCY, series[-2])),
        *((one.name, 0) for one in series if one.name.endswith("_created")),
    }
    assert {one.start_ms for one in found if one.at_ms > AT_MS} == {0}


def test_histograms_of_two_targets_are_two() -> None:
    other = tuple(one._replace(labels=(*one.labels, ("zone", "b"))) for one in LATENCY)
    values = [1.0, 2.0, 3.0, 4.0, 9.0, 4.0]
    found = read(tick(LATENCY + other, values + values, 0, "scrape"))
    assert (kinds(found), len(found)) == ({"histogram"}, 12)


@given(st.lists(st.integers(0, 9), min_size=6, max_size=6), st.sets(st.integers(0, 5)))
def test_whatever_the_values_each_sample_is_there_once(values: list[int], ended: set[int]) -> None:
    numbers = [STALE if n in ended else float(value) for n, value in enumerate(values)]
    one = tick(LATENCY, numbers, 0, "scrape")
    assert as_samples(read(one)) == as_sent(one)


def test_rejected_points_of_a_request_with_histograms_say_nothing_of_samples() -> None:
    encoded = otlp(OTLP(url=URL))().encode(
        [tick(LATENCY, [1.0, 2.0, 3.0, 4.0, 9.0, 4.0], 0, "scrape")], False
    )
    assert classify(encoded.request, answer(200, partial(1, "no")), NOW).written is None


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@given(
    texts=st.lists(st.text(min_size=1, max_size=8), min_size=3, max_size=3),
    values=st.lists(st.floats(width=64), min_size=1, max_size=4),
)
def test_every_value_and_text_is_read_back(compression: str, texts: list[str], values: list[float]) -> None:
    name, key, text = (one.encode("utf-8", "backslashreplace").decode() for one in texts)
    series = Series(name, ((key, text),), "counter")
    found = read(*(tick((series,), [value], n) for n, value in enumerate(values)), compression=compression)
    assert [(one.metric, one.labels, one.at_ms) for one in found] == [
        (name, ((key, text),), AT_MS + n * 10_000) for n in range(len(values))
    ]
    assert [struct.pack("<d", one.value) for one in found] == [struct.pack("<d", value) for value in values]


def test_names_by_the_semantic_conventions() -> None:
    disk = (("device", "/dev/sda1"), ("fstype", "ext4"), HOST, ("mountpoint", "/"))
    series = (
        Series("cpu_usage_percent", (("core", "all"), HOST), "gauge", "percent", "CPU in use."),
        Series("cpu_usage_per_core_percent", (("core", "3"), HOST), "gauge", "percent"),
        Series("cpu_user_seconds_total", (("core", "all"), HOST), "counter", "seconds"),
        Series("disk_used_bytes", disk, "gauge", "bytes"),
        Series("load_average_1m", (HOST,)),
        Series("memory_free_bytes", (HOST, ("job", "another"))),
    )
    found = {
        one.metric: one for one in read(tick(series, [25.0, 12.5, 17.5, 4096.0, 1.5, 7.0]), names="semantic")
    }
    used = read(tick(series[:2], [25.0, 12.5]), names="semantic")
    assert [(one.metric, one.unit, one.labels, one.value) for one in used] == [
        ("system.cpu.utilization", "1", (HOST,), 0.25),
        ("system.cpu.utilization", "1", (("cpu.logical_number", "3"), HOST), 0.125),
    ]
    time, usage = found["system.cpu.time"], found["system.filesystem.usage"]
    assert (time.is_sum, time.is_monotonic, time.start_ms, time.value) == (True, True, AT_MS - 50_000, 17.5)
    assert time.labels == (("cpu.mode", "user"), HOST)
    assert (usage.is_sum, usage.is_monotonic, usage.start_ms, usage.unit) == (True, False, 0, "By")
    assert usage.labels == (
        HOST,
        ("system.device", "/dev/sda1"),
        ("system.filesystem.mountpoint", "/"),
        ("system.filesystem.state", "used"),
        ("system.filesystem.type", "ext4"),
    )
    assert found["load_average_1m"].value == 1.5  # which has no name there
    assert found["memory_free_bytes"].value == 7.0  # of a target
    [ended] = read(tick(series[:1], [STALE]), names="semantic")
    assert struct.pack("<d", ended.value) == struct.pack("<d", STALE)


def test_a_number_that_is_no_int64_is_a_text() -> None:
    """A longer one is no protobuf: the receiver would refuse the whole request."""
    for text in ("9" * 18, "9" * 19, "9" * 40):
        series = (Series("cpu_usage_per_core_percent", (("core", text), HOST), "gauge", "percent"),)
        [one] = read(tick(series, [1.0]), names="semantic")
        assert dict(one.labels)["cpu.logical_number"] == text


def test_what_has_a_meaning_is_collected_here_and_no_two_are_one_series() -> None:
    known = {metric.name: metric for kind in COLLECTORS.values() for metric in kind.metrics}
    for name, meant in semantic.TABLE.items():
        assert (known[name].type == "counter") == (meant.kind == semantic.COUNTER), name
        assert (known[name].unit == "percent") == (meant.divisor == 100), name
    labels = {"core": "all", "device": "d", "interface": "i", "hostname": "h"}
    made = [
        (meant.name, *sorted(semantic.attributes(meant, labels | {"core": name}).items()))
        for name, meant in semantic.TABLE.items()
    ]
    assert len(set(made)) == len(made)


def test_the_page_has_the_names() -> None:
    table = Path("docs/otlp.md").read_text().partition("<!-- names -->")[2].partition("<!-- end -->")[0]
    found = re.findall(r"(?m)^\| `(\w+)` \| `([\w.]+)` \|", table)
    assert found == [(name, meant.name) for name, meant in semantic.TABLE.items()]


def test_the_same_ticks_give_the_same_bytes_in_any_process() -> None:
    series = tuple(Series(f"m{n}", (HOST, ("n", str(n)))) for n in range(50))
    ticks = [tick(series, [float(n)] * 50, n) for n in range(3)]
    first, second = (otlp(OTLP(url=URL))().encode(ticks, False) for _ in range(2))
    assert first == second


# --- answers --------------------------------------------------------------------------------------------------------


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def words(message: str) -> bytes:
    """Return a google.rpc.Status."""
    return b"\x08\x03\x12" + bytes((len(message),)) + message.encode()


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *((status, Verdict.DELIVERED) for status in (200, 202, 204)),
        *((status, Verdict.RETRY) for status in (408, 429, 502, 503, 504, 599, 0, 999)),
        *((status, Verdict.REJECTED) for status in (400, 500)),
        *((status, Verdict.HELD) for status in (301, 401, 403, 404, 405, 415, 422, 511)),
        (413, Verdict.TOO_LARGE),
    ],
)
def test_each_status_has_a_verdict(status: int, verdict: Verdict) -> None:
    assert classify(SENT, answer(status), NOW).verdict is verdict


def test_the_time_that_the_receiver_asks_for_is_kept() -> None:
    assert classify(SENT, answer(503, retry_after="17"), NOW).after == 17


def test_points_that_were_rejected_are_counted_and_the_reason_is_shown() -> None:
    found = classify(SENT, answer(200, partial(3, "no \x1bsuch metric")), NOW)
    assert (found.verdict, found.written, found.age) == (Verdict.REJECTED, 7, None)
    assert "3 points rejected: no" in (found.error or "")
    assert "\x1b" not in (found.error or "")


def test_more_points_rejected_than_sent_are_all() -> None:
    assert classify(SENT, answer(200, partial(1 << 40, "")), NOW).written == 0


@pytest.mark.parametrize(
    "body", [b"", partial(0, "a warning"), b"{}", b"\x0a", b"\xff" * 20, b"\x0a\x03\x08\xff\xff", b"ok"]
)
def test_a_warning_or_what_nobody_can_read_rejects_nothing(body: bytes) -> None:
    assert classify(SENT, answer(200, body), NOW).verdict is Verdict.DELIVERED


@pytest.mark.parametrize(
    ("said", "age"),
    [
        ("out of bounds", Age.WINDOW),
        ("too old sample", Age.WINDOW),
        ("out of order sample", Age.WINDOW),
        ("duplicate sample for timestamp", Age.DUPLICATE),
        ("label name is empty", None),
    ],
)
def test_a_refusal_says_in_protobuf_or_in_words_what_is_wrong(said: str, age: Age | None) -> None:
    for body, kind in ((words(said), "application/x-protobuf"), (said.encode(), "text/plain")):
        found = classify(SENT, answer(400, body, content_type=kind), NOW)
        assert (found.verdict, found.age, found.error) == (Verdict.REJECTED, age, f"HTTP 400: {said}")


@given(st.binary(max_size=60), st.sampled_from([200, 400, 503]))
def test_no_body_raises(body: bytes, status: int) -> None:
    found = classify(SENT, answer(status, body, content_type="application/x-protobuf"), NOW)
    assert found.verdict in Verdict
    assert all(isinstance(value, int | bytes) for value in fields(body).values())
    assert math.isfinite(found.written or 0)
