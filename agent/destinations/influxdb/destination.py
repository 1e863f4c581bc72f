"""InfluxDB as a destination type: line protocol over HTTP, compressed with gzip.

Promises beyond those of `agent.destinations.base`:
1. A sample that InfluxDB cannot store (NaN, an infinity) is counted as `unstorable`, and costs nothing else.
2. No 2xx counts without proof that it is a receiver's: it has to refuse what says that it is gzip and is not.
"""

from __future__ import annotations

import time
import zlib
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
    Verdict,
)
from agent.destinations.influxdb.lines import LineWriter
from agent.destinations.influxdb.outcome import classify
from agent.destinations.labels import relabeling
from agent.destinations.proof import Proof
from agent.http.answer import Answer
from agent.http.failures import Failure
from buffer.model import Tick

NAME = "line protocol"
LEVEL = 6
"""Of compression: a fifth less to send than with 1, for 0.3 s of CPU for a million samples."""
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
        request = Request(_compressed(text or NO_POINTS), samples, NAME, HEADERS, note=lines)
        return Encoded(request, {reason: count for reason, count in counts.items() if count})

    def judge(request: Request, answer: Answer | Failure) -> Outcome:
        found = classify(request, answer, wall())
        if request.body == UNREADABLE:
            return proof.hear(request, found)
        if found.verdict is Verdict.DELIVERED and request.samples and isinstance(answer, Answer):
            check = proof.check(answer)
            return found._replace(verdict=Verdict.UNPROVEN, check=check) if check else found
        return found

    def ask() -> Request:
        return proof.request() if proof.is_missing else Request(_compressed(NO_POINTS), 0, NAME, HEADERS)

    spoken = Destination(NAME, encode, judge, ask, writer.identity, storable=writer.finite)
    return lambda: spoken


def _compressed(text: str) -> bytes:
    """Return a text as gzip, without the time at which it was made."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(text.encode()) + packer.flush()
