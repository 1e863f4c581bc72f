"""What a collector is: a table of metrics, a type of options, and a function that builds its run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from agent.collectors.metric import Metric, Sample
from agent.collectors.options import Options

LINUX = sys.platform == "linux"

Collect = Callable[[float], list[Sample]]
"""One run. The argument is the monotonic time of the run in seconds; what a rate needs to remember of the run
before stays inside. Raises OSError only if nothing at all could be read; else it leaves out what it could not
read. Not to be called by two threads at once."""


class HostPaths(NamedTuple):
    """Where the kernel's files are; a test hands in a recorded tree, a container the host's."""

    proc: str = "/proc"
    sys: str = "/sys"


class CollectorKind(NamedTuple):
    """`build(options, paths)` takes an instance of `options` and returns a fresh, independent `Collect`."""

    metrics: tuple[Metric, ...]
    options: type[Options]
    build: Callable[[Any, HostPaths], Collect]
