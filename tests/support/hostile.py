"""What hostile input costs: whether other threads run meanwhile, and the memory it takes."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections.abc import Callable

LATE = 0.05
"""Seconds by which no thread may be late for the input of another."""


def lateness(work: Callable[[], object], tries: int = 4) -> float:
    """Return by how many seconds a thread that ticks every 10 ms was late while the work was done.

    Only the time counts in which the work had a processor: on a busy machine all threads are late. The best of some
    tries counts, since work that holds the interpreter's lock makes others late every time.
    """
    best = float("inf")
    for _ in range(tries):
        best = min(best, _once(work))
        if best < LATE:
            break
    return best


def _once(work: Callable[[], object]) -> float:
    worst, over, begun = 0.0, threading.Event(), threading.Event()

    clock = time.pthread_getcpuclockid(threading.get_ident())

    def ticks() -> None:
        nonlocal worst
        begun.set()
        while not over.is_set():
            due, worked = time.monotonic() + 0.01, time.clock_gettime(clock)
            time.sleep(0.01)
            late = time.monotonic() - due
            worst = max(worst, min(late, time.clock_gettime(clock) - worked - 0.01))

    thread = threading.Thread(target=ticks, daemon=True)
    thread.start()
    begun.wait()
    try:
        work()
    finally:
        over.set()
        thread.join()
    return worst


def peak(work: Callable[[], object]) -> int:
    """Return the bytes that the work took at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def seconds(work: Callable[[], object]) -> float:
    """Return the processor's seconds of this thread, without the collection of what other tests have left."""
    gc.disable()
    try:
        begun = time.thread_time()
        work()
        return time.thread_time() - begun
    finally:
        gc.enable()
