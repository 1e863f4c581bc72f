"""What an answer over HTTP means, as far as that is the same for every type: pure.

| answer                                            | verdict   |
|---------------------------------------------------|-----------|
| 400 with the words of a port for TLS              | HELD      |
| 2xx                                               | DELIVERED |
| what the type says that it refuses                | its own   |
| no valid status, 5xx, 408, 421, 425, 429          | RETRY     |
| 413, and the words of one (`too_large`)           | TOO_LARGE |
| 2xx with a web page, every other 3xx and 4xx, 511 | HELD      |

Nothing here raises, whatever a receiver sends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from agent.destinations import too_large
from agent.destinations.base import Outcome, Verdict
from agent.http.answer import date, in_brackets, is_temporary, is_web_page, redirected, retry_after, words

Refused = Callable[[int, str, str], Outcome | None]
"""Given a status, the receiver's words and the error to be shown, returns what the type makes of them; None: nothing."""

TLS_PORT = "this port speaks TLS"
_TLS_PORT = re.compile(
    r"HTTP request (?:was sent )?to (?:an )?HTTPS (?:server|port)|plain HTTP to an SSL-enabled", re.IGNORECASE
)
"""What Go's servers, nginx and Apache say with a 400 where plain HTTP comes to a port for TLS."""
_OWN = (Verdict.DELIVERED, Verdict.REJECTED)
"""What only the receiver itself answers."""


_DO = {
    401: "check the user and password, or the credentials",
    402: "the receiver wants to be paid: check the account and its limits",
    403: "check the user and password, or the credentials and their rights",
    407: "a proxy on the way asks for credentials",
    410: "there is no receiver at this url any more: correct the url",
    426: "something on the way asks for another protocol: check the url and the proxies",
    428: "something on the way asks for a condition: check the url and the proxies",
    431: "the headers are too large: shorten headers or the credentials, or raise the receiver's limit",
    451: "something on the way blocks this for legal reasons: ask who runs it",
    511: "a portal on the way wants a login",
}
_ELSE = "no samples were judged: look at the url, and at what is on the way to the receiver"


def verdict(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    now: float,
    refused: Refused,
    do: Mapping[int, str],
    said: Callable[[bytes], str] = words,
) -> Outcome:
    """Return the outcome of an answer. Header names are in lower case; `now` is Unix time in seconds.

    `do` is what an operator can do, by the status; `said` takes a receiver's words from the body.
    """
    heard = date(headers.get("date", ""))
    if status == 400 and (found_tls := _TLS_PORT.search(words(body))):
        error = f"HTTP 400: {TLS_PORT}: begin the url with https:// ({found_tls[0]})"
        return Outcome(Verdict.HELD, status, error)
    if is_web_page(status, headers, body):
        error = f"HTTP {status}: a web page, so something else than the receiver has answered"
        return Outcome(Verdict.HELD, status, error)
    if 200 <= status <= 299:
        return Outcome(Verdict.DELIVERED, status, date=heard)
    if 300 <= status <= 399:
        return Outcome(Verdict.HELD, status, f"{redirected(status, headers)}: correct the url")
    told = said(body)
    error = f"HTTP {status}" + (f": {told}" if told else "")
    if status == 413 or too_large.says(status, told):
        return Outcome(Verdict.TOO_LARGE, status, error)
    if (found := refused(status, told, error)) is not None:
        return found._replace(date=heard) if found.verdict in _OWN else found
    if is_temporary(status) and status != 511:
        return Outcome(Verdict.RETRY, status, error, retry_after(headers.get("retry-after"), now))
    what = do.get(status) or _DO.get(status, _ELSE)
    return Outcome(Verdict.HELD, status, f"HTTP {status}: {what}{in_brackets(told.encode())}")
