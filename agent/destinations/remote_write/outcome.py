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
from agent.destinations.remote_write import too_large
from agent.destinations.remote_write.too_old import advice, age
from agent.http.answer import date, in_brackets, is_temporary, is_web_page, redirected, retry_after, words

_OWN = (Verdict.DELIVERED, Verdict.REJECTED)
"""What only the receiver itself answers."""

WRITTEN = "x-prometheus-remote-write-samples-written"

REFUSING = frozenset((400, 409, 415, 422))
"""Statuses that can say something about the samples; 413 is about their number."""

_DO = {
    401: "check the user and password, or the credentials",
    402: "the receiver wants to be paid: check the account and its limits",
    403: "check the user and password, or the credentials and their rights",
    404: "check the path of the url, and that the receiver takes remote write",
    405: "check the path of the url, and that the receiver takes remote write",
    407: "a proxy on the way asks for credentials",
    410: "there is no receiver at this url any more: correct the url",
    426: "something on the way asks for another protocol: check the url and the proxies",
    428: "something on the way asks for a condition: check the url and the proxies",
    431: "the headers are too large: shorten headers or the credentials, or raise the receiver's limit",
    451: "something on the way blocks this for legal reasons: ask who runs it",
    511: "a portal on the way wants a login",
}
_ELSE = "no samples were judged: look at the url, and at what is on the way to the receiver"


def classify(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Outcome:
    """Return the outcome of an answer. Header names are in lower case; `now` is Unix time in seconds."""
    found = _verdict(status, headers, body, now)
    at = date(headers.get("date", "")) if found.verdict in _OWN else None
    return found._replace(written=_count(headers.get(WRITTEN)), date=at)


def _verdict(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Outcome:
    if is_web_page(status, headers, body):
        error = f"HTTP {status}: a web page, so something else than the receiver has answered"
        return Outcome(Verdict.HELD, status, error)
    if 200 <= status <= 299:
        return Outcome(Verdict.DELIVERED, status)
    if 300 <= status <= 399:
        return Outcome(Verdict.HELD, status, f"{redirected(status, headers)}: correct the url")
    said = words(body)
    error = f"HTTP {status}" + (f": {said}" if said else "")
    if status == 413 or too_large.says(status, said):
        return Outcome(Verdict.TOO_LARGE, status, error)
    if status in REFUSING:
        old = age(error)
        return Outcome(Verdict.REJECTED, status, error, age=old, advice=advice(error) if old else None)
    if is_temporary(status) and status != 511:
        return Outcome(Verdict.RETRY, status, error, retry_after(headers.get("retry-after"), now))
    return Outcome(Verdict.HELD, status, f"HTTP {status}: {_DO.get(status, _ELSE)}{in_brackets(body)}")


def _count(value: str | None) -> int | None:
    value = (value or "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 12 else None
