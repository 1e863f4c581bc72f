"""A host with 20,000 sockets: counted right, and at no more cost than a host with few."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from agent.collectors import COLLECTORS, Collect, HostPaths
from tests.support.hosts import of, values

CONNECTIONS = 10_000  # each is two sockets on this host
RUNS = 200

# Connections of a process with itself, closed by a reset so that none is left in TIME_WAIT for a minute.
HOLD = """
import resource, socket, struct, sys
connections = int(sys.argv[1])
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
held = []
for _ in range(connections):
    held.append(socket.create_connection(listener.getsockname()))
    held.append(listener.accept()[0])
print("open", flush=True)
sys.stdin.read()
for each in held:
    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""
SPARE = 100  # descriptors that a process needs for other things


def network() -> Collect:
    kind = COLLECTORS["network"]
    return kind.build(kind.options(), HostPaths())


def counted(family: str, state: str) -> float:
    return of(values(network()(time.monotonic())), family=family, state=state)["network_connections"]


@contextmanager
def open_sockets() -> Iterator[int]:
    """Processes that hold them, as many as the limit of descriptors asks for; how many sockets there are."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    each = CONNECTIONS if most == resource.RLIM_INFINITY else min(CONNECTIONS, (most - SPARE) // 2)
    with ExitStack() as stack:
        opened = 0
        for first in range(0, CONNECTIONS, each):
            command = [sys.executable, "-c", HOLD, str(min(each, CONNECTIONS - first))]
            pipe = subprocess.PIPE
            process = stack.enter_context(
                subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
            )
            assert process.stdout and process.stderr and process.stdin
            stack.callback(process.stdin.close)
            if process.stdout.readline() != "open\n":
                pytest.skip(f"so many sockets cannot be opened here: {process.stderr.read().strip()[-200:]}")
            opened += len(os.listdir(f"/proc/{process.pid}/fd"))
        yield opened


def cost(collect: Collect) -> float:
    """CPU seconds of a run; the least of some, because what disturbs only adds."""
    least = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for _ in range(RUNS):
            collect(time.monotonic())
        least = min(least, (time.process_time() - begun) / RUNS)
    return least


def test_twenty_thousand_sockets() -> None:
    before = {
        state: counted(*state) for state in (("tcp", "established"), ("tcp4", "in_use"), ("tcp", "allocated"))
    }
    usual = cost(network())
    with open_sockets() as opened:
        assert opened >= 2 * CONNECTIONS
        grown = {state: counted(*state) - before[state] for state in before}
        busy = cost(network())
    for state, more in grown.items():
        assert more == pytest.approx(2 * CONNECTIONS, abs=1000), state  # others open and close some, too
    assert busy < 2 * usual + 0.0002
    assert busy < 0.003


def test_no_process_is_looked_at() -> None:
    """A run opens the kernel's counters and the speeds of the links, and no other file: the interpreter's audit hook sees each."""
    opened: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("open", "os.listdir", "os.scandir"):
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    collect = network()
    for _ in range(2):
        collect(time.monotonic())
    watching = False
    files = {path for path in opened if not path.startswith("/sys/class/net/")}
    assert files <= {f"/proc/net/{name}" for name in ("dev", "sockstat", "sockstat6", "snmp")}
    assert "/proc/net/sockstat" in files
