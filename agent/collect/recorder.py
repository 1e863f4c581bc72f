"""From the ticks of a round to records of the buffer: markers, missed samples, and what happens when the disk refuses.

Promises:
- The ticks of one instant are one record, or as few as hold them if they have very many series.
- A series that was in a collector's last stored tick and is not in this one ends: a stale marker for it is in the
  same record (`agent.collect.series`).
- Grid times without a tick are counted as missed when the collector's next tick is appended, including those at which
  no agent was running (the buffer's last tick is the other end of the gap).  A clock that is set while the agent
  runs makes no gap: the monotonic clock says how much time passed.
- While `clock` is set, the clock is not believed, and all is appended as provisional.  A gap before the first tick of
  such a process is counted when its time is known.
- A tick that cannot be stored costs itself alone. It is logged once in a row, and counted as missed.
- No error of the disk gets out.  It is counted, and logged once in a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from agent.collect import grid
from agent.collect.plan import Plan
from agent.collect.series import gone, markers
from agent.system.events import Event, Logger
from agent.text import advice
from buffer.errors import BufferFull
from buffer.model import ENDED, Doubted, Instant, Tick
from buffer.placing import Unplaced
from buffer.segment import Note

RECORD_SAMPLES = 1 << 14
"""Samples of several ticks in one record: far below what a record can hold (`buffer.codec`)."""
FULL = "Raise buffer.max_size, or let it drop the oldest: buffer.on_full"
"""What to do about a buffer that takes nothing."""


class Sink(Protocol):
    """The part of the buffer that the schedule uses."""

    def append(self, ticks: Sequence[Tick], missed: int = 0, clock: Doubted | None = None) -> int:
        """Store the ticks of one instant; with the clock if it is not believed."""

    def last(self, group: str) -> tuple[int, int] | None:
        """Return the wall time and the size of the group's last tick."""


class Recorder:
    """Appends ticks to the sink, and notes in each plan what was stored of it."""

    def __init__(self, sink: Sink, log: Logger) -> None:
        self._sink, self._log = sink, log
        self._failing = False
        self._refused: set[str] = set()  # groups whose last tick could not be stored
        self.append_failures = 0
        self.clock: Doubted | None = None
        """The clock, where that is not believed."""
        self._gaps: dict[str, tuple[Plan, tuple[int, int], int]] = {}
        self._uncounted: dict[str, int] = {}

    def last(self, group: str, before_ms: int) -> int:
        """Return the time of a group's last tick; 0 if there is none, or if it is not before that time."""
        last = self._sink.last(group)
        return last[0] if last is not None and last[0] < before_ms else 0

    def missed(self, plan: Plan, at: Instant) -> int:
        """Return how many samples of a collector are missing before its tick of this instant."""
        # What the log knows of an earlier process can begin with the markers at its end.
        last, since = self._sink.last(plan.name) or self._sink.last(plan.name + ENDED), plan.since
        if last is None:
            return 0
        uncounted = self._uncounted.get(plan.name, 0)
        if since is None and self.clock is not None:
            self._gaps[plan.name] = plan, last, at.mono_ms
            return 0
        if since is None:  # the last one is of an earlier process: only the wall clock knows
            return grid.skipped(last[0], at.wall_ms, plan.interval_ms) * last[1]
        gap, elapsed = at.wall_ms - since.wall_ms, at.mono_ms - since.mono_ms
        return grid.skipped_in(gap, elapsed, plan.interval_ms) * last[1] + uncounted

    def placed(self, found: Iterable[tuple[Unplaced, Note]], base_ms: int) -> None:
        """Take it that what was provisional has its times, and that this is the base of the clock."""
        shifts = [(one.first_ms, one.last_ms, note.shift_ms) for one, note in found]
        for name, (plan, (last_ms, series), mono_ms) in self._gaps.items():
            shift_ms = next((shift for first, upto, shift in shifts if first <= last_ms <= upto), 0)
            skipped = grid.skipped(last_ms + shift_ms, mono_ms + base_ms, plan.interval_ms)
            self._uncounted[name] = skipped * series
        self._gaps = {}

    def mark(self, tick: Tick) -> None:
        """Store a tick of another time that no collector has collected."""
        self._store([tick], {}, {})

    def append(self, ticks: Sequence[tuple[Plan, Tick]]) -> None:
        """Store the ticks of one instant, with markers for the series that they do not have any more.

        A tick without series says that its collector has none any more.
        """
        missed = {plan.name: self.missed(plan, tick.at) for plan, tick in ticks}
        everything: list[Tick] = []
        for plan, tick in ticks:
            everything.append(tick)
            if not plan.begins and (no_more := gone(plan.live, tick.series)):
                everything.append(markers(tick.at, plan.name, no_more))
        plans = {plan.name: plan for plan, _ in ticks}
        for record in records(everything):
            self._store(record, missed, plans)
        for plan, tick in ticks:
            for stamped in plan.stamped(tick.at):  # says nothing about what has ended, and cannot be missed
                self._store([stamped], {}, {})

    def end(self, plans: Collection[Plan], others: Collection[Plan], now: Instant) -> None:
        """Store a marker for every series of these plans: now, but behind their last ticks and off everybody's grid."""
        grids = [(plan.interval_ms, plan.offset_ms) for plan in (*plans, *others)]
        ticks: dict[int, list[Tick]] = {}
        for plan in plans:
            if plan.stored is not None and plan.live:
                last_ms = plan.stored.wall_ms
                # A last tick that is far ahead is from before the clock was set back, as it may be again.
                behind_ms = last_ms + 1 if last_ms < now.wall_ms + plan.interval_ms else 0
                at_ms = grid.off_grid(max(now.wall_ms, behind_ms), grids)
                at = now._replace(wall_ms=at_ms)
                ticks.setdefault(at_ms, []).append(markers(at, plan.name, plan.live))
        for each in ticks.values():
            for record in records(each):
                self._store(record, {}, {})

    def _store(self, ticks: Sequence[Tick], missed: Mapping[str, int], plans: Mapping[str, Plan]) -> None:
        filled = [tick for tick in ticks if tick.series]
        try:
            if filled:
                doubted = {} if self.clock is None else {"clock": self.clock}
                self._sink.append(filled, sum(missed.get(tick.group, 0) for tick in ticks), **doubted)
        except ValueError as error:
            if len(ticks) == 1:
                self._refuse(ticks[0], error)
                return
            for part in (ticks[: len(ticks) // 2], ticks[len(ticks) // 2 :]):
                self._store(part, missed, plans)
        except (OSError, BufferFull) as error:
            self.append_failures += 1
            say = self._log.debug if self._failing else self._log.error
            samples = sum(len(tick.values) for tick in ticks)
            do = FULL if isinstance(error, BufferFull) else advice.about(error)
            say(Event.APPEND_FAILED, error=str(error), samples=samples, do=do)
            self._failing = True
        else:
            recovered = bool(filled) and self._failing
            self._failing = self._failing and not filled
            for tick in ticks:
                if tick.group in plans:  # else they are markers
                    plans[tick.group].keep(tick.at, tick.series)
                    self._uncounted.pop(tick.group, None)
                if tick.group in self._refused:
                    self._refused.discard(tick.group)
                    self._log.info(Event.APPEND_RECOVERED, collector=tick.group)
            if recovered:
                self._log.info(Event.APPEND_RECOVERED)

    def _refuse(self, tick: Tick, error: ValueError) -> None:
        """Leave out a tick that cannot be stored. The next one that can be counts it as missed."""
        self.append_failures += 1
        say = self._log.debug if tick.group in self._refused else self._log.error
        say(Event.APPEND_FAILED, collector=tick.group, error=str(error), samples=len(tick.values))
        self._refused.add(tick.group)


def records(ticks: Sequence[Tick]) -> Iterator[Sequence[Tick]]:
    """Divide the ticks of one instant among records of RECORD_SAMPLES; a larger tick has one for itself."""
    begun, samples = 0, 0
    for i, tick in enumerate(ticks):
        if samples + len(tick.series) > RECORD_SAMPLES and i > begun:
            yield ticks[begun:i]
            begun, samples = i, 0
        samples += len(tick.series)
    if ticks:
        yield ticks[begun:]
