from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agent.sender
from agent.sender.columns import merge
from agent.sender.encode import MAX_CACHED_SERIES, varint
from agent.sender.encode1 import Encoder1
from buffer.model import Instant, Series, Tick
from tests.support import wire

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
PROTO = Path(agent.sender.__file__).parent / "proto"

UP = Series("up", (("hostname", "a"),))
DOWN = Series("down", (("hostname", "a"),))


def bits(value: float) -> int:
    found: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return found


def tick(at: int, series: tuple[Series, ...], *values: float) -> Tick:
    return Tick(Instant(at, 0, "boot"), "group", series, values)


def samples(body: bytes) -> dict[wire.Labels, list[tuple[int, int]]]:
    """Every sample of a body, its value as bits; fails where a series stands twice or a rule is broken."""
    found: dict[wire.Labels, list[tuple[int, int]]] = {}
    for series in wire.decode_message(body).series:
        assert series.labels not in found
        found[series.labels] = [(at, bits(value)) for at, value in series.samples]
    return found


class Case(NamedTuple):
    ticks: tuple[Tick, ...]
    expected: tuple[tuple[str, tuple[tuple[int, float], ...]], ...]
    repeated: int = 0


CASES = {
    "no ticks": Case((), ()),
    "a tick without series": Case((tick(1, ()),), ()),
    "one sample": Case((tick(5, (UP,), 1.0),), (("up", ((5, 1.0),)),)),
    "a series that comes and goes": Case(
        (tick(1, (UP,), 1), tick(2, (UP, DOWN), 2, 3), tick(3, (UP,), 4)),
        (("up", ((1, 1), (2, 2), (3, 4))), ("down", ((2, 3),))),
    ),
    "the same set as another object": Case(
        (tick(1, (UP, DOWN), 1, 2), tick(2, (DOWN, UP), 3, 4)),
        (("up", ((1, 1), (2, 4))), ("down", ((1, 2), (2, 3)))),
    ),
    "metadata that changed makes no other series": Case(
        (tick(1, (UP,), 1), tick(2, (UP._replace(help="Better words."),), 2)),
        (("up", ((1, 1), (2, 2))),),
    ),
    "a clock that was set back": Case(
        (tick(30, (UP,), 3), tick(10, (UP,), 1), tick(20, (UP,), 2)),
        (("up", ((10, 1), (20, 2), (30, 3))),),
    ),
    "zeros": Case((tick(1, (UP,), 0.0), tick(2, (UP,), 0.0)), (("up", ((1, 0.0), (2, 0.0))),)),
    "zeros of both signs": Case(
        (tick(1, (UP,), 0.0), tick(2, (UP,), -0.0)), (("up", ((1, 0.0), (2, -0.0))),)
    ),
    "whole numbers": Case((tick(1, (UP,), 0), tick(2, (UP,), 0)), (("up", ((1, 0), (2, 0))),)),
    "an instant twice: the first counts": Case(
        (tick(10, (UP, DOWN), 1, 2), tick(20, (UP, DOWN), 3, 4), tick(10, (UP,), 9)),
        (("up", ((10, 1), (20, 3))), ("down", ((10, 2), (20, 4)))),
        repeated=1,
    ),
    "a series twice in a tick: the first counts": Case(
        (tick(10, (UP, UP), 1, 2),), (("up", ((10, 1),)),), repeated=1
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_ticks_become_series(case: Case) -> None:
    encoded = Encoder1().encode(case.ticks)
    expected = {
        tuple(sorted({"__name__": name, "hostname": "a"}.items())): [
            (at, bits(value)) for at, value in points
        ]
        for name, points in case.expected
    }
    assert samples(encoded.body) == expected
    assert encoded.repeated == case.repeated
    assert encoded.samples + encoded.repeated == sum(len(one.values) for one in case.ticks)


VALUES = st.one_of(
    st.floats(),
    st.sampled_from([STALE, float("inf"), float("-inf"), -0.0, 0.0, 5e-324]),
    st.integers(0, 2**64 - 1).map(lambda n: struct.unpack("<d", struct.pack("<Q", n))[0]),
)
STAMPS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(1_700_000_000_000, 1_700_000_000_020),
    st.sampled_from([0, -1, 127, 128, 2**35 - 1, 2**35, 2**63 - 1]),
)
NAMES = st.sampled_from(["a", "b", "z_total", "Z", "_", "a:b"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SERIES = st.builds(
    lambda name, labels: Series(name, tuple(sorted(labels.items()))),
    NAMES,
    st.dictionaries(st.sampled_from(["A", "_x", "b", "zz"]), TEXT, max_size=3),
)
SETS = st.lists(st.lists(SERIES, max_size=5).map(tuple), min_size=1, max_size=3)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_what_goes_in_is_what_the_generic_library_reads(data: st.DataObject) -> None:
    sets = data.draw(SETS)
    ticks = []
    for _ in range(data.draw(st.integers(0, 8))):
        series = data.draw(st.sampled_from(sets))
        values = data.draw(st.lists(VALUES, min_size=len(series), max_size=len(series)))
        ticks.append(tick(data.draw(STAMPS), series, *values))

    encoded = Encoder1().encode(ticks)

    # The model: a dictionary by series and instant, in which the first value stays. Within one set the
    # ticks keep their order; over several, the sets follow each other as they first appeared.
    expected: dict[wire.Labels, dict[int, int]] = {}
    order = {id(one.series): i for i, one in reversed(list(enumerate(ticks)))}
    for one in sorted(ticks, key=lambda one: order[id(one.series)]):
        for column in range(len(one.series)):
            name, labels = one.series[column][:2]
            identity = tuple(sorted([("__name__", name), *((n, v) for n, v in labels if v)]))
            expected.setdefault(identity, {}).setdefault(one.at.wall_ms, bits(one.values[column]))
    assert samples(encoded.body) == {
        identity: sorted(points.items()) for identity, points in expected.items() if points
    }
    assert encoded.samples == sum(map(len, expected.values()))
    assert encoded.samples + encoded.repeated == sum(len(one.values) for one in ticks)


def test_a_marker_in_a_nan_survives_bit_for_bit() -> None:
    body = Encoder1().encode([tick(1, (UP,), STALE)]).body
    assert struct.pack("<Q", 0x7FF0000000000002) in body


def test_labels_are_sorted_by_bytes_with_the_name_among_them_and_without_empty_ones() -> None:
    series = Series("m", (("Zone", "é"), ("_a", "1"), ("a", ""), ("b", "2")))
    [found] = wire.decode_message(Encoder1().encode([tick(1, (series,), 0.0)]).body).series
    assert found.labels == (("Zone", "é"), ("__name__", "m"), ("_a", "1"), ("b", "2"))


def test_a_name_that_is_no_unicode_costs_nobody_the_request() -> None:
    broken = b"/mnt/\xff\xfe".decode("utf-8", "surrogateescape")
    other = b"/mnt/\xff\xfd".decode("utf-8", "surrogateescape")
    mounts = tuple(Series("disk_free_bytes", (("mountpoint", one),)) for one in (broken, other))
    found = samples(Encoder1().encode([tick(1, mounts, 1.0, 2.0)]).body)
    assert sorted(dict(labels)["mountpoint"] for labels in found) == [
        "/mnt/\\udcff\\udcfd",
        "/mnt/\\udcff\\udcfe",
    ]


def test_the_cache_of_labels_is_bounded() -> None:
    encoder = Encoder1()
    for i in range(MAX_CACHED_SERIES + 10):
        series = Series("m", (("i", str(i)),))
        assert encoder.labels(series) == Encoder1().labels(series)
        assert encoder.labels(series) is encoder.labels(series)
    assert len(encoder._known) <= MAX_CACHED_SERIES


def test_series_that_share_their_instants_share_a_block() -> None:
    ticks = [tick(at, (UP, DOWN), at, -at) for at in (1, 2)] + [tick(2, (UP._replace(name="late"),), 7)]
    merged = merge(ticks, lambda series: series.name)
    assert [(block.stamps, {one.key: one.values for one in block.columns}) for block in merged.blocks] == [
        ((1, 2), {"up": (1, 2), "down": (-1, -2)}),
        ((2,), {"late": (7,)}),
    ]
    assert (merged.samples, merged.repeated) == (5, 0)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (-1, "ffffffffffffffffff01")],
)
def test_varint(number: int, expected: str) -> None:
    assert varint(number).hex() == expected


def test_the_proto_files_say_what_the_tests_parse_by() -> None:
    text = "\n".join((PROTO / name).read_text() for name in ("types.proto", "remote.proto"))
    text = re.sub("//.*", "", text)
    found = {
        message: {
            (name, int(number), kind if kind[0].isupper() else kind.upper())
            for kind, name, number in re.findall(r"(?:repeated )?(\w+) (\w+) = (\d+);", body)
        }
        for message, body in re.findall(r"message (\w+) \{(.*?)\n\}", text, re.DOTALL)
    }
    assert set(found) == {"Label", "Sample", "TimeSeries", "WriteRequest"}
    for message, fields in found.items():
        known = wire.WriteRequest.DESCRIPTOR.file.message_types_by_name[message].fields
        expected = {
            (f.name, f.number, f.message_type.name if f.message_type else KINDS[f.type]) for f in known
        }
        if message == "WriteRequest":
            expected.discard(("metadata", 3, "MetricMetadata"))  # not sent
        assert fields == expected


KINDS = {1: "DOUBLE", 3: "INT64", 9: "STRING"}
