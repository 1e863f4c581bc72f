"""The log of accesses: one event for each request, whatever came of it.

Promises: who (user and address), what (method, path, and the expression with its times), the status, the bytes, how long
it took, and the id that the answer has as X-Request-Id. Never a header, so no password and no token; of the parameters only those
of `SHOWN`, cut at LONGEST characters. A refusal is a warning and says why.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from typing import Any

from agent.serve.exchange import Exchange
from agent.serve.message import Refusal, Request
from agent.system.events import Event
from agent.text import human

SHOWN = ("query", "match[]", "time", "start", "end", "step", "metric", "limit", "timeout")
LONGEST = 500
_REFUSED = 400


def fields(exchange: Exchange) -> dict[str, Any]:
    """Return what is logged of a request."""
    request = exchange.request
    found: dict[str, Any] = {"address": exchange.peer.address}
    if exchange.peer.port:
        found["port"] = exchange.peer.port
    found["user"] = exchange.user or None
    if request is not None:
        found |= {"method": request.method, "path": request.path[:LONGEST]}
        found["query"] = _asked(request) or None
    found |= {
        "status": exchange.status,
        "bytes": exchange.sent,
        "seconds": round(exchange.seconds, 4),
        "request": exchange.id,
        "error": exchange.note[:LONGEST] or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _asked(request: Request) -> str:
    """Return the parameters that say what is wanted."""
    try:
        found = request.parameters()
    except Refusal:
        return ""
    return "&".join(f"{name}={value}" for name in SHOWN for value in found.all(name))[:LONGEST]


class AccessLog:
    """Logs requests: to a logger, and to a file as JSON, one line each, where there is one.

    The file is rotated when it reaches `size` bytes; `path.1` to `path.N` are the older ones. If it cannot be written,
    that is logged, once until it can be again.
    """

    def __init__(self, logger: Any, path: str | None = None, size: int = 0, number: int = 0) -> None:
        self._log = logger
        self._file = _File(path, size, number) if path is not None else None
        self._is_broken = False

    def note(self, exchange: Exchange) -> None:
        """Log a request."""
        found = fields(exchange)
        is_fine = 0 < exchange.status < _REFUSED and not exchange.note
        (self._log.info if is_fine else self._log.warning)(Event.SERVE_ACCESS, **found)
        if self._file is not None:
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            error = self._file.put(json.dumps({"time": at, **found}, separators=(",", ":")))
            if error is not None and not self._is_broken:
                self._log.error(Event.SERVE_LOG_FAILED, file=self._file.path, error=error)
            self._is_broken = error is not None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _private(path: str, flags: int) -> int:
    """Open a file that strangers cannot read."""
    return os.open(path, flags, 0o640)


class _File(RotatingFileHandler):
    """The rotated file, of which an error is a value."""

    def __init__(self, path: str, size: int, number: int) -> None:
        super().__init__(path, maxBytes=size, backupCount=number, encoding="utf-8", delay=True)
        self.path, self._error = path, ""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding="utf-8", opener=_private)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  as logging calls it
        """Keep the error that is being handled."""
        error = sys.exc_info()[1]
        self._error = human.reason(error) if isinstance(error, OSError) else str(error)
        with suppress(OSError):
            self.close()  # so that the next line opens it again

    def put(self, line: str) -> str | None:
        """Write a line; return what was wrong."""
        self._error = ""
        self.handle(logging.LogRecord("access", logging.INFO, "", 0, line, None, None))
        return self._error or None
