"""One destination's lane: a thread that takes batches from a cursor and sends them, one at a time.

Promises:
1. The cursor moves only when a batch is settled; until then the same samples are repeated. One request is in
   flight at a time, so the samples of a series arrive in order, but for what `drain_order` lets go ahead.
2. A batch is sent when it is full, or when `batch_send_deadline` has passed since the last one began. So the
   first goes out at once, a steady flow in a few well-merged requests, and a backlog one after another, as
   fast as `pace` allows.
3. `stop` returns within its time, whatever the receiver does, and nothing touches the cursor after it. A lane that is
   asked to leave (`leave`) begins no request any more, so that another can take over when its thread has ended.
4. Nothing that happens here ends the thread before. What cannot be read, or a defect, is logged, shown as the
   error, and tried again after a pause.
5. A lane waits for nothing but its own receiver: lanes share the buffer and nothing else.
6. Of a batch that a receiver refuses for good, the culprits are found and the rest is delivered (`bisect`, `settle`).
7. A held destination is asked with an empty write, slowly; and within LOOK_EVERY seconds when a file of its
   credentials or certificates has changed.

Decided elsewhere: what an answer means (`outcome`, `protocol`), what comes next (`state`, `drain`), how fast (`pace`),
what is in a request (`batch`). Done elsewhere: the request (`exchange`), what is left of it (`settle`), the telling
(`report`). Here is the order of things.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from random import random as some

from agent.config import RemoteWrite
from agent.destinations.remote_write.outcome import Outcome, Verdict
from agent.send import order
from agent.send.batch import Batch, Composer
from agent.send.client import Client
from agent.send.exchange import Exchange
from agent.send.needs import Buffer, Cursor, Quarantine, Wire
from agent.send.order import Work
from agent.send.report import LaneStats, Report
from agent.send.settle import Settlement
from agent.send.state import Rules, Situation, State, after_batch, after_probe, settles
from agent.system.events import Logger
from agent.system.pulse import Pulse

LONGEST_WAIT = 3600.0
FAILED_PAUSE = 10.0
UNREADABLE_PAUSE = 1.0
LOOK_EVERY = 2.0
"""Seconds between two looks at the files of a held destination: that costs a few calls of stat(2)."""
LOOKUP = 60.0
"""Seconds that looking up names may take: the system's own limits are below that."""
STOP_MARGIN = 0.25
"""Seconds of a stop that are kept for a request that has to be cut."""


class Lane:
    """Sends to one destination from `start` to `stop`.

    `from_boot` are the groups whose counters began with the host's boot; `labels` are the host's, for what is asked
    in its name.
    """

    def __init__(
        self,
        to: RemoteWrite,
        cursor: Cursor,
        buffer: Buffer,
        quarantine: Quarantine,
        wire: Wire,
        log: Logger,
        *,
        from_boot: frozenset[str] = frozenset(),
        labels: Mapping[str, str] | None = None,
        stats: LaneStats | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        random: Callable[[], float] = some,
        rules: Rules | None = None,
    ) -> None:
        self.name = to.name
        self.stats = stats or LaneStats()
        self._to, self._queue, self._labels = to, to.queue_config, labels or {}
        self._cursor, self._buffer, self._wire = cursor, buffer, wire
        self._clock, self._wall, self._random = clock, wall, random
        self._rules = rules or Rules(self._queue.min_backoff, self._queue.max_backoff)
        self._report = Report(to.name, log, clock)
        self._exchange = Exchange(to, wire, self.stats, self._report, clock, random)
        self._composer = Composer(to, from_boot)
        self._settlement = Settlement(to.name, cursor, quarantine, self._report, wall)
        self._now = Situation(self._queue.max_samples_per_send)
        self._batch: Batch | None = None
        self._suspects: frozenset[bytes] = frozenset()  # the culprits of the last batch that had any
        self._due = 0.0  # when a batch that is not full may go out
        self._away = True  # nothing got through lately, or yet
        self._fresh_first: bool | None = None if to.drain_order == "auto" else to.drain_order == "fresh_first"
        self._stopping, self._stop_at, self._leaving = threading.Event(), 0.0, False
        self._pulse = Pulse(clock)
        self._thread = threading.Thread(target=self._run, name=f"lane-{to.name}", daemon=True)

    @property
    def state(self) -> State:
        """What the lane is doing."""
        return self._now.state

    @property
    def error(self) -> str | None:
        """What is or was wrong last; None after a delivery."""
        return self._now.error

    @property
    def has_ended(self) -> bool:
        """Whether its thread runs no more, or never did."""
        return not self._thread.is_alive()

    def overdue(self) -> float:
        """Seconds since which the lane should have been back from whatever it waits for."""
        return 0.0 if self.has_ended else self._pulse.overdue()

    def start(self) -> None:
        """Begin."""
        self._due = self._clock()
        self._thread.start()

    def ask_to_stop(self, within: float) -> None:
        """Begin to stop, without waiting for it."""
        self._stop_at = self._clock() + within
        self._stopping.set()
        self._buffer.wake()

    def leave(self) -> None:
        """Begin no request any more; nobody waits for the one that is under way."""
        self._leaving = True
        self.ask_to_stop(0.0)

    def cut(self) -> None:
        """End the request that is under way; nothing touches the cursor after this."""
        self._wire.interrupt()
        self._settlement.leave()

    def stop(self, within: float) -> None:
        """Stop: a last try of what is pending, if there is no trouble, and at most `within` seconds."""
        if not self._stopping.is_set():
            self.ask_to_stop(within)
        self._join(self._stop_at - STOP_MARGIN)
        if self._thread.is_alive():
            self._wire.interrupt()
            self._join(self._stop_at)
        self._settlement.leave()

    def _join(self, until: float) -> None:
        while self._thread.is_alive() and (left := until - self._clock()) > 0:
            self._buffer.wake()  # again: a lane may be just about to wait
            self._thread.join(min(left, 0.05))

    # The thread.

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._guarded(self._step)
        if self._now.state in (State.IDLE, State.SENDING) and not self._leaving:
            self._guarded(self._last_try)
        self._enter(self._now._replace(state=State.STOPPED))
        self._wire.close()

    def _guarded(self, step: Callable[[], None]) -> None:
        self._pulse.back_in(0)
        try:
            step()
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            self._report.failed(told)
            self._enter(self._now._replace(error=told))
            self._wait(FAILED_PAUSE)

    def _wait(self, seconds: float) -> bool:
        """Wait so long, or until it stops, which is what is returned."""
        self._pulse.back_in(seconds)
        stops = self._stopping.wait(seconds)
        self._pulse.back_in(0)
        return stops

    def _asking(self) -> None:
        """A request begins: see `transport` on how long it can take."""
        self._pulse.back_in(2 * self._to.remote_timeout + LOOKUP)

    def _step(self) -> None:
        """Wait until something is to be done, and do it."""
        if self._now.state is State.HELD:
            self._hold()
        elif self._now.state is State.WAITING:
            pause = max(self._now.not_before - self._clock(), self._exchange.wait(full=False))
            if not self._wait(max(0.0, pause)):
                self._send(Work.IN_ORDER)
        elif self._batch is None and self._is_order_unknown():
            self._ask_order()
        elif (work := self._work()) is Work.NOTHING:
            self._enter(self._now._replace(state=State.IDLE))
            self._rest(LONGEST_WAIT)
        elif (pause := self._pause(work)) > 0:
            if work is Work.BACKLOG:
                self._rest(pause)
            else:
                self._wait(pause)
        else:
            self._send(work)

    def _work(self) -> Work:
        if self._batch is not None:
            return Work.IN_ORDER
        cursor, limit = self._cursor, self._now.limit
        if self._fresh_first and cursor.pending_ahead() > limit:
            cursor.go_ahead(1)
        fresh = cursor.pending_ahead() if cursor.ahead is not None else None
        return order.work(cursor.pending(), fresh, limit, due=self._clock() >= self._due)

    def _pause(self, work: Work) -> float:
        """Seconds to wait before that, so that the pace is kept; what is fresh does not wait.

        More than a request of it is a backlog: one that could not be left as a gap.
        """
        if work is Work.FRESH and self._cursor.pending_ahead() <= self._now.limit:
            return 0.0
        full = (
            work is not Work.IN_ORDER or self._batch is not None or self._cursor.pending() >= self._now.limit
        )
        return self._exchange.wait(full=full)

    def _rest(self, longest: float) -> None:
        """Wait until there is something new to be sent."""
        pause = self._due - self._clock()
        # Before it is due only a full batch is of interest, afterwards any sample.
        wanted = self._now.limit if pause > 0 else 1
        position = self._cursor.position if self._cursor.ahead is None else self._cursor.ahead
        patience = min(pause, longest) if pause > 0 else longest
        self._pulse.back_in(patience)
        self._buffer.wait(position + wanted - 1, patience)
        self._pulse.back_in(0)

    def _hold(self) -> None:
        """Wait for the time to probe, or for a file that was corrected, and probe."""
        while (left := self._now.not_before - self._clock()) > 0:
            if self._wait(min(left, LOOK_EVERY)):
                return
            if self._wire.changed():
                break
        self._asking()
        was, outcome = self._now, self._exchange.probe()
        self._now = after_probe(was, outcome, self._clock(), self._rules, self._random())
        if self._now.state is State.HELD:
            self._report.held(self._now, was.error)
        else:
            self._due = self._clock()
        self._enter(self._now)

    def _last_try(self) -> None:
        within = self._stop_at - STOP_MARGIN - self._clock()
        if within > 0 and self._cursor.pending():
            ahead = self._cursor.ahead is not None and self._cursor.pending_ahead() > 0
            self._send(Work.FRESH if ahead else Work.IN_ORDER, within)

    def _send(self, work: Work, within: float | None = None) -> None:
        """Send the batch at hand, or the next one."""
        self._batch = batch = self._at_hand() or self._next_batch(work)
        if batch is None:
            return
        self._enter(self._now._replace(state=State.SENDING))
        self._asking()
        outcome = self._exchange.ask(batch.request, self._now.failures, within)
        if self._stopping.is_set() and outcome.verdict is Verdict.RETRY and not outcome.status:
            # Cut by us, perhaps: no reason to raise an alarm, nor to try once more.
            self._now = self._now._replace(state=State.WAITING)
            return
        was = self._now
        whole = batch.samples + batch.repeated
        self._now = after_batch(was, whole, outcome, self._clock(), self._rules, self._random())
        if outcome.verdict not in (Verdict.RETRY, Verdict.HELD):
            self._batch = None  # a defect below costs no more than to send it again, as a whole
        if outcome.verdict is Verdict.FALL_BACK:
            self._due = self._clock()
        self._tell(was, batch, outcome)
        if settles(outcome):
            self._batch = self._answered(batch, outcome)
        self._enter(self._now)

    def _at_hand(self) -> Batch | None:
        """The batch that waits, unless it was evicted or is outdated by now."""
        batch = self._batch
        if batch is None or batch.chunk.end <= self._cursor.position:
            return None
        spoken, wall_ms = self._exchange.speaks(), int(self._wall() * 1000)
        return None if self._composer.is_outdated(batch, spoken, wall_ms) else batch

    def _next_batch(self, work: Work) -> Batch | None:
        now = self._clock()
        if work is not Work.BACKLOG:
            self._due = now + self._queue.batch_send_deadline
        self._composer.speak(self._exchange.speaks())
        read = self._cursor.read_ahead if work is Work.FRESH else self._cursor.read
        chunk = read(self._exchange.limit(self._now.limit))
        batch = self._composer.batch(chunk, now, int(self._wall() * 1000))
        if batch.samples:
            return batch
        if chunk.end > chunk.start:  # nothing of it is to be sent: all settled
            self._settlement.settle(batch, None)
        else:  # pending, but damaged and not to be had before the next key frame
            self._wait(UNREADABLE_PAUSE)
        return None

    def _answered(self, batch: Batch, outcome: Outcome) -> Batch | None:
        """Settle a batch that was delivered or refused; or return what of it is to be asked next."""
        if outcome.verdict is Verdict.DELIVERED:
            self.stats.samples_sent += batch.request.samples
        poison = batch.poison
        if poison is not None:
            poison.tell(outcome)
        elif outcome.verdict is Verdict.REJECTED:
            poison = self._composer.poison(batch, outcome, self._suspects)
        if poison is not None and (ticks := poison.ask()):
            return batch._replace(request=self._composer.request(ticks), poison=poison)
        if poison is not None:
            self._suspects = poison.suspects()
        else:
            self._composer.delivered(batch, self._clock())
        self.stats.samples_repeated += batch.repeated
        if (error := self._settlement.settle(batch, poison)) is not None:
            self._now = self._now._replace(error=error)
        return None

    def _is_order_unknown(self) -> bool:
        """Whether there is a backlog, and the receiver has to be asked in which order it takes it."""
        if self._to.drain_order != "auto":
            return False
        if self._cursor.pending() <= self._now.limit:
            self._fresh_first = None  # the next backlog is asked for anew
        return self._fresh_first is None and not self._away and self._cursor.pending() > self._now.limit

    def _ask_order(self) -> None:
        """Find out whether the receiver takes samples as old as the backlog behind newer ones."""
        outcome, oldest = None, next(iter(self._cursor.read(1).ticks), None)
        for wall_ms in (int(self._wall() * 1000), oldest.at.wall_ms) if oldest else ():
            self._composer.speak(self._exchange.speaks())
            request = self._composer.request(order.probe(self._labels, wall_ms))
            self._asking()
            outcome = self._exchange.ask(request) if request.samples else None  # relabeling may leave nothing
            if outcome is None or outcome.verdict is not Verdict.DELIVERED:
                break
        if outcome is None or settles(outcome):
            self._fresh_first = outcome is not None and outcome.verdict is Verdict.DELIVERED
            self._report.order(fresh_first=self._fresh_first, error=outcome and outcome.error)
            return
        was = self._now
        self._enter(after_batch(was, 1, outcome, self._clock(), self._rules, self._random()))
        self._tell_trouble(was, outcome)

    # Telling.

    def _enter(self, now: Situation) -> None:
        self._now = now
        self._settlement.note(now.state, now.error)

    def _tell(self, was: Situation, batch: Batch, outcome: Outcome) -> None:
        if outcome.verdict is Verdict.DELIVERED:
            if self._report.is_troubled:
                self._due = self._clock()  # what came in meanwhile does not wait for its turn
            if self._away:
                self._away = False
                outage = self._wall() - batch.ticks[0].at.wall_ms / 1000
                self._exchange.resumed(outage, self._rules.first_pause)
            self._report.delivered(batch.request.samples, len(batch.request.body))
        elif outcome.verdict is Verdict.REJECTED:
            self._report.refused(batch.request.samples, outcome.error)
        else:
            self._tell_trouble(was, outcome)

    def _tell_trouble(self, was: Situation, outcome: Outcome) -> None:
        if self._now.state is State.WAITING:
            self._away = True
            self._report.retry(self._now)
        elif self._now.state is State.HELD:
            self._away = True
            self._report.held(self._now, was.error)
        elif outcome.verdict is Verdict.TOO_LARGE:
            self._report.halved(self._now.limit, outcome.error)


def open_lane(
    to: RemoteWrite,
    cursor: Cursor,
    buffer: Buffer,
    quarantine: Quarantine,
    version: str,
    log: Logger,
    *,
    from_boot: frozenset[str],
    labels: Mapping[str, str],
    stats: LaneStats | None = None,
) -> Lane:
    """A lane to a configured destination, not started yet."""
    wire = Client(to, version)
    return Lane(to, cursor, buffer, quarantine, wire, log, from_boot=from_boot, labels=labels, stats=stats)


def stop_all(lanes: Sequence[Lane], within: float) -> None:
    """Stop all lanes at the same time, in `within` seconds together."""
    for lane in lanes:
        lane.ask_to_stop(within)
    for lane in lanes:
        lane.stop(within)
