"""A sender on a real buffer in memory, with a receiver that answers as a script says, on a clock that only waits move.

`Script` is a wire: it takes requests, and returns answers. `Rig` is one host's `Sender`, driven step by step.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from agent.config import MetadataConfig, QueueConfig, RemoteWrite
from agent.destinations.base import Request, Speaks
from agent.destinations.remote_write.formats import remote_write
from agent.destinations.remote_write.outcome import REFUSING
from agent.destinations.remote_write.protocol import UNREADABLE
from agent.http.answer import Answer
from agent.http.failures import Cause, Failure
from agent.send.delivery import Clocks
from agent.send.early import News
from agent.send.lane import Lane
from agent.send.sender import Pause
from agent.send.state import Rules, State
from buffer.buffer import Buffer
from buffer.cursor import Cursor
from buffer.fs import RealFs
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick
from buffer.quarantine import Quarantine
from tests.support import wire
from tests.support.faults import MemoryFs
from tests.support.ticks import bits

BOOT = "0123456789abcdef0123456789abcdef"
SERIES = tuple(Series(name, (("hostname", "a"),)) for name in ("cpu", "memory"))
QUEUE = QueueConfig(max_samples_per_send=10, batch_send_deadline=30.0, min_backoff=1.0, max_backoff=300.0)

DELIVERED = Answer(204, {}, b"")
RETRY = Answer(503, {}, b"")
NO_ANSWER = Failure(Cause.CUT, "no answer")
UNREACHED = Failure(Cause.REFUSED, "no connection")
HELD = Answer(404, {}, b"")
HELD_WORDS = "HTTP 404: check the path of the url, and that the receiver takes remote write"
TOO_LARGE = Answer(413, {}, b"")
WORDS = "HTTP 400: label value too long"
REJECTED = Answer(400, {}, b"label value too long")
OLD = Answer(400, {}, b"too old sample")
UNREAD = Answer(400, {}, b"proto: integer overflow")

Samples = dict[wire.Labels, dict[int, float]]


class Script:
    """A receiver of remote write 1.0: these answers, then what `refuse` says, then `rest` without end.

    It keeps what it took (`lost`: and what it did not answer), and checks what a time series database would. Like a real
    receiver it refuses what nobody can read, and takes an empty write after a refusal, and a sample for now after it has refused
    everything; these three are in no list. `to_empty`, `to_unreadable` and `to_fresh` are other answers to them, the first to every
    empty write. `fresh` counts the samples for now.
    """

    def __init__(
        self,
        *answers: Answer | Failure,
        rest: Answer | Failure = DELIVERED,
        lost: bool = False,
    ) -> None:
        self.answers, self.rest, self.lost = list(answers), rest, lost
        self.refuse: Callable[[wire.Write], Answer | Failure | None] = lambda _: None
        self.bodies: list[bytes] = []
        self.attempts: list[int] = []
        self.within: list[float | None] = []
        self.stored: Samples = {}
        self.changes: list[bool] = []
        self.is_closed = self.has_refused = False
        self.to_empty: Answer | None = None
        self.to_unreadable = UNREAD
        self.to_fresh: Callable[[wire.Write], Answer | Failure | None] = lambda _: None
        self.fresh = 0

    def exchange(self, request: Request, attempt: int = 0, within: float | None = None) -> Answer | Failure:
        if request.body == UNREADABLE:
            return self.to_unreadable
        if not request.samples and (self.to_empty or self.has_refused):
            return self.to_empty or DELIVERED
        write = self.read(request)
        if wire.is_fresh(write):
            self.fresh += 1
            return self.to_fresh(write) or DELIVERED
        self.bodies.append(request.body)
        self.attempts.append(attempt)
        self.within.append(within)
        answer = self.answers.pop(0) if self.answers else self.refuse(write) or self.rest
        self.has_refused = isinstance(answer, Answer) and answer.status in REFUSING
        if self.has_refused and not request.samples:
            answer, self.has_refused = DELIVERED, False
        if (self.lost and answer is NO_ANSWER) or (isinstance(answer, Answer) and answer.status < 300):
            self.store(write)
        return answer

    def read(self, request: Request) -> wire.Write:
        """Return what is in a request."""
        return wire.decode(request.body)

    def store(self, write: wire.Write) -> None:
        """Take samples, as a time series database does."""
        for labels, samples, *_ in write.series:
            known = self.stored.setdefault(labels, {})
            for at, value in samples:
                if at not in known:
                    assert at > max(known, default=-1), "older than what this series has"
                same = bits([known.setdefault(at, value)]) == bits([value])
                assert same, "another value for the same instant"

    @property
    def sizes(self) -> list[int]:
        """The samples in each request."""
        return [wire.decode(body).samples for body in self.bodies]

    def hidden(self, text: str) -> str:
        return text

    def wire_bytes(self) -> int:
        return sum(map(len, self.bodies))

    def repeats(self) -> int:
        return 0

    def expires(self) -> float | None:
        return None

    def renew(self) -> None:
        pass

    def changed(self) -> bool:
        return self.changes.pop(0) if self.changes else False

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


def destination(queue: QueueConfig = QUEUE, **settings: Any) -> RemoteWrite:
    """A destination for remote write 1.0."""
    return RemoteWrite(
        **{
            "url": "http://127.0.0.1/",
            "name": "there",
            "queue_config": queue,
            "protobuf_message": "prometheus.WriteRequest",
            "metadata_config": MetadataConfig(send=False),
            **settings,
        }
    )


class Rig:
    """A host whose sender is driven step by step. Its first tick is 10 s after `first_ms`. `settings` are the destination's."""

    first_ms = 0

    def __init__(
        self,
        answers: Iterable[Answer | Failure] = (),
        queue: QueueConfig = QUEUE,
        *,
        lost: bool = False,
        script: Script | None = None,
        speaks: Speaks | None = None,
        clocks: Clocks | None = None,
        rules: Rules | None = None,
        listen: Callable[[], News] | None = None,
        wants_date: Callable[[], bool] = lambda: False,
        **settings: Any,
    ) -> None:
        folder, self.fs = tempfile.mkdtemp(prefix="limpet-"), MemoryFs()
        self.now, self.ticks = 1000.0, 0
        self.folder = folder
        self.script = script or Script(*answers, lost=lost)
        self.buffer = Buffer(folder, Limits(), ["there"], fs=self.fs)
        self.quarantine = Quarantine(folder, fs=_Unsynced())
        to, clocks = (
            destination(queue, **settings),
            clocks or Clocks(lambda: self.now, lambda: 1.0, lambda: 0.5),
        )
        speaks = speaks or remote_write(to, clock=clocks.monotonic, wall=clocks.wall)
        logger = structlog.get_logger()
        self._open: Callable[[], Lane] = lambda: Lane(
            to,
            speaks,
            self.script,
            self.buffer,
            self.quarantine,
            logger,
            clocks=clocks,
            rules=rules,
            listen=listen,
            wants_date=wants_date,
        )
        self.lane = self._open()
        self.appended: list[Tick] = []
        weakref.finalize(self, _end, self.buffer, folder)

    @property
    def cursor(self) -> Cursor:
        return self.buffer.cursors["there"]

    @property
    def ledger(self) -> tuple[int, dict[str, int]]:
        """What is delivered, and what is dropped by its reason."""
        ledger = self.cursor.ledger
        return ledger.delivered, {reason: count for reason, count in ledger.dropped.items() if count}

    def start_again(self) -> None:
        """Let another lane take over, as after a restart."""
        self.lane = self._open()

    def append(self, *ticks: Tick) -> None:
        """Append a record."""
        self.buffer.append(list(ticks))
        self.appended += ticks

    def collect(self, count: int = 1, series: tuple[Series, ...] = SERIES) -> None:
        """Append so many ticks, each value different from every other."""
        for _ in range(count):
            self.ticks += 1
            at = Instant(self.first_ms + self.ticks * 10_000, 0, BOOT)
            self.append(Tick(at, "all", series, [float(self.ticks * 10 + i) for i in range(len(series))]))

    def evict(self, position: int) -> None:
        """Let the buffer be full, and drop its oldest samples."""
        self.cursor.skip(position, "evicted")

    def step(self) -> Pause:
        """Let the sender do one thing, a request or a wait; it waits for trouble before a request."""
        sender = self.lane.sender
        while True:
            pause = sender.step()
            self.now += pause.seconds
            if pause.position is not None:
                assert self.buffer.log.end <= pause.position, "it waits for what there is"
            if sender.state is State.SENDING:  # a check is due
                continue
            if not pause.seconds or sender.state not in (State.WAITING, State.HELD):
                return pause

    def drain(self) -> None:
        """Step until nothing is pending."""
        for _ in range(1000):
            if not self.cursor.pending():
                return
            self.step()
        raise AssertionError("the sender does not get on")

    def everything(self) -> Samples:
        """What was appended."""
        return by_labels(self.appended)

    def items(self) -> list[tuple[int, str, int, str]]:
        """Of each item of the quarantine: position, reason, status and words."""
        found = sorted(self.quarantine.items(), key=lambda item: item.id)
        return [(int(one.id[-20:]), one.reason, one.code, one.message) for one in found]

    def kept(self) -> Samples:
        """What is in the quarantine."""
        items = self.quarantine.items()
        return by_labels(tick for one in items for e in self.quarantine.entries(one.id) for tick in e.ticks)


class _Unsynced(RealFs):
    def sync(self, fd: int) -> None:
        pass

    def sync_folder(self, folder: str) -> None:
        pass


def _end(buffer: Buffer, folder: str) -> None:
    with suppress(OSError):  # the test may have filled the disk
        buffer.close()
    shutil.rmtree(folder, ignore_errors=True)


def by_labels(ticks: Iterable[Tick]) -> Samples:
    """The samples of ticks by the labels of their series; of equal instants the first."""
    found: Samples = {}
    for tick in ticks:
        for (name, labels, *_), value in zip(tick.series, tick.values, strict=True):
            key = tuple(sorted([("__name__", name), *labels]))
            found.setdefault(key, {}).setdefault(tick.at.wall_ms, value)
    return found


def logged(logs: Sequence[structlog.typing.EventDict]) -> list[tuple[str, str, str | None]]:
    """Level, event and error of each entry."""
    return [(entry["log_level"], entry["event"], entry.get("error")) for entry in logs]
