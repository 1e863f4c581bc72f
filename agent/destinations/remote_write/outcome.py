"""What an answer means for a request of remote write: one table, pure.

| answer                                            | verdict   | the samples                             |
|---------------------------------------------------|-----------|-----------------------------------------|
| 2xx                                               | DELIVERED | are settled, once the endpoint is proven to be a receiver (`proof`) |
| no connection, timeout, 5xx, 408, 421, 425, 429   | RETRY     | are sent again, without end             |
| 400, 409, 415, 422                                | REJECTED  | are bisected, if the receiver has judged them; held otherwise |
| 413, and 400 with the words of one (`too_large`)  | TOO_LARGE | are sent in smaller requests            |
| 2xx with a web page, every other 3xx and 4xx, 511, a TLS handshake refused | HELD | wait until somebody has corrected it |
| what shows that 2.0 was not understood            | REWRITE   | are sent again as 1.0 (`protocol`)      |

Held is the rule, and refused is the exception: only four statuses say that something is wrong with the samples, and a
delivery believes them only after an empty write was taken (`agent.send.delivery`). What is no valid status (below 200, above
599) is a proxy's nonsense: RETRY. Nothing here raises, whatever a receiver sends.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.destinations.base import Outcome, Verdict
from agent.destinations.remote_write.too_old import advice, age
from agent.destinations.verdict import verdict

WRITTEN = "x-prometheus-remote-write-samples-written"

REFUSING = frozenset((400, 409, 415, 422))
"""Statuses that can say something about the samples; 413 is about their number."""

_DO = {
    404: "check the path of the url, and that the receiver takes remote write",
    405: "check the path of the url: nothing is written there (Prometheus: /api/v1/write)",
}


def classify(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Outcome:
    """Return the outcome of an answer. Header names are in lower case; `now` is Unix time in seconds."""
    found = verdict(status, headers, body, now, _refused, _DO)
    return found._replace(written=_count(headers.get(WRITTEN)))


def _refused(status: int, said: str, error: str) -> Outcome | None:
    if status not in REFUSING:
        return None
    old = age(error)
    return Outcome(Verdict.REJECTED, status, error, age=old, advice=advice(error) if old else None)


def _count(value: str | None) -> int | None:
    value = (value or "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 12 else None
