"""The schedule: every collector on the host's grid, its ticks into the buffer.

Promises:
- All ticks of a round have one timestamp, which is on the grid of `agent.grid`.  The first round
  comes at once, stamped with the newest grid time, unless the buffer holds that one or newer markers.
- A collector that hangs delays the others by a quarter of a second, once.  What it returns within
  its timeout is a late tick of its round; after that it is left behind: counted, logged once, not
  started again until it has returned, and its late result is thrown away.  One that is `apart`, as
  a scrape is, delays nobody: it has a thread of its own.
- Nothing that a collector raises, and no error of the disk, ends the schedule.
- Grid times without a tick are counted as missed when the collector's next tick is appended, those
  at which no agent was running too (the buffer's last ticks are the other end of the gap).  A clock
  that is set while the agent runs makes none: the monotonic clock says how much time passed.
- A clock that is set back by more than an interval is followed, not waited for.
- The ticks of one instant are one record, or as few as hold them where they are very many series.
- A series that was in a collector's last stored tick and is not in this one ends: a stale marker for it
  is in the same record (`agent.series`).  A run that fails or hangs ends nothing.
- `stop` can end all series: their markers are then the last record, behind their last ticks and at no
  time of the grid, and the ticks of the next process come behind them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from agent import grid
from agent.apart import Apart
from agent.events import Event
from agent.sender.events import Logger
from agent.series import Collected, gone, markers
from agent.workers import Done, Job, Workers
from buffer.errors import BufferFull
from buffer.model import ENDED, Instant, Series, Tick

PATIENCE = 0.25
RECORD_SAMPLES = 1 << 14
"""Of several ticks in one record: far from what a record can hold (`buffer.codec`)."""


class Clock(Protocol):
    """The two clocks of the host."""

    def wall(self) -> float:
        """UTC seconds since 1970, which can be wrong and can jump."""

    def monotonic(self) -> float:
        """Seconds since the host was booted, which only go forward."""


class SystemClock:
    """The real ones. A host that sleeps is not booted again when it wakes: its time counts (clock_gettime(2))."""

    wall = staticmethod(time.time)
    if hasattr(time, "CLOCK_BOOTTIME"):
        monotonic = staticmethod(partial(time.clock_gettime, time.CLOCK_BOOTTIME))
    else:
        monotonic = staticmethod(time.monotonic)


class Sink(Protocol):
    """What the schedule needs of the buffer."""

    def append(self, ticks: Sequence[Tick], missed: int = 0) -> int:
        """Store the ticks of one instant."""

    def last(self, group: str) -> tuple[int, int] | None:
        """Return the wall time and the size of the group's last tick."""


class Plan:
    """One collector's place in the schedule, and what became of its runs.

    `columns` turns what `collect` returns into what is stored. One that is `apart` waits for others.
    """

    def __init__(
        self,
        name: str,
        collect: Callable[[float], Any],
        columns: Callable[[Any], Collected],
        interval: float,
        timeout: float,
        hostname: str,
        *,
        apart: bool = False,
    ) -> None:
        self.name, self.collect, self.columns, self.apart = name, collect, columns, apart
        self.interval_ms = round(interval * 1000)
        self.timeout = timeout
        self.offset_ms = grid.offset(hostname, self.interval_ms)
        self.next_ms = 0
        self.running: tuple[Instant, float] | None = None
        self.stored: Instant | None = None
        self.live: tuple[Series, ...] = ()  # of the tick that was stored last
        self.timed_out = self.failing = False
        self.timeouts = self.failures = 0
        self.seconds = 0.0

    def run(self, now: float) -> Collected:
        """Collect: the whole of a run, so that nothing it returns can raise anywhere else."""
        return self.columns(self.collect(now))

    def problem(self) -> str | None:
        """What the last run found to be wrong without failing for it: a target that is down, say."""
        found: str | None = getattr(self.collect, "error", None)
        return found


class Schedule:
    """Runs the plans on a thread of its own, from `start` to `stop`."""

    def __init__(self, plans: Sequence[Plan], sink: Sink, boot_id: str, log: Logger, clock: Clock) -> None:
        self._plans = {plan.name: plan for plan in plans}
        self._sink, self._boot_id, self._log, self._clock = sink, boot_id, log, clock
        self._stop, self._series_end = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)
        self.append_failures = 0
        self._failing = False
        if plans:
            shortest = min(plan.interval_ms for plan in plans)
            patience = min(PATIENCE, shortest / 4000)
            self._workers: Workers[Collected] = Workers(patience)
            self._apart: Apart[Collected] = Apart(patience)

    @property
    def plans(self) -> Sequence[Plan]:
        """The plans, for the health series."""
        return list(self._plans.values())

    def start(self) -> None:
        """Begin with the first round."""
        if self._plans:
            self._thread.start()

    def stop(self, within: float, *, series_end: bool = False) -> None:
        """Begin no new round; wait up to `within` seconds for the one that is under way.

        With `series_end` all series end behind it.
        """
        self._series_end = series_end
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(within)

    def _run(self) -> None:
        self._begin()
        while not self._stop.is_set():
            self._settle([*self._workers.ended(), *self._apart.ended()])
            self._round()
            self._leave_behind()
            self._stop.wait(self._pause())
        if self._series_end:
            self._end_all()
        self._workers.close()
        self._apart.close()

    def _begin(self) -> None:
        """Set everybody's first time: the newest of the densest grid, if the buffer has nothing newer."""
        now_ms = int(self._clock.wall() * 1000)
        densest = min(self._plans.values(), key=lambda plan: plan.interval_ms)
        first = grid.slot(now_ms, densest.interval_ms, densest.offset_ms)
        for plan in self._plans.values():
            ticked, ended = (self._newest(plan, group, now_ms) for group in (plan.name, plan.name + ENDED))
            if max(ticked, ended) < first:
                plan.next_ms = first
            elif ended > ticked:  # its series are to be back soon
                plan.next_ms = self._following(densest, ended)
            else:
                plan.next_ms = self._following(plan, now_ms)

    def _newest(self, plan: Plan, group: str, now_ms: int) -> int:
        """Return the time of a group's last tick; 0 where there is none, or a clock was wrong then."""
        last = self._sink.last(group)
        # One that is far ahead is no reason to wait.
        return last[0] if last is not None and last[0] < now_ms + plan.interval_ms else 0

    def _following(self, plan: Plan, now_ms: int) -> int:
        return grid.slot(now_ms, plan.interval_ms, plan.offset_ms) + plan.interval_ms

    def _pause(self) -> float:
        now_ms = self._clock.wall() * 1000
        pause = max(0.0, min(plan.next_ms for plan in self._plans.values()) - now_ms) / 1000
        # Longer than any interval: the clock was set back since the round began. Nobody sleeps that long.
        pause = min(pause, min(plan.interval_ms for plan in self._plans.values()) / 1000)
        late = any(plan.running and not plan.timed_out for plan in self._plans.values())
        return min(pause, PATIENCE) if late else pause

    def _round(self) -> None:
        now_ms = int(self._clock.wall() * 1000)
        self._follow_clock(now_ms)
        due = [plan for plan in self._plans.values() if plan.next_ms <= now_ms]
        if not due:
            return
        mono = self._clock.monotonic()
        jobs: dict[bool, list[Job[Collected]]] = {False: [], True: []}
        for plan in due:
            # The very first time may be on a denser grid than the plan's own.
            at_ms = max(plan.next_ms, grid.slot(now_ms, plan.interval_ms, plan.offset_ms))
            plan.next_ms = self._following(plan, now_ms)
            if plan.running is None:
                plan.running = Instant(at_ms, int(mono * 1000), self._boot_id), mono
                jobs[plan.apart].append(Job(plan.name, partial(plan.run, mono)))
        self._apart.begin(jobs[True])
        ended = self._workers.run(jobs[False]) if jobs[False] else []
        self._settle([*ended, *self._apart.ended()])

    def _follow_clock(self, now_ms: int) -> None:
        for plan in self._plans.values():
            if plan.next_ms - now_ms > plan.interval_ms + 1000:
                self._log.warning(Event.CLOCK_STEPPED, back_seconds=(plan.next_ms - now_ms) // 1000)
                for each in self._plans.values():
                    each.next_ms = self._following(each, now_ms)
                return

    def _settle(self, ended: Sequence[Done[Collected]]) -> None:
        """Append what the jobs collected, the ticks of one instant as one record."""
        ticks: dict[Instant, list[Tick]] = {}
        missed: dict[Instant, int] = {}
        for done in ended:
            plan = self._plans[done.key]
            assert plan.running is not None  # a job is started with it
            instant, _ = plan.running
            late, plan.running, plan.timed_out, plan.seconds = plan.timed_out, None, False, done.seconds
            if done.error is not None:
                self._failed(plan, done.error)
            elif late:
                self._log.info(Event.COLLECTOR_RECOVERED, collector=plan.name, seconds=round(done.seconds, 1))
            else:
                if plan.failing:
                    plan.failing = False
                    self._log.info(Event.COLLECTOR_RECOVERED, collector=plan.name)
                assert done.result is not None  # nothing was raised
                series, values = done.result
                of_instant = ticks.setdefault(instant, [])
                of_instant.append(Tick(instant, plan.name, series, values))
                if no_more := gone(plan.live, series):
                    of_instant.append(markers(instant, plan.name, no_more))
                missed[instant] = missed.get(instant, 0) + self._missed(plan, instant)
        for instant in ticks:
            self._append(ticks[instant], missed[instant])

    def _missed(self, plan: Plan, at: Instant) -> int:
        # What the log knows of an earlier process can begin with the markers at its end.
        last, stored = self._sink.last(plan.name) or self._sink.last(plan.name + ENDED), plan.stored
        if last is None:
            return 0
        if stored is None:  # the last one is of an earlier process: only the wall clock knows
            return grid.skipped(last[0], at.wall_ms, plan.interval_ms) * last[1]
        gap, elapsed = at.wall_ms - stored.wall_ms, at.mono_ms - stored.mono_ms
        return grid.skipped_in(gap, elapsed, plan.interval_ms) * last[1]

    def _append(self, ticks: Sequence[Tick], missed: int) -> None:
        """Store the ticks of one instant; one without series says that its collector has none any more."""
        for record in records(ticks):
            self._store(record, missed)
            missed = 0

    def _store(self, ticks: Sequence[Tick], missed: int) -> None:
        filled = [tick for tick in ticks if tick.series]
        try:
            if filled:
                self._sink.append(filled, missed)
        except (OSError, BufferFull, ValueError) as error:  # ValueError: it is too large for a record
            if isinstance(error, ValueError) and len(ticks) > 1:
                for part in (ticks[: len(ticks) // 2], ticks[len(ticks) // 2 :]):
                    self._store(part, missed)
                    missed = 0
                return
            self.append_failures += 1
            say = self._log.debug if self._failing else self._log.error
            say(Event.APPEND_FAILED, error=str(error), samples=sum(len(t.values) for t in ticks))
            self._failing = True
        else:
            for tick in ticks:
                if (plan := self._plans.get(tick.group)) is not None:  # else they are markers
                    plan.stored, plan.live = tick.at, tick.series
            if filled and self._failing:
                self._failing = False
                self._log.info(Event.APPEND_RECOVERED)

    def _end_all(self) -> None:
        """Store a marker for every series that is live: now, but behind its last tick and off the grid."""
        now_ms, mono_ms = int(self._clock.wall() * 1000), int(self._clock.monotonic() * 1000)
        grids = [(plan.interval_ms, plan.offset_ms) for plan in self._plans.values()]
        ticks: dict[int, list[Tick]] = {}
        for plan in self._plans.values():
            if plan.stored is not None and plan.live:
                last_ms = plan.stored.wall_ms
                # A last tick that is far ahead is from before the clock was set back, as it may be again.
                behind_ms = last_ms + 1 if last_ms < now_ms + plan.interval_ms else 0
                at_ms = grid.off_grid(max(now_ms, behind_ms), grids)
                at = Instant(at_ms, mono_ms, self._boot_id)
                ticks.setdefault(at_ms, []).append(markers(at, plan.name, plan.live))
        for each in ticks.values():
            self._append(each, 0)

    def _failed(self, plan: Plan, error: Exception) -> None:
        plan.failures += 1
        say = self._log.debug if plan.failing else self._log.warning
        say(Event.COLLECTOR_FAILED, collector=plan.name, error=f"{type(error).__name__}: {error}")
        plan.failing = True

    def _leave_behind(self) -> None:
        now = self._clock.monotonic()
        for plan in self._plans.values():
            if plan.running and not plan.timed_out and now - plan.running[1] > plan.timeout:
                plan.timed_out = True
                plan.timeouts += 1
                self._log.warning(
                    Event.COLLECTOR_TIMED_OUT, collector=plan.name, timeout_seconds=plan.timeout
                )


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
