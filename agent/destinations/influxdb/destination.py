"""InfluxDB as a destination type: line protocol over HTTP, compressed with gzip.

Promises beyond those of `agent.destinations.base`:
1. A sample that InfluxDB cannot store (NaN, an infinity) is counted as `unstorable`, and costs nothing else.
2. No 2xx counts without proof that it is a receiver's: it has to refuse what says that it is gzip and is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from agent.config import InfluxDB
from agent.destinations.base import (
    REJECTED,
    RELABELED,
    UNSTORABLE,
    Destination,
    Encoded,
    Outcome,
    Request,
    Speaks,
)
from agent.destinations.gzipped import gzipped
from agent.destinations.influxdb.lines import LineWriter
from agent.destinations.influxdb.outcome import classify
from agent.destinations.labels import relabeling
from agent.destinations.proof import Proof
from agent.http.answer import Answer
from agent.http.failures import Failure
from buffer.model import Tick

NAME = "line protocol"
HEADERS = {"Content-Encoding": b"gzip", "Content-Type": b"text/plain; charset=utf-8"}
UNREADABLE = b"this is not gzip" + b"\xff" * 16
NO_POINTS = "#\n"
"""A comment: a write without points that no receiver mistakes for a missing body."""


def influxdb(to: InfluxDB, wall: Callable[[], float] = time.time) -> Speaks:
    """Return what says how to send to a destination."""
    writer, proof = LineWriter(relabeling(to), to.naming), Proof(Request(UNREADABLE, 0, NAME, HEADERS))

    def encode(ticks: Sequence[Tick], part: bool) -> Encoded:
        text, samples, lines, repeated, relabeled, unstorable = writer.write(ticks)
        counts = {RELABELED: relabeled, REJECTED: repeated, UNSTORABLE: unstorable}
        request = Request(gzipped((text or NO_POINTS).encode()), samples, NAME, HEADERS, note=lines)
        return Encoded(request, {reason: count for reason, count in counts.items() if count})

    def judge(request: Request, answer: Answer | Failure) -> Outcome:
        return proof.judge(request, answer, classify(request, answer, wall()))

    def ask() -> Request:
        return proof.request() if proof.is_missing else Request(gzipped(NO_POINTS.encode()), 0, NAME, HEADERS)

    spoken = Destination(NAME, encode, judge, ask, writer.identity, storable=writer.finite)
    return lambda: spoken
