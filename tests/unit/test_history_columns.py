"""Columns of history: every value comes back bit for bit, from any bytes nothing worse than a ValueError."""

from __future__ import annotations

import math
import struct
import zlib
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.history.columns import MAX_ORDER, RAW, SCALES, Column, decode, encode
from buffer.model import STALE
from tests.bench import replay

BITS = st.binary(min_size=8, max_size=8).map(lambda data: struct.unpack("<d", data)[0])
NUMBERS = st.integers(-(1 << 62), 1 << 62).map(float)
DECIMALS = st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 9)).map(
    lambda pair: pair[0] / 10 ** pair[1]
)
SPECIAL = st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, STALE, 5e-324, 1.7e308])
COLUMNS = st.one_of(
    *(st.lists(kind, min_size=1, max_size=60) for kind in (BITS, NUMBERS, DECIMALS, SPECIAL | DECIMALS)),
    st.tuples(DECIMALS, st.integers(1, 60)).map(lambda pair: [pair[0]] * pair[1]),
    st.tuples(st.integers(0, 10**12), st.integers(0, 999), st.integers(1, 60)).map(
        lambda counter: [float(counter[0] + counter[1] * i) for i in range(counter[2])]
    ),
)


@given(COLUMNS)
@settings(max_examples=400, deadline=None)
def test_every_value_comes_back_bit_for_bit(values: list[float]) -> None:
    column = array("d", values)
    assert decode(encode(column), len(column)).tobytes() == column.tobytes()


@given(COLUMNS, st.integers(0, 60), st.integers(0, 7), st.integers(0, RAW + 1), st.integers(0, MAX_ORDER + 1))
@settings(max_examples=400, deadline=None)
def test_bytes_that_are_wrong_are_refused_or_give_as_many_values(
    values: list[float], at: int, bit: int, mode: int, order: int
) -> None:
    found = encode(array("d", values))
    data = bytearray(found.data)
    data[at % len(data)] ^= 1 << bit
    for wrong in (
        found._replace(data=bytes(data)),
        found._replace(data=found.data[:at]),
        Column(found.data, mode, order),
    ):
        try:
            assert len(decode(wrong, len(values))) == len(values)
        except ValueError:
            pass


def test_a_column_that_inflates_without_end_takes_no_memory() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(1 << 24)) + packer.flush()
    with pytest.raises(ValueError):
        decode(Column(b"\0" + bomb, 1, 0), 8)


def test_a_constant_and_a_steady_counter_take_a_few_bytes() -> None:
    assert len(encode(array("d", [12.5] * 5000)).data) <= 2
    assert len(encode(array("d", [1e6 + 17 * i for i in range(5000)])).data) <= 6
    assert len(encode(array("d", [STALE] * 5000)).data) <= 10
    assert SCALES[0] == 1 / 1024


def test_the_recorded_hour_takes_at_most_half_a_byte_a_sample() -> None:
    recording = replay.load()
    tables: dict[object, tuple[int, array[float]]] = {}
    for ticks in recording.rounds:
        for tick in ticks:
            tables.setdefault((tick.group, tick.series), (len(tick.series), array("d")))[1].extend(
                tick.values
            )
    columns = [flat[index::width] for width, flat in tables.values() for index in range(width)]
    found = [encode(column) for column in columns]
    assert sum(len(one.data) for one in found) / recording.samples <= 0.5
    for one, column in zip(found, columns, strict=True):
        assert decode(one, len(column)) == column
