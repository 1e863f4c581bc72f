"""What must not be shown of a destination, and texts without it.

A receiver can send back what it was sent, and its words go to the log, the status and the quarantine. Promise: none of
the secrets that `secrets` knows is in what `hidden` returns, nor the beginning of one at its end; but for those of less
than SHORTEST characters.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, quote_plus, unquote, urlsplit

from agent.config import OAuth2, RemoteWrite, Secret
from agent.http import endpoint
from buffer.errors import LimpetError

HIDDEN = "<secret>"
SHORTEST = 4
"""Characters of the shortest text that `hidden` takes for a secret: it may be a tenant's number otherwise."""


def secrets(to: RemoteWrite) -> set[str]:
    """The texts that must not be shown, in every form in which a receiver could send them back."""
    found = set(to.headers.values())
    query = urlsplit(to.url).query
    found |= {query, unquote(query), *(value for _, value in parse_qsl(query))}
    found |= {value for part in query.split("&") for value in part.split("=")[1:]}
    for name, header in to.http_headers.items():
        found |= _unless_unreadable(endpoint.header_values, header, name)
    if to.proxy_url is not None:
        found |= _password(to.proxy_url)
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
    found |= {" ".join(text.split()) for text in found}  # as the sender writes a receiver's words
    return found - {""}


def _of_oauth2(settings: OAuth2) -> set[str]:
    """The texts that must not be shown of what a token server is sent; the token is not known yet."""
    found = {value.reveal() for value in settings.endpoint_params.values()}
    query = urlsplit(settings.token_url).query
    found |= {query, unquote(query), *(value for _, value in parse_qsl(query))}
    if settings.proxy_url is not None:
        found |= _password(settings.proxy_url)
    given = settings.client_secret, settings.client_secret_file
    for secret in _unless_unreadable(lambda: [endpoint.text("", *given)]):
        both = f"{quote_plus(settings.client_id)}:{quote_plus(secret)}"
        found |= {secret, quote_plus(secret), both, b64encode(both.encode()).decode()}
    return found


def _password(proxy_url: Secret) -> set[str]:
    password = urlsplit(proxy_url.reveal()).password or ""
    return {text for text in (password, unquote(password)) if text}


def _unless_unreadable(read: Callable[..., Iterable[str]], *arguments: Any) -> set[str]:
    """What `read` returns; nothing where a file cannot be read, since nothing of it is sent then."""
    try:
        return set(read(*arguments))
    except LimpetError:
        return set()


def hidden(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets, nor the beginning of one where a receiver's words were cut in it."""
    known = sorted((one for one in secrets if len(one) >= SHORTEST), key=len, reverse=True)
    for secret in known:
        text = text.replace(secret, HIDDEN)
    words = text.removesuffix(")")  # some words stand in brackets
    for secret in known:
        for size in range(len(secret) - 1, SHORTEST - 1, -1):
            if words.endswith(secret[:size]):
                return words[:-size] + HIDDEN + text[len(words) :]
    return text
