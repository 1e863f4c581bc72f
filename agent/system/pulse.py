"""Whether a thread is stuck: it says when it will be back from what it waits for.

So a thread that waits long for a good reason (a receiver that is away, a time of the grid) is not overdue, and one that
never comes back is. Written by the thread, read by anybody.
"""

from __future__ import annotations

from collections.abc import Callable


class Pulse:
    """One thread's. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._back_by = clock, clock()

    def back_in(self, seconds: float) -> None:
        """Note that the thread waits now, and for that long at most; 0: it is at work."""
        self._back_by = self._clock() + seconds

    def overdue(self) -> float:
        """Return since how many seconds it should have been back, or at work without a pause."""
        return max(0.0, self._clock() - self._back_by)
