"""The collection grid: when a host collects, as arithmetic on whole milliseconds of UTC.

A grid is all times t with t % interval == offset.  The offset is a stable hash of the host's name,
so a fleet's requests are spread over the interval, and a host keeps its place over restarts.  Grids
of one host fit into each other: where one interval is a multiple of another, so are the times.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection

LONGEST_GAP_MS = 400 * 86_400_000
"""A gap that is longer is a clock that was wrong, not a host that was off."""


def offset(hostname: str, interval_ms: int) -> int:
    """Return the host's place on the grid, from 0 to below `interval_ms`."""
    return zlib.crc32(hostname.encode()) % interval_ms


def slot(now_ms: int, interval_ms: int, offset_ms: int) -> int:
    """Return the newest grid time that is not after `now_ms`."""
    return now_ms - (now_ms - offset_ms) % interval_ms


def off_grid(at_ms: int, grids: Collection[tuple[int, int]]) -> int:
    """Return the first time from `at_ms` on that is on none of these grids (interval and offset)."""
    while any((at_ms - offset_ms) % interval_ms == 0 for interval_ms, offset_ms in grids):
        at_ms += 1
    return at_ms


def skipped(last_ms: int, this_ms: int, interval_ms: int) -> int:
    """Return how many grid times lie between two ticks; 0 where the clock cannot have been right."""
    gap = this_ms - last_ms
    return max(0, -(-gap // interval_ms) - 1) if 0 < gap < LONGEST_GAP_MS else 0


def skipped_in(wall_gap_ms: int, elapsed_ms: int, interval_ms: int) -> int:
    """Return the same for two ticks of one process, which knows how much time really passed.

    If the wall clock was set in between, whole intervals are counted by the monotonic clock, with a
    tenth of one for the time that a round takes; the pause until the new grid begins does not count.
    """
    if abs(wall_gap_ms - elapsed_ms) < interval_ms:
        return skipped(0, wall_gap_ms, interval_ms)
    return max(0, (elapsed_ms + interval_ms // 10) // interval_ms - 1)
