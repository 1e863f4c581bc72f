"""Numbers, times and series as text: for people, for Prometheus, for JSON."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.scrape.table import Table
from agent.text import human
from agent.text.exposition import Reading, documents, exposition, selector
from buffer.model import STALE, Series


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_size() -> None:
    kib = 1024.0
    sizes = (0, 1023, kib, 1536, kib**2 - 1, 256 * kib**2, 1023.96 * kib, 5 * kib**6, -2048)
    texts = "0 B, 1023 B, 1 KiB, 1.5 KiB, 1 MiB, 256 MiB, 1 MiB, 5120 PiB, -2 KiB"
    assert ", ".join(map(human.size, sizes)) == texts


def test_count() -> None:
    numbers = (0, 12345, 999_999, 1_234_567, 98_765_432_100)
    assert "; ".join(map(human.count, numbers)) == "0; 12,345; 999,999; 1.23 M; 98.77 G"
    assert (human.plural(1, "segment"), human.plural(1200, "segment")) == ("1 segment", "1,200 segments")
    assert human.plural(2, "batch", "batches") == "2 batches"


def test_duration() -> None:
    day, never = 86400, (-1, math.inf, math.nan)
    lengths = (0, 0.44, 2.0, 9.96, 59.6, 125, 3599.9, 3 * 3600 + 240, day, 5 * day + 3 * 3600 + 59, *never)
    texts = "0 s, 0.4 s, 2 s, 10 s, 1 min, 2 min 5 s, 1 h, 3 h 4 min, 1 d, 5 d 3 h, ?, ?, ?"
    assert ", ".join(map(human.duration, lengths)) == texts


QUANTITIES = """
cpu_usage_percent          12.3      percent        12.3 %
memory_free_bytes          1536      bytes          1.5 KiB
disk_read_bytes_per_sec    1536      bytes_per_sec  1.5 KiB/s
disk_read_ops_per_sec      3         ops_per_sec    3 ops/s
disk_read_time_ms          0.25      ms             0.25 ms
cpu_user_seconds_total     12345.678 seconds        12,345.68 s
disk_io_time_seconds_total 5         seconds        5 s
host_boot_time_seconds     1.7e9     seconds        2023-11-14 22:13:20
network_sent_packets_total 7         packets        7 packets
load_average_1m            0.001     -              0.001
load_average_1m            -0.0      -              0
inode_free                 1e18      -              1e+18
memory_free_bytes          nan       bytes          NaN
memory_free_bytes          -inf      bytes          -Inf
"""


@pytest.mark.parametrize("row", QUANTITIES.strip().splitlines())
def test_quantity(row: str) -> None:
    name, value, unit, text = row.split(maxsplit=3)
    assert human.quantity(name, float(value), unit.strip("-")) == text


def test_a_series_that_ended() -> None:
    assert human.quantity("memory_free_bytes", STALE, "bytes") == "ended"


@given(st.floats())
def test_any_value_can_be_shown(value: float) -> None:
    for unit in ("", "bytes", "seconds", "bytes_per_sec"):
        assert human.quantity("x_time_seconds", value, unit)
        assert human.quantity("x", value, unit)
    assert human.duration(value)
    assert human.moment(value if math.isfinite(value) else 0)


def test_bar() -> None:
    bars = [human.bar(share, 4) for share in (0, 0.001, 0.5, 0.999, 1, 7)]
    assert bars == ["░░░░", "█░░░", "██░░", "███░", "████", "████"]


@given(st.text(st.characters()))
def test_nothing_reaches_the_terminal_as_a_command(text: str) -> None:
    assert human.plain(text).isprintable()


def test_plain() -> None:
    assert human.plain("/mnt/größe  x") == "/mnt/größe  x"
    assert human.plain("a\x1b[31mb\n\udc80\u202e") == r"a\x1b[31mb\n\udc80\u202e"


READINGS: list[Reading] = [
    (Series("a_bytes", (("device", 'C:\\DIR\n"x"'),), "gauge", "bytes", "One \\ two\nthree."), 1.5),
    (Series("b_total", (), "counter", "", "Counted."), 2.0),
    (Series("a_bytes", (("device", "ü"),), "gauge", "bytes", "One \\ two\nthree."), math.nan),
    (Series("c", (("a", "1"), ("b", "2")), "gauge", "", ""), -math.inf),
]


def test_exposition() -> None:
    assert exposition(READINGS) == (
        "# HELP a_bytes One \\\\ two\\nthree.\n"
        "# TYPE a_bytes gauge\n"
        'a_bytes{device="C:\\\\DIR\\n\\"x\\""} 1.5\n'
        'a_bytes{device="ü"} NaN\n'
        "# HELP b_total Counted.\n"
        "# TYPE b_total counter\n"
        "b_total 2.0\n"
        "# HELP c \n"
        "# TYPE c gauge\n"
        'c{a="1",b="2"} -Inf\n'
    )


def test_documents_are_strict_json() -> None:
    found = json.loads(json.dumps(documents(READINGS), allow_nan=False))
    assert [one["value"] for one in found] == [1.5, 2.0, "NaN", "-Inf"]
    assert found[1] == {
        "name": "b_total",
        "labels": {},
        "value": 2.0,
        "type": "counter",
        "unit": "",
        "help": "Counted.",
    }


def test_names_in_utf8_are_in_quotes() -> None:
    """What is written is read again with the same name: by Prometheus, by promtool, and here."""
    odd = Series('m."n\\', (("a.b", "\n"), ("c", "ü")), "gauge", "", "Help.")
    assert selector(*odd[:2]) == '{"m.\\"n\\\\","a.b"="\\n",c="ü"}'
    text = exposition([(odd, 1.0), (Series("plain", (), "gauge"), 2.0)]).encode()
    found = Table(lambda name, labels, family: Series(name, labels, *family), 10).read(
        text, openmetrics=False
    )
    assert [one[:3] for one in found.series] == [odd[:3], ("plain", (), "gauge")]
    assert found.series[0].help == "Help."


def test_selector() -> None:
    assert selector("up", ()) == "up"
    assert selector("up", (("a", "1"), ("b", '"'))) == 'up{a="1",b="\\""}'


def test_the_reason_of_an_error() -> None:
    assert human.reason(FileNotFoundError(2, "No such file or directory", "x")) == "no such file or directory"
    assert human.reason(OSError("Unheard of")) == "unheard of"
