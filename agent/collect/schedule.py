"""The schedule: every collector on the host's grid, its ticks into the buffer.

Promises:
- All ticks of a round have one timestamp, which is on the grid of `agent.collect.grid`.  The first round
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
  is in the same record (`agent.collect.series`).  A run that fails or hangs ends nothing.
- `adopt` puts other plans in place between two rounds, without a missed tick: what stays the same goes on, what is
  changed goes on as `agent.collect.plan` says, and the series of what is there no more end.  One whose run is under way
  keeps its place until that has ended or is left behind.
- `stop` can end all series: their markers are then the last record, behind their last ticks and at no
  time of the grid, and the ticks of the next process come behind them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

from agent.apart import Apart
from agent.collect import grid
from agent.collect.plan import Plan
from agent.collect.series import Collected, gone, markers
from agent.system.events import Event, Logger
from agent.system.pulse import Pulse
from agent.workers import Done, Job, Workers
from buffer.errors import BufferFull
from buffer.model import ENDED, Instant, Tick

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


class Schedule:
    """Runs the plans on a thread of its own, from `start` to `stop`."""

    def __init__(self, plans: Sequence[Plan], sink: Sink, boot_id: str, log: Logger, clock: Clock) -> None:
        self._plans = {plan.name: plan for plan in plans}
        self._sink, self._boot_id, self._log, self._clock = sink, boot_id, log, clock
        self._wake, self._stopping, self._series_end = threading.Event(), False, False
        self._adopted: deque[dict[str, Plan]] = deque()
        self._wanted: dict[str, Plan] = {}  # while something of it is not in place
        self._in_a_run: dict[str, Plan] = {}
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)
        self.append_failures = 0
        self._failing = False
        self.is_ready = False
        """Whether the first round is over: what was due is stored, or the disk has refused it."""
        self._pulse = Pulse(time.monotonic)  # as its waits go: while the host sleeps, neither counts
        if plans:
            self._workers: Workers[Collected] = Workers(self._patience())
            self._apart: Apart[Collected] = Apart(self._patience())

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
        self._series_end, self._stopping = series_end, True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(within)

    def adopt(self, plans: Sequence[Plan]) -> None:
        """Run these from the next round on.  There must have been plans from the start, and there must be some."""
        self._adopted.append({plan.name: plan for plan in plans})
        self._wake.set()

    @property
    def is_changing(self) -> bool:
        """Whether something that was adopted is not in place yet."""
        return bool(self._adopted or self._wanted)

    def overdue(self) -> float:
        """Return for how many seconds the schedule should have been back from whatever it is doing."""
        return self._pulse.overdue() if self._thread.is_alive() else 0.0

    def _patience(self) -> float:
        return min(PATIENCE, min(plan.interval_ms for plan in self._plans.values()) / 4000)

    def _run(self) -> None:
        self._begin()
        while not self._stopping:
            self._settle([*self._workers.ended(), *self._apart.ended()])
            if self._wanted:  # what takes all its time has ended just now, and is begun again in this round
                self._take_over()
            self._round()
            self._leave_behind()
            self._take_over()
            self.is_ready, pause = True, self._pause()
            self._pulse.back_in(pause)
            self._wake.wait(pause)
            self._wake.clear()
            self._pulse.back_in(0)
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
                self._in_a_run[plan.key] = plan
                jobs[plan.apart].append(Job(plan.key, partial(plan.run, mono)))
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
            plan = self._in_a_run.pop(done.key)
            if self._plans.get(plan.name) is not plan:
                continue  # it was left behind, and another is in its place
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
                if not plan.begins and (no_more := gone(plan.live, series)):
                    of_instant.append(markers(instant, plan.name, no_more))
                missed[instant] = missed.get(instant, 0) + self._missed(plan, instant)
        for instant in ticks:
            self._append(ticks[instant], missed[instant])

    def _missed(self, plan: Plan, at: Instant) -> int:
        # What the log knows of an earlier process can begin with the markers at its end.
        last, since = self._sink.last(plan.name) or self._sink.last(plan.name + ENDED), plan.since
        if last is None:
            return 0
        if since is None:  # the last one is of an earlier process: only the wall clock knows
            return grid.skipped(last[0], at.wall_ms, plan.interval_ms) * last[1]
        gap, elapsed = at.wall_ms - since.wall_ms, at.mono_ms - since.mono_ms
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
                    plan.keep(tick.at, tick.series)
            if filled and self._failing:
                self._failing = False
                self._log.info(Event.APPEND_RECOVERED)

    def _take_over(self) -> None:
        """Put what was adopted in place, as far as what it replaces is not in a run."""
        while self._adopted:
            self._wanted = self._adopted.popleft()
        if not self._wanted:
            return
        at = Instant(int(self._clock.wall() * 1000), int(self._clock.monotonic() * 1000), self._boot_id)
        plans: dict[str, Plan] = {}
        over: list[Plan] = []
        complete = True
        for name in dict.fromkeys((*self._wanted, *self._plans)):
            new, old = self._wanted.get(name), self._plans.get(name)
            if old is not None and new is not None and new.does_as(old):
                plans[name] = old
            elif old is not None and old.running and not old.timed_out:
                plans[name], complete = old, False
            elif new is None:
                assert old is not None  # it is in one of the two
                over.append(old)
            else:
                plans[name] = new
                self._begin_in_place(new, old, at)
        self._plans = plans
        for plan in over:
            self._apart.forget(plan.key)
        self._end(over)
        if complete:
            self._wanted = {}
            self._workers.patience = self._apart.patience = self._patience()

    def _begin_in_place(self, new: Plan, old: Plan | None, at: Instant) -> None:
        if old is None:
            new.begin(at)
        else:
            new.follow(old, at)
            if old.running or old.apart != new.apart:
                self._apart.forget(old.key)
        while new.key in self._in_a_run:  # one that hangs
            new.key += "'"

    def _end_all(self) -> None:
        self._end(list(self._plans.values()))

    def _end(self, plans: Sequence[Plan]) -> None:
        """Store a marker for every series of these: now, but behind its last tick and off the grid."""
        now_ms, mono_ms = int(self._clock.wall() * 1000), int(self._clock.monotonic() * 1000)
        grids = [(plan.interval_ms, plan.offset_ms) for plan in (*self._plans.values(), *plans)]
        ticks: dict[int, list[Tick]] = {}
        for plan in plans:
            if plan.stored is not None and plan.live:
                last_ms = plan.stored.wall_ms
                # A last tick that is far ahead is from before the clock was set back, as it may be again.
                behind_ms = last_ms + 1 if last_ms < now_ms + plan.interval_ms else 0
                at_ms = grid.off_grid(max(now_ms, behind_ms), grids)
                at = Instant(at_ms, mono_ms, self._boot_id)
                ticks.setdefault(at_ms, []).append(markers(at, plan.name, plan.live))
        for each in ticks.values():
            self._append(each, 0)

    def _failed(self, plan: Plan, error: BaseException) -> None:
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
