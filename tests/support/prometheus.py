"""A real Prometheus as a context manager: started, stopped, killed and asked by the tests and by `make run`.

It runs with the configuration that ships in config/prometheus. The rules are left out unless a test wants them, since
what they record would be among the samples. The data folder stays the same over every restart. Prometheus itself does
TLS and checks the password, as its web configuration file says.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from buffer.model import Labels
from tests.support.server import Login, Samples, Server

if TYPE_CHECKING:
    from tests.support.certs import Certs

CONFIG = Path(__file__).resolve().parents[2] / "config" / "prometheus" / "prometheus.yml"


class Prometheus(Server):
    """A Prometheus below `folder`, at `url`. With `certs` it speaks TLS; with `login` it asks for a password.

    `config` is the shipped one without its rules where none is given; with CONFIG they run.
    `client_cert` makes it ask for a certificate of the same authority. `web_config` replaces the web
    configuration that is written otherwise. `flags` are added to the command.
    """

    name = "Prometheus"

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        config: Path | None = None,
        certs: Certs | None = None,
        login: Login | None = None,
        client_cert: bool = False,
        web_config: Path | None = None,
        flags: tuple[str, ...] = (),
        port: int | None = None,
    ) -> None:
        super().__init__(program, folder, certs=certs, login=login, port=port)
        self.config = config
        self._web_config, self._flags, self._client_cert = web_config, flags, client_cert

    def command(self) -> list[str]:
        """Return the command, with the configurations just written that are not handed in."""
        return [
            str(self.program),
            f"--config.file={self.config or self._write_config()}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            "--storage.tsdb.retention.time=60d",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--web.config.file={self._web_config or self._write_web_config()}",
            "--web.enable-remote-write-receiver",
            *self._flags,
        ]

    def is_ready(self) -> bool:
        """Whether it says so itself."""
        self.get("/-/ready")
        return True

    def _write_config(self) -> Path:
        """The one that ships, without its rules: they make series of their own of what a test has sent."""
        settings = yaml.safe_load(CONFIG.read_text())
        del settings["rule_files"]
        path = self.folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(settings))
        return path.resolve()

    def _write_web_config(self) -> Path:
        web: dict[str, Any] = {}
        if self.certs:
            web["tls_server_config"] = {
                "cert_file": str(self.certs.server_cert),
                "key_file": str(self.certs.server_key),
            }
            if self._client_cert:
                web["tls_server_config"] |= {
                    "client_ca_file": str(self.certs.ca),
                    "client_auth_type": "RequireAndVerifyClientCert",
                }
        if self.login:
            import bcrypt  # `make run` needs no password, and has it not

            salt = bcrypt.gensalt(rounds=4)  # checked at every request: as cheap as it can be
            hashed = bcrypt.hashpw(self.login.password.encode(), salt).decode()
            web["basic_auth_users"] = {self.login.user: hashed}
        path = self.folder / "web.yml"
        path.write_text(yaml.safe_dump(web))
        return path.resolve()

    def query(self, expr: str, at: float | None = None) -> dict[Labels, float]:
        """Return the value of each series of an instant query, at a Unix time in seconds (default: now)."""
        data = self._api("query", {"query": expr} | ({} if at is None else {"time": f"{at:.3f}"}))
        if data["resultType"] == "scalar":
            return {(): float(data["result"][1])}
        return {_labels(entry["metric"]): float(entry["value"][1]) for entry in data["result"]}

    def query_range(self, expr: str, start: float, end: float, step: float) -> Samples:
        """Return the values of each series from `start` to `end` (Unix seconds), every `step` seconds."""
        parameters = {"query": expr, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        return _matrix(self._api("query_range", parameters))

    def series(self, match: str) -> list[dict[str, str]]:
        """Return the labels of each series of the last 30 days that the selector matches."""
        now = time.time()
        found: list[dict[str, str]] = self._api(
            "series", {"match[]": match, "start": f"{now - 30 * 86400:.0f}", "end": f"{now + 3600:.0f}"}
        )
        return found

    def raw_samples(self, match: str, start_ms: int, end_ms: int) -> Samples:
        """Return every stored sample of a selector with `start_ms <= timestamp <= end_ms`, as (ms, value)."""
        # Whether a range takes in its left end differs with the version: it starts a bit earlier here.
        query = f"{match}[{end_ms - start_ms + 1}ms] @ {end_ms / 1000:.3f}"
        found = _matrix(self._api("query", {"query": query}))
        kept = {labels: [s for s in samples if s[0] >= start_ms] for labels, samples in found.items()}
        return {labels: samples for labels, samples in kept.items() if samples}

    def own(self, metric: str) -> float:
        """Return the sum of a counter that Prometheus has of itself; 0 while it has not counted yet."""
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in self.get("/metrics").decode().splitlines()
            if line.startswith((f"{metric} ", f"{metric}{{"))
        )

    def _api(self, what: str, parameters: dict[str, str]) -> Any:
        answer = json.loads(self.get(f"/api/v1/{what}", parameters))
        return answer["data"]


def _labels(metric: dict[str, str]) -> Labels:
    return tuple(sorted(metric.items()))


def _matrix(data: Any) -> Samples:
    return {
        _labels(entry["metric"]): [(round(at * 1000), float(value)) for at, value in entry["values"]]
        for entry in data["result"]
    }
