"""From the configuration to what the schedule runs: built-in collectors, text files, scrape targets, plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from agent.collect.local import LocalCollector
from agent.collect.mask import Mask, MaskedColumns
from agent.collect.plan import Collector, Plan
from agent.collect.series import CheckedColumns, Collected, Columns
from agent.collectors import COLLECTORS, HostPaths, plugins
from agent.config import Config, PlanSpec, ScrapeOptions, TextfileOptions
from agent.system.events import Logger

NAME_LOOKUP = 30.0
"""Seconds that looking up a name may take beyond a target's timeout: the system's own limits are below that."""
SHARE = 0.9
"""The part of its interval that a scrape may take at most, so that it is over before the next one."""


def plans(
    config: Config, host: Mapping[str, str], log: Logger, mask: Mask, paths: HostPaths | None = None
) -> list[Plan]:
    """Return what is configured to run. `host` are the labels of every series. Nothing is read or run yet."""
    view = paths or config.collect.paths()
    return [plan for spec in config.collect.plan() for plan in _plans(spec, host, log, mask, view)]


def _plans(
    spec: PlanSpec, host: Mapping[str, str], log: Logger, mask: Mask, paths: HostPaths
) -> Iterator[Plan]:
    labels, options = dict(host), spec.options
    collect: Collector
    columns: Callable[[Any], Collected]
    identity: object
    view_identity: object
    if isinstance(options, ScrapeOptions):
        yield from _targets(spec, options, labels, log, mask)
        return
    if isinstance(options, TextfileOptions):
        from agent.scrape.textfile import Textfile  # costs memory: only a host with text files pays for it

        assert options.directory is not None
        collect, columns = Textfile(options.directory, host, log, mask.words), MaskedColumns(mask)
        identity, view_identity = (options, labels, mask), mask
    else:
        kind = COLLECTORS.get(spec.name)
        if kind is not None:
            build, columns = partial(kind.build, options), Columns(kind.metrics, host)
        else:
            kind = plugins.find(spec.name)
            assert kind is not None  # the configuration was read with it
            build, columns = partial(plugins.collect, kind, options), CheckedColumns(kind.metrics, host)
        collect = LocalCollector(spec.name, build, spec.timeout, paths, mask, log)
        identity, view_identity = (kind, options, spec.timeout, paths, mask), labels
    yield Plan(
        spec.name,
        collect,
        columns,
        spec.interval,
        spec.timeout,
        host["hostname"],
        identity=identity,
        view_identity=view_identity,
    )


def _targets(
    spec: PlanSpec, options: ScrapeOptions, labels: dict[str, str], log: Logger, mask: Mask
) -> Iterator[Plan]:
    from agent.scrape.target import Scrape

    for target in options.each():
        relabel = None
        if target.metric_relabel_configs:
            from agent.relabel import compile_rules

            relabel = compile_rules(target.metric_relabel_configs)
        interval = target.interval or spec.interval
        timeout = min(target.timeout or spec.timeout, SHARE * interval)
        yield Plan(
            f"{spec.name}/{target.job}/{target.instance}",
            Scrape(target, labels, timeout, log, relabel, words=mask.words),
            MaskedColumns(mask),
            interval,
            timeout + NAME_LOOKUP,
            labels["hostname"],
            crew="remote",
            identity=(target, timeout, labels, mask),
            view_identity=mask,
        )
