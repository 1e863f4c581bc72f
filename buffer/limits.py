"""How much the buffer may hold, and what it does when it is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

MIN_SEGMENTS = 8
"""A full buffer has at least this many segments, so that dropping the oldest one is a small loss."""

OnFull = Literal["thin", "drop_oldest", "drop_newest"]


class Tiers(NamedTuple):
    """How old history gets, in seconds, and in how many bytes: as it was collected, by the minute, and by the hour.

    With a `raw` of 0 nothing is kept; with another 0 there is no such tier.
    """

    raw: float
    minute: float
    hour: float
    max_size: int


class Limits(NamedTuple):
    """The limits of a buffer.  Sizes are in bytes, `forget_after` in seconds.

    `min_free` takes the size of the volume and returns how much of it must stay free.  `forget_after` is how
    long a destination that is no longer configured keeps its cursor.
    """

    max_size: int = 256 << 20
    min_free: Callable[[int], int] = lambda _volume: 0
    segment_size: int = 4 << 20
    on_full: OnFull = "thin"
    forget_after: float = 7 * 86400.0
    history: Tiers | None = None
    """None: history stays as it is, but for the room that is needed, and nothing is added."""

    @property
    def sealed_at(self) -> int:
        """The size at which a segment is sealed: `segment_size`, or less where `max_size` is small."""
        return min(self.segment_size, largest_segment(self.max_size))


DEFAULTS = Limits()


def largest_segment(max_size: int) -> int:
    """Return the largest segment size that a buffer of `max_size` bytes may have."""
    return max_size // MIN_SEGMENTS
