"""A chunk on its way: the parts in which it goes out, and what has become of them. Without input and output.

    chunk -> [ fit -> request -> hear | halve | doubt ]* -> settled

Promises:
1. What is sent fits the limits in samples and in bytes, unless it is a single sample.
2. Every sample of the chunk is settled once: delivered, among the culprits, or counted in `dropped`.
3. Of a series nothing is sent before all that is older of it is settled.
4. `request` is the same, byte by byte, until `hear`, `halve`, `fit` or `doubt` has changed the question.
5. What fails although the receiver answers probes does not stop the rest: `doubt` halves it, down to single series, and
   sets these apart where as many samples of others were taken meanwhile. Where nothing is taken nothing is set apart,
   but for a single sample that is too large for the receiver or the link.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.destinations.base import APART, REJECTED, Destination, Outcome, Request, Verdict
from agent.send.culprits import Culprits, Search
from agent.send.known import Known
from agent.send.parts import Piece, halves, split
from agent.send.state import SMALLEST
from agent.send.suspects import Suspects
from buffer.model import Chunk, Tick

APART_AFTER = 3
"""Failures of a single series, each with a probe that was answered, after which it waits apart."""


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
        self,
        chunk: Chunk,
        ticks: Sequence[Tick],
        speaks: Destination,
        known: Known,
        dropped: Mapping[str, int] = {},
    ) -> None:
        request, left_out = speaks.encode(ticks, False)
        self.chunk, self.format, self.is_begun = chunk, request.format, False
        self.dropped, self.repeated = {**left_out, **dropped}, left_out.get(REJECTED, 0)
        self._speaks, self._delivered, self._known = speaks, 0, known
        self._culprits: dict[tuple[str, Outcome, bool], Culprits] = {}
        self._suspects: Suspects | None = None
        self._learned = set[bytes]()
        self._request: Request | None = request
        ticks = speaks.storable(ticks)
        if known.series:
            ticks, waiting = split(ticks, speaks.carries, known.series)
            self._suspects = Suspects(waiting, speaks.carries, known)
            self._request = request = speaks.encode(ticks, False).request
        self._parts = deque([Piece(ticks, request.samples)] if request.samples else [])
        self._search: Search | None = None
        self._failure: Outcome | None = None  # of the part at hand
        self._failures: dict[bytes, int] = {}  # of single series, while probes were answered
        self._doubts = self._passed = self.largest_taken = 0  # the last one since a request was doubted
        self.apart: frozenset[bytes] = frozenset()
        """Series that were set apart."""
        self.was_doubted = self._is_part = False

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
        """Whether the request asks about what was refused, in this batch or before."""
        return self._search is not None or self._asked is not None

    @property
    def _asked(self) -> Suspects | None:
        """What the request asks about of what was refused before; None: it asks about something else."""
        return self._suspects if self._suspects is not None and self._suspects.is_asked else None

    @property
    def request(self) -> Request:
        """What is to be sent next."""
        if self._request is None:
            self._request = self._speaks.encode(self.ticks, self._is_part or self.is_searching).request
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
        """Cut the part at hand in two, or what a search has left of it; False where that is a single sample."""
        self._leave_search()
        found = halves(self._parts.popleft().ticks, self._speaks.carries)
        self._parts.extendleft(reversed(found))
        self._request = None
        return len(found) > 1

    def _leave_search(self) -> None:
        """Let what the search for culprits has not settled be the part at hand."""
        if self._search is not None:
            search, self._search = self._search, None
            self._parts[0] = search.rest
            self._note(search)

    def _note(self, search: Search) -> None:
        self._delivered += search.delivered
        self._known.spent(search.spent)
        for one in search.culprits():
            self._keep(one)

    def failed(self, outcome: Outcome) -> None:
        """Take an answer that settles nothing."""
        self._failure = outcome

    def doubt(self) -> None:
        """Take it that a probe was answered: change the question where the one at hand failed again after that."""
        outcome, self._failure = self._failure, None
        if outcome is None:
            return
        self._doubts += 1
        if self._doubts == 1 and not self.was_doubted:
            return
        self._leave_search()
        self.was_doubted, self._is_part, self._doubts, part = True, True, 0, self._parts[0]
        if part.lone is None:
            self.halve()
        elif self._is_proven(part, outcome) and self._failures.get(part.lone, 0) >= APART_AFTER - 1:
            self._set_apart(part.lone, outcome)
        elif self._passed < len(self._parts) - 1:
            self._passed += 1
            self._failures[part.lone] = self._failures.get(part.lone, 0) + 1
            behind = self._take(part.lone)
            self._parts.extend(behind)
        else:
            self._passed = 0
            self._failures[part.lone] = self._failures.get(part.lone, 0) + 1
            if part.samples > self.largest_taken:
                self.halve()

    def _is_proven(self, part: Piece, outcome: Outcome) -> bool:
        """Return whether it is this part that fails: others of its size were taken, or it is too large as a single sample."""
        is_size = outcome.verdict is Verdict.TOO_LARGE or outcome.went is not None
        return part.samples <= self.largest_taken or (is_size and len(self.request.body) > SMALLEST)

    def _set_apart(self, lone: bytes, outcome: Outcome) -> None:
        for part in self._take(lone):
            self.keep_apart(part.ticks, outcome)
        self.apart |= {lone}

    def keep_apart(self, ticks: Sequence[Tick], outcome: Outcome | None) -> None:
        """Count these ticks as apart, for the reason of this outcome; None: there are none."""
        if outcome is None or not ticks:
            return
        self._keep(Culprits(APART, outcome.lasting, sum(len(tick.values) for tick in ticks), list(ticks)))

    def _take(self, lone: bytes) -> list[Piece]:
        """Take all parts of a series off the queue: they stay in their order."""
        found = [part for part in self._parts if part.lone == lone]
        self._parts = deque(part for part in self._parts if part.lone != lone)
        self._request = None
        return found

    def hear(self, outcome: Outcome) -> None:
        """Take the answer to the request: delivered or refused for good."""
        self.is_begun, part, self._request = True, self._parts[0], None
        self._failure, self._doubts = None, 0
        self._is_part = self._is_part or outcome.verdict is not Verdict.DELIVERED
        if self.was_doubted and outcome.verdict is Verdict.DELIVERED and self._search is None:
            self.largest_taken, self._passed = max(self.largest_taken, part.samples), 0
        asked, is_delivered = self._asked, outcome.verdict is Verdict.DELIVERED
        if self._search is None and (is_delivered or asked is not None):
            self._parts.popleft()
            self._delivered += part.samples if is_delivered else 0
            if asked is not None:
                asked.hear(part.ticks, outcome)
            return
        if self._search is None:
            self._search = Search(part.ticks, self._speaks.carries, outcome, self._known.requests)
        else:
            self._search.hear(outcome)
        if ticks := self._search.ask():
            self._request = self._speaks.encode(ticks, True).request
            return
        search, self._search = self._search, None
        self._note(search)
        bad, unproven = search.learned()
        self._known.learn(bad, unproven)
        self._learned |= {*bad, *unproven}
        self._parts.popleft()

    def unlearn(self) -> None:
        """Take it that the refusals of this batch were not the receiver's own."""
        self._known.forget(self._learned)

    def ask(self) -> None:
        """Find what to send next of what was refused before, where nothing else is left to be sent."""
        if self._parts or self._suspects is None:
            return
        if (part := self._suspects.ask()) is not None:
            self._parts.append(part)
            self._request = None
            return
        for one in self._suspects.give_up():
            self._keep(one)

    def _keep(self, one: Culprits) -> None:
        place = one.reason, one.outcome, one.is_there
        was = self._culprits.get(place)
        if was is not None:
            one = one._replace(samples=was.samples + one.samples, ticks=[*was.ticks, *one.ticks])
        self._culprits[place] = one


def error_of(culprits: Culprits) -> str | None:
    """Return what a status shows for these."""
    reason, outcome, samples, ticks, _ = culprits
    if reason != APART:
        return outcome.error
    names = sorted({series.name for tick in ticks for series in tick.series})
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}: {samples} samples wait apart, because of: {outcome.error}"
