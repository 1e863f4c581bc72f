"""One target over HTTP: an exposition comes back, or a ScrapeFailed that says why not.

The connection is kept between scrapes; an exchange is bounded as those of the sender are (`agent.http.connection`).
Of an answer no more than `body_size_limit` bytes are kept in memory, whatever they were compressed to. Credentials
and certificates are read again when their files have changed. No redirect is followed, and no proxy is asked.

gzip is asked for from other hosts only: on loopback it would cost both sides more than it saves.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import httpcore
import httpx

from agent.config import RemoteWrite, Target, split_url
from agent.config.values import is_loopback
from agent.destinations.remote_write.outcome import failure, words
from agent.http import endpoint
from agent.http.connection import Limits, Transport
from buffer.errors import LimpetError

ACCEPT = (
    b"application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    b"text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
)
"""The formats in the order in which Prometheus prefers them, without those that are not read here."""

for _name in ("httpx", "httpcore"):  # they would log whole URLs and headers, in which secrets may be
    logging.getLogger(_name).setLevel(logging.WARNING)


class ScrapeFailed(Exception):
    """A target gave nothing that can be used. The message is a phrase, without secrets."""


class Exposition(NamedTuple):
    """What a target says, and in which of the two formats."""

    body: bytes
    openmetrics: bool


class Fetcher:
    """The connection with a target. Used from one thread."""

    def __init__(self, target: Target, timeout: float, version: str) -> None:
        self._target, self._timeout = target, timeout
        # What the sender knows how to enter: the keys mean the same.
        self._to = RemoteWrite(
            url=target.url,
            name=f"scrape target {target.job}",
            headers=target.headers,
            basic_auth=target.basic_auth,
            authorization=target.authorization,
            tls_config=target.tls_config,
        )
        parts = split_url(target.url)
        self._host = (parts.hostname if parts else None) or target.url
        self._own = {
            "Accept": ACCEPT,
            "Accept-Encoding": b"identity" if is_loopback(self._host) else b"gzip",
            "User-Agent": f"limpet/{version}".encode(),
            "X-Prometheus-Scrape-Timeout-Seconds": f"{timeout:g}".encode(),
        }
        name = target.tls_config.server_name
        self._extensions = {"sni_hostname": name} if name else {}
        self._files = endpoint.files(self._to)
        self._stamp: endpoint.Stamp | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._transport: Transport | None = None
        self._client: httpx.Client | None = None
        self._kept = False

    def get(self) -> Exposition:
        """Fetch. Raises ScrapeFailed, within the timeout but for the time that looking up a name takes."""
        end = time.monotonic() + self._timeout
        try:
            kept = self._kept
            try:
                return self._get(self._timeout)
            except (httpcore.RemoteProtocolError, httpcore.WriteError, ConnectionError):
                # A target may end a connection at the very moment at which it is used again.
                if not kept:
                    raise
            return self._get(max(end - time.monotonic(), 0.001))
        except (ScrapeFailed, LimpetError) as error:
            raise ScrapeFailed(str(error)) from None
        except (httpcore.RemoteProtocolError, httpcore.WriteError) as error:
            said = words(str(error).encode(errors="replace"))
            raise ScrapeFailed(f"no valid answer from {self._host}: {said}") from None
        except Exception as error:
            raise ScrapeFailed(failure(error, self._host).error) from None

    def _get(self, within: float) -> Exposition:
        client, transport = self._ready()
        self._kept = False
        transport.begin(Limits(within, within))
        request = client.build_request(
            "GET", self._target.url, headers=self._headers, extensions=self._extensions
        )
        answer = client.send(request, stream=True, auth=None, follow_redirects=False)
        try:
            if answer.status_code != 200:
                raise ScrapeFailed(
                    f"HTTP {answer.status_code} {words(answer.reason_phrase.encode())}".rstrip()
                )
            encoding = answer.headers.get("content-encoding", "identity").strip().lower()
            if encoding not in ("identity", "gzip", ""):
                raise ScrapeFailed(f"a Content-Encoding that nobody asked for: {words(encoding.encode())}")
            parts: Iterable[bytes] = answer.iter_raw()
            body = bounded(gunzip(parts) if encoding == "gzip" else parts, self._target.body_size_limit)
            kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        finally:
            answer.close()
        self._kept = True
        return Exposition(body, kind == "application/openmetrics-text")

    def _ready(self) -> tuple[httpx.Client, Transport]:
        stamp = endpoint.stamp(self._files)
        if self._client is None or self._transport is None or stamp != self._stamp:
            self.close()
            headers = self._own | endpoint.headers(self._to)
            self._headers = [(name.encode(), value) for name, value in headers.items()]
            self._transport = Transport(endpoint.tls(self._to))
            self._client = httpx.Client(transport=self._transport, trust_env=False)
            self._client.headers.clear()
            self._stamp = stamp
        return self._client, self._transport

    def close(self) -> None:
        """Close the connection; the next `get` opens another."""
        if self._client is not None:
            self._client.close()
        self._client = self._transport = None
        self._kept = False


def bounded(parts: Iterable[bytes], limit: int) -> bytes:
    """All of it. Raises ScrapeFailed as soon as it is more than `limit` bytes."""
    found, size = [], 0
    for part in parts:
        size += len(part)
        if size > limit:
            raise ScrapeFailed(f"the exposition is larger than body_size_limit ({limit} bytes)")
        found.append(part)
    return b"".join(found)


def gunzip(parts: Iterable[bytes], piece: int = 1 << 16) -> Iterator[bytes]:
    """What was compressed, in pieces that are no larger than `piece`. Raises ScrapeFailed."""
    make: Callable[[], zlib._Decompress] = lambda: zlib.decompressobj(wbits=31)  # noqa: E731
    stream, begun = make(), False
    try:
        for part in parts:
            left = part
            while left:
                if stream.eof:  # another member follows
                    stream = make()
                begun = True
                yield stream.decompress(left, piece)
                left = stream.unconsumed_tail or stream.unused_data
    except zlib.error as error:
        raise ScrapeFailed(f"not valid gzip: {error}") from None
    if begun and not stream.eof:
        raise ScrapeFailed("the gzip stream is cut short")
