"""A sender that keeps to a data budget: it takes the sender's steps as long as they may be paid.

Promises:

1. What a request will cost is written before it goes out (`Budget.ahead`), if the disk takes it.
2. While the budget is spent, no sample goes out and no try is made, but for a sign of life: a sample of SERIES, which nothing else
   has, so it is never ahead of older ones. What waits stays where it is, and is pending.
3. The state is then `waiting`, with an error that says which budget it is and when it begins again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from agent.send.account import Account
from agent.send.budget import Budget
from agent.send.delivery import Clocks, Delivery
from agent.send.log import LaneLog
from agent.send.sender import Pause, Sender
from agent.send.state import State
from agent.send.stats import SendStats
from buffer.hints import Progress
from buffer.model import Instant, Series, Tick
from buffer.usage import Usage, UsageNote

SERIES = "limpet_data_budget_used_ratio"
_HELP = "The share of the data budget that is used; sent alone while it is spent, as a sign of life."
LOOK_EVERY = 60.0
"""Seconds between two looks at the time while the budget is spent: a clock may be set."""


class Thrift:
    """Steps of `sender` within `budget`. Used from the thread of its lane."""

    def __init__(
        self,
        sender: Sender,
        delivery: Delivery,
        budget: Budget,
        note: UsageNote,
        account: Account,
        log: LaneLog,
        stats: SendStats,
        labels: Mapping[str, str],
        clocks: Clocks,
    ) -> None:
        self._sender, self._delivery, self._budget, self._note = sender, delivery, budget, note
        self._account, self._log, self._stats, self._clocks = account, log, stats, clocks
        self._series = Series(SERIES, tuple(sorted(labels.items())), "gauge", "ratio", _HELP)
        self._usual, self._was_spent = sender.deadline, False
        stats.used = budget.used

    def step(self) -> Pause:
        """Take the sender's next step, or wait until it may be paid."""
        if self._is_spent():
            return self._wait()
        self._was_spent = False
        self._delivery.affordable = self._budget.most
        self._sender.deadline = self._budget.deadline(self._usual)
        self._write(self._budget.ahead())
        return self._sender.step()

    def last_try(self, within: float) -> None:
        """Send what is pending once more, where it may be paid."""
        if not self._is_spent():
            self._delivery.affordable = self._budget.most
            self._write(self._budget.ahead())
            self._sender.last_try(within)

    def close(self) -> None:
        """Write what was spent."""
        self._budget.count()
        self._write(self._budget.used)

    def _is_spent(self) -> bool:
        self._budget.count()
        self._stats.used = self._budget.used
        return self._budget.is_limited and self._budget.is_spent

    def _wait(self) -> Pause:
        budget, said = self._budget, self._said()
        if not self._was_spent:
            self._log.spent(said)
            self._was_spent = True
        if budget.heartbeat_due():
            self._write(budget.ahead())
            self._beat()
        left = budget.left
        next_ms = round((self._clocks.wall() + left) * 1000)
        self._sender.state, self._sender.error = State.WAITING, said
        self._account.note(State.WAITING, said, None, Progress(None, 0, next_ms, self._stats.clock_skew))
        return Pause(max(1.0, min(left, LOOK_EVERY)))

    def _beat(self) -> None:
        """Send a sign of life. Whatever comes of it changes nothing."""
        now, budget = self._delivery.now, self._budget
        at = Instant(int(self._clocks.wall() * 1000), 0, "")
        tick = Tick(at, SERIES, (self._series,), (round(budget.used.share, 3),))
        request = self._delivery.speaks().encode([tick], True).request
        if request.samples:
            self._delivery.trial(request)
        self._delivery.now = now
        budget.beaten()

    def _said(self) -> str:
        used = self._budget.used
        spent = [
            f"{count / 1e6:.3g} MB of {limit / 1e6:.3g} MB this {name}"
            for name, count, limit in (
                ("day", used.day_bytes, used.day_budget),
                ("month", used.month_bytes, used.month_budget),
            )
            if limit and count + self._budget.least >= limit
        ]
        return f"the data budget is spent: {', '.join(spent)}; samples wait for the next one"

    def _write(self, used: Usage | None) -> None:
        if used is not None:
            with suppress(OSError):  # an ill disk is no reason to send nothing
                self._note.save(used)
