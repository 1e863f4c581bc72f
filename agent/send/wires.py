"""The wire to a destination of any type: over HTTP, but for a type that brings its own."""

from __future__ import annotations

from agent.config import DestinationConfig, File, HttpDestination
from agent.send.asking import Wire
from agent.send.client import Client


def wire(to: DestinationConfig, version: str, hostname: str) -> Wire:
    """Return the wire; the host's name goes where a destination names its author."""
    if isinstance(to, File):
        from agent.destinations.file.wire import FileWire

        return FileWire(to, hostname)
    assert isinstance(to, HttpDestination)
    return Client(to, version)
