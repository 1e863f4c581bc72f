"""What an answer, or the lack of one, means for a batch: pure functions, one table.

| answer                                            | verdict   | the batch                               |
|---------------------------------------------------|-----------|-----------------------------------------|
| 2xx                                               | DELIVERED | is settled                              |
| no connection, timeout, 5xx, 408, 425, 429        | RETRY     | is sent again, for ever                 |
| 2xx with a web page: a portal on the way, say     | RETRY     | is sent again, for ever                 |
| 401, 403, 404, 407, 3xx, a TLS handshake refused  | HELD      | waits until an operator has mended it   |
| 413                                               | TOO_LARGE | is sent in smaller ones                 |
| 400, 409, 415, 422, other 4xx                     | REJECTED  | is bisected: culprits to the quarantine |
| what shows that 2.0 was not understood            | FALL_BACK | is sent again as 1.0 (`protocol`)       |

What is no valid status (below 200, above 599) is a proxy's nonsense: RETRY. Nothing here raises, whatever a
receiver sends. An error's text is for the log and the status: it holds the receiver's words, cut and without
control characters, and no secrets; of a URL it has no user and no query.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from agent.destinations.remote_write import clocks

WORDS = 200
"""Characters of a receiver's own words that are kept."""


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
_RETRIED = frozenset((408, 425, 429))

_DO = {
    401: "check the user and password, or the credentials",
    403: "check the user and password, or the credentials and their rights",
    404: "check the path of the url, and that the receiver takes remote write",
    407: "a proxy on the way asks for credentials",
}

# OpenSSL's reasons (SSLError.reason) that no repetition will mend. What is not here, a record damaged on
# the way or a connection cut, is retried.
_TLS_REFUSED = (
    "CERTIFICATE",
    "HANDSHAKE_FAILURE",
    "HTTP_REQUEST",
    "NO_PROTOCOLS_AVAILABLE",
    "NO_SHARED_CIPHER",
    "PROTOCOL_VERSION",
    "UNKNOWN_CA",
    "UNRECOGNIZED_NAME",
    "UNSUPPORTED_PROTOCOL",
    "WRONG_SSL_VERSION",
    "WRONG_VERSION_NUMBER",
)


def classify(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Outcome:
    """The outcome of an answer. Header names are in lower case; `now` is Unix time in seconds."""
    found = _verdict(status, headers, body, now)
    date = clocks.date(headers.get("date", "")) if found.verdict in _OWN else None
    return found._replace(written=_count(headers.get(WRITTEN)), date=date)


def _verdict(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Outcome:
    if 200 <= status <= 299:
        if headers.get("content-type", "").startswith("text/html") and body.lstrip().startswith(b"<"):
            told = f"HTTP {status}: a web page, so something else than the receiver has answered"
            return Outcome(Verdict.RETRY, status, told)
        return Outcome(Verdict.DELIVERED, status)
    error = f"HTTP {status}"
    if 300 <= status <= 399:
        where = words(headers.get("location", "").partition("?")[0].encode(errors="replace"))
        told = f" to {_without_user(where)}" if where else ""
        return Outcome(
            Verdict.HELD, status, f"{error}: a redirect{told}, which is not followed: correct the url"
        )
    said = words(body)
    if status in _HELD:
        return Outcome(Verdict.HELD, status, f"{error}: {_DO[status]}" + (f" ({said})" if said else ""))
    error += f": {said}" if said else ""
    if status == 413:
        return Outcome(Verdict.TOO_LARGE, status, error)
    if 400 <= status <= 499 and status not in _RETRIED:
        return Outcome(Verdict.REJECTED, status, error)
    return Outcome(Verdict.RETRY, status, error, retry_after(headers.get("retry-after"), now))


def _count(value: str | None) -> int | None:
    value = (value or "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 12 else None


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for, in either form (RFC 9110, 10.2.3); None: nothing usable.

    A date that has passed, and a negative number, are 0. There is no ceiling here.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.removeprefix("-").isdigit():
        return max(0.0, float(value[:12]))
    date = clocks.date(value)
    return None if date is None else max(0.0, date - now)


class ProxyAnswer(Exception):
    """A proxy answered CONNECT with something else than 2xx. The receiver has not seen the request."""

    def __init__(self, proxy: str, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"the proxy {proxy} answered CONNECT with HTTP {status}")
        self.status, self.headers = status, headers

    def outcome(self, now: float) -> Outcome:
        """The outcome of the request; nothing that a proxy says settles a batch."""
        found = classify(self.status, self.headers, b"", now)
        if found.verdict is Verdict.HELD:
            told = f"{self}: check proxy_url with its user and password, and what the proxy allows"
            return Outcome(Verdict.HELD, self.status, told)
        return Outcome(Verdict.RETRY, self.status, str(self), found.after)


class NoToken(Exception):
    """The token server of a destination (oauth2.py) gave no token. The receiver has not seen the request."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error)
        self.outcome = outcome
        """The outcome of the request; its status is 0."""


def words(body: bytes) -> str:
    """The first WORDS characters of what a receiver said, on one line."""
    text = " ".join(body[: 4 * WORDS].decode("utf-8", "replace").split())
    return "".join(c if c.isprintable() else "?" for c in text)[:WORDS]


def _without_user(url: str) -> str:
    scheme, slashes, rest = url.rpartition("//")
    host, slash, path = rest.partition("/")
    return scheme + slashes + host.rpartition("@")[2] + slash + path


def failure(error: Exception, host: str) -> Outcome:
    """The outcome of a request that got no answer. `host` is named where that helps."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"the certificate of {host} was not accepted: {error.verify_message or error.reason}"
        return Outcome(Verdict.HELD, error=f"TLS: {what.rstrip('.')}")
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or "the connection was cut"  # not every one has it
        held = any(part in reason for part in _TLS_REFUSED)
        told = reason.lower().replace("_", " ")
        return Outcome(Verdict.HELD if held else Verdict.RETRY, error=f"TLS with {host}: {told}")
    if isinstance(error, TimeoutError):
        return Outcome(Verdict.RETRY, error=f"timeout: {error}" if str(error) else "timeout")
    if isinstance(error, socket.gaierror):
        return Outcome(Verdict.RETRY, error=f"the name {host} cannot be resolved: {error.strerror}")
    if isinstance(error, OSError):
        told = (error.strerror or str(error) or type(error).__name__).lower()
        return Outcome(Verdict.RETRY, error=f"no connection with {host}: {told}")
    return Outcome(
        Verdict.RETRY, error=f"{type(error).__name__}: {words(str(error).encode(errors='replace'))}"
    )
