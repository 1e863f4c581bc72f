"""The exemplars of scrape targets, on their way to the destinations that are to get them (`send_exemplars`).

Promises:
- They are in memory alone. The buffer does not hold them, no ledger counts them, and no sample waits for one.
- Each is handed out once to each destination. Of those that nobody has taken the newest MOST are kept, so an outage and a
  restart cost exemplars, but never more memory or disk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection
from itertools import islice
from typing import NamedTuple

from buffer.model import Labels, Series

MOST = 1000
MOST_CHARACTERS = 128
"""Of the names and values of an exemplar's labels (OpenMetrics 1.0, "Exemplars"); receivers refuse longer ones."""
MOST_OF_SERIES = 4096
"""Characters of a series that has exemplars: those that are kept remember it, also when it has ended."""


class Exemplar(NamedTuple):
    """An example of what a series counts: most often the trace and the span of a request, and how long it took."""

    series: Series
    labels: Labels
    value: float
    at_ms: int


class Exemplars:
    """Those of all targets. Each method may be called by any thread."""

    def __init__(self) -> None:
        self._kept: deque[Exemplar] = deque(maxlen=MOST)
        self._added = 0
        self._lock = threading.Lock()

    def add(self, found: Collection[Exemplar]) -> None:
        """Keep these."""
        with self._lock:
            self._kept.extend(found)
            self._added += len(found)

    def after(self, number: int) -> tuple[int, list[Exemplar]]:
        """Return those that were added after the first `number`, as far as they are kept, and how many were added."""
        with self._lock:
            new = min(self._added - number, len(self._kept))
            return self._added, list(islice(self._kept, len(self._kept) - new, None)) if new else []
