"""Many real agents in front of one real Prometheus, with a door between them that is shut for a while.

A shut door refuses connections, as a host does on which no receiver runs. The door counts what comes through it: the rate of
requests that a fleet makes when its receiver returns. Each agent's URL names its host, so that the door knows whose request it is.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from buffer.model import Labels
from tests.bench.steady import at_defaults
from tests.support.agent import Agent
from tests.support.net import Accepting, end, wait_for
from tests.support.prometheus import Prometheus
from tests.support.ticks import Sample

AT_ONCE = 4
"""How many agents start or stop at a time: each takes half a second of a core."""
REQUEST = re.compile(rb"POST /api/v1/write\?host=(\S{1,40}) HTTP/1\.1\r\n")
LONGEST = 80
"""More bytes than REQUEST can match."""
INTERVAL = 10.0
"""Seconds between ticks."""
LAG = 50.0
"""Seconds that a sample may be old in the steady flow: a deadline of 30 s, a tick, and a sync."""


class Door(Accepting):
    """Passes connections on to a port of loopback while it is entered, and refuses them else, at one port for all its life."""

    def __init__(self, to: int) -> None:
        super().__init__()
        self._to = to
        self.requests: list[tuple[float, str]] = []
        """When each request began to come through, in monotonic seconds, and whose it was."""

    def serve(self, connection: socket.socket) -> None:
        """Pass bytes on in both directions until one side ends."""
        with socket.create_connection(("127.0.0.1", self._to)) as receiver:
            for one in (connection, receiver):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = threading.Thread(target=_pass, args=(receiver, connection), daemon=True)
            answers.start()
            try:
                head = b""
                while data := connection.recv(1 << 16):
                    head += data  # a request line may come in two parts
                    found = None
                    for found in REQUEST.finditer(head):
                        self.requests.append((time.monotonic(), found[1].decode()))
                    head = head[max(found.end() if found else 0, len(head) - LONGEST) :]
                    receiver.sendall(data)
            finally:
                end(receiver)
                answers.join()


def _pass(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass  # one of the two has gone
    end(target)


class Outage(NamedTuple):
    """What a fleet did around an outage of its receiver."""

    requests: list[float]
    """When requests came through, in seconds before (negative) and after the return."""
    steady: float
    """Requests a second in the steady flow before the outage."""
    back: dict[str, float]
    """When the first request of each host came after the return, in seconds."""

    @property
    def peak(self) -> int:
        """The most requests in a second after the return."""
        return max(by_second(one for one in self.requests if one >= 0).values())


def by_second(at: Iterable[float]) -> dict[int, int]:
    """Return how many of the times lie in each second in which there are any."""
    counts: dict[int, int] = {}
    for one in at:
        counts[int(one // 1)] = counts.get(int(one // 1), 0) + 1
    return counts


class Fleet:
    """So many agents at the defaults, and a door between them and a Prometheus."""

    def __init__(self, folder: Path, prometheus: Prometheus, count: int) -> None:
        self.door, self.prometheus = Door(prometheus.port), prometheus
        self.agents = {
            name: at_defaults(folder / name, name, self._destination(name), f"{INTERVAL:g}s")
            for name in (f"edge-{n:03}" for n in range(count))
        }

    def _destination(self, name: str) -> Mapping[str, object]:
        return {"url": f"http://127.0.0.1:{self.door.port}/api/v1/write?host={name}", "name": "central"}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start all, a few at a time, with the door open; kill what still runs at the end."""
        # What a thread has started ends with that thread (`tests.support.server.tied`).
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                with self.door:
                    list(pool.map(Agent.start, self.agents.values()))
                    yield
            finally:
                for agent in self.agents.values():
                    agent.__exit__()

    def outage(self, steady_for: float, away_for: float, watch_for: float = 0.0) -> Outage:
        """Count the steady flow, shut the door for a while, and watch at least until all hosts are back; seconds.

        Raises AssertionError where a host does not send within three minutes of its start, or two of the return.
        """
        wait_for(lambda: not self._missing(0), 180, "the first request of each host")
        begun = time.monotonic()
        last(steady_for)
        self.door.__exit__()
        shut = time.monotonic()
        last(away_for)
        returned = time.monotonic()
        self.door.__enter__()
        wait_for(lambda: not self._missing(returned), 120, "all hosts to be back")
        last(max(0.0, returned + watch_for - time.monotonic()))
        back: dict[str, float] = {}
        for at, host in tuple(self.door.requests):
            if at >= returned:
                back.setdefault(host, at - returned)
        flow = sum(begun <= at < shut for at, _ in self.door.requests)
        return Outage([at - returned for at, _ in self.door.requests], flow / (shut - begun), back)

    def stop(self) -> None:
        """Stop all, a few at a time, when nothing of the outage is pending any more."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(_stop, self.agents.values()))

    def lost(self, name: str, since: float) -> dict[Labels, tuple[list[Sample], list[Sample]]]:
        """Return each series of a host that Prometheus does not have as the buffer's files have it (`Agent.lost`)."""
        # The first tick has the time of the grid before it.
        window = round(1000 * (since - INTERVAL)), round(1000 * time.time())
        return self.agents[name].lost(self.prometheus.raw_samples(f'{{hostname="{name}"}}', *window))

    def _missing(self, since: float) -> set[str]:
        return self.agents.keys() - {host for at, host in tuple(self.door.requests) if at >= since}


def _stop(agent: Agent) -> None:
    wait_for(lambda: agent.destination("central")["lag_seconds"] < LAG, 120, "the backlog to be sent")
    assert agent.stop() == 0


def last(seconds: float) -> None:
    """Let so much time pass: what is measured is what happens in it."""
    time.sleep(seconds)
