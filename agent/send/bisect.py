"""Which samples of a refused batch are at fault: a pure state machine over index ranges.

A batch is columns: of each series the times of its samples, ascending. `ask` is what is to be sent next, `tell` is
given the answer (delivered, or refused for good; all else is repeated by the caller until it is one of them).

    refused --by series--> halves --> quarters --> .. --> a series: refused
            --too old----> by time: one sample at a time is asked where old becomes new
            --too old, and the receiver counts what it stored--> that many are new, if it takes the newest again

What is promised, whatever the answers:

1. Every sample is settled once: delivered, or in `refused` with the words of the receiver.
2. Of a series nothing is asked that is older than what was settled of it, and nothing newer before that is settled.
3. At most `budget` requests: 4 * log2(samples). Where they do not suffice to split further, a part that was refused
   is refused as a whole, so that what is refused can be more than the culprits, and never less.
4. When both halves and all four quarters are refused and nothing was taken, everything is refused at once.

A receiver that takes what it takes, request by request, gets all that it takes: of k culprits among n series each costs
2 * log2(n) requests. With age it is all or a part: who is too old is so for everything of that time. So the newest
sample of one series says whether the whole part is; if not, single samples of other series find the time from which on
it is not. What is older in such a series is given up for it: at most a column for each of these requests.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from agent.destinations.remote_write.outcome import Outcome, Verdict
from agent.send.too_old import Age, age

FEW = 8
"""Fewer series than that, and the newest sample is not asked first: it would cost too much of them."""


class Cells(NamedTuple):
    """Samples of one series, by their index in its column: `start` up to `end`."""

    series: int
    start: int
    end: int


class Part(NamedTuple):
    """Series by their index, `low` up to `high`: all of them that is not settled."""

    low: int
    high: int


class _Search:
    """The way to the time from which on a part is not too old."""

    def __init__(self, part: Part, instants: list[int], outcome: Outcome) -> None:
        self.part, self.instants, self.outcome = part, instants, outcome
        self.old, self.new = 0, len(instants)
        """Instants by their index: up to `old` they are too old, from `new` on they are taken."""
        self.used: set[int] = set()


class _Count(NamedTuple):
    """The samples of a part from an instant on are as many as the receiver says that it stored."""

    part: Part
    since: int
    outcome: Outcome


class Bisection:
    """Finds the culprits of a batch that was refused with `whole`. There is one sample at least.

    Of the series those from `cut` on are suspected: they are asked apart from the others first.
    """

    def __init__(self, columns: Sequence[Sequence[int]], whole: Outcome, cut: int = 0) -> None:
        self.ask: list[Cells] = []
        """What is to be sent next; empty: all is settled."""
        self.refused: list[tuple[Cells, Outcome]] = []
        self.delivered = 0
        self.budget = 4 * (sum(map(len, columns)) - 1).bit_length()
        self.spent = 0
        self._columns = columns
        self._settled = [0] * len(columns)  # of each series, how many samples
        self._cut = cut if 0 < cut < len(columns) else (len(columns) + 1) // 2
        self._queue: deque[Part] = deque()  # to be asked
        self._level: list[tuple[Part, Outcome]] = [(Part(0, len(columns)), whole)]  # refused in this round
        self._due: deque[tuple[Part, Outcome]] = deque()  # refused in the last one
        self._rounds = 0
        self._search: _Search | None = None
        self._count: _Count | None = None
        self._go_on()

    def tell(self, outcome: Outcome) -> None:
        """What the receiver said to what was asked."""
        self.spent += 1
        taken = outcome.verdict is Verdict.DELIVERED
        if self._count is not None:
            self._confirm(self._count, taken=taken)
            self._go_on()
            return
        if self._search is not None:
            self._learn(self._search, self.ask[0], outcome)
        else:
            part = self._queue.popleft()
            if not taken:
                self._level.append((part, outcome))
        if taken:
            for series, start, end in self.ask:
                self._settled[series] = end
                self.delivered += end - start
        self._go_on()

    def _go_on(self) -> None:
        """Find what is to be asked next."""
        self.ask = []
        while not self.ask:
            if self._count is not None:
                self.ask = [Cells(i, end - 1, end) for i, _, end in self._left(self._count.part)]
            elif self._search is not None:
                cell = self._sample(self._search)
                if cell is None:
                    self._end(self._search)
                else:
                    self.ask = [cell]
            elif self._due:
                self._split(*self._due.popleft())
            elif self._queue:
                self.ask = self._left(self._queue[0])
            elif self._level:
                self._next_round()
            else:
                return

    def _next_round(self) -> None:
        level, self._level = self._level, []
        self._rounds += 1
        if self._rounds <= 2 or self.delivered:
            self._due.extend(level)
            return
        everything, outcome = Part(0, len(self._columns)), level[0][1]
        if all(age(one.error) for _, one in level):
            self._find_time(everything, outcome)
        else:
            for part, one in level:
                self._refuse(part, one)

    def _split(self, part: Part, outcome: Outcome) -> None:
        """Deal with a part that was refused."""
        kind = age(outcome.error)
        if kind is Age.WINDOW and (since := self._counted(part, outcome.written or 0)) is not None:
            self._count = _Count(part, since, outcome)
        elif kind is Age.WINDOW or (kind is Age.ORDER and part.high - part.low == 1):
            self._find_time(part, outcome)
        elif part.high - part.low == 1 or self._affordable() < 2:
            self._refuse(part, outcome)
        else:
            middle = self._cut if self._rounds == 1 else (part.low + part.high + 1) // 2
            halves = Part(part.low, middle), Part(middle, part.high)
            self._queue += [half for half in halves if self._left(half)]

    def _affordable(self) -> int:
        return self.budget - self.spent - len(self._queue)

    def _left(self, part: Part) -> list[Cells]:
        """What is not settled of a part."""
        columns, settled = self._columns, self._settled
        return [
            Cells(i, settled[i], len(columns[i]))
            for i in range(part.low, part.high)
            if settled[i] < len(columns[i])
        ]

    def _refuse(self, part: Part, outcome: Outcome, before: float = float("inf")) -> None:
        """Settle what a part has before this time."""
        for series, start, _ in self._left(part):
            self._refuse_up_to(series, bisect_left(self._columns[series], before, start), outcome)

    def _refuse_up_to(self, series: int, end: int, outcome: Outcome) -> None:
        start = self._settled[series]
        if end > start:
            self.refused.append((Cells(series, start, end), outcome))
            self._settled[series] = end

    # Too old.

    def _counted(self, part: Part, written: int) -> int | None:
        """The instant since which a part has so many samples; None where there is none such."""
        times = sorted(at for i, start, end in self._left(part) for at in self._columns[i][start:end])
        first = len(times) - written
        return times[first] if 0 < first < len(times) and times[first - 1] < times[first] else None

    def _confirm(self, count: _Count, *, taken: bool) -> None:
        self._count = None
        if not taken:
            self._find_time(count.part, count.outcome)
            return
        self._refuse(count.part, count.outcome, count.since)
        for series, start, end in self._left(count.part):
            self._settled[series] = end
            self.delivered += end - start

    def _find_time(self, part: Part, outcome: Outcome) -> None:
        columns = self._columns
        instants = {at for series, start, end in self._left(part) for at in columns[series][start:end]}
        self._search = _Search(part, sorted(instants), outcome)

    def _sample(self, search: _Search) -> Cells | None:
        """The sample that halves what is not known; None: enough is known, or no more may be asked."""
        if search.new - search.old <= 1 or self._affordable() < 2:  # one for the rest of the part
            return None
        low, high = search.part
        middle = (search.old + search.new) // 2
        if search.new == len(search.instants) and high - low >= FEW:
            middle = search.new - 1
        wanted = search.instants[middle]
        found = [
            (self._columns[i][at], at - self._settled[i], i, at)
            for i in range(low, high)
            if i not in search.used
            and (at := bisect_left(self._columns[i], wanted, self._settled[i])) < len(self._columns[i])
        ]
        if not found:
            return None
        time, _, series, at = min(found)  # where it costs least
        if search.new < len(search.instants) and time >= search.instants[search.new]:
            return None
        return Cells(series, at, at + 1)

    def _learn(self, search: _Search, cell: Cells, outcome: Outcome) -> None:
        series, at, _ = cell
        instant = bisect_left(search.instants, self._columns[series][at])
        if outcome.verdict is Verdict.DELIVERED:
            search.new = instant
            search.used.add(series)
            self._refuse_up_to(series, at, search.outcome)
        elif age(outcome.error):
            search.old, search.outcome = instant, outcome
        else:  # a culprit of another kind
            self._refuse_up_to(series, len(self._columns[series]), outcome)

    def _end(self, search: _Search) -> None:
        """Settle what is too old, and ask for the rest as one."""
        self._search = None
        new = search.instants[search.new] if search.new < len(search.instants) else float("inf")
        self._refuse(search.part, search.outcome, new)
        if self._left(search.part):
            self._queue.append(search.part)
