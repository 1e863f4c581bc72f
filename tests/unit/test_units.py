"""Durations and sizes are read as Prometheus reads them, and written so that they are read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.units import format_duration, format_size, parse_duration, parse_size

DURATIONS = {  # after the cases of prometheus/common, model/time_test.go
    "0": 0, "0w": 0, "0s": 0, "324ms": 0.324, "3s": 3, "5m": 300, "1h": 3600, "4d": 345_600,
    "4d1h": 349_200, "14d": 1_209_600, "3w": 1_814_400, "3w2d1h": 1_990_800, "10y": 315_360_000,
    "1h30m": 5400, "1y2w3d4h5m6s7ms": 33_019_506.007, "90s": 90, "010s": 10, "292y": 9_208_512_000,
}  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


NO_DURATION = [
    "", "1", "1y1m1d", "-1w", "1.5d", "d", "10 s", " 10s", "10s ", "10s\n", "10S", "1s1s", "1ms1s",
    "294y", "ten", "1:30", "inf", "\u0661s", "200ys", "9" * 30 + "ms", "9" * 100_000 + "s",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_DURATION)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


WRITTEN_DURATIONS = [
    (0, "0s"), (0.25, "250ms"), (10, "10s"), (90, "1m30s"), (5400, "1h30m"), (86_400, "1d"),
    (90_000, "1d1h"), (604_800, "1w"), (691_200, "8d"), (31_536_000, "1y"), (0.0004, "0s"),
    (1.5, "1s500ms"),
]  # fmt: skip


@pytest.mark.parametrize(("seconds", "text"), WRITTEN_DURATIONS)
def test_a_duration_is_written_as_prometheus_does(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 9_208_512_000_000))
def test_a_written_duration_is_read_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.lists(st.integers(0, 9999), min_size=7, max_size=7))
def test_the_parts_of_a_duration_add_up(parts: list[int]) -> None:
    parts[0], parts[1] = parts[0] % 100, parts[1] % 1000  # years and weeks, to stay below the limit
    units = ("y", "w", "d", "h", "m", "s", "ms")
    text = "".join(f"{part}{unit}" for part, unit in zip(parts, units, strict=True))
    assert parse_duration(text) == round(
        sum(parse_duration(f"{p}{u}") for p, u in zip(parts, units, strict=True)), 3
    )


def test_a_negative_value_cannot_be_written() -> None:
    with pytest.raises(ValueError):
        format_duration(-1)


SIZES = {  # as Prometheus: no powers of 1000 anywhere
    "0": 0, "4096": 4096, "1B": 1, "1KiB": 1024, "1KB": 1024, "256MiB": 268_435_456, "256MB": 268_435_456,
    "1.5GiB": 1_610_612_736, "0.5KiB": 512, "2TB": 2_199_023_255_552, "1PiB": 1 << 50, "7EiB": 7 << 60,
}  # fmt: skip


@pytest.mark.parametrize("size", sorted({*SIZES.values(), 1023, 1025, 32 << 10, 2**63 - 1}))
def test_a_size_is_read_as_it_was_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_a_size_is_written_with_its_largest_unit() -> None:
    assert [format_size(size) for size in (0, 1000, 1 << 10, 1536, 32 << 20)] == [
        "0B",
        "1000B",
        "1KiB",
        "1536B",
        "32MiB",
    ]


@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


NO_SIZE = [
    "", "MiB", "-1", "+1", "1kB", "1mb", "1M", "1 MiB", "1MiB ", "1MiB\n", "1e6", "1.MiB", ".5MiB",
    "1.5B", "1.5", "0.3KiB", "1GiB512MiB", "8EiB", "9" * 40, "9" * 100_000, "\u0661MiB", "ten",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_SIZE)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@given(st.text(max_size=30) | st.text("0123456789.ymwdhsKMGiB", max_size=12))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            assert parse(text) >= 0
        except ValueError:
            pass
