"""What a destination makes of each series once, and remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from buffer.model import Series

MAX_CACHED_SERIES = 16_384
MAX_CACHED_CHARACTERS = 16 << 20
"""A target can have a new label of 64 KiB in each line of each scrape."""

V = TypeVar("V")


class Remembered(dict[Series, V]):
    """What `make` returns for a series, by `[series]`: made at the first look, and then at most as often as it is forgotten.

    It holds up to MAX_CACHED_SERIES series, of MAX_CACHED_CHARACTERS. One too many empties it first. A series of more
    characters is held alone.
    """

    def __init__(self, make: Callable[[Series], V]) -> None:
        super().__init__()
        self._make, self._characters = make, 0

    def __missing__(self, series: Series) -> V:
        self._characters += series.characters
        if len(self) >= MAX_CACHED_SERIES or self._characters > MAX_CACHED_CHARACTERS:
            self.clear()
            self._characters = series.characters
        made = self[series] = self._make(series)
        return made
