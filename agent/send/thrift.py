"""A sender that keeps to a data budget: it takes the sender's steps as long as they may be paid.

Promises:

1. What a request will cost is written before it goes out (`Budget.ahead`), if the disk takes it.
2. While the budget is spent, no sample goes out and no try is made, but for a sign of life: samples of SERIES and NEXT, which
   nothing else has, so they are never ahead of older ones. What waits stays where it is, and is pending.
3. While what is left of it is kept for priority, only samples with priority go out (`course`), and signs of life. A chunk that was
   begun before is ended first, so that a series stays in order.
4. The state is then `waiting`, with an error that says which budget it is and when it begins again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress

from agent.send.account import Account
from agent.send.budget import Budget
from agent.send.course import Course
from agent.send.delivery import Clocks, Delivery, aside
from agent.send.log import LaneLog
from agent.send.outages import Cause
from agent.send.sender import NOW, Pause, Sender
from agent.send.state import State
from agent.send.stats import SendStats
from buffer.hints import Progress
from buffer.model import Instant, Series, Tick
from buffer.usage import Usage, UsageNote

SERIES = "limpet_data_budget_used_ratio"
_HELP = "The share of the data budget that is used; sent alone while it is spent, as a sign of life."
NEXT = "limpet_data_budget_next_sign_timestamp_seconds"
_NEXT_HELP = "When the next sign of life is due at the latest, UTC since 1970."
LOOK_EVERY = 60.0
"""Seconds between two looks at the time while the budget is spent: a clock may be set."""


class Thrift:
    """Steps of `sender` within `budget`. Used from the thread of its lane."""

    def __init__(
        self,
        sender: Sender,
        course: Course,
        delivery: Delivery,
        budget: Budget,
        note: UsageNote,
        account: Account,
        log: LaneLog,
        stats: SendStats,
        labels: Mapping[str, str],
        clocks: Clocks,
    ) -> None:
        self._sender, self._course, self._delivery = sender, course, delivery
        self._budget, self._note = budget, note
        self._account, self._log, self._stats, self._clocks = account, log, stats, clocks
        of_host = tuple(sorted(labels.items()))
        self._series = (
            Series(SERIES, of_host, "gauge", "ratio", _HELP),
            Series(NEXT, of_host, "gauge", "seconds", _NEXT_HELP),
        )
        self._usual, self._was_spent = sender.deadline, False
        self._turn_at, self._turn_began = (
            0.0,
            0,
        )  # of the next request with priority, and the bytes before the last one
        stats.used = budget.used

    def step(self) -> Pause:
        """Take the sender's next step, or wait until it may be paid."""
        if self._is_spent():
            return self._wait()
        is_at_hand = self._delivery.has_chunk
        if self._is_kept() and (self._course.only or not is_at_hand):
            return self._first()
        if not is_at_hand:
            self._course.only = self._was_spent = False
            self._turn_at = 0.0
        self._sender.deadline = self._budget.deadline(self._usual)
        return self._step()

    def last_try(self, within: float) -> None:
        """Send what is pending once more, where it may be paid."""
        if not self._is_spent() and not self._is_kept():
            self._prepare()
            self._sender.last_try(within)

    def close(self) -> None:
        """Write what was spent."""
        self._budget.count()
        self._write(self._budget.used)

    def _is_spent(self) -> bool:
        self._budget.count()
        self._stats.used = self._budget.used
        return self._budget.is_limited and self._budget.is_spent

    def _is_kept(self) -> bool:
        return self._budget.is_limited and self._budget.is_kept

    def _step(self) -> Pause:
        self._prepare()
        return self._sender.step()

    def _prepare(self) -> None:
        self._delivery.affordable = self._budget.most
        self._write(self._budget.ahead())

    def _first(self) -> Pause:
        """Send what has priority when its turn has come."""
        course, delivery, clock = self._course, self._delivery, self._clocks.monotonic
        course.only = True
        if not delivery.has_chunk and delivery.now.state is State.IDLE:
            if (left := self._turn_at - clock()) > 0:
                return Pause(min(self._wait().seconds, left))
            self._turn_began = self._stats.wire_bytes
            self._sender.due = clock()
        pause = self._step()
        if not delivery.has_chunk and delivery.now.state is State.IDLE:
            self._turn_at = clock() + self._turn()
            return NOW
        return pause

    def _turn(self) -> float:
        """Return the seconds to the next turn; the sign of life goes along with it."""
        budget, usual = self._budget, self._sender.deadline
        budget.count()
        if not (cost := self._stats.wire_bytes - self._turn_began) and self._course.pending():
            return 0.0  # none of what was read has priority
        if budget.heartbeat_due():
            self._beat(budget.turn(cost + (budget.beat_cost or budget.least), usual))
            cost = self._stats.wire_bytes - self._turn_began
        return budget.turn(cost, usual)

    def _wait(self) -> Pause:
        budget, said = self._budget, self._said()
        if not self._was_spent:
            self._log.spent(said)
            self._was_spent = True
        if budget.is_spent and budget.heartbeat_due():
            self._beat()
        left = budget.left
        next_ms = round((self._clocks.wall() + left) * 1000)
        self._sender.state, self._sender.error = State.WAITING, said
        if budget.is_spent:
            self._stats.outages.failed(Cause.BUDGET)
        waiting = Progress(None, 0, next_ms, self._stats.clock_skew, *self._stats.outages.at_hand)
        self._account.note(State.WAITING, said, None, waiting)
        return Pause(max(1.0, min(left, LOOK_EVERY)))

    def _beat(self, turn: float = 0.0) -> None:
        """Send a sign of life. Whatever comes of it changes nothing."""
        self._write(self._budget.ahead())
        budget, wall = self._budget, self._clocks.wall()
        tick = Tick(
            Instant(int(wall * 1000), 0, ""),
            SERIES,
            self._series,
            (round(budget.used.share, 3), float(math.ceil(wall + budget.beat(turn) + LOOK_EVERY))),
        )
        request = self._delivery.speaks().encode([tick], True).request
        if request.samples:
            aside(self._delivery, request)
        budget.beaten()

    def _said(self) -> str:
        used = self._budget.used
        spent = [
            f"{count / 1e6:.3g} MB of {limit / 1e6:.3g} MB this {name}"
            for name, count, limit in (
                ("day", used.day_bytes, used.day_budget),
                ("month", used.month_bytes, used.month_budget),
            )
            if limit and count + self._budget.least >= limit * self._budget.usual
        ]
        which = "" if self._is_spent() else " without priority"
        return f"the data budget is spent: {', '.join(spent)}; samples{which} wait for the next one"

    def _write(self, used: Usage | None) -> None:
        if used is not None:
            with suppress(OSError):  # an ill disk is no reason to send nothing
                self._note.save(used)
