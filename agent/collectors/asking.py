"""Asking many places that may not answer: those that do are heard, and those that hang are left behind.

Promises: a call returns within its patience, with every answer that came by then, so places that hang cost the
others nothing but a short delay, once. What hangs keeps one thread, and is not asked again before it returns;
nor are the other places of its server, which would hang too. In the normal case a call needs one thread, which
ends with it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Generic, NamedTuple, TypeVar

P = TypeVar("P", bound=Hashable)
T = TypeVar("T")

STEP = 0.05
"""Seconds without an answer after which the next server is asked on another thread."""


class Answers(NamedTuple, Generic[P, T]):
    """What became of the places: an answer or what was raised; no answer in time; not asked at all."""

    came: dict[P, T | Exception]
    hanging: list[P]
    unasked: list[P]


class _Round(Generic[P, T]):
    def __init__(self, servers: Mapping[bytes, Sequence[P]]) -> None:
        self.servers = deque(servers.items())
        self.answers: SimpleQueue[tuple[P, T | Exception]] = SimpleQueue()
        self.over = False


class Asker(Generic[P, T]):
    """Asks by `ask`, for up to `patience` seconds a call. To be used from one thread at a time."""

    def __init__(self, ask: Callable[[P], T], patience: float) -> None:
        self._ask, self._patience = ask, patience
        self._lock = threading.Lock()
        self._asking: dict[bytes, P] = {}

    def __call__(self, servers: Mapping[bytes, Sequence[P]]) -> Answers[P, T]:
        """Ask all places of all servers."""
        deadline = monotonic() + self._patience
        with self._lock:
            before = set(self._asking)
        round_ = _Round[P, T]({server: places for server, places in servers.items() if server not in before})
        waiting = sum(len(places) for _, places in round_.servers)
        came: dict[P, T | Exception] = {}
        if waiting:
            self._start(round_)
        while len(came) < waiting and (left := deadline - monotonic()) > 0:
            try:
                place, answer = round_.answers.get(timeout=min(STEP, left))
                came[place] = answer
            except Empty:
                if round_.servers:
                    self._start(round_)
        with self._lock:
            round_.over = True
            asking = set(self._asking.values())
        while not round_.answers.empty():  # what came at the last moment
            place, answer = round_.answers.get()
            came[place] = answer
        missing = [place for places in servers.values() for place in places if place not in came]
        return Answers(came, [p for p in missing if p in asking], [p for p in missing if p not in asking])

    def _start(self, round_: _Round[P, T]) -> None:
        threading.Thread(target=self._work, args=(round_,), name="ask", daemon=True).start()

    def _work(self, round_: _Round[P, T]) -> None:
        while True:
            try:
                server, places = round_.servers.popleft()
            except IndexError:
                return
            for place in places:
                with self._lock:
                    if round_.over:
                        return
                    self._asking[server] = place
                answer: T | Exception
                try:
                    answer = self._ask(place)
                except Exception as error:
                    answer = error
                with self._lock:
                    del self._asking[server]
                    round_.answers.put((place, answer))
