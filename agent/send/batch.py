"""A chunk on its way: the parts in which it goes out, and what has become of them. Without input and output.

    chunk -> [ fit -> request -> hear | halve ]* -> settled

Promises:
1. What is sent fits the limits in samples and in bytes, unless it is a single sample.
2. Every sample of the chunk is settled once: delivered, among the culprits, or counted in `dropped`.
3. Of a series nothing is sent before all that is older of it is settled.
4. `request` is the same, byte by byte, until `hear`, `halve` or `fit` has changed the question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.destinations.base import REJECTED, Destination, Outcome, Request, Verdict
from agent.send.culprits import Culprits, Search
from agent.send.parts import Piece, halves
from buffer.model import Chunk, Tick


class Settled(NamedTuple):
    """A chunk that is done with; counts are samples, `dropped` by its reason with the culprits among them."""

    chunk: Chunk
    delivered: int
    dropped: Mapping[str, int]
    repeated: int = 0
    """Of the rejected ones, those that repeat an instant of their series: they were never sent."""
    culprits: Sequence[Culprits] = ()


class Batch:
    """The parts of a chunk. `ticks` are the chunk's to be sent, `dropped` counts the others, by reason."""

    def __init__(
        self, chunk: Chunk, ticks: Sequence[Tick], speaks: Destination, dropped: Mapping[str, int] = {}
    ) -> None:
        request, left_out = speaks.encode(ticks, False)
        self.chunk, self.format, self.is_begun = chunk, request.format, False
        self.dropped = {**left_out, **dropped}
        self.repeated = left_out.get(REJECTED, 0)
        self._speaks, self._delivered = speaks, 0
        self._culprits: dict[tuple[str, Outcome], Culprits] = {}
        self._parts = deque([Piece(ticks, request.samples)] if request.samples else [])
        self._request: Request | None = request
        self._search: Search | None = None

    @property
    def ticks(self) -> Sequence[Tick]:
        """The part that is sent next."""
        return self._parts[0].ticks

    @property
    def oldest_ms(self) -> int:
        """The time of the oldest sample of the part that is sent next, or of the chunk where nothing is left (UTC ms)."""
        return (self._parts[0] if self._parts else self.chunk).ticks[0].at.wall_ms

    @property
    def is_searching(self) -> bool:
        """Whether the request asks about culprits of a part that was refused."""
        return self._search is not None

    @property
    def request(self) -> Request:
        """What is to be sent next."""
        if self._request is None:
            self._request = self._speaks.encode(self.ticks, self.is_begun).request
        return self._request

    @property
    def settled(self) -> Settled | None:
        """What became of the chunk; None while there is something to be sent."""
        if self._parts:
            return None
        dropped = dict(self.dropped)
        for one in self._culprits.values():
            dropped[one.reason] = dropped.get(one.reason, 0) + one.samples
        return Settled(self.chunk, self._delivered, dropped, self.repeated, list(self._culprits.values()))

    def fit(self, samples: int, largest: int) -> None:
        """Cut what is sent next, until it has so many samples and its request so many bytes at most."""
        if self._search is None:
            while self._parts[0].samples > samples or len(self.request.body) > largest:
                if not self.halve():
                    return

    def halve(self) -> bool:
        """Cut the part at hand in two; False where it is a single sample. A search for culprits in it starts again."""
        part = self._parts.popleft()
        found = halves(part.ticks, self._speaks.carries)
        self._parts.extendleft(reversed(found))
        self._request, self._search = None, None
        return len(found) > 1

    def hear(self, outcome: Outcome, suspects: frozenset[bytes]) -> frozenset[bytes]:
        """Take the answer to the request: delivered or refused for good. Return the suspects from now on."""
        self.is_begun, part, self._request = True, self._parts[0], None
        if self._search is None and outcome.verdict is Verdict.DELIVERED:
            self._delivered += part.samples
            self._parts.popleft()
            return suspects
        if self._search is None:
            self._search = Search(part.ticks, self._speaks.carries, outcome, suspects)
        else:
            self._search.hear(outcome)
        if ticks := self._search.ask():
            self._request = self._speaks.encode(ticks, True).request
            return suspects
        search, self._search = self._search, None
        self._delivered += search.delivered
        self._parts.popleft()
        for one in search.culprits():
            self._keep(one)
        return search.suspects()

    def _keep(self, one: Culprits) -> None:
        was = self._culprits.get((one.reason, one.outcome))
        if was is not None:
            one = one._replace(samples=was.samples + one.samples, ticks=[*was.ticks, *one.ticks])
        self._culprits[one.reason, one.outcome] = one
