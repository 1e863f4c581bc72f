"""A replay: a loop around a `Delivery`, through a history instead of the buffer's end.

So everything is as with the agent: requests, retries, backoff, `Retry-After`, held destinations, halved requests.
What differs: there is an end, giving up, and a person who watches. Ctrl-C lets the request under way end within
LAST_TRY seconds and settles it, so that nothing of it is sent again; a second Ctrl-C cuts it. What is refused for good is counted and shown in
the receiver's words; it is not put into the quarantine, since it is still where it came from.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from agent.collectors import COLLECTORS
from agent.config import HttpDestination
from agent.destinations import types
from agent.destinations.base import REJECTED, Speaks, Verdict
from agent.http.answer import Answer
from agent.ops.replay.cursor import ReplayCursor, Tally
from agent.ops.replay.selection import Selection
from agent.ops.replay.source import History
from agent.send import pace
from agent.send.asking import Wire
from agent.send.batch import Settled
from agent.send.culprits import Culprits
from agent.send.delivery import Delivery, Step
from agent.send.known import Known
from agent.send.pace import Pace
from agent.send.state import USUAL, Rules, State
from agent.send.stats import SendStats
from buffer.model import Chunk

POLL = 0.1
LAST_TRY = 2.0
"""Seconds that a request may take after Ctrl-C, and longer than the patience with its destination."""
LONGEST_BACKOFF = 30.0
PROBES = 1.0, 30.0
"""Somebody is waiting, and only for some minutes: tries are not as far apart as the agent's."""
MOST_REFUSALS = 20


class Ended(StrEnum):
    """How a replay ended."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    GAVE_UP = "gave up"
    FAILED = "failed"
    """The history could not be read to its end."""


class RefusedSamples(NamedTuple):
    """What a receiver refused with the same words; times are UTC ms."""

    status: int
    message: str
    batches: int
    samples: int
    oldest_timestamp_ms: int
    newest_timestamp_ms: int


class Replayed(NamedTuple):
    """What became of a replay. `error` is what stood in its way last, None where nothing did."""

    ended: Ended
    tally: Tally
    refusals: list[RefusedSamples]
    error: str | None


class Watcher(NamedTuple):
    """A person's view: `progress` is called some times a second, `say` when something happens."""

    progress: Callable[[Tally, str], None]
    say: Callable[[str], None]


def replay(
    history: History,
    selection: Selection,
    to: HttpDestination,
    wire: Wire | None,
    watcher: Watcher,
    *,
    start: Tally | None = None,
    save: Callable[[Tally], None] = lambda _tally: None,
    give_up_after: float = 300.0,
    rules: Rules | None = None,
    known: Known | None = None,
) -> Replayed:
    """Send what is selected of a history to a destination, until its end, Ctrl-C, or `give_up_after` seconds
    in which nothing got through. Without a wire everything is done but the sending, as if all were delivered.
    `save` is given the tally about once a second and at the end; it raises nothing. `known` is what earlier replays
    to this destination have found of its refusals.
    """
    # What is replayed is old, and comes in its order; no probe for the order is sent.
    queue = msgspec.structs.replace(to.queue_config, sample_age_limit=0.0)
    most = min(queue.max_backoff, LONGEST_BACKOFF)
    rules = rules or Rules(min(queue.min_backoff, most), most, *PROBES)
    stats, speaks = SendStats(), types.speaks(to, frozenset(COLLECTORS))
    delivery = Delivery(speaks, wire, queue, rules, stats) if wire is not None else None
    if delivery is not None and known is not None:
        delivery.known = known
    cursor = ReplayCursor(history, selection, start or Tally(), save, stats)
    console = _Console(watcher.say)
    error = None
    cursor.save()
    try:
        if delivery is None or wire is None:
            _suppose(cursor, speaks, min(queue.max_samples_per_send, USUAL), stats, watcher)
        else:
            with _interruptible(wire) as interrupted:
                _Loop(cursor, delivery, to.max_bandwidth, watcher, console, give_up_after, interrupted).run()
        ended = Ended.COMPLETE
    except KeyboardInterrupt:
        ended = Ended.INTERRUPTED
    except _NothingGetsThroughError:
        ended = Ended.GAVE_UP
    except Exception as defect:
        ended, error = Ended.FAILED, f"{type(defect).__name__}: {defect}"
    finally:
        if wire is not None:
            wire.close()
        cursor.save()
    if ended is not Ended.INTERRUPTED and cursor.problem is not None:
        ended, error = Ended.FAILED, str(cursor.problem)
    watcher.progress(cursor.tally, "")
    if error is None and delivery is not None and ended is not Ended.COMPLETE:
        error = delivery.now.error
    return Replayed(ended, cursor.tally, list(console.refused.values()), error)


class _NothingGetsThroughError(Exception):
    pass


@contextmanager
def _interruptible(wire: Wire) -> Iterator[threading.Event]:
    """Set the event at the first Ctrl-C, and interrupt the wire LAST_TRY seconds later; the second one is raised."""
    interrupted = threading.Event()
    cut = threading.Timer(LAST_TRY, wire.interrupt)
    cut.daemon = True

    def handle(_number: int, _frame: Any) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        cut.start()

    before = signal.getsignal(signal.SIGINT)
    is_ours = before is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    if is_ours:
        signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        cut.cancel()
        if is_ours:
            signal.signal(signal.SIGINT, before)


class _Loop:
    """Reads, sends and settles, one chunk after another."""

    def __init__(
        self,
        cursor: ReplayCursor,
        delivery: Delivery,
        bandwidth: int | None,
        watcher: Watcher,
        console: _Console,
        give_up_after: float,
        interrupted: threading.Event,
    ) -> None:
        self._cursor, self._delivery, self._bandwidth = cursor, delivery, bandwidth
        self._watcher, self._console, self._give_up_after = watcher, console, give_up_after
        self._interrupted = interrupted
        self._pace, self._shown_at = Pace(), 0.0
        self._stuck_at, self._stuck_since = -1, 0.0  # the position that trouble was met at, and when

    def run(self) -> None:
        """Return at the end of the history. Raises _NothingGetsThroughError, and KeyboardInterrupt after Ctrl-C."""
        while (chunk := self._cursor.read(self._delivery.limit)) is not None:
            settled = self._delivery.offer(chunk)
            while settled is None:
                self._wait()
                if self._delivery.is_outdated():
                    break
                step = self._delivery.attempt(self._within())
                settled = step.settled
                self._pace = pace.sent(self._pace, step.began, step.cost, self._bandwidth, 0.5)
                self._console.step(step)
                if settled is None and not self._delivery.has_chunk:
                    break
            if settled is not None:
                self._console.settled(settled)
                self._cursor.settle(settled)
            self._show()

    def _wait(self) -> None:
        """Wait until the next request may go out. Raises as `run` does."""
        self._stop_where_asked()
        while (left := max(self._delivery.wait(), self._pace.wait(time.monotonic(), full=True))) > 0:
            self._show()
            if self._left() <= 0:
                raise _NothingGetsThroughError
            self._interrupted.wait(min(left, POLL))
            self._stop_where_asked()
        self._show()

    def _stop_where_asked(self) -> None:
        if self._interrupted.is_set():
            raise KeyboardInterrupt

    def _left(self) -> float:
        """Return for how many more seconds a destination in trouble is waited for."""
        position, now = self._cursor.position, time.monotonic()
        if self._delivery.now.state is State.IDLE and self._stuck_at != position:
            return self._give_up_after
        if self._stuck_at != position:
            self._stuck_at, self._stuck_since = position, now
        return self._stuck_since + self._give_up_after - now

    def _within(self) -> float | None:
        left = self._left()
        return None if left >= self._give_up_after else max(0.0, left) + LAST_TRY

    def _show(self) -> None:
        if time.monotonic() - self._shown_at >= POLL:
            self._shown_at, now = time.monotonic(), self._delivery.now
            is_idle = now.state is State.IDLE
            self._watcher.progress(self._cursor.tally, "" if is_idle else f"{now.state.value}: {now.error}")


def _suppose(cursor: ReplayCursor, speaks: Speaks, limit: int, stats: SendStats, watcher: Watcher) -> None:
    """Do everything but the sending."""
    taken = Answer(204, {}, b"")
    while (chunk := cursor.read(limit)) is not None:
        cursor.settle(_supposed(chunk, speaks, stats, taken))
        watcher.progress(cursor.tally, "")


def _supposed(chunk: Chunk, speaks: Speaks, stats: SendStats, taken: Answer) -> Settled:
    while True:
        request, dropped = speaks().encode(chunk.ticks, False)
        if speaks().classify(request, taken).verdict is not Verdict.REWRITE:
            stats.bytes_sent += len(request.body) if request.samples else 0
            return Settled(chunk, request.samples, dropped, dropped.get(REJECTED, 0))


class _Console:
    """Says what a person wants to hear, once, and counts what is refused by the receiver's words."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.refused: dict[str, RefusedSamples] = {}
        self._say, self._said = say, ""
        self._is_troubled = False

    def step(self, step: Step) -> None:
        """Say what came of a request, where that is something new."""
        before, after, verdict = step.before, step.after, step.outcome.verdict
        if after.state is not State.IDLE:
            if after.failures == 1 or (
                after.state is State.HELD and (after.error != before.error or not self._is_troubled)
            ):
                self._say_once(f"{after.state.value}: {after.error}")
            self._is_troubled = True
        elif before.asks:
            return
        elif verdict is Verdict.TOO_LARGE:
            self._say_once(f"smaller requests from now on: {step.outcome.error}")
        elif verdict is Verdict.DELIVERED and self._is_troubled:
            self._is_troubled = False
            self._say_once("sending again")

    def settled(self, settled: Settled) -> None:
        """Say what of a chunk was not delivered."""
        for culprits in settled.culprits:
            self._count(culprits)
        if settled.repeated:
            self._say_once("there are several values for one instant; the first of them is sent")

    def _count(self, culprits: Culprits) -> None:
        words, times = culprits.outcome.error or "", [tick.at.wall_ms for tick in culprits.ticks]
        if words not in self.refused and len(self.refused) >= MOST_REFUSALS:
            words = "other refusals"
        elif words not in self.refused:
            self._say_once(f"refused: {words}")
        was = self.refused.get(words)
        was = was or RefusedSamples(culprits.outcome.status, words, 0, 0, min(times), max(times))
        self.refused[words] = was._replace(
            batches=was.batches + 1,
            samples=was.samples + sum(len(tick.values) for tick in culprits.ticks),
            oldest_timestamp_ms=min(was.oldest_timestamp_ms, *times),
            newest_timestamp_ms=max(was.newest_timestamp_ms, *times),
        )

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)
