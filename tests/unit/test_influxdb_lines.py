"""Line protocol, read back by a reader that shares nothing with the writer."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.destinations.influxdb.lines import LineWriter, Naming
from buffer.model import Instant, Series, Tick
from tests.support.line_protocol import lines, parse

texts = st.text(
    st.one_of(st.sampled_from(' ,=\\\n\r\t\f"#{}a\udcff'), st.characters(codec="utf-8")), max_size=8
)
names = texts.filter(lambda text: text.strip("\\") != "")
floats = st.floats(width=64, allow_nan=True, allow_infinity=True)


def tick(series: tuple[Series, ...], values: list[float], ms: int = 1_700_000_000_000) -> Tick:
    return Tick(Instant(ms, 0, "b"), "all", series, values)


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def as_stored(text: str) -> str:
    """Return what of a text can be stored."""
    text = text.encode("utf-8", "backslashreplace").decode().rstrip("\\")
    for control, letter in ("\n", "n"), ("\r", "r"), ("\t", "t"), ("\f", "f"), ("\0", "0"):
        text = text.replace(control, f"\\{letter}")
    return text


@given(
    st.lists(
        st.tuples(names, st.dictionaries(names, texts, max_size=3), floats),
        min_size=1,
        max_size=4,
        unique_by=lambda one: (one[0], tuple(sorted(one[1].items()))),
    ),
    st.sampled_from(("metric", "telegraf", "table")),
)
@settings(max_examples=300, deadline=None)
def test_whatever_the_text_a_line_has_its_series_and_nothing_else(
    rows: list[tuple[str, dict[str, str], float]], naming: Naming
) -> None:
    series = tuple(Series(name, tuple(sorted(labels.items()))) for name, labels, _ in rows)
    found = LineWriter(naming=naming).write([tick(series, [value for *_, value in rows])])
    assert found.samples + found.repeated + found.relabeled + found.unstorable == len(rows)
    read: dict[tuple[str, tuple[tuple[str, str], ...]], bytes] = {}
    for point in map(parse, lines(found.text)):
        for field, value in point.fields:
            name = point.measurement.removeprefix("\\") if naming == "metric" else field
            read[name, point.tags] = bits(value)
            assert point.ms == 1_700_000_000_000
    wanted = {}
    for name, labels, value in reversed(rows):  # the first of an instant counts
        pairs = {as_stored(key): as_stored(text) for key, text in sorted(labels.items())}
        tags = tuple(sorted((key, text) for key, text in pairs.items() if key and text))
        if math.isfinite(value):
            wanted[as_stored(name).removeprefix("\\"), tags] = bits(value)
    if len(read) == found.samples and not found.repeated and not any("\\" in str(row) for row in rows):
        assert read == wanted
    assert len(read) == found.samples


def test_a_line_to_the_letter() -> None:
    series = (
        Series("cpu usage,total", (("hostname", "a b"), ("empty", ""), ("path=x", "C:\\a,b=c\\"))),
        Series("#up", ()),
    )
    assert LineWriter().write([tick(series, [0.1, -0.0])]).text == (
        "cpu\\ usage\\,total,hostname=a\\ b,path\\=x=C:\\a\\,b\\=c value=0.1 1700000000000\n"
        "\\#up value=-0.0 1700000000000\n"
    )


def test_naming_as_telegraf_has_it_is_a_line_for_an_instant_of_a_set_of_tags() -> None:
    host = (("hostname", "a"),)
    series = (Series("cpu", host), Series("disk", (*host, ("device", "sda"))), Series("memory", host))
    found = LineWriter(naming="telegraf").write([tick(series, [1.0, 2.0, 3.0])])
    assert sorted(lines(found.text)) == [
        "prometheus,device=sda,hostname=a disk=2.0 1700000000000",
        "prometheus,hostname=a cpu=1.0,memory=3.0 1700000000000",
    ]
    assert (found.samples, found.lines) == (3, 2)


def test_naming_as_a_table_is_a_measurement_for_each_collector() -> None:
    host, at = (("hostname", "a"),), Instant(1_700_000_000_000, 0, "b")
    user, system, up = (Series(name, host) for name in ("user", "system", "up"))
    ticks = [
        Tick(at, "cpu", (user, system), [1.0, 2.0]),
        Tick(at, "scrape/app/localhost:1", (up,), [1.0]),
        Tick(at._replace(wall_ms=1_700_000_010_000), "cpu", (user, system), [3.0, 4.0]),
        Tick(at._replace(wall_ms=1_700_000_010_000), "scrape/db/localhost:2", (up,), [0.0]),
    ]
    assert sorted(lines(LineWriter(naming="table").write(ticks).text)) == [
        "cpu,hostname=a user=1.0,system=2.0 1700000000000",
        "cpu,hostname=a user=3.0,system=4.0 1700000010000",
        "scrape,hostname=a up=0.0 1700000010000",
        "scrape,hostname=a up=1.0 1700000000000",
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_cannot_be_stored_is_counted(value: float) -> None:
    series = (Series("a", ()), Series("b", ()))
    ticks = [tick(series, [1.0, value]), tick(series, [value, value], 1_700_000_010_000)]
    found = LineWriter().write(ticks)
    assert (found.text, found.samples, found.unstorable) == ("a value=1.0 1700000000000\n", 1, 3)


def test_ticks_that_can_be_stored_are_not_copied() -> None:
    ticks = [tick((Series("a", ()), Series("b", ())), [1e308, 1e308])]  # whose sum is an infinity
    assert LineWriter().finite(ticks) is ticks
    assert LineWriter().write(ticks).unstorable == 0


def test_a_series_that_is_not_sent_counts_as_relabeled_whatever_its_value() -> None:
    writer = LineWriter(lambda labels: None if labels["__name__"] == "b" else dict(labels))
    found = writer.write([tick((Series("a", ()), Series("b", ())), [math.nan, math.nan])])
    assert (found.samples, found.relabeled, found.unstorable) == (0, 1, 1)


def test_values_that_do_not_change_are_written_as_others_are() -> None:
    """A zero and a negative zero are equal, and different values."""
    series = tuple(Series(name, ()) for name in ("same", "zeros", "mixed"))
    ticks = [tick(series, [2.5, 0.0, zero], 1_700_000_000_000 + n) for n, zero in enumerate((0.0, -0.0, 0.0))]
    found = LineWriter().write(ticks)
    points = [parse(line) for line in lines(found.text)]
    read = [(one.measurement, one.ms - 1_700_000_000_000, bits(one.fields[0][1])) for one in points]
    assert read == [
        *[("same", n, bits(2.5)) for n in range(3)],
        *[("zeros", n, bits(0.0)) for n in range(3)],
        *[("mixed", n, bits(zero)) for n, zero in enumerate((0.0, -0.0, 0.0))],
    ]
    assert (found.samples, found.lines) == (9, 9)


def test_the_same_ticks_are_the_same_lines() -> None:
    series = tuple(Series(f"m{i}", (("hostname", "a"),)) for i in range(5))
    ticks = [tick(series, [float(i + n) for i in range(5)], 1_700_000_000_000 + n) for n in range(3)]
    assert LineWriter().write(ticks) == LineWriter().write(list(ticks))
