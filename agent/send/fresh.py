"""Whether a receiver that has refused all of a chunk takes anything of this host: a sample for now, sent alone.

A receiver can take an empty write and refuse every series in good words: a limit on series that is reached, a tenant that
is switched off, a label of the host that is too long. One that refuses each series of a chunk for a good reason looks the same:
samples from a time when the clock was wrong, a target whose labels are too long. A sample for now distinguishes them.

Pure, but for the clocks and the newest ticks, which are handed in. Promises:

1. A question is one sample. The first is of SERIES, which nothing else has, so it is never ahead of older samples. If that is
   refused, one sample of the newest ticks follows: of a series that was taken before, or else of each in its turn, one each time.
   Where the host has no series now, a held destination is sent samples of its chunk instead; an empty write is no question.
2. So a receiver that takes any series that the host has now is found in the end, and so is a clock that is set right.
3. A refusal in words about age is the answer of a receiver that judges samples.
4. In a state that lasts there is a question an hour. Where others are taken in between, questions are within the budget of `known`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.destinations.base import APART, REJECTED, Outcome, Request, Speaks, Verdict
from agent.send.batch import Settled
from agent.send.known import Known
from agent.send.parts import cut
from agent.send.question import Question
from buffer.model import Instant, Series, Tick

SERIES = "limpet_refusal_probe"
_HELP = "Sent alone when a receiver refuses everything, to find out whether it takes anything; always 1."
_SAID = "a sample for now is refused as well, so nothing is dropped: look at the receiver's limits, and at the labels and the clock here"
SHOWN_FOR = 3600.0
"""Seconds for which a sample that was taken shows that a receiver which refuses everything else judges samples."""

Newest = Callable[[], Sequence[Tick]]


class Fresh(Question):
    """The question whether a receiver takes a sample for now.

    `labels` are the host's, and `newest` returns the ticks that were appended last. `clock` and `wall` are monotonic and Unix seconds.
    """

    def __init__(
        self,
        speaks: Speaks,
        labels: Mapping[str, str],
        newest: Newest,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        super().__init__()
        self._speaks, self._newest, self._clock, self._wall = speaks, newest, clock, wall
        self._own = Series(SERIES, tuple(sorted(labels.items())), "gauge", "", _HELP)
        self._is_of_host, self._turn = False, 0
        self._sample: Tick | None = None  # the last question; None: it was an empty write
        self._shown: float | None = None  # when a question was answered well last
        self._good: Series | None = None  # one that was taken last
        self._is_new = False  # whether that was after `_shown`

    def took(self, ticks: Sequence[Tick]) -> None:
        """Take it that these were delivered."""
        self._good = next((tick.series[0] for tick in ticks if tick.series), self._good)
        self._is_new = True

    def is_due(self, settled: Settled, known: Known) -> bool:
        """Return whether this does not count without the question: all of it was refused, and not for its age.

        It counts if a question was answered well in this state: nothing was taken since then.
        """
        refused = [one.reason == REJECTED for one in settled.culprits if one.reason != APART]
        if settled.delivered or not refused or not all(refused):
            return False
        was_shown = self._shown is not None and self._clock() - self._shown < SHOWN_FOR
        if was_shown and not self._is_new:
            return False
        return (known.requests > 0 or not was_shown) and self._question() is not None

    def _form(self, ticks: Sequence[Tick]) -> Request:
        self._sample = tick = self._question() or self._one_of(ticks[-1:])
        return self._speaks().encode([tick], True).request if tick else self._speaks().probe()

    def _judge(self, outcome: Outcome, _: Sequence[Tick]) -> Outcome | None:
        verdict = outcome.verdict
        if verdict is Verdict.DELIVERED or outcome.age:
            self._is_of_host = False
            if self._sample is not None:
                self._shown, self._is_new = self._clock(), False
            return outcome._replace(verdict=Verdict.DELIVERED)
        if verdict not in (Verdict.REJECTED, Verdict.TOO_LARGE):
            return outcome
        if self._sample is not None and self._sample.group == SERIES and self._one_of_host() is not None:
            self._is_of_host = True
            return None
        self._turn += 1
        self._is_of_host = False
        return outcome._replace(verdict=Verdict.REJECTED, error=f"{outcome.error}; {_SAID}")

    def _question(self) -> Tick | None:
        """Return the sample at hand; None: there is none that could be sent."""
        if self._is_of_host or self._speaks().carries(self._own) is None:
            return self._one_of_host()
        return Tick(Instant(int(self._wall() * 1000), 0, ""), SERIES, (self._own,), (1.0,))

    def _one_of_host(self) -> Tick | None:
        """Return a sample of the newest ticks: the one whose turn it is."""
        return self._one_of(self._newest())

    def _one_of(self, ticks: Sequence[Tick]) -> Tick | None:
        carries, ticks = self._speaks().carries, self._speaks().storable(ticks)
        found = [(carries(one), tick, i) for tick in ticks for i, one in enumerate(tick.series)]
        found = [place for place in found if place[0] is not None]
        good = self._good and carries(self._good)
        found.sort(key=lambda place: place[0] != good)
        if not found:
            return None
        _, tick, i = found[self._turn % len(found)]
        return cut(tick, i, i + 1)
