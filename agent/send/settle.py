"""What is left of a batch when it is settled: culprits in the quarantine, the rest behind the cursor.

Promises:
1. Culprits are in the quarantine before the cursor moves past their batch. A kill in between sends the batch again,
   and puts the same there again. Where they cannot be kept (a full disk) that is told, and no obstacle.
2. A cursor that cannot be written delays nothing; that is told once.
3. Nothing is touched after `leave` has returned, whatever the lane's thread still does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from agent.send.batch import Batch
from agent.send.needs import Cursor, Quarantine
from agent.send.poison import Culprits, Poison
from agent.send.report import Report


class Settlement:
    """The cursor and the quarantine of one destination. `leave` may be called from any thread."""

    def __init__(
        self, name: str, cursor: Cursor, quarantine: Quarantine, report: Report, wall: Callable[[], float]
    ) -> None:
        self._name, self._cursor, self._quarantine = name, cursor, quarantine
        self._report, self._wall = report, wall
        self._hands_on, self._left = threading.Lock(), False

    def leave(self) -> None:
        """From now on touch nothing."""
        with self._hands_on:
            self._left = True

    def settle(self, batch: Batch, poison: Poison | None) -> str | None:
        """Settle a batch; with `poison`, its culprits are told. Return the receiver's words about the last of them."""
        dropped = dict(batch.dropped)
        found = poison.culprits() if poison is not None else []
        for offset, culprits in enumerate(found):
            # Each at a position of its own within the batch, the same one when all this is repeated.
            self._keep(batch.chunk.start + offset, culprits)
            dropped[culprits.reason] = dropped.get(culprits.reason, 0) + culprits.samples
        self._report.settled(found, batch.repeated)
        delivered = batch.samples if poison is None else poison.delivered
        self._touch(lambda: self._cursor.commit(batch.chunk.start, batch.chunk.end, delivered, dropped))
        return found[-1].outcome.error if found else None

    def note(self, state: str, error: str | None) -> None:
        """Keep the state and the last error with the cursor."""
        self._touch(lambda: self._cursor.note(state, error))

    def _keep(self, position: int, culprits: Culprits) -> None:
        reason, outcome, samples, ticks = culprits
        words, now_ms = outcome.error or "", int(self._wall() * 1000)
        self._report.culprits(culprits)
        with self._hands_on:
            if self._left:
                return
            try:
                gone = self._quarantine.put(
                    self._name, position, ticks, reason, outcome.status, words, now_ms
                )
            except (OSError, ValueError) as error:
                self._report.not_quarantined(samples, str(error))
                return
        self._report.quarantined(samples, words, gone)

    def _touch(self, change: Callable[[], None]) -> None:
        with self._hands_on:
            if self._left:
                return
            try:
                change()
                told = ""
            except OSError as error:
                told = str(error)
        self._report.disk(told)
