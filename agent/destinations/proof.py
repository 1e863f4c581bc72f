"""Whether a 2xx is a receiver's own. Remote write 2.0 needs none of this: its counts are the proof.

A 2xx is the absence of a refusal, and many things on the way answer so to anything: a health page, an endpoint for
another format, a portal with a login. So one body is sent that nobody can read before the first batch counts as delivered,
whenever a 2xx looks otherwise than those before (its status, type, body, server, the names of its headers), and when somebody
else may be at the other end (`peer`):

| its answer                             | means                                                             |
|----------------------------------------|-------------------------------------------------------------------|
| 2xx                                    | the endpoint takes anything: HELD                                 |
| 3xx, 401, 407, 511, a web page         | somebody on the way: HELD                                         |
| any other 4xx, 500, 501                | it reads what it takes, so the batch counts as delivered          |
| no answer, 408, 421, 425, 429, 502 to 504 | the body is sent again; a 5xx that stays is a refusal, too     |
"""

from __future__ import annotations

import re
from typing import NamedTuple

from agent.destinations.base import Outcome, Request, Verdict
from agent.destinations.peer import Peer
from agent.http.answer import WORDS, Answer, content_type
from agent.http.failures import Failure

MOST_KINDS = 16
MOST_TRIES = 3
"""Answers of 5xx in a row, after which that is how this receiver refuses what it cannot read."""

_OF_AN_ANSWER = frozenset(
    ("age", "connection", "content-length", "date", "keep-alive", "retry-after", "transfer-encoding")
)
"""Headers that one answer of a receiver has and the next one has not."""
_ON_THE_WAY = frozenset((401, 407, 511))
_REFUSES = frozenset((500, 501))


class Kind(NamedTuple):
    """What a 2xx looks like. Digits in the body do not count: they may be a request's number."""

    status: int
    type: str
    body: bytes
    server: str
    headers: frozenset[str]


class Proof:
    """The kinds of 2xx that are known to come from a receiver. One for each destination and configuration.

    `unreadable` is the request that no receiver can read. Forms of one destination share the `peer`.
    """

    def __init__(self, unreadable: Request, peer: Peer | None = None) -> None:
        self._unreadable, self._peer = unreadable, peer or Peer()
        self._proven: dict[Kind, None] = {}
        self._tries = 0
        self.is_missing = False
        """Whether the endpoint has taken a body that nobody can read."""

    def judge(self, request: Request, answer: Answer | Failure, found: Outcome) -> Outcome:
        """Return what an outcome is worth: a 2xx of an unknown kind is UNPROVEN, with what has to be refused first."""
        if request.body == self._unreadable.body:
            return self._hear(request, answer, found)
        self._peer.saw(answer, found.verdict)
        if found.verdict is not Verdict.DELIVERED or not request.samples or isinstance(answer, Failure):
            return found
        kind, is_due = _kind(answer), self._peer.is_due(answer, len(request.body))
        if kind in self._proven and not is_due:
            self._peer.counts(answer)
            return found
        self._peer.asks()
        return found._replace(verdict=Verdict.UNPROVEN, check=self.request(kind))

    def request(self, kind: Kind | None = None) -> Request:
        """Return the body that nobody can read, to prove a kind of answer."""
        return self._unreadable._replace(note=kind or self)

    def _hear(self, request: Request, answer: Answer | Failure, found: Outcome) -> Outcome:
        """Return what the answer to such a request shows: DELIVERED where the endpoint reads what it takes."""
        status = found.status
        if found.verdict is Verdict.DELIVERED:
            self.is_missing = True
            error = f"HTTP {status}, but also to a body that nobody can read: {self._peer.stranger()}"
            return Outcome(Verdict.HELD, status, error)
        self._peer.saw(answer, found.verdict)
        if isinstance(answer, Failure):
            self._peer.is_silent()
            self._tries = 0
            return found
        if found.verdict is Verdict.RETRY and status not in _REFUSES:
            self._tries = self._tries + 1 if status >= 500 else 0
            if self._tries < MOST_TRIES:
                return found
        elif status < 400 or status in _ON_THE_WAY:
            return found._replace(verdict=Verdict.HELD)
        self.is_missing, self._tries = False, 0
        if isinstance(request.note, Kind):
            if len(self._proven) >= MOST_KINDS:
                self._proven.clear()
            self._proven[request.note] = None
        if self._peer.has_proven(answer, samples=isinstance(request.note, Kind)):
            return Outcome(Verdict.DELIVERED, status)
        return Outcome(
            Verdict.REWRITE, status, "no answer to the check at first, so the samples are sent again"
        )


def _kind(answer: Answer) -> Kind:
    body, server = re.sub(rb"\d+", b"0", answer.body[:WORDS]), answer.headers.get("server", "")
    names = frozenset(answer.headers) - _OF_AN_ANSWER
    return Kind(answer.status, content_type(answer.headers), body, server.partition("/")[0], names)
