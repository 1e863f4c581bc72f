"""One collector's place in the schedule, and what became of its runs.

A plan that takes the place of another (`follow`) leaves no gap and makes no series blink:
- The grid goes on where interval and host are the same; else the new one begins with its next time, and no time of
  either counts as missed for it.
- What a collector remembers from run to run goes on where it is made of the same, with other labels too.
- The series of the one before end with the first tick that does not have them; where the collector begins anew, and its
  rates are not there before its second run, with the second one.
- Counters go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.collect import grid
from agent.collect.series import Collected
from buffer.model import Instant, Series


class Plan:
    """`columns` turns what `collect` returns into what is stored. One that is `apart` waits for others.

    `made_of` is what `collect` was made of, and `shown_as` the same for `columns`: where they are equal to another
    plan's, the two do the same. None equals nothing.
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
        made_of: object = None,
        shown_as: object = None,
    ) -> None:
        self.name, self.collect, self.columns, self.apart = name, collect, columns, apart
        self.key = name
        """Of its jobs: it differs from the name where a run that hangs has that one."""
        self.interval_ms = round(interval * 1000)
        self.timeout = timeout
        self.offset_ms = grid.offset(hostname, self.interval_ms)
        self.next_ms = 0
        self.running: tuple[Instant, float] | None = None
        self.stored: Instant | None = None
        self.since: Instant | None = None
        """The grid time behind which the next ones are counted; None: only the log knows the last one."""
        self.live: tuple[Series, ...] = ()  # of the tick that was stored last
        self.begins = False  # anew, in the place of another
        self.timed_out = self.failing = False
        self.timeouts = self.failures = 0
        self.seconds = 0.0
        self._made_of = object() if made_of is None else made_of
        self._shown_as = object() if shown_as is None else shown_as

    def run(self, now: float) -> Collected:
        """Collect: the whole of a run, so that nothing it returns can raise anywhere else."""
        return self.columns(self.collect(now))

    def problem(self) -> str | None:
        """What the last run found to be wrong without failing for it: a target that is down, say."""
        found: str | None = getattr(self.collect, "error", None)
        return found

    def unread(self) -> tuple[str, ...]:
        """What the last run could not read of many, each with the reason."""
        troubles = getattr(self.collect, "troubles", {}).values()
        return tuple(f"{trouble.kind} {trouble.name}: {trouble.why}" for trouble in troubles)

    def does_as(self, other: Plan) -> bool:
        """Whether the two are the same in everything."""
        return self is other or self._traits() == other._traits()

    def _traits(self) -> tuple[object, ...]:
        return self._made_of, self._shown_as, self.interval_ms, self.offset_ms, self.timeout, self.apart

    def begin(self, at: Instant) -> None:
        """Begin with the first grid time behind this one; what was before it is nobody's loss."""
        last_ms = grid.slot(at.wall_ms, self.interval_ms, self.offset_ms)
        self.next_ms = last_ms + self.interval_ms
        self.since = at._replace(wall_ms=last_ms, mono_ms=at.mono_ms - (at.wall_ms - last_ms))

    def follow(self, old: Plan, at: Instant) -> None:
        """Take the place of one of the same name, now."""
        self.begins = old.begins
        if self._made_of == old._made_of and not old.timed_out:  # one that hangs keeps what it is in
            self.collect = old.collect
            if self._shown_as == old._shown_as:
                self.columns = old.columns
        else:
            self.begins = True
        if (self.interval_ms, self.offset_ms) == (old.interval_ms, old.offset_ms):
            self.next_ms, self.since = old.next_ms, old.since
        else:
            behind = max(0, at.wall_ms - old.next_ms + 1) if old.running is None else 0
            self.begin(at._replace(wall_ms=at.wall_ms - behind, mono_ms=at.mono_ms - behind))
        self.key, self.stored, self.live, self.failing = old.key, old.stored, old.live, old.failing
        self.timeouts, self.failures, self.seconds = old.timeouts, old.failures, old.seconds

    def keep(self, at: Instant, series: tuple[Series, ...]) -> None:
        """A tick with these series is stored."""
        if self.begins and self.live:
            there = set(series)
            series += tuple(one for one in self.live if one not in there)
        self.stored = self.since = at
        self.live, self.begins = series, False
