"""What both encoders promise, read back by protobuf's own library."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

import pytest
import snappy
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.destinations.boots import TOLERANCE_MS
from agent.destinations.labels import Relabel
from agent.destinations.remembered import MAX_CACHED_CHARACTERS, MAX_CACHED_SERIES
from agent.destinations.remote_write.encode import (
    SPAN,
    TYPES,
    Encoder,
    varint,
)
from agent.destinations.remote_write.encode1 import Encoder1
from agent.destinations.remote_write.encode2 import Encoder2
from buffer.model import Instant, Series, Tick
from tests.bench import replay
from tests.support import wire

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]

UP = Series("up", (("hostname", "a"),))
DOWN = Series("down", (("hostname", "a"),))
SLOW = Series("slow", (("hostname", "a"),))

BOTH: dict[wire.Version, Callable[[Relabel | None], Encoder]] = {"1.0": Encoder1, "2.0": Encoder2}
both = pytest.mark.parametrize("version", BOTH)


def bits(value: float) -> int:
    found: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return found


def tick(at: int, series: tuple[Series, ...], *values: float) -> Tick:
    return Tick(Instant(at, 0, "boot"), "group", series, values)


def held(ticks: tuple[Tick, ...] | list[Tick]) -> int:
    return sum(len(one.values) for one in ticks)


def samples(body: bytes, version: wire.Version) -> dict[wire.Labels, list[tuple[int, int]]]:
    """Every sample of a body, its value as bits; fails where a series is there twice or a rule is broken."""
    found: dict[wire.Labels, list[tuple[int, int]]] = {}
    for series in wire.decode_message(body, version).series:
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
    "a marker": Case((tick(1, (UP,), 0.0), tick(2, (UP,), STALE)), (("up", ((1, 0.0), (2, STALE))),)),
    "an instant twice: the first counts": Case(
        (tick(10, (UP, DOWN), 1, 2), tick(20, (UP, DOWN), 3, 4), tick(10, (UP,), 9)),
        (("up", ((10, 1), (20, 3))), ("down", ((10, 2), (20, 4)))),
        repeated=1,
    ),
    "a series twice in a tick: the first counts": Case(
        (tick(10, (UP, UP), 1, 2),), (("up", ((10, 1),)),), repeated=1
    ),
}


@both
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_ticks_become_series(case: Case, version: wire.Version) -> None:
    encoded = BOTH[version](None).encode(case.ticks)
    expected = {
        tuple(sorted({"__name__": name, "hostname": "a"}.items())): [
            (at, bits(value)) for at, value in points
        ]
        for name, points in case.expected
    }
    assert samples(encoded.body, version) == expected
    assert (encoded.repeated, encoded.relabeled) == (case.repeated, 0)
    assert encoded.samples + encoded.repeated == held(case.ticks)


# Long series go in pieces.


@both
@pytest.mark.parametrize("length", [SPAN, SPAN + 1, 3 * SPAN, 3 * SPAN + 1])
def test_a_long_series_is_in_pieces_that_are_in_time_order(length: int, version: wire.Version) -> None:
    often = [tick(1000 + n, (UP, DOWN), n, -n) for n in range(length)]
    rare = [tick(1000 + n, (SLOW,), n) for n in range(0, length, 60)]
    encoded = BOTH[version](None).encode([*often[length // 2 :], *rare, *often[: length // 2]])
    pieces = wire.decode_message(encoded.body, version).series
    of_up = [series for series in pieces if series.labels == (("__name__", "up"), ("hostname", "a"))]
    assert len(of_up) == -(-length // SPAN)
    assert max(len(series.samples) for series in pieces) <= SPAN
    assert min(len(series.samples) for series in pieces) > 0
    assert [at for series in of_up for at, _ in series.samples] == list(range(1000, 1000 + length))
    assert {series.labels for series in pieces[:2]} <= {series.labels for series in pieces[-3:]}
    found: dict[wire.Labels, list[tuple[int, float]]] = {}
    for series in pieces:
        found.setdefault(series.labels, []).extend(series.samples)
    assert sorted(map(len, found.values())) == [len(rare), length, length]
    assert encoded.samples == 2 * length + len(rare) == sum(map(len, found.values()))


@both
def test_a_sample_takes_as_few_bytes_in_a_large_request(version: wire.Version) -> None:
    recording = replay.load()
    rounds = list(replay.repeated(recording, 80_000, 1_790_000_000_000))

    def size(count: int) -> float:
        encoder = BOTH[version](None)
        few = [tick for ticks in rounds[:count] for tick in ticks]
        encoder.encode(few)
        encoded = encoder.encode(few)
        return len(snappy.compress(encoded.body)) / encoded.samples

    assert size(500) < 1.03 * size(75)


# Any ticks, and any relabeling.


def without(name: str) -> Relabel:
    return lambda labels: {key: value for key, value in labels.items() if key != name}


RELABELINGS: dict[str, Relabel | None] = {
    "none": None,
    "as it is": dict,
    "nothing is sent": lambda _: None,
    "a name is dropped": lambda labels: None if labels["__name__"] == "a" else dict(labels),
    "a label is dropped": without("A"),
    "the name is dropped": without("__name__"),
    "the name is emptied": lambda labels: {**labels, "__name__": labels.get("A", "")[:0]},
    "one name for all": lambda labels: {**labels, "__name__": "all"},
    "everything is one": lambda _: {"__name__": "one"},
    "a label is emptied": lambda labels: {**labels, "b": ""},
    "a label is added": lambda labels: {"zzz": "é", **labels, "AA": "x"},
    "by value": lambda labels: None if len(labels.get("b", "")) % 2 else dict(labels),
}

VALUES = st.one_of(
    st.floats(),
    st.sampled_from([STALE, float("inf"), float("-inf"), -0.0, 0.0, 5e-324]),
    st.integers(0, 2**64 - 1).map(lambda n: struct.unpack("<d", struct.pack("<Q", n))[0]),
)
STAMPS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(1_700_000_000_000, 1_700_000_000_020),
    st.sampled_from([0, -1, 127, 128, 2**35 - 1, 2**35, 2**42 - 1, 2**42, 2**63 - 1]),
)
NAMES = st.sampled_from(["a", "b", "z_total", "Z", "_", "a:b"])
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=[]), max_size=8),  # surrogates among them
    st.sampled_from(["", "a", "b", "__name__", "\udcff", "\\udcff", "\x00", "é", "\ud800\udc00", "z" * 200]),
)
SERIES = st.builds(
    lambda name, labels, *rest: Series(name, tuple(sorted(labels.items())), *rest),
    NAMES,
    st.dictionaries(st.sampled_from(["A", "_x", "b", "zz"]), TEXT, max_size=3),
    st.sampled_from(["counter", "gauge", "info", "nonsense"]),
    TEXT,
    TEXT,
)
SETS = st.lists(st.lists(SERIES, max_size=5).map(tuple), min_size=1, max_size=3)
MONOS = st.one_of(st.integers(0, 30_000), st.integers(-(2**40), 2**40))


@st.composite
def some_ticks(draw: st.DrawFn) -> list[Tick]:
    sets = draw(SETS)
    found = []
    for _ in range(draw(st.integers(0, 8))):
        series = draw(st.sampled_from(sets))
        values = draw(st.lists(VALUES, min_size=len(series), max_size=len(series)))
        at = Instant(draw(STAMPS), draw(MONOS), draw(st.sampled_from(["x", "y"])))
        found.append(Tick(at, draw(st.sampled_from(["boot", "other"])), series, values))
    return found


def clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class Model:
    """What arrives, by a dictionary of series and instants in which the first value stays.

    Within one set the ticks keep their order; over several, the sets follow each other as they first appeared.
    """

    def __init__(self, ticks: list[Tick], relabel: Relabel | None) -> None:
        self.samples: dict[wire.Labels, dict[int, int]] = {}
        self.series: dict[wire.Labels, Series] = {}
        self.ticks: dict[tuple[wire.Labels, int], Tick] = {}
        self.relabeled = 0
        order = {id(one.series): i for i, one in reversed(list(enumerate(ticks)))}
        for one in sorted(ticks, key=lambda one: order[id(one.series)]):
            for series, value in zip(one.series, one.values, strict=True):
                labels = self.labels(series, relabel)
                if labels is None:
                    self.relabeled += 1
                    continue
                self.series[labels] = series
                self.samples.setdefault(labels, {}).setdefault(one.at.wall_ms, bits(value))
                self.ticks.setdefault((labels, one.at.wall_ms), one)

    @staticmethod
    def labels(series: Series, relabel: Relabel | None) -> wire.Labels | None:
        found: Mapping[str, str] | None = {
            name: clean(value) for name, value in (*series.labels, ("__name__", series.name)) if value
        }
        if relabel is not None and found is not None:
            found = relabel(found)
        if not found or not found.get("__name__"):
            return None
        return tuple(sorted((name, value) for name, value in found.items() if value))


@both
@settings(deadline=None, max_examples=100)
@given(ticks=some_ticks(), relabeling=st.sampled_from(sorted(RELABELINGS)))
def test_what_goes_in_is_what_the_generic_library_reads(
    version: wire.Version, ticks: list[Tick], relabeling: str
) -> None:
    relabel = RELABELINGS[relabeling]
    encoded = BOTH[version](relabel).encode(ticks)
    model = Model(ticks, relabel)
    assert samples(encoded.body, version) == {
        labels: sorted(points.items()) for labels, points in model.samples.items()
    }
    assert encoded.samples == sum(map(len, model.samples.values()))
    assert encoded.relabeled == model.relabeled
    assert encoded.samples + encoded.repeated + encoded.relabeled == held(ticks)


@both
@settings(deadline=None)
@given(before=some_ticks(), ticks=some_ticks())
def test_the_same_ticks_give_the_same_bytes_whatever_came_before(
    version: wire.Version, before: list[Tick], ticks: list[Tick]
) -> None:
    used = BOTH[version](None)
    used.encode(before)
    fresh = BOTH[version](None).encode(ticks)
    assert used.encode(ticks) == fresh
    assert used.encode(iter(ticks)) == fresh


@settings(deadline=None)
@given(ticks=some_ticks(), metadata=st.booleans())
def test_every_series_of_2_0_says_what_it_is(ticks: list[Tick], metadata: bool) -> None:
    encoder = Encoder2(metadata=metadata)
    body = encoder.encode(ticks, encoder.families(ticks)).body
    model = Model(ticks, None)
    for series in wire.decode_message(body, "2.0").series:
        told = model.series[series.labels]
        kind = told.type if told.type in TYPES else "unknown"
        expected = wire.Metadata(told.name, kind, clean(told.unit), clean(told.help))
        # One that says nothing may be left out.
        silent = not metadata or expected[1:] == ("unknown", "", "")
        assert series.metadata == (None if silent else expected)


@settings(deadline=None)
@given(ticks=some_ticks(), wanted=st.sets(NAMES))
def test_families_that_are_wanted_are_described_in_1_0(ticks: list[Tick], wanted: set[str]) -> None:
    encoder = Encoder1()
    found = wire.decode_message(encoder.encode(ticks, wanted).body)
    model = Model(ticks, None)
    names = {series.name for series in model.series.values()}
    assert encoder.families(ticks).keys() == names
    assert [one.name for one in found.metadata] == sorted(names & wanted)
    for one in found.metadata:
        kinds = [(s.type, clean(s.unit), clean(s.help)) for s in model.series.values() if s.name == one.name]
        assert one[1:] in [(kind if kind in TYPES else "unknown", *rest) for kind, *rest in kinds]


@settings(deadline=None, max_examples=100)
@given(ticks=some_ticks())
def test_only_counters_of_these_groups_say_when_they_began_and_that_makes_sense(ticks: list[Tick]) -> None:
    body = Encoder2(from_boot=frozenset({"boot"})).encode(ticks).body
    model = Model(ticks, None)
    found = wire.decode_message(body, "2.0")
    boots: dict[str, set[int]] = {}
    for series in found.series:
        for (at, value), start in zip(
            series.samples, series.starts or [0] * len(series.samples), strict=True
        ):
            tick = model.ticks[series.labels, at]
            own = at - tick.at.mono_ms
            if start:
                assert model.series[series.labels].type == "counter"
                assert tick.group == "boot"
                assert bits(value) != bits(STALE)
                assert 0 < start < at
                assert start % 1000 == 0
                assert own - 1000 < start <= own + TOLERANCE_MS
                boots.setdefault(tick.at.boot_id, set()).add(start)
    for starts in boots.values():
        known = sorted(starts)
        assert all(b - a > TOLERANCE_MS - 1000 for a, b in pairwise(known))


# Labels.


@both
def test_a_marker_in_a_nan_survives_bit_for_bit(version: wire.Version) -> None:
    body = BOTH[version](None).encode([tick(1, (UP,), STALE)]).body
    assert struct.pack("<Q", 0x7FF0000000000002) in body


@both
def test_labels_are_sorted_by_bytes_with_the_name_among_them_and_without_empty_ones(
    version: wire.Version,
) -> None:
    series = Series("m", (("Zone", "é"), ("_a", "1"), ("a", ""), ("b", "2")))
    body = BOTH[version](None).encode([tick(1, (series,), 0.0)]).body
    [found] = wire.decode_message(body, version).series
    assert found.labels == (("Zone", "é"), ("__name__", "m"), ("_a", "1"), ("b", "2"))


@both
def test_a_name_that_is_no_unicode_costs_nobody_the_request(version: wire.Version) -> None:
    broken = b"/mnt/\xff\xfe".decode("utf-8", "surrogateescape")
    other = b"/mnt/\xff\xfd".decode("utf-8", "surrogateescape")
    mounts = tuple(Series("disk_free_bytes", (("mountpoint", one),)) for one in (broken, other))
    seen: list[str] = []

    def look(labels: Mapping[str, str]) -> dict[str, str]:
        seen.append(labels["mountpoint"].encode().decode())  # what relabeling is given is unicode
        return dict(labels)

    found = samples(BOTH[version](look).encode([tick(1, mounts, 1.0, 2.0)]).body, version)
    told = ["/mnt/\\udcff\\udcfd", "/mnt/\\udcff\\udcfe"]
    assert sorted(dict(labels)["mountpoint"] for labels in found) == told == sorted(seen)


@both
def test_a_series_without_a_name_is_not_sent(version: wire.Version) -> None:
    encoder = BOTH[version](None)
    assert encoder.labels(Series("", (("a", "b"),))) is None
    assert encoder.labels(Series("", ())) is None


@both
def test_series_are_the_same_if_their_labels_are_and_only_then(version: wire.Version) -> None:
    encoder = BOTH[version](without("gone"))
    one = encoder.labels(UP)
    assert one
    assert encoder.labels(UP._replace(help="other", type="counter", unit="s")) == one
    assert encoder.labels(UP._replace(labels=(("gone", "1"), ("hostname", "a")))) == one
    assert encoder.labels(UP._replace(labels=(("empty", ""), ("hostname", "a")))) == one
    others = [DOWN, Series("up", ()), Series("up", (("hostname", "b"),)), Series("up", (("hostnam", "ea"),))]
    assert len({encoder.labels(other) for other in [UP, *others]}) == 5


@both
def test_relabeling_is_given_no_empty_label(version: wire.Version) -> None:
    given: list[dict[str, str]] = []

    def relabel(labels: Mapping[str, str]) -> dict[str, str]:
        given.append(dict(labels))
        return {**labels, "now": ""}

    encoder = BOTH[version](relabel)
    same = encoder.labels(Series("up", (("empty", ""), ("hostname", "a"))))
    assert given == [{"__name__": "up", "hostname": "a"}]
    assert same == encoder.labels(UP)


@both
def test_the_order_of_series_does_not_matter_to_what_is_remembered(version: wire.Version) -> None:
    used = BOTH[version](None)
    used.encode([tick(1, (DOWN, UP), 2, 1)])
    ticks = [tick(1, (UP, DOWN), 1, 1)]
    assert used.encode(ticks) == BOTH[version](None).encode(ticks)


@both
def test_relabeling_runs_once_for_a_series(version: wire.Version) -> None:
    asked: list[str] = []

    def relabel(labels: Mapping[str, str]) -> dict[str, str] | None:
        asked.append(labels["__name__"])
        return dict(labels) if labels["__name__"] == "up" else None

    encoder = BOTH[version](relabel)
    for at in range(3):
        encoder.encode([tick(at, (UP, DOWN), 1, 2), tick(at, (DOWN, UP), 1, 2)])
        encoder.families([tick(at, (UP, DOWN), 1, 2)])
    assert asked == ["up", "down"]


@both
def test_what_is_remembered_is_bounded(version: wire.Version) -> None:
    encoder = BOTH[version](None)
    for i in range(MAX_CACHED_SERIES + 10):
        series = Series("m", (("i", str(i)),))
        assert encoder.labels(series) == BOTH[version](None).labels(series)
        assert encoder.labels(series) is encoder.labels(series)
    assert len(encoder._known) <= MAX_CACHED_SERIES
    for i in range(1200):
        encoder.labels(Series("m", (("i", f"{i}{16_000 * 'x'}"),)))
    assert sum(series.characters for series in encoder._known) <= MAX_CACHED_CHARACTERS


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (-1, "ffffffffffffffffff01")],
)
def test_varint(number: int, expected: str) -> None:
    assert varint(number).hex() == expected


def test_the_types_are_those_of_the_messages() -> None:
    for name, prefix in (
        ("prometheus.MetricMetadata", ""),
        ("io.prometheus.write.v2.Metadata", "METRIC_TYPE_"),
    ):
        numbers = wire.POOL.FindMessageTypeByName(name).enum_types_by_name["MetricType"].values
        told = {one.name.removeprefix(prefix).lower(): one.number for one in numbers}
        told["unknown"] = told.pop("unspecified", 0)
        assert told == TYPES
