"""An answer of an HTTP server, and what its status and headers mean: pure functions over values.

Nothing here raises, whatever a server sends. What ends in a text for people is one line without control characters, and
of a URL it has no user and no query.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

LARGEST_ANSWER = 64 << 10
"""Bytes of a body that are read where no more of it is needed than the server's words."""
WORDS = 200
"""Characters of a server's own words that are kept."""

_TEMPORARY = frozenset((408, 425, 429))


class Answer(NamedTuple):
    """A status, the headers by their names in lower case, and the beginning of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def is_temporary(status: int) -> bool:
    """Return whether the same request may be answered otherwise later.

    A number that is no valid status (below 200, above 599) is some proxy's nonsense, and temporary.
    """
    return status in _TEMPORARY or not 200 <= status <= 499


def is_web_page(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether a 2xx is a web page: a portal on the way has answered, not the server."""
    is_html = headers.get("content-type", "").startswith("text/html")
    return 200 <= status <= 299 and is_html and body.lstrip().startswith(b"<")


def redirected(status: int, headers: Mapping[str, str]) -> str:
    """Return the words for an answer of 3xx, which is never followed."""
    where = words(headers.get("location", "").partition("?")[0].encode(errors="replace"))
    return f"HTTP {status}: a redirect{f' to {_without_user(where)}' if where else ''}, which is not followed"


def _without_user(url: str) -> str:
    scheme, slashes, rest = url.rpartition("//")
    host, slash, path = rest.partition("/")
    return scheme + slashes + host.rpartition("@")[2] + slash + path


def words(body: bytes) -> str:
    """Return the first WORDS characters of what a server said, on one line."""
    text = " ".join(body[: 4 * WORDS].decode("utf-8", "replace").split())
    return "".join(c if c.isprintable() else "?" for c in text)[:WORDS]


def in_brackets(body: bytes) -> str:
    """Return a server's words to be put behind ours: nothing where it said nothing."""
    said = words(body)
    return f" ({said})" if said else ""


def retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for, in either form (RFC 9110, 10.2.3); None: nothing usable.

    A date that has passed, and a negative number, are 0. There is no ceiling here. `now` is Unix seconds.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.removeprefix("-").isdigit():
        return max(0.0, float(value[:12]))
    found = date(value)
    return None if found is None else max(0.0, found - now)


def date(text: str) -> float | None:
    """Return the Unix seconds of an HTTP date; None where it is none."""
    from email.utils import mktime_tz, parsedate_tz

    try:
        parsed = parsedate_tz(text)
        return None if parsed is None else float(mktime_tz(parsed))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
