"""One destination over HTTP: a body goes out, an `Outcome` comes back. Nothing is raised.

An exchange takes at most twice `remote_timeout`. What else is promised of it, says `agent.http.session`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from agent.config import RemoteWrite
from agent.destinations.remote_write.outcome import Outcome, classify, of_failure
from agent.destinations.remote_write.protocol import HEADERS, Protocol
from agent.http import endpoint
from agent.http.answer import LARGEST_ANSWER, Answer
from agent.http.failures import Failure
from agent.http.session import Session

_PLAIN = {"Accept-Encoding": b"identity"}


class Client:
    """The connection with a destination. One thread posts; `interrupt` may come from any."""

    def __init__(
        self,
        to: RemoteWrite,
        version: str,
        wall: Callable[[], float] = time.time,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._url, self._step, self._wall = to.url, to.remote_timeout, wall
        self.session = session = Session(endpoint.of_destination(to), version, wall, environment)
        self.wire_bytes, self.changed = session.wire_bytes, session.changed
        self.interrupt, self.close = session.interrupt, session.close
        self.answered: Mapping[str, str] = {}
        """The headers of the last answer to a `post`, whatever its status."""

    def post(
        self, body: bytes, speaking: Protocol = Protocol.V1, attempt: int = 0, within: float | None = None
    ) -> Outcome:
        """Send a compressed body. `attempt` counts earlier tries; `within` bounds it further, in seconds."""
        headers = _PLAIN | HEADERS[speaking] | ({"Retry-Attempt": b"%d" % attempt} if attempt else {})
        found = self._exchange("POST", self._url, headers, body, within)
        if isinstance(found, Failure):
            return of_failure(found)
        self.answered = found.headers
        outcome = classify(*found, self._wall())
        error = outcome.error and self.session.hidden(outcome.error)  # it may repeat what it was sent
        return outcome._replace(error=error)

    def get(self, url: str, largest: int, within: float) -> bytes | None:
        """Return the first `largest` bytes at a URL of the same host, None where there is no answer of 200."""
        found = self._exchange("GET", url, _PLAIN, b"", within, largest)
        return None if isinstance(found, Failure) or found.status != 200 else found.body

    def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, bytes],
        body: bytes,
        within: float | None,
        largest: int = LARGEST_ANSWER,
    ) -> Answer | Failure:
        step = self._step
        whole = 2 * step if within is None else min(2 * step, within)
        return self.session.exchange(method, url, headers, body, step=step, whole=whole, largest=largest)
