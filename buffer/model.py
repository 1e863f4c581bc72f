"""The values that go into the buffer and come out of it: series, instants and ticks."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

Labels = tuple[tuple[str, str], ...]

STALE_BITS = 0x7FF0000000000002
STALE: float = struct.unpack("<d", STALE_BITS.to_bytes(8, "little"))[0]
"""Prometheus's stale marker, one NaN among many: as a sample it says that its series ended there."""
ENDED = ".ended"
"""What a group of such markers is called: the group that the series were in, and this."""


BUILT_MS = 1_735_689_600_000
"""2025-01-01: no copy of this software is older, so a clock before that is wrong."""


def is_stale(value: float) -> bool:
    """Whether this is the stale marker, and not a number or another NaN."""
    return value != value and struct.pack("<d", value) == STALE_BITS.to_bytes(8, "little")


class Series(NamedTuple):
    """What a column of samples is: metric name, labels sorted by name, and metadata."""

    name: str
    labels: Labels
    type: str = "gauge"
    unit: str = ""
    help: str = ""

    @property
    def characters(self) -> int:
        """Those of all its texts: what it takes to remember it."""
        texts = sum([len(name) + len(value) for name, value in self.labels])
        return texts + len(self.name) + len(self.unit) + len(self.help)


class Instant(NamedTuple):
    """When a tick was due: UTC wall time and monotonic time in ms, and the boot they belong to.

    Monotonic times compare only where `boot_id` is the same.
    """

    wall_ms: int
    mono_ms: int
    boot_id: str


class Doubted(NamedTuple):
    """A wall clock that is not believed: its base, which is its time minus the monotonic time, in ms.

    `good_ms` is the base that this boot's clock had when it was believed; None: it never was, or, where it is `refuted`, that was wrong.
    """

    base_ms: int
    good_ms: int | None = None
    refuted: bool = False


class Tick(NamedTuple):
    """One run of one collector: `values[i]` belongs to `series[i]`, all at the same instant.

    Handing in the same `series` object again (by identity) makes an append cheap.
    """

    at: Instant
    group: str
    series: tuple[Series, ...]
    values: Sequence[float]


class Chunk(NamedTuple):
    """Consecutive ticks of the positions from `start` to before `end`; `samples` of them."""

    ticks: list[Tick]
    start: int
    end: int
    samples: int
    before: int = 0
    """Further samples of these positions, which were settled before."""
