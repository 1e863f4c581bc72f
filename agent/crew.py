"""Runs jobs that may hang: the caller waits for a limited time, and a job that hangs keeps one thread, nothing more.

Promises:
- The jobs of a call run in their order on one thread.  Where one of them takes longer than `hedge` seconds, the jobs
  behind it get another thread.  With a `hedge` of 0 all begin at once, each on a thread of its own.
- `run` returns as soon as the jobs it waits for have ended, and at the latest after `within` seconds.  A job that has
  not ended by then continues, and so do the jobs behind it; a later call returns them.  Time in which the process was
  stopped or frozen does not count.
- A job is not begun while another one of the same key is in the crew.
- A job ends nothing but itself, whatever it raises; what it raised is its result.
- In the normal case a call wakes one thread for all its jobs, and the caller once.
- Idle threads are kept for the next call, as many as the last one needed, until `close`.  Where the system gives no
  more threads, jobs wait for those that there are.

`run`, `forget` and `close` are called by one thread; `stuck` by any.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Generic, NamedTuple, TypeVar, cast

T = TypeVar("T")

LOOK_EVERY = 0.25
"""Seconds that a wait takes at most. Twice that shows that the process was stopped, and its jobs too."""


class Job(NamedTuple, Generic[T]):
    """Something to run; the key identifies it. `Crew.run` does not wait for a job that is not `awaited`."""

    key: str
    run: Callable[[], T]
    awaited: bool = True


class Done(NamedTuple, Generic[T]):
    """How a job ended: its result, or what it raised, and the seconds it took. `late`: an earlier call began it."""

    key: str
    result: T | None
    error: BaseException | None
    seconds: float
    late: bool = False


class _Run(Generic[T]):
    """A job in the crew, given by the call of that number."""

    __slots__ = ("begun", "call", "job")

    def __init__(self, job: Job[T], call: int) -> None:
        self.job, self.call = job, call
        self.begun: float | None = None

    def __call__(self) -> Done[T]:
        begun = perf_counter()
        result, error = None, None
        try:
            result = self.job.run()
        except BaseException as raised:  # an exit from within a job ends nothing but the job
            error = raised
        return Done(self.job.key, result, error, perf_counter() - begun)


class Crew(Generic[T]):
    """The threads, called `name`, and the jobs that have not ended."""

    def __init__(self, hedge: float, name: str = "crew") -> None:
        self.hedge, self._name = hedge, name
        self._lock = threading.Lock()
        self._runs: dict[str, _Run[T]] = {}
        self._queue: deque[_Run[T]] = deque()
        self._awaited: set[_Run[T]] = set()
        self._ended: list[tuple[_Run[T], Done[T]]] = []
        self._calls = 0
        self._wake: SimpleQueue[bool] = SimpleQueue()
        """Wakes one thread: True to work, False to end."""
        self._bell: SimpleQueue[None] = SimpleQueue()
        """Wakes the caller: nothing is awaited any more."""
        self._kept = self._idle = self._called = 0
        """How many threads may be idle, are idle, and were woken but have not begun to work."""

    def run(self, jobs: Sequence[Job[T]], within: float) -> list[Done[T]]:
        """Run the jobs; return those that ended within so many seconds, and those of earlier calls that did since."""
        if not (jobs or self._runs or self._ended):
            return []
        until = perf_counter() + within
        with self._lock:
            self._calls += 1
            new = [_Run(job, self._calls) for job in jobs if job.key not in self._runs]
            self._runs |= {run.job.key: run for run in new}
            self._queue += new
            self._awaited = {run for run in new if run.job.awaited}
            bell = self._bell = SimpleQueue()
            if new:
                self._keep(1 if self.hedge else len(new))
        while (pause := self._advance(until)) > 0:
            begun = perf_counter()
            with suppress(Empty):
                bell.get(timeout=min(pause, LOOK_EVERY))
            if (away := perf_counter() - begun - LOOK_EVERY) > LOOK_EVERY:
                until += away
        with self._lock:
            self._awaited = set()
            ended, self._ended = self._ended, []
            return [done if run.call == self._calls else done._replace(late=True) for run, done in ended]

    def stuck(self) -> dict[str, float]:
        """Return the keys of the jobs that have begun and not ended, each with the seconds since then."""
        with self._lock:
            now = perf_counter()
            return {key: now - run.begun for key, run in self._runs.items() if run.begun is not None}

    def forget(self, key: str) -> None:
        """Free the key: its job is not begun any more, and where it was begun its result is dropped."""
        with self._lock:
            self._runs.pop(key, None)
            self._queue = deque(run for run in self._queue if run.job.key != key)
            self._ended = [(run, done) for run, done in self._ended if done.key != key]

    def close(self) -> None:
        """End the idle threads now, and the others when their jobs have ended; `run` would start new ones."""
        with self._lock:
            self._keep(0)

    def _advance(self, until: float) -> float:
        """Wake the threads that are due; return how many seconds to wait for the bell, 0 where there is no reason."""
        with self._lock:
            now = perf_counter()
            if not self.hedge:
                self._call(len(self._queue) - self._called)
            elif self._queue:
                begun = [run.begun for run in self._runs.values() if run.begun is not None]
                hedged_at = self.hedge + (now if self._called else max(begun, default=0.0))
                if hedged_at <= now:
                    self._call(1)
                    hedged_at = now + self.hedge
                until = min(until, hedged_at)
            return until - now if self._awaited else 0.0

    def _call(self, threads: int) -> None:
        for _ in range(threads):
            if self._idle:
                self._idle -= 1
            else:
                try:
                    threading.Thread(target=self._work, name=self._name, daemon=True).start()
                except RuntimeError:  # no more threads may be started
                    return
            self._called += 1
            self._wake.put(True)

    def _keep(self, threads: int) -> None:
        self._kept = threads
        while self._idle > threads:
            self._idle -= 1
            self._wake.put(False)

    def _work(self) -> None:
        while self._wake.get():
            run = self._next(None, None)
            while run is not None:
                run = self._next(run, run())

    def _next(self, ended: _Run[T] | None, done: Done[T] | None) -> _Run[T] | None:
        """Hand in what ended, and take the next job; None: there is none, and this thread is idle."""
        with self._lock:
            if ended is None or done is None:
                self._called -= 1
            elif self._runs.get(done.key) is ended:  # else it was forgotten
                del self._runs[done.key]
                self._ended.append((ended, done))
                if self._awaited:
                    self._awaited.discard(ended)
                    if not self._awaited:
                        self._bell.put(None)
            if self._queue:
                run = self._queue.popleft()
                run.begun = perf_counter()
                return run
            if self._idle < self._kept:
                self._idle += 1
            else:
                self._wake.put(False)
            return None


def call(function: Callable[[], T], within: float) -> T:
    """Return what `function` returns, or raise what it raises. Raises TimeoutError where it takes longer than that.

    Where it hangs (a name server, a dead mount) it is left to a thread that ends with the process.
    """
    crew: Crew[T] = Crew(0)
    ended = crew.run([Job("", function)], within)
    crew.close()
    for done in ended:
        if done.error is not None:
            raise done.error
        return cast("T", done.result)
    raise TimeoutError(f"it did not come back within {within:g} s")
