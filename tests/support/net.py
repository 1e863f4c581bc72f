"""Ports, waiting and connections: what every test against a real server needs, without sleeping for luck."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")

FIRST_PORT = 10240
# pytest-randomly seeds `random` alike in all processes of a suite: they would all choose the same ports.
DICE = random.SystemRandom()
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
GIVEN = deque[int](maxlen=1000)
_TURN = threading.Lock()


def free_port() -> int:
    """Return a loopback port that nobody listens on, and that no outgoing connection will be given.

    It lies below the range from which the kernel takes source ports. A port from that range can be lost while
    its server is down: a client that tries it again and again may even be connected to itself.

    No port is given out again soon, nor by two processes of a suite: an agent that is left sending to a server which
    is gone would reach the server of another test.
    """
    first_source_port = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    with _TURN:  # of the threads of a test
        for _ in range(1000):
            port = DICE.randrange(FIRST_PORT + WORKER, first_source_port, WORKERS)
            if port in GIVEN:
                continue
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            GIVEN.append(port)
            return port
    raise RuntimeError("no free port was found in 1000 tries")


def wait_for(condition: Callable[[], T | None], deadline_s: float, what: str, least_s: float = 60.0) -> T:
    """Return the first true value of `condition`, asked for at most `deadline_s` seconds, on a quick machine.

    On a busy one it may last longer: a wait that ends well costs nothing by a late deadline, which is `least_s` at the least.
    Raises AssertionError, naming `what` was awaited and the last value, when it does not come.
    """
    deadline_s = max(deadline_s, least_s)
    end = time.monotonic() + deadline_s
    pause = 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"waited {deadline_s:g} s in vain for {what}; last seen: {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


class Accepting:
    """A context manager that serves each connection to its port of a loopback address in a thread of its own, and cuts them at its end.

    A kind of server says what it does with a connection (`serve`); an OSError there ends the connection.
    """

    def __init__(self, port: int | None = None, address: str = "127.0.0.1") -> None:
        self.port, self.address = port or free_port(), address
        self.stopping = threading.Event()
        self.open: set[socket.socket] = set()
        self._server: socket.socket | None = None

    def serve(self, connection: socket.socket) -> None:
        """Serve a connection to its end."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.stopping.clear()
        self._server = socket.create_server((self.address, self.port))
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.stopping.set()
        assert self._server is not None
        for one in (self._server, *tuple(self.open)):
            end(one)
        self._server.close()

    def _accept(self, server: socket.socket) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self.open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self.serve(connection)
            except OSError:
                pass  # one of the two has gone
            finally:
                self.open.discard(connection)


def end(connection: socket.socket) -> None:
    """Cut a connection in both directions."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already
