"""A request, or a backlog, to a receiver of ours: the two shapes that most tests of the way there have."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.config import RemoteWrite
from agent.destinations.remote_write.outcome import Outcome
from agent.send.client import Client
from agent.send.state import Rules
from tests.support.protocols import EMPTY
from tests.support.receiver import Receiver
from tests.support.sending import QUICK, Host, destination, host


def posted(
    to: RemoteWrite,
    body: bytes = EMPTY,
    *,
    within: float | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Outcome:
    """Return the outcome of one request over a connection of its own."""
    client = Client(to, "0", environment=environment)
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
