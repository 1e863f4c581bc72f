"""Ticks for tests of the buffer: small, different from each other, and easy to compare bit for bit."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from buffer.model import Instant, Labels, Series, Tick, is_stale

Sample = tuple[int, float]

BOOT = "0123456789abcdef0123456789abcdef"
STEP_MS = 10_000
START_MS = 1_750_000_000_000


def table(group: str, width: int) -> tuple[Series, ...]:
    """Return the series of a group."""
    return tuple(
        Series(f"{group}_{i}_total", (("hostname", "rock"), ("place", str(i))), "counter", "", "Counted.")
        for i in range(width)
    )


TABLES = {width: table("probe", width) for width in range(1, 65)}


def tick(number: int, width: int = 3, group: str = "probe", boot: str = BOOT) -> Tick:
    """Return tick `number`, whose values name it: no other tick has any of them."""
    at = Instant(START_MS + number * STEP_MS, number * STEP_MS, boot)
    series = TABLES[width] if group == "probe" else table(group, width)
    return Tick(at, group, series, [float(number * 64 + i) for i in range(width)])


def values(samples: Mapping[Labels, Sequence[Sample]]) -> dict[Labels, list[Sample]]:
    """Return samples without the markers of series that ended, which PromQL shows to nobody either."""
    found = {labels: [one for one in of if not is_stale(one[1])] for labels, of in samples.items()}
    return {labels: of for labels, of in found.items() if of}


def ends(samples: Mapping[Labels, Sequence[Sample]]) -> dict[Labels, list[int]]:
    """Return the times of the markers among samples, which `values` leaves out."""
    found = {labels: [at for at, value in of if is_stale(value)] for labels, of in samples.items()}
    return {labels: of for labels, of in found.items() if of}


def bits(values: Sequence[float]) -> bytes:
    """Return the values as bytes, in which NaN equals itself and -0.0 is not 0.0."""
    return struct.pack(f"<{len(values)}d", *values)


def exactly(ticks: Sequence[Tick]) -> list[tuple[Instant, str, tuple[Series, ...], bytes]]:
    """Return what makes two lists of ticks the same, bit for bit."""
    return [(t.at, t.group, t.series, bits(t.values)) for t in ticks]
