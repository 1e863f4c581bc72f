"""Runs jobs one after another on a thread, and goes on without the ones that hang.

Promises: a job that takes longer than `patience` seconds keeps its thread for itself, and the jobs
behind it get another one, so it delays them by that much, once.  In the normal case there is one
thread, and one wake-up for all jobs of a round.  Nothing that a job raises ends its thread: an exit neither.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Done(NamedTuple, Generic[T]):
    """How a job ended: its result or what it raised, and the seconds it took."""

    key: str
    result: T | None
    error: BaseException | None
    seconds: float


class Job(NamedTuple, Generic[T]):
    """Something to run; keys tell jobs apart."""

    key: str
    run: Callable[[], T]


class _Worker(threading.Thread, Generic[T]):
    def __init__(self, ended: deque[Done[T]], idle: SimpleQueue[None]) -> None:
        super().__init__(name="collect", daemon=True)
        self.jobs: deque[Job[T]] = deque()
        self.current: tuple[str, float] | None = None
        self._begin = threading.Semaphore(0)
        self._left = False
        self._ended, self._idle = ended, idle

    def begin(self, jobs: Iterable[Job[T]]) -> None:
        self.jobs.extend(jobs)
        self._begin.release()

    def leave(self) -> None:
        """End after the current job."""
        self._left = True
        self._begin.release()

    def run(self) -> None:
        while not self._left:
            self._begin.acquire()
            while (job := _take(self.jobs)) is not None:
                begun = perf_counter()
                self.current = job.key, begun
                result, error = None, None
                try:
                    result = job.run()
                except BaseException as raised:  # an exit from within a job ends nothing but the job
                    error = raised
                self._ended.append(Done(job.key, result, error, perf_counter() - begun))
                self.current = None
            self._idle.put(None)


class Workers(Generic[T]):
    """One thread for all jobs, and one for each job that hangs.  Used from one thread."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._ended: deque[Done[T]] = deque()
        self._idle: SimpleQueue[None] = SimpleQueue()
        self._left: list[_Worker[T]] = []
        self._worker = self._start()

    def run(self, jobs: Sequence[Job[T]]) -> list[Done[T]]:
        """Run the jobs and return those that ended; what is not among them goes on, see `ended`.

        Jobs of earlier rounds that ended meanwhile are among them too.
        """
        waiting = {job.key for job in jobs}
        result: list[Done[T]] = []
        self._worker.begin(jobs)
        while waiting:
            with suppress(Empty):
                self._idle.get(timeout=self.patience)
            hung = self._hung()  # before looking at what ended: a job is in one of the two
            result += self.ended()
            waiting -= {done.key for done in result}
            for worker, key in hung:
                waiting.discard(key)
                if worker is self._worker:
                    self._replace()
        return result

    def ended(self) -> list[Done[T]]:
        """Return the jobs that ended since, without waiting."""
        result = []
        while (done := _take(self._ended)) is not None:
            result.append(done)
        return result

    def close(self) -> None:
        """End the threads that are not in a job; the others are left to end with the process."""
        self._worker.leave()

    def _hung(self) -> list[tuple[_Worker[T], str]]:
        now = perf_counter()
        self._left = [worker for worker in self._left if worker.is_alive()]
        busy = [(worker, worker.current) for worker in (self._worker, *self._left)]
        return [(w, job[0]) for w, job in busy if job and now - job[1] >= self.patience]

    def _start(self) -> _Worker[T]:
        worker = _Worker(self._ended, self._idle)
        worker.start()
        return worker

    def _replace(self) -> None:
        """Leave the worker to the job it is in, and give the jobs behind it to a new one."""
        old, self._worker = self._worker, self._start()
        rest = []
        while (job := _take(old.jobs)) is not None:
            rest.append(job)
        old.leave()
        self._left.append(old)
        self._worker.begin(rest)


def _take(queue: deque[U]) -> U | None:
    """Take the first item, whichever thread is quicker; None where there is none."""
    try:
        return queue.popleft()
    except IndexError:
        return None
