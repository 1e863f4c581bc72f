"""`limpet serve` as a process, and its answers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick
from tests.support.limpet import LIMPET
from tests.support.net import wait_for
from tests.support.server import Server


class Answered(NamedTuple):
    """An answer: its status, its headers by lower-case name, its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Serving(Server):
    """`limpet serve` on a buffer; `settings` is YAML below `serve:`."""

    name = "serve"
    taken = "nothing can listen there"

    def __init__(self, folder: Path, data_dir: Path, settings: str = "", **options: Any) -> None:
        super().__init__(Path(LIMPET), folder, **options)
        self.data_dir, self.settings = data_dir, settings
        self._source: tuple[str, int] | None = None

    def at(self, source: str) -> Self:
        """Return the same server for a client with another address."""
        other = copy(self)
        other._source = source, 0
        return other

    def command(self) -> list[str]:
        """Return the command, with its configuration just written."""
        config = self.folder / "limpet.yaml"
        config.write_text(
            f"data_dir: {self.data_dir}\nlog: {{format: json}}\n"
            f"serve: {{listen: '127.0.0.1:{self.port}'{', ' + self.settings if self.settings else ''}}}\n"
        )
        return [str(self.program), "serve", "--config", str(config)]

    def is_ready(self) -> bool:
        """Whether it says so itself."""
        return self.ask("/-/healthy").status == 200

    def ask(
        self,
        path: str,
        parameters: Mapping[str, object] | Sequence[tuple[str, object]] | None = None,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Answered:
        """Return the answer to a request, whatever its status; the parameters of a POST are a form."""
        encoded = urlencode(parameters or {})
        sent = dict(headers or {})
        connection = self.connection(timeout)
        try:
            if method == "POST":
                sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
                connection.request(method, path, encoded, sent)
            else:
                connection.request(method, f"{path}?{encoded}" if encoded else path, headers=sent)
            found = connection.getresponse()
            names = {name.lower(): value for name, value in found.getheaders()}
            return Answered(found.status, names, found.read())
        finally:
            connection.close()

    def connection(self, timeout: float = 60.0) -> http.client.HTTPConnection:
        """Return a connection of its own."""
        where: Any = {
            "host": "127.0.0.1",
            "port": self.port,
            "timeout": timeout,
            "source_address": self._source,
        }
        if self._tls is not None:
            return http.client.HTTPSConnection(**where, context=self._tls)
        return http.client.HTTPConnection(**where)

    def accesses(self) -> list[dict[str, Any]]:
        """Return what the log has of requests so far."""
        lines = self.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [one for one in found if one["event"] == "serve.access"]

    def access(self, id_: str) -> dict[str, Any]:
        """Return what the log has of the request with this id, and that it has it once. It is logged when the answer is out."""

        def found() -> list[dict[str, Any]]:
            return [one for one in self.accesses() if one["request"] == id_]

        (one,) = wait_for(found, 10, f"request {id_} in the log")
        return one


def fill(data_dir: Path, series: Sequence[tuple[Series, Sequence[tuple[int, float]]]]) -> None:
    """Make a buffer with these samples, by series: UTC milliseconds and values."""
    with closing(Buffer(str(data_dir), Limits(), ())) as buffer:
        for ticks in _ticks(series):
            buffer.append(ticks)


def _ticks(series: Sequence[tuple[Series, Sequence[tuple[int, float]]]]) -> Iterator[list[Tick]]:
    """Yield a tick for each time, with the series that have a value then, oldest first."""
    at: dict[int, list[tuple[Series, float]]] = {}
    for one, pairs in series:
        for ms, value in pairs:
            at.setdefault(ms, []).append((one, value))
    known: dict[tuple[Series, ...], tuple[Series, ...]] = {}
    for ms in sorted(at):
        group = tuple(one for one, _ in at[ms])
        group = known.setdefault(group, group)
        yield [Tick(Instant(ms, ms, "0" * 32), "test", group, tuple(value for _, value in at[ms]))]
