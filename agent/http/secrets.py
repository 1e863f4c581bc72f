"""What must not be shown of the way to a server, and texts without it.

A server can send back what it was sent, and its words go to the log, the status and the quarantine. Promise: none of
the secrets that `secrets` knows is in what `hidden` returns, nor the beginning of one at its end; but for those of less
than SHORTEST characters.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, quote_plus, unquote, urlsplit

from agent.config import OAuth2, Secret
from agent.http import endpoint
from agent.http.endpoint import Endpoint
from buffer.errors import LimpetError

HIDDEN = "<secret>"
SHORTEST = 4
"""Characters of the shortest text that is taken for a secret: it may be a tenant's number otherwise."""


def secrets(to: Endpoint) -> set[str]:
    """Return the texts that must not be shown, in every form in which a server could send them back."""
    found = {*to.headers.values(), *_of_query(to.url)}
    found |= {value for part in urlsplit(to.url).query.split("&") for value in part.split("=")[1:]}
    for name, header in to.http_headers.items():
        found |= _unless_unreadable(endpoint.header_values, header, name)
    found |= _of_proxy(to.proxy_url)
    sent = _unless_unreadable(
        lambda: [endpoint.headers(to).get("Authorization", b"").decode(errors="replace")]
    )
    kind, _, credentials = "".join(sent).partition(" ")
    found.add(credentials)
    if to.basic_auth and kind == "Basic":
        both = b64decode(credentials).decode(errors="replace")
        found |= {both, both.partition(":")[2]}
    if to.oauth2 is not None:
        found |= _of_oauth2(to.oauth2)
    found |= {" ".join(text.split()) for text in found}  # as a server's words are written
    return found - {""}


def _of_oauth2(settings: OAuth2) -> set[str]:
    """Return the secrets in what a token server is sent; the token is not known yet."""
    found = {value.reveal() for value in settings.endpoint_params.values()}
    found |= _of_query(settings.token_url) | _of_proxy(settings.proxy_url)
    given = settings.client_secret, settings.client_secret_file
    for secret in _unless_unreadable(lambda: [endpoint.text("", *given)]):
        both = f"{quote_plus(settings.client_id)}:{quote_plus(secret)}"
        found |= {secret, quote_plus(secret), both, b64encode(both.encode()).decode()}
    return found


def _of_query(url: str) -> set[str]:
    query = urlsplit(url).query
    return {query, unquote(query), *(value for _, value in parse_qsl(query))}


def _of_proxy(url: Secret | None) -> set[str]:
    password = (urlsplit(url.reveal()).password if url is not None else None) or ""
    return {password, unquote(password)}


def _unless_unreadable(read: Callable[..., Iterable[str]], *arguments: Any) -> set[str]:
    """Return what `read` returns; nothing where a file cannot be read, since nothing of it is sent then."""
    try:
        return set(read(*arguments))
    except LimpetError:
        return set()


def hidden(text: str, secrets: Iterable[str]) -> str:
    """Return the text without the secrets, nor the beginning of one where a receiver's words were cut in it."""
    known = sorted((one for one in secrets if len(one) >= SHORTEST), key=len, reverse=True)
    for secret in known:
        text = text.replace(secret, HIDDEN)
    words = text.removesuffix(")")  # some words are in brackets
    for secret in known:
        for size in range(min(len(secret) - 1, len(words)), SHORTEST - 1, -1):
            if words.endswith(secret[:size]):
                return words[:-size] + HIDDEN + text[len(words) :]
    return text


def without_token(text: str, token: str) -> str:
    """Return the text without a token, nor a beginning of one, wherever a server has cut it."""
    if len(token) < SHORTEST:
        return text
    return re.sub(re.escape(token[:8]) + "[\x21-\x27\x2a-\x7e]*", HIDDEN, text)  # words may be in brackets
