"""The schedule: every collector on the host's grid, its ticks into the buffer.

Promises:
- All ticks of a round have one timestamp, which is on the grid of `agent.grid`.  The first round
  comes at once, stamped with the newest grid time, unless the buffer holds that one already.
- A collector that hangs delays the others by a quarter of a second, once.  What it returns within
  its timeout is a late tick of its round; after that it is left behind: counted, logged once, not
  started again until it has returned, and its late result is thrown away.
- Nothing that a collector raises, and no error of the disk, ends the schedule.
- Grid times without a tick are counted as missed when the collector's next tick is appended, those
  at which no agent was running too (the buffer's last ticks are the other end of the gap).  A clock
  that is set while the agent runs makes none: the monotonic clock says how much time passed.
- A clock that is set back by more than an interval is followed, not waited for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from agent import grid
from agent.collectors import Collect, Sample
from agent.events import Event
from agent.sender.events import Logger
from agent.series import Columns
from agent.workers import Done, Job, Workers
from buffer.errors import BufferFull
from buffer.model import Instant, Tick

PATIENCE = 0.25


class Clock(Protocol):
    """The two clocks of the host."""

    def wall(self) -> float:
        """UTC seconds since 1970, which can be wrong and can jump."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""


class SystemClock:
    """The real ones."""

    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class Sink(Protocol):
    """What the schedule needs of the buffer."""

    def append(self, ticks: Sequence[Tick], missed: int = 0) -> int:
        """Store the ticks of one instant."""

    def last(self, group: str) -> tuple[int, int] | None:
        """Return the wall time and the size of the group's last tick."""


class Plan:
    """One collector's place in the schedule, and what became of its runs."""

    def __init__(
        self, name: str, collect: Collect, columns: Columns, interval: float, timeout: float, hostname: str
    ) -> None:
        self.name, self.collect, self.columns = name, collect, columns
        self.interval_ms = round(interval * 1000)
        self.timeout = timeout
        self.offset_ms = grid.offset(hostname, self.interval_ms)
        self.next_ms = 0
        self.running: tuple[Instant, float] | None = None
        self.stored: Instant | None = None
        self.timed_out = self.failing = False
        self.timeouts = self.failures = 0
        self.seconds = 0.0


class Schedule:
    """Runs the plans on a thread of its own, from `start` to `stop`."""

    def __init__(self, plans: Sequence[Plan], sink: Sink, boot_id: str, log: Logger, clock: Clock) -> None:
        self._plans = {plan.name: plan for plan in plans}
        self._sink, self._boot_id, self._log, self._clock = sink, boot_id, log, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)
        self.append_failures = 0
        self._failing = False
        if plans:
            shortest = min(plan.interval_ms for plan in plans)
            self._workers: Workers[list[Sample]] = Workers(min(PATIENCE, shortest / 4000))

    @property
    def plans(self) -> Sequence[Plan]:
        """The plans, for the health series."""
        return list(self._plans.values())

    def start(self) -> None:
        """Begin with the first round."""
        if self._plans:
            self._thread.start()

    def stop(self, within: float) -> None:
        """Begin no new round; wait up to `within` seconds for the one that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(within)

    def _run(self) -> None:
        self._begin()
        while not self._stop.is_set():
            self._settle(self._workers.ended())
            self._round()
            self._leave_behind()
            self._stop.wait(self._pause())
        self._workers.close()

    def _begin(self) -> None:
        """Set everybody's first time: the newest of the densest grid, if it is not in the buffer yet."""
        now_ms = int(self._clock.wall() * 1000)
        densest = min(self._plans.values(), key=lambda plan: plan.interval_ms)
        first = grid.slot(now_ms, densest.interval_ms, densest.offset_ms)
        for plan in self._plans.values():
            last = self._sink.last(plan.name)
            # A last tick in the far future is a clock that was wrong then, not a reason to wait.
            done = last is not None and first <= last[0] < now_ms + plan.interval_ms
            plan.next_ms = first if not done else self._following(plan, max(now_ms, first))

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
        jobs = []
        for plan in due:
            # The very first time may be on a denser grid than the plan's own.
            at_ms = max(plan.next_ms, grid.slot(now_ms, plan.interval_ms, plan.offset_ms))
            plan.next_ms = self._following(plan, now_ms)
            if plan.running is None:
                plan.running = Instant(at_ms, int(mono * 1000), self._boot_id), mono
                jobs.append(Job(plan.name, partial(plan.collect, mono)))
        self._settle(self._workers.run(jobs))

    def _follow_clock(self, now_ms: int) -> None:
        for plan in self._plans.values():
            if plan.next_ms - now_ms > plan.interval_ms + 1000:
                self._log.warning(Event.CLOCK_STEPPED, back_seconds=(plan.next_ms - now_ms) // 1000)
                for each in self._plans.values():
                    each.next_ms = self._following(each, now_ms)
                return

    def _settle(self, ended: Sequence[Done[list[Sample]]]) -> None:
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
            elif done.result:
                if plan.failing:
                    plan.failing = False
                    self._log.info(Event.COLLECTOR_RECOVERED, collector=plan.name)
                series, values = plan.columns(done.result)
                ticks.setdefault(instant, []).append(Tick(instant, plan.name, series, values))
                missed[instant] = missed.get(instant, 0) + self._missed(plan, instant)
        for instant in ticks:
            self._append(ticks[instant], missed[instant])

    def _missed(self, plan: Plan, at: Instant) -> int:
        last, stored = self._sink.last(plan.name), plan.stored
        if last is None:
            return 0
        if stored is None:  # the last one is of an earlier process: only the wall clock knows
            return grid.skipped(last[0], at.wall_ms, plan.interval_ms) * last[1]
        gap, elapsed = at.wall_ms - stored.wall_ms, at.mono_ms - stored.mono_ms
        return grid.skipped_in(gap, elapsed, plan.interval_ms) * last[1]

    def _append(self, ticks: Sequence[Tick], missed: int) -> None:
        try:
            self._sink.append(ticks, missed)
        except (OSError, BufferFull) as error:
            self.append_failures += 1
            say = self._log.debug if self._failing else self._log.error
            say(Event.APPEND_FAILED, error=str(error), samples=sum(len(t.values) for t in ticks))
            self._failing = True
        else:
            for tick in ticks:
                self._plans[tick.group].stored = tick.at
            if self._failing:
                self._log.info(Event.APPEND_RECOVERED)
            self._failing = False

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
