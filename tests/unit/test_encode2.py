"""What only remote write 2.0 has: symbols, metadata of each series, and when counters began."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from agent.destinations.boots import TOLERANCE_MS
from agent.destinations.remote_write.encode1 import Encoder1
from agent.destinations.remote_write.encode2 import MAX_LAYOUTS, MOST_OF_SERIES, Encoder2
from buffer.exemplars import MOST, Exemplar, Exemplars
from buffer.model import Instant, Series, Tick
from tests.support import wire

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]

SENT = Series("sent_bytes_total", (("device", "eth0"),), "counter", "bytes", "Bytes sent.")
FREE = Series("free_bytes", (("device", "sda"),), "gauge", "bytes", "Bytes free.")
INFO = Series("host_info", (), "info", "", "")

BOOTED = 1_750_000_000_000
HOUR = 3_600_000


def tick(at: int, series: tuple[Series, ...], *values: float, boot: int = BOOTED, boot_id: str = "x") -> Tick:
    return Tick(Instant(at, at - boot, boot_id), "net", series, values)


NOW = BOOTED + HOUR


# Symbols and metadata.


def test_a_request_without_series_is_a_valid_one() -> None:
    assert Encoder2().encode(()).body == b"\x22\x00"
    assert Encoder1().encode(()).body == b""
    assert wire.decode_message(b"\x22\x00", "2.0").series == ()


def test_one_that_is_read_as_1_0_is_empty() -> None:
    request = wire.WriteRequest()
    request.ParseFromString(Encoder2().encode([tick(NOW, (SENT, FREE), 1, 2)]).body)
    assert not request.ListFields()


def described(encoder: Encoder2, ticks: list[Tick]) -> bytes:
    """A request in which everything is described."""
    return encoder.encode(ticks, encoder.families(ticks)).body


def test_the_type_is_always_there_and_help_and_unit_where_they_are_wanted() -> None:
    ticks, encoder = [tick(NOW, (SENT, FREE, INFO), 1, 2, 3)], Encoder2()
    for _ in range(2):  # whatever the request before had
        assert set(wire.decode_message(encoder.encode(ticks).body, "2.0").metadata) == {
            wire.Metadata("sent_bytes_total", "counter", "", ""),
            wire.Metadata("free_bytes", "gauge", "", ""),
            wire.Metadata("host_info", "info", "", ""),
        }
        assert set(
            wire.decode_message(encoder.encode(ticks, {"free_bytes", "other"}).body, "2.0").metadata
        ) == {
            wire.Metadata("sent_bytes_total", "counter", "", ""),
            wire.Metadata("free_bytes", "gauge", "bytes", "Bytes free."),
            wire.Metadata("host_info", "info", "", ""),
        }


def test_a_series_is_described_by_the_name_that_relabeling_gave_it() -> None:
    encoder = Encoder2(lambda labels: {**labels, "__name__": "my_" + labels["__name__"]})
    found = wire.decode_message(described(encoder, [tick(NOW, (FREE,), 1)]), "2.0").metadata
    assert found == (wire.Metadata("my_free_bytes", "gauge", "bytes", "Bytes free."),)


def test_metadata_can_be_switched_off() -> None:
    ticks = [tick(NOW, (SENT, FREE, INFO), 1, 2, 3)]
    found = wire.decode_message(described(Encoder2(), ticks), "2.0")
    assert set(found.metadata) == {
        wire.Metadata("sent_bytes_total", "counter", "bytes", "Bytes sent."),
        wire.Metadata("free_bytes", "gauge", "bytes", "Bytes free."),
        wire.Metadata("host_info", "info", "", ""),
    }
    body = described(Encoder2(metadata=False), ticks)
    assert {series.metadata for series in wire.decode_message(body, "2.0").series} == {None}
    assert b"Bytes" not in body


def test_help_that_is_no_unicode_is_escaped() -> None:
    odd = INFO._replace(help="\udcff", unit="\ud800")
    ticks = [tick(NOW, (odd,), 1)]
    told = ("host_info", "info", "\\ud800", "\\udcff")
    assert wire.decode_message(described(Encoder2(), ticks), "2.0").metadata == (told,)


def test_the_table_has_what_this_request_uses_whatever_there_was_before() -> None:
    encoder = Encoder2()
    for series in ((SENT, FREE), (FREE,), (SENT, INFO), (SENT, FREE), (INFO,)):
        body = encoder.encode([tick(NOW, series, *[1.0] * len(series))]).body
        found = wire.decode_message(body, "2.0")  # refuses a symbol that nobody uses
        assert {dict(one.labels)["__name__"] for one in found.series} == {one.name for one in series}
        assert len(encoder._layouts) <= MAX_LAYOUTS


def test_metadata_that_changed_is_sent_from_then_on() -> None:
    encoder = Encoder2()
    described(encoder, [tick(NOW, (SENT,), 1)])
    body = described(encoder, [tick(NOW, (SENT._replace(help="Better."),), 1)])
    [found] = wire.decode_message(body, "2.0").metadata
    assert found.help == "Better."


def test_a_request_of_many_series_has_references_of_two_bytes() -> None:
    series = tuple(Series("many", (("n", str(n)),), "gauge", "", f"Help {n}.") for n in range(300))
    found = wire.decode_message(described(Encoder2(), [tick(NOW, series, *range(300))]), "2.0")
    assert {(dict(one.labels)["n"], one.metadata.help if one.metadata else "") for one in found.series} == {
        (str(n), f"Help {n}.") for n in range(300)
    }


# When counters began.


class Began(NamedTuple):
    ticks: tuple[Tick, ...]
    starts: tuple[int, ...]


LATE = BOOTED - 4_321  # the boot by the clocks of a tick that was late by so many ms

CASES = {
    "the boot": Began((tick(NOW, (SENT,), 1),), (BOOTED,)),
    "down to the second": Began((tick(NOW, (SENT,), 1, boot=BOOTED + 999),), (BOOTED,)),
    "the boot of the least late tick": Began(
        (tick(NOW, (SENT,), 1, boot=LATE), tick(NOW + 1, (SENT,), 1), tick(NOW + 2, (SENT,), 1, boot=LATE)),
        (BOOTED,) * 3,
    ),
    "another boot": Began(
        (tick(NOW, (SENT,), 1), tick(NOW + HOUR, (SENT,), 1, boot=NOW + 60_000, boot_id="y")),
        (BOOTED, NOW + 60_000),
    ),
    "a clock that was set": Began(
        (
            tick(NOW, (SENT,), 1),
            tick(NOW + 1, (SENT,), 1, boot=BOOTED + TOLERANCE_MS + 1000),
            tick(NOW + 2, (SENT,), 1, boot=BOOTED - TOLERANCE_MS - 1000),
        ),
        (BOOTED, BOOTED + TOLERANCE_MS + 1000, BOOTED - TOLERANCE_MS - 1000),
    ),
    "a clock that was set a little is a tick that was late": Began(
        (tick(NOW, (SENT,), 1), tick(NOW + 1, (SENT,), 1, boot=BOOTED - TOLERANCE_MS)), (BOOTED, BOOTED)
    ),
    "a sample that is not after it has none": Began(
        (tick(BOOTED, (SENT,), 1), tick(BOOTED + 1, (SENT,), 1)), (0, BOOTED)
    ),
    "a clock that began in 1970 has none": Began(
        (tick(500, (SENT,), 1, boot=0), tick(1500, (SENT,), 1, boot=999), tick(HOUR, (SENT,), 1, boot=-5)),
        (),
    ),
    "an instant without a boot has none": Began((tick(NOW, (SENT,), 1, boot_id=""),), ()),
    "a marker has none": Began(
        (tick(NOW, (SENT,), 1), tick(NOW + 1, (SENT,), STALE), tick(NOW + 2, (SENT,), float("nan"))),
        (BOOTED, 0, BOOTED),
    ),
    "nothing but a marker": Began((tick(NOW, (SENT,), STALE),), ()),
    "zeros have one": Began((tick(NOW, (SENT,), 0.0), tick(NOW + 1, (SENT,), 0.0)), (BOOTED, BOOTED)),
    "infinities of both signs": Began(
        (tick(NOW, (SENT,), float("inf")), tick(NOW + 1, (SENT,), float("-inf"))), (BOOTED, BOOTED)
    ),
    "other groups have none": Began((tick(NOW, (SENT,), 1)._replace(group="own"),), ()),
    "of two groups one": Began(
        (tick(NOW, (SENT,), 1)._replace(group="own"), tick(NOW + 1, (SENT,), 1)), (0, BOOTED)
    ),
    "gauges have none": Began((tick(NOW, (FREE,), 1),), ()),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_when_a_counter_began(case: Began) -> None:
    body = Encoder2(from_boot=frozenset({"net"})).encode(case.ticks).body
    assert body == wire.Request.FromString(body).SerializeToString()  # and no byte more
    [found] = wire.decode_message(body, "2.0").series
    assert found.starts == case.starts
    assert [at for at, _ in found.samples] == [one.at.wall_ms for one in case.ticks]


def test_counters_and_gauges_of_one_tick_go_their_own_ways() -> None:
    ticks = [tick(NOW + at, (SENT, FREE), at, -at) for at in range(3)]
    body = Encoder2(from_boot=frozenset({"net"})).encode(ticks).body
    found = {dict(one.labels)["__name__"]: one for one in wire.decode_message(body, "2.0").series}
    assert found["sent_bytes_total"].starts == (BOOTED,) * 3
    assert found["free_bytes"].starts == ()
    assert found["free_bytes"].samples == ((NOW, 0.0), (NOW + 1, -1.0), (NOW + 2, -2.0))


# As OpenMetrics says it (_created).

BEGAN = 1_700_000_000.25
PATH = ("path", "/a")


def family(kind: str, *names: tuple[str, tuple[tuple[str, str], ...]]) -> tuple[Series, ...]:
    return tuple(Series(name, labels, kind, "", "") for name, labels in names)


def starts_of(series: tuple[Series, ...], *rows: tuple[float, ...]) -> dict[str, tuple[int, ...]]:
    ticks = [tick(NOW + i, series, *row)._replace(group="scrape/app") for i, row in enumerate(rows)]
    body = Encoder2(from_boot=frozenset({"net"})).encode(ticks).body
    found = wire.decode_message(body, "2.0").series
    return {dict(one.labels)["__name__"]: one.starts for one in found}


def test_a_counter_began_when_its_created_series_says() -> None:
    series = family(
        "counter", ("a_total", (PATH,)), ("a_created", (PATH,)), ("a_total", ()), ("b_total", (PATH,))
    )
    found = starts_of(series[:2], (5, BEGAN), (6, BEGAN))
    assert found == {"a_total": (int(BEGAN * 1000),) * 2, "a_created": ()}
    assert starts_of((*series[1:],), (BEGAN, 1, 2)) == {"a_created": (), "a_total": (), "b_total": ()}
    # It began again.
    assert starts_of(series[:2], (5, BEGAN), (0, BEGAN + 1))["a_total"] == (
        1_700_000_000_250,
        1_700_000_001_250,
    )


def test_so_did_the_parts_of_histograms_and_summaries_that_count() -> None:
    histogram = family(
        "histogram",
        ("h_bucket", (("le", "1.0"), PATH)),
        ("h_count", (PATH,)),
        ("h_sum", (PATH,)),
        ("h_created", (PATH,)),
    )
    began = (int(BEGAN * 1000),)
    assert starts_of(histogram, (1, 2, 3, BEGAN)) == {
        "h_bucket": began, "h_count": began, "h_sum": began, "h_created": ()
    }  # fmt: skip
    summary = family(
        "summary", ("s", (("quantile", "0.5"),)), ("s_count", ()), ("s_sum", ()), ("s_created", ())
    )
    assert starts_of(summary, (1, 2, 3, BEGAN)) == {
        "s": (),
        "s_count": began,
        "s_sum": began,
        "s_created": (),
    }


@pytest.mark.parametrize("began", [0, -1, float("nan"), float("inf"), NOW / 1000, 1e300, STALE])
def test_a_start_that_cannot_be_is_none(began: float) -> None:
    assert starts_of(family("counter", ("a_total", ()), ("a_created", ())), (5, began))["a_total"] == ()


def test_a_marker_has_no_start_and_a_gauge_that_is_called_created_is_none() -> None:
    series = family("counter", ("a_total", ()), ("a_created", ()))
    assert starts_of(series, (5, BEGAN), (STALE, BEGAN))["a_total"] == (int(BEGAN * 1000), 0)
    assert starts_of((series[0], series[1]._replace(type="gauge")), (5, BEGAN))["a_total"] == ()


# Exemplars.


def an_exemplar(series: Series, at: int, *labels: tuple[str, str]) -> Exemplar:
    return Exemplar(series, labels or (("trace_id", str(at)),), at / 2, at)


def exemplars_of(
    encoder: Encoder2, *series: Series, part: bool = False, goes_out: bool = True
) -> dict[str, tuple[wire.Exemplar, ...]]:
    ticks = [tick(NOW, series, *[float(i) for i in range(len(series))])]
    encoded = encoder.encode(ticks, exemplars=not part)
    found = wire.decode_message(encoded.body, "2.0")
    if goes_out:
        encoder.sent(encoded.exemplars)
    assert found.samples == len(series)
    return {dict(one.labels)["__name__"]: one.exemplars for one in found.series if one.exemplars}


def test_an_exemplar_goes_once_with_the_next_request_that_has_its_series() -> None:
    kept = Exemplars()
    kept.add([an_exemplar(SENT, 1)])  # from before the destination began
    encoder, other = (Encoder2(exemplars=kept) for _ in range(2))
    kept.add([an_exemplar(SENT, 3, ("z", "eth0"), ("a", "new")), an_exemplar(SENT, 2), an_exemplar(FREE, 4)])
    assert exemplars_of(encoder, FREE, SENT, part=True) == {}
    assert exemplars_of(encoder, INFO) == {}
    ordered = (
        wire.Exemplar((("trace_id", "2"),), 1.0, 2),
        wire.Exemplar((("a", "new"), ("z", "eth0")), 1.5, 3),
    )
    assert exemplars_of(encoder, SENT, INFO) == {"sent_bytes_total": ordered}
    assert exemplars_of(encoder, SENT, FREE) == {"free_bytes": (wire.Exemplar((("trace_id", "4"),), 2.0, 4),)}
    assert exemplars_of(encoder, SENT, FREE) == {}
    assert exemplars_of(other, SENT, FREE).keys() == {"sent_bytes_total", "free_bytes"}


def test_an_exemplar_of_a_request_that_does_not_go_out_goes_with_the_next_one() -> None:
    kept = Exemplars()
    encoder = Encoder2(exemplars=kept)
    kept.add([an_exemplar(SENT, 1), an_exemplar(FREE, 2)])
    assert len(exemplars_of(encoder, SENT, FREE, goes_out=False)) == 2  # too large: it is cut
    for one in (SENT, FREE):
        assert exemplars_of(encoder, one).keys() == {one.name}
        assert exemplars_of(encoder, one) == {}


def test_exemplars_never_take_more_than_their_share() -> None:
    kept = Exemplars()
    encoder = Encoder2(exemplars=kept)
    kept.add([an_exemplar(SENT, at) for at in range(100)])
    for number in range(3):
        kept.add([an_exemplar(INFO, at) for at in range(number * MOST, (number + 1) * MOST)])
        assert exemplars_of(encoder, FREE) == {}
    (found,) = exemplars_of(encoder, SENT, INFO).values()  # those that waited longest are gone
    assert [one.at_ms for one in found] == list(range(3 * MOST - MOST_OF_SERIES, 3 * MOST))


def test_an_exemplar_follows_its_series_through_relabeling() -> None:
    kept = Exemplars()

    def rename(labels: Mapping[str, str]) -> dict[str, str] | None:
        return None if labels["__name__"] == "free_bytes" else {**labels, "__name__": "renamed"}

    encoder = Encoder2(rename, exemplars=kept)
    kept.add([an_exemplar(SENT, 1), an_exemplar(FREE, 2)])
    ticks = [tick(NOW, (SENT, FREE), 1, 2)]
    (one,) = wire.decode_message(encoder.encode(ticks).body, "2.0").series
    assert (dict(one.labels)["__name__"], len(one.exemplars)) == ("renamed", 1)
