"""The log of accesses: one event for each request, whatever came of it.

Promises: who (user and address), what (method, path, and the expression with its times), the status, the bytes, how long
it took, and the id that the answer has as X-Request-Id. Never a header, so no password and no token; of the parameters only those
of `SHOWN`, cut at LONGEST characters. A refusal is a warning and says why.
"""

from __future__ import annotations

from typing import Any

from agent.serve.exchange import Exchange
from agent.serve.message import Refusal, Request
from agent.system.events import Event

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
    return found | {
        "status": exchange.status,
        "bytes": exchange.sent,
        "seconds": round(exchange.seconds, 4),
        "request": exchange.id,
        "error": exchange.note[:LONGEST] or None,
    }


def _asked(request: Request) -> str:
    """Return the parameters that say what is wanted."""
    try:
        found = request.parameters()
    except Refusal:
        return ""
    return "&".join(f"{name}={value}" for name in SHOWN for value in found.all(name))[:LONGEST]


def log(logger: Any, exchange: Exchange) -> None:
    """Log a request."""
    is_fine = 0 < exchange.status < _REFUSED and not exchange.note
    (logger.info if is_fine else logger.warning)(Event.SERVE_ACCESS, **fields(exchange))
