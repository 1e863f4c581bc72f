"""One destination's lane: a thread that takes batches from a cursor and sends them, one at a time.

Promises:
1. The cursor moves only when a batch is settled; until then the very same request is repeated. One is in
   flight at a time, so the samples of a series arrive in order.
2. A batch is sent when it is full, or when `batch_send_deadline` has passed since the last one began. So the
   first goes out at once, a steady flow in a few well-merged requests, and a backlog one after another.
3. `stop` returns within its time, whatever the receiver does, and nothing touches the cursor after it.
4. Nothing that happens here ends the thread before. A cursor that cannot be written (a full disk) delays
   nothing; what cannot be read, or a defect, is logged, shown as the error, and tried again after a pause.
5. A lane waits for nothing but its own receiver: lanes share the buffer and nothing else.
6. Of a batch that a receiver refuses for good, the culprits are found and the rest is delivered (`bisect`). They
   are in the quarantine before the cursor moves past the batch. A kill before that sends the batch again, and puts
   the same there again. Where it cannot be kept (a full disk) that is logged, and no obstacle.

What becomes of a batch is decided in `outcome`, what a lane does next in `state`; here are the doing and the
telling. Events are in `events`; no secret and no URL is among their fields.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from random import random as some
from typing import NamedTuple, Protocol

import snappy

from agent.config import QueueConfig, RemoteWrite
from agent.sender.age import advice
from agent.sender.client import Client
from agent.sender.encode import Encoder
from agent.sender.events import Event, Logger
from agent.sender.outcome import Outcome, Verdict
from agent.sender.poison import AGED, Culprits, Poison
from agent.sender.state import Rules, Situation, State, after_batch, after_probe, settles
from buffer.cursor import Chunk
from buffer.model import Tick
from buffer.quarantine import Item

EMPTY = b"\x00"
"""A write request without series, compressed: what a held destination is probed with."""

LONGEST_WAIT = 3600.0
FAILED_PAUSE = 10.0
LOOK_EVERY = 2.0
"""Seconds between two looks at the files of a held destination: that costs a few calls of stat(2)."""
UNREADABLE_PAUSE = 1.0
STOP_MARGIN = 0.25
"""Seconds of a stop that are kept for a request that has to be cut."""


class Cursor(Protocol):
    """What a lane needs of `buffer.cursor.Cursor`."""

    @property
    def position(self) -> int:
        """In samples: everything before it is settled."""

    def read(self, max_samples: int) -> Chunk:
        """Return whole records from the position on, one at least; an empty chunk where nothing is new."""

    def pending(self) -> int:
        """Return the number of samples behind the position."""

    def commit(self, end: int, delivered: int, dropped: Mapping[str, int]) -> None:
        """Settle everything up to `end`. It has moved also when it raises OSError."""

    def note(self, state: str, error: str | None) -> None:
        """Keep the state and the last error."""


class Buffer(Protocol):
    """What a lane needs of `buffer.buffer.Buffer`."""

    def wait(self, position: int, timeout: float) -> None:
        """Return when something was appended behind `position`, after `timeout`, or on `wake`."""

    def wake(self) -> None:
        """Make every `wait` return."""


class Quarantine(Protocol):
    """What a lane needs of `buffer.quarantine.Quarantine`."""

    def put(
        self,
        destination: str,
        position: int,
        ticks: Sequence[Tick],
        reason: str,
        status: int,
        message: str,
        now_ms: int,
    ) -> Sequence[Item]:
        """Keep these ticks and return what had to go for them. Raises OSError; ValueError: they do not fit."""


class Wire(Protocol):
    """What a lane needs of `agent.sender.client.Client`."""

    def post(self, body: bytes, attempt: int = 0, within: float | None = None) -> Outcome:
        """Send a body, and never raise."""

    def changed(self) -> bool:
        """Whether what the last request was made with, a password's file say, is another by now."""

    def interrupt(self) -> None:
        """End the request under way, for good."""

    def close(self) -> None:
        """Close the connection."""


class Batch(NamedTuple):
    """Samples on their way: the compressed request, and what the cursor is told when they are settled."""

    body: bytes
    asked: int
    """Samples in the request: all, or with `poison` those that are asked about."""
    ticks: Sequence[Tick]
    position: int
    end: int
    samples: int
    repeated: int
    poison: Poison | None = None
    """The search for the culprits, after the batch was refused."""


class LaneStats:
    """Counters for the health series. Written by the lane, read by anybody."""

    def __init__(self) -> None:
        self.requests = 0
        """Requests sent, probes among them."""
        self.retries = 0
        self.samples_sent = 0
        """Samples in requests that were answered 2xx."""
        self.samples_repeated = 0
        """Samples of settled batches that were left out, since they repeat an instant."""
        self.bytes_sent = 0
        """Bytes of request bodies, as they go over the wire."""
        self.last_send_seconds = 0.0
        self.send_seconds_total = 0.0
        self.last_status = 0
        """HTTP status of the last answer; 0: there was none."""
        self.consecutive_failures = 0
        self.last_success = 0.0
        """Unix time in seconds; 0: not since the start."""


class Lane:
    """Sends to one destination from `start` to `stop`."""

    def __init__(
        self,
        name: str,
        queue: QueueConfig,
        cursor: Cursor,
        buffer: Buffer,
        quarantine: Quarantine,
        wire: Wire,
        log: Logger,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = some,
        rules: Rules | None = None,
    ) -> None:
        self.name = name
        self.stats = LaneStats()
        self._queue, self._cursor, self._buffer, self._wire, self._log = queue, cursor, buffer, wire, log
        self._quarantine = quarantine
        self._clock, self._random = clock, random
        self._rules = rules or Rules(queue.min_backoff, queue.max_backoff)
        self._now = Situation(queue.max_samples_per_send)
        self._batch: Batch | None = None
        self._suspects: frozenset[bytes] = frozenset()  # the culprits of the last batch that had any
        self._aged = False  # whether it was told that the receiver refuses what is old
        self._due = 0.0  # when a batch that is not full may go out
        self._troubled: float | None = None  # since when nothing gets through
        self._disk_error = ""
        self._repeats = False  # whether it was told that there are any
        self._encoder = Encoder()
        self._stopping, self._stop_at = threading.Event(), 0.0
        self._hands_on, self._left = threading.Lock(), False  # nobody touches the cursor once it is left
        self._thread = threading.Thread(target=self._run, name=f"lane-{name}", daemon=True)

    @property
    def state(self) -> State:
        """What the lane is doing."""
        return self._now.state

    @property
    def error(self) -> str | None:
        """What is or was wrong last; None after a delivery."""
        return self._now.error

    def start(self) -> None:
        """Begin."""
        self._due = self._clock()
        self._thread.start()

    def ask_to_stop(self, within: float) -> None:
        """Begin to stop, without waiting for it."""
        self._stop_at = self._clock() + within
        self._stopping.set()
        self._buffer.wake()

    def stop(self, within: float) -> None:
        """Stop: a last try of what is pending, if there is no trouble, and at most `within` seconds."""
        if not self._stopping.is_set():
            self.ask_to_stop(within)
        self._join(self._stop_at - STOP_MARGIN)
        if self._thread.is_alive():
            self._wire.interrupt()
            self._join(self._stop_at)
        with self._hands_on:
            self._left = True

    def _join(self, until: float) -> None:
        while self._thread.is_alive() and (left := until - self._clock()) > 0:
            self._buffer.wake()  # again: a lane may be just about to wait
            self._thread.join(min(left, 0.05))

    # The thread.

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._guarded(self._step)
        if self._now.state in (State.IDLE, State.SENDING):
            self._guarded(self._last_try)
        self._enter(self._now._replace(state=State.STOPPED))
        self._wire.close()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            self._log.error(Event.FAILED, destination=self.name, error=f"{type(error).__name__}: {error}")
            self._enter(self._now._replace(error=f"{type(error).__name__}: {error}"))
            self._stopping.wait(FAILED_PAUSE)

    def _step(self) -> None:
        """Wait until something is to be done, and do it."""
        state = self._now.state
        if state in (State.HELD, State.WAITING):
            if self._waited(state):
                if state is State.HELD:
                    self._probe()
                else:
                    self._send()
        elif self._batch is not None or self._is_due():
            self._send()
        else:
            self._enter(self._now._replace(state=State.IDLE))
            pause = self._due - self._clock()
            # Before it is due only a full batch is of interest, afterwards any sample.
            wanted = self._now.limit if pause > 0 else 1
            self._buffer.wait(self._cursor.position + wanted - 1, pause if pause > 0 else LONGEST_WAIT)

    def _waited(self, state: State) -> bool:
        """Wait until the next request may go out, or files of a held destination change; False: it stops."""
        while (left := self._now.not_before - self._clock()) > 0:
            if self._stopping.wait(left if state is not State.HELD else min(left, LOOK_EVERY)):
                return False
            if state is State.HELD and self._wire.changed():
                break
        return not self._stopping.is_set()

    def _is_due(self) -> bool:
        pending = self._cursor.pending()
        return pending >= self._now.limit or (pending > 0 and self._clock() >= self._due)

    def _last_try(self) -> None:
        within = self._stop_at - STOP_MARGIN - self._clock()
        if within > 0 and self._cursor.pending():
            self._send(within)

    def _send(self, within: float | None = None) -> None:
        """Send the batch at hand, or the next one."""
        began = self._clock()
        if self._batch is not None and self._batch.end <= self._cursor.position:
            self._batch = None  # evicted while it waited
        if self._batch is None:
            self._due = began + self._queue.batch_send_deadline
            self._batch = self._next_batch()
            if self._batch is None:
                return
        batch = self._batch
        self._enter(self._now._replace(state=State.SENDING))
        outcome = self._post(batch.body, self._now.failures, within)
        if self._stopping.is_set() and outcome.verdict is Verdict.RETRY and not outcome.status:
            # Cut by us, perhaps: no reason to raise an alarm, nor to try once more.
            self._now = self._now._replace(state=State.WAITING)
            return
        was = self._now
        self._now = after_batch(
            was, batch.samples + batch.repeated, outcome, self._clock(), self._rules, self._random()
        )
        if settles(outcome) or outcome.verdict is Verdict.TOO_LARGE:
            self._batch = None  # a defect below costs no more than to send it again, as a whole
        self._tell(was, batch, outcome)
        if settles(outcome):
            self._batch = self._answered(batch, outcome)
        self._enter(self._now)

    def _next_batch(self) -> Batch | None:
        chunk, position = self._cursor.read(self._now.limit), self._cursor.position
        encoded = self._encoder.encode(chunk.ticks)
        if encoded.samples:
            body = bytes(snappy.compress(encoded.body))
            samples = encoded.samples
            return Batch(body, samples, chunk.ticks, position, chunk.end, samples, encoded.repeated)
        if chunk.end > position:  # records without samples: nothing to send, all settled
            self._commit(chunk.end, 0, {})
        else:  # pending, but damaged and not to be had before the next key frame
            self._stopping.wait(UNREADABLE_PAUSE)
        return None

    def _post(self, body: bytes, attempt: int, within: float | None) -> Outcome:
        began = self._clock()
        outcome = self._wire.post(body, attempt, within)
        stats = self.stats
        stats.last_send_seconds = self._clock() - began
        stats.send_seconds_total += stats.last_send_seconds
        stats.requests += 1
        stats.retries += attempt > 0
        stats.bytes_sent += len(body)
        stats.last_status = outcome.status
        if outcome.verdict is Verdict.DELIVERED:
            stats.consecutive_failures = 0
            stats.last_success = time.time()
        else:
            stats.consecutive_failures += 1
        return outcome

    def _answered(self, batch: Batch, outcome: Outcome) -> Batch | None:
        """Settle a batch that was delivered or refused; or return what of it is to be asked next."""
        if outcome.verdict is Verdict.DELIVERED:
            self.stats.samples_sent += batch.asked
        poison = batch.poison
        if poison is not None:
            poison.tell(outcome)
        elif outcome.verdict is Verdict.REJECTED:
            poison = Poison(batch.ticks, self._encoder.labels, outcome, self._suspects)
        if poison is not None and (ticks := poison.ask()):
            encoded = self._encoder.encode(ticks)
            body = bytes(snappy.compress(encoded.body))
            return batch._replace(body=body, asked=encoded.samples, poison=poison)
        self._settle(batch, poison)
        return None

    def _settle(self, batch: Batch, poison: Poison | None) -> None:
        dropped = {"rejected": batch.repeated} if batch.repeated else {}
        found = poison.culprits() if poison is not None else []
        for offset, culprits in enumerate(found):
            # Each at a position of its own within the batch, the same one when all this is repeated.
            self._keep(batch.position + offset, culprits)
            dropped[culprits.reason] = dropped.get(culprits.reason, 0) + culprits.samples
        if poison is not None:
            self._suspects = poison.suspects()
        if found:
            self._now = self._now._replace(error=found[-1].outcome.error)
        self._aged = any(culprits.reason == AGED for culprits in found)
        if batch.repeated:
            say = self._log.debug if self._repeats else self._log.warning
            say(Event.REPEATED, destination=self.name, samples=batch.repeated)
            self._repeats = True
        self.stats.samples_repeated += batch.repeated
        self._commit(batch.end, poison.delivered if poison is not None else batch.samples, dropped)

    def _keep(self, position: int, culprits: Culprits) -> None:
        """Tell of what was refused, and put it into the quarantine."""
        reason, outcome, samples, ticks = culprits
        words, now_ms = outcome.error or "", int(time.time() * 1000)
        if reason == AGED:
            say = self._log.debug if self._aged else self._log.error
            say(Event.AGED, destination=self.name, samples=samples, error=words, do=advice(words))
            self._aged = True
        else:
            self._log.error(Event.REJECTED, destination=self.name, samples=samples, error=words)
        with self._hands_on:
            if self._left:
                return
            try:
                gone = self._quarantine.put(self.name, position, ticks, reason, outcome.status, words, now_ms)
            except (OSError, ValueError) as error:
                self._log.error(
                    Event.QUARANTINE_FAILED, destination=self.name, samples=samples, error=str(error)
                )
                return
        self._log.info(Event.QUARANTINED, destination=self.name, samples=samples, error=words)
        for item in gone:
            self._log.warning(
                Event.QUARANTINE_FULL, destination=item.destination, item=item.id, samples=item.samples
            )

    def _commit(self, end: int, delivered: int, dropped: Mapping[str, int]) -> None:
        self._touch(lambda: self._cursor.commit(end, delivered, dropped))

    def _touch(self, change: Callable[[], None]) -> None:
        """Change the cursor, unless it was left. That it could not be written is told, and no obstacle."""
        with self._hands_on:
            if self._left:
                return
            try:
                change()
                told = ""
            except OSError as error:
                told = str(error)
        if told and told != self._disk_error:
            self._log.error(Event.FAILED, destination=self.name, error=told)
        self._disk_error = told

    def _probe(self) -> None:
        outcome = self._post(EMPTY, 0, None)
        was = self._now
        self._now = after_probe(was, outcome, self._clock(), self._rules, self._random())
        if self._now.state is State.HELD:
            self._tell_trouble(Event.HELD, outcome, loud=outcome.error != was.error)
        else:
            self._due = self._clock()
        self._enter(self._now)

    # Telling.

    def _enter(self, now: Situation) -> None:
        self._now = now
        self._touch(lambda: self._cursor.note(now.state, now.error))

    def _tell(self, was: Situation, batch: Batch, outcome: Outcome) -> None:
        verdict, samples = outcome.verdict, batch.asked
        if verdict is Verdict.DELIVERED:
            self._log.debug(Event.DELIVERED, destination=self.name, samples=samples, bytes=len(batch.body))
            if self._troubled is not None:
                lasted = round(self._clock() - self._troubled, 1)
                self._log.info(Event.RESUMED, destination=self.name, seconds=lasted)
                self._troubled = None
                self._due = self._clock()  # what came in meanwhile does not wait for its turn
        elif verdict is Verdict.REJECTED:
            self._log.debug(Event.REFUSED, destination=self.name, samples=samples, error=outcome.error)
        elif self._now.state is State.WAITING:
            failures = self._now.failures
            self._tell_trouble(Event.RETRY, outcome, loud=failures == 1, attempt=failures)
        elif self._now.state is State.HELD:
            self._tell_trouble(Event.HELD, outcome, loud=outcome.error != was.error)
        else:
            limit = self._now.limit
            self._log.info(Event.BATCH_HALVED, destination=self.name, limit=limit, error=outcome.error)

    def _tell_trouble(self, event: Event, outcome: Outcome, *, loud: bool, **fields: int) -> None:
        """Tell aloud when it begins or turns into something else, quietly while it lasts."""
        say = self._log.warning if loud else self._log.debug
        wait = round(self._now.not_before - self._clock(), 1)
        say(event, destination=self.name, error=outcome.error, next_try_seconds=wait, **fields)
        if self._troubled is None:
            self._troubled = self._clock()


def open_lane(
    to: RemoteWrite, cursor: Cursor, buffer: Buffer, quarantine: Quarantine, version: str, log: Logger
) -> Lane:
    """A lane to a configured destination, not started yet."""
    return Lane(to.name, to.queue_config, cursor, buffer, quarantine, Client(to, version), log)


def stop_all(lanes: Sequence[Lane], within: float) -> None:
    """Stop all lanes at the same time, in `within` seconds together."""
    for lane in lanes:
        lane.ask_to_stop(within)
    for lane in lanes:
        lane.stop(within)
