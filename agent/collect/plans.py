"""From the configuration to what the schedule runs: built-in collectors, text files, scrape targets, own collectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from agent.collect.mask import Mask, MaskedColumns
from agent.collect.plan import Plan
from agent.collect.series import Columns
from agent.collect.watched import Watched
from agent.collectors import COLLECTORS, HostPaths, plugins
from agent.config import Config, Planned, ScrapeOptions, TextfileOptions
from agent.system.events import Logger

LOOKUP = 30.0
"""Seconds that looking up a name may take beyond a target's timeout: the system's own limits are below that."""
SHARE = 0.9
"""The part of its interval that a scrape may take at most, so that it is over before the next one."""


def plans(
    config: Config, host: Mapping[str, str], log: Logger, mask: Mask, paths: HostPaths | None = None
) -> list[Plan]:
    """What is configured to run. `host` are the labels of every series. Nothing is read or run yet."""
    view = paths or config.collect.paths()
    return [plan for one in config.collect.plan() for plan in _plans(one, host, log, mask, view)]


def _plans(
    one: Planned, host: Mapping[str, str], log: Logger, mask: Mask, paths: HostPaths
) -> Iterator[Plan]:
    hostname, labels = host["hostname"], dict(host)
    if isinstance(one.options, ScrapeOptions):
        yield from _targets(one, one.options, host, log, mask)
    elif isinstance(one.options, TextfileOptions):
        from agent.scrape.textfile import Textfile  # who has none does not pay for it

        assert one.options.directory is not None
        textfile = Textfile(one.options.directory, host, log, mask.words)
        yield Plan(
            one.name,
            textfile,
            MaskedColumns(mask),
            one.interval,
            one.timeout,
            hostname,
            made_of=(one.options, labels, mask),
            shown_as=mask,
        )
    elif one.name in COLLECTORS:
        kind = COLLECTORS[one.name]
        run = Watched(one.name, partial(kind.build, one.options), one.timeout, paths, mask, log)
        yield Plan(
            one.name,
            run,
            Columns(kind.metrics, host),
            one.interval,
            one.timeout,
            hostname,
            made_of=(one.options, one.timeout, paths, mask),
            shown_as=labels,
        )
    else:
        found = plugins.find(one.name)
        assert found is not None  # the configuration was read with it
        run = Watched(one.name, partial(plugins.collect, found, one.options), one.timeout, paths, mask, log)
        columns = plugins.OwnColumns(found.metrics, host)
        yield Plan(
            one.name,
            run,
            columns,
            one.interval,
            one.timeout,
            hostname,
            made_of=(found, one.options, one.timeout, paths, mask),
            shown_as=labels,
        )


def _targets(
    one: Planned, options: ScrapeOptions, host: Mapping[str, str], log: Logger, mask: Mask
) -> Iterator[Plan]:
    from agent.scrape.target import Scrape

    for target in options.targets:
        relabel = None
        if target.metric_relabel_configs:
            from agent.relabel import compile_rules

            relabel = compile_rules(target.metric_relabel_configs)
        interval = target.interval or one.interval
        timeout = min(target.timeout or one.timeout, SHARE * interval)
        scrape = Scrape(target, host, timeout, log, relabel, words=mask.words)
        name = f"{one.name}/{target.job}/{target.instance}"
        columns = MaskedColumns(mask)
        yield Plan(
            name,
            scrape,
            columns,
            interval,
            timeout + LOOKUP,
            host["hostname"],
            apart=True,
            made_of=(target, timeout, dict(host), mask),
            shown_as=mask,
        )
