"""Tokens for a destination: OAuth 2.0 client credentials (RFC 6749, 4.4), as Prometheus's `oauth2` means them.

A token is asked for before the first request that needs one, and kept until shortly before it expires, the client's
secret changes in its file, or the receiver refuses it. One without `expires_in` is kept until then, too.

| what the token server answers                               | what it means                              |
|-------------------------------------------------------------|--------------------------------------------|
| 2xx with an `access_token` that a header can carry          | a token                                    |
| any other 2xx without an `error`                            | RETRY                                      |
| no connection, timeout, no valid HTTP, 5xx, 408, 425, 429   | RETRY, after `Retry-After` where it says so |
| `error`: server_error, temporarily_unavailable              | RETRY                                      |
| other 4xx, an `error` in a 2xx, a redirect                  | HELD                                       |
| its TLS is refused                                          | HELD                                       |

and a secret's or certificate's file that cannot be used is a LimpetError, which holds as well.

The client shows who it is by HTTP Basic, with id and secret form-urlencoded (RFC 6749, 2.3.1). A server that refuses
that by an error which may be about it is asked once more, with both in the body; what it takes is kept to until it
refuses that (Go's AuthStyleAutoDetect, which Prometheus uses).

What is promised:

1. The secret and what goes with it are sent to `token_url` alone. No redirect is followed, and no environment is
   looked at but by `proxy_from_environment`.
2. `authorization` returns or raises within its time, and at once when `cut` (see transport.py).
3. Neither the secret, nor a value of `endpoint_params`, nor a token is in an error, whatever a server sends back.

This module is imported where a destination has `oauth2`, and nowhere else.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlencode, urlsplit

import httpcore
import httpx
import msgspec

from agent.config import OAuth2, RemoteWrite, Secret
from agent.destinations.remote_write.outcome import (
    NoToken,
    Outcome,
    ProxyAnswer,
    Verdict,
    classify,
    failure,
    words,
)
from agent.http import endpoint
from agent.http.connection import Limits, Transport
from agent.http.proxy import Proxy, route
from agent.send.client import beginning

EARLY = 10.0
"""Seconds before its end from which a token is not used; half its life where that is less."""

LONGEST_LIFE = 1e9
HIDDEN = "<secret>"
SHORTEST = 4
"""Characters of the shortest text that is looked for in what a server says."""

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

    outcome: Outcome
    other_way: bool = False


def form(settings: OAuth2, secret: str, *, in_body: bool) -> bytes:
    """The body of the request. `endpoint_params` may overrule `grant_type`, as in Prometheus."""
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
    """The value of Authorization with which the client shows who it is."""
    return b"Basic " + b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode())


def understood(
    status: int, headers: Mapping[str, str], body: bytes, now: float, secrets: Sequence[bytes] = ()
) -> Token | Refusal:
    """What an answer means. Header names are in lower case; `now` is Unix time in seconds.

    A server may repeat what it was sent: in its words, `secrets` are hidden.
    """
    decoded = _decoded(body)
    answer = decoded if isinstance(decoded, dict) else {}
    error = answer.get("error")
    said = _hidden(_said(answer) or _plain(decoded, body), secrets)
    found = classify(status, headers, said, now)
    if found.verdict is Verdict.RETRY:
        return Refusal(found)
    if 300 <= status <= 399:
        told = (found.error or "").replace("correct the url", "correct token_url")
        return Refusal(Outcome(Verdict.HELD, error=told))
    if found.verdict is Verdict.DELIVERED:
        if not error:
            return _token(status, answer)
        said = _hidden(_said(answer), secrets)  # what else is in it may be a token
    told = f" ({words(said)})" if said else ""
    if error in _TRIED_AGAIN:
        return Refusal(Outcome(Verdict.RETRY, error=f"HTTP {status}{told}"))
    do = _DO_BY_ERROR.get(str(error)) or _DO_BY_STATUS.get(status) or "check token_url and endpoint_params"
    return Refusal(Outcome(Verdict.HELD, error=f"HTTP {status}: {do}{told}"), error not in _KNOWN_CLIENT)


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError, msgspec.DecodeError):
        return None


def _said(answer: Mapping[str, Any]) -> bytes:
    """What an answer says of an error, as RFC 6749 has it in 5.2; nothing where it says it otherwise."""
    error, description = answer.get("error"), answer.get("error_description")
    parts = [part for part in (error, description) if isinstance(part, str)]
    return ": ".join(parts).encode(errors="replace") if isinstance(error, str) else b""


def _plain(decoded: Any, body: bytes) -> bytes:
    """A body without JSON's many ways to write a character, in which a secret would not be found."""
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
        return Refusal(Outcome(Verdict.RETRY, error=f"HTTP {status}, but {why}"))
    kind = "Bearer" if kind.lower() == "bearer" else kind
    return Token(Secret(f"{kind} {text}"), _seconds(answer.get("expires_in")))


def _is_word(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch("[\x21-\x7e]+", text) is not None


def _seconds(value: Any) -> float | None:
    """The life of a token; some servers write the number as a text, or 0 for no end."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float) or not value > 0:
        return None
    return float(min(value, LONGEST_LIFE))


def usable_for(life: float) -> float:
    """For how many of its seconds a token is used."""
    return life - min(EARLY, life / 2)


def without(text: str, token: str) -> str:
    """The text without a token, nor a beginning of one where a receiver's words were cut in it."""
    if len(token) < SHORTEST:
        return text
    return re.sub(re.escape(token[:8]) + "[\x21-\x27\x2a-\x7e]*", HIDDEN, text)  # words may stand in brackets


class Tokens:
    """The token of one destination. One thread asks; `cut` may come from any."""

    def __init__(
        self,
        to: RemoteWrite,
        version: str,
        wall: Callable[[], float],
        environment: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert to.oauth2 is not None
        self._settings = settings = to.oauth2
        # The token server as a destination: what its TLS and its proxy are, is found out as for any other.
        self._server = RemoteWrite(
            url=settings.token_url,
            name=f"{to.name}.oauth2",
            tls_config=settings.tls_config,
            proxy_url=settings.proxy_url,
            proxy_from_environment=settings.proxy_from_environment,
            no_proxy=settings.no_proxy,
        )
        self._host = urlsplit(settings.token_url).hostname or "the token server"
        self._step, self._version = to.remote_timeout, version
        self._wall, self._environment, self._clock = wall, environment, clock
        self._files = [settings.client_secret_file] if settings.client_secret_file else []
        self._stamp: endpoint.Stamp | None = None
        self._token, self._end = "", 0.0
        self._fresh = False  # whether no request has gone out with this token yet
        self._in_body: bool | None = None  # None: it is not known yet what the server takes
        self._transport: Transport | None = None
        self._cut = False

    def authorization(self, within: float) -> bytes:
        """The value of Authorization for the next request, in `within` seconds at most.

        Raises NoToken; LimpetError where a file cannot be used.
        """
        stamp = endpoint.stamp(self._files)
        if stamp != self._stamp:
            self._token, self._stamp, self._in_body = "", stamp, None
        if not self._token or self._clock() >= self._end:
            self._token, began = "", self._clock()
            token = self._fetched(began + within)
            self._token, self._fresh = token.authorization.reveal(), True
            self._end = began + usable_for(LONGEST_LIFE if token.life is None else token.life)
        return self._token.encode()

    def answered(self, outcome: Outcome) -> Outcome:
        """What the outcome of each request means. A token that the receiver refuses is thrown away.

        After 401 to a token's first request another one is no better: HELD. Later it may have ended before its
        time (a suspended host, a receiver with new keys): RETRY, with a new one. Rights may be written in the
        token, so after 403 (HELD) the probe has a new one, too.
        """
        secret, error = self._token.partition(" ")[2], outcome.error or ""
        if secret and outcome.status in _REFUSED and error.startswith("HTTP"):  # not a proxy, to CONNECT
            self._token = ""
            said = error.partition(" (")[2]
            verdict, told = Verdict.HELD, _REFUSED[outcome.status]
            if outcome.status == 401 and not self._fresh:
                verdict, told = Verdict.RETRY, "the token of oauth2 is not taken any more: another is fetched"
            error = f"HTTP {outcome.status}: {told}" + (f" ({said}" if said else "")
            outcome = outcome._replace(verdict=verdict)
        self._fresh = False
        return outcome._replace(error=without(error, secret)) if error else outcome

    def cut(self) -> None:
        """End the exchange that is under way, and let none begin. There is no way back."""
        self._cut = True
        transport = self._transport  # the other thread may be about to let it go
        if transport is not None:
            transport.cut()

    def _fetched(self, end: float) -> Token:
        settings, server = self._settings, self._server
        where = f"{server.name}.client_secret"
        secret = endpoint.text(where, settings.client_secret, settings.client_secret_file)
        proxy = route(server, self._environment)
        self._transport = transport = Transport(endpoint.tls(server), proxy, self._clock)
        if self._cut:
            transport.cut()
        try:
            in_body = bool(self._in_body)
            answer = self._exchange(transport, secret, end, in_body=in_body)
            if isinstance(answer, Refusal) and answer.other_way and self._in_body is None:
                in_body = True
                answer = self._exchange(transport, secret, end, in_body=in_body)
        except Exception as error:
            raise NoToken(self._told(self._unanswered(error, proxy))) from error
        finally:
            self._transport = None
            transport.close()
        if isinstance(answer, Token):
            self._in_body = in_body
            return answer
        if answer.other_way:
            self._in_body = None
        raise NoToken(self._told(answer.outcome))

    def _exchange(self, transport: Transport, secret: str, end: float, *, in_body: bool) -> Token | Refusal:
        settings, login = self._settings, basic(self._settings.client_id, secret)
        headers = [
            (b"User-Agent", f"limpet/{self._version}".encode()),
            (b"Content-Type", b"application/x-www-form-urlencoded"),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
        ]
        if not in_body:
            headers.append((b"Authorization", login))
        name = settings.tls_config.server_name
        request = httpx.Request(
            "POST",
            settings.token_url,
            headers=headers,
            content=form(settings, secret, in_body=in_body),
            extensions={"sni_hostname": name} if name else {},
        )
        transport.begin(Limits(self._step, max(0.0, end - self._clock())))
        answer = transport.handle_request(request)
        texts = [secret, *(value.reveal() for value in settings.endpoint_params.values())]
        sent = [login.partition(b" ")[2], quote_plus(secret).encode()]
        for text in texts:
            sent += [text.encode(), msgspec.json.encode(text)[1:-1]]
        return understood(answer.status_code, answer.headers, beginning(answer), self._wall(), sent)

    def _unanswered(self, error: Exception, proxy: Proxy | None) -> Outcome:
        if isinstance(error, ProxyAnswer):
            return error.outcome(self._wall())
        if isinstance(error, httpcore.RemoteProtocolError):
            said = words(str(error).encode(errors="replace"))
            return Outcome(Verdict.RETRY, error=f"no valid answer: {said}")
        found = failure(error, self._host if proxy is None else f"{self._host} through the proxy {proxy!r}")
        if found.verdict is Verdict.HELD:
            return found._replace(
                error=f"{found.error}: check oauth2.tls_config, and the server's certificate"
            )
        return found

    def _told(self, outcome: Outcome) -> Outcome:
        """The receiver has not answered anything: there is no status."""
        told = f"oauth2: no token from {self._host}: {outcome.error}"
        query = urlsplit(self._settings.token_url).query
        return outcome._replace(status=0, error=told.replace(query, "...") if query else told)
