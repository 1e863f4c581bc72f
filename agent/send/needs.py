"""What a lane needs of others: its cursor, the buffer, the quarantine and the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from agent.destinations.remote_write import protocol
from agent.destinations.remote_write.outcome import Outcome
from buffer.model import Chunk, Tick
from buffer.quarantine import Item


class Cursor(Protocol):
    """What a lane needs of `buffer.cursor.Cursor`."""

    @property
    def position(self) -> int:
        """In samples: everything before it is settled."""

    @property
    def ahead(self) -> int | None:
        """Where `read_ahead` goes on; None where that is no other place than the position."""

    def read(self, max_samples: int) -> Chunk:
        """Return whole records from the position on, one at least; an empty chunk where nothing is new."""

    def read_ahead(self, max_samples: int) -> Chunk:
        """Return whole records from `ahead` on."""

    def go_ahead(self, samples: int) -> bool:
        """Go ahead to the newest records, those of the last `samples`; False where all stays as it was."""

    def pending(self) -> int:
        """Return the number of samples that are not settled."""

    def pending_ahead(self) -> int:
        """Return the number of those that `read_ahead` has, or `read` where nothing is ahead."""

    def commit(self, start: int, end: int, delivered: int, dropped: Mapping[str, int]) -> None:
        """Settle the positions of a chunk. It has moved also when it raises OSError."""

    def note(self, state: str, error: str | None) -> None:
        """Keep the state and the last error."""


class Buffer(Protocol):
    """What a lane needs of `buffer.buffer.Buffer`."""

    def wait(self, position: int, timeout: float) -> None:
        """Return when something was appended behind `position`, after `timeout`, or on `wake`."""

    def wake(self) -> None:
        """Make every `wait` return."""


class Quarantine(Protocol):
    """What a lane needs of `buffer.quarantine.Quarantine`."""

    def put(
        self,
        destination: str,
        position: int,
        ticks: Sequence[Tick],
        reason: str,
        status: int,
        message: str,
        now_ms: int,
    ) -> Sequence[Item]:
        """Keep these ticks and return what had to go for them. Raises OSError; ValueError: they do not fit."""


class Wire(Protocol):
    """What a lane needs of `agent.send.client.Client`."""

    def post(
        self, body: bytes, speaking: protocol.Protocol, attempt: int = 0, within: float | None = None
    ) -> Outcome:
        """Send a body, and never raise."""

    def wire_bytes(self) -> int:
        """Return the bytes on the wire so far; 0 where they are not counted."""

    def changed(self) -> bool:
        """Return whether a file of credentials or certificates has changed since the last request."""

    def interrupt(self) -> None:
        """End the request under way, for good."""

    def close(self) -> None:
        """Close the connection."""
