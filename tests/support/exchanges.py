"""A request, or a backlog, to a receiver of ours: the two shapes that most tests of the way there have."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from agent.config import RemoteWrite
from agent.destinations.base import Outcome
from agent.destinations.remote_write import formats
from agent.destinations.remote_write.protocol import Protocol
from agent.send.client import Client
from agent.send.state import Rules
from tests.support.certs import Certs
from tests.support.protocols import EMPTY
from tests.support.receiver import Answer, Receiver
from tests.support.sending import QUICK, Host, destination, host


class Poster(Client):
    """A client that posts bodies, and says what the answers mean."""

    def post(self, body: bytes = EMPTY, within: float | None = None) -> Outcome:
        """Send a body as remote write 1.0."""
        request = formats.probe(Protocol.V1)._replace(body=body)
        found = formats.classify(request, self.exchange(request, within=within), time.time())
        return found._replace(error=found.error and self.hidden(found.error))


def posted(
    to: RemoteWrite,
    body: bytes = EMPTY,
    *,
    within: float | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Outcome:
    """Return the outcome of one request over a connection of its own."""
    client = Poster(to, "0", environment=environment)
    try:
        return client.post(body, within=within)
    finally:
        client.close()


@contextmanager
def delivering(
    folder: Path, receiver: Receiver, url: str | None = None, *, rules: Rules = QUICK, **settings: Any
) -> Iterator[Host]:
    """A host that sends to the receiver, at `url` where that is another; in the end everything has arrived once."""
    with host(folder, destination(url or receiver.url, **settings), rules=rules) as one:
        yield one
        one.settled()
        one.accounted(receiver)


Deliver = Callable[..., AbstractContextManager[tuple[Host, Receiver]]]


@contextmanager
def received(
    folder: Path, answers: Iterable[Answer] = (), *, certs: Certs | None = None, **settings: Any
) -> Iterator[tuple[Host, Receiver]]:
    """A receiver with this script, and a host that delivers to it."""
    with Receiver(answers, certs=certs) as receiver, delivering(folder, receiver, **settings) as one:
        yield one, receiver
