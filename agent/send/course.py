"""What a lane has to send: all that its cursor has, or while `only` is set what has priority.

Promises:

1. No sample is sent for its priority and then once more in its turn, but after a kill (`buffer.position`).
2. The samples of a series go out in order: those with priority begin where the rest is.
3. The selectors that count are those by which samples went ahead that are still pending, else those that are configured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.config import selected
from agent.send.parts import parted
from buffer.cursor import Cursor
from buffer.model import Chunk, Series, Tick


class Course:
    """A cursor as a lane sees it. `selectors` are those of series with priority. Used from one thread."""

    def __init__(self, cursor: Cursor, selectors: Sequence[str] = ()) -> None:
        self.cursor, self._configured = cursor, tuple(selectors)
        self.only = False
        """Whether nothing goes out but what has priority. Not to be changed while a chunk is on its way."""
        self._matches: tuple[tuple[str, ...], Callable[[Series], bool]] = (), selected(())

    @property
    def position(self) -> int:
        """In samples: what is before it is done with."""
        return self.cursor.priority_at if self.only else self.cursor.position

    @property
    def ahead(self) -> int | None:
        """Where `read_ahead` continues; None where that is the position."""
        return None if self.only else self.cursor.ahead

    def pending(self) -> int:
        """Return the number of samples that can be sent; 1 where that is not known, because only some have priority."""
        left = self.cursor.log.placed - self.position
        return max(0, min(1, left)) if self.only else self.cursor.waiting()

    def pending_ahead(self) -> int:
        """Return the number of samples that `read_ahead` has, or `read` where nothing is ahead."""
        return self.pending() if self.only else self.cursor.waiting_ahead()

    def go_ahead(self, samples: int) -> bool:
        """Let `read_ahead` continue at the newest records: those of the last `samples`. Raises OSError."""
        return not self.only and self.cursor.go_ahead(samples)

    def read(self, max_samples: int) -> Chunk:
        """Return the next chunk, of so many samples at most. Raises OSError."""
        if self.only:
            return self.cursor.read_priority(lambda ticks: self._split(ticks)[1])
        return self._without(self.cursor.read(max_samples))

    def read_ahead(self, max_samples: int) -> Chunk:
        """Return the next chunk of what goes ahead of a backlog. Raises OSError."""
        return self._without(self.cursor.read_ahead(max_samples))

    def commit(self, chunk: Chunk, delivered: int, dropped: Mapping[str, int]) -> None:
        """Settle a chunk. Raises OSError."""
        if self.only:
            self.cursor.commit_priority(chunk.end, self._selectors, dropped)
        else:
            self.cursor.commit(chunk.start, chunk.end, delivered, dropped, chunk.before)

    @property
    def _selectors(self) -> tuple[str, ...]:
        return self.cursor.priority.selectors if self.cursor.priority is not None else self._configured

    def _split(self, ticks: Sequence[Tick]) -> tuple[list[Tick], list[Tick]]:
        if self._matches[0] != self._selectors:
            self._matches = self._selectors, selected(self._selectors)
        return parted(ticks, self._matches[1])

    def _without(self, chunk: Chunk) -> Chunk:
        """Return a chunk without what is settled of it."""
        if self.cursor.priority is None or chunk.end > self.cursor.priority.until:
            return chunk
        rest, settled = self._split(chunk.ticks)
        before = sum(len(tick.values) for tick in settled)
        return chunk._replace(ticks=rest, samples=chunk.samples - before, before=before)
