"""A real node_exporter, of this machine or of a recorded one, and what it exposes."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from tests.support.server import Server

COLLECTORS = (
    "cpu",
    "diskstats",
    "filesystem",
    "loadavg",
    "meminfo",
    "netdev",
    "netstat",
    "sockstat",
    "stat",
    "vmstat",
)
SERIES = re.compile(r"([a-z0-9A-Z_]+)(?:{(.*)})? (\S+)")

Exposed = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class NodeExporter(Server):
    """A node_exporter over the kernel's files in `proc` and `sys`, with `flags` of its own."""

    name = "node_exporter"

    def __init__(
        self, program: Path, folder: Path, proc: str = "/proc", sys: str = "/sys", flags: tuple[str, ...] = ()
    ) -> None:
        super().__init__(program, folder)
        self._proc, self._sys, self._flags = proc, sys, flags

    def command(self) -> list[str]:
        """Return the command: the collectors that report what ours report, and no device left out."""
        return [
            str(self.program),
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--path.procfs={self._proc}",
            f"--path.sysfs={self._sys}",
            "--collector.disable-defaults",
            *(f"--collector.{name}" for name in COLLECTORS if f"--no-collector.{name}" not in self._flags),
            "--collector.diskstats.device-exclude=^$",
            "--collector.filesystem.mount-points-exclude=^$",
            "--collector.filesystem.fs-types-exclude=^$",
            *self._flags,
        ]

    def is_ready(self) -> bool:
        """Whether it answers."""
        with urllib.request.urlopen(f"{self.url}/", timeout=5) as answer:
            return bool(answer.status == 200)

    def read(self) -> Exposed:
        """Return every series that it exposes now."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        found: Exposed = {}
        for line in text.splitlines():
            if line.startswith("node_"):
                match = SERIES.fullmatch(line)
                assert match, line
                found[match[1], tuple(sorted(re.findall(r'([a-z]+)="(.*?)"', match[2] or "")))] = float(
                    match[3]
                )
        return found
