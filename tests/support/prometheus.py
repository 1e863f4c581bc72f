"""A real Prometheus as a context manager: started, stopped, killed and asked by the tests and by `make run`.

It runs with the configuration that ships in config/prometheus, on a loopback port and a data folder that stay
the same over every restart, plain or with TLS and a password by its own web configuration file. What it says
goes to a file; a start that fails shows the end of it. It ends with the process that started it, even when
that is killed (util-linux's setpriv asks the kernel for it).
"""

from __future__ import annotations

import base64
import json
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

import bcrypt
import yaml

from tests.support.certs import Certs
from tests.support.net import free_port, wait_for
from tests.support.wire import Labels

CONFIG = Path(__file__).resolve().parents[2] / "config" / "prometheus" / "prometheus.yml"
START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 30.0

Samples = dict[Labels, list[tuple[int, float]]]


class Login(NamedTuple):
    """A user's name and password."""

    user: str
    password: str


class PrometheusError(RuntimeError):
    """Prometheus did not start or stop, or refused a question; the message holds what it said."""


def tied(command: list[str]) -> list[str]:
    """Return the command so that it gets SIGTERM when its parent ends, however that ends."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", *command] if setpriv else command


class Prometheus:
    """A Prometheus below `folder`, at `url`. With `certs` it speaks TLS; with `login` it asks for a password.

    `client_cert` makes it ask for a certificate of the same authority. `web_config` stands in for the web
    configuration that is written otherwise. `flags` are added to the command.
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        config: Path = CONFIG,
        certs: Certs | None = None,
        login: Login | None = None,
        client_cert: bool = False,
        web_config: Path | None = None,
        flags: tuple[str, ...] = (),
        port: int | None = None,
    ) -> None:
        self.program, self.folder, self.config, self.certs, self.login = program, folder, config, certs, login
        self.log = folder / "prometheus.log"
        self._web_config = web_config
        self._flags = flags
        self._client_cert = client_cert
        self._fixed_port = port is not None
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._tls: ssl.SSLContext | None = None
        if certs is not None:
            self._tls = ssl.create_default_context(cafile=str(certs.ca))
            self._tls.load_cert_chain(certs.client_cert, certs.client_key)

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"{'https' if self.certs else 'http'}://127.0.0.1:{self.port}"

    @property
    def write_url(self) -> str:
        """Where to push."""
        return f"{self.url}/api/v1/write"

    @property
    def pid(self) -> int | None:
        """Its process, None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it and return when it is ready. Raises PrometheusError when it is not within 30 s."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempts_left in (4, 3, 2, 1, 0):
            try:
                self._start()
                break
            except PrometheusError as error:
                self.kill()
                # Between choosing a port and using it, somebody else may have taken it.
                if self._fixed_port or not attempts_left or "address already in use" not in str(error):
                    raise
                self.port = free_port()
        self._fixed_port = True

    def _start(self) -> None:
        command = [
            str(self.program),
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            "--storage.tsdb.retention.time=60d",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--web.config.file={self._web_config or self._write_web_config()}",
            "--web.enable-remote-write-receiver",
            *self._flags,
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                tied(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_for(self._ready, START_DEADLINE_S, "Prometheus to be ready")
        except AssertionError as error:
            raise PrometheusError(f"{error}\n{self.tail()}") from None

    def _ready(self) -> bool:
        if self.pid is None:
            raise PrometheusError(f"Prometheus ended at its start:\n{self.tail()}")
        try:
            self._get("/-/ready", {})
        except (OSError, PrometheusError):
            return False
        return True

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
            salt = bcrypt.gensalt(rounds=4)  # checked at every request: as cheap as it can be
            hashed = bcrypt.hashpw(self.login.password.encode(), salt).decode()
            web["basic_auth_users"] = {self.login.user: hashed}
        path = self.folder / "web.yml"
        path.write_text(yaml.safe_dump(web))
        return path.resolve()

    def stop(self) -> None:
        """End it in good order (SIGTERM). Raises PrometheusError when it takes more than 30 s."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise PrometheusError(f"Prometheus did not stop:\n{self.tail()}") from None
        finally:
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if kind is not None:
            print(f"The end of {self.log}:\n{self.tail()}", file=sys.stderr)

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of what it said."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

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
            for line in self._get("/metrics", {}).decode().splitlines()
            if line.startswith((f"{metric} ", f"{metric}{{"))
        )

    def _api(self, what: str, parameters: dict[str, str]) -> Any:
        answer = json.loads(self._get(f"/api/v1/{what}", parameters))
        return answer["data"]

    def _get(self, path: str, parameters: dict[str, str]) -> bytes:
        query = f"?{urlencode(parameters)}" if parameters else ""
        request = urllib.request.Request(self.url + path + query)
        if self.login:
            token = base64.b64encode(f"{self.login.user}:{self.login.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._tls) as answer:
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")
            raise PrometheusError(f"{path}: HTTP {error.code}: {said}") from None


def _labels(metric: dict[str, str]) -> Labels:
    return tuple(sorted(metric.items()))


def _matrix(data: Any) -> Samples:
    return {
        _labels(entry["metric"]): [(round(at * 1000), float(value)) for at, value in entry["values"]]
        for entry in data["result"]
    }
