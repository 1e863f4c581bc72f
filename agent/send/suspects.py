"""The samples of a chunk whose series were refused before (`known`): what of them is sent next, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.destinations.base import Outcome, Verdict
from agent.send.culprits import Culprits
from agent.send.known import QUESTIONS, Known
from agent.send.parts import Key, Piece, columns_of, split
from buffer.model import Tick
from buffer.quarantine import SEVERAL

MOST_ANSWERS = 8
"""Different words in which a chunk is given up. Each is written and synced for itself, and many receivers name the series."""


class Suspects:
    """Samples that wait until all others of their chunk are settled."""

    def __init__(self, ticks: Sequence[Tick], key: Key, known: Known) -> None:
        self._ticks, self._key, self._known = ticks, key, known
        self._questions, self._asked = 0, set[bytes]()

    @property
    def is_asked(self) -> bool:
        """Whether something was sent."""
        return self._questions > 0

    def ask(self) -> Piece | None:
        """Return what to send next; None: nothing."""
        columns = columns_of(self._ticks, self._key)
        keys = [column.key for column in columns]
        wanted = self._known.question(keys, self._asked) if self._questions < QUESTIONS else []
        if not wanted:
            return None
        self._questions += 1
        asked = set(wanted)
        self._ticks, ticks = split(self._ticks, self._key, asked)
        samples = sum(len(column.stamps) for column in columns if column.key in asked)
        return Piece(ticks, samples, wanted[0] if len(wanted) == 1 else None)

    def hear(self, ticks: Sequence[Tick], outcome: Outcome) -> None:
        """Take the answer to what was sent, or to a part of it: delivered, or refused for good."""
        keys = [column.key for column in columns_of(ticks, self._key)]
        if outcome.verdict is Verdict.DELIVERED:
            self._known.taken(keys)
            return
        if self._known.refused(keys, outcome):
            self._asked.update(keys)
        self._ticks = [*self._ticks, *ticks]

    def give_up(self) -> list[Culprits]:
        """Return what is left, as it was answered before."""
        found, ticks = dict[Outcome, dict[bytes, int]](), self._ticks
        self._ticks = ()
        for column in columns_of(ticks, self._key):
            found.setdefault(self._known.why(column.key).lasting, {})[column.key] = len(column.stamps)
        if len(found) > MOST_ANSWERS:
            found = _merged(found)
        return [
            Culprits(why.reason, why, sum(counts.values()), split(ticks, self._key, counts)[1])
            for why, counts in found.items()
        ]


def _merged(found: Mapping[Outcome, Mapping[bytes, int]]) -> dict[Outcome, dict[bytes, int]]:
    """Return what was answered with one of the answers for each reason and status."""
    last = {(why.reason, why.status): why for why in found}
    merged = dict[Outcome, dict[bytes, int]]()
    for why, counts in found.items():
        one = last[why.reason, why.status]
        merged.setdefault(one._replace(error=f"{SEVERAL}{one.error}"), {}).update(counts)
    return merged
