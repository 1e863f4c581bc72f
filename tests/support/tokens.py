"""A small OAuth 2.0 token server (client credentials) on a real socket, and a receiver that wants its tokens.

It takes `client_id` with `secret` by HTTP Basic or in the body (`styles`), and gives out tokens that are good for
`life` seconds. Answers are scripted as a list of bytes, whole answers as they go over the wire, or of functions that are
given the connection and an event that is set when the server stops; when the list is used up, `always` does, where it
is set. Every request is in `asked`.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote_plus

from tests.support.receiver import Answer, Receiver
from tests.support.tcp import Handler

CLIENT, SECRET = "limpet host/1", "s3cret: +&%é/canary"

Script = bytes | Callable[[socket.socket, threading.Event], None]


def answer(status: int, body: bytes | Mapping[str, Any] = b"", **headers: str) -> bytes:
    """The bytes of an answer; `_` in the name of a header is `-`."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def hang(_: socket.socket, stopping: threading.Event) -> None:
    """Never answer."""
    stopping.wait(60)


class Asked(NamedTuple):
    """A request for a token: when (monotonic seconds), its path, headers (names in lower case) and form."""

    at: float
    path: str
    headers: Mapping[str, str]
    form: Mapping[str, str]


class TokenServer(Receiver):
    """A context manager; `url` is for token_url. It speaks TLS if `certs` are given."""

    def __init__(
        self,
        *scripts: Script,
        always: Script | None = None,
        life: float | None = 3600,
        secret: str = SECRET,
        styles: Iterable[str] = ("header", "body"),
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.secret, self.styles, self.life = secret, set(styles), life
        self.scripts, self.always = deque(scripts), always
        self.asked: list[Asked] = []
        self.granted: dict[str, float] = {}
        """Each token, and when it ends."""

    @property
    def url(self) -> str:
        """Where tokens come from."""
        return super().url.replace("/api/v1/write", "/oauth2/token")

    def good(self, authorization: str | None) -> bool:
        """Whether a receiver would take this header."""
        kind, _, token = (authorization or "").partition(" ")
        return kind == "Bearer" and self.granted.get(token, 0.0) > time.monotonic()

    def revoke(self) -> None:
        """Make all tokens bad."""
        self.granted = dict.fromkeys(self.granted, 0.0)

    def take(self, handler: Handler) -> None:
        headers = handler.lowered()
        body = handler.rfile.read(int(headers.get("content-length", "0")))
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        self.asked.append(Asked(time.monotonic(), handler.path, headers, form))
        script = self.scripts.popleft() if self.scripts else self.always
        if script is None:
            script = self._granted(headers, form)
        handler.close_connection = True
        try:
            if isinstance(script, bytes):
                handler.wfile.write(script)
            else:
                script(handler.connection, self.stopping)
        except OSError:
            pass  # the client has gone

    def _granted(self, headers: Mapping[str, str], form: Mapping[str, str]) -> bytes:
        login: tuple[str, ...] = ()
        kind, _, coded = headers.get("authorization", "").partition(" ")
        if "header" in self.styles and kind == "Basic":
            login = tuple(unquote_plus(part) for part in b64decode(coded).decode().split(":"))
        elif "body" in self.styles and "client_id" in form:
            login = (form["client_id"], form.get("client_secret", ""))
        if headers.get("content-type") != "application/x-www-form-urlencoded":
            return answer(400, {"error": "invalid_request"})
        if login != (CLIENT, self.secret):
            return answer(401, {"error": "invalid_client", "error_description": "who are you?"})
        if form.get("grant_type") != "client_credentials":
            return answer(400, {"error": "unsupported_grant_type"})
        token = f"token-{len(self.granted)}-canary-~+/="
        self.granted[token] = time.monotonic() + (self.life or 1e6)
        life = {} if self.life is None else {"expires_in": self.life}
        return answer(200, {"access_token": token, "token_type": "bearer", **life})


class Guarded(Receiver):
    """A receiver that takes what comes with a good token, and answers 401 to all else, repeating what it was sent."""

    def __init__(self, tokens: TokenServer, **settings: Any) -> None:
        super().__init__(**settings)
        self.tokens = tokens
        self.turned_away: list[str | None] = []

    def take(self, handler: Handler) -> None:
        sent = handler.headers["Authorization"]
        if self.tokens.good(sent):
            super().take(handler)
            return
        self.turned_away.append(sent)
        handler.rfile.read(int(handler.headers["Content-Length"]))
        self._reply(handler, Answer(401, body=f"who is {sent}".encode()))
