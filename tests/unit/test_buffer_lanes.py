"""Many doubles at once are what they are one by one, and rows of any bytes do no harm."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer import lanes, scaled
from buffer.varint import LONGEST, Bytes, unzigzag, varint, zigzag
from tests.support.ticks import bits

ALL = (1 << 64) - 1


def one_by_one(before: list[float], varints: list[bytes]) -> list[float]:
    """Add the differences as numbers of Python."""
    found = []
    for old, text in zip(before, varints, strict=True):
        (was,) = struct.unpack("<Q", struct.pack("<d", old))
        (value,) = struct.unpack("<d", struct.pack("<Q", was + unzigzag(Bytes(text).varint()) & ALL))
        found.append(value)
    return found


any_double = st.integers(0, ALL).map(lambda number: float(*struct.unpack("<d", struct.pack("<Q", number))))
any_varint = st.integers(0, (1 << 7 * LONGEST) - 1).map(varint)


@given(st.lists(st.tuples(any_double, any_varint), max_size=40))
def test_doubles_that_are_added_together_have_the_bits_of_those_added_one_by_one(
    pairs: list[tuple[float, bytes]],
) -> None:
    before, varints = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert bits(lanes.added(before, varints)) == bits(one_by_one(before, varints))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, lanes.MOST - 1, lanes.MOST, lanes.MOST + 1, 5_000])
def test_any_number_of_doubles_is_added(count: int) -> None:
    draw = random.Random(count)
    before = [draw.uniform(-1e300, 1e300) for _ in range(count)]
    varints = [varint(zigzag(draw.randrange(-(1 << 63), 1 << 63) >> draw.randrange(64))) for _ in before]
    assert bits(lanes.added(before, varints)) == bits(one_by_one(before, varints))


def test_noncanonical_varints_count_as_what_they_say() -> None:
    padded = [b"\x80" * zeros + b"\x00" for zeros in range(LONGEST)]
    assert lanes.added([1.5] * LONGEST, padded) == [1.5] * LONGEST


@pytest.mark.parametrize(
    "varints",
    [
        b"",
        b"\x01",  # the second one is missing
        b"\x01\x80",
        b"\x80" * LONGEST + b"\x01\x01",
        b"\x01" + b"\x80" * LONGEST + b"\x01",
        b"\x80" * 200_000,
    ],
)
@pytest.mark.parametrize("modes", [[scaled.RAW] * 2, [1, scaled.RAW], [scaled.RAW, 1], [1, 1]])
def test_a_row_of_broken_varints_is_an_error(varints: bytes, modes: list[int]) -> None:
    raw = {i for i, mode in enumerate(modes) if mode == scaled.RAW}
    with pytest.raises((ValueError, IndexError)):
        scaled.from_row(b"\x03" + varints, 0, [0, 0], [0.0, 0.0], scaled.divisors(bytes(modes)), raw)


def test_looking_for_varints_in_bytes_without_any_takes_linear_time() -> None:
    count = 100_000  # quadratic time would be hours
    row = b"\xff" * (count // 8) + b"\x80" * (10 * count)
    with pytest.raises(ValueError, match="too long"):
        scaled.from_row(row, 0, [0] * count, [0.0] * count, [1.0] * count, range(count))


@pytest.mark.parametrize("cells", [1, 7, 8, 9, 16])
def test_a_change_of_a_cell_that_is_not_there_is_an_error(cells: int) -> None:
    size = (cells + 7) // 8
    row = (1 << cells).to_bytes(size + 1, "little")[:size]
    if any(row):
        with pytest.raises(ValueError, match="does not fit"):
            scaled.from_row(row + b"\x00" * 20, 0, [0] * cells, [0.0] * cells, [1.0] * cells, ())
    assert scaled.from_row(bytes(size), 0, [0] * cells, [0.0] * cells, [1.0] * cells, ()) == size
