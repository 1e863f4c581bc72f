"""One target over HTTP: an exposition comes back, or a ScrapeFailed that says why not.

Of an answer no more than `body_size_limit` bytes are kept in memory, whatever they were compressed to, and of all targets
no more than AT_ONCE expositions above LARGE. What else is promised of an exchange, says `agent.http.session`. No proxy
leads to a target.

gzip is requested from other hosts only: on loopback it would cost both sides more than it saves.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import BytesIO
from typing import NamedTuple

import httpx

from agent.config import Target
from agent.config.urls import is_loopback
from agent.http import endpoint
from agent.http.answer import words
from agent.http.failures import Failure, Unusable
from agent.http.session import Session

_FORMATS = {
    "OpenMetricsText1.0.0": ("application/openmetrics-text;version=1.0.0", True),
    "OpenMetricsText0.0.1": ("application/openmetrics-text;version=0.0.1", False),
    "PrometheusText1.0.0": ("text/plain;version=1.0.0", True),
    "PrometheusText0.0.4": ("text/plain;version=0.0.4", False),
}
"""By its name in the configuration what a format is called in HTTP, and whether it can have names in UTF-8."""


LARGE = 1 << 20
"""Bytes of a large exposition: one of some 10,000 series."""
AT_ONCE = 2
"""Large expositions that are in memory at once. Another one waits within its timeout, while its target is not read from."""
_ROOM = threading.BoundedSemaphore(AT_ONCE)


class ScrapeFailed(Unusable):
    """A target gave nothing that can be used. The message is a phrase, without secrets."""


class Exposition(NamedTuple):
    """The body of a target's answer, and in which of the two formats it is. Call `leave` when it was read."""

    body: bytes
    openmetrics: bool
    leave: Callable[[], None] | None = None


class _Place:
    """A place among the large expositions, which is taken when the first of them grows large."""

    def __init__(self, timeout: float) -> None:
        self._end, self.is_taken = time.monotonic() + timeout, False

    def take(self) -> None:
        """Wait for a place. Raises ScrapeFailed if there is none in time."""
        if not self.is_taken:
            self.is_taken = _ROOM.acquire(timeout=max(0.0, self._end - time.monotonic()))
            if not self.is_taken:
                raise ScrapeFailed(f"other expositions of more than {LARGE} bytes were read all the time")

    def leave(self) -> None:
        if self.is_taken:
            self.is_taken = False
            _ROOM.release()


class Fetcher:
    """The connection with a target. Used from one thread. `timeout` is in seconds."""

    def __init__(self, target: Target, timeout: float, version: str) -> None:
        to = endpoint.of_target(target)
        self._url, self._limit, self._timeout = to.url, target.body_size_limit, timeout
        self._session = Session(to, version)
        self._openmetrics_unless_said = target.fallback_scrape_protocol.startswith("OpenMetrics")
        self._headers = {
            "Accept": accept(target),
            "Accept-Encoding": b"identity" if is_loopback(to.host) else b"gzip",
            "X-Prometheus-Scrape-Timeout-Seconds": f"{timeout:g}".encode(),
        }

    def get(self) -> Exposition:
        """Fetch, within the timeout but for the time that looking up a name takes. Raises ScrapeFailed."""
        within, place = self._timeout, _Place(self._timeout)
        read = partial(self._read, place)
        try:
            found = self._session.stream(
                "GET", self._url, self._headers, b"", read, step=within, whole=within
            )
        except BaseException:
            place.leave()
            raise
        if isinstance(found, Failure):
            place.leave()
            raise ScrapeFailed(found.text)
        return found

    def _read(self, place: _Place, answer: httpx.Response) -> Exposition:
        if answer.status_code != 200:
            raise ScrapeFailed(f"HTTP {answer.status_code} {words(answer.reason_phrase.encode())}".rstrip())
        encoding = answer.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", ""):
            raise ScrapeFailed(f"a Content-Encoding that nobody asked for: {words(encoding.encode())}")
        parts: Iterable[bytes] = answer.iter_raw()
        body = bounded(gunzip(parts) if encoding == "gzip" else parts, self._limit, place.take)
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/vnd.google.protobuf":
            raise ScrapeFailed("the target sends Prometheus's protobuf format, which is not read here")
        openmetrics = self._openmetrics_unless_said if kind != "text/plain" else False
        is_open = openmetrics or kind == "application/openmetrics-text"
        return Exposition(body, is_open, place.leave if place.is_taken else None)

    def close(self) -> None:
        """Close the connection; the next `get` opens another."""
        self._session.close()


def accept(target: Target) -> bytes:
    """Return the Accept header: the formats in the order of `scrape_protocols`, written as Prometheus writes them."""
    scheme = target.metric_name_escaping_scheme
    if scheme is None:
        scheme = "underscores" if target.metric_name_validation_scheme == "legacy" else "allow-utf-8"
    weight, formats = len(_FORMATS) + 2, []  # Prometheus knows one more format
    for name in target.scrape_protocols:
        kind, is_utf8 = _FORMATS[name]
        formats.append(f"{kind}{f';escaping={scheme}' if is_utf8 else ''};q=0.{weight}")
        weight -= 1
    return ",".join([*formats, f"*/*;q=0.{weight}"]).encode()


def bounded(parts: Iterable[bytes], limit: int, enlarge: Callable[[], None]) -> bytes:
    """Return all of it; call `enlarge` before it is large. Raises ScrapeFailed as soon as it is more than `limit` bytes."""
    found = BytesIO()  # not a list: it would have to be joined, and then there are two
    for part in parts:
        size = found.tell() + len(part)
        if size > limit:
            raise ScrapeFailed(f"the exposition is larger than body_size_limit ({limit} bytes)")
        if size > LARGE:
            enlarge()
        found.write(part)
    return found.getvalue()


def gunzip(parts: Iterable[bytes], piece: int = 1 << 16) -> Iterator[bytes]:
    """Yield what was compressed, in pieces that are no larger than `piece`. Raises ScrapeFailed."""
    stream, begun = zlib.decompressobj(wbits=31), False
    try:
        for part in parts:
            left = part
            while left:
                if stream.eof:  # another member follows
                    stream = zlib.decompressobj(wbits=31)
                begun = True
                yield stream.decompress(left, piece)
                left = stream.unconsumed_tail or stream.unused_data
    except zlib.error as error:
        raise ScrapeFailed(f"not valid gzip: {error}") from None
    if begun and not stream.eof:
        raise ScrapeFailed("the gzip stream is cut short")
