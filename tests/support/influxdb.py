"""A real InfluxDB 1.x as a context manager: started, stopped, killed and asked by the tests.

With `login` it asks for that user's name and password, who may do everything.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any
from urllib.parse import urlencode

from buffer.model import Labels
from tests.support.server import Samples, Server

_CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  index-version = "tsi1"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
  auth-enabled = {auth}
  https-enabled = {tls}
  https-certificate = "{cert}"
  https-private-key = "{key}"
[continuous_queries]
  log-enabled = false
  run-interval = "1s"
"""


class InfluxDB(Server):
    """An InfluxDB below `folder`, at `url`, with an empty database `limpet`."""

    name = "InfluxDB"

    def command(self) -> list[str]:
        """Return the command, with the configuration just written."""
        path = self.folder / "influxdb.conf"
        text = _CONFIG.format(
            folder=self.folder / "influx",
            port=self.port,
            auth=str(self.login is not None).lower(),
            tls=str(self.certs is not None).lower(),
            cert=self.certs.server_cert if self.certs else "",
            key=self.certs.server_key if self.certs else "",
        )
        path.write_text(text)
        return [str(self.program), "run", "-config", str(path)]

    def is_ready(self) -> bool:
        """Whether it answers, and has the database."""
        self.get("/ping")
        if self.login:
            self.ask(
                f"CREATE USER \"{self.login.user}\" WITH PASSWORD '{self.login.password}' WITH ALL PRIVILEGES"
            )
        self.ask("CREATE DATABASE limpet")
        return True

    def ask(self, query: str, db: str = "limpet") -> list[dict[str, Any]]:
        """Return the series that a query finds, its times as milliseconds and its numbers as floats."""
        form = urlencode({"q": query, "db": db, "epoch": "ms"}).encode()
        request = urllib.request.Request(f"{self.url}/query", form)
        if self.login:
            token = base64.b64encode(f"{self.login.user}:{self.login.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:
            found = json.loads(answer.read(), parse_int=_number)  # it writes -0.0 as -0
        [result] = found["results"]
        assert "error" not in result, result
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def post(self, lines: str, db: str = "limpet") -> None:
        """Write line protocol, its times as milliseconds."""
        url = f"{self.url}/write?db={db}&precision=ms"
        urllib.request.urlopen(url, lines.encode(), timeout=10, context=self._tls).close()

    def samples(self, rp: str = "autogen", field: str = "value") -> Samples:
        """Return every stored sample of a field, by its labels, with the measurement as `__name__`."""
        found: Samples = {}
        for series in self.ask(f'SELECT "{field}" FROM "{rp}"./.*/ GROUP BY *'):  # noqa: S608  a test's own names
            tags = [(key, value) for key, value in series["tags"].items() if value]
            labels: Labels = tuple(sorted([*tags, ("__name__", series["name"])]))
            found[labels] = [(int(at), value) for at, value in series["values"]]
        return found


def _number(text: str) -> float:
    return float(text)
