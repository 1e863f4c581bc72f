"""One destination over HTTP: a body goes out, an `Outcome` comes back. Nothing is raised.

What the receiver tells of itself can be asked for on the same way (`get`); `limpet doctor` does.

Credentials and certificates are read again when their files have changed, before the request. None of them is in an
`Outcome`, whatever a receiver sends back (secrecy.py). They go to the configured host alone: no redirect is followed, and a proxy (proxy.py) sees only what is sent in the clear.
A token, where `oauth2` is configured, is fetched before the request and within its time (oauth2.py).
An exchange takes at most twice
`remote_timeout` (transport.py), and of an answer at most LARGEST_ANSWER bytes are read. The status counts as
soon as it is there: an answer whose body never ends is no reason to send a batch twice.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpcore
import httpx

from agent.config import RemoteWrite
from agent.destinations.remote_write.outcome import (
    NoToken,
    Outcome,
    ProxyAnswer,
    Verdict,
    classify,
    failure,
    words,
)
from agent.destinations.remote_write.protocol import HEADERS, Protocol
from agent.http import endpoint
from agent.http.connection import Limits, Transport
from agent.http.proxy import Proxy, route
from agent.http.secrets import hidden, secrets
from buffer.errors import LimpetError

if TYPE_CHECKING:
    from agent.http.oauth2 import Tokens

LARGEST_ANSWER = 64 << 10

_PLAIN = {"Accept-Encoding": b"identity"}

for _name in ("httpx", "httpcore"):  # they would log whole URLs and headers, in which secrets may be
    logging.getLogger(_name).setLevel(logging.WARNING)


class Client:
    """The connection with a destination. One thread posts; `interrupt` may come from any."""

    def __init__(
        self,
        to: RemoteWrite,
        version: str,
        wall: Callable[[], float] = time.time,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._to, self._wall, self._environment = to, wall, environment
        self._own = {"User-Agent": f"limpet/{version}".encode()}
        parts = urlsplit(to.url)
        self._host = parts.hostname or to.name
        self._extensions = {"sni_hostname": to.tls_config.server_name} if to.tls_config.server_name else {}
        self._files = endpoint.files(to)
        self._stamp: endpoint.Stamp | None = None
        self._seen: endpoint.Stamp | None = None
        self._headers: dict[str, bytes] = {}
        self._secrets: set[str] = set()
        self._proxy: Proxy | None = None
        self._transport: Transport | None = None
        self._client: httpx.Client | None = None
        self._interrupted = False
        self._wire_bytes = 0  # of transports that are gone
        self.answered: Mapping[str, str] = {}
        """The headers of the last answer to a `post`, whatever its status."""
        self.tokens: Tokens | None = None
        if to.oauth2 is not None:
            from agent.http.oauth2 import Tokens  # who has none does not pay for it

            self.tokens = Tokens(to, version, wall, environment)

    def post(
        self, body: bytes, speaking: Protocol = Protocol.V1, attempt: int = 0, within: float | None = None
    ) -> Outcome:
        """Send a compressed body. `attempt` counts earlier tries; `within` bounds it further, in seconds."""
        outcome = self._post(body, speaking, attempt, within)
        if self.tokens is not None:
            outcome = self.tokens.answered(outcome)
        if outcome.error:  # a receiver may repeat what it was sent
            return outcome._replace(error=hidden(outcome.error, self._secrets))
        return outcome

    def wire_bytes(self) -> int:
        """Bytes on the wire since the start, see `transport`."""
        return self._wire_bytes + (self._transport.wire_bytes() if self._transport is not None else 0)

    def _post(self, body: bytes, speaking: Protocol, attempt: int, within: float | None) -> Outcome:
        headers = _PLAIN | HEADERS[speaking] | ({"Retry-Attempt": b"%d" % attempt} if attempt else {})
        try:
            answer = self._exchange("POST", self._to.url, headers, body, within)
        except LimpetError as error:
            return Outcome(Verdict.HELD, error=str(error))
        except NoToken as error:
            return error.outcome
        except ProxyAnswer as error:
            return error.outcome(self._wall())
        except httpcore.RemoteProtocolError as error:
            said = words(str(error).encode(errors="replace"))
            return Outcome(Verdict.RETRY, error=f"no valid answer from {self._host}: {said}")
        except Exception as error:
            return failure(error, self._way(error))
        self.answered = answer.headers
        return classify(answer.status_code, answer.headers, beginning(answer), self._wall())

    def get(self, url: str, largest: int, within: float) -> bytes | None:
        """Return the first `largest` bytes at a URL of the same host, None where there is no answer of 200."""
        try:
            answer = self._exchange("GET", url, _PLAIN, b"", within)
        except Exception:
            return None
        body = beginning(answer, largest)
        return body if answer.status_code == 200 else None

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, bytes], body: bytes, within: float | None
    ) -> httpx.Response:
        client, transport = self._ready()
        step = self._to.remote_timeout
        whole = 2 * step if within is None else min(2 * step, within)
        if self.tokens is not None:
            began = time.monotonic()
            headers = {**headers, "Authorization": self.tokens.authorization(whole)}
            whole -= time.monotonic() - began
        transport.begin(Limits(step, whole))
        request = client.build_request(
            method,
            url,
            content=body,
            headers=[(name.encode(), value) for name, value in {**self._headers, **headers}.items()],
            extensions=self._extensions,
        )
        return client.send(request, stream=True, auth=None, follow_redirects=False)

    def _way(self, error: Exception) -> str:
        """What an error was met on: behind a proxy, it is the proxy's name that was looked up."""
        if self._proxy is None:
            return self._host
        if isinstance(error, socket.gaierror):
            return self._proxy.host
        return f"{self._host} through the proxy {self._proxy!r}"

    def changed(self) -> bool:
        """Whether a file that a request depends on has changed, come or gone since the last request."""
        return endpoint.stamp(self._files) != self._seen

    def _ready(self) -> tuple[httpx.Client, Transport]:
        self._seen = stamp = endpoint.stamp(self._files)
        if self._client is None or self._transport is None or stamp != self._stamp:
            self.close()
            self._proxy = route(self._to, self._environment)
            self._headers, self._secrets = self._own | endpoint.headers(self._to), secrets(self._to)
            self._transport = Transport(endpoint.tls(self._to), self._proxy)
            if self._interrupted:
                self._transport.cut()
            self._client = httpx.Client(transport=self._transport, trust_env=False)
            self._client.headers.clear()
            self._stamp = stamp
        return self._client, self._transport

    def interrupt(self) -> None:
        """End the request that is under way, and let none begin. For a stop; there is no way back."""
        self._interrupted = True
        if self.tokens is not None:
            self.tokens.cut()
        if self._transport is not None:
            self._transport.cut()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._client is not None:
            self._client.close()
        if self._transport is not None:
            self._wire_bytes += self._transport.wire_bytes()
        self._client = self._transport = None


def beginning(answer: httpx.Response, largest: int = LARGEST_ANSWER) -> bytes:
    """Return the first `largest` bytes of an answer's body, or what came of them, and close it; nothing is raised."""
    found = b""
    try:
        for part in answer.iter_raw():
            found += part
            if len(found) >= largest:
                break
    except Exception:  # noqa: S110  what is here of the body has to do
        pass
    finally:
        answer.close()
    return found[:largest]
