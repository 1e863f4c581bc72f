"""One collector's place in the schedule, and what became of its runs.

A plan that takes the place of another leaves no gap and makes no series blink:
- If interval and host are the same, the grid continues.  If not, the new one begins with its next time, and no time of
  either counts as missed for it.
- If the identity is the same, what the collector remembers from run to run continues, even if its labels change.
- The series of the old plan end with the first tick that does not have them.  If the collector starts from scratch, its rates
  come back only in its second run, and the series end with that one.
- Counters continue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from agent.collect import grid
from agent.collect.series import Collected, Row
from agent.collectors import Trouble
from buffer.model import Instant, Series, Tick

CREWS = {"local": 0.05, "remote": 0.0}
"""The crews (`agent.crew`) and their hedges: `local` plans read this host, one after another on one thread; `remote`
ones wait for others, and begin all at once."""

Named = tuple[str, str]
"""The kind of a trouble, and the name as it is shown."""


class Collector(Protocol):
    """What a plan runs, and what its last run found wrong without failing for it."""

    error: str | None = None
    """What kept it from collecting: a target that is down, say. None: nothing did."""
    troubles: Mapping[Named, Trouble] = {}
    """What of many it could not read."""
    stuck: Mapping[Named, float] = {}
    """Since when, by the clock of the runs, something has not answered."""
    stamped: Sequence[Row] = ()
    """What the last run found that has times of its own."""
    unreadable: int | None = None
    """How often something could not be read, since the start. None: that is not counted."""
    denied: int = 0
    """How many things the agent's user may not read, which `unreadable` does not count."""

    def __call__(self, now: float, /) -> Any:
        """Run once; `now` is monotonic seconds."""


class Plan:
    """`columns` turns what `collect` returns into what is stored.

    Two plans with equal `identity` collect the same, and with equal `view_identity` show it the same way, so a reload
    can keep the old one. None equals nothing.
    """

    def __init__(
        self,
        name: str,
        collect: Collector,
        columns: Callable[[Any], Collected],
        interval: float,
        timeout: float,
        hostname: str,
        *,
        crew: Literal["local", "remote"] = "local",
        identity: object = None,
        view_identity: object = None,
    ) -> None:
        self.name, self.collect, self.columns, self.crew = name, collect, columns, crew
        self.interval_ms = round(interval * 1000)
        self.timeout = timeout
        self.offset_ms = grid.offset(hostname, self.interval_ms)
        self.next_ms = 0
        self.running: tuple[Instant, float] | None = None
        """The instant of the run that has not returned, and when it began (seconds that the schedule was awake)."""
        self.stored: Instant | None = None
        self.since: Instant | None = None
        """The grid time after which missed ticks are counted; None: only the log knows the last one."""
        self.live: tuple[Series, ...] = ()
        """The series of the tick that was stored last."""
        self.begins = False
        """Whether it starts from scratch, in the place of another."""
        self.timed_out = self.failing = False
        self.timeouts = self.failures = 0
        self.seconds = 0.0
        """How long the last run took."""
        self.identity = object() if identity is None else identity
        self.view_identity = object() if view_identity is None else view_identity

    def run(self, now: float) -> Collected:
        """Collect: the whole of a run, so that nothing it returns can raise anywhere else."""
        return self.columns(self.collect(now))

    def stamped(self, at: Instant) -> list[Tick]:
        """Return what the last run, that of this instant, found of other times."""
        return [
            Tick(
                at._replace(wall_ms=row.at_ms, mono_ms=at.mono_ms + row.at_ms - at.wall_ms),
                self.name + row.group,
                *self.columns((row.series, row.values)),
            )
            for row in self.collect.stamped
        ]

    def unread(self) -> tuple[str, ...]:
        """Return what the last run could not read of many, each with the reason."""
        return tuple(f"{one.kind} {one.name}: {one.why}" for one in self.collect.troubles.values())

    def slot(self, now_ms: int) -> int:
        """Return the newest time of the grid that is not after `now_ms`."""
        return grid.slot(now_ms, self.interval_ms, self.offset_ms)

    def following(self, now_ms: int) -> int:
        """Return the first time of the grid after `now_ms`."""
        return self.slot(now_ms) + self.interval_ms

    def does_as(self, other: Plan) -> bool:
        """Whether the two are the same in everything."""
        return self is other or self._traits() == other._traits()

    def _traits(self) -> tuple[object, ...]:
        grid_ = self.interval_ms, self.offset_ms
        return self.identity, self.view_identity, *grid_, self.timeout, self.crew

    def take_place(self, old: Plan | None, at: Instant) -> None:
        """Begin now, in the place of a plan of the same name if there was one."""
        if old is None:
            self._begin(at)
            return
        self.begins = old.begins
        if self.identity == old.identity and not old.timed_out:  # one that hangs keeps what it is in
            self.collect = old.collect
            if self.view_identity == old.view_identity:
                self.columns = old.columns
        else:
            self.begins = True
        if (self.interval_ms, self.offset_ms) == (old.interval_ms, old.offset_ms):
            self.next_ms, self.since = old.next_ms, old.since
        else:
            behind = max(0, at.wall_ms - old.next_ms + 1) if old.running is None else 0
            self._begin(at._replace(wall_ms=at.wall_ms - behind, mono_ms=at.mono_ms - behind))
        self.stored, self.live, self.failing = old.stored, old.live, old.failing
        self.timeouts, self.failures, self.seconds = old.timeouts, old.failures, old.seconds

    def _begin(self, at: Instant) -> None:
        """Begin with the first grid time behind this one; nothing before it counts as missed."""
        last_ms = self.slot(at.wall_ms)
        self.next_ms = last_ms + self.interval_ms
        self.since = at._replace(wall_ms=last_ms, mono_ms=at.mono_ms - (at.wall_ms - last_ms))

    def keep(self, at: Instant, series: tuple[Series, ...]) -> None:
        """Note that a tick with these series is stored."""
        if self.begins and self.live:
            there = set(series)
            series += tuple(one for one in self.live if one not in there)
        self.stored = self.since = at
        self.live, self.begins = series, False
