"""One destination's lane: the thread that takes a `Sender` from step to step.

Promises:
1. `stop` returns within its time, whatever the receiver does, and nothing touches the cursor after it. A lane that
   begins to `leave` ends the chunk at hand and begins no other, so that another lane can take over when its thread has
   ended.
2. Nothing that happens in a step ends the thread before. What cannot be read, or a defect, is logged, shown as the
   error, and tried again after a pause.
3. A lane waits for nothing but its own receiver: lanes share the buffer and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from agent.config import DestinationConfig, HttpDestination
from agent.destinations.base import Speaks
from agent.http.endpoint import of_destination
from agent.send.account import Account
from agent.send.asking import Wire
from agent.send.budget import Budget
from agent.send.course import Course
from agent.send.dates import Dates
from agent.send.delivery import Clocks, Delivery
from agent.send.early import Early, News
from agent.send.fresh import Fresh
from agent.send.log import LaneLog
from agent.send.order import Order
from agent.send.sender import LOOKUP, NOW, Pause, Sender
from agent.send.state import Rules, State
from agent.send.stats import SendStats
from agent.send.thrift import Thrift
from agent.send.unchanged import Unchanged
from agent.send.window import is_open
from agent.system.events import Logger
from agent.system.pulse import Pulse
from buffer.buffer import Buffer
from buffer.quarantine import Quarantine

FAILED_PAUSE = 10.0
FINISH = 5.0
"""Seconds that a lane which leaves may take for the rest of a chunk that was begun."""
STOP_MARGIN = 0.25
"""Seconds of a stop that are kept for a request that has to be cut."""


class Lane:
    """Sends to one destination from `start` to `stop`. `labels` are the host's, for samples sent in its name.

    `listen` opens the news that end a wait; None: there are none.  `wants_date` says whether the receiver's time is needed, to know
    whether this host's clock is right.
    """

    def __init__(
        self,
        to: DestinationConfig,
        speaks: Speaks,
        wire: Wire,
        buffer: Buffer,
        quarantine: Quarantine,
        log: Logger,
        *,
        labels: Mapping[str, str] | None = None,
        stats: SendStats | None = None,
        rules: Rules | None = None,
        clocks: Clocks | None = None,
        listen: Callable[[], News] | None = None,
        wants_date: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name, self.stats = to.name, stats or SendStats()
        self.stats.deadline = to.queue_config.batch_send_deadline
        self.stats.unchanged_every = to.send_unchanged_every
        self.stats.proves_itself, self.stats.heard = (proves_itself := has_proof(to)), None
        self._buffer, self._wire, clocks = buffer, wire, clocks or Clocks()
        self._timeout = to.remote_timeout
        counted = self.stats
        lane_log = LaneLog(to.name, to.write_url, log, clocks.monotonic, lambda: counted.clock_skew)
        self._pulse = Pulse(clocks.monotonic)
        fresh = Fresh(speaks, labels or {}, lambda: buffer.newest, clocks.monotonic, clocks.wall)
        unchanged = Unchanged(speaks, to.send_unchanged_every) if to.send_unchanged_every else None
        delivery = Delivery(speaks, wire, to.queue_config, rules, self.stats, clocks, fresh, unchanged)
        was = buffer.cursors[to.name].progress
        self.stats.outages.remember(was.outage, was.outage_ms)
        course, wall = Course(buffer.cursors[to.name], to.data_budget.priority), clocks.wall
        order = Order(to.drain_order, labels or {}, lambda: is_open(to.send_window, wall()))
        self._account = Account(to.name, course, quarantine, lane_log, clocks.wall)
        self._early = early = Early(listen, clocks.monotonic)
        self.sender = Sender(to, course, delivery, self._account, lane_log, order, self._pulse, clocks, early)
        self._dates = Dates(lambda: proves_itself and wants_date(), delivery, clocks.monotonic)
        note = buffer.usage(to.name)
        budget = Budget(to.data_budget, note.load(), self.stats, clocks.monotonic, clocks.wall)
        thrifty = (
            self.sender,
            course,
            delivery,
            budget,
            note,
            self._account,
            lane_log,
            self.stats,
            labels or {},
            clocks,
        )
        self._thrift = Thrift(*thrifty)
        self._stopping, self._stop_at, self._leaving = threading.Event(), 0.0, False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lane-{to.name}", daemon=True)

    @property
    def state(self) -> State:
        """What the lane is doing."""
        return self.sender.state

    @property
    def error(self) -> str | None:
        """What is or was wrong last; None after a delivery."""
        return self.sender.error

    @property
    def has_ended(self) -> bool:
        """Whether its thread runs no more, or never did."""
        return not self._thread.is_alive()

    def overdue(self) -> float:
        """Return for how many seconds the lane should have been back from whatever it waits for."""
        return 0.0 if self.has_ended else self._pulse.overdue()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask_to_stop(self, within: float) -> None:
        """Begin to stop, without waiting for it."""
        self._stop_at = time.monotonic() + within
        self.sender.is_stopping = True
        self._stopping.set()
        self._wake.set()
        self._buffer.wake()

    def try_now(self) -> None:
        """Let the next request open a connection, and go out now where it waits; the one under way is not touched."""
        self._wire.renew()
        self._early.ask()
        self._wake.set()

    def leave(self) -> None:
        """Begin no chunk any more; nobody waits for the one that is under way."""
        self._leaving = True
        self.ask_to_stop(0.0)

    def cut(self) -> None:
        """End the request that is under way; nothing touches the cursor after this."""
        self._wire.interrupt()
        self._account.leave()

    def stop(self, within: float) -> None:
        """Stop: a last try of what is pending, if there is no trouble, and at most `within` seconds."""
        if not self._stopping.is_set():
            self.ask_to_stop(within)
        self._join(self._stop_at - STOP_MARGIN)
        if self._thread.is_alive():
            self._wire.interrupt()
            self._join(self._stop_at)
        self._account.leave()

    def _join(self, until: float) -> None:
        while self._thread.is_alive() and (left := until - time.monotonic()) > 0:
            self._buffer.wake()  # again: a lane may be just about to wait
            self._thread.join(min(left, 0.05))

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._rest(self.step())
        self._guarded(self._finish if self._leaving else self._last_try)
        self._guarded(self._close)
        self.sender.note(State.STOPPED)
        self._early.close()
        self._wire.close()

    def step(self) -> Pause:
        """Take the sender's next step; nothing is raised. For the lane's thread; or without one."""
        return self._guarded(self._step)

    def _step(self) -> Pause:
        pause = self._thrift.step()
        if self.state is not State.IDLE or pause.position is None:
            return pause
        self._pulse.back_in(2 * self._timeout + LOOKUP)
        return pause._replace(seconds=self._dates.ask(pause.seconds))

    def _last_try(self) -> Pause:
        self._thrift.last_try(self._stop_at - STOP_MARGIN - time.monotonic())
        return NOW

    def _finish(self) -> Pause:
        self.sender.finish(FINISH)
        return NOW

    def _close(self) -> Pause:
        self._thrift.close()
        return NOW

    def _guarded(self, step: Callable[[], Pause]) -> Pause:
        self._pulse.back_in(0)
        try:
            return step()
        except Exception as error:
            self.sender.failed(f"{type(error).__name__}: {error}")
            return Pause(FAILED_PAUSE)

    def _rest(self, pause: Pause) -> None:
        if pause.seconds <= 0:
            return
        self._pulse.back_in(pause.seconds)
        if pause.position is None:
            self._wake.wait(pause.seconds)
            self._wake.clear()  # a stop is seen before the next wait
        else:
            self._buffer.wait(pause.position, pause.seconds)


def has_proof(to: DestinationConfig) -> bool:
    """Return whether the receiver has to show by TLS that it is the one."""
    return (
        isinstance(to, HttpDestination)
        and of_destination(to).is_https
        and not to.tls_config.insecure_skip_verify
    )


def stop_all(lanes: Sequence[Lane], within: float) -> None:
    """Stop all lanes at the same time, in `within` seconds together."""
    for lane in lanes:
        lane.ask_to_stop(within)
    for lane in lanes:
        lane.stop(within)
