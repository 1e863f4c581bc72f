"""Runs jobs that wait for others, each on a thread of its own, which is kept for the next job of that key.

For jobs of which each may take long at any time, such as scrapes: `agent.workers` would let each of them delay the
ones behind it, every round. Here a job delays nobody: all begin at once, and whoever asks for what ended waits up to
`patience` seconds, for all of them together, and not at all for one that took longer than that the last time.
Nothing that a job raises ends its thread. Used from one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Generic, TypeVar

from agent.workers import Done, Job

T = TypeVar("T")


class Apart(Generic[T]):
    """The threads, one for each key that there was."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._queues: dict[str, SimpleQueue[Job[T] | None]] = {}
        self._ended: SimpleQueue[Done[T]] = SimpleQueue()
        self._awaited: set[str] = set()
        self._slow: set[str] = set()

    def begin(self, jobs: Iterable[Job[T]]) -> None:
        """Start the jobs. One of the same key must have been returned by `ended` before."""
        for job in jobs:
            queue = self._queues.get(job.key)
            if queue is None:
                queue = self._queues[job.key] = SimpleQueue()
                threading.Thread(
                    target=_work, args=(queue, self._ended), name=f"apart {job.key}", daemon=True
                ).start()
            if job.key not in self._slow:
                self._awaited.add(job.key)
            queue.put(job)

    def ended(self) -> list[Done[T]]:
        """Return the jobs that ended, after waiting a little for those that were begun just now."""
        found: list[Done[T]] = []
        until = perf_counter() + self.patience
        while True:
            try:
                done = self._ended.get(self._awaited != set(), timeout=max(0.0, until - perf_counter()))
            except Empty:
                break
            found.append(done)
            self._awaited.discard(done.key)
            (self._slow.add if done.seconds >= self.patience else self._slow.discard)(done.key)
        self._awaited.clear()  # they have been waited for: who is not there now comes when it comes
        return found

    def forget(self, key: str) -> None:
        """End the thread of a key, as soon as it is not in a job; what that returns comes all the same."""
        queue = self._queues.pop(key, None)
        if queue is not None:
            queue.put(None)
            self._awaited.discard(key)
            self._slow.discard(key)

    def close(self) -> None:
        """End the threads that are not in a job; the others are left to end with the process."""
        for queue in self._queues.values():
            queue.put(None)


def _work(queue: SimpleQueue[Job[T] | None], ended: SimpleQueue[Done[T]]) -> None:
    while (job := queue.get()) is not None:
        begun = perf_counter()
        result, error = None, None
        try:
            result = job.run()
        except Exception as raised:
            error = raised
        ended.put(Done(job.key, result, error, perf_counter() - begun))
