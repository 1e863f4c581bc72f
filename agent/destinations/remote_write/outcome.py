"""What an answer, or the lack of one, means for a batch: pure functions, one table.

| answer                                            | verdict   | the batch                               |
|---------------------------------------------------|-----------|-----------------------------------------|
| 2xx                                               | DELIVERED | is settled                              |
| no connection, timeout, 5xx, 408, 425, 429        | RETRY     | is sent again, for ever                 |
| 2xx with a web page: a portal on the way, say     | RETRY     | is sent again, for ever                 |
| 401, 403, 404, 407, 3xx, a TLS handshake refused  | HELD      | waits until an operator has fixed it    |
| 413                                               | TOO_LARGE | is sent in smaller ones                 |
| 400, 409, 415, 422, other 4xx                     | REJECTED  | is bisected: culprits to the quarantine |
| what shows that 2.0 was not understood            | FALL_BACK | is sent again as 1.0 (`protocol`)       |

What is no valid status (below 200, above 599) is a proxy's nonsense: RETRY. Nothing here raises, whatever a
receiver sends. An error's text is for the log and the status: it holds the receiver's words, cut and without
control characters, and no secrets; of a URL it has no user and no query.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from agent.http.answer import date, in_brackets, is_temporary, is_web_page, redirected, retry_after, words
from agent.http.failures import Failure


class Verdict(Enum):
    """What becomes of a batch."""

    DELIVERED = "delivered"
    RETRY = "retry"
    HELD = "held"
    TOO_LARGE = "too large"
    REJECTED = "rejected"
    FALL_BACK = "fall back"


class Outcome(NamedTuple):
    """A verdict; the HTTP status (0: there was no answer), what was wrong, and the wait asked for (s).

    `written` is how many samples the receiver says that it stored; None where it says nothing. `date` is the time
    (Unix seconds) at which it says that it is; None where it says nothing, and in the answers that may be somebody
    else's: only the receiver takes samples, or finds fault with them.
    """

    verdict: Verdict
    status: int = 0
    error: str | None = None
    after: float | None = None
    written: int | None = None
    date: float | None = None


_OWN = (Verdict.DELIVERED, Verdict.REJECTED)
"""What only the receiver itself answers."""

WRITTEN = "x-prometheus-remote-write-samples-written"

_HELD = frozenset((401, 403, 404, 407))

_DO = {
    401: "check the user and password, or the credentials",
    403: "check the user and password, or the credentials and their rights",
    404: "check the path of the url, and that the receiver takes remote write",
    407: "a proxy on the way asks for credentials",
}


def classify(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Outcome:
    """Return the outcome of an answer. Header names are in lower case; `now` is Unix time in seconds."""
    found = _verdict(status, headers, body, now)
    time = date(headers.get("date", "")) if found.verdict in _OWN else None
    return found._replace(written=_count(headers.get(WRITTEN)), date=time)


def _verdict(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Outcome:
    if 200 <= status <= 299:
        if is_web_page(status, headers, body):
            text = f"HTTP {status}: a web page, so something else than the receiver has answered"
            return Outcome(Verdict.RETRY, status, text)
        return Outcome(Verdict.DELIVERED, status)
    if 300 <= status <= 399:
        return Outcome(Verdict.HELD, status, f"{redirected(status, headers)}: correct the url")
    error = f"HTTP {status}"
    if status in _HELD:
        return Outcome(Verdict.HELD, status, f"{error}: {_DO[status]}{in_brackets(body)}")
    said = words(body)
    error += f": {said}" if said else ""
    if status == 413:
        return Outcome(Verdict.TOO_LARGE, status, error)
    if is_temporary(status):
        return Outcome(Verdict.RETRY, status, error, retry_after(headers.get("retry-after"), now))
    return Outcome(Verdict.REJECTED, status, error)


def _count(value: str | None) -> int | None:
    value = (value or "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 12 else None


def of_failure(failure: Failure) -> Outcome:
    """Return the outcome of a request that got no answer: nothing that happens on the way settles a batch."""
    verdict = Verdict.HELD if failure.holds else Verdict.RETRY
    return Outcome(verdict, failure.status, failure.text, failure.after)
