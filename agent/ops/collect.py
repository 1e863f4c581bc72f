"""The enabled collectors, run here and now; no buffer is opened.

A collector that hangs is left behind after its timeout, as in the agent, and named; the others are read. So is what
a collector could not read.
"""

from __future__ import annotations

import time
from functools import partial
from typing import NamedTuple

from agent.collect import mask, raised
from agent.collect.plans import NAME_LOOKUP, plans
from agent.collect.series import Collected, host_labels
from agent.config import Config
from agent.crew import Crew, Done, Job
from agent.system.log import Silent
from agent.text.exposition import Reading
from buffer.model import Instant


class Group(NamedTuple):
    """What one collector returned: its series and values, or why there are none."""

    name: str
    readings: list[Reading]
    problem: str | None = None
    unread: tuple[str, ...] = ()
    """What the collector could not read, each with the reason."""
    traceback: str = ""
    """Where in the code it failed."""


class Collectors:
    """The enabled collectors of a configuration, run all at once."""

    def __init__(self, config: Config) -> None:
        self.host = host_labels(config)
        masked, self.note = mask.look(config.data_dir, config.mask)
        self._plans = {plan.name: plan for plan in plans(config, self.host, Silent(), masked)}
        waits = [plan.timeout - NAME_LOOKUP * (plan.crew == "remote") for plan in self._plans.values()]
        self._patience = max(waits, default=1.0)
        self._crew: Crew[Collected] = Crew(0)

    def read(self) -> list[Group]:
        """Run them all but those that still hang."""
        now = time.monotonic()
        jobs = [Job(name, partial(plan.run, now)) for name, plan in self._plans.items()]
        done = {one.key: one for one in self._crew.run(jobs, self._patience) if not one.late}
        return [self._group(name, done.get(name)) for name in self._plans]

    def close(self) -> None:
        """End the threads that run collectors, but for those that hang."""
        self._crew.close()

    def _group(self, name: str, done: Done[Collected] | None) -> Group:
        if done is None:
            return Group(name, [], f"it takes longer than {self._patience:g} s, and was left behind")
        if done.result is None:
            error = done.error or RuntimeError("it returned nothing")
            return Group(name, [], f"it cannot be read: {raised.words(error)}", traceback=raised.whole(error))
        plan = self._plans[name]
        columns = [done.result, *((tick.series, tick.values) for tick in plan.stamped(Instant(0, 0, "")))]
        readings = [reading for column in columns for reading in zip(*column, strict=True)]
        return Group(name, readings, plan.collect.error, plan.unread())
