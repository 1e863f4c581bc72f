"""docs/node-exporter.md has every pair of names that a test compares with a real node_exporter, and no name that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from agent.collectors import COLLECTORS
from tests.integration.test_collectors_node_exporter import (
    OF_CORES,
    OF_DISK,
    OF_FILE_SYSTEM,
    OF_INTERFACE,
    PLAIN,
    SOCKETS,
)

PAGE = (Path(__file__).parents[2] / "docs" / "node-exporter.md").read_text()
OURS = {metric.name for kind in COLLECTORS.values() for metric in kind.metrics}


def pairs() -> dict[str, str]:
    """By node_exporter's name, ours: what `test_collectors_node_exporter` compares."""
    found = {
        theirs: ours for of in (PLAIN, OF_DISK, OF_INTERFACE, OF_FILE_SYSTEM) for ours, theirs in of.items()
    }
    found |= {f'node_cpu_seconds_total{{mode="{mode}"}}': ours for ours, mode in OF_CORES.items()}
    found |= {
        theirs: f'network_connections{{family="{family}",state="{state}"}}'
        for (family, state), theirs in SOCKETS.items()
    }
    return found


def rows() -> dict[str, str]:
    """The page's tables: the first column to the second."""
    return dict(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", PAGE, re.MULTILINE))


def test_the_page_has_every_pair_that_is_compared() -> None:
    assert pairs().items() <= rows().items()


def test_the_page_names_nothing_that_is_not_there() -> None:
    for theirs, ours in rows().items():
        assert theirs.startswith("node_")
        assert set(re.findall(r"[a-z][a-z0-9_]+", re.sub(r'\{.*?\}|"[^"]*"', "", ours))) & OURS, ours
