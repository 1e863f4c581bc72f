"""OTLP over HTTP as a destination type: protobuf, compressed with gzip or zstd.

Promises beyond those of `agent.destinations.base`:
1. Points that the receiver rejects (`partial_success`) are found and kept in the quarantine; the others are delivered.
2. No 2xx counts without proof that it is a receiver's: it has to refuse what says that it is protobuf and is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from agent.config import OTLP
from agent.destinations.base import (
    REJECTED,
    RELABELED,
    Destination,
    Encoded,
    Outcome,
    Request,
    Speaks,
)
from agent.destinations.gzipped import gzipped
from agent.destinations.labels import relabeling
from agent.destinations.otlp.outcome import PROTOBUF, classify
from agent.destinations.otlp.points import PointWriter
from agent.destinations.proof import Proof
from agent.http.answer import Answer
from agent.http.failures import Failure
from buffer.model import Tick

NAME = "OTLP"
PLAIN = {"Content-Type": PROTOBUF.encode()}
UNREADABLE = b"\x0a" + b"\xff" * 12
"""The tag of the resources with a length that has no end: no message."""


def _zstd(body: bytes) -> bytes:
    from agent.destinations.zstd import zstd

    return zstd(body)


def _plain(body: bytes) -> bytes:
    return body


PACKED = {"gzip": gzipped, "zstd": _zstd, "none": _plain}


def otlp(to: OTLP, from_boot: frozenset[str] = frozenset(), wall: Callable[[], float] = time.time) -> Speaks:
    """Return what says how to send to a destination. `from_boot` are the groups that count from the host's boot."""
    writer = PointWriter(relabeling(to), from_boot, is_semantic=to.names == "semantic")
    packed, proof = PACKED[to.compression], Proof(Request(UNREADABLE, 0, NAME, PLAIN))
    headers = PLAIN if to.compression == "none" else {**PLAIN, "Content-Encoding": to.compression.encode()}

    def made(body: bytes, samples: int, points: int) -> Request:
        return Request(packed(body), samples, NAME, headers, note=points)

    def encode(ticks: Sequence[Tick], part: bool) -> Encoded:
        body, samples, points, repeated, relabeled = writer.encode(ticks)
        counts = {RELABELED: relabeled, REJECTED: repeated}
        return Encoded(
            made(body, samples, points), {reason: count for reason, count in counts.items() if count}
        )

    def judge(request: Request, answer: Answer | Failure) -> Outcome:
        return proof.judge(request, answer, classify(request, answer, wall()))

    def ask() -> Request:
        return proof.request() if proof.is_missing else made(b"", 0, 0)

    spoken = Destination(NAME, encode, judge, ask, writer.identity)
    return lambda: spoken
