"""Why a request got no answer that counts: one value for whatever was raised, and in whose hands it is.

A `Failure` says nothing of what was sent; what it means for a batch or a scrape, its sender decides. `text` is a phrase
for the log and the status: it may hold a server's words, cut and without control characters.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import httpcore

from agent.http.answer import is_temporary, retry_after, words
from agent.http.sockets import TooSlow
from buffer.errors import LimpetError


class Cause(StrEnum):
    """What went wrong, for decisions; the text is for people."""

    ADDRESS = "dns"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    CUT = "cut"
    TLS = "tls"
    PROXY = "proxy"
    TOKEN = "token"  # noqa: S105  no password
    FILE = "file"
    PROTOCOL = "protocol"


class Failure(NamedTuple):
    """A request without an answer that counts.

    `holds`: it fails until an operator has corrected something. `status` is a proxy's to CONNECT, or the server's to a
    token; 0 without either. `after`: seconds that it asks to be left alone. `verify_code`: OpenSSL's, where a certificate
    was not accepted. `went`: where the link was too slow for the request, the bytes of it that went through in its time.
    """

    cause: Cause
    text: str
    holds: bool = False
    status: int = 0
    after: float | None = None
    verify_code: int = 0
    went: int | None = None

    @property
    def is_unreached(self) -> bool:
        """Whether no server was reached: there is no route, no address, or nobody who listens there."""
        return self.cause in (Cause.ADDRESS, Cause.REFUSED, Cause.UNREACHABLE)


class Unusable(Exception):
    """An answer came, and nothing can be done with what is in it. The message is the failure's text."""


class ProxyAnswer(Exception):
    """A proxy answered CONNECT with something else than 2xx. The server has not seen the request."""

    def __init__(self, proxy: str, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"the proxy {proxy} answered CONNECT with HTTP {status}")
        self.status, self.headers = status, headers

    def failure(self, now: float) -> Failure:
        """Return the failure of the request. `now` is Unix seconds."""
        if 300 <= self.status <= 399 or self.status in (401, 403, 404, 407):
            text = f"{self}: check proxy_url with its user and password, and what the proxy allows"
            return Failure(Cause.PROXY, text, holds=True, status=self.status)
        wish = retry_after(self.headers.get("retry-after"), now) if is_temporary(self.status) else None
        return Failure(Cause.PROXY, str(self), status=self.status, after=wish)


# OpenSSL's reasons (SSLError.reason) that no repetition will change. What is not here, a record damaged on
# the way or a connection cut, is temporary.
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


def failure(error: Exception, host: str, now: float = 0.0) -> Failure:
    """Return what an exception of an exchange means. `host` is named where that helps; `now` is Unix seconds."""
    if isinstance(error, LimpetError):
        return Failure(Cause.FILE, str(error), holds=True)
    if isinstance(error, ProxyAnswer):
        return error.failure(now)
    if isinstance(error, Unusable):
        return Failure(Cause.PROTOCOL, str(error))
    if isinstance(error, httpcore.RemoteProtocolError | httpcore.ProxyError):
        cause = Cause.PROXY if isinstance(error, httpcore.ProxyError) else Cause.PROTOCOL
        return Failure(cause, f"no valid answer from {host}: {_said(error)}")
    if isinstance(error, ssl.SSLError):
        return _tls(error, host)
    if isinstance(error, TimeoutError):
        went = error.arrived if isinstance(error, TooSlow) else None
        return Failure(Cause.TIMEOUT, f"timeout: {error}" if str(error) else "timeout", went=went)
    if isinstance(error, socket.gaierror):
        return Failure(Cause.ADDRESS, f"the name {host} cannot be resolved: {error.strerror}")
    if isinstance(error, OSError):
        text = (error.strerror or str(error) or type(error).__name__).lower()
        cut = Cause.CUT if isinstance(error, ConnectionError) else Cause.UNREACHABLE
        cause = Cause.REFUSED if isinstance(error, ConnectionRefusedError) else cut
        return Failure(cause, f"no connection with {host}: {text}")
    return Failure(Cause.PROTOCOL, f"{type(error).__name__}: {_said(error)}")


def _tls(error: ssl.SSLError, host: str) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"the certificate of {host} was not accepted: {error.verify_message or error.reason}"
        return Failure(Cause.TLS, f"TLS: {text.rstrip('.')}", holds=True, verify_code=error.verify_code)
    reason = getattr(error, "reason", None) or "the connection was cut"  # not every one has it
    holds = any(part in reason for part in _TLS_REFUSED)
    return Failure(Cause.TLS, f"TLS with {host}: {reason.lower().replace('_', ' ')}", holds)


def _said(error: Exception) -> str:
    return words(str(error).encode(errors="replace"))
