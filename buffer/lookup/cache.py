"""What a process with many queries keeps of the files of a buffer.

Promises: it holds `most` bytes at most, by the estimates that it is given, and what was used last stays. Keys say what was read, by
its checksums, so nothing of a file that has another's name is ever returned. Any number of threads may use one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from buffer.model import Series

MOST = 16 << 20
"""A day of a host with 140 series takes 1.3 MB as rows of the log, and 0.3 MB of indexes as history."""
_OVERHEAD = 500
_SETS = 1024

T = TypeVar("T")


class Cache:
    """Remembers values by keys."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.size = 0
        """Bytes."""
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._sets: dict[tuple[Series, ...], tuple[Series, ...]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return what is known by the key, or load it. Raises what `load` raises."""
        with self._lock:
            if (known := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                found: T = known[0]
                return found
        found = load()
        self.put(key, found, size(found))
        return found

    def put(self, key: Hashable, value: object, size: int) -> None:
        """Remember a value, which takes so many bytes, instead of one that has its key."""
        with self._lock:
            _, before = self._kept.pop(key, (None, 0))
            self.size += size + _OVERHEAD - before
            self._kept[key] = value, size + _OVERHEAD
            while self.size > self.most:
                _, (_, gone) = self._kept.popitem(last=False)
                self.size -= gone

    def known(self, key: Hashable) -> Any:
        """Return what is known by the key; None where nothing is."""
        with self._lock:
            return self._kept.get(key, (None, 0))[0]

    def same(self, series: tuple[Series, ...]) -> tuple[Series, ...]:
        """Return one object for the same set of series, whatever file it is from."""
        with self._lock:
            if len(self._sets) >= _SETS:
                self._sets.clear()
            return self._sets.setdefault(series, series)
