"""Tokens for a server: OAuth 2.0 client credentials (RFC 6749, 4.4), as Prometheus's `oauth2` means them.

A token is requested before the first request that needs one, and kept until shortly before it expires, the client's
secret changes in its file, or the server refuses it. One without `expires_in` is kept until then, too.

| what the token server answers                               | what it means                                  |
|-------------------------------------------------------------|------------------------------------------------|
| 2xx with an `access_token` that a header can carry          | a token                                        |
| any other 2xx without an `error`                            | a failure                                      |
| no connection, timeout, no valid HTTP, 5xx, 408, 425, 429   | a failure, for `Retry-After` where it says so  |
| `error`: server_error, temporarily_unavailable              | a failure                                      |
| other 4xx, an `error` in a 2xx, a redirect                  | a failure that holds                           |
| its TLS is refused                                          | a failure that holds                           |

A secret's or certificate's file that cannot be used holds as well.

The client shows who it is by HTTP Basic, with id and secret form-urlencoded (RFC 6749, 2.3.1). A server that refuses
that by an error which may be about it gets a second request, with both in the body. The way that it accepts is kept
until it refuses that (Go's AuthStyleAutoDetect, which Prometheus uses).

What is promised:

1. The secret and what goes with it are sent to `token_url` alone. No redirect is followed, and no environment is
   looked at but by `proxy_from_environment`.
2. `authorization` returns or raises within its time.
3. Neither the secret, nor a value of `endpoint_params`, nor a token is in an error, whatever a server sends back.

This module is imported where an endpoint has `oauth2`, and nowhere else.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec

from agent.config import OAuth2, Secret
from agent.http import endpoint
from agent.http.answer import Answer, in_brackets, is_temporary, is_web_page, redirected, retry_after, words
from agent.http.failures import Cause, Failure
from agent.http.secrets import HIDDEN, SHORTEST, without_token

EARLY = 10.0
"""Seconds before its end from which a token is not used; half its life where that is less."""

LONGEST_LIFE = 1e9

_TRIED_AGAIN = ("server_error", "temporarily_unavailable")
_KNOWN_CLIENT = ("invalid_grant", "invalid_scope", "invalid_target", "unsupported_grant_type")
"""Errors of a server that has no doubts about who asks."""

_CLIENT = "check client_id and the client secret"
_DO_BY_ERROR = {
    "access_denied": _CLIENT,
    "invalid_client": _CLIENT,
    "invalid_scope": "check scopes",
    "invalid_target": "check endpoint_params",
    "unauthorized_client": f"{_CLIENT}, and that the server allows client credentials to it",
    "unsupported_grant_type": "the server does not give tokens for client credentials: check token_url",
}
_DO_BY_STATUS = {
    400: f"{_CLIENT}, scopes and endpoint_params",
    401: _CLIENT,
    403: f"{_CLIENT}, and its rights",
    407: "a proxy on the way asks for credentials: check proxy_url",
}
_REFUSED = {
    401: "the token of oauth2 is refused: check its scopes and endpoint_params",
    403: "the token of oauth2 does not suffice: check its scopes and endpoint_params, and the client's rights",
}


class Token(NamedTuple):
    """The value of Authorization, and for how many seconds it is good; None: the server did not say."""

    authorization: Secret
    life: float | None


class Refusal(NamedTuple):
    """No token; `other_way`: it may be due to the way in which the client showed who it is."""

    failure: Failure
    other_way: bool = False


def form(settings: OAuth2, secret: str, *, in_body: bool) -> bytes:
    """Return the body of the request. `endpoint_params` may overrule `grant_type`, as in Prometheus."""
    fields = {"grant_type": "client_credentials"}
    if settings.scopes:
        fields["scope"] = " ".join(settings.scopes)
    fields |= {name: value.reveal() for name, value in settings.endpoint_params.items()}
    if in_body:
        fields["client_id"] = settings.client_id
        if secret:
            fields["client_secret"] = secret
    return urlencode(fields).encode()


def basic(client_id: str, secret: str) -> bytes:
    """Return the value of Authorization with which the client shows who it is."""
    return b"Basic " + b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode())


def understood(
    status: int, headers: Mapping[str, str], body: bytes, now: float, secrets: Sequence[bytes] = ()
) -> Token | Refusal:
    """Return what an answer means. Header names are in lower case; `now` is Unix time in seconds.

    A server may repeat what it was sent: in its words, `secrets` are hidden.
    """
    decoded = _decoded(body)
    answer = decoded if isinstance(decoded, dict) else {}
    error = answer.get("error")
    said = _hidden(_said(answer) or _plain(decoded, body), secrets)
    if is_web_page(status, headers, body):
        return _refusal(f"HTTP {status}: a web page, so something else than the server has answered")
    if is_temporary(status):
        text = f"HTTP {status}: {words(said)}" if said else f"HTTP {status}"
        return _refusal(text, after=retry_after(headers.get("retry-after"), now))
    if 300 <= status <= 399:
        return _refusal(f"{redirected(status, headers)}: correct token_url", holds=True)
    if 200 <= status <= 299:
        if not error:
            return _token(status, answer)
        said = _hidden(_said(answer), secrets)  # what else is in it may be a token
    if error in _TRIED_AGAIN:
        return _refusal(f"HTTP {status}{in_brackets(said)}")
    do = _DO_BY_ERROR.get(str(error)) or _DO_BY_STATUS.get(status) or "check token_url and endpoint_params"
    refusal = _refusal(f"HTTP {status}: {do}{in_brackets(said)}", holds=True)
    return refusal._replace(other_way=error not in _KNOWN_CLIENT)


def _refusal(text: str, *, holds: bool = False, after: float | None = None) -> Refusal:
    return Refusal(Failure(Cause.TOKEN, text, holds, after=after))


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError, msgspec.DecodeError):
        return None


def _said(answer: Mapping[str, Any]) -> bytes:
    """Return the error in an answer, in the form of RFC 6749, 5.2; nothing where it has another form."""
    error, description = answer.get("error"), answer.get("error_description")
    parts = [part for part in (error, description) if isinstance(part, str)]
    return ": ".join(parts).encode(errors="replace") if isinstance(error, str) else b""


def _plain(decoded: Any, body: bytes) -> bytes:
    """Return a body without JSON's many ways to write a character, in which a secret would not be found."""
    return body if decoded is None else msgspec.json.encode(decoded)


def _hidden(said: bytes, secrets: Sequence[bytes]) -> bytes:
    for secret in secrets:
        said = said.replace(secret, HIDDEN.encode()) if len(secret) >= SHORTEST else said
    return said


def _token(status: int, answer: Mapping[str, Any]) -> Token | Refusal:
    text, kind = answer.get("access_token"), answer.get("token_type") or "Bearer"
    # What is in such an answer is not repeated: it may be a token all the same.
    if not (_is_word(text) and _is_word(kind)):
        why = "no access_token in it" if text is None else "one that no header can carry"
        return _refusal(f"HTTP {status}, but {why}")
    kind = "Bearer" if kind.lower() == "bearer" else kind
    return Token(Secret(f"{kind} {text}"), _seconds(answer.get("expires_in")))


def _is_word(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch("[\x21-\x7e]+", text) is not None


def _seconds(value: Any) -> float | None:
    """Return the life of a token; some servers write the number as a text, or 0 for no end."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float) or not value > 0:
        return None
    return float(min(value, LONGEST_LIFE))


def usable_for(life: float) -> float:
    """Return for how many of its seconds a token is used."""
    return life - min(EARLY, life / 2)


class Tokens:
    """The token of the endpoint `name`. Used from one thread.

    `exchange` is `Session.exchange` with the token server, but for method and URL.
    """

    def __init__(
        self,
        settings: OAuth2,
        name: str,
        exchange: Callable[..., Answer | Failure],
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._exchange, self._wall, self._clock = settings, exchange, wall, clock
        self._where = f"{name}.oauth2.client_secret"
        self._host = urlsplit(settings.token_url).hostname or "the token server"
        self._files = [settings.client_secret_file] if settings.client_secret_file else []
        self._stamp: endpoint.Stamp | None = None
        self._token, self._end = "", 0.0
        self.used = 0
        """Requests that have gone out with this token; who sends one counts it."""
        self._in_body: bool | None = None  # None: it is not known yet what the server takes

    @property
    def secret(self) -> str:
        """The token itself, empty where there is none."""
        return self._token.partition(" ")[2]

    def authorization(self, step: float, whole: float) -> bytes | Failure:
        """Return the value of Authorization for the next request, in `whole` seconds at most.

        Raises LimpetError where the file of the secret cannot be used.
        """
        stamp = endpoint.stamp(self._files)
        if stamp != self._stamp:
            self._token, self._stamp, self._in_body = "", stamp, None
        if not self._token or self._clock() >= self._end:
            self._token, began = "", self._clock()
            found = self._fetch(step, began + whole)
            if isinstance(found, Failure):
                return found
            self._token, self.used = found.authorization.reveal(), 0
            self._end = began + usable_for(LONGEST_LIFE if found.life is None else found.life)
        return self._token.encode()

    def answered(self, status: int, body: Callable[[], bytes]) -> Failure | None:
        """Return why the token was refused in an answer, and throw it away; None: it was not.

        After 401 to a token's first request another one is no better: it holds. Later the token may have ended before
        its time (a suspended host, a server with new keys): the next request has another one. Rights may be written in
        the token, so after 403, which holds, the next request has another one, too.
        """
        if status not in _REFUSED:
            return None
        holds, text = True, _REFUSED[status]
        if status == 401 and self.used > 1:
            holds, text = False, "the token of oauth2 is not taken any more: another is fetched"
        text = without_token(f"HTTP {status}: {text}{in_brackets(body())}", self.secret)
        self._token = ""
        return Failure(Cause.TOKEN, text, holds, status)

    def _fetch(self, step: float, end: float) -> Token | Failure:
        secret = endpoint.text(self._where, self._settings.client_secret, self._settings.client_secret_file)
        in_body = bool(self._in_body)
        found = self._ask(secret, step, end, in_body=in_body)
        if isinstance(found, Refusal) and found.other_way and self._in_body is None:
            in_body = True
            found = self._ask(secret, step, end, in_body=in_body)
        if isinstance(found, Token):
            self._in_body = in_body
            return found
        if found.other_way:
            self._in_body = None
        failure = found.failure
        if failure.cause is Cause.FILE:
            return failure
        return failure._replace(
            status=0, went=None, text=f"oauth2: no token from {self._host}: {failure.text}"
        )

    def _ask(self, secret: str, step: float, end: float, *, in_body: bool) -> Token | Refusal:
        settings, login = self._settings, basic(self._settings.client_id, secret)
        headers = {
            "Content-Type": b"application/x-www-form-urlencoded",
            "Accept": b"application/json",
            "Accept-Encoding": b"identity",
            "Connection": b"close",
        }
        if not in_body:
            headers["Authorization"] = login
        data, left = form(settings, secret, in_body=in_body), max(0.0, end - self._clock())
        answer = self._exchange(headers, data, step=step, whole=left)
        if isinstance(answer, Failure):
            if answer.cause is Cause.TLS and answer.holds:
                do = "check oauth2.tls_config, and the server's certificate"
                answer = answer._replace(text=f"{answer.text}: {do}")
            return Refusal(answer)
        sent = [login.partition(b" ")[2], quote_plus(secret).encode()]
        for text in (secret, *(value.reveal() for value in settings.endpoint_params.values())):
            sent += [text.encode(), msgspec.json.encode(text)[1:-1]]
        return understood(*answer, self._wall(), sent)
