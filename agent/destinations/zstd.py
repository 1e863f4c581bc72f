"""Bodies as zstd. Imported where it is sent: its library is that of snappy, which not every type needs."""

from __future__ import annotations

import cramjam

LEVEL = 3
"""A higher one costs twice the time for a twentieth of the bytes (docs/decisions/0066)."""


def zstd(body: bytes) -> bytes:
    """Return a body as zstd."""
    return bytes(cramjam.zstd.compress(body, level=LEVEL))
