"""The two values every collector is made of: the table row and the sample."""

from __future__ import annotations

from typing import Literal, NamedTuple

Labels = tuple[tuple[str, str], ...]
MetricType = Literal["gauge", "counter"]


class Metric(NamedTuple):
    """A row of a collector's table: what a series of this name means."""

    name: str
    type: MetricType
    unit: str
    help: str


class Sample(NamedTuple):
    """One value read in one run. `labels` are sorted by name and hold neither name nor host."""

    name: str
    value: float
    labels: Labels = ()
