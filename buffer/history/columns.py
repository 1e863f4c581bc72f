"""The values of one series as a column of bytes, which is read without any other column.

    column  := head v[order] | base v | planes       v: LEB128 of the zigzag code
    planes  := raw deflate of the bytes of the numbers, the lowest byte of each first, then the next of each ..;
               nothing where all numbers are 0

A value is kept as a cell: an integer, which is the value times a scale that gives it back bit for bit; where no scale does,
the 64 bits of the double (RAW).  `order` 0 has the cells themselves, 1 the difference to the one before, 2 the difference of
the differences; of RAW cells the difference is the exclusive or, and there is no order 2.  The first `order` numbers are the
head, of the others the smallest is the base, and the planes have how far each is above it, in as many bytes as the largest
needs.  The order that comes out smallest is taken: gauges mostly 0 or 1, counters 1 or 2.

Promise: every value comes back bit for bit, NaN payloads and -0.0 included.  Decoding takes memory for as many
values as the caller expects, whatever the bytes are.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, repeat
from operator import sub, truediv, xor
from typing import NamedTuple

from buffer.varint import Bytes, unzigzag, varint, zigzag

SCALES = (1 / 1024, *(10.0**digits for digits in range(10)))
RAW = len(SCALES)
MAX_ORDER = 2
_LIMIT = 1 << 62
_WORD = (1 << 64) - 1


class Column(NamedTuple):
    """A column's bytes, and what is needed to read them: the scale's index, and the order."""

    data: bytes
    mode: int
    order: int


def encode(values: array[float]) -> Column:
    """Return the smallest column for some values, of which there must be one at least."""
    mode, cells = _cells(values)
    best: Column | None = None
    numbers: Sequence[int] = cells
    head: list[int] = []
    for order in range(MAX_ORDER + 1):
        if order:
            if (mode == RAW and order > 1) or len(numbers) < 2:
                break
            head.append(numbers[0])
            numbers = list(map(xor if mode == RAW else sub, numbers[1:], numbers))
        base = min(numbers)
        above = [number - base for number in numbers] if base else numbers
        if max(above) > _WORD:
            break
        data = b"".join(varint(zigzag(number)) for number in (*head, base)) + _planes(above)
        if best is None or len(data) < len(best.data):
            best = Column(data, mode, order)
    assert best is not None
    return best


def decode(column: Column, count: int) -> array[float]:
    """Return the values of a column; there are `count`.  Raises ValueError where it is not what `encode` makes."""
    numbers = _numbers(column, count)
    try:
        if column.mode == RAW:
            values = array("d")
            values.frombytes(array("Q", numbers).tobytes())
            return values
        scale = SCALES[column.mode]
        return array("d", numbers if scale == 1 else map(truediv, numbers, repeat(scale)))
    except OverflowError as error:
        raise ValueError(str(error)) from None


def decode_whole(column: Column, count: int) -> array[int]:
    """Return the values of a column of whole numbers.  Raises ValueError as `decode` does, and where some are none."""
    try:
        if SCALES[column.mode : column.mode + 1] == (1.0,):
            return array("q", _numbers(column, count))
        return array("q", map(int, decode(column, count)))
    except OverflowError as error:
        raise ValueError(str(error)) from None


def _numbers(column: Column, count: int) -> Iterable[int]:
    """Return the cells of a column.  Raises ValueError."""
    data, mode, order = column
    if not (0 <= mode <= RAW and 0 <= order <= min(MAX_ORDER, count - 1)):
        raise ValueError("a column of no known kind")
    try:
        fields = Bytes(data)
        head = [unzigzag(fields.varint()) for _ in range(order)]
        base = unzigzag(fields.varint())
        numbers: Iterable[int] = _from_planes(data[fields.at :], count - order)
        if base:
            numbers = map(base.__add__, numbers)
        for first in reversed(head):
            numbers = accumulate(numbers, xor if mode == RAW else None, initial=first)
        return numbers
    except (IndexError, OverflowError, zlib.error) as error:
        raise ValueError(str(error)) from None


def _planes(numbers: Sequence[int]) -> bytes:
    most = max(numbers)
    if not most:
        return b""
    words = _little(array("Q", numbers)).tobytes()
    plain = b"".join(words[byte::8] for byte in range((most.bit_length() + 7) // 8))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    return packer.compress(plain) + packer.flush()


def _from_planes(data: bytes, count: int) -> array[int]:
    """Return the numbers.  Raises ValueError, zlib.error."""
    words = bytearray(8 * count)
    if data:
        unpacker = zlib.decompressobj(-15)
        plain = unpacker.decompress(data, 8 * count + 1)
        if not unpacker.eof or unpacker.unused_data or len(plain) % count or len(plain) > 8 * count:
            raise ValueError("the planes do not have as many bytes as there are numbers")
        for byte in range(len(plain) // count):
            words[byte::8] = plain[byte * count : (byte + 1) * count]
    numbers = array("Q")
    numbers.frombytes(bytes(words))
    return _little(numbers)


def _little(words: array[int]) -> array[int]:
    """Exchange the machine's order of bytes and the file's."""
    if sys.byteorder == "big":
        words.byteswap()
    return words


def _cells(values: array[float]) -> tuple[int, list[int]]:
    """Return the first scale's index that represents all values exactly, or RAW, and the cells."""
    mode = 0
    for value in values[:: max(1, len(values) // 8)]:  # mostly these few decide
        while mode < RAW and _at(array("d", [value]), mode) is None:
            mode += 1
    while mode < RAW:
        if (cells := _at(values, mode)) is not None:
            return mode, cells
        mode += 1
    words = array("Q")
    words.frombytes(values.tobytes())
    return RAW, words.tolist()


def _at(values: array[float], mode: int) -> list[int] | None:
    """Return the cells at a scale; None where some value does not come back."""
    scale = SCALES[mode]
    try:
        cells = [round(value * scale) for value in values]
    except (ValueError, OverflowError):  # NaN, infinity
        return None
    if not (min(cells) > -_LIMIT and max(cells) < _LIMIT):
        return None
    back = array("d", [cell / scale for cell in cells])
    return cells if back.tobytes() == values.tobytes() else None  # bytes, because -0.0 == 0.0
