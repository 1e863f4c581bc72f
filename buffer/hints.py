"""Hints: what a cursor file has besides the ledger, in a line of its own behind it.

    {"samples": .., "bytes": .., "delivered_ms": .., "tries": .., "next_try_ms": .., "skew": .., "outage": ..,
     "outage_ms": ..}

and, while samples with priority are settled before the rest, one field more:

     "priority": {"until": .., "selectors": [..], "dropped": {reason: ..}}

No promise depends on them: any field may be missing, null or wrong, and is then not known. (Without the last one samples are
sent twice.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from buffer.segment import MAX_POSITION

MAX_CAUSE = 16
"""Characters."""


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
    outage: str | None = None
    """Why nothing is delivered."""
    outage_ms: int | None = None
    """Since when."""


UNKNOWN = Progress()


class Priority(NamedTuple):
    """What is settled before the rest: the samples before a position whose series match one of some selectors."""

    until: int
    selectors: tuple[str, ...]
    dropped: Mapping[str, int] = {}
    """Those of them that were dropped, by reason, and are not in the ledger yet."""


class Hints(NamedTuple):
    """All of them."""

    size: Size | None = None
    progress: Progress = UNKNOWN
    priority: Priority | None = None


NONE = Hints()


def line(hints: Hints) -> bytes:
    """Return the line; empty where there is nothing to say."""
    if hints == NONE:
        return b""
    samples, count = hints.size or (None, None)
    fields = {"samples": samples, "bytes": count, **hints.progress._asdict()}
    if hints.priority is not None:
        fields["priority"] = hints.priority._asdict()
    return json.dumps(fields).encode()


def read(fields: Mapping[str, Any]) -> Hints:
    """Return what the fields of a line say."""
    samples, count = _count(fields, "samples"), _count(fields, "bytes")
    skew = fields.get("skew")
    progress = Progress(
        _count(fields, "delivered_ms"),
        _count(fields, "tries") or 0,
        _count(fields, "next_try_ms"),
        float(skew) if isinstance(skew, int | float) and abs(skew) < MAX_POSITION else None,
        outage[:MAX_CAUSE] if isinstance(outage := fields.get("outage"), str) else None,
        _count(fields, "outage_ms"),
    )
    return Hints(
        Size(samples, count) if samples and count else None, progress, _priority(fields.get("priority"))
    )


def _priority(fields: Any) -> Priority | None:
    if not isinstance(fields, dict):
        return None
    until, selectors, dropped = (fields.get(key) for key in Priority._fields)
    if not until or not isinstance(selectors, list) or not isinstance(dropped, dict):
        return None
    counts = (until, *dropped.values())
    are_sound = all(type(one) is int and 0 <= one <= MAX_POSITION for one in counts)
    if not are_sound or not all(isinstance(one, str) for one in selectors):
        return None
    return Priority(until, tuple(selectors), dropped)


def _count(fields: Mapping[str, Any], key: str) -> int | None:
    value = fields.get(key)
    return value if type(value) is int and 0 <= value <= MAX_POSITION else None
