"""Export: what each format has of the samples, that JSON lines lose nothing, and that memory is bounded."""

from __future__ import annotations

import csv as csv_reader
import io
import json
import math
import random
import struct
from collections.abc import Iterator, Sequence
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ops.replay.selection import Selection
from agent.ops.replay.source import FileHistory
from agent.ops.selector import parse
from agent.text import export, jsonl
from agent.text.export import Family, family
from buffer.model import STALE, Instant, Series, Tick
from tests.support.ticks import BOOT, START_MS, bits

SPECIALS = [0.0, -0.0, 1e-320, 5e300, math.nan, math.inf, -math.inf, STALE, 0.1 + 0.2, 2.0**53]


def a_nan(number: int) -> float:
    found: float = struct.unpack("<d", number.to_bytes(8, "little"))[0]
    return found


def ticks(
    series: Sequence[Series], rows: Sequence[Sequence[float]], step_ms: int = 10_000, group: str = "g"
) -> list[Tick]:
    table = tuple(series)
    return [
        Tick(Instant(START_MS + i * step_ms, i * step_ms, BOOT), group, table, row)
        for i, row in enumerate(rows)
    ]


def text(pieces: Iterator[str]) -> str:
    return "".join(pieces)


def openmetrics(source: Sequence[Tick]) -> str:
    return text(export.openmetrics(source, io.BytesIO()))


FREE = Series("disk_free_bytes", (("mount", 'a"b\\c\nd'),), "gauge", "bytes", 'Free, "really".\n\\')
READS = Series("reads_total", (("disk", "sda"),), "counter", "", "Reads.")
WRITES = Series("reads_total", (("disk", "sdb"),), "counter", "", "Reads.")


def test_openmetrics_to_the_letter() -> None:
    source = ticks([READS, FREE, WRITES], [[1.0, 0.5, 7.0], [2.0, -0.0, 8.0]], step_ms=1500)
    assert openmetrics(source) == (
        "# TYPE disk_free_bytes gauge\n"
        "# UNIT disk_free_bytes bytes\n"
        '# HELP disk_free_bytes Free, \\"really\\".\\n\\\\\n'
        'disk_free_bytes{mount="a\\"b\\\\c\\nd"} 0.5 1750000000\n'
        'disk_free_bytes{mount="a\\"b\\\\c\\nd"} -0.0 1750000001.500\n'
        "# TYPE reads counter\n"
        "# HELP reads Reads.\n"
        'reads_total{disk="sda"} 1.0 1750000000\n'
        'reads_total{disk="sda"} 2.0 1750000001.500\n'
        'reads_total{disk="sdb"} 7.0 1750000000\n'
        'reads_total{disk="sdb"} 8.0 1750000001.500\n'
        "# EOF\n"
    )
    assert openmetrics([]) == "# EOF\n"


FAMILIES = {  # by name: the type that a metric has in the buffer, and its family where there is a gauge `b`
    "a_total": ("counter", Family("a", "counter")),
    "b_total": ("counter", Family("b_total", "unknown")),  # two families would have one name
    "c": ("counter", Family("c", "unknown")),  # a counter's sample would have to be c_total
    "_total": ("counter", Family("_total", "unknown")),
    "d_total": ("gauge", Family("d_total", "gauge")),
    "e": ("gauge", Family("e", "gauge")),
    "f_bucket": ("histogram", Family("f_bucket", "unknown")),
    "g": ("", Family("g", "unknown")),
}


def test_the_family_of_a_metric() -> None:
    names = {name: Series(name, (), kind) for name, (kind, _) in FAMILIES.items()} | {
        "b": Series("b", (), "gauge")
    }
    assert {name: family(name, names) for name in FAMILIES} == {
        name: found for name, (_, found) in FAMILIES.items()
    }


def test_openmetrics_has_no_stale_marker_and_names_what_is_no_number() -> None:
    source = ticks([Series("a", ())], [[value] for value in SPECIALS])
    lines = openmetrics(source).splitlines()[1:-1]
    values = [line.split(" ")[1] for line in lines]
    assert len(values) == len(SPECIALS) - 1
    assert values[4:7] == ["NaN", "+Inf", "-Inf"]
    assert [bits([float(v)]) for v in values[:4]] == [bits([v]) for v in SPECIALS[:4]]


def test_a_clock_that_went_back_is_sorted_and_the_last_sample_of_a_time_counts() -> None:
    source = ticks([READS], [[1.0], [2.0], [3.0], [4.0]])
    again = [source[1]._replace(values=[20.0]), source[0]._replace(values=[10.0])]
    found = openmetrics([*source, *again]).splitlines()[2:-1]
    assert [line.split(" ")[1] for line in found] == ["10.0", "20.0", "3.0", "4.0"]


def test_series_that_come_and_go_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "SAMPLES", 7)
    source = ticks([READS, WRITES], [[float(i), float(-i)] for i in range(40)])
    for i in range(0, 40, 3):
        source[i] = source[i]._replace(series=(WRITES,), values=[float(-i)])
    lines = [line for line in openmetrics(source).splitlines() if not line.startswith("#")]
    sda = [f"{float(i)}" for i in range(40) if i % 3]
    assert [line.split(" ")[1] for line in lines] == sda + [f"{float(-i)}" for i in range(40)]


def lines_of(source: Sequence[Tick]) -> list[dict[str, object]]:
    return [json.loads(line) for line in text(export.json_lines(source)).splitlines()]


def test_a_json_line_to_the_letter() -> None:
    assert text(export.json_lines(ticks([READS], [[1.0], [STALE]]))) == (
        '{"name":"reads_total","labels":{"disk":"sda"},"type":"counter","unit":"","help":"Reads.",'
        '"samples":[[1750000000000,1.0],[1750000010000,"StaleNaN"]]}\n'
    )


def test_no_json_line_spans_more_than_half_an_hour_even_if_the_clock_goes_back() -> None:
    source = ticks([READS], [[float(i)] for i in range(1000)])
    source += ticks([READS], [[float(i)] for i in range(50)])  # the same times again
    spans = []
    for line in lines_of(source):
        samples = line["samples"]
        assert isinstance(samples, list)
        spans.append((samples[0][0], samples[-1][0]))
    assert all(0 <= last - first < export.SPAN_MS for first, last in spans)
    assert len(spans) == math.ceil(1000 / 180) + 1


VALUES = st.one_of(
    st.floats(),
    st.sampled_from(SPECIALS),
    st.integers(0, (1 << 52) - 1).map(lambda n: a_nan(0x7FF8000000000000 | n & ((1 << 51) - 1))),
    st.integers(1, (1 << 51) - 1).map(lambda n: a_nan(0xFFF8000000000000 | n)),
)
WORDS = st.text(st.characters(codec="utf-8"), max_size=6)
NAMES = st.from_regex(r"[a-z_]{1,6}", fullmatch=True)


METRICS = st.tuples(NAMES, st.dictionaries(NAMES, WORDS, max_size=2), WORDS)


@given(
    st.lists(METRICS, min_size=1, max_size=3, unique_by=str),
    st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=12),
)
def test_json_lines_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[tuple[str, dict[str, str], str]],
    rows: list[list[float]],
) -> None:
    series = [
        Series(name, tuple(sorted(labels.items())), "counter", "bytes", words)
        for name, labels, words in table
    ]
    source = ticks(series, [row[: len(series)] for row in rows], step_ms=500_000)
    file = tmp_path_factory.mktemp("lines") / "samples.jsonl"
    file.write_text(text(export.json_lines(source)))
    found: dict[Series, list[tuple[int, bytes]]] = {}
    for piece in FileHistory(str(file)).pieces(0):
        for tick in piece.ticks:
            found.setdefault(tick.series[0], []).append((tick.at.wall_ms, bits(tick.values)))
    assert found == {
        one: [(tick.at.wall_ms, bits([tick.values[i]])) for tick in source] for i, one in enumerate(series)
    }


@given(st.lists(st.sampled_from(["", "a", "b", "ab", "stop"]), min_size=1, max_size=40), st.integers(1, 9))
def test_markers_are_in_their_place_among_the_samples_of_their_series(sets: list[str], room: int) -> None:
    """Series that come and go, and stops: each series' samples are in the order of time over all lines."""
    source: list[Tick] = []
    live = ""
    for i, names in enumerate(sets):
        at = Instant(START_MS + i * 10_000, i * 10_000, BOOT)
        now = "" if names == "stop" else names
        for group, kept, value in (("g", now, float(i)), ("g.ended", set(live) - set(now), STALE)):
            table = tuple(Series(name, ()) for name in sorted(kept))
            source += [Tick(at, group, table, [value] * len(table))] if table else []
        live = now
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "SAMPLES", room)
        found: dict[object, list[object]] = {}
        for line in lines_of(source):
            assert isinstance(line["samples"], list)
            found.setdefault(line["name"], []).extend(line["samples"])
    expected: dict[object, list[object]] = {}
    for tick in source:
        for series, value in zip(tick.series, tick.values, strict=True):
            expected.setdefault(series.name, []).append([tick.at.wall_ms, jsonl.special(value)])
    assert found == expected


@pytest.mark.parametrize(
    "wrong", ["", "nan", "Stale", "NaN:", "NaN:7ff0000000000000", "NaN:+ff8000000000000"]
)
def test_what_is_no_value_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="not a value"):
        jsonl.value(wrong)


def test_csv_is_csv() -> None:
    source = ticks([FREE, READS], [[0.5, math.inf], [-0.0, STALE]], step_ms=1)
    rows = list(csv_reader.DictReader(io.StringIO(text(export.csv(source)))))
    assert list(rows[0]) == ["timestamp_ms", "time", "name", "labels", "value"]
    assert [row["name"] for row in rows] == ["disk_free_bytes", "reads_total"] * 2
    assert [row["value"] for row in rows] == ["0.5", "+Inf", "-0.0", "StaleNaN"]
    assert json.loads(rows[0]["labels"]) == {"mount": 'a"b\\c\nd'}
    for row in rows:
        assert datetime.fromisoformat(row["time"]).timestamp() * 1000 == int(row["timestamp_ms"])
    assert rows[2]["time"] == "2025-06-15T15:06:40.001Z"


def test_what_is_selected_is_what_is_written() -> None:
    source = ticks([READS, FREE, WRITES], [[float(i), 0.0, float(-i)] for i in range(10)])
    selection = Selection(START_MS + 20_000, START_MS + 50_000, parse('reads_total{disk="sdb"}'))
    found = lines_of(selection.of(source))
    assert [(line["labels"], line["samples"]) for line in found] == [
        ({"disk": "sdb"}, [[START_MS + i * 10_000, float(-i)] for i in range(2, 6)])
    ]


@pytest.mark.parametrize(
    "form", [export.json_lines, export.csv, lambda t: export.openmetrics(t, io.BytesIO())]
)
def test_what_waits_is_bounded(form: object) -> None:
    """Ticks are handed out one by one; the text of old ones must come before too many new ones are read."""
    assert callable(form)
    table = tuple(Series(f"m{i}", ()) for i in range(500))
    held, most = 0, 0

    class Row(list[float]):
        def __init__(self, values: Sequence[float]) -> None:
            nonlocal held, most
            super().__init__(values)
            held += 1
            most = max(most, held)

        def __del__(self) -> None:
            nonlocal held
            held -= 1

    def source() -> Iterator[Tick]:
        choose = random.Random(5)
        for i in range(2000):
            row = Row([choose.random()] * 500)
            yield Tick(Instant(START_MS + i * 100, 0, BOOT), "g", table, row)

    for _ in form(source()):
        pass
    assert most <= export.SAMPLES // 500 + 3
