"""The lane's way through a source: what `buffer.cursor` is to the agent, and the ledger of a replay.

    read = selected + what was not selected        selected = delivered + rejected + relabeled + repeated

both hold at every position. (Relabeled is what the destination's write_relabel_configs drop; repeated are further
values of a series for an instant: the first one counts.) A position and its sums are saved together, once a second; what was settled since is
sent again after a kill, the same samples with the same times, which receivers take as one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from agent.ops.replay.selection import Selection
from agent.ops.replay.source import Piece, Source
from agent.send.batch import RELABELED
from agent.send.report import LaneStats
from buffer.errors import LimpetError
from buffer.model import Chunk, Tick

SAVE_EVERY = 1.0
LOOK_AHEAD = 100_000
"""Samples read in one go in which nothing is selected, so that one can see how it gets on."""


class Ledger(NamedTuple):
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


class _Part(NamedTuple):
    piece: Piece
    ticks: list[Tick]
    selected: int


class ReplayCursor:
    """Read and settle from the lane's thread; `ledger` may be looked at from any.

    What ends the source too early is in `problem`: for the lane it is the end, so all before it is sent.
    """

    def __init__(
        self,
        source: Source,
        selection: Selection,
        start: Ledger,
        save: Callable[[Ledger], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._selection, self._start, self._save, self._clock = (
            source,
            selection,
            start,
            save,
            clock,
        )
        self._settled = start
        self._pieces: Iterator[Piece] = source.pieces(start.position)
        self._ahead: deque[_Part] = deque()
        self._at_end = False
        self._began = clock()
        self._saved = -SAVE_EVERY
        self._repeated = 0  # of what the lane left out, how much is in the ledger
        self.stats = LaneStats()
        """The lane's; until it is handed over, of one that has sent nothing."""
        self.problem: LimpetError | OSError | None = None

    @property
    def ledger(self) -> Ledger:
        """The ledger of now."""
        return self._settled._replace(
            retried=self._start.retried + self.stats.retries,
            bytes=self._start.bytes + self.stats.bytes_sent,
            seconds=round(self._start.seconds + self._clock() - self._began, 3),
            damaged=self._start.damaged + self._source.damaged,
        )

    @property
    def position(self) -> int:
        """Everything before it is settled."""
        return self._settled.position

    ahead = None
    """Everything goes in its order."""

    def read_ahead(self, max_samples: int) -> Chunk:
        """Return nothing."""
        return Chunk([], self.position, self.position, 0)

    def go_ahead(self, samples: int) -> bool:
        """Leave all as it is."""
        return False

    def pending_ahead(self) -> int:
        """Return what is pending."""
        return self.pending()

    def read(self, max_samples: int) -> Chunk:
        """Return what is selected from the position on, up to `max_samples`, but one piece at least."""
        self._look_ahead(max_samples)
        ticks: list[Tick] = []
        start = end = self.position
        samples = 0
        for part in self._ahead:
            if ticks and samples + part.selected > max_samples:
                break
            ticks += part.ticks
            samples, end = samples + part.selected, part.piece.end
        return Chunk(ticks, start, end, samples)

    def pending(self) -> int:
        """Return how many samples are known to come; 1 where that is not known yet."""
        if not self._ahead:
            self._look_ahead(1)
        return max(1, sum(part.selected for part in self._ahead)) if self._ahead else 0

    def commit(self, start: int, end: int, delivered: int, dropped: Mapping[str, int]) -> None:
        """Settle everything up to `end`; chunks come in order, so `start` is the position."""
        was = self._settled
        times = [t for t in (was.oldest_timestamp_ms, was.newest_timestamp_ms) if t is not None]
        done, read, selected = was.done, was.read, was.selected
        while self._ahead and self._ahead[0].piece.end <= end:
            part = self._ahead.popleft()
            done, read, selected = part.piece.done, read + part.piece.samples, selected + part.selected
            times += [tick.at.wall_ms for tick in part.ticks]
        repeated = self.stats.samples_repeated - self._repeated
        self._repeated += repeated
        relabeled = dropped.get(RELABELED, 0)
        self._settled = was._replace(
            position=end,
            done=done,
            read=read,
            selected=selected,
            delivered=was.delivered + delivered,
            rejected=was.rejected + sum(dropped.values()) - repeated - relabeled,
            relabeled=was.relabeled + relabeled,
            repeated=was.repeated + repeated,
            oldest_timestamp_ms=min(times, default=None),
            newest_timestamp_ms=max(times, default=None),
        )
        if self._clock() - self._saved >= SAVE_EVERY:
            self.save()

    def note(self, state: str, error: str | None) -> None:
        """Keep nothing: whoever shows the progress asks the lane."""

    def save(self) -> None:
        """Save the ledger."""
        self._save(self.ledger)
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
