"""One destination over HTTP: a request goes out, an `Answer` or a `Failure` comes back. Nothing is raised.

An exchange takes at most twice `remote_timeout`. `agent.http.session` says what else is promised of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from agent.config import HttpDestination
from agent.destinations.base import Request
from agent.http import endpoint
from agent.http.answer import LARGEST_ANSWER, Answer
from agent.http.failures import Failure
from agent.http.session import Session

_PLAIN = {"Accept-Encoding": b"identity"}


class Client:
    """The connection with a destination. One thread sends; `interrupt` may come from any."""

    def __init__(
        self,
        to: HttpDestination,
        version: str,
        wall: Callable[[], float] = time.time,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._url, self._step = to.write_url, to.remote_timeout
        self.session = session = Session(endpoint.of_destination(to), version, wall, environment)
        self.wire_bytes, self.changed, self.hidden = session.wire_bytes, session.changed, session.hidden
        self.repeats, self.renew, self.expires = session.repeats, session.renew, session.expires
        self.interrupt, self.close = session.interrupt, session.close

    def exchange(self, request: Request, attempt: int = 0, within: float | None = None) -> Answer | Failure:
        """Post a request. `attempt` counts earlier tries; `within` bounds it further, in seconds."""
        first, again = (
            {request.attempt_header: b"%d" % n} if n and request.attempt_header else {}
            for n in (attempt, attempt + 1)
        )
        headers = {**_PLAIN, **request.headers, **first}
        return self._exchange("POST", self._url, headers, request.body, within, repeated=again)

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
        repeated: Mapping[str, bytes] = {},
    ) -> Answer | Failure:
        step = self._step
        whole = 2 * step if within is None else min(2 * step, within)
        return self.session.exchange(
            method, url, headers, body, step=step, whole=whole, largest=largest, repeated=repeated
        )
