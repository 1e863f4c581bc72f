"""A request on its way in: its head, and its body as far as it is there, both bounded."""

from __future__ import annotations

import h11

from agent.serve.message import Peer, Refusal, Request

HEAD_BYTES = 16 << 10


class Incoming:
    """One request of a connection; `most` are the bytes of a body that are allowed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._head: h11.Request | None = None
        self._body = bytearray()

    def head(self, event: h11.Request) -> None:
        """Take the head. Raises Refusal where it is too large, or announces too large a body or one of two lengths."""
        self._head = event
        # h11 bounds a head of which a part is missing; this one may have come at once.
        size = sum(len(name) + len(value) + 4 for name, value in event.headers) + len(event.target)
        if size > HEAD_BYTES:
            raise Refusal(431, "bad_data", f"the head is larger than {HEAD_BYTES:,} bytes")
        headers = dict(event.headers)
        if b"content-length" in headers and b"transfer-encoding" in headers:
            # Somebody on the way may have believed the other one (RFC 9112, 6.3).
            raise Refusal(400, "bad_data", "not HTTP: Content-Length and Transfer-Encoding")
        self._check(int(headers.get(b"content-length", b"0")))

    def data(self, event: h11.Data) -> None:
        """Take a part of the body. Raises Refusal where it is too large."""
        self._body += event.data
        self._check(len(self._body))

    def _check(self, size: int) -> None:
        if size > self._most:
            raise Refusal(413, "bad_data", f"the body is larger than {self._most:,} bytes")

    def request(self, peer: Peer) -> Request | None:
        """Return the request as far as it is there; None without a head."""
        if self._head is None:
            return None
        path, _, query = self._head.target.decode("latin-1").partition("?")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._head.headers}
        return Request(self._head.method.decode("ascii"), path, query, headers, bytes(self._body), peer)
