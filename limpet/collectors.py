"""What a collector of your own is made of; docs/own-collectors.md explains it with an example.

Promise of stability: what `__all__` names keeps its name and its meaning within a major version of Limpet, so a plugin
that imports nothing else of Limpet runs with every later minor version. A new field of a tuple comes last and has a
default. What has to go is announced in the changelog and stays for at least one minor version. Before version 1.0
the promise is from each minor version to the next.
"""

from agent.collectors.base import (
    Collect,
    CollectorKind,
    HostPaths,
    Labels,
    Metric,
    MetricType,
    Report,
    Sample,
    Trouble,
)
from agent.collectors.options import Options

__all__ = [
    "Collect",
    "CollectorKind",
    "HostPaths",
    "Labels",
    "Metric",
    "MetricType",
    "Options",
    "Report",
    "Sample",
    "Trouble",
]
