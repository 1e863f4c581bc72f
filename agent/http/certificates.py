"""When certificates end: the receiver's as it showed it, and this host's own as it is in the configuration."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

Certificate = Mapping[str, Any]
"""As `SSLSocket.getpeercert()` returns it."""


def ends(certificate: Certificate) -> float:
    """Return when it expires, in Unix seconds."""
    return float(ssl.cert_time_to_seconds(certificate["notAfter"]))


def decoded(file: str) -> Certificate | None:
    """Return the first certificate of a PEM file; None where there is none that can be read.

    There is no public way to read a certificate's dates; for 20 years the tests of Python have used this one.
    """
    with suppress(ssl.SSLError, OSError):
        found: Certificate = ssl._ssl._test_decode_cert(file)  # type: ignore[attr-defined]  # noqa: SLF001
        return found
    return None


def shown_by_peer(sock: ssl.SSLSocket) -> float | None:
    """Return when the peer's certificate ends; None where it was not verified, for Python then does not decode it."""
    with suppress(KeyError, ValueError):
        return ends(sock.getpeercert() or {})
    return None


def first(*found: float | None) -> float | None:
    """Return the earliest of those that are known."""
    return min((one for one in found if one is not None), default=None)
