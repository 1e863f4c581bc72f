"""Series: labels of host and sample, and the same object as long as nothing changes."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from agent.collect.series import Columns, gone, host_labels, markers
from agent.collectors import Metric, Sample
from agent.config import Config
from buffer.model import Instant, Series, is_stale
from tests.support.ticks import bits

METRICS = (Metric("up", "gauge", "", "Is it?"), Metric("sent_total", "counter", "bytes", "What went out."))
HOST = {"hostname": "web-01", "region": "eu"}


def test_every_series_has_the_host_s_labels_sorted_and_what_the_table_says() -> None:
    columns = Columns(METRICS, HOST)
    series, values = columns([Sample("sent_total", 7, (("device", "eth0"), ("zone", "a"))), Sample("up", 1)])
    assert series == (
        Series(
            "sent_total",
            (("device", "eth0"), ("hostname", "web-01"), ("region", "eu"), ("zone", "a")),
            "counter",
            "bytes",
            "What went out.",
        ),
        Series("up", (("hostname", "web-01"), ("region", "eu")), "gauge", "", "Is it?"),
    )
    assert values == [7.0, 1.0]
    assert [type(value) for value in values] == [float, float]


def test_a_sample_s_own_label_wins() -> None:
    (series,), _ = Columns(METRICS, HOST)([Sample("up", 1, (("region", "us"),))])
    assert series.labels == (("hostname", "web-01"), ("region", "us"))


def test_the_same_series_are_the_same_object() -> None:
    columns = Columns(METRICS, HOST)
    first, _ = columns([Sample("up", 1), Sample("sent_total", 1)])
    again, values = columns([Sample("up", 0), Sample("sent_total", 9)])
    assert again is first
    assert values == [0.0, 9.0]
    fewer, _ = columns([Sample("up", 1)])
    assert fewer == first[:1]
    assert columns([Sample("up", 0)])[0] is fewer


SAMPLES = st.lists(
    st.builds(
        Sample,
        st.sampled_from(["up", "sent_total"]),
        st.floats(allow_nan=False),
        st.sampled_from([(), (("device", "a"),), (("device", "b"),), (("hostname", "other"),)]),
    ),
    max_size=6,
)


@given(st.lists(SAMPLES, max_size=6))
def test_what_came_before_changes_nothing(rounds: list[list[Sample]]) -> None:
    used = Columns(METRICS, HOST)
    for samples in rounds:
        assert used(samples) == Columns(METRICS, HOST)(samples)


def test_the_host_is_called_what_the_configuration_says() -> None:
    config = Config(hostname="web-01", labels={"role": "gateway"})
    assert host_labels(config) == {"hostname": "web-01", "role": "gateway"}


def test_a_host_without_a_name_has_the_system_s() -> None:
    assert host_labels(Config()) == {"hostname": socket.gethostname()}


KEYS = st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True)


@given(KEYS, KEYS)
def test_gone_is_what_was_there_and_is_no_more(before: list[str], now: list[str]) -> None:
    found = gone(tuple(Series(name, ()) for name in before), tuple(Series(name, ()) for name in now))
    assert [series.name for series in found] == [name for name in before if name not in now]


def test_what_did_not_change_is_not_even_looked_at() -> None:
    class Untouched(tuple[Series, ...]):
        def __iter__(self) -> Iterator[Series]:
            raise AssertionError

    same = Untouched((Series("up", ()),))
    assert gone(same, same) == ()


def test_markers_are_a_tick_of_their_own() -> None:
    series, at = (Series("up", ()), Series("sent_total", (), "counter")), Instant(1, 2, "0" * 32)
    tick = markers(at, "network", series)
    assert (tick.at, tick.group, tick.series) == (at, "network.ended", series)
    assert bits(tick.values) == bytes.fromhex("020000000000f07f") * 2  # 0x7ff0000000000002
    assert [is_stale(value) for value in (*tick.values, math.nan, math.inf, 0.0)] == [
        True,
        True,
        False,
        False,
        False,
    ]
