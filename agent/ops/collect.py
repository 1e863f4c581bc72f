"""The enabled collectors, run here and now; no buffer is opened.

A collector that hangs is left behind after its timeout, as in the agent, and named; the others are read. So is what
a collector could not read.
"""

from __future__ import annotations

import time
from functools import partial
from typing import NamedTuple

from agent.collect import mask
from agent.collect.plans import LOOKUP, plans
from agent.collect.series import Collected, host_labels
from agent.config import Config
from agent.system.log import Silent
from agent.text.exposition import Reading
from agent.workers import Done, Job, Workers


class Group(NamedTuple):
    """What one collector returned: its series and values, or why there are none."""

    name: str
    readings: list[Reading]
    problem: str | None = None
    unread: tuple[str, ...] = ()
    """What the collector could not read, each with the reason."""


class Collectors:
    """The enabled collectors of a configuration, run one after another."""

    def __init__(self, config: Config) -> None:
        self.host = host_labels(config)
        masked, self.note = mask.look(config.data_dir, config.mask)
        self._plans = {plan.name: plan for plan in plans(config, self.host, Silent(), masked)}
        waits = [plan.timeout - LOOKUP * plan.apart for plan in self._plans.values()]
        self._patience = max(waits, default=1.0)
        self._workers: Workers[Collected] = Workers(self._patience)
        self._hung: set[str] = set()

    def read(self) -> list[Group]:
        """Run them all but those that still hang."""
        self._hung -= {done.key for done in self._workers.ended()}
        now = time.monotonic()
        jobs = [Job(n, partial(plan.run, now)) for n, plan in self._plans.items() if n not in self._hung]
        done = {one.key: one for one in self._workers.run(jobs)}
        self._hung = {name for name in self._plans if name not in done}
        return [self._group(name, done.get(name)) for name in self._plans]

    def close(self) -> None:
        """End the threads that run collectors, but for those that hang."""
        self._workers.close()

    def _group(self, name: str, done: Done[Collected] | None) -> Group:
        if done is None:
            return Group(name, [], f"it takes longer than {self._patience:g} s, and was left behind")
        if done.result is None:
            return Group(name, [], f"it cannot be read: {done.error}")
        plan = self._plans[name]
        return Group(name, list(zip(*done.result, strict=True)), plan.problem(), plan.unread())
