"""A folder as a destination type: each request is a file of its own.

So a file has the samples of one request: of `max_age` in a steady flow, or as many as make a request full. The body is what
will be in the file. The `note` is a `Contents`, of which `agent.destinations.file.wire` makes the manifest.

Promises beyond those of `agent.destinations.base`, but for its third, which the reader of a file keeps (`limpet buffer replay`
merges series, and takes the first of several values for an instant):
1. Nothing is refused: what cannot be written now is kept.
2. What the format cannot store is counted (`formats`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.config import File
from agent.destinations.base import (
    RELABELED,
    Destination,
    Encoded,
    Outcome,
    Request,
    Speaks,
    Verdict,
    failed,
)
from agent.destinations.file import formats
from agent.destinations.file.ticks import Relabeling
from agent.destinations.labels import relabeling
from agent.http.answer import Answer
from agent.http.failures import Failure
from buffer.model import Tick

NAME = "file"


class Contents(NamedTuple):
    """The ticks of a request as they came, and what encodes some of them."""

    ticks: Sequence[Tick]
    encode: Callable[[Sequence[Tick]], Encoded]


def file(to: File) -> Speaks:
    """Return what says how to write for a destination."""
    finals = Relabeling(relabeling(to))

    def encode(ticks: Sequence[Tick], part: bool = False) -> Encoded:
        kept, relabeled = finals.of(ticks)
        body, samples, dropped = formats.render(to.format, kept)
        if relabeled:
            dropped[RELABELED] = relabeled
        return Encoded(Request(body, samples, NAME, note=Contents(ticks, encode)), dropped)

    def probe() -> Request:
        return Request(b"", 0, NAME)

    def storable(ticks: Sequence[Tick]) -> Sequence[Tick]:
        return formats.storable(to.format, ticks)

    spoken = Destination(NAME, encode, classify, probe, finals.identity, storable=storable)
    return lambda: spoken


def classify(request: Request, answer: Answer | Failure) -> Outcome:
    """Return what came of a request: a file was written, or it was not."""
    return failed(request, answer) if isinstance(answer, Failure) else Outcome(Verdict.DELIVERED)
