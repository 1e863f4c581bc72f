"""The way through a history, and the tally of a replay.

    read = selected + what was not selected        selected = delivered + rejected + relabeled + repeated
                                                              + unstorable

Both hold at every position. (Relabeled is what the destination's write_relabel_configs drop; repeated are further
values of a series for an instant: the first one counts; unstorable are numbers that the destination cannot store.) A position and its sums are saved together, once a second.
What was settled since is sent again after a kill: the same samples with the same times, which receivers take as one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from agent.destinations.base import RELABELED, UNSTORABLE
from agent.ops.replay.selection import Selection
from agent.ops.replay.source import History, Piece
from agent.send.batch import Settled
from agent.send.stats import SendStats
from buffer.errors import LimpetError
from buffer.model import Chunk, Tick

SAVE_EVERY = 1.0
LOOK_AHEAD = 100_000
"""Samples read in one go in which nothing is selected, so that one can see how it gets on."""


class Tally(NamedTuple):
    """What became of everything before `position`; counts are samples, times UTC ms of what was selected."""

    position: int = 0
    done: int = 0
    read: int = 0
    selected: int = 0
    delivered: int = 0
    rejected: int = 0
    relabeled: int = 0
    repeated: int = 0
    retried: int = 0
    bytes: int = 0
    seconds: float = 0.0
    damaged: int = 0
    oldest_timestamp_ms: int | None = None
    newest_timestamp_ms: int | None = None
    unstorable: int = 0


class _Part(NamedTuple):
    piece: Piece
    ticks: list[Tick]
    selected: int


class ReplayCursor:
    """Reads a history, and settles what was read. What ends the history too early is in `problem`; all before is read."""

    def __init__(
        self,
        history: History,
        selection: Selection,
        start: Tally,
        save: Callable[[Tally], None],
        stats: SendStats | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._history, self._selection, self._save, self._clock = history, selection, save, clock
        self._start = self._settled = start
        self._stats = stats or SendStats()
        self._pieces: Iterator[Piece] = history.pieces(start.position)
        self._ahead: deque[_Part] = deque()
        self._at_end = False
        self._began = clock()
        self._saved = -SAVE_EVERY
        self.problem: LimpetError | OSError | None = None

    @property
    def tally(self) -> Tally:
        """The tally of now."""
        return self._settled._replace(
            retried=self._start.retried + self._stats.retries,
            bytes=self._start.bytes + self._stats.bytes_sent,
            seconds=round(self._start.seconds + self._clock() - self._began, 3),
            damaged=self._start.damaged + self._history.damaged,
        )

    @property
    def position(self) -> int:
        """Everything before it is settled."""
        return self._settled.position

    def read(self, max_samples: int) -> Chunk | None:
        """Return what is selected from the position on, up to `max_samples`, but one piece at least; None at the end.

        It has no ticks where nothing of a long stretch is selected.
        """
        self._look_ahead(max_samples)
        if not self._ahead:
            return None
        ticks: list[Tick] = []
        start = end = self.position
        samples = 0
        for part in self._ahead:
            if ticks and samples + part.selected > max_samples:
                break
            ticks += part.ticks
            samples, end = samples + part.selected, part.piece.end
        return Chunk(ticks, start, end, samples)

    def settle(self, settled: Settled) -> None:
        """Write down what became of a chunk; chunks come in order."""
        was, end, dropped = self._settled, settled.chunk.end, settled.dropped
        times = [t for t in (was.oldest_timestamp_ms, was.newest_timestamp_ms) if t is not None]
        done, read, selected = was.done, was.read, was.selected
        while self._ahead and self._ahead[0].piece.end <= end:
            part = self._ahead.popleft()
            done, read, selected = part.piece.done, read + part.piece.samples, selected + part.selected
            times += [tick.at.wall_ms for tick in part.ticks]
        relabeled, unstorable = dropped.get(RELABELED, 0), dropped.get(UNSTORABLE, 0)
        left_out = settled.repeated + relabeled + unstorable
        self._settled = was._replace(
            position=end,
            done=done,
            read=read,
            selected=selected,
            delivered=was.delivered + settled.delivered,
            rejected=was.rejected + sum(dropped.values()) - left_out,
            relabeled=was.relabeled + relabeled,
            repeated=was.repeated + settled.repeated,
            unstorable=was.unstorable + unstorable,
            oldest_timestamp_ms=min(times, default=None),
            newest_timestamp_ms=max(times, default=None),
        )
        if self._clock() - self._saved >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Save the tally."""
        self._save(self.tally)
        self._saved = self._clock()

    def _look_ahead(self, wanted: int) -> None:
        selected = sum(part.selected for part in self._ahead)
        read = 0
        while not self._at_end and selected < wanted and (selected or read < LOOK_AHEAD):
            try:
                piece = next(self._pieces, None)
            except (LimpetError, OSError) as error:
                piece, self.problem = None, error
            if piece is None:
                self._at_end = True
                return
            ticks = self._selection.of(piece.ticks)
            part = _Part(piece, ticks, sum(len(tick.values) for tick in ticks))
            self._ahead.append(part)
            read, selected = read + piece.samples, selected + part.selected
