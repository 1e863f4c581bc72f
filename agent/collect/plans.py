"""From the configuration to what the schedule runs: built-in collectors, text files, scrape targets, plugins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

from agent.collect.local import LocalCollector
from agent.collect.mask import Mask, MaskedColumns
from agent.collect.plan import Collector, Plan
from agent.collect.series import CheckedColumns, Collected, Columns
from agent.collectors import COLLECTORS, HostPaths, plugins
from agent.config import Config, PlanSpec, ScrapeOptions, TextfileOptions
from agent.system.events import Logger
from buffer.exemplars import Exemplar, Exemplars

NAME_LOOKUP = 30.0
"""Seconds that looking up a name may take beyond a target's timeout: the system's own limits are below that."""
SHARE = 0.9
"""The part of its interval that a scrape may take at most, so that it is over before the next one."""


def plans(
    config: Config,
    host: Mapping[str, str],
    log: Logger,
    mask: Mask,
    paths: HostPaths | None = None,
    exemplars: Exemplars | None = None,
) -> list[Plan]:
    """Return what is configured to run. `host` are the labels of every series. Nothing is read or run yet.

    `exemplars` are where those of targets go, if a destination is to get them.
    """
    view = paths or config.collect.paths()
    wanted = any(to.send_exemplars for to in config.remote_write)
    kept = exemplars if wanted else None
    return [plan for spec in config.collect.plan() for plan in _plans(spec, host, log, mask, view, kept)]


def _plans(
    spec: PlanSpec,
    host: Mapping[str, str],
    log: Logger,
    mask: Mask,
    paths: HostPaths,
    exemplars: Exemplars | None,
) -> Iterator[Plan]:
    labels, options = dict(host), spec.options
    collect: Collector
    columns: Callable[[Any], Collected]
    identity: object
    view_identity: object
    if isinstance(options, ScrapeOptions):
        yield from _targets(spec, options, labels, log, mask, exemplars)
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
    spec: PlanSpec,
    options: ScrapeOptions,
    labels: dict[str, str],
    log: Logger,
    mask: Mask,
    exemplars: Exemplars | None,
) -> Iterator[Plan]:
    from agent.scrape.target import Scrape

    for target in options.each():
        relabel = None
        if target.metric_relabel_configs:
            from agent.relabel import compile_rules

            relabel = compile_rules(target.metric_relabel_configs)
        interval = target.interval or spec.interval
        timeout = min(target.timeout or spec.timeout, SHARE * interval)
        take = _masked(exemplars, mask) if exemplars is not None else None
        yield Plan(
            f"{spec.name}/{target.job}/{target.instance}",
            Scrape(target, labels, timeout, log, relabel, words=mask.words, exemplars=take),
            MaskedColumns(mask),
            interval,
            timeout + NAME_LOOKUP,
            labels["hostname"],
            crew="remote",
            identity=(target, timeout, labels, mask, take is None),
            view_identity=mask,
        )


def _masked(exemplars: Exemplars, mask: Mask) -> Callable[[Collection[Exemplar]], None]:
    """Return what keeps exemplars, the labels of their series and their own masked."""

    def keep(found: Collection[Exemplar]) -> None:
        exemplars.add(
            [
                one._replace(
                    series=one.series._replace(labels=mask.labels(one.series.labels)),
                    labels=tuple([(name, mask.value(name, text)) for name, text in one.labels]),
                )
                for one in found
            ]
        )

    return keep if mask else exemplars.add
