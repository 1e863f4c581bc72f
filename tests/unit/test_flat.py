"""Hours of a hostile receiver: memory, files, log lines and requests stay within bounds that do not depend on time.

The sender is real, the clock is handed in, and the receiver answers as a script says. Each lasts half an hour here;
LIMPET_FLAT_HOURS=10 makes it ten.
"""

from __future__ import annotations

import gc
import os
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.config import QueueConfig
from agent.destinations.base import Request
from agent.http.answer import Answer
from agent.http.failures import Cause, Failure
from agent.send.quiet import LINES
from buffer.model import Series
from buffer.quarantine import FEW, FILES, SHARE
from tests.support import wire
from tests.support.scripted import Rig, Script

HOURS = float(os.environ.get("LIMPET_FLAT_HOURS", "0.5"))
EVERY = 30.0
SERIES = tuple(Series(f"m{i:02}", (("hostname", "a"),)) for i in range(12))
QUEUE = QueueConfig(batch_send_deadline=EVERY, min_backoff=1.0, max_backoff=60.0)

Given = Callable[[wire.Write, random.Random], Answer | Failure | None]


def words(chance: random.Random) -> bytes:
    """Return words that were never used before."""
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz ", k=60)).encode()


def named(write: wire.Write, *indices: int) -> bool:
    bad = {SERIES[i].name for i in indices}
    return any(dict(one.labels)["__name__"] in bad for one in write.series)


def sometimes(chance: random.Random, *answers: Answer | Failure | None) -> Answer | Failure | None:
    return chance.choice(answers)


HOSTILE: dict[str, Given] = {
    "refuses all, in other words each time": lambda _, chance: Answer(400, {}, words(chance)),
    "refuses all but a sample for now, in other words each time": lambda write, chance: (
        None if wire.is_fresh(write) else Answer(400, {}, words(chance))
    ),
    "refuses each third series": lambda write, _: (
        Answer(400, {}, b"too long") if named(write, 0, 3, 6, 9) else None
    ),
    "refuses one, in other words each time": lambda write, chance: (
        Answer(422, {}, words(chance)) if named(write, 5) else None
    ),
    "refuses at random": lambda _, chance: sometimes(chance, None, Answer(409, {}, words(chance))),
    "has it all from somebody else": lambda *_: Answer(400, {}, b"duplicate sample for timestamp"),
    "fails because of one series": lambda write, chance: (
        Answer(500, {}, words(chance)) if named(write, 7) else None
    ),
    "comes and goes": lambda _, chance: sometimes(
        chance, None, Answer(503, {}, words(chance)), Failure(Cause.CUT, "reset")
    ),
    "wants to be repaired, for another reason each time": lambda _, chance: sometimes(
        chance, None, Answer(403, {}, words(chance)), Answer(301, {}, words(chance))
    ),
    "finds all too large": lambda _, chance: Answer(413, {}, words(chance)),
    "accepts in other words each time": lambda _, chance: Answer(200, {}, words(chance)),
}


class Hostile(Script):
    """Keeps nothing of what it was sent, but the number of requests."""

    def __init__(self, given: Given, chance: random.Random) -> None:
        super().__init__()
        self.requests = 0
        self.refuse = self.to_fresh = lambda write: given(write, chance) if write.series else None

    def exchange(self, request: Request, attempt: int = 0, within: float | None = None) -> Answer | Failure:
        self.requests += 1
        answer = super().exchange(request, attempt, within)
        for kept in (self.bodies, self.attempts, self.within):
            kept.clear()
        self.stored.clear()
        return answer


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Yield what returns the bytes that the sender and the quarantine hold now."""
    if HOURS < 1:  # it costs most of the time
        yield lambda: 0
        return
    ours = [
        tracemalloc.Filter(inclusive=True, filename_pattern=f"*/{one}")
        for one in ("agent/*", "quarantine.py")
    ]
    tracemalloc.start()

    def held() -> int:
        gc.collect()
        found = tracemalloc.take_snapshot().filter_traces(ours)
        return sum(one.size for one in found.statistics("filename"))

    try:
        yield held
    finally:
        tracemalloc.stop()


def hours(host: Rig, count: float) -> None:
    """Let so many hours go by, with a tick for each batch."""
    until = host.now + count * 3600
    while host.now < until:
        host.collect(1, SERIES)
        host.appended.clear()
        due, steps = host.now + EVERY, 0
        while host.cursor.pending() and host.now < due and steps < 200:
            host.step()
            steps += 1
        host.now = max(host.now, due)


@pytest.mark.parametrize("given", HOSTILE.values(), ids=HOSTILE)
def test_time_costs_nothing(given: Given) -> None:
    host = Rig(queue=QUEUE, script=Hostile(given, random.Random(1)))
    assert isinstance(host.script, Hostile)
    with capture_logs() as logs, traced() as held:

        def lines() -> Counter[str]:
            found = Counter(str(one["event"]) for one in logs if one["log_level"] != "debug")
            logs.clear()
            return found

        hours(host, HOURS / 2)
        lines()
        memory, requests = held(), host.script.requests
        hours(host, HOURS / 2)
        late = lines()
        assert held() <= memory + 64 * 1024
    for event, count in late.items():
        assert count <= LINES * (HOURS / 2 + 1), event
    inside = list(Path(host.folder, "quarantine").rglob("*"))
    assert len(inside) <= FILES * (FEW + SHARE + 2)
    batches = HOURS / 2 * 3600 / EVERY
    assert host.script.requests - requests <= 8 * batches
    ledger = host.cursor.ledger
    assert host.buffer.log.end == ledger.delivered + sum(ledger.dropped.values()) + host.cursor.pending()
