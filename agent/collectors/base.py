"""What a collector is: a table of metrics, a type of options, and a function that builds its runs.

`limpet.collectors` shows most of this to authors of plugins.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from agent.collectors.options import Options

LINUX = sys.platform == "linux"

Labels = tuple[tuple[str, str], ...]
"""Names and values of labels, sorted by name."""

MetricType = Literal["gauge", "counter"]


class Metric(NamedTuple):
    """A row of a collector's table: what a series of this name means."""

    name: str
    type: MetricType
    unit: str
    help: str


class Sample(NamedTuple):
    """One value read in one run. `labels` are sorted by name and hold neither the metric's name nor the host's labels.

    A run that returns the same `labels` object for the same series every time is cheap.
    """

    name: str
    value: float
    labels: Labels = ()


Collect = Callable[[float], list[Sample]]
"""One run. The argument is the monotonic time of the run in seconds; what a rate needs to remember of the run
before stays inside. Raises OSError only if nothing at all could be read; else it leaves out what it could not
read, and reports it. Not to be called by two threads at once."""


class Trouble(NamedTuple):
    """What a run could not read: a file of the kernel, or what a label of that kind names.

    `why` is shown and logged, so it repeats no name. `stuck`: the name is not asked again before the call that
    hangs has returned. `denied`: the agent's user may not read it, which is usual for what belongs to other users.
    """

    kind: Literal["file", "device", "interface", "mountpoint", "sensor"]
    name: str
    why: str
    stuck: bool = False
    denied: bool = False


Report = Callable[[Trouble], None]


def ignore(trouble: Trouble) -> None:
    """Report nothing."""


class HostPaths(NamedTuple):
    """Where a collector finds the host: a test hands in a recorded tree, a container the host's.

    `root` is put in front of the host's own paths; it has no slash at its end. `patience` is how many seconds
    a run may wait for what does not answer. A run calls `report` for each thing that it could not read, in each run
    again, and on the thread of the run.
    """

    proc: str = "/proc"
    sys: str = "/sys"
    root: str = ""
    patience: float = 2.0
    report: Report = ignore

    @property
    def foreign(self) -> bool:
        """Whether these are not this process's own paths but the host's, seen from inside a container."""
        return (self.proc, self.root) != ("/proc", "")


class CollectorKind(NamedTuple):
    """`build(options, paths)` takes an instance of `options` and returns a fresh, independent `Collect`."""

    metrics: tuple[Metric, ...]
    options: type[Options]
    build: Callable[[Any, HostPaths], Collect]
