"""A replay: the agent's own lane, on its way through a source instead of the buffer's end.

So everything is as with the agent: batches, retries, backoff, `Retry-After`, held destinations, halved batches.
What differs: there is an end, giving up, and a person who watches. What is refused for good is counted and told in
the receiver's words; it is not put into the quarantine, since it is still where it came from.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from agent.collectors import COLLECTORS
from agent.config import RemoteWrite
from agent.destinations.remote_write.outcome import Outcome, Verdict
from agent.destinations.remote_write.protocol import Protocol
from agent.ops.replay.cursor import Ledger, ReplayCursor
from agent.ops.replay.selection import Selection
from agent.ops.replay.source import Source
from agent.send.lane import Lane
from agent.send.needs import Wire
from agent.send.state import Rules, State
from agent.system.events import Event
from buffer.model import Tick
from buffer.quarantine import Item

POLL = 0.1
LAST_TRY = 2.0
LONGEST_BACKOFF = 30.0
PROBES = 5.0, 30.0
"""Somebody is waiting, and only for some minutes: tries are not as far apart as the agent's."""
MOST_REFUSALS = 20


class Ended(StrEnum):
    """How a replay ended."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    GAVE_UP = "gave up"
    FAILED = "failed"
    """The source could not be read to its end."""


class Refusal(NamedTuple):
    """What a receiver refused with the same words; times are UTC ms."""

    status: int
    message: str
    batches: int
    samples: int
    oldest_timestamp_ms: int
    newest_timestamp_ms: int


class Report(NamedTuple):
    """What became of a replay. `error` is what stood in its way last, None where nothing did."""

    ended: Ended
    ledger: Ledger
    refusals: list[Refusal]
    error: str | None


class Watcher(NamedTuple):
    """Who watches: `progress` is called some times a second, `say` when something happens."""

    progress: Callable[[Ledger, str], None]
    say: Callable[[str], None]


class Nowhere:
    """A receiver for a dry run: every request would have been delivered."""

    def post(self, body: bytes, speaking: Protocol, attempt: int = 0, within: float | None = None) -> Outcome:
        """Take a request to be delivered."""
        return Outcome(Verdict.DELIVERED)

    def wire_bytes(self) -> int:
        """Nothing goes over a wire."""
        return 0

    def changed(self) -> bool:
        """There are no files."""
        return False

    def interrupt(self) -> None:
        """There is nothing to interrupt."""

    def close(self) -> None:
        """There is nothing to close."""


class _Bell:
    """What a lane takes for the buffer: nothing new ever comes, so a lane that waits has come to the end."""

    def __init__(self) -> None:
        self.at_end, self._woken = threading.Event(), threading.Event()

    def wait(self, position: int, timeout: float) -> None:
        self.at_end.set()
        self._woken.wait(timeout)

    def wake(self) -> None:
        self._woken.set()


class _Refusals:
    """What a lane takes for the quarantine: counts and words."""

    def __init__(self) -> None:
        self.found: dict[str, Refusal] = {}

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
        times = [tick.at.wall_ms for tick in ticks]
        samples = sum(len(tick.values) for tick in ticks)
        if message not in self.found and len(self.found) >= MOST_REFUSALS:
            message = "other refusals"
        was = self.found.get(message) or Refusal(status, message, 0, 0, min(times), max(times))
        self.found[message] = was._replace(
            batches=was.batches + 1,
            samples=was.samples + samples,
            oldest_timestamp_ms=min(was.oldest_timestamp_ms, *times),
            newest_timestamp_ms=max(was.newest_timestamp_ms, *times),
        )
        return ()


class _Log:
    """What a lane takes for its log: says what a person at a console wants to hear, once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._said, self._refused = say, "", set[str]()
        self.failed: str | None = None

    def debug(self, event: str, **fields: Any) -> None:
        """Nobody looks."""

    def info(self, event: str, **fields: Any) -> None:
        if event == Event.RESUMED:
            self._tell("sending again")
        elif event == Event.BATCH_HALVED:
            self._tell(f"smaller requests from now on: {fields['error']}")

    def warning(self, event: str, **fields: Any) -> None:
        if event == Event.REPEATED:
            self._tell("there are several values for one instant; the first of them is sent")
        else:
            self._tell(f"{'held' if event == Event.HELD else 'waiting'}: {fields['error']}")

    def error(self, event: str, **fields: Any) -> None:
        if event in (Event.REJECTED, Event.AGED):
            words = str(fields["error"])
            if words not in self._refused and len(self._refused) < MOST_REFUSALS:
                self._refused.add(words)
                self._tell(f"refused: {words}")
        else:
            self.failed = str(fields["error"])

    def _tell(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)


def replay(
    source: Source,
    selection: Selection,
    to: RemoteWrite,
    wire: Wire,
    watcher: Watcher,
    *,
    start: Ledger | None = None,
    save: Callable[[Ledger], None] = lambda _ledger: None,
    give_up_after: float = 300.0,
    rules: Rules | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Send what is selected of a source to a destination, until its end, Ctrl-C, or `give_up_after` seconds
    in which nothing got through. `save` is given the ledger about once a second and at the end; it raises nothing.
    """
    bell, refusals, log = _Bell(), _Refusals(), _Log(watcher.say)
    cursor = ReplayCursor(source, selection, start or Ledger(), save, clock)
    # What is replayed is old, and comes in its order; the receiver is asked for nothing else.
    queue = msgspec.structs.replace(to.queue_config, batch_send_deadline=0.0, sample_age_limit=0.0)
    to = msgspec.structs.replace(to, queue_config=queue, drain_order="oldest_first")
    most = min(queue.max_backoff, LONGEST_BACKOFF)
    rules = rules or Rules(min(queue.min_backoff, most), most, *PROBES, first_pause=0.0)
    from_boot = frozenset(COLLECTORS)
    lane = Lane(to, cursor, bell, refusals, wire, log, from_boot=from_boot, clock=clock, rules=rules)
    cursor.stats = lane.stats
    cursor.save()
    lane.start()
    ended = Ended.GAVE_UP
    try:
        patience = _Patience(give_up_after, clock)
        while not patience.is_over(cursor.position, lane.state) and log.failed is None:
            if bell.at_end.wait(POLL):
                ended = Ended.COMPLETE
                break
            watcher.progress(cursor.ledger, _doing(lane))
    except KeyboardInterrupt:
        ended = Ended.INTERRUPTED
    finally:
        lane.stop(LAST_TRY)
        if ended is Ended.INTERRUPTED and bell.at_end.is_set():  # the last try was all that was left
            ended = Ended.COMPLETE
        cursor.save()
    problem = log.failed or (str(cursor.problem) if cursor.problem else None)
    if problem is not None and ended is not Ended.INTERRUPTED:
        ended = Ended.FAILED
    watcher.progress(cursor.ledger, "")
    error = problem or (lane.error if ended is not Ended.COMPLETE else None)
    return Report(ended, cursor.ledger, list(refusals.found.values()), error)


class _Patience:
    """Runs out when a destination is in trouble, and the position has stood still, for so long."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self._position = -1
        self._since: float | None = None

    def is_over(self, position: int, state: State) -> bool:
        now = self._clock()
        if position != self._position:
            self._position, self._since = position, None
        elif self._since is None and state in (State.WAITING, State.HELD):
            self._since = now
        return self._since is not None and now - self._since >= self._seconds


def _doing(lane: Lane) -> str:
    return f"{lane.state.value}: {lane.error}" if lane.state in (State.WAITING, State.HELD) else ""
