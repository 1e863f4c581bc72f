"""A real vmalert next to a VictoriaMetrics, as docs/alerts.md says how to run it.

Every recorded series, and what an alert's state was before a start, is in that VictoriaMetrics.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.server import Server
from tests.support.victoria import VictoriaMetrics

DELAY_S = 2
"""What VictoriaMetrics leaves out because it may not be whole yet, and vmalert waits for; both have 30 s by default."""
LATENCY = f"-search.latencyOffset={DELAY_S}s"
"""The flag of the VictoriaMetrics that belongs to it."""


class VmAlert(Server):
    """A vmalert that evaluates all rules of a folder on `store`, and sends alerts to the Alertmanager at `notify`."""

    name = "vmalert"

    def __init__(self, program: Path, folder: Path, rules: Path, store: VictoriaMetrics, notify: str) -> None:
        super().__init__(program, folder)
        self._rules, self._store, self._notify = rules, store, notify

    def command(self) -> list[str]:
        """Return the command."""
        return [
            str(self.program),
            f"-rule={self._rules}/*.rules.yml",
            f"-datasource.url={self._store.url}",
            f"-remoteRead.url={self._store.url}",
            f"-remoteWrite.url={self._store.url}",
            f"-notifier.url={self._notify}",
            f"-rule.evalDelay={DELAY_S}s",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-loggerLevel=WARN",
        ]

    def is_ready(self) -> bool:
        """Whether it says so itself."""
        return self.get("/health") == b"OK"
