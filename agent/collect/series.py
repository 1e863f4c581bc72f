"""From a collector's samples to the buffer's series: the host's labels on every one of them.

Prometheus's stale marker ends a series.  Markers are a tick of their own, in a group of
their own: in the collector's own group, a marker would turn the series' scale into raw bits for good
(`buffer.codec`) and take the place of the mean when the tick is thinned (`buffer.thin`).
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.collectors.base import Labels, Metric, Sample
from buffer.model import ENDED, STALE, Instant, Series, Tick

if TYPE_CHECKING:
    from agent.config import Config

Collected = tuple[tuple[Series, ...], Sequence[float]]
"""What one run is stored as: the series, and their values in the same order."""


class Row(NamedTuple):
    """What a run found of another time than its own: UTC in ms, the end of the group's name, series and values."""

    at_ms: int
    group: str
    series: tuple[Series, ...]
    values: Sequence[float]


MAX_TICK_BYTES = 6 << 20
"""Bytes of names, labels and metadata in one tick: a record that defines them holds 8 MiB (`buffer.codec`)."""
LONGEST_TEXT = 1 << 16
"""Characters of a name or of a label's value."""
MAX_TICK_SERIES = 100_000
"""Series in one tick."""
_PIECE = 100
_LABEL = re.compile("(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class TooLarge(ValueError):
    """The series of one run do not fit in a record of the buffer."""


def host_labels(config: Config) -> dict[str, str]:
    """Return what every series carries: `hostname` (default: the system's, which can change) and the configured labels."""
    # The kernel takes any bytes, and none at all, for a name.
    system = socket.gethostname().encode(errors="replace").decode() or "localhost"
    return {**config.labels, "hostname": config.hostname or system}


class Columns:
    """Splits samples into series and values, and returns the same series object while they stay the same.

    A label of a sample wins over a host label of the same name.
    """

    def __init__(self, metrics: Sequence[Metric], host: Mapping[str, str]) -> None:
        self._metrics = {metric.name: metric for metric in metrics}
        self._host = dict(host)
        self._keys: list[tuple[str, Labels]] = []
        self._series: tuple[Series, ...] = ()

    def __call__(self, samples: Sequence[Sample]) -> Collected:
        """Return the series of these samples, and their values in the same order."""
        keys = [(name, labels) for name, _, labels in samples]
        if keys != self._keys:
            series = tuple(self._of(*key) for key in keys)
            check_size(series)
            self._keys, self._series = keys, series
        return self._series, [float(sample.value) for sample in samples]

    def _of(self, name: str, labels: Labels) -> Series:
        metric = self._metrics[name]
        merged = tuple(sorted({**self._host, **dict(labels)}.items()))
        return Series(name, merged, metric.type, metric.unit, metric.help)


class CheckedColumns(Columns):
    """Columns of a plugin: every sample is checked, since a receiver may refuse a whole request for one of them."""

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
            if max(len(key), len(value)) > LONGEST_TEXT:
                raise ValueError(f"it returned {name} with a label of more than {LONGEST_TEXT} characters")
        return super()._of(name, labels)


def check_size(series: Sequence[Series]) -> None:
    """Raise TooLarge where a record cannot hold the definition of these series."""
    if len(series) > MAX_TICK_SERIES:
        raise TooLarge(f"{len(series)} series at once, more than {MAX_TICK_SERIES}")
    if size_of(series) > MAX_TICK_BYTES:
        raise TooLarge(f"the labels of the series take more than {MAX_TICK_BYTES} bytes")


def size_of(series: Sequence[Series]) -> int:
    """Return the bytes of the definition of these series in a record, where a control character takes six."""
    size = 0
    for begun in range(0, len(series), _PIECE):  # few in memory at once
        some = series[begun : begun + _PIECE]
        rows = [[s.name, s.type, s.unit, s.help, *(part for pair in s.labels for part in pair)] for s in some]
        size += len(json.dumps(rows, ensure_ascii=False).encode(errors="replace"))
    return size


def markers(at: Instant, collector: str, series: tuple[Series, ...]) -> Tick:
    """Return the tick that says that these series of a collector end there."""
    return Tick(at, collector + ENDED, series, [STALE] * len(series))


def gone(before: tuple[Series, ...], now: tuple[Series, ...]) -> tuple[Series, ...]:
    """Return the series that are gone; at no cost where nothing changed, since the two are then one object."""
    if before is now:
        return ()
    there = set(now)
    return tuple(series for series in before if series not in there)
