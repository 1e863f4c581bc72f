"""Collectors that other packages bring along: entry points of the group `limpet.collectors`.

Nothing is looked for and nothing imported until a configuration names a collector that is not built in. A plugin
runs as the built-in collectors do: one that raises is logged once and tried again, and one that hangs is left
behind (`agent.collect.schedule`). This module adds what protects the agent from its mistakes:

- Building it is part of a run: where that raises, it is tried again at the next one.
- What it returns must be samples of its own table, with names and values that every receiver takes, each series
  once (`agent.collect.series.CheckedColumns`). If not, the run has failed, and nothing of it is stored.

docs/own-collectors.md is the page for authors of plugins; they import `limpet.collectors`.
"""

from __future__ import annotations

import re
from typing import Any, cast

from agent.collectors.base import Collect, CollectorKind, HostPaths, Metric, Sample
from agent.collectors.options import Options
from agent.system import entry_points
from agent.system.entry_points import PluginFailed

GROUP = "limpet.collectors"
_METRIC = re.compile("[a-zA-Z_:][a-zA-Z0-9_:]*")


def names() -> list[str]:
    """Return the names of the installed plugins."""
    return entry_points.names(GROUP)


def find(name: str) -> CollectorKind | None:
    """Return the installed collector of this name; None if there is none. Raises PluginFailed."""
    kind = entry_points.load(GROUP, name, "collector")
    if kind is not None and (wrong := _wrong(kind)):
        raise PluginFailed(name, f"the collector {wrong}", "docs/own-collectors.md says what it must be.")
    assert kind is None or isinstance(kind, CollectorKind)
    return kind


def _wrong(kind: Any) -> str | None:
    """Return what keeps this from being a collector; None if nothing does that can be seen."""
    if not isinstance(kind, CollectorKind):
        return f"is a {type(kind).__name__}, not a CollectorKind"
    metrics, options, build = cast("tuple[Any, ...]", kind)
    if not (isinstance(options, type) and issubclass(options, Options)):
        return "has options that are not a subclass of Options"
    if not callable(build):
        return "has a `build` that cannot be called"
    for metric in metrics:
        if not isinstance(metric, Metric) or not _METRIC.fullmatch(metric.name):
            return f"has a row {metric!r} that is not a Metric with a valid name"
        if metric.type not in ("gauge", "counter"):
            return f"has the metric {metric.name} of type {metric.type!r}, which is neither gauge nor counter"
    if len({metric.name for metric in metrics}) != len(metrics):
        return "has a metric in its table twice"
    return None


def collect(kind: CollectorKind, options: Options, paths: HostPaths) -> Collect:
    """Return the collector, which is built at its first run, and again at the next one if that raises."""
    built: Collect | None = None

    def run(now: float) -> list[Sample]:
        nonlocal built
        if built is None:
            built = kind.build(options, paths)
        return built(now)

    return run
