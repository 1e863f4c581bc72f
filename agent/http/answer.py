"""An answer of an HTTP server, and what its status and headers mean: pure functions over values.

Nothing here raises, whatever a server sends. What ends in a text for people is one line without control characters, and
of a URL it has no user and no query.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

LARGEST_ANSWER = 64 << 10
"""Bytes of a body that are read where no more of it is needed than the server's words."""
WORDS = 200
"""Characters of a server's own words that are kept."""

_TEMPORARY = frozenset((408, 421, 425, 429))

_MARKUP = re.compile(rb"<(?:!|\?xml|[a-z])", re.IGNORECASE)
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_GZIP_OR_DEFLATE = zlib.MAX_WBITS | 32
_BEGINNING = 512
"""Bytes at the beginning of a body that show whether it is a page."""


class Via(NamedTuple):
    """A connection on whose other end may be anybody: it has no TLS, or TLS that verifies nothing."""

    number: int
    """No other connection of this process has it."""
    ends: tuple[str, str]
    """The addresses of this host and of the other end, which is a proxy's where there is one."""
    is_after_death: bool = False
    """The connection before it was found dead when a request went out on it."""


class _Parts(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Answer(_Parts):
    """A status, the headers by their names in lower case, and the beginning of the body: a tuple of these three."""

    via: Via | None = None
    """The connection; None: TLS has verified who answers, or it is not known."""

    def over(self, via: Via | None) -> Answer:
        """Return the answer as one that came over this connection."""
        self.via = via
        return self


def is_temporary(status: int) -> bool:
    """Return whether the same request may be answered otherwise later.

    A number that is no valid status (below 200, above 599) is some proxy's nonsense, and temporary.
    """
    return status in _TEMPORARY or not 200 <= status <= 499


def is_web_page(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether a 2xx is a web page: a portal on the way has answered, not the server.

    A body that begins like a page is one, whatever its type; compressed, or after a byte order mark, too.
    """
    return 200 <= status <= 299 and _MARKUP.match(_beginning(headers, body)) is not None


def content_type(headers: Mapping[str, str]) -> str:
    """Return the media type of an answer in lower case, without parameters; empty where there is none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _beginning(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return what a body begins with, as text in UTF-8, without compression, byte order mark and white space."""
    if body[:2] == b"\x1f\x8b" or headers.get("content-encoding", "").strip().lower() == "deflate":
        with suppress(zlib.error):
            body = zlib.decompressobj(_GZIP_OR_DEFLATE).decompress(body, _BEGINNING)
    body = body[:_BEGINNING]
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if body.startswith(mark):
            body = body[len(mark) :].decode(encoding, "replace").encode()
    return body.lstrip()


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
