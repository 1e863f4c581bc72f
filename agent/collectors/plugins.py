"""Collectors that other packages bring along: entry points of the group `limpet.collectors`.

Nothing is looked for and nothing imported until a configuration names a collector that is not built in. What is
found runs as the built-in ones do, so one that raises is logged once and tried again, and one that hangs is left
behind (`agent.collect.schedule`); here stands what beyond that may not be relied on:

- Building it is part of a run: where that raises, it is tried again at the next one.
- `SystemExit` and its like end the run and nothing else.
- What it returns must be samples of its own table, with names and values that every receiver takes, each series
  once: else the run has failed, and nothing of it is stored.

docs/own-collectors.md is the page for whoever writes one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

from agent.collect.series import Collected, Columns
from agent.collectors.kind import Collect, CollectorKind, HostPaths
from agent.collectors.metric import Labels, Metric, Sample
from agent.collectors.options import Options
from buffer.errors import LimpetError
from buffer.model import Series

GROUP = "limpet.collectors"
_METRIC = re.compile("[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile("(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class OwnFailed(LimpetError):
    """An installed collector cannot be used."""


def names() -> list[str]:
    """The collectors that are installed beside the built-in ones."""
    return sorted(_entry_points().names)


@cache
def find(name: str) -> CollectorKind | None:
    """The installed collector of this name; None: there is none. Raises OwnFailed."""
    entries = _entry_points().select(name=name)
    if not entries:
        return None
    if len(entries) > 1:
        made_by = " and ".join(sorted(entry.dist.name if entry.dist else "?" for entry in entries))
        raise OwnFailed(name, f"{made_by} both bring a collector of this name", "Uninstall one of them.")
    (entry,) = entries
    try:
        kind = entry.load()
    except (Exception, SystemExit) as error:
        what = f"{entry.value} cannot be loaded: {type(error).__name__}: {error}"
        raise OwnFailed(name, what, "Mend or uninstall the package, or remove this key.") from None
    if wrong := _wrong(kind):
        raise OwnFailed(name, f"{entry.value} {wrong}", "docs/own-collectors.md says what it must be.")
    assert isinstance(kind, CollectorKind)
    return kind


def _entry_points() -> Any:
    from importlib.metadata import entry_points  # costs memory: only who names such a collector pays for it

    return entry_points(group=GROUP)


def _wrong(kind: Any) -> str | None:
    """What keeps this from being a collector; None: nothing that can be seen."""
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
    """The collector, built at its first run."""
    built: Collect | None = None

    def run(now: float) -> list[Sample]:
        nonlocal built
        try:
            if built is None:
                built = kind.build(options, paths)
            return built(now)
        except Exception:
            raise
        except BaseException as error:  # would end the thread
            raise RuntimeError(f"it raised {type(error).__name__}: {error}") from error

    return run


class OwnColumns(Columns):
    """Columns that trust nothing."""

    def __init__(self, metrics: Sequence[Metric], host: Mapping[str, str]) -> None:
        super().__init__(metrics, host)
        self._checked: tuple[Series, ...] = ()

    def __call__(self, samples: Sequence[Sample]) -> Collected:
        """Return the series and their values. Raises ValueError for what no receiver would take."""
        if not all(isinstance(sample, Sample) for sample in samples):
            raise TypeError("it returned something that is not a Sample")
        series, values = super().__call__(samples)
        if series is not self._checked:
            seen: set[tuple[str, Labels]] = set()
            for each in series:
                if each[:2] in seen:
                    raise ValueError(f"it returned {each.name} {dict(each.labels)} twice")
                seen.add(each[:2])
            self._checked = series
        return series, values

    def _of(self, name: str, labels: Labels) -> Series:
        if name not in self._metrics:
            raise ValueError(f"it returned {name!r}, which is not in its table")
        pairs: Sequence[tuple[Any, Any]] = labels
        for key, value in pairs:
            if not (isinstance(key, str) and _LABEL.fullmatch(key) and isinstance(value, str)):
                raise ValueError(f"it returned {name} with the label {key!r}={value!r}")
            value.encode()  # raises ValueError where no receiver could read it
        return super()._of(name, labels)
