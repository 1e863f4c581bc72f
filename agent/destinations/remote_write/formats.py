"""Remote write 1.0 and 2.0 as destination types, and the negotiation between them.

Promises beyond those of `agent.destinations.base`:
1. A metric's type, unit and help are sent along with its samples, when `descriptions` says so; with 2.0 the type is in each
   request.
2. `protobuf_message: auto` sends 2.0 where the receiver shows that it understands it, else 1.0 (`protocol`).
3. No 2xx counts without proof that it is a receiver's: with 2.0 its counts, with 1.0 a refusal of what nobody can read.
4. To VictoriaMetrics 1.0 goes in zstd (`packing`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import snappy

from agent.config import RemoteWrite
from agent.destinations.base import (
    REJECTED,
    RELABELED,
    Destination,
    Encoded,
    Outcome,
    Request,
    Speaks,
    failed,
)
from agent.destinations.labels import relabeling
from agent.destinations.remote_write import encode, outcome, protocol
from agent.destinations.remote_write.descriptions import Descriptions
from agent.destinations.remote_write.encode1 import Encoder1
from agent.destinations.remote_write.encode2 import Encoder2
from agent.destinations.remote_write.packing import Packing
from agent.destinations.remote_write.protocol import EMPTY, HEADERS, UNPROVEN, Protocol
from agent.http.answer import Answer
from agent.http.failures import Failure
from buffer.exemplars import Exemplar, Exemplars
from buffer.model import Tick


def remote_write(
    to: RemoteWrite,
    from_boot: frozenset[str] = frozenset(),
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    exemplars: Exemplars | None = None,
) -> Speaks:
    """Return what says how to send to a destination now. `from_boot` are the groups that count from the host's boot.

    With `send_exemplars` and remote write 2.0 `exemplars` go along.
    """
    relabel, metadata, packing = relabeling(to), to.metadata_config, Packing(clock)

    def make(spoken: Protocol) -> Destination:
        if spoken is Protocol.V1:
            return version1(Encoder1(relabel), Descriptions(metadata, clock), packing, wall)
        shown = exemplars if to.send_exemplars else None
        encoder = Encoder2(relabel, metadata=metadata.send, from_boot=from_boot, exemplars=shown)
        return version2(encoder, Descriptions(metadata, clock), wall)

    return Negotiation(to.protobuf_message, make, clock, packing)


class _Note(NamedTuple):
    """What is in a request of 2.0 besides samples."""

    described: Mapping[str, encode.Description]
    exemplars: Sequence[Exemplar]


def version1(
    encoder: Encoder1,
    descriptions: Descriptions,
    packing: Packing,
    wall: Callable[[], float] = time.time,
) -> Destination:
    """Return remote write 1.0."""

    def write(ticks: Sequence[Tick], part: bool) -> Encoded:
        due = {} if part else descriptions.due(encoder.families(ticks))
        encoded = encoder.encode(ticks, due)
        return Encoded(packing.pack(encoded.body, encoded.samples, due), _dropped(encoded))

    def judge(request: Request, answer: Answer | Failure) -> Outcome:
        found = classify(request, answer, wall())
        if not packing.is_proof(request):
            descriptions.hear(request, found)
        return packing.judge(request, answer, found)

    return Destination("1.0", write, judge, packing.probe, encoder.labels)


def version2(
    encoder: Encoder2, descriptions: Descriptions, wall: Callable[[], float] = time.time
) -> Destination:
    """Return remote write 2.0."""

    def write(ticks: Sequence[Tick], part: bool) -> Encoded:
        due = {} if part else descriptions.due(encoder.families(ticks))
        encoded = encoder.encode(ticks, due, exemplars=not part)
        body, note = bytes(snappy.compress(encoded.body)), _Note(due, encoded.exemplars)
        request = Request(body, encoded.samples, "2.0", HEADERS[Protocol.V2], "Retry-Attempt", note)
        return Encoded(request, _dropped(encoded))

    def judge(request: Request, answer: Answer | Failure) -> Outcome:
        found, note = classify(request, answer, wall()), request.note
        if isinstance(note, _Note):
            encoder.sent(note.exemplars)
            request = request._replace(note=note.described)
        descriptions.hear(request, found)
        return found

    return Destination("2.0", write, judge, lambda: probe(Protocol.V2), encoder.labels)


def probe(spoken: Protocol) -> Request:
    """Return a write without series."""
    return Request(EMPTY[spoken], 0, spoken.version, HEADERS[spoken])


class Negotiation:
    """Says which of the two is spoken, and learns from the answers. `make` returns one of them; 1.0 is packed by `packing`."""

    def __init__(
        self,
        message: str,
        make: Callable[[Protocol], Destination],
        clock: Callable[[], float],
        packing: Packing,
    ) -> None:
        self._packing = packing
        self._speech, self._make, self._clock = protocol.begin(message), make, clock
        self._plain = make(self._speech.protocol)

    def __call__(self) -> Destination:
        """Return the destination type to send with now."""
        self._speech = protocol.now(self._speech, self._clock())
        if self._plain.name != self._speech.protocol.version:
            self._plain = self._make(self._speech.protocol)
        most = UNPROVEN if self._speech.is_open else None
        is_older = self._speech.protocol is Protocol.V1
        name = self._packing.format if is_older else self._plain.name
        return self._plain._replace(name=name, classify=self._classify, max_samples=most)

    def _classify(self, request: Request, answer: Answer | Failure) -> Outcome:
        found, was = self._plain.classify(request, answer), self._speech
        if not request.format.startswith(was.protocol.version):  # a day had passed while it was under way
            return found
        self._speech, found = protocol.heard(was, request.samples, found, self._clock())
        if (self._speech.protocol, self._speech.proven) != (was.protocol, was.proven):
            return found._replace(found=self._speech.protocol.version)
        return found


def _dropped(encoded: encode.Encoded) -> dict[str, int]:
    counts = {RELABELED: encoded.relabeled, REJECTED: encoded.repeated}
    return {reason: count for reason, count in counts.items() if count}


def classify(request: Request, answer: Answer | Failure, now: float) -> Outcome:
    """Return what an answer, or a failure, means. `now` is Unix time in seconds."""
    if isinstance(answer, Failure):
        return failed(request, answer)
    return outcome.classify(answer.status, answer.headers, answer.body, now)
