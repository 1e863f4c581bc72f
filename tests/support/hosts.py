"""Recorded hosts: two readings of the same kernel files, ten seconds apart, under tests/fixtures/hosts.

`vm` is a small virtual machine as it was, `server` is made by hand to hold what is rare; the README there describes
the others, which have a file with all their series.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.collectors import COLLECTORS, Collect, HostPaths, Labels, Sample

HOSTS = Path(__file__).parents[1] / "fixtures" / "hosts"
SECONDS = 10.0
KINDS = ["laptop", "storage", "raspberrypi", "container", "microvm", "noswap"]

READING = {name: kind for name, kind in COLLECTORS.items() if name != "link"}
"""The collectors that only read. On this machine no test runs the one that asks the network: tests talk to nobody but themselves."""

Values = dict[tuple[str, Labels], float]


class Host:
    """A recorded host in a directory of its own, where a test may change it; `at` is the reading it shows."""

    def __init__(self, name: str, directory: Path) -> None:
        self._source, self.root = HOSTS / name, directory / name
        self.paths = HostPaths(str(self.root / "proc"), str(self.root / "sys"))
        self.show("first")

    def show(self, at: str) -> None:
        shutil.copytree(self._source / at, self.root, dirs_exist_ok=True)

    def file(self, path: str) -> Path:
        return self.root / path

    def collector(self, name: str, **options: Any) -> Collect:
        kind = COLLECTORS[name]
        return kind.build(kind.options(**options), self.paths)

    def both(self, name: str, **options: Any) -> tuple[Values, Values]:
        """The values of a run on each of the two readings."""
        collect = self.collector(name, **options)
        first = values(collect(1000.0))
        self.show("second")
        return first, values(collect(1000.0 + SECONDS))


def values(samples: Iterable[Sample]) -> Values:
    """By series; a series that comes twice is an error."""
    found: Values = {}
    for sample in samples:
        key = (sample.name, sample.labels)
        assert key not in found, f"{key} twice in one run"
        found[key] = sample.value
    return found


def of(found: Values, **labels: str) -> dict[str, float]:
    """The values by name of the series with exactly these labels."""
    wanted = tuple(sorted(labels.items()))
    return {name: value for (name, has), value in found.items() if has == wanted}


def labeled(found: Values, label: str) -> set[str]:
    """All values of one label."""
    return {value for _, labels in found for key, value in labels if key == label}


SERIES = re.compile(r"([a-z0-9_]+)(?:{(.*)})? (\S+)")


def expected(name: str, at: str) -> Values:
    """The series in the file of a host's instant."""
    found: Values = {}
    for line in (HOSTS / name / at / "expected.prom").read_text().splitlines():
        match = SERIES.fullmatch(line)
        assert match, line
        labels = tuple(re.findall(r'([a-z]+)="(.*?)"', match[2] or ""))
        found[match[1], labels] = float(match[3])
    return found
