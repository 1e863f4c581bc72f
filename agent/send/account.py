"""Where what became of samples is written down: the cursor moves, and culprits go into the quarantine.

Promises:
1. Culprits are in the quarantine before the cursor moves past their chunk. A kill in between sends the chunk again,
   and puts the same there again. Where they cannot be kept (a full disk), that is logged, and no obstacle.
2. A cursor that cannot be written delays nothing; that is logged once.
3. Nothing is touched after `leave` has returned, whatever the lane's thread still does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from agent.destinations.base import APART
from agent.send.batch import Settled
from agent.send.course import Course
from agent.send.culprits import Culprits
from agent.send.log import LaneLog
from buffer.hints import Progress, Size
from buffer.model import Tick
from buffer.quarantine import Item, Quarantine


class Account:
    """The cursor and the quarantine of one destination. `leave` may be called from any thread."""

    def __init__(
        self, name: str, course: Course, quarantine: Quarantine, log: LaneLog, wall: Callable[[], float]
    ) -> None:
        self._name, self._cursor, self._quarantine = name, course.cursor, quarantine
        self._course = course
        self._log, self._wall = log, wall
        self._hands_on, self._left = threading.Lock(), False

    def leave(self) -> None:
        """From now on touch nothing."""
        with self._hands_on:
            self._left = True

    def settle(self, settled: Settled) -> None:
        """Write down a chunk that is done with."""
        chunk = settled.chunk
        for offset, culprits in enumerate(settled.culprits):
            # Each at a position of its own within the chunk, the same one when all this is repeated.
            self._keep(chunk.start + offset, culprits)
        self._log.settled(settled)
        if settled.delivered:
            now_ms = int(self._wall() * 1000)
            self._cursor.progress = self._cursor.progress._replace(delivered_ms=now_ms)
        self._touch(lambda: self._course.commit(chunk, settled.delivered, settled.dropped))

    def note(self, state: str, error: str | None, size: Size | None, progress: Progress) -> None:
        """Keep the state, the last error, the largest request, and what is next with the cursor, which knows the last delivery."""
        progress = progress._replace(delivered_ms=self._cursor.progress.delivered_ms)
        self._touch(lambda: self._cursor.note(state, error, size, progress))

    def apart(self) -> list[Item]:
        """Return the items of what waits apart, the oldest first."""
        items = self._quarantine.items()
        return [item for item in items if item.destination == self._name and item.reason == APART]

    def ticks(self, item: Item) -> Iterator[Tick]:
        """Yield what is in an item. Raises OSError."""
        return (tick for entry in self._quarantine.entries(item.id) for tick in entry.ticks)

    def returned(self, item: Item) -> None:
        """Write down that what waited apart was delivered."""
        with self._hands_on:
            if self._left:
                return
            self._quarantine.drop(item.id)
        self._touch(lambda: self._cursor.returned(item.reason, item.samples))

    def _keep(self, position: int, culprits: Culprits) -> None:
        reason, outcome, samples, ticks, is_there = culprits
        words, now_ms = outcome.error or "", int(self._wall() * 1000)
        self._log.culprits(culprits)
        if is_there:
            return
        with self._hands_on:
            if self._left:
                return
            try:
                gone = self._quarantine.put(
                    self._name, position, ticks, reason, outcome.status, words, now_ms
                )
            except (OSError, ValueError) as error:
                self._log.not_quarantined(samples, error)
                return
        self._log.quarantined(samples, words, gone)

    def _touch(self, change: Callable[[], None]) -> None:
        with self._hands_on:
            if self._left:
                return
            failed = None
            try:
                change()
            except OSError as error:
                failed = error
        self._log.disk(failed)
