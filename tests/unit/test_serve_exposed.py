"""`/metrics`: what Prometheus's own parsers read of it is what was collected."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics import parser as open_parser
from prometheus_client.parser import text_string_to_metric_families as read_text

from agent.serve.exposed import OPEN_METRICS, TEXT, metrics
from agent.serve.newest import Newest
from buffer.model import Series

read_open: Any = open_parser.text_string_to_metric_families
OPEN = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
FOUND = [
    Newest(one, 0, value, "x")
    for one, value in (
        (Series("cpu_seconds_total", (("core", "0"),), "counter", "seconds", "Time \\ of\n a core."), 1.5),
        (Series("cpu_seconds_total", (("core", "1"),), "counter", "seconds", "Time \\ of\n a core."), 1e300),
        (Series("odd", (("path", 'a "b"\\\n€'),), "gauge", "", ""), float("nan")),
        (Series("free_bytes", (), "gauge", "bytes", "Free."), float("-inf")),
        (Series("what", (), "histogram", "", ""), 4.0),
    )
]


@pytest.mark.parametrize(("accept", "kind"), [(OPEN, OPEN_METRICS), ("", TEXT)])
def test_a_parser_reads_what_was_collected(accept: str, kind: str) -> None:
    answer = metrics(FOUND, accept)
    assert answer.type == kind
    text = answer.body.decode()
    families = list(read_open(text) if accept else read_text(text))
    read = {(one.name, tuple(one.labels.items())): one.value for family in families for one in family.samples}
    assert {key: str(value) for key, value in read.items()} == {
        (one.series.name, one.series.labels): str(one.value) for one in FOUND
    }
    types = {one.name: one.type for one in families}
    assert types["cpu_seconds"] == "counter"
    assert types["free_bytes"] == "gauge"
    assert types["what"] == "unknown"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", TEXT),
        ("text/html, */*", TEXT),
        ("application/openmetrics-text;version=0.0.1", TEXT),
        ("application/openmetrics-text", OPEN_METRICS),
        ("text/plain;q=0.9, application/openmetrics-text;version=1.0.0;q=0.3", TEXT),
        ("application/openmetrics-text;q=abc", OPEN_METRICS),
    ],
)
def test_the_format_is_the_one_that_is_preferred(accept: str, kind: str) -> None:
    assert metrics(FOUND, accept).type == kind


def test_a_counter_without_its_suffix_is_of_no_type_in_open_metrics() -> None:
    found = [Newest(Series("count", (), "counter", "", ""), 0, 3.0, "x")]
    assert metrics(found, OPEN).body == b"# TYPE count unknown\ncount 3.0\n# EOF\n"


def test_no_two_families_have_one_name_in_open_metrics() -> None:
    both = [Series("jobs_total", (), "counter"), Series("jobs", (), "gauge")]
    text = metrics([Newest(one, 0, 1.0, "x") for one in both], OPEN).body.decode()
    found = [(family.name, family.type, family.samples[0].name) for family in read_open(text)]
    assert found == [("jobs_total", "unknown", "jobs_total"), ("jobs", "gauge", "jobs")]


def test_nothing_is_a_whole_answer_too() -> None:
    assert metrics([], "").body == b""
    assert metrics([], OPEN).body == b"# EOF\n"
