"""In what a message of remote write 1.0 is packed: snappy, or zstd where the receiver is VictoriaMetrics.

A request of a small host is a third smaller with zstd. Remote write has snappy alone; VictoriaMetrics' own variant (`vmagent`,
"VictoriaMetrics remote write protocol") is the same message in zstd. Promises:

1. zstd is sent to no receiver that has not shown itself as VictoriaMetrics, by the header MARK in an answer of a proven one. So it costs the
   others no request, and this one that which proves it: zstd with something in it that nobody can read has to be refused.
2. Where zstd is not understood (REFUSES, or the proof fails), the same samples go out again in snappy, at once. zstd is tried again
   after AGAIN_AFTER, or after a restart.
3. A refusal of samples that were sent in zstd is never believed: it has to be repeated for snappy.
4. Nothing of zstd is in memory before such a receiver has been seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import snappy

from agent.destinations.base import Outcome, Request, Verdict
from agent.destinations.peer import Peer
from agent.destinations.proof import Proof
from agent.destinations.remote_write.protocol import AGAIN_AFTER, HEADERS, UNREADABLE, Protocol
from agent.http.answer import Answer
from agent.http.failures import Failure

SNAPPY = Protocol.V1.version
ZSTD = f"{SNAPPY} zstd"
"""The two formats of a request."""
MARK = "x-server-hostname"
"""A header of every answer of VictoriaMetrics (lib/httpserver)."""
REFUSES = frozenset((400, 415, 500, 501))
_HEADERS: Mapping[str, Mapping[str, bytes]] = {
    SNAPPY: HEADERS[Protocol.V1],
    ZSTD: {
        "Content-Encoding": b"zstd",
        "Content-Type": b"application/x-protobuf",
        "X-VictoriaMetrics-Remote-Write-Version": b"1",
    },
}


def _snappy(message: bytes) -> bytes:
    return bytes(snappy.compress(message))


class _Form(NamedTuple):
    """One of the two: how a message is packed, a body that nobody can read, and whether that was refused."""

    pack: Callable[[bytes], bytes]
    unreadable: bytes
    proof: Proof

    @classmethod
    def of(cls, name: str, pack: Callable[[bytes], bytes], peer: Peer) -> _Form:
        body = pack(snappy.decompress(UNREADABLE))
        return cls(pack, body, Proof(Request(body, 0, name, _HEADERS[name]), peer))


class Packing:
    """What is sent to one receiver of 1.0 now. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._again_at = clock, 0.0
        self.format, self._peer = SNAPPY, Peer()
        self._forms = {SNAPPY: _Form.of(SNAPPY, _snappy, self._peer)}

    def pack(self, message: bytes, samples: int, note: object) -> Request:
        """Return the request with a message."""
        body = self._forms[self.format].pack(message)
        return Request(body, samples, self.format, _HEADERS[self.format], "Retry-Attempt", note)

    def probe(self) -> Request:
        """Return a request without samples, which shows whether the way to the receiver is open."""
        form = self._forms[self.format]
        if form.proof.is_missing:
            return form.proof.request()
        return Request(form.pack(b""), 0, self.format, _HEADERS[self.format])

    def is_proof(self, request: Request) -> bool:
        """Return whether a request is one that has to be refused."""
        return any(request.body == form.unreadable for form in self._forms.values())

    def judge(self, request: Request, answer: Answer | Failure, found: Outcome) -> Outcome:
        """Return what an answer is worth, and learn from it."""
        judged = self._forms[request.format].proof.judge(request, answer, found)
        if judged.verdict is Verdict.REWRITE:  # nothing is known against the format
            return judged
        if request.format == ZSTD:
            takes_anything = self.is_proof(request) and found.verdict is Verdict.DELIVERED
            if takes_anything or (judged.verdict is not Verdict.DELIVERED and found.status in REFUSES):
                self.format, self._again_at = SNAPPY, self._clock() + AGAIN_AFTER
                error = judged.error or found.error
                return Outcome(Verdict.REWRITE, found.status, error, found=SNAPPY)
            return judged
        is_proven = judged.verdict is Verdict.DELIVERED and (request.samples or self.is_proof(request))
        is_marked = isinstance(answer, Answer) and MARK in answer.headers
        if is_proven and is_marked and self._clock() >= self._again_at:
            if ZSTD not in self._forms:
                from agent.destinations.zstd import zstd

                self._forms[ZSTD] = _Form.of(ZSTD, zstd, self._peer)
            self.format = ZSTD
            return judged._replace(found=ZSTD)
        return judged
