"""A strict receiver with the write APIs of InfluxDB 2.x and 3.x, as their documentation describes them.

It is used by tests/fault/test_influxdb_api.py alone: there are no packages of these servers. References:

- 2.x: "Troubleshoot issues writing data" of InfluxDB OSS v2 (404 for what is missing, 400 for the first malformed line, 422
  where some of the data was rejected and the rest is stored); http/write_handler.go and http/points of influxdata/influxdb at
  v2 for the words, among them "writing requires points" for a body without bytes.
- 3.x: "Use the v3 write_lp API to write data" of InfluxDB 3 Core: `precision`, `accept_partial`, and the body of a partial write
  with `original_line`, `line_number` and `error_message`.

A measurement of `integers` has an integer field already, and what is older than `oldest_ms` is beyond the retention.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from tests.support.line_protocol import LineError, Point, lines, parse
from tests.support.tcp import Handler, WebServer

Api = Literal["v2", "v3"]
Answer = tuple[int, Mapping[str, Any] | None]
WANTED: Mapping[Api, tuple[str, Mapping[str, str]]] = {
    "v2": ("/api/v2/write", {"org": "edge", "bucket": "limpet", "precision": "ms"}),
    "v3": (
        "/api/v3/write_lp",
        {"db": "limpet", "precision": "millisecond", "accept_partial": "true"},
    ),
}


class InfluxApi(WebServer):
    """A context manager; `url` is the server's. `stored` has the values by measurement, tags, field, and time (ms)."""

    def __init__(self, api: Api, token: str, integers: frozenset[str], oldest_ms: int) -> None:
        super().__init__()
        self.api, self.token, self.integers, self.oldest_ms = api, token, integers, oldest_ms
        self.has_bucket = True
        self.statuses: list[int] = []
        self.stored: dict[tuple[str, tuple[tuple[str, str], ...], str], dict[int, float]] = {}

    def take(self, handler: Handler) -> None:
        """Answer a request."""
        headers = handler.lowered()
        body = handler.rfile.read(int(headers["content-length"]))
        status, said = self._answer(handler, headers, body)
        self.statuses.append(status)
        text = json.dumps(said).encode() if said is not None else b""
        handler.send_response(status)
        if status != 204:
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        if status != 204:
            handler.wfile.write(text)

    def _answer(self, handler: Handler, headers: Mapping[str, str], body: bytes) -> Answer:
        path, wanted = WANTED[self.api]
        url = urlsplit(handler.path)
        if handler.command != "POST" or url.path != path:
            return 404, {"code": "not found", "message": "path not found"}
        word = "Token" if self.api == "v2" else "Bearer"
        if headers.get("authorization") != f"{word} {self.token}":
            return 401, {"code": "unauthorized", "message": "unauthorized access"}
        if dict(parse_qsl(url.query)) != wanted:
            return 400, {"code": "invalid", "message": f"wrong parameters: {url.query}"}
        if not self.has_bucket:
            return 404, {"code": "not found", "message": 'bucket "limpet" not found'}
        if headers.get("content-encoding") != "gzip":
            return 400, {"code": "invalid", "message": "this test wants gzip"}
        try:
            text = gzip.decompress(body).decode()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError):
            return 400, {"code": "invalid", "message": "gzipped HTTP body contains an invalid header"}
        return self._v2(text) if self.api == "v2" else self._v3(text)

    def _v2(self, text: str) -> Answer:
        if not text:
            return 400, {"code": "invalid", "message": "writing requires points"}
        try:
            points = [parse(line) for line in lines(text)]
        except LineError as error:
            return 400, {"code": "invalid", "message": str(error)}
        why = [error for error in map(self._write, points) if error]
        if not why:
            return 204, None
        message = f"failure writing points to database: partial write: {why[0]} dropped={len(why)}"
        return 422, {"code": "unprocessable entity", "message": message}

    def _v3(self, text: str) -> Answer:
        found = lines(text)
        if not found:
            return 400, {"error": "incoming write was empty"}
        wrong = []
        for number, line in enumerate(found, 1):
            try:
                error = self._write(parse(line))
            except LineError as malformed:
                error = str(malformed)
            if error:
                wrong.append({"original_line": line, "line_number": number, "error_message": error})
        if not wrong:
            return 204, None
        return 400, {"error": "partial write of line protocol occurred", "data": wrong}

    def _write(self, point: Point) -> str | None:
        """Store a point, or return why not."""
        if point.measurement in self.integers:
            conflict = "is type float, already exists as type integer"
            return f'field type conflict: input field "value" on measurement "{point.measurement}" {conflict}'
        if point.ms < self.oldest_ms:
            return "points beyond retention policy"
        for field, value in point.fields:
            self.stored.setdefault((point.measurement, point.tags, field), {})[point.ms] = value
        return None
