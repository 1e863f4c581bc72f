"""What a destination may cost on the wire, and what follows: pure, but for the clocks, which are handed in.

Promises:

1. Everything on the wire counts: what the kernel counts of connections (heads, TLS, what was sent again), looked-up names, tokens.
2. From STRETCH of a budget on, requests are fewer and larger. Before a request that would exceed it nothing is sent but a
   sign of life (`heartbeat_due`), for which RESERVE of the budget is kept on top; and nothing is dropped. The last KEPT of it is
   for what has priority, where anything has: its requests are so rare that they last until the period ends (`turn`).
3. After a kill at any moment no less is counted than was spent: `ahead` is written before.
4. A period ends when two clocks agree that it does, of three: the host's, the receiver's, and the monotonic one that continues from
   what was written last. So a clock that jumps neither ends a period early nor lets it last without end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from agent.config import DataBudget
from agent.send.stats import SendStats
from buffer.usage import Usage

STRETCH, FACTOR, LONGEST = 0.8, 4.0, 600.0
"""From that share on a deadline is so many times as long, but by this alone no longer than 10 minutes (s)."""
RESERVE = 0.01
"""Of the budget, for signs of life when it is spent."""
KEPT = 0.1
"""Of the budget, for what has priority."""
EVERY = 900.0
"""Seconds between two signs of life at least."""
RECENT = 16
"""Requests, of which the cheapest says what one costs at least."""
SAMPLE = 24
"""Bytes of a sample on the wire that are hardly ever exceeded."""
AGREED = 3600.0
"""Seconds that clocks which agree may be apart."""
AHEAD = 500
"""So much of a budget is written ahead."""
COARSE = 64 << 10
"""Bytes between two writes where there is no budget."""


class Budget:
    """The bytes of one destination, since `used`, which was written last. `mono` and `wall` are clocks in seconds.

    `stats` counts bytes and has the receiver's time.
    """

    def __init__(
        self,
        limits: DataBudget,
        used: Usage | None,
        stats: SendStats,
        mono: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._stats, self._mono, self._wall = stats, mono, wall
        now_ms = int(wall() * 1000)
        budgets = {"day_budget": limits.per_day or 0, "month_budget": limits.per_month or 0}
        self.used = (used or Usage(now_ms, now_ms))._replace(**budgets)
        self.is_limited = any(budgets.values())
        self._smallest = min((budget for budget in budgets.values() if budget), default=0)
        self._wire, self._dates, self._at = stats.wire_bytes, stats.dates, mono()
        self._costs = deque[int](maxlen=RECENT)
        self._mark = self._unwritten = 0  # bytes that the file is ahead, and behind
        self.usual = 1.0 - KEPT if limits.priority else 1.0
        """The share of a budget that is for everything."""
        self._beat_at = 0.0  # when a sign of life is due
        self.beat_cost = 0
        """Bytes of the last sign of life."""

    def count(self) -> None:
        """Take in what was spent and which time it is."""
        now, wire = self._mono(), self._stats.wire_bytes
        before = self.used
        clock = before.at_ms / 1000 + max(0.0, now - self._at)
        if self._stats.dates != self._dates:
            clock = agreed(clock, self._wall(), self._stats.date)
        self._at, self._dates = now, self._stats.dates
        self.used = before.at(int(clock * 1000)).plus(cost := wire - self._wire)
        self._wire, self._mark = wire, max(0, self._mark - cost)
        self._unwritten += cost
        if cost:
            self._costs.append(cost)

    @property
    def is_spent(self) -> bool:
        """Whether the cheapest request would exceed the budget."""
        return self.used.plus(self.least).share >= 1.0

    @property
    def is_kept(self) -> bool:
        """Whether the cheapest request would exceed what is not kept for priority."""
        return self.used.plus(self.least).share >= self.usual

    @property
    def least(self) -> int:
        """The bytes that a request costs at least, as far as is known: a lone large one says nothing about a small one."""
        return min(*self._costs, self._smallest // 20) if self._costs else 0

    @property
    def left(self) -> float:
        """Seconds until more may be spent."""
        return self.used.plus(self.least).left_ms(self.usual) / 1000

    @property
    def most(self) -> int:
        """The samples that may be paid at once."""
        share = 1.0 if self.is_kept else self.usual
        return max(1, (self.used.room(share) - self.least) // SAMPLE) if self.is_limited else 1 << 30

    def deadline(self, usual: float) -> float:
        """Return the seconds between two requests, of which `usual` are configured."""
        return usual if self.used.share < STRETCH else max(usual, min(FACTOR * usual, LONGEST))

    def turn(self, cost: int, usual: float) -> float:
        """Return the seconds to the next request with priority, where the last one has cost so many bytes; `usual` at least."""
        return max(usual, self.left * cost / max(1, self.used.room(1.0)))

    def heartbeat_due(self) -> bool:
        """Return whether a sign of life is due, and affordable."""
        return self._mono() >= self._beat_at and self.used.room(1 + RESERVE) >= self.least

    def beat(self, turn: float = 0.0) -> float:
        """Take it that a sign of life goes out; return in how many seconds the next one follows at the latest.

        With `turn` it goes along with what has priority, which goes out each so many seconds. Else it waits so long that those until
        the period ends can be paid.
        """
        room = max(1, self.used.room(1 + RESERVE))
        every = EVERY if turn else max(EVERY, self.left * (self.beat_cost or self.least) / room)
        self._beat_at = self._mono() + every
        return min(every + 1.5 * turn, self.left)  # costs differ from turn to turn

    def beaten(self) -> None:
        """Take it that the sign of life has gone out."""
        before = self._wire
        self.count()
        self.beat_cost = self._wire - before

    def ahead(self) -> Usage | None:
        """Return what has to be written before the next request; None: what is written is enough for it."""
        ahead = max(self._costs, default=0) + self._smallest // AHEAD
        if self.is_limited:
            if self._mark >= ahead:
                return None
            self._mark = ahead + self._smallest // AHEAD
        elif self._unwritten < COARSE:
            return None
        self._unwritten = 0
        return self.used.plus(self._mark)


def agreed(clock: float, wall: float, date: float | None) -> float:
    """Return the time on which two of three clocks agree; else the first, which nothing but the passing of time has moved."""
    if date is not None and min(abs(date - wall), abs(date - clock)) <= AGREED:
        return date
    return wall if abs(wall - clock) <= AGREED else clock
