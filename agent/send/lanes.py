"""The lanes of all destinations that are wanted, also while that changes.

Promises:
1. A destination that is wanted as it was continues; its next request goes over a new connection, so that a reload looks
   its name up again. Where it waits or is held, that request goes out now.
2. The lane of one that has changed, or is not wanted any more, begins no request; the one under way has PATIENCE seconds
   to be answered, so that nothing is sent twice without need, and is cut then.
3. There are never two lanes at one cursor: the next one begins when the thread of the last one has ended, and continues
   where that one was. (Only a look-up of a name can hold a thread for longer; the system has its limits for that.)
4. Nothing here waits, but `stop`. What takes time continues with each `look`.
5. Counters of a destination continue from lane to lane.

Used from one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from agent.config import DestinationConfig
from agent.send.lane import Lane, stop_all
from agent.send.stats import SendStats
from agent.system.heard import Heard

PATIENCE = 2.0

Open = Callable[[DestinationConfig, Mapping[str, str], SendStats], Lane]
"""Makes a lane to a destination, with the host's labels; its cursor is there."""


class _Wanted(NamedTuple):
    to: DestinationConfig
    labels: Mapping[str, str]


class Lanes:
    """Lanes that `open_lane` makes."""

    def __init__(self, open_lane: Open, clock: Callable[[], float] = time.monotonic) -> None:
        self._open, self._clock = open_lane, clock
        self._wanted: dict[str, _Wanted] = {}
        self._running: dict[str, tuple[_Wanted, Lane]] = {}
        self._leaving: dict[str, tuple[Lane, float]] = {}
        self.stats: Mapping[str, SendStats] = {}
        """Of the destinations that are wanted. Another one whenever that changes."""

    @property
    def names(self) -> list[str]:
        """The destinations that are wanted."""
        return list(self._wanted)

    def heard(self) -> list[Heard]:
        """Return what each receiver that has proved who it is said last of this host's clock."""
        return [one.heard for one in self.stats.values() if one.heard is not None]

    @property
    def is_changing(self) -> bool:
        """Whether something is not yet as it is wanted."""
        return bool(self._leaving)

    def want(self, destinations: Sequence[DestinationConfig], labels: Mapping[str, str]) -> None:
        """From now on send to these, and to no others."""
        self._wanted = {to.name: _Wanted(to, labels) for to in destinations}
        stats = {name: self.stats.get(name) or SendStats() for name in self._wanted}
        for name, one in stats.items():  # before anybody sees them: the type is a label of a series
            one.kind = self._wanted[name].to.kind
        self.stats = stats
        for name, (was, lane) in list(self._running.items()):
            lane.try_now()
            if self._wanted.get(name) != was:
                lane.leave()
                self._leaving[name] = lane, self._clock() + PATIENCE
                del self._running[name]
        self.look()

    def look(self) -> None:
        """Continue with what is changing."""
        for name, (lane, until) in list(self._leaving.items()):
            if lane.has_ended:
                del self._leaving[name]
                continue
            lane.leave()  # again: it may have been just about to wait
            if self._clock() >= until:
                lane.cut()
        for name, wanted in self._wanted.items():
            if name not in self._running and name not in self._leaving:
                lane = self._open(wanted.to, wanted.labels, self.stats[name])
                self._running[name] = wanted, lane
                lane.start()

    def overdue(self) -> float:
        """Return for how many seconds the worst of the lanes should have been back from what it waits for."""
        return max((lane.overdue() for _, lane in self._running.values()), default=0.0)

    def stop(self, within: float) -> None:
        """Stop all, in so many seconds."""
        running = [lane for _, lane in self._running.values()]
        stop_all([*running, *(lane for lane, _ in self._leaving.values())], within)
