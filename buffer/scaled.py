"""Cells: the values of a tick as 64-bit integers, and what changed since the tick before as bytes.

    row := changed u8[(cells + 7) / 8] | varint*    cell i is bit i % 8 of byte i / 8; LEB128

A value v of scale s is kept as the integer v * s, if that integer divided by s gives v back bit for
bit; the smallest of `SCALES` that does it is chosen, and RAW, the 64 bits of the double, where none
does.  For each cell that changed, a row has the difference, zigzag-coded (0, -1, 1, -2, ...).  On a
host at 10 s one cell in four changes, by one or two bytes; docs/decisions/0004 has the measurements.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Sequence
from itertools import compress
from operator import truediv

from buffer.lanes import added
from buffer.varint import LONGEST, Bytes, unzigzag, varint, zigzag

SCALES = (1 / 1024, 1.0, 10.0, 100.0, 1000.0, 10000.0)
RAW = len(SCALES)
_LIMIT = 1 << 62
_SIGN, _ALL = 1 << 63, (1 << 64) - 1
_PLACES = [tuple(place for place in range(8) if byte >> place & 1) for byte in range(256)]
_BITS = bytes(byte == ord("1") for byte in range(256))
_VARINT = re.compile(rb"[\x80-\xff]{0,9}[\x00-\x7f]|.{11}", re.DOTALL)
"""A varint of up to LONGEST bytes, or a byte more than that; each of these is found in a bounded number of steps."""


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


def to_cells(values: Sequence[float], scales: Sequence[float], raw: Collection[int]) -> list[int] | None:
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
    row: bytes,
    at: int,
    cells: list[int],
    values: list[float],
    scales: Sequence[float],
    raw: Collection[int],
) -> int:
    """Bring `cells` and `values` up to date with the row at `at`; return where the row ends. Of raw cells only the values count.

    Raises ValueError or IndexError where the row is cut short or malformed; the lists are then of no use.
    """
    size = (len(cells) + 7) // 8
    bitmap = row[at : at + size]
    at += size
    if at > len(row) or (size and bitmap[-1] >> (len(cells) - 1 & 7) > 1):
        raise ValueError("a row of changes does not fit its cells")
    if raw:
        flags = bin(int.from_bytes(bitmap, "little"))[:1:-1].encode().translate(_BITS)
        return _from_wide_row(row, at, list(compress(range(len(cells)), flags)), cells, values, scales, raw)
    first = 0
    for bits in bitmap:
        for place in _PLACES[bits]:
            number = row[at]
            at += 1
            if number > 127:
                number &= 127
                shift = 7
                while (byte := row[at]) > 127:
                    at += 1
                    number |= (byte & 127) << shift
                    shift += 7
                    if shift >= 7 * LONGEST:
                        raise ValueError("a varint is too long")
                at += 1
                number |= byte << shift
            i = first + place
            cell = cells[i] = cells[i] + (number >> 1 ^ -(number & 1))
            values[i] = cell / scales[i]
        first += 8
    return at


def _from_wide_row(
    row: bytes,
    at: int,
    changed: list[int],
    cells: list[int],
    values: list[float],
    scales: Sequence[float],
    raw: Collection[int],
) -> int:
    """Do the same for these cells, raw ones among them: their varints are long, and decoded together."""
    varints = _VARINT.findall(row, at, at + LONGEST * len(changed))[: len(changed)]
    sizes = list(map(len, varints))
    if len(varints) < len(changed) or max(sizes, default=0) > LONGEST:
        raise ValueError("a varint is too long or cut short")
    if len(raw) < len(cells):
        wide: list[int] = []
        their: list[bytes] = []
        for i, one in zip(changed, varints, strict=True):
            if i in raw:
                wide.append(i)
                their.append(one)
            else:
                cell = cells[i] = cells[i] + unzigzag(Bytes(one).varint())
                values[i] = cell / scales[i]
        changed, varints = wide, their
    found = added([values[i] for i in changed], varints)
    if len(found) == len(values):
        values[:] = found
    else:
        for i, value in zip(changed, found, strict=True):
            values[i] = value
    return at + sum(sizes)


def _wrap(number: int) -> int:
    return (number + _SIGN & _ALL) - _SIGN
