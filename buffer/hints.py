"""Hints: what a cursor file has besides the ledger, in a line of its own behind it.

    {"samples": .., "bytes": .., "delivered_ms": .., "tries": .., "next_try_ms": .., "skew": ..}

Nothing depends on them: any field may be missing, null or wrong, and is then not known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from buffer.segment import MAX_POSITION


class Size(NamedTuple):
    """The largest request that goes out, in samples and bytes, where less goes than is configured."""

    samples: int
    bytes: int


class Progress(NamedTuple):
    """How a destination is getting on, for a person to see.  Times are UTC in ms."""

    delivered_ms: int | None = None
    """When it took samples last."""
    tries: int = 0
    """Failed tries in a row, or probes since it is held."""
    next_try_ms: int | None = None
    """When it is tried again, where something is wrong.  Waits of a few seconds need not be kept."""
    skew: float | None = None
    """Seconds that this host's clock was ahead of the receiver's."""


UNKNOWN = Progress()


def line(size: Size | None, progress: Progress) -> bytes:
    """Return the line; empty where there is nothing to say."""
    if size is None and progress == UNKNOWN:
        return b""
    samples, count = size or (None, None)
    return json.dumps({"samples": samples, "bytes": count, **progress._asdict()}).encode()


def read(fields: Mapping[str, Any]) -> tuple[Size | None, Progress]:
    """Return what the fields of a line say."""
    samples, count = _count(fields, "samples"), _count(fields, "bytes")
    skew = fields.get("skew")
    progress = Progress(
        _count(fields, "delivered_ms"),
        _count(fields, "tries") or 0,
        _count(fields, "next_try_ms"),
        float(skew) if isinstance(skew, int | float) and abs(skew) < MAX_POSITION else None,
    )
    return Size(samples, count) if samples and count else None, progress


def _count(fields: Mapping[str, Any], key: str) -> int | None:
    value = fields.get(key)
    return value if type(value) is int and 0 <= value <= MAX_POSITION else None
