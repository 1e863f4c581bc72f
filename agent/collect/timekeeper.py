"""What the schedule does with the guard's word: provisional records while the clock is not believed, their times when it is.

Promises:
- While the clock is not believed, everything is appended as provisional: durable as any other, and sent to nobody.
- When it is believed, what is provisional gets its times before anything else is appended.  Where the disk refuses that,
  each look tries again, and what comes meanwhile waits behind it.
- A boot that ended before its clock was right is placed by an estimate (`buffer.placing`).  Over that time there is
  a series, ESTIMATED, with the value 1, at its end the marker of its end, and a sample at least every MARK_EVERY_MS, but at
  most MOST_MARKS.  Where that is not wanted, no destination gets it, and each counts it as `unplaced`.
- A step of a clock that is not believed, before it or after it, makes no tick earlier than the one before.  The first
  round of a process whose clock is not believed, or was not before, comes with the next time of the grid, not at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from agent.collect.guard import ASKING, STEP_MS, Evidence, Guard, Trust
from agent.collect.plan import Plan
from agent.collect.recorder import Recorder
from agent.system.events import Event, Logger
from agent.text import advice
from buffer.buffer import Buffer
from buffer.errors import BufferFull
from buffer.model import ENDED, STALE, Doubted, Instant, Series, Tick
from buffer.placing import Unplaced
from buffer.segment import Note

if TYPE_CHECKING:
    from agent.config.schema import ClockSection

ESTIMATED = "limpet_clock_estimated"
MARK_EVERY_MS = 240_000
MOST_MARKS = 500
_HELP = "1 over the time of a boot whose clock was never right: its samples are placed by an estimate."

Placed = Sequence[tuple[Unplaced, Note]]


class Seen(NamedTuple):
    """What a look has found: the clock, if it is not believed; whether plans begin again behind now; by how much ticks move."""

    clock: Doubted | None
    begins: bool
    moved_ms: int


class Timekeeper:
    """See above.  Used from the schedule's thread; `configure` from any.  `labels` are the host's, for ESTIMATED."""

    def __init__(
        self,
        settings: ClockSection,
        evidence: Evidence,
        buffer: Buffer,
        log: Logger,
        labels: Callable[[], Mapping[str, str]],
    ) -> None:
        self.guard = Guard(settings.trust, settings.max_skew, evidence)
        self._buffer, self._log, self._labels = buffer, log, labels
        self._settings = settings
        self._trust: Trust | None = None
        self._base, self._failing = 0, False

    def configure(self, settings: ClockSection) -> None:
        """Go by these settings from the next round on."""
        self._settings = settings
        self.guard.configure(settings.trust, settings.max_skew)

    def wants_date(self) -> bool:
        """Return whether the Date of a receiver would decide.  From any thread."""
        return self.guard.trust in ASKING

    def begin_round(self, now: Instant, plans: Iterable[Plan], recorder: Recorder) -> None:
        """Look at the clock, and have plans and recorder go by what was found."""
        seen = self.look(now, recorder)
        recorder.clock = seen.clock
        for plan in plans if seen.begins else ():
            plan.next_ms = plan.following(now.wall_ms)
            if plan.running is not None:
                at, begun = plan.running
                plan.running = at._replace(wall_ms=max(0, at.wall_ms + seen.moved_ms)), begun

    def look(self, now: Instant, recorder: Recorder) -> Seen:
        """Judge the clock, and give what is provisional its times if they are known now."""
        before, base_ms = self._trust, now.wall_ms - now.mono_ms
        if before is None:
            self.guard.recall(*self._buffer.log.recalled(now.boot_id))
        trust = self.guard.look(now.wall_ms, now.mono_ms, self._buffer.log.kept_ms)
        moved_ms, self._base = base_ms - self._base, base_ms
        self._trust = trust
        if trust != before and not (before is None and trust.is_good):
            say = self._log.info if trust.is_good else self._log.warning
            say(Event.CLOCK_BELIEVED if trust.is_good else Event.CLOCK_DOUBTED, source=trust.source)
            self._buffer.wake()  # a lane that rests asks for the time
        begins = not trust.is_good or bool(self._buffer.log.unplaced)
        if trust.is_good and self._buffer.log.unplaced:
            self._place(now, base_ms, recorder)
        if trust.is_good and self._buffer.log.unmarked:
            self._mark(recorder)
        clock = None if trust.is_good else Doubted(base_ms, self.guard.good_base, self.guard.refuted)
        if before is None:  # what is stamped with a time that is over could be behind what will be placed
            return Seen(clock, begins, 0)
        is_sure = trust.is_good and before.is_good
        has_moved = abs(moved_ms) > STEP_MS and not is_sure
        return Seen(clock, has_moved, moved_ms if has_moved else 0)

    def _place(self, now: Instant, base_ms: int, recorder: Recorder) -> None:
        try:
            found = self._buffer.place(now.boot_id, base_ms, drop=self._settings.unplaced == "drop")
        except (OSError, BufferFull) as error:
            say = self._log.debug if self._failing else self._log.error
            say(Event.CLOCK_NOT_PLACED, error=str(error), do=advice.about(error))
            self._failing = True
            return
        self._failing = False
        recorder.placed(found, base_ms)
        estimated = [one for one in found if one[1].is_estimated]
        samples, unsure = (sum(one.end - one.first for one, _ in each) for each in (found, estimated))
        self._log.info(Event.CLOCK_PLACED, samples=samples, estimated=unsure)

    def _mark(self, recorder: Recorder) -> None:
        """Say over which time there are estimates; after a kill once more."""
        recorder.clock = None
        if self._settings.unplaced == "estimate":
            for tick in marks(self._buffer.log.unmarked, self._labels()):
                recorder.mark(tick)
        with suppress(OSError):  # they are repeated: a receiver takes the same sample twice
            self._buffer.log.sync()
            self._buffer.log.mark()
            self._buffer.wake()


def marks(estimated: Placed, labels: Mapping[str, str]) -> Iterator[Tick]:
    """Yield the ticks that mark the time of boots that were placed by an estimate."""
    series = (Series(ESTIMATED, tuple(sorted(labels.items())), "gauge", "", _HELP),)
    for boot_id, each in groupby(estimated, key=lambda one: one[0].boot_id):
        segments = list(each)
        (first, begin), (last, end) = segments[0], segments[-1]
        start_ms, end_ms = max(0, first.first_ms + begin.shift_ms), max(0, last.last_ms + end.shift_ms)
        base_ms = first.base_ms + begin.shift_ms
        step_ms = max(MARK_EVERY_MS, (end_ms - start_ms) // MOST_MARKS)
        for at_ms in (*range(start_ms, end_ms, step_ms), end_ms):
            yield Tick(Instant(at_ms, at_ms - base_ms, boot_id), ESTIMATED, series, (1.0,))
        at = Instant(end_ms + 1, end_ms + 1 - base_ms, boot_id)
        yield Tick(at, ESTIMATED + ENDED, series, (STALE,))
