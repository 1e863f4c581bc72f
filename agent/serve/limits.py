"""What requests may cost, and the work that they cause: done in threads, a few at a time, and stopped in time."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from agent.query.limits import Budget
from agent.query.limits import Limits as QueryLimits
from agent.serve.message import Refusal
from buffer.lookup.cache import Cache

T = TypeVar("T")
RETRY = (("Retry-After", "5"),)


class Limits(NamedTuple):
    """The limits of requests.

    Attributes:
        range: seconds between the first and the last step of a query.
        points: steps of a query, and of each subquery in it, behind the first one.
        series: series that a query selects.
        samples: samples that a query touches; one that is in several windows counts in each.
        read: samples that a query reads into memory, at 16 bytes each.
        answer: bytes of an answer, before it is packed.
        seconds: from when a query begins.
        concurrent: queries at the same time; others wait as long as a query may take.
    """

    range: float = 400 * 86400.0
    points: int = 11_000
    series: int = 5_000
    samples: int = 10_000_000
    read: int = 2_000_000
    answer: int = 16 << 20
    seconds: float = 30.0
    concurrent: int = 2


class Turn:
    """One piece of work: what it may still spend, and whether anybody waits for it. Its methods are for the thread that does it.

    `cache` is what all pieces of work keep of the buffer's files.
    """

    def __init__(self, limits: Limits, seconds: float, cache: Cache) -> None:
        self.cache = cache
        self.limits = limits._replace(seconds=min(seconds, limits.seconds))
        self._gone = threading.Event()
        self._end = time.monotonic() + self.limits.seconds
        own = self.limits
        self.budget = Budget(
            QueryLimits(own.read, own.samples, own.series, own.points + 1, own.seconds), self._clock
        )

    def _clock(self) -> float:
        """Return monotonic seconds; for one whom nobody waits for, all time is over."""
        return math.inf if self._gone.is_set() else time.monotonic()

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return self._clock() > self._end

    def give_up(self) -> None:
        """End it at the next look at the clock: nobody waits for it any more."""
        self._gone.set()


class Turns:
    """Does work in threads, `limits.concurrent` pieces at a time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._free = asyncio.Semaphore(limits.concurrent)
        self._threads = ThreadPoolExecutor(limits.concurrent, "query")
        self._running: set[Turn] = set()
        self._cache = Cache()

    async def do(self, work: Callable[[Turn], T], seconds: float = math.inf) -> T:
        """Return what `work` returns, which has so many seconds at most. Raises Refusal where it gets no turn, and what it raises."""
        try:
            # Not wait_for, which loses a cancellation in Python 3.11 (github.com/python/cpython/issues/86296).
            async with asyncio.timeout(self.limits.seconds):
                await self._free.acquire()
        except TimeoutError:
            what = f"{self.limits.concurrent} queries run, and this one has waited {self.limits.seconds:g} s"
            raise Refusal(503, "unavailable", what, RETRY) from None
        turn = Turn(self.limits, seconds, self._cache)
        self._running.add(turn)
        task = asyncio.get_running_loop().run_in_executor(self._threads, work, turn)
        task.add_done_callback(lambda _: self._ended(turn))
        try:
            return await asyncio.shield(task)
        finally:
            turn.give_up()

    def _ended(self, turn: Turn) -> None:
        """Give the place to the next one: only now, because a thread that nobody waits for takes its time to stop."""
        self._running.discard(turn)
        self._free.release()

    def close(self) -> None:
        """Stop what runs."""
        for turn in self._running:
            turn.give_up()
        self._threads.shutdown(wait=False, cancel_futures=True)
