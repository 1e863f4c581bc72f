"""How a delivery finds out whether a receiver judges samples: a pure state machine, without input and output.

The first form of a probe is an empty write: a receiver that takes it shows that the way to it is open. Some receivers
refuse an empty write and take samples. So where it is refused, the second form follows: samples of the chunk at hand.

Promises:
1. A probe is small: an empty write, or one tick at most.
2. A receiver that takes any of the series is recognized in the end. A tick is sent whole, then by halves of its series,
   then by quarters, down to single series, and again from the beginning.
3. The oldest tick comes long before the newest one, because a receiver that takes the samples of a series in their order
   alone would refuse the older ones afterwards. The newest tick is for a receiver to which all others are too old.
4. The form that was taken is the first one next time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from agent.destinations.base import Outcome, Request, Speaks, Verdict
from agent.send.parts import cut
from agent.send.question import Question
from buffer.model import Tick

NEWEST_AFTER = 3
"""Levels: the oldest tick is sent whole, by halves and by quarters before the newest one."""

_REFUSED = (Verdict.REJECTED, Verdict.TOO_LARGE)


class Probe(Question):
    """The question of a probe: whether a receiver judges samples."""

    def __init__(self, speaks: Speaks) -> None:
        super().__init__()
        self._speaks = speaks
        self._with_samples = False
        self._part = 0

    def _form(self, ticks: Sequence[Tick]) -> Request:
        if not (self._with_samples and ticks):
            return self._speaks().probe()
        part = next(islice(parts(ticks), self._part, None), None)
        if part is None:
            self._part = 0
            part = ticks[0]
        return self._speaks().encode([part], True).request

    def _judge(self, outcome: Outcome, ticks: Sequence[Tick]) -> Outcome | None:
        if outcome.age:
            return outcome._replace(verdict=Verdict.DELIVERED)
        if outcome.verdict not in _REFUSED:
            return outcome
        if outcome.verdict is Verdict.REJECTED and not self._with_samples and ticks:
            self._with_samples = True
            return None
        self._part += self._with_samples
        self._with_samples = False
        said = f"{outcome.error}; an empty write is refused as well, so it is not the samples"
        return outcome._replace(error=said)


def parts(ticks: Sequence[Tick]) -> Iterator[Tick]:
    """Yield parts of ticks, of each set of series from its oldest tick, and later from its newest one."""
    ends: dict[int, tuple[Tick, Tick]] = {}
    for tick in ticks:
        oldest, _ = ends.get(id(tick.series), (tick, tick))
        ends[id(tick.series)] = oldest, tick
    most = max(len(tick.series) for tick in ticks)
    levels = range((most - 1).bit_length() + 1)
    for level in [*levels, *(max(levels) + 1 + i for i in range(NEWEST_AFTER))]:
        for oldest, _ in ends.values():
            yield from _pieces(oldest, level)
        for oldest, newest in ends.values():
            if newest is not oldest:
                yield from _pieces(newest, level - NEWEST_AFTER)


def _pieces(tick: Tick, level: int) -> Iterator[Tick]:
    """Yield a tick in 2 ^ level pieces; nothing where it was in single series before."""
    count = len(tick.series)
    pieces = min(1 << level, count) if 0 <= level <= (count - 1).bit_length() else 0
    for i in range(pieces):
        yield cut(tick, i * count // pieces, (i + 1) * count // pieces)
