"""What a collector is: a table of metrics, a type of options, and a function that builds its run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from agent.collectors.metric import Metric, Sample
from agent.collectors.options import Options

LINUX = sys.platform == "linux"

Collect = Callable[[float], list[Sample]]
"""One run. The argument is the monotonic time of the run in seconds; what a rate needs to remember of the run
before stays inside. Raises OSError only if nothing at all could be read; else it leaves out what it could not
read, and tells of it. Not to be called by two threads at once."""


class Trouble(NamedTuple):
    """What a run could not read: a file of the kernel's, or what a label of that kind names.

    `why` is shown and logged, so it repeats no name. `stuck` says that the name is not asked again before the
    call that hangs has returned.
    """

    kind: Literal["file", "device", "interface", "mountpoint"]
    name: str
    why: str
    stuck: bool = False


Tell = Callable[[Trouble], None]


def ignore(trouble: Trouble) -> None:
    """Tell nobody."""


class HostPaths(NamedTuple):
    """The host as a collector is shown it; a test hands in a recorded tree, a container the host's.

    `root` is put in front of the host's own paths; it has no slash at its end. `patience` is how many seconds
    a run may wait for what does not answer. Whoever called the run is told what it could not read by `tell`,
    again in each run, and on the run's own thread.
    """

    proc: str = "/proc"
    sys: str = "/sys"
    root: str = ""
    patience: float = 2.0
    tell: Tell = ignore

    @property
    def foreign(self) -> bool:
        """Whether it is another's view than this process's own: the host's, from inside a container."""
        return (self.proc, self.root) != ("/proc", "")


class CollectorKind(NamedTuple):
    """`build(options, paths)` takes an instance of `options` and returns a fresh, independent `Collect`."""

    metrics: tuple[Metric, ...]
    options: type[Options]
    build: Callable[[Any, HostPaths], Collect]
