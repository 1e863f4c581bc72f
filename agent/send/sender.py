"""What one destination's lane does next, step by step: a cursor, and pacing around a `Delivery`. No thread, no waiting.

`step` does one thing, a request at most, and returns how long to wait before the next. Promises:

1. The cursor moves only when a chunk is settled; until then the same samples are repeated. One request is in flight at
   a time, so the samples of a series arrive in order, but for what `drain_order` lets go ahead.
2. A chunk is sent when it is full, or when `batch_send_deadline` has passed since the last one began. So the first goes
   out at once, a steady flow in a few well-merged requests, and a backlog one after another, as fast as `pace` allows.
3. What waits apart (`Batch`) is in the quarantine. Each hour the oldest of it is sent once more, and when it is taken the
   rest follows, oldest first; only then newer samples of these series are sent. A restart changes nothing in that.
4. A held destination is probed slowly; and within LOOK_EVERY seconds when a file of its credentials or certificates
   has changed. What else ends a wait is in `early`.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.config import DestinationConfig
from agent.destinations.base import Verdict
from agent.send import pace
from agent.send.account import Account
from agent.send.course import Course
from agent.send.delivery import Clocks, Delivery, Step
from agent.send.early import Early
from agent.send.log import LaneLog
from agent.send.order import Order, Work
from agent.send.outages import cause
from agent.send.pace import Pace
from agent.send.returning import Returning, Tried
from agent.send.state import State, kept, recalled, rested
from agent.send.stats import SendStats
from agent.system.pulse import Pulse
from buffer.hints import Progress

LONGEST_WAIT = 3600.0
UNREADABLE_PAUSE = 1.0
LOOK_EVERY = 2.0
"""Seconds between two looks at the files of a held destination: that costs a few calls of stat(2)."""
APART_EVERY = 3600.0
"""Seconds between two tries of what waits apart."""
LOOKUP = 60.0
"""Seconds that looking up names may take: the system's own limits are below that."""


class Pause(NamedTuple):
    """How long to wait before the next step; less where `position` is set and something is appended behind it."""

    seconds: float = 0.0
    position: int | None = None


NOW = Pause()


class Sender:
    """Sends what a cursor has. Used from one thread; `state` and `error` may be read from any."""

    def __init__(
        self,
        to: DestinationConfig,
        course: Course,
        delivery: Delivery,
        account: Account,
        log: LaneLog,
        order: Order,
        pulse: Pulse,
        clocks: Clocks,
        early: Early,
    ) -> None:
        self.state, self.error = State.IDLE, delivery.now.error
        self.deadline = to.queue_config.batch_send_deadline
        self.due = clocks.monotonic()
        """When a chunk that is not full may go out."""
        self.is_stopping = False
        """Whether a request without an answer was cut by us, perhaps: no reason to raise an alarm."""
        self._to, self._course, self._delivery, self._account = to, course, delivery, account
        self._log, self._order, self._pulse, self._clocks, self._early = log, order, pulse, clocks, early
        self._returning = Returning(account, delivery)
        self._pace, self._away = Pace(), True  # nothing got through lately, or yet
        self._retry_at = clocks.monotonic() + APART_EVERY
        delivery.now = recalled(delivery.now, course.cursor.size)
        self._returning.recall()

    def step(self) -> Pause:
        """Do what is due, and return how long to wait before the next step."""
        delivery = self._delivery
        delivery.forget_before(self._course.position)
        at_hand = delivery.has_chunk
        delivery.now = self._early.hurried(delivery.now)
        if delivery.now.state is State.HELD:
            left = delivery.wait()
            return Pause(min(left, LOOK_EVERY, self._early.every)) if left else self._probe(at_hand=at_hand)
        if delivery.now.state is State.WAITING:
            left = max(delivery.wait(), self._pace.wait(self._clocks.monotonic(), full=False))
            return Pause(min(left, self._early.every)) if left else self._send(Work.IN_ORDER)
        may_retry = not self._course.only and self._clocks.monotonic() >= self._retry_at
        if not at_hand and delivery.apart and may_retry:
            return self._retry()
        if not at_hand and self._order.is_unknown(
            self._course.pending(), delivery.now.enough, away=self._away
        ):
            return self._ask_order()
        work = (
            Work.IN_ORDER
            if at_hand
            else self._order.work(self._course, delivery.now.enough, due=self._clocks.monotonic() >= self.due)
        )
        if work is Work.NOTHING:
            delivery.now = rested(delivery.now)
            self.note(State.IDLE)
            return self._rest(LONGEST_WAIT)
        if (left := self._pause(work, at_hand=at_hand)) > 0:
            return self._rest(left) if work is Work.BACKLOG else Pause(left)
        return self._send(work)

    def last_try(self, within: float) -> None:
        """Send what is pending once more, in so many seconds, if there is no trouble."""
        if within > 0 and self._delivery.now.state is State.IDLE and self._course.pending():
            ahead = self._course.ahead is not None and self._course.pending_ahead() > 0
            until = self._clocks.monotonic() + within
            self._send(Work.FRESH if ahead else Work.IN_ORDER, within)
            self.finish(until - self._clocks.monotonic())

    def finish(self, within: float) -> None:
        """Send the rest of a chunk that was begun, in so many seconds, so that nothing of it is sent again."""
        delivery, clock = self._delivery, self._clocks.monotonic
        until = clock() + within
        while delivery.is_begun and delivery.now.state is State.IDLE and (left := until - clock()) > 0:
            self._attempt(left)

    def failed(self, error: str) -> None:
        """Log a defect, or what cannot be read, and show it as the error."""
        self._log.failed(error)
        self._delivery.now = self._delivery.now._replace(error=error)
        self.note(self.state)

    def note(self, state: State) -> None:
        """Show a state, with the last error."""
        self.state, self.error = state, self._delivery.now.error
        size = kept(self._delivery.now, self._to.queue_config.max_samples_per_send)
        self._account.note(state, self.error, size, progress(self._delivery, self._clocks))

    def _pause(self, work: Work, *, at_hand: bool) -> float:
        """Return how long to wait before this. Fresh samples wait only if they fill more than one request."""
        limit = self._delivery.now.enough
        if work is Work.FRESH and self._course.pending_ahead() <= limit:
            return 0.0
        full = work is not Work.IN_ORDER or at_hand or self._course.pending() >= limit
        return self._pace.wait(self._clocks.monotonic(), full=full)

    def _rest(self, longest: float) -> Pause:
        """Wait until there is something new to be sent."""
        left = self.due - self._clocks.monotonic()
        # Before it is due only a full chunk is of interest, afterwards any sample.
        wanted = self._delivery.now.enough if left > 0 else 1
        position = self._course.position if self._course.ahead is None else self._course.ahead
        return Pause(min(left, longest) if left > 0 else longest, position + wanted - 1)

    def _probe(self, *, at_hand: bool) -> Pause:
        """Probe a held destination, with a chunk at hand if there is any: its samples are the second form of a probe."""
        if not at_hand and self._course.pending():
            self._load(Work.IN_ORDER)
        return self._attempt()

    def _send(self, work: Work, within: float | None = None) -> Pause:
        """Send the chunk at hand, or the next one."""
        if self._delivery.is_outdated() and (pause := self._load(work)) is not None:
            return pause
        self.note(State.SENDING)
        return self._attempt(within)

    def _load(self, work: Work) -> Pause | None:
        """Read the next chunk; a pause where nothing of it is to be sent."""
        if work is not Work.BACKLOG:
            self.due = self._clocks.monotonic() + self.deadline
        read = self._course.read_ahead if work is Work.FRESH else self._course.read
        chunk = read(self._delivery.limit)
        if chunk.end == chunk.start:  # pending, but damaged and not readable before the next key frame
            return Pause(UNREADABLE_PAUSE)
        settled = self._delivery.offer(chunk)
        if settled is None:
            return None
        self._account.settle(settled)
        return NOW

    def _attempt(self, within: float | None = None) -> Pause:
        self._is_asking()
        step = self._delivery.attempt(within)
        if (
            self.is_stopping
            and step.outcome.verdict in (Verdict.RETRY, Verdict.TOO_LARGE)
            and not step.outcome.status
        ):
            self._delivery.now = step.before._replace(state=State.WAITING)
            return NOW
        self._charge(step)
        self._log.step(step, self._clocks.monotonic())
        if step.settled is not None:
            self._delivery.stats.outages.delivered(self._course.pending())
            self._account.settle(step.settled)
        is_done = step.after.state is not State.IDLE or not self._delivery.is_in_doubt
        self.note(step.after.state if is_done else State.SENDING)
        return NOW

    def _is_asking(self) -> None:
        """Say that a request begins, and how long it can take."""
        self._pulse.back_in(2 * self._to.remote_timeout + LOOKUP)

    def _charge(self, step: Step) -> None:
        """Draw the consequences of a request for those that follow."""
        now, verdict, most = self._clocks.monotonic(), step.outcome.verdict, self._to.max_bandwidth
        self._pace = pace.sent(self._pace, step.began, step.cost, most, self._clocks.random())
        self._log.found(step.outcome)
        self._early.take(step.after, step.outcome, self._delivery.rules)
        if step.after.state is not State.IDLE:
            self._away = True
            _count(self._delivery.stats, step, now)
        elif step.before.state is State.HELD or verdict is Verdict.REWRITE:
            self.due = now
        elif verdict is Verdict.DELIVERED and self._log.is_troubled:
            self.due = now  # what came in meanwhile does not wait for its turn
        if verdict is Verdict.DELIVERED and step.oldest_ms is not None and self._away:
            self._away = False
            outage, longest = self._clocks.wall() - step.oldest_ms / 1000, self._delivery.rules.first_pause
            self._pace = pace.resumed(self._pace, outage, now, self._clocks.random(), longest)

    def _retry(self) -> Pause:
        """Send the oldest of what waits apart once more, and the next at once where it is taken."""
        self._is_asking()
        if self._returning.attempt() is Tried.REFUSED:
            self._retry_at = self._clocks.monotonic() + APART_EVERY
        return NOW

    def _ask_order(self) -> Pause:
        """Find out whether the receiver takes samples as old as the backlog behind newer ones."""
        step = None
        for ticks in self._order.probes(self._course.read(1), int(self._clocks.wall() * 1000)):
            self._is_asking()
            request = self._delivery.speaks().encode(ticks, True).request
            if not request.samples:  # relabeling may leave nothing
                step = None
                break
            step = self._delivery.trial(request)
            self._charge(step)
            if step.outcome.verdict is not Verdict.DELIVERED:
                break
        if step is None or step.outcome.settles:
            self._order.learn(step and step.outcome)
            self._log.order(step and step.outcome)
        else:
            self._log.step(step, self._clocks.monotonic())
            self.note(step.after.state)
        return NOW


def _count(stats: SendStats, step: Step, now: float) -> None:
    """Count a step after which nothing is delivered for a while."""
    stats.outages.failed(cause(step.outcome, stats.kind), now - step.began)


def progress(delivery: Delivery, clocks: Clocks) -> Progress:
    """Return how the destination is getting on, without its last delivery."""
    now, next_ms = delivery.now, None
    if now.state in (State.WAITING, State.HELD):
        next_ms = max(0, round((clocks.wall() + now.not_before - clocks.monotonic()) * 1000))
    tries = now.probes if now.state is State.HELD else now.failures
    skew = delivery.stats.clock_skew
    skew = None if skew is None else round(skew, 1)
    return Progress(None, tries, next_ms, skew, *delivery.stats.outages.at_hand)
