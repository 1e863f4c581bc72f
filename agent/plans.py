"""From the configuration to what the schedule runs: built-in collectors, text files, scrape targets, own collectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent import own
from agent.collectors import COLLECTORS, HostPaths
from agent.config import Config, Planned, ScrapeOptions, TextfileOptions
from agent.schedule import Plan
from agent.sender.events import Logger
from agent.series import Collected, Columns

LOOKUP = 30.0
"""Seconds that looking up a name may take beyond a target's timeout: the system's own limits are below that."""
SHARE = 0.9
"""The part of its interval that a scrape may take at most, so that it is over before the next one."""


def plans(config: Config, host: Mapping[str, str], log: Logger, paths: HostPaths = HostPaths()) -> list[Plan]:  # noqa: B008
    """What is configured to run. `host` are the labels of every series. Nothing is read or run yet."""
    return [plan for one in config.collect.plan() for plan in _plans(one, host, log, paths)]


def _plans(one: Planned, host: Mapping[str, str], log: Logger, paths: HostPaths) -> Iterator[Plan]:
    hostname = host["hostname"]
    if isinstance(one.options, ScrapeOptions):
        yield from _targets(one, one.options, host, log)
    elif isinstance(one.options, TextfileOptions):
        from agent.scrape.textfile import Textfile  # who has none does not pay for it

        assert one.options.directory is not None
        textfile = Textfile(one.options.directory, host, log)
        yield Plan(one.name, textfile, _as_it_is, one.interval, one.timeout, hostname)
    elif one.name in COLLECTORS:
        kind = COLLECTORS[one.name]
        collect, columns = kind.build(one.options, paths), Columns(kind.metrics, host)
        yield Plan(one.name, collect, columns, one.interval, one.timeout, hostname)
    else:
        found = own.find(one.name)
        assert found is not None  # the configuration was read with it
        collect, columns = own.collect(found, one.options, paths), own.OwnColumns(found.metrics, host)
        yield Plan(one.name, collect, columns, one.interval, one.timeout, hostname)


def _targets(one: Planned, options: ScrapeOptions, host: Mapping[str, str], log: Logger) -> Iterator[Plan]:
    from agent.scrape.target import Scrape

    for target in options.targets:
        relabel = None
        if target.metric_relabel_configs:
            from agent.sender.relabel import compile_rules

            relabel = compile_rules(target.metric_relabel_configs)
        interval = target.interval or one.interval
        timeout = min(target.timeout or one.timeout, SHARE * interval)
        scrape = Scrape(target, host, timeout, log, relabel)
        name = f"{one.name}/{target.job}/{target.instance}"
        yield Plan(name, scrape, _as_it_is, interval, timeout + LOOKUP, host["hostname"], apart=True)


def _as_it_is(collected: Collected) -> Collected:
    return collected
