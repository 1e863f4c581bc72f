"""What an answer means for line protocol: one table, pure.

| answer                                           | verdict   | source                                             |
|--------------------------------------------------|-----------|----------------------------------------------------|
| 204, and every other 2xx                         | DELIVERED | once the endpoint is proven to be a receiver (`proof`) |
| 400 "partial write: .. dropped=N"                | REJECTED  | 1.x, tsdb.PartialWriteError                        |
| 400 "unable to parse '<line>'"                   | REJECTED  | 1.x and 2.x, models.ParsePoints                    |
| 400, 422 with JSON: "code", "message"            | REJECTED  | 2.x, "Troubleshoot issues writing data"            |
| 500 "partial write", "field type conflict"       | REJECTED  | 2.0 to 2.2, http/write_handler.go                  |
| 400 "partial write of line protocol occurred", with a list of lines | REJECTED | 3.x, write_lp with accept_partial  |
| "points beyond (outside) retention policy"       | REJECTED, for their age | 1.x, 2.x                             |
| "database (retention policy, bucket, organization) not found", "database is required" | HELD | 1.x: 400, 404, 500; 2.x: 404 |
| "hinted handoff queue not empty"                 | DELIVERED | 1.x Enterprise, which has kept it; as Telegraf reads it |
| 413                                              | TOO_LARGE | `max-body-size`                                    |
| 429, 503 with Retry-After, every other 5xx       | RETRY     | 2.x; 1.x: timeouts, a full cache                   |
| 401, 403, everything else                        | HELD      |                                                    |

A server repeats the line that it cannot read, so what is in a label must not pass for the server's words: those that settle or hold
all samples are recognized at the beginning alone.

What was acceptable in a request that was refused in part is stored. To send it again is safe: a point with the same
series, field and time overwrites itself.
"""

from __future__ import annotations

import json
import re
from typing import Any

from agent.destinations.base import Age, Outcome, Request, Verdict, failed
from agent.destinations.verdict import verdict
from agent.http.answer import Answer, words
from agent.http.failures import Failure

_MISSING = re.compile(
    r"(?:database|retention policy|bucket|org(?:anization)?|table)\b[^:]{0,200}\bnot found"
    r"|(?:database|bucket|org|organization) is required|provide either orgid or org",
    re.IGNORECASE,
)
_TAKEN = re.compile(r"(?:[\w ]{1,40}: )?hinted handoff queue not empty\.?", re.IGNORECASE)
_JUDGED = re.compile(r"partial write|field type conflict|already exists as type", re.IGNORECASE)
_OLD = re.compile(r"(?:beyond|outside) (?:of )?(?:the )?retention policy", re.IGNORECASE)
_DROPPED = re.compile(r"\bdropped=([0-9]{1,9})")
_ADVICE = "lengthen the retention of the database, retention policy or bucket, then replay the quarantine"
_DO = {
    401: "check basic_auth (v1), or authorization with type Token (v2, v3)",
    403: "check the rights of the user or token to write to this db or bucket",
    404: "check url, api, db, rp, org and bucket",
    405: "check url and api",
}
_PLACE = "check db, rp, org and bucket, or make there what is missing"
NOTHING = "writing requires points"
"""What 2.x answers to a write without points that it has understood."""


def classify(request: Request, answer: Answer | Failure, now: float) -> Outcome:
    """Return what an answer, or a failure, means. `now` is Unix time in seconds. The request's note counts its lines."""
    if isinstance(answer, Failure):
        return failed(request, answer)

    def refused(status: int, said: str, error: str) -> Outcome | None:
        if _TAKEN.fullmatch(said):
            return Outcome(Verdict.DELIVERED, status)
        if status >= 400 and _MISSING.match(said):
            return Outcome(Verdict.HELD, status, f"{error}: {_PLACE}")
        error = _DROPPED.sub(
            "", error
        ).rstrip()  # the number is another one each time, and the refusal the same
        if status not in (400, 422) and not (status == 500 and _JUDGED.search(said)):
            return None
        if not request.samples and NOTHING in said:
            return Outcome(Verdict.DELIVERED, status)
        if not _OLD.search(said):
            return Outcome(Verdict.REJECTED, status, error)
        written = None
        if request.note == request.samples and (dropped := _DROPPED.search(said)):
            written = max(0, request.samples - int(dropped[1]))
        return Outcome(Verdict.REJECTED, status, error, written=written, age=Age.WINDOW, advice=_ADVICE)

    return verdict(*answer, now, refused, _DO, _said)


def _said(body: bytes) -> str:
    """Return a server's words: its JSON has them as `error` or `message`, and 3.x for the first line that it refused."""
    try:
        found: Any = json.loads(body)
        said = str(found.get("error") or found["message"])
        if isinstance(lines := found.get("data"), list) and lines:
            said = f"{said}: {lines[0]['error_message']}"
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
        return words(body)
    return words(said.encode(errors="replace"))
