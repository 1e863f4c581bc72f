"""`limpet collect`: runs the collectors here and now, and shows what the agent would send.

Opens no buffer, sends nothing. A collector that hangs is left behind after its timeout, as in the agent,
and named; the others are shown, and so is what a collector could not read. Exit status 1 where a collector
could not be read at all.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import NamedTuple

from agent.cli import output
from agent.collect import mask
from agent.collect.plans import NAME_LOOKUP, plans
from agent.collect.series import Collected, host_labels
from agent.config import Config, load_file
from agent.crew import Crew, Done, Job
from agent.system.log import Silent
from agent.text import human
from agent.text.exposition import Reading, documents, exposition

ONCE_SECONDS, WATCH_SECONDS = 1.0, 2.0


class Group(NamedTuple):
    """What one collector had to say: its series and values, or why there are none."""

    name: str
    readings: list[Reading]
    problem: str | None = None
    unread: tuple[str, ...] = ()
    """What the collector could not read, each with the reason."""


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
            return Group(name, [], f"it cannot be read: {done.error}")
        plan = self._plans[name]
        return Group(name, list(zip(*done.result, strict=True)), plan.collect.error, plan.unread())


def collect(file: str | None, form: str, *, watch: bool, interval: float | None) -> int:
    """Show the readings as `form` (table, prometheus, json); once, or until Ctrl-C. Raises ConfigErrors."""
    config = load_file(file).config if file else Config()
    with closing(Collectors(config)) as collectors:
        if collectors.note:
            print(f"mask: {collectors.note}", file=sys.stderr)
        return _show(collectors, form, watch=watch, interval=interval)


def _show(collectors: Collectors, form: str, *, watch: bool, interval: float | None) -> int:
    pause = interval or (WATCH_SECONDS if watch else ONCE_SECONDS)
    collectors.read()  # what rates are computed from
    if form == "table":
        from agent.cli import show

        host = collectors.host
        if watch:
            show.live(lambda width, height: show.readings_live(collectors.read(), host, width, height), pause)
        return _each(collectors, pause, 1, lambda groups: show.text(show.readings(groups, host)))
    rounds = sys.maxsize if watch else 1
    if form == "prometheus":
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale: so says the format
        return _each(collectors, pause, rounds, lambda groups: exposition(_readings(groups)))
    return _each(collectors, pause, rounds, partial(_json, one_line=watch))


def _json(groups: list[Group], *, one_line: bool) -> str:
    return output.json_text(documents(list(_readings(groups))), one_line=one_line)


def _each(collectors: Collectors, pause: float, rounds: int, render: Callable[[list[Group]], str]) -> int:
    problems: list[Group] = []
    for _ in range(rounds):
        time.sleep(pause)
        groups = collectors.read()
        output.write(render(groups))
        problems = [group for group in groups if group.problem]
        for group in groups:
            for told in (group.problem, *group.unread):
                if told:
                    print(f"{group.name}: {human.plain(told)}", file=sys.stderr)
    return 1 if problems else 0


def _readings(groups: list[Group]) -> Iterator[Reading]:
    return (reading for group in groups for reading in group.readings)
