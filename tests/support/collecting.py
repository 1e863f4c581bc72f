"""A schedule on a clock that jumps ahead when nobody has anything to do, with a real buffer and real threads."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from agent.collect import grid, plan
from agent.collect.plan import CREWS, Plan
from agent.collect.schedule import Schedule
from agent.collect.series import Columns
from agent.collectors import Metric, Sample
from agent.system.events import Event
from buffer.buffer import Buffer
from buffer.fs import RealFs
from buffer.limits import Limits
from buffer.model import ENDED, is_stale
from buffer.reader import Entry, Reader
from tests.support.net import wait_for

HOST = "web-01"
DAY = 86_400
START = 20_000 * DAY + 4_321.5
BOOT = "0" * 32
METRICS = (Metric("a_total", "counter", "things", "Things."), Metric("b", "gauge", "", "Another."))
DEADLINE = 10.0


class World(threading.Event):
    """A clock that hands itself in as what wakes the schedule: waiting for it is what makes time pass."""

    def __init__(self, wall: float = START) -> None:
        super().__init__()
        self.now, self._ahead, self._end = 0.0, wall, 0.0
        self._actions: list[tuple[float, Callable[[], object]]] = []
        self.waits: list[float] = []
        self.over: Callable[[], object] = self.set

    def wall(self) -> float:
        return self._ahead + self.now

    def monotonic(self) -> float:
        return self.now

    def step(self, seconds: float) -> None:
        """Set the wall clock ahead, or back."""
        self._ahead += seconds

    def stop(self, at: float, seconds: float) -> None:
        """Stop the process then, for so long."""
        self.at(at, lambda: setattr(self, "now", self.now + seconds))

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Do this so many seconds after the start."""
        self._actions.append((seconds, action))
        self._actions.sort(key=lambda each: each[0])

    def run_until(self, seconds: float) -> None:
        """Call `over` then."""
        self._end = seconds

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        until = min(self.now + timeout, self._end)
        while self._actions and self._actions[0][0] <= until:
            self.now, action = self._actions.pop(0)
            action()
            if self.is_set():  # woken
                return True
        self.now = max(self.now, until)
        if self.now >= self._end:
            self.over()
        return True


class Log:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def of(self, event: Event, level: str | None = None) -> list[dict[str, Any]]:
        return [fields for lv, name, fields in self.events if name == event and level in (None, lv)]

    def loud(self) -> list[str]:
        return [name for level, name, _ in self.events if level != "debug"]

    def debug(self, event: str, **fields: Any) -> None:
        self.events.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.events.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.events.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.events.append(("error", event, fields))


class Disk(RealFs):
    """A disk that can be made to fail, or to be full."""

    broken = full = False

    def write(self, fd: int, data: bytes, at: int) -> int:
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(fd, data, at)

    def free(self, folder: str) -> tuple[int, int]:
        return (0, 1 << 30) if self.full else super().free(folder)


class Collector(plan.Collector):
    """Returns a sample for each of its labels, and can fail or hang."""

    def __init__(self, *labels: Any) -> None:
        self.labels: Sequence[Any] = labels
        self.calls: list[float] = []
        self.raises: Exception | None = None
        self.hanging: threading.Event | None = None
        self.during: dict[int, Callable[[], None]] = {}

    def __call__(self, now: float, /) -> list[Sample]:
        self.calls.append(now)
        count = len(self.calls)
        if count in self.during:
            self.during[count]()
        if self.hanging is not None:
            assert self.hanging.wait(DEADLINE)
        if self.raises is not None:
            raise self.raises
        return [Sample("b", count, (("core", label),)) for label in self.labels]


def a_plan(name: str, *labels: Any, interval: float = 10, timeout: float = 5, **of: Any) -> Plan:
    """A plan with a collector of its own."""
    columns = Columns(METRICS, {"hostname": HOST, **of.pop("host", {})})
    return Plan(name, Collector(*(labels or ("x",))), columns, interval, timeout, HOST, **of)


def collector(of: Plan) -> Collector:
    """The collector of such a plan."""
    assert isinstance(of.collect, Collector)
    return of.collect


class Rig:
    """A schedule, and everything around it."""

    def __init__(self, folder: Path) -> None:
        self.world, self.log, self.disk, self.folder = World(), Log(), Disk(), folder
        self.buffer = self._open()
        self.plans: list[Plan] = []
        self._made: list[Collector] = []
        self._schedule: Schedule | None = None

    def _open(self) -> Buffer:
        return Buffer(str(self.folder), Limits(min_free=lambda _: 1), fs=self.disk)

    @property
    def schedule(self) -> Schedule:
        assert self._schedule is not None
        return self._schedule

    def add(self, name: str, *labels: Any, **of: Any) -> Collector:
        self.plans.append(a_plan(name, *labels, **of))
        self._made.append(collector(self.plans[-1]))
        return self._made[-1]

    def plan(self, name: str) -> Plan:
        return next(plan for plan in self.plans if plan.name == name)

    def run(self, seconds: float, *, series_end: bool = False) -> None:
        """Run from now on, for so long; then all series end, or do not."""
        self._schedule = Schedule(self.plans, self.buffer, BOOT, self.log, self.world, self.world)
        self.world.over = partial(self._schedule.stop, 0, series_end=series_end)
        self.world.run_until(self.world.now + seconds)
        self._schedule.run()

    def restart(self) -> None:
        """As if the process had been ended and started again."""
        self.buffer.close()
        self.buffer = self._open()
        host = {"hostname": HOST}
        self.plans = [
            Plan(
                p.name, p.collect, Columns(METRICS, host), p.interval_ms / 1000, p.timeout, HOST, crew=p.crew
            )
            for p in self.plans
        ]

    def set(self, at: float, of: object, **values: object) -> None:
        """Set these attributes of a collector, or of the disk, then."""

        def now() -> None:
            for name, value in values.items():
                setattr(of, name, value)

        self.world.at(at, now)

    def hang(self, collector: Collector, at: float | None = None) -> None:
        """Let the collector hang from then on, or at once."""
        if at is None:
            collector.hanging = threading.Event()
        else:
            self.world.at(at, partial(self.hang, collector))

    def release(self, collector: Collector, at: float | None = None) -> None:
        """Let a collector that hangs return, and wait until its job has ended."""
        if at is not None:
            self.world.at(at, partial(self.release, collector))
            return
        assert collector.hanging is not None
        threads, hanging, collector.hanging = len(crew_threads()), collector.hanging, None
        hanging.set()
        name = next((plan.name for plan in self.schedule.plans if plan.collect is collector), None)
        if name is None:  # it was replaced, and its thread is left to it
            wait_for(lambda: len(crew_threads()) < threads, DEADLINE, "its thread to end")
        else:
            crews = self.schedule._crews.values()
            wait_for(lambda: not any(name in crew.stuck() for crew in crews), DEADLINE, "it to return")

    def adopt(self, at: float, *plans: Plan) -> None:
        """Put these plans in place then."""
        self._made += [collector(plan) for plan in plans]
        self.world.at(at, lambda: self.schedule.adopt(plans))

    def rounds(self) -> list[Entry]:
        """Every append that is in the buffer."""
        reader, found = Reader(RealFs(), f"{self.folder}/segments"), []
        while (entry := reader.next()) is not None:
            found.append(entry)
        reader.close()
        return found

    def groups(self) -> list[tuple[int, list[str]]]:
        """The time and the groups of every append."""
        return [(entry.wall_ms, [tick.group for tick in entry.ticks]) for entry in self.rounds()]

    def times(self, name: str) -> list[int]:
        return [at for at, groups in self.groups() for group in groups if group == name]

    def ended(self, name: str) -> list[tuple[int, list[str]]]:
        """When series of a collector ended, and which: their cores."""
        found = []
        for entry in self.rounds():
            for tick in entry.ticks:
                if tick.group == name + ENDED:
                    assert {series.name for series in tick.series} == {"b"}
                    found.append((entry.wall_ms, [dict(series.labels)["core"] for series in tick.series]))
                assert all(is_stale(value) is tick.group.endswith(ENDED) for value in tick.values)
        return found

    @property
    def missed(self) -> int:
        return self.buffer.log.missed

    def close(self) -> None:
        for each in self._made:
            if each.hanging is not None:
                each.hanging.set()
        self.buffer.close()
        wait_for(lambda: not crew_threads(), 2 * DEADLINE, "all threads to end")


def crew_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name in CREWS]


def slot(wall: float, interval_s: int = 10) -> int:
    interval = interval_s * 1000
    return grid.slot(int(wall * 1000), interval, grid.offset(HOST, interval))


def every_10_s(first: int, rounds: int) -> list[int]:
    return [first + 10_000 * n for n in range(rounds)]
