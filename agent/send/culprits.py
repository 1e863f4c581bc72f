"""Which samples of a refused request are at fault: a pure state machine, without input and output.

A `Bisection` works on indices: a request is columns, of each series the times of its samples, ascending. `ask` is what
to send next, and `hear` takes the answer (delivered, or refused for good; anything else the caller repeats until it is
one of the two). `Search` maps indices to ticks.

    refused --by series--> halves --> quarters --> .. --> a series: refused
            --too old----> by time: one sample at a time is sent where old becomes new
            --too old, and the receiver counts what it stored--> that many are new, if it takes the newest again

Promises, whatever the answers:

1. Every sample is settled once: delivered, or in `refused` with the receiver's words.
2. Of a series nothing is sent that is older than what is settled of it, and nothing newer before that is settled.
3. At most `budget` requests: 4 * log2(samples). Where they do not suffice to split further, a part that was refused
   is refused as a whole: what is refused can be more than the culprits, and never less.
4. When both halves and all four quarters are refused and nothing was taken, everything is refused at once.
5. The same ticks and the same answers always give the same culprits, in the same order.

Each of k culprits among n series costs 2 * log2(n) requests. If samples are too old, every series is too old up to the
same time: the newest sample of one series says whether the whole part is, and single samples of other series find that
time. What is older in such a series is given up for it: at most a column for each of these requests.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from agent.destinations.base import DUPLICATE, Age, Outcome, Verdict
from agent.send.parts import Piece, columns_of, piece, ticks_of
from buffer.model import Series, Tick

FEW = 8
"""Fewer series than that, and the newest sample is not sent first: it would cost too much of them."""


class Cells(NamedTuple):
    """Samples of one series, by their index in its column: `start` up to `end`."""

    series: int
    start: int
    end: int


class Part(NamedTuple):
    """Series by their index, `low` up to `high`: all of them that is not settled."""

    low: int
    high: int


class _TimeSearch:
    """The way to the time from which on a part is not too old."""

    def __init__(self, part: Part, instants: list[int], outcome: Outcome) -> None:
        self.part, self.instants, self.outcome = part, instants, outcome
        self.old, self.new = 0, len(instants)
        """Instants by their index: up to `old` they are too old, from `new` on they are taken."""
        self.used: set[int] = set()


class _Stored(NamedTuple):
    """The samples of a part from an instant on are as many as the receiver says that it stored."""

    part: Part
    since: int
    outcome: Outcome


class Bisection:
    """Finds the culprits of a request that was refused with `whole`. There is one sample at least.

    It takes `most` requests at most, where that is less than the budget.
    """

    def __init__(self, columns: Sequence[Sequence[int]], whole: Outcome, most: int = 1 << 30) -> None:
        self.ask: list[Cells] = []
        """What to send next; empty: all is settled."""
        self.refused: list[tuple[Cells, Outcome]] = []
        self.delivered = 0
        self.alone = {0} if len(columns) == 1 else set[int]()
        """Series that were refused when they were sent without others."""
        self.budget = min(most, 4 * (sum(map(len, columns)) - 1).bit_length())
        self.spent = 0
        self._columns = columns
        self._settled = [0] * len(columns)  # of each series, how many samples
        self._queue: deque[Part] = deque()  # to be sent
        self._level: list[tuple[Part, Outcome]] = [(Part(0, len(columns)), whole)]  # refused in this round
        self._due: deque[tuple[Part, Outcome]] = deque()  # refused in the last one
        self._rounds = 0
        self._search: _TimeSearch | None = None
        self._stored: _Stored | None = None
        self._advance()

    @property
    def rest(self) -> list[Cells]:
        """What is not settled."""
        return self._left(Part(0, len(self._columns)))

    def hear(self, outcome: Outcome) -> None:
        """Take the answer to what was sent."""
        self.spent += 1
        taken = outcome.verdict is Verdict.DELIVERED
        if not taken and len(self.ask) == 1:
            self.alone.add(self.ask[0].series)
        if self._stored is not None:
            self._confirm(self._stored, taken=taken)
            self._advance()
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
        self._advance()

    def _advance(self) -> None:
        """Find what to send next."""
        self.ask = []
        while not self.ask:
            if self._stored is not None:
                self.ask = [Cells(i, end - 1, end) for i, _, end in self._left(self._stored.part)]
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
        elif all(one.age for _, one in level):
            self._find_time(Part(0, len(self._columns)), level[0][1])
        else:
            for part, one in level:
                self._refuse(part, one)

    def _split(self, part: Part, outcome: Outcome) -> None:
        """Decide about a part that was refused."""
        age, is_one = outcome.age, part.high - part.low == 1
        if age is Age.WINDOW and (since := self._since(part, outcome.written or 0)) is not None:
            self._stored = _Stored(part, since, outcome)
        elif age is Age.WINDOW or (age and is_one):
            self._find_time(part, outcome)
        elif is_one or self._affordable() < 2:
            self._refuse(part, outcome)
        else:
            middle = (part.low + part.high + 1) // 2
            halves = Part(part.low, middle), Part(middle, part.high)
            self._queue += [half for half in halves if self._left(half)]

    def _affordable(self) -> int:
        return self.budget - self.spent - len(self._queue)

    def _left(self, part: Part) -> list[Cells]:
        """Return what is not settled of a part."""
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

    def _since(self, part: Part, written: int) -> int | None:
        """Return the instant since which a part has so many samples; None where there is no such instant."""
        times = sorted(at for i, start, end in self._left(part) for at in self._columns[i][start:end])
        first = len(times) - written
        return times[first] if 0 < first < len(times) and times[first - 1] < times[first] else None

    def _confirm(self, stored: _Stored, *, taken: bool) -> None:
        self._stored = None
        if not taken:
            self._find_time(stored.part, stored.outcome)
            return
        self._refuse(stored.part, stored.outcome, stored.since)
        for series, start, end in self._left(stored.part):
            self._settled[series] = end
            self.delivered += end - start

    def _find_time(self, part: Part, outcome: Outcome) -> None:
        columns = self._columns
        instants = {at for series, start, end in self._left(part) for at in columns[series][start:end]}
        self._search = _TimeSearch(part, sorted(instants), outcome)

    def _sample(self, search: _TimeSearch) -> Cells | None:
        """Return the sample that halves what is not known; None: enough is known, or the budget is spent."""
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

    def _learn(self, search: _TimeSearch, cell: Cells, outcome: Outcome) -> None:
        series, at, _ = cell
        instant = bisect_left(search.instants, self._columns[series][at])
        if outcome.verdict is Verdict.DELIVERED:
            search.new = instant
            search.used.add(series)
            self._refuse_up_to(series, at, search.outcome)
        elif outcome.age:
            search.old, search.outcome = instant, outcome
        else:  # a culprit of another kind
            self._refuse_up_to(series, len(self._columns[series]), outcome)

    def _end(self, search: _TimeSearch) -> None:
        """Settle what is too old, and send the rest as one."""
        self._search = None
        new = search.instants[search.new] if search.new < len(search.instants) else float("inf")
        self._refuse(search.part, search.outcome, new)
        if self._left(search.part):
            self._queue.append(search.part)


# From indices to ticks.


class Culprits(NamedTuple):
    """Samples that were refused with the same words. `samples` are those without repeated instants."""

    reason: str
    outcome: Outcome
    samples: int
    ticks: list[Tick]
    is_there: bool = False
    """The receiver has shown of each that it has a sample of that series for that time: there is nothing to be kept."""


class Search:
    """The search for the culprits of a request with these ticks that was refused with `whole`.

    `key` is the identity of a series. Series without one were not in the request: they are neither sent nor among the
    culprits. The search takes `most` requests at most.
    """

    def __init__(
        self,
        ticks: Sequence[Tick],
        key: Callable[[Series], bytes | None],
        whole: Outcome,
        most: int = 1 << 30,
    ) -> None:
        self._ticks, self._key = ticks, key
        self._columns = columns_of(ticks, key)
        self._bisection = Bisection([column.stamps for column in self._columns], whole, most)

    @property
    def delivered(self) -> int:
        """Samples that were taken so far."""
        return self._bisection.delivered

    def hear(self, outcome: Outcome) -> None:
        """Take the answer to `ask`: delivered, or refused for good."""
        self._bisection.hear(outcome)

    def ask(self) -> list[Tick]:
        """Return what to send next, no instant twice; empty: all is settled."""
        return ticks_of((self._columns[at], start, end) for at, start, end in self._bisection.ask)

    @property
    def rest(self) -> Piece:
        """What is not settled."""
        return piece([(self._columns[at], start, end) for at, start, end in self._bisection.rest])

    def culprits(self) -> list[Culprits]:
        """Return what was refused, by the receiver's words, as the ticks in which it came."""
        found: dict[tuple[Outcome, bool], list[Cells]] = {}
        for cells, outcome in self._bisection.refused:
            same = outcome.lasting
            is_single = cells.end - cells.start == 1 and cells.series in self._bisection.alone
            found.setdefault((same, is_single and same.reason == DUPLICATE), []).append(cells)
        return [
            Culprits(
                outcome.reason,
                outcome,
                sum(end - start for _, start, end in cells),
                self._of(cells),
                is_there,
            )
            for (outcome, is_there), cells in found.items()
        ]

    @property
    def spent(self) -> int:
        """Requests that it took."""
        return self._bisection.spent

    def learned(self) -> tuple[dict[bytes, Outcome], dict[bytes, Outcome]]:
        """Return the series of which nothing was taken: refused alone, and with others. Age up to a time is not theirs."""
        bad, unproven, counts = dict[bytes, Outcome](), dict[bytes, Outcome](), dict[int, int]()
        for (at, start, end), outcome in self._bisection.refused:
            counts[at] = counts.get(at, 0) + end - start
            column = self._columns[at]
            if counts[at] == len(column.stamps) and outcome.age is not Age.WINDOW:
                (bad if at in self._bisection.alone else unproven)[column.key] = outcome
        return bad, unproven

    def _of(self, cells: Iterable[Cells]) -> list[Tick]:
        """Return the ticks of the request, cut down to these samples and what repeats their instants."""
        spans: dict[bytes, list[tuple[int, int]]] = {}
        for at, start, end in cells:
            column = self._columns[at]
            spans.setdefault(column.key, []).append((column.stamps[start], column.stamps[end - 1]))
        for one in spans.values():
            one.sort()
        names: dict[tuple[int, tuple[int, ...]], tuple[Series, ...]] = {}
        ticks: list[Tick] = []
        for tick in self._ticks:
            wall_ms = tick.at.wall_ms
            kept = tuple(
                [i for i, one in enumerate(tick.series) if _within(spans.get(self._key(one) or b""), wall_ms)]
            )
            if len(kept) == len(tick.series) and kept:
                ticks.append(tick)
            elif kept:
                series = names.setdefault((id(tick.series), kept), tuple([tick.series[i] for i in kept]))
                ticks.append(tick._replace(series=series, values=[tick.values[i] for i in kept]))
        return ticks


def _within(spans: list[tuple[int, int]] | None, wall_ms: int) -> bool:
    if spans is None:
        return False
    at = bisect_right(spans, wall_ms, key=lambda span: span[0])
    return at > 0 and wall_ms <= spans[at - 1][1]
