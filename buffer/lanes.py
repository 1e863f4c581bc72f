"""Many doubles at once: the differences of their bits, as varints, are added in one integer that has a lane for each of them.

A loop in Python over the bytes of a varint takes a microsecond for a double, since hardly any bit of it stays the same. Here a
number has a lane of 16 bytes in an integer of up to 256 lanes, and each step below is done for all lanes by one operation on
that integer: a seventh of the time (docs/decisions/0067).

Promise: the same bits as one by one, for any varint of up to LONGEST bytes and any double.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

MOST = 256
"""Lanes in an integer: 4 KiB, which the processor's first cache holds with the intermediate results."""
_STEP = 16
"""Lanes are a multiple of it, so that there are few formats."""


def _each(lane: int) -> int:
    """Return the integer that has this in each lane."""
    return int.from_bytes(lane.to_bytes(16, "little") * MOST, "little")


_SEVENS = _each((1 << 80) // 255 * 127)
"""Of each of ten bytes the seven bits that count."""
_JOINS = (
    (1, _each(0x007F_007F_007F_007F_007F), _each(0x3F80_3F80_3F80_3F80_3F80)),
    (2, _each(0x3FFF_0000_3FFF_0000_3FFF), _each(0x0FFF_C000_0FFF_C000)),
    (4, _each(0x3FFF_0000_0000_0FFF_FFFF), _each(0x00FF_FFFF_F000_0000)),
    (8, _each(0x00FF_FFFF_FFFF_FFFF), _each(0x3FFF << 56)),
)
"""How neighbors become one number of twice the bits: the right one is moved by so many bits; what stays, and what it adds."""
_ONE, _ALL = _each(1), _each((1 << 64) - 1)


@lru_cache(MOST // _STEP)
def _formats(lanes: int) -> tuple[Struct, Struct]:
    """Return what packs up to 16 bytes into each of so many lanes, and a double."""
    return Struct("16s" * lanes), Struct("<" + "d8x" * lanes)


def added(before: Sequence[float], varints: Sequence[bytes]) -> list[float]:
    """Return the doubles whose 64 bits, as a number, are those of `before` plus a zigzag-coded difference, modulo 2^64.

    There is a varint of 1 to LONGEST bytes for each.
    """
    found: list[float] = []
    for start in range(0, len(varints), MOST):
        found += _added(list(before[start : start + MOST]), list(varints[start : start + MOST]))
    return found


def _added(before: list[float], varints: list[bytes]) -> tuple[float, ...]:
    count = len(varints)
    free = -count % _STEP
    texts, doubles = _formats(count + free)
    numbers = int.from_bytes(texts.pack(*varints, *[b""] * free), "little") & _SEVENS
    for shift, stays, moves in _JOINS:
        numbers = numbers & stays | numbers >> shift & moves
    signs = numbers & _ONE
    differences = numbers >> 1 & _ALL ^ (signs << 64) - signs
    bits = int.from_bytes(doubles.pack(*before, *[0.0] * free), "little") + differences & _ALL
    return doubles.unpack(bits.to_bytes(doubles.size, "little"))[:count]
