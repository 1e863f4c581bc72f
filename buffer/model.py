"""The values that go into the buffer and come out of it: series, instants and ticks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Labels = tuple[tuple[str, str], ...]


class Series(NamedTuple):
    """What a column of samples is: metric name, labels sorted by name, and metadata."""

    name: str
    labels: Labels
    type: str = "gauge"
    unit: str = ""
    help: str = ""


class Instant(NamedTuple):
    """When a tick was due: UTC wall time and monotonic time in ms, and the boot they belong to.

    Monotonic times compare only where `boot_id` is the same.
    """

    wall_ms: int
    mono_ms: int
    boot_id: str


class Tick(NamedTuple):
    """One run of one collector: `values[i]` belongs to `series[i]`, all at the same instant.

    Handing in the same `series` object again (by identity) makes an append cheap.
    """

    at: Instant
    group: str
    series: tuple[Series, ...]
    values: Sequence[float]
