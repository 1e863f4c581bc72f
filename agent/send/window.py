"""At which times of the day a backlog may go out (`send_window`), by the host's local time."""

from __future__ import annotations

import time
from collections.abc import Sequence

Window = tuple[int, int]
"""Minutes of the day, from the first to before the second; over midnight where that is not later."""


def is_open(windows: Sequence[Window], wall: float) -> bool:
    """Return whether a Unix time is in one of the windows; without any it always is."""
    now = time.localtime(wall)
    minute = 60 * now.tm_hour + now.tm_min
    return not windows or any(
        begin <= minute < end if begin < end else minute >= begin or minute < end for begin, end in windows
    )
