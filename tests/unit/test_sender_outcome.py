from __future__ import annotations

import socket
import ssl
from email.utils import formatdate

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.destinations.base import Outcome, Request, Verdict, failed
from agent.destinations.remote_write.outcome import classify
from agent.http.answer import WORDS, retry_after, words
from agent.http.failures import Cause, ProxyAnswer, Unusable, failure
from buffer.errors import LimpetError

NOW = 1_800_000_000.0

STATUSES = {
    Verdict.DELIVERED: (200, 201, 202, 204, 299),
    Verdict.RETRY: (408, 421, 425, 429, *range(500, 511), 599, 100, 199, 600, 999),
    Verdict.HELD: (
        *range(300, 400),
        *(set(range(400, 500)) - {400, 408, 409, 413, 415, 421, 422, 425, 429}),
        511,
    ),
    Verdict.TOO_LARGE: (413,),
    Verdict.REJECTED: (400, 409, 415, 422),
}


@pytest.mark.parametrize(
    ("status", "verdict"), [(status, verdict) for verdict, some in STATUSES.items() for status in some]
)
def test_what_a_status_means(status: int, verdict: Verdict) -> None:
    found = classify(status, {}, b"because\n", NOW)
    assert (found.verdict, found.status) == (verdict, status)
    if verdict is Verdict.DELIVERED:
        assert found.error is None
    else:
        assert str(found.error).startswith(f"HTTP {status}")


@given(
    st.integers(-1000, 10_000),
    st.dictionaries(st.sampled_from(["retry-after", "location"]), st.text()),
    st.binary(),
)
def test_whatever_is_answered_has_an_outcome(status: int, headers: dict[str, str], body: bytes) -> None:
    found = classify(status, headers, body, NOW)
    assert found.after is None or found.after >= 0
    assert found.error is None or (found.error.isprintable() and len(found.error) < 400)


def test_the_receivers_own_words_are_kept() -> None:
    body = b"out of order\n  sample\x00\xff " + b"x" * 10_000
    found = classify(400, {}, body, NOW)
    assert found.error == f"HTTP 400: {words(body)}"
    assert words(body).startswith("out of order sample?\N{REPLACEMENT CHARACTER} xxx")
    assert len(words(body)) == WORDS


def test_a_redirect_is_shown_without_what_may_be_secret() -> None:
    where = "https://user:hunter2@login.example.com/in?token=hunter2#hunter2"
    assert classify(302, {"location": where}, b"", NOW).error == (
        "HTTP 302: a redirect to https://login.example.com/in, which is not followed: correct the url"
    )


RETRY_AFTER: dict[str, float | None] = {
    "120": 120,
    " 7 ": 7,
    "0": 0,
    "-5": 0,
    "99999999999999999999": 999_999_999_999,
    formatdate(NOW + 90, usegmt=True): 90,
    formatdate(NOW - 90, usegmt=True): 0,
    "Sunday, 06-Nov-94 08:49:37 GMT": 0,
    "Sun Nov  6 08:49:37 1994": 0,
    "": None,
    "--5": None,
    "1.5": None,
    "soon": None,
    "Fri, 99 Foo 9999 99:99:99 GMT": None,
    "²": None,
}


@pytest.mark.parametrize(("value", "expected"), RETRY_AFTER.items())
def test_retry_after_in_both_forms(value: str, expected: float | None) -> None:
    assert retry_after(value, NOW) == expected
    assert classify(429, {"retry-after": value}, b"", NOW).after == expected
    assert classify(503, {"retry-after": value}, b"", NOW).after == expected


def _tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "message")
    error.reason = reason
    return error


def _unverified() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "long")
    error.verify_code, error.verify_message = 19, "self-signed certificate in certificate chain"
    return error


FAILURES: dict[str, tuple[Exception, Cause, bool, str]] = {
    "refused": (ConnectionRefusedError(111, "Connection refused"), Cause.REFUSED, False, "no connection with h: connection refused"),
    "reset": (ConnectionResetError(104, "Connection reset by peer"), Cause.CUT, False, "no connection with h: connection reset by peer"),
    "no network": (OSError(101, "Network is unreachable"), Cause.UNREACHABLE, False, "no connection with h: network is unreachable"),
    "no name": (socket.gaierror(-2, "Name or service not known"), Cause.ADDRESS, False, "the name h cannot be resolved: Name or service not known"),
    "timeout": (TimeoutError("no answer within 5 s"), Cause.TIMEOUT, False, "timeout: no answer within 5 s"),
    "no valid http": (ValueError("illegal status line\x00"), Cause.PROTOCOL, False, "ValueError: illegal status line?"),
    "unknown CA": (_unverified(), Cause.TLS, True, "TLS: the certificate of h was not accepted: self-signed certificate in certificate chain"),
    "client certificate missing": (_tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Cause.TLS, True, "TLS with h: tlsv13 alert certificate required"),
    "old version": (_tls("TLSV1_ALERT_PROTOCOL_VERSION"), Cause.TLS, True, "TLS with h: tlsv1 alert protocol version"),
    "plain http there": (_tls("WRONG_VERSION_NUMBER"), Cause.TLS, True, "TLS with h: wrong version number"),
    "cut in the handshake": (ssl.SSLEOFError(8, "EOF"), Cause.TLS, False, "TLS with h: the connection was cut"),
    "damaged on the way": (_tls("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"), Cause.TLS, False, "TLS with h: decryption failed or bad record mac"),
    "a proxy's own trouble": (ProxyAnswer("p:1", 502, {}), Cause.PROXY, False, "the proxy p:1 answered CONNECT with HTTP 502"),
    "a proxy that refuses": (ProxyAnswer("p:1", 403, {}), Cause.PROXY, True, "the proxy p:1 answered CONNECT with HTTP 403: check proxy_url with its user and password, and what the proxy allows"),
    "no HTTP": (httpcore.RemoteProtocolError("illegal status line\x00"), Cause.PROTOCOL, False, "no valid answer from h: illegal status line?"),
    "a proxy without HTTP": (httpcore.ProxyError("not HTTP"), Cause.PROXY, False, "no valid answer from h: not HTTP"),
    "a file": (LimpetError("key", "it is gone", "Make it."), Cause.FILE, True, "key: it is gone. Make it."),
    "nothing to use": (Unusable("too large"), Cause.PROTOCOL, False, "too large"),
}  # fmt: skip


PROBE = Request(b"", 0, "1.0")


@pytest.mark.parametrize(("error", "cause", "holds", "text"), FAILURES.values(), ids=FAILURES)
def test_what_the_lack_of_an_answer_means(error: Exception, cause: Cause, holds: bool, text: str) -> None:
    found = failure(error, "h")
    assert found[:3] == (cause, text, holds)
    is_unreached = cause in (Cause.REFUSED, Cause.UNREACHABLE, Cause.ADDRESS)
    verdict = Verdict.HELD if holds else Verdict.RETRY
    assert failed(PROBE, found) == Outcome(
        verdict, found.status, text, is_unreached=is_unreached, cause=cause
    )


def test_what_a_proxy_asks_for_is_kept() -> None:
    found = ProxyAnswer("p:1", 429, {"retry-after": "7"}).failure(NOW)
    assert failed(PROBE, found) == Outcome(
        Verdict.RETRY, 429, "the proxy p:1 answered CONNECT with HTTP 429", 7.0, cause=Cause.PROXY
    )
    assert ProxyAnswer("p:1", 400, {"retry-after": "7"}).failure(NOW).after is None
