"""A lane on a real buffer that sends over real sockets: what the tests of the sender's faults share.

`Host` is one host with one destination. What it collects is made up, each value different from every other, so what
has arrived can be compared with it: `accounted` is the promise that every fault has to keep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from structlog.testing import capture_logs
from structlog.typing import EventDict

from agent.config import DestinationConfig, QueueConfig, RemoteWrite
from agent.destinations.base import Speaks
from agent.destinations.types import speaks as speaks_of
from agent.send.delivery import Clocks
from agent.send.lane import Lane
from agent.send.state import Rules, State
from agent.send.wires import wire as wire_to
from agent.system.events import Event
from buffer.buffer import Buffer
from buffer.cursor import Cursor
from buffer.ledger import MAX_ERROR
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick
from buffer.quarantine import Quarantine
from tests.support import wire
from tests.support.net import wait_for
from tests.support.receiver import Receiver

PASSWORD = "hunter2"
QUICK = Rules(0.01, 0.05, 0.01, 0.05)
SERIES = tuple(Series(name, (("hostname", "a"),)) for name in ("cpu", "memory"))
BOOT = "0123456789abcdef0123456789abcdef"
FIRST_MS = 1_800_000_000_000
STEP_MS = 10_000

Samples = dict[wire.Labels, dict[int, float]]

HELD = (300, 301, 302, 303, 307, 308, 401, 403, 404, 407)
"""Statuses by which no type says anything about samples."""


class Host:
    """A buffer with one destination and its lane, one after another on the same folder, as after a restart.

    What it logs is in `logs`, and what it has collected, restarts included, in `expected`.
    """

    def __init__(
        self,
        folder: Path,
        to: DestinationConfig,
        logs: list[EventDict],
        series: tuple[Series, ...] = SERIES,
        rules: Rules = QUICK,
        labels: Mapping[str, str] | None = None,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        from_boot: frozenset[str] = frozenset(),
        speaks: Speaks | None = None,
    ) -> None:
        self.series, self.logs, clocks = series, logs, Clocks(clock, wall)
        self.buffer = Buffer(str(folder / "data"), Limits(), [to.name])
        self.quarantine = Quarantine(str(folder / "data"))
        speaks, wire = speaks or speaks_of(to, from_boot, clock, wall), wire_to(to, "0.0.0", "host")
        logger = structlog.get_logger()
        self.lane = Lane(
            to, speaks, wire, self.buffer, self.quarantine, logger, rules=rules, labels=labels, clocks=clocks
        )
        self.ticks = self.buffer.log.end // len(series)

    @property
    def cursor(self) -> Cursor:
        [cursor] = self.buffer.cursors.values()
        return cursor

    def collect(self, count: int = 1) -> None:
        """Append so many ticks."""
        for n in range(self.ticks, self.ticks + count):
            at = Instant(FIRST_MS + n * STEP_MS, n * STEP_MS, BOOT)
            self.buffer.append([Tick(at, "all", self.series, self._values(n))])
        self.ticks += count

    def _values(self, n: int) -> list[float]:
        return [float(n * 1000 + i) for i in range(len(self.series))]

    @property
    def expected(self) -> Samples:
        """Everything that was collected."""
        columns = zip(*(self._values(n) for n in range(self.ticks)), strict=True)
        return {
            labels_of(series): {FIRST_MS + n * STEP_MS: value for n, value in enumerate(values)}
            for series, values in zip(self.series, columns, strict=True)
        }

    def settled(self, deadline_s: float = 20.0) -> None:
        """Wait until nothing is pending."""
        wait_for(lambda: self.cursor.pending() == 0, deadline_s, f"all to be settled ({self.lane.error})")

    def held(self) -> str:
        """Wait until the destination is held, and return why; nothing was dropped for it."""
        # The ledger has it last, and cut.
        wait_for(lambda: self.cursor.ledger.state == "held", 10, "the destination to be held")
        assert self.cursor.pending() > 0
        assert not any(self.cursor.ledger.dropped.values())
        assert self.lane.state is State.HELD
        assert self.lane.error
        assert self.cursor.ledger.error == self.lane.error[:MAX_ERROR]
        return str(self.lane.error)

    def logged(self, event: Event) -> list[EventDict]:
        """Return what was logged of an event."""
        return [entry for entry in self.logs if entry["event"] == event]

    def warned(self, event: Event) -> int:
        """Return how often an event was logged as a warning."""
        return sum(entry["log_level"] == "warning" for entry in self.logged(event))

    def failed(self, times: int) -> None:
        """Wait until so many requests in a row have failed."""
        before = self.lane.stats.retries
        wait_for(lambda: self.lane.stats.retries >= before + times, 10, "failed tries")

    def kept(self) -> Samples:
        """Return what is in the quarantine."""
        items = self.quarantine.items()
        return by_labels(
            tick for item in items for entry in self.quarantine.entries(item.id) for tick in entry.ticks
        )

    def accounted(self, receiver: Receiver, *, repeated: bool = False) -> None:
        """All that was collected has arrived, once and in order, but for what the ledger names.

        Which is in the quarantine, sample by sample. `repeated`: an answer was lost on the way, so that what the
        receiver has may have come twice, with the same value.
        """
        got, kept, ledger = arrived(receiver, repeated=repeated), self.kept(), self.cursor.ledger
        for labels, samples in kept.items():
            assert not samples.keys() & got.get(labels, {}).keys()
        keys = got.keys() | kept.keys()
        assert {key: kept.get(key, {}) | got.get(key, {}) for key in keys} == self.expected
        assert sum(ledger.dropped.values()) == count(kept)
        assert (ledger.delivered, self.cursor.pending()) == (count(got), 0)

    def outlives(self, receiver: Receiver, status: int) -> None:
        """Deliver everything to a receiver that takes the first request, and answers the next three with this status."""
        self.settled()
        self.collect(40)
        self.settled()
        self.accounted(receiver)
        if status != 413:  # a single record that is too large is held as well
            assert bool(self.logged(Event.HELD)) == (status in HELD)
        assert len(self.logged(Event.RETRY)) == (3 if status in (408, 429, 500, 503) else 0)


@contextmanager
def host(
    folder: Path,
    to: DestinationConfig,
    *,
    series: tuple[Series, ...] = SERIES,
    ticks: int = 1,
    rules: Rules = QUICK,
    **lane: Any,
) -> Iterator[Host]:
    """A host that runs, with so many ticks to send if it is the first one on the folder. `lane` is the lane's."""
    with capture_logs() as logs:
        one = Host(folder, to, logs, series, rules, **lane)
        if not one.ticks:
            one.collect(ticks)
        one.lane.start()
        try:
            yield one
        finally:
            one.lane.stop(2.0)
            one.buffer.close()
        ledger = one.cursor.ledger
        assert one.buffer.log.end == ledger.delivered + sum(ledger.dropped.values()) + one.cursor.pending()
        assert PASSWORD not in repr(logs)
        assert "sender.failed" not in repr(logs)


def destination(url: str, **settings: Any) -> RemoteWrite:
    """A destination to which small batches go at once."""
    queue = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=20)
    return RemoteWrite(
        **{"url": url, "name": "there", "remote_timeout": 5.0, "queue_config": queue, **settings}
    )


def labels_of(series: Series) -> wire.Labels:
    """All labels, the name among them, as they are on the wire."""
    return tuple(sorted([*series.labels, ("__name__", series.name)]))


def by_labels(ticks: Iterable[Tick]) -> Samples:
    """The samples of ticks by the labels of their series."""
    found: Samples = {}
    for tick in ticks:
        for series, value in zip(tick.series, tick.values, strict=True):
            found.setdefault(labels_of(series), {})[tick.at.wall_ms] = value
    return found


def count(samples: Samples) -> int:
    """How many samples there are."""
    return sum(map(len, samples.values()))


def arrived(receiver: Receiver, *, repeated: bool = False) -> Samples:
    """What a receiver has stored: in time order, and each once, or with `repeated` with the same value."""
    found: Samples = {}
    assert not receiver.broken
    for labels, samples in receiver.received().items():
        known = found.setdefault(labels, {})
        for at, value in samples:
            if at in known:
                assert repeated, f"{labels} at {at} came twice"
                assert known[at] == value
            else:
                assert at > max(known, default=0)
            known[at] = value
    return found
