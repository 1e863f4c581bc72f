"""What systemd is told, on a real socket."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system.notify import STATUS_EVERY, Notify


@pytest.fixture(params=["file", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = (
            str(tmp_path / "notify") if request.param == "file" else f"@limpet-{os.getpid()}-{tmp_path.name}"
        )
        sock.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        sock.settimeout(5)
        yield sock, name


def test_every_word_is_a_datagram_of_lines(listening: tuple[socket.socket, str]) -> None:
    sock, name = listening
    notify = Notify({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())})
    assert (notify.watchdog, notify.every, notify.is_heard) == (3, 1.5, True)
    notify.ready("fine")
    assert sock.recv(4096) == b"READY=1\nSTATUS=fine"
    notify.reloading()
    first, second = sock.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert int(second.partition("=")[2]) > 0
    notify.alive("well")
    assert sock.recv(4096) == b"WATCHDOG=1\nSTATUS=well"
    notify.stopping()
    assert sock.recv(4096).startswith(b"STOPPING=1\n")
    notify.close()
    notify.alive("nobody hears it")


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),  # it is meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_the_one_that_is_meant_for_us(
    environ: dict[str, str], watchdog: float | None
) -> None:
    notify = Notify({"NOTIFY_SOCKET": "/nowhere", **environ})
    assert notify.watchdog == watchdog
    assert notify.every <= STATUS_EVERY
    notify.close()


@pytest.mark.parametrize(
    "where", ["", "/nowhere/at/all", "@nobody", "vsock:2:1234", "x" * 500, "/" + "x" * 500]
)
def test_where_nobody_listens_nothing_happens(where: str) -> None:
    notify = Notify({"NOTIFY_SOCKET": where})
    notify.ready("fine")
    notify.stopping()
    notify.close()


def test_a_status_is_one_line_that_a_datagram_holds(listening: tuple[socket.socket, str]) -> None:
    sock, name = listening
    notify = Notify({"NOTIFY_SOCKET": name})
    notify.ready("a\nSTOPPING=1\n\udcff" + "x" * 1_000_000)
    first, second = sock.recv(4096).split(b"\n")
    assert first == b"READY=1"
    assert second.startswith(rb"STATUS=a STOPPING=1 \udcffxxx")
    notify.close()


def test_being_ready_is_said_again_where_it_was_not_taken(listening: tuple[socket.socket, str]) -> None:
    sock, name = listening
    notify = Notify({"NOTIFY_SOCKET": name})
    for _ in range(2000):
        notify.stopping()
    notify.ready("fine")
    while select.select([sock], [], [], 0)[0]:
        assert sock.recv(4096).startswith(b"STOPPING=1")
    for _ in range(2):
        notify.alive("well")
    assert [sock.recv(4096)[:8] for _ in range(3)] == [b"READY=1\n", b"WATCHDOG", b"WATCHDOG"]
    notify.close()


def test_a_listener_that_reads_nothing_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(2000):
            notify.alive("x" * 500)
        notify.close()
