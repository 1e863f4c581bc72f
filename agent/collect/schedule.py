"""The schedule: runs every collector on the host's grid and hands its ticks to the recorder.

Promises:
- All ticks of a round have one timestamp, which is on the grid of `agent.collect.grid`.  The first round
  comes at once, stamped with the newest grid time, unless the buffer holds that one or newer markers.
- A collector that hangs delays the round by WAIT seconds, once.  What it returns within its timeout is a late tick of
  its round.  After that it is left behind: counted, logged once, not started again until it has returned, and its late
  result is thrown away.  A `remote` one that took longer than WAIT the last time is not waited for.  While the
  process is stopped or the host sleeps, no timeout runs.
- Nothing that a collector raises, and no error of the disk, ends the schedule.
- A clock that is set back by more than an interval is followed, not waited for.
- A run that fails or hangs ends no series.
- What is collected while the clock is not believed is provisional (`agent.collect.timekeeper`).
- `adopt` replaces the plans between two rounds, without a missed tick.  What stays the same continues, what is changed
  continues as `agent.collect.plan` says, and the series of plans that are gone end.  A plan that is running keeps its
  place until it has returned or is left behind.
- `stop` can end all series.  Their markers are then the last record, behind their last ticks and at no
  time of the grid, and the ticks of the next process come behind them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from functools import partial
from typing import Protocol

from agent.collect import raised
from agent.collect.plan import CREWS, Plan
from agent.collect.recorder import Recorder, Sink
from agent.collect.series import Collected
from agent.collect.timekeeper import Timekeeper
from agent.crew import Crew, Done, Job
from agent.system.events import Event, Logger
from agent.system.heard import boottime
from agent.system.pulse import Pulse
from buffer.model import ENDED, Instant, Tick

WAIT = 0.25
"""Seconds that a round waits for what hangs; less where a quarter of an interval is less."""


class Clock(Protocol):
    """The two clocks of the host."""

    def wall(self) -> float:
        """UTC seconds since 1970, which can be wrong and can jump."""

    def monotonic(self) -> float:
        """Seconds since the host was booted, which only go forward."""


class SystemClock:
    """The real ones."""

    wall = staticmethod(time.time)
    monotonic = staticmethod(boottime)


class Awake:
    """The waits of the schedule: when it will be back, and how long it has been awake.

    What a wait takes too long does not count: the process was stopped, or the host slept.
    """

    def __init__(self, clock: Clock, wake: threading.Event) -> None:
        self._clock, self._wake, self._away = clock, wake, 0.0
        self.pulse = Pulse(time.monotonic)  # as the waits go: while the host sleeps, neither counts

    def seconds(self) -> float:
        """Return the monotonic seconds without those away."""
        return self._clock.monotonic() - self._away

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until the schedule is woken."""
        self.pulse.back_in(seconds)
        begun = self.seconds()
        self._wake.wait(seconds)
        self._wake.clear()
        self.note(begun, seconds)
        self.pulse.back_in(0)

    def note(self, begun: float, longest: float) -> None:
        """Note that something is over that began then, and takes so many seconds at most."""
        self._away += max(0.0, self.seconds() - begun - longest)


class Schedule:
    """Runs the plans on a thread of its own, from `start` to `stop`. `wake` ends its pauses.

    Without a `timekeeper` every clock is believed.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        sink: Sink,
        boot_id: str,
        log: Logger,
        clock: Clock,
        wake: threading.Event | None = None,
        timekeeper: Timekeeper | None = None,
    ) -> None:
        self.timekeeper = timekeeper
        self._plans = {plan.name: plan for plan in plans}
        self._recorder = Recorder(sink, log)
        self._boot_id, self._log, self._clock = boot_id, log, clock
        self._wake, self._stopping, self._series_end = wake or threading.Event(), False, False
        self._awake = Awake(clock, self._wake)
        self._adopted: deque[dict[str, Plan]] = deque()
        self._wanted: dict[str, Plan] = {}  # while something of it is not in place
        self._crews: dict[str, Crew[Collected]] = {name: Crew(hedge, name) for name, hedge in CREWS.items()}
        self._thread = threading.Thread(target=self.run, name="schedule", daemon=True)
        self.is_ready = False
        """Whether the first round is over: what was due is stored, or the disk has refused it."""

    @property
    def plans(self) -> Sequence[Plan]:
        """The plans that run."""
        return list(self._plans.values())

    @property
    def append_failures(self) -> int:
        """How many records could not be stored."""
        return self._recorder.append_failures

    @property
    def is_changing(self) -> bool:
        """Whether something that was adopted is not in place yet."""
        return bool(self._adopted or self._wanted)

    def start(self) -> None:
        """Begin with the first round."""
        if self._plans:
            self._thread.start()

    def stop(self, within: float, *, series_end: bool = False) -> None:
        """Begin no new round; wait up to `within` seconds for the current one.

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

    def overdue(self) -> float:
        """Return for how many seconds the schedule should have been back from whatever it is doing."""
        return self._awake.pulse.overdue() if self._thread.is_alive() else 0.0

    def run(self) -> None:
        """Run rounds until `stop`: what the thread does."""
        self._begin()
        while not self._stopping:
            self._settle([done for crew in self._crews.values() for done in crew.run((), 0)])
            if self._wanted:  # what takes all its time has ended just now, and is begun again in this round
                self._take_over()
            self._round()
            self._leave_behind()
            self._take_over()
            self.is_ready, pause = True, self._pause()
            self._awake.wait(pause)
        if self._series_end:
            self._recorder.end(self.plans, (), self._now())
        for crew in self._crews.values():
            crew.close()

    def _now(self) -> Instant:
        return Instant(int(self._clock.wall() * 1000), int(self._clock.monotonic() * 1000), self._boot_id)

    def _begin(self) -> None:
        """Set every plan's first time: the newest of the densest grid, if the buffer has nothing newer."""
        now_ms = self._now().wall_ms
        densest = min(self._plans.values(), key=lambda plan: plan.interval_ms)
        first = densest.slot(now_ms)
        for plan in self._plans.values():
            # A last tick that is far ahead was stamped by a wrong clock, and is no reason to wait.
            before_ms = now_ms + plan.interval_ms
            ticked, ended = (
                self._recorder.last(group, before_ms) for group in (plan.name, plan.name + ENDED)
            )
            if max(ticked, ended) < first:
                plan.next_ms = first
            elif ended > ticked:  # its series are to be back soon
                plan.next_ms = densest.following(ended)
            else:
                plan.next_ms = plan.following(now_ms)

    def _pause(self) -> float:
        now_ms = self._clock.wall() * 1000
        pause = max(0.0, min(plan.next_ms for plan in self._plans.values()) - now_ms) / 1000
        # Longer than any interval: the clock was set back since the round began. Nobody sleeps that long.
        pause = min(pause, min(plan.interval_ms for plan in self._plans.values()) / 1000)
        late = any(plan.running and not plan.timed_out for plan in self._plans.values())
        return min(pause, WAIT) if late else pause

    def _round(self) -> None:
        now_ms = int(self._clock.wall() * 1000)
        follow_clock(self._plans.values(), now_ms, self._log)
        if self.timekeeper is not None:
            self.timekeeper.begin_round(self._now(), self._plans.values(), self._recorder)
        mono, begun = self._clock.monotonic(), self._awake.seconds()
        patience = min(WAIT, min(plan.interval_ms for plan in self._plans.values()) / 4000)
        jobs: dict[str, list[Job[Collected]]] = {name: [] for name in self._crews}
        for plan in self._plans.values():
            if plan.next_ms > now_ms:
                continue
            # The very first time may be on a denser grid than the plan's own.
            at_ms = max(plan.next_ms, plan.slot(now_ms))
            plan.next_ms = plan.following(now_ms)
            if plan.running is None:
                plan.running = Instant(at_ms, int(mono * 1000), self._boot_id), begun
                awaited = plan.crew == "local" or plan.seconds < patience
                jobs[plan.crew].append(Job(plan.name, partial(plan.run, mono), awaited))
        ended = [done for name, crew in self._crews.items() for done in crew.run(jobs[name], patience)]
        self._awake.note(begun, patience * len(self._crews))
        self._settle(ended)

    def _settle(self, ended: Sequence[Done[Collected]]) -> None:
        """Store what the jobs collected, the ticks of one instant together."""
        ticks: dict[Instant, list[tuple[Plan, Tick]]] = {}
        for done in ended:
            plan = self._plans[done.key]
            assert plan.running is not None  # a job is started with it
            instant, _ = plan.running
            late, plan.running, plan.timed_out, plan.seconds = plan.timed_out, None, False, done.seconds
            if done.error is not None:
                plan.failures += 1
                fields = {"collector": plan.name, "error": raised.words(done.error)}
                if not plan.failing:
                    self._log.warning(Event.COLLECTOR_FAILED, **fields)
                self._log.debug(Event.COLLECTOR_FAILED, **fields, exc_info=done.error)
                plan.failing = True
            elif late:
                self._log.info(Event.COLLECTOR_RECOVERED, collector=plan.name, seconds=round(done.seconds, 1))
            else:
                if plan.failing:
                    plan.failing = False
                    self._log.info(Event.COLLECTOR_RECOVERED, collector=plan.name)
                assert done.result is not None  # nothing was raised
                ticks.setdefault(instant, []).append((plan, Tick(instant, plan.name, *done.result)))
        for each in ticks.values():
            self._recorder.append(each)

    def _take_over(self) -> None:
        """Put what was adopted in place, as far as what it replaces is not running."""
        while self._adopted:
            self._wanted = self._adopted.popleft()
        if not self._wanted:
            return
        now, before = self._now(), self._plans
        self._plans, over, complete = {}, [], True
        for name in dict.fromkeys((*self._wanted, *before)):
            new, old = self._wanted.get(name), before.get(name)
            if old is not None and new is not None and new.does_as(old):
                self._plans[name] = old
            elif old is not None and old.running and not old.timed_out:
                self._plans[name], complete = old, False
            else:
                if old is not None:
                    self._crews[old.crew].forget(name)  # where it hangs
                if new is not None:
                    self._plans[name] = new
                    new.take_place(old, now)
                elif old is not None:
                    over.append(old)
        self._recorder.end(over, self.plans, now)
        if complete:
            self._wanted = {}

    def _leave_behind(self) -> None:
        now = self._awake.seconds()
        for plan in self._plans.values():
            if plan.running and not plan.timed_out and now - plan.running[1] > plan.timeout:
                plan.timed_out = True
                plan.timeouts += 1
                self._log.warning(
                    Event.COLLECTOR_TIMED_OUT, collector=plan.name, timeout_seconds=plan.timeout
                )


def follow_clock(plans: Collection[Plan], now_ms: int, log: Logger) -> None:
    """Have the plans continue from now on, where the clock was set back by more than an interval."""
    for plan in plans:
        if plan.next_ms - now_ms > plan.interval_ms + 1000:
            log.warning(Event.CLOCK_STEPPED, back_seconds=(plan.next_ms - now_ms) // 1000)
            for each in plans:
                each.next_ms = each.following(now_ms)
            return
