"""What an answer means for OTLP over HTTP (opentelemetry.io, "OTLP Specification", OTLP/HTTP response): one table, pure.

| answer                                   | verdict                                                            |
|------------------------------------------|--------------------------------------------------------------------|
| 200, and every other 2xx                 | DELIVERED, once the endpoint is proven to be a receiver (`proof`)  |
| 2xx with `partial_success` that rejected points | REJECTED: the points that are at fault are looked for       |
| 400, 500                                 | REJECTED: "must not be retried"; collectors answer either to data that is at fault |
| 413                                      | TOO_LARGE                                                          |
| 429, 502, 503, 504, with Retry-After     | RETRY; and 408, 421, 425 and the other 5xx, which come from the way |
| 401, 403, 404, everything else           | HELD                                                               |

An error's body is a `google.rpc.Status`, in protobuf or JSON, or plain text. What was acceptable in a request of which a part
was rejected is stored. To send it again is safe: a point with the same attributes and time repeats itself.
"""

from __future__ import annotations

import re

from agent.destinations.base import Age, Outcome, Request, Verdict, failed
from agent.destinations.otlp.protobuf import fields
from agent.destinations.verdict import verdict
from agent.http.answer import Answer, content_type, words
from agent.http.failures import Failure

PROTOBUF = "application/x-protobuf"
_REFUSED = frozenset((400, 500))
_OLD = re.compile(r"out of bounds|too old|too far in the past|out.of.order", re.IGNORECASE)
_DUPLICATE = re.compile(r"duplicate sample for timestamp", re.IGNORECASE)
_ADVICE = "widen the receiver's window for old samples, then replay the quarantine"
_DO = {
    404: "check the url: OTLP over HTTP ends with /v1/metrics, and Prometheus has it below /api/v1/otlp if --web.enable-otlp-receiver is set",
    405: "check the url: OTLP over HTTP ends with /v1/metrics",
    415: "the receiver takes no protobuf here: check the url, and that it is OTLP over HTTP",
}


def classify(request: Request, answer: Answer | Failure, now: float) -> Outcome:
    """Return what an answer, or a failure, means. `now` is Unix time in seconds; the request's note is how many points it has."""
    if isinstance(answer, Failure):
        return failed(request, answer)

    def refused(status: int, said: str, error: str) -> Outcome | None:
        if status not in _REFUSED:
            return None
        return _rejected(status, said, error)

    said = _status if content_type(answer.headers) == PROTOBUF else words
    found = verdict(*answer, now, refused, _DO, said)
    if found.verdict is Verdict.DELIVERED and (partial := _partial(answer)) is not None:
        rejected, why = partial
        error = f"HTTP {found.status}: {rejected} points rejected" + (f": {why}" if why else "")
        # A point of a histogram is several samples, and nobody says whether it is among the rejected.
        written = max(0, request.samples - rejected) if request.note == request.samples else None
        return _rejected(found.status, why, error)._replace(date=found.date, written=written)
    return found


def _rejected(status: int, said: str, error: str) -> Outcome:
    if _DUPLICATE.search(said):
        return Outcome(Verdict.REJECTED, status, error, age=Age.DUPLICATE)
    if _OLD.search(said):
        return Outcome(Verdict.REJECTED, status, error, age=Age.WINDOW, advice=_ADVICE)
    return Outcome(Verdict.REJECTED, status, error)


def _partial(answer: Answer) -> tuple[int, str] | None:
    """Return how many points the receiver rejected, and why; None: none.

    ExportMetricsServiceResponse{1: partial_success{1: rejected_data_points int64, 2: error_message string}}. A count of 0 with a
    message is a warning, and what nobody can read rejects nothing.
    """
    found = fields(answer.body).get(1)
    inner = fields(found) if isinstance(found, bytes) else {}
    rejected, why = inner.get(1), inner.get(2)
    if not isinstance(rejected, int) or not 0 < rejected < 1 << 63:
        return None
    return rejected, words(why) if isinstance(why, bytes) else ""


def _status(body: bytes) -> str:
    """Return the message of a google.rpc.Status: field 2."""
    found = fields(body).get(2)
    return words(found) if isinstance(found, bytes) else words(body)
