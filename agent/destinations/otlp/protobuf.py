"""The fields of a small protobuf message that somebody else has written: as much as an answer needs."""

from __future__ import annotations

MOST = 64
"""Fields that are looked at."""


def fields(message: bytes) -> dict[int, int | bytes]:
    """Return the varints, and the bytes of strings and messages, by the field's number; of a repeated one the last.

    Never raises: what cannot be read ends it, and what came before is returned.
    """
    found: dict[int, int | bytes] = {}
    at = 0
    for _ in range(MOST):
        tag, at = _varint(message, at)
        if tag is None:
            break
        value, at = _varint(message, at) if tag & 7 in (0, 2) else (None, at)
        if tag & 7 == 0 and value is not None:
            found[tag >> 3] = value
        elif tag & 7 == 2 and value is not None and at + value <= len(message):
            found[tag >> 3] = message[at : at + value]
            at += value
        elif tag & 7 in (1, 5):
            at += 8 if tag & 7 == 1 else 4
        else:
            break
    return found


def _varint(message: bytes, at: int) -> tuple[int | None, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    return None, at
