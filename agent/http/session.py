"""One server over HTTP, the only client there is: a request goes out, an `Answer` or a `Failure` comes back.

What is promised:

1. Nothing is raised, and an exchange ends in time (connection.py). The time for a token is within it.
2. Credentials and certificates are read again when their files have changed, before the request. They go to the
   configured host alone: no redirect is followed, and a proxy (proxy.py) sees only what is sent in the clear.
3. No text of a `Failure` has a secret in it, whatever a server sends back. What a caller makes of an answer's words, it
   gives to `hidden` first.
4. A kept connection may be dead without a sign: the server closes it at the very moment at which it is used again, a NAT
   has forgotten it, the host has another address. A request that fails on a connection that was used before, without a
   byte of an answer, goes out once more at once, on a new one, with `repeated` headers, and counts in `repeats`. Not so
   where the bytes were acknowledged and the answer does not come in time: the server may be at work on them. Nothing
   else is repeated here.
5. The status counts as soon as it has arrived: a body that never ends does not make an answer a failure.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import httpcore
import httpx

from agent.http import certificates, endpoint
from agent.http.answer import LARGEST_ANSWER, Answer
from agent.http.connection import Connection, clock
from agent.http.endpoint import Endpoint
from agent.http.failures import Cause, Failure, failure
from agent.http.proxy import Proxy, route
from agent.http.secrets import hidden, secrets, without_token
from agent.http.sockets import Unacknowledged

if TYPE_CHECKING:
    from agent.http.oauth2 import Tokens

T = TypeVar("T")

for _name in ("httpx", "httpcore"):  # they would log whole URLs and headers, in which secrets may be
    logging.getLogger(_name).setLevel(logging.WARNING)


class Session:
    """What is kept of one server: the connection, the credentials and the token. One thread asks."""

    def __init__(
        self,
        to: Endpoint,
        version: str,
        wall: Callable[[], float] = time.time,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = clock,
    ) -> None:
        self._to, self._version, self._wall, self._environment = to, version, wall, environment
        self._clock = clock
        self._files = endpoint.files(to)
        self._stamp: endpoint.Stamp | None = None
        self._configured: dict[str, bytes] = {}
        self._secrets: set[str] = set()
        self._proxy: Proxy | None = None
        self._own_expires: float | None = None
        self._connection: Connection | None = None
        self._interrupted = self._is_over = False
        self._repeats = 0
        self._wire_bytes = 0  # of connections that are gone
        self._token_server: Session | None = None
        self.tokens: Tokens | None = None
        if to.oauth2 is not None:
            from agent.http.oauth2 import Tokens  # only who uses it pays for it

            server = Session(endpoint.of_token_server(to.oauth2, to.name), version, wall, environment, clock)
            exchange = partial(server.exchange, "POST", to.oauth2.token_url)
            self._token_server, self.tokens = server, Tokens(to.oauth2, to.name, exchange, wall)

    def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, bytes],
        body: bytes = b"",
        *,
        step: float,
        whole: float,
        largest: int = LARGEST_ANSWER,
        repeated: Mapping[str, bytes] = {},
    ) -> Answer | Failure:
        """Send a request; return the answer with the first `largest` bytes of its body, or what came of them.

        `step` and `whole` are seconds: for each step, and for the whole exchange. The URL is on the endpoint's host.
        Headers that are configured override those given; `repeated` are further ones where the request goes out again.
        """

        def take(response: httpx.Response) -> Answer:
            via = self._connection.via if self._connection is not None else None
            body = _beginning(response, largest)
            return Answer(response.status_code, dict(response.headers), body).over(via)

        return self.stream(method, url, headers, body, take, step=step, whole=whole, repeated=repeated)

    def stream(
        self,
        method: str,
        url: str,
        headers: Mapping[str, bytes],
        body: bytes,
        take: Callable[[httpx.Response], T],
        *,
        step: float,
        whole: float,
        repeated: Mapping[str, bytes] = {},
    ) -> T | Failure:
        """Send a request, as `exchange` does; return what `take` makes of the answer while its body arrives.

        Whatever `take` raises becomes a `Failure`: what goes wrong with the connection, and an `Unusable` of its own.
        """
        found: T | Failure
        end = self._clock() + whole
        try:
            connection = self._ready()
            token = self.tokens.authorization(step, whole) if self.tokens is not None else b""
            if isinstance(token, Failure):
                found = token
            else:
                request = partial(self._request, method, url, body=body, token=token)
                requests = request(headers), request({**headers, **repeated})
                with closing(self._send(connection, requests, step, end)) as response:
                    found = self._refused_token(response) or take(response)
        except Exception as error:
            found = self._failure(error)
        return found._replace(text=self.hidden(found.text)) if isinstance(found, Failure) else found

    def hidden(self, text: str) -> str:
        """Return the text without the secrets of this server, for it may repeat what it was sent."""
        return hidden(without_token(text, self.tokens.secret) if self.tokens else text, self._secrets)

    def wire_bytes(self) -> int:
        """Return the bytes on the wire so far (connection.py), with those to a token server."""
        tokens = self._token_server.wire_bytes() if self._token_server is not None else 0
        own = self._connection.sockets.wire_bytes() if self._connection is not None else 0
        return self._wire_bytes + own + tokens

    def repeats(self) -> int:
        """Return how many requests went out twice so far, because the connection was dead."""
        return self._repeats

    def expires(self) -> float | None:
        """Return when the first certificate in use ends, the server's or this host's own (Unix s); None: not known."""
        peer = self._connection.peer_expires if self._connection is not None else None
        return certificates.first(peer, self._own_expires)

    def changed(self) -> bool:
        """Return whether a file that a request depends on has changed, come or gone since the last request."""
        return endpoint.stamp(self._files) != self._stamp

    def interrupt(self) -> None:
        """End the request at hand, and let none begin. Safe from any thread; there is no way back."""
        self._interrupted = True
        if self._token_server is not None:
            self._token_server.interrupt()
        if self._connection is not None:
            self._connection.sockets.cut()

    def renew(self) -> None:
        """Let the next request open a connection, so that the name is looked up again. Safe from any thread."""
        self._is_over = True

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._token_server is not None:
            self._token_server.close()
        if self._connection is not None:
            self._connection.close()
            self._wire_bytes += self._connection.sockets.wire_bytes()
        self._connection = None

    def _ready(self) -> Connection:
        """Return the connection, opened again if a file has changed. Raises LimpetError."""
        stamp = endpoint.stamp(self._files)
        if self._connection is None or stamp != self._stamp:
            self.close()
            self._stamp = stamp
            self._proxy = route(self._to, self._environment)
            self._configured, self._secrets = endpoint.headers(self._to), secrets(self._to)
            self._own_expires = endpoint.own_certificate_ends(self._to)
            name = self._to.tls_config.server_name
            self._connection = Connection(endpoint.tls(self._to), self._proxy, name, self._clock)
            if self._interrupted:
                self._connection.sockets.cut()
        if self._is_over:
            self._is_over = False
            self._connection.close()
        return self._connection

    def _request(
        self, method: str, url: str, headers: Mapping[str, bytes], *, body: bytes, token: bytes
    ) -> httpx.Request:
        sent = {"User-Agent": f"limpet/{self._version}".encode(), **headers, **self._configured}
        if self.tokens is not None:
            sent["Authorization"] = token
        pairs = [(name.encode(), value) for name, value in sent.items()]
        return httpx.Request(method, url, content=body, headers=pairs)

    def _send(
        self, connection: Connection, requests: tuple[httpx.Request, httpx.Request], step: float, end: float
    ) -> httpx.Response:
        """Send the first of two requests; where it meets a dead connection, the other over a new one."""
        if self.tokens is not None:
            self.tokens.used += 1
        is_used = connection.is_kept
        connection.sockets.begin(step, end - self._clock())
        try:
            return connection.handle_request(requests[0])
        except (OSError, httpcore.RemoteProtocolError) as error:
            is_unsure = isinstance(error, TimeoutError) and not isinstance(error, Unacknowledged)
            if not is_used or is_unsure or connection.sockets.heard or self._interrupted:
                raise
        self._repeats += 1
        connection.bury()
        connection.sockets.begin(step, end - self._clock())
        return connection.handle_request(requests[1])

    def _refused_token(self, response: httpx.Response) -> Failure | None:
        body = partial(_beginning, response, LARGEST_ANSWER)
        return self.tokens.answered(response.status_code, body) if self.tokens is not None else None

    def _failure(self, error: Exception) -> Failure:
        """Return what an error means; behind a proxy it says so, and it is the proxy's name that was looked up."""
        host = self._to.host
        if self._proxy is not None and isinstance(error, socket.gaierror):
            host = self._proxy.host
        elif self._proxy is not None and not isinstance(error, httpcore.ProtocolError | httpcore.ProxyError):
            host = f"{host} through the proxy {self._proxy!r}"
        found = failure(error, host, self._wall())
        said_nothing = self._connection is not None and not self._connection.sockets.heard
        is_cut = said_nothing and isinstance(error, httpcore.RemoteProtocolError)
        return found._replace(cause=Cause.CUT) if is_cut else found


def _beginning(response: httpx.Response, largest: int) -> bytes:
    """Return the first `largest` bytes of a body, or what came of them; nothing is raised."""
    found = b""
    try:
        for part in response.iter_raw():
            found += part
            if len(found) >= largest:
                break
    except Exception:  # noqa: S110  what has come of the body has to do
        pass
    return found[:largest]
