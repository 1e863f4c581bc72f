"""A real VictoriaMetrics as a context manager: started, stopped, killed and asked by the tests.

It shows new samples only a moment later, so every query here first makes it show everything.
It keeps what was sent twice as two samples: `raw_samples` shows a batch that was repeated. It keeps values as decimal
numbers of about 15 digits, with one exponent for many samples of a series, so they come back rounded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.server import Samples, Server


class VictoriaMetrics(Server):
    """A VictoriaMetrics below `folder`, at `url`. With `certs` it speaks TLS; with `login` it asks for a password.
    `flags` are added to the command.

    Debian's build asks for no client certificates (`-mtls` is of another edition): put an `Nginx` before it.
    """

    name = "VictoriaMetrics"

    def __init__(self, program: Path, folder: Path, *, flags: tuple[str, ...] = (), **how: Any) -> None:
        super().__init__(program, folder, **how)
        self._flags = flags

    def command(self) -> list[str]:
        """Return the command."""
        command = [
            str(self.program),
            f"-storageDataPath={self.folder / 'data'}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-retentionPeriod=100y",
            "-futureRetention=1y",
            "-memory.allowedBytes=128MiB",
            "-loggerLevel=WARN",
            *self._flags,
        ]
        if self.certs:
            command += [
                "-tls",
                f"-tlsCertFile={self.certs.server_cert}",
                f"-tlsKeyFile={self.certs.server_key}",
            ]
        if self.login:
            password = self.folder / "password"
            password.write_text(self.login.password)
            command += [f"-httpAuth.username={self.login.user}", f"-httpAuth.password=file://{password}"]
        return command

    def is_ready(self) -> bool:
        """Whether it says so itself."""
        return self.get("/health") == b"OK"

    def raw_samples(self, match: str, start_ms: int, end_ms: int) -> Samples:
        """Return every stored sample of a selector with `start_ms <= timestamp <= end_ms`, as (ms, value).

        Without the markers of series that ended, as with Prometheus: it exports them as null.
        """
        self.get("/internal/force_flush")
        parameters = {
            "match[]": match,
            "start": f"{start_ms / 1000:.3f}",
            "end": f"{end_ms / 1000:.3f}",
            "reduce_mem_usage": "1",  # as it is stored: a sample that came twice is there twice
        }
        found = Samples()
        for line in self.get("/api/v1/export", parameters).splitlines():
            series = json.loads(line)
            samples = zip(series["timestamps"], series["values"], strict=True)
            found.setdefault(tuple(sorted(series["metric"].items())), []).extend(
                (at, float(value)) for at, value in samples if value is not None
            )
        return {labels: sorted(samples) for labels, samples in found.items()}
