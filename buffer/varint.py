"""Variable-length integers: LEB128, and the zigzag code (0, -1, 1, -2, ...) for signed ones."""

from __future__ import annotations

LONGEST = 10


def varint(number: int) -> bytes:
    """Return a number >= 0 as LEB128."""
    if number < 128:
        return bytes((number,))
    # Most differences of a host's values are of two to four bytes: written out, they take two thirds of the time.
    if number < 1 << 14:
        return bytes((number & 127 | 128, number >> 7))
    if number < 1 << 21:
        return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14))
    if number < 1 << 28:
        return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14 & 127 | 128, number >> 21))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> int:
    """Return the zigzag code of any integer."""
    return number << 1 if number >= 0 else ~(number << 1)


def unzigzag(number: int) -> int:
    """Return the integer with this zigzag code."""
    return number >> 1 ^ -(number & 1)


class Bytes:
    """Reads fields one after another.  Raises ValueError or IndexError where the bytes end too early."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def varint(self) -> int:
        """Read a LEB128 number of up to 70 bits."""
        byte = self.data[self.at]
        self.at += 1
        number, shift = byte & 127, 7
        while byte > 127:
            byte = self.data[self.at]
            self.at += 1
            number |= (byte & 127) << shift
            shift += 7
            if shift > 7 * LONGEST:
                raise ValueError("a varint is too long")
        return number

    def take(self, size: int) -> bytes:
        """Read exactly `size` bytes."""
        taken = self.data[self.at : self.at + size]
        if len(taken) != size:
            raise ValueError("a field is cut short")
        self.at += size
        return taken
