"""Ports and waiting: what every test against a real server needs, without sleeping for luck."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

FIRST_PORT = 10240


def free_port() -> int:
    """Return a loopback port that nobody listens on, and that no outgoing connection will be given.

    It lies below the range from which the kernel takes source ports. A port from that range can be lost while
    its server is down: a client that tries it again and again may even be connected to itself.
    """
    first_source_port = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(1000):
        port = random.randrange(FIRST_PORT, first_source_port)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port was found in 1000 tries")


def wait_for(condition: Callable[[], T | None], deadline_s: float, what: str) -> T:
    """Return the first true value of `condition`, asked for at most `deadline_s` seconds.

    Raises AssertionError, naming `what` was awaited and the last value, when it does not come.
    """
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
