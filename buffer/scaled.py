"""Cells: the values of a tick as 64-bit integers, and what changed since the tick before as bytes.

    row := changed u8[(cells + 7) / 8] | varint*    cell i is bit i % 8 of byte i / 8; LEB128

A value v of scale s is kept as the integer v * s, if that integer divided by s gives v back bit for
bit; the smallest of `SCALES` that does it is chosen, and RAW, the 64 bits of the double, where none
does.  For each cell that changed, a row has the difference, zigzag-coded (0, -1, 1, -2, ...).  On a
host at 10 s one cell in four changes, by one or two bytes; docs/decisions/0004 has the measurements.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import truediv

from buffer.varint import LONGEST, varint, zigzag

SCALES = (1 / 1024, 1.0, 10.0, 100.0, 1000.0, 10000.0)
RAW = len(SCALES)
_LIMIT = 1 << 62
_SIGN, _ALL = 1 << 63, (1 << 64) - 1


def scale_of(value: float, at_least: int = 0) -> int:
    """Return the first scale from index `at_least` on that represents `value` exactly, or RAW."""
    exact = struct.pack("<d", value)
    for index in range(at_least, RAW):
        scaled = value * SCALES[index]
        if not -_LIMIT < scaled < _LIMIT:  # also true for NaN
            return RAW
        if struct.pack("<d", round(scaled) / SCALES[index]) == exact:
            return index
    return RAW


def divisors(modes: bytes | bytearray) -> list[float]:
    """Return what the cells of these scale indices are divided by to give their values."""
    return [1.0 if mode == RAW else SCALES[mode] for mode in modes]


def to_cells(values: Sequence[float], scales: Sequence[float], raw: Sequence[int]) -> list[int] | None:
    """Return the cells of `values`, or None where some value does not fit its scale.

    `raw` lists the cells whose scale is RAW.  Raises ValueError where the lengths differ.
    """
    plain = list(values)
    if len(plain) != len(scales):
        raise ValueError(f"{len(plain)} values for {len(scales)} series")
    for i in raw:
        plain[i] = 0.0
    try:
        cells = [round(v * s) for v, s in zip(plain, scales, strict=True)]
    except (ValueError, OverflowError):  # NaN, infinity
        return None
    if cells and not (min(cells) > -_LIMIT and max(cells) < _LIMIT):
        return None
    pack = struct.Struct(f"<{len(cells)}d").pack
    if pack(*map(truediv, cells, scales)) != pack(*plain):  # bytes, because -0.0 == 0.0
        return None
    for i in raw:
        (cells[i],) = struct.unpack("<q", struct.pack("<d", values[i]))
    return cells


def to_row(cells: Sequence[int], before: Sequence[int]) -> bytes:
    """Return what changed, as a row."""
    changed = bytearray((len(cells) + 7) // 8)
    varints = bytearray()
    for i, (new, old) in enumerate(zip(cells, before, strict=True)):
        if new != old:
            changed[i >> 3] |= 1 << (i & 7)
            difference = new - old
            if not -_SIGN <= difference < _SIGN:  # raw cells only
                difference = _wrap(difference)
            varints += varint(zigzag(difference))
    return bytes(changed + varints)


def from_row(
    row: bytes, at: int, cells: list[int], values: list[float], scales: Sequence[float], raw: Sequence[int]
) -> int:
    """Bring `cells` and `values` up to date with the row at `at`; return where the row ends.

    Raises ValueError where the row is cut short or malformed; the lists are then of no use.
    """
    bits = int.from_bytes(row[at : at + (len(cells) + 7) // 8], "little")
    at += (len(cells) + 7) // 8
    if bits >> len(cells) or at > len(row):
        raise ValueError("a row of changes does not fit its cells")
    for i, bit in enumerate(bin(bits)[:1:-1]):
        if bit == "1":
            byte = row[at]
            at += 1
            number = byte & 127
            shift = 7
            while byte > 127:
                byte = row[at]
                at += 1
                number |= (byte & 127) << shift
                shift += 7
                if shift > 7 * LONGEST:
                    raise ValueError("a varint is too long")
            cell = cells[i] = cells[i] + (number >> 1 ^ -(number & 1))
            values[i] = cell / scales[i]
    for i in raw:
        cells[i] = cell = _wrap(cells[i])
        (values[i],) = struct.unpack("<d", struct.pack("<q", cell))
    return at


def _wrap(number: int) -> int:
    return (number + _SIGN & _ALL) - _SIGN
