"""What systemd gets to know, on a real socket; and whether a stop is the first half of a restart, by its own texts."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system.systemd import (
    JOBS_WITHIN,
    STATUS_EVERY,
    Notify,
    Service,
    is_restarted,
    service_in,
    stop,
)


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


CGROUPS = {
    "version 2": ("0::/system.slice/limpet.service\n", Service("limpet.service", False)),
    "an instance": ("0::/system.slice/system-limpet.slice/limpet@a.service", Service("limpet@a.service", False)),
    "both versions": (
        "12:cpu,cpuacct:/system.slice/other.service\n1:name=systemd:/system.slice/limpet.service\n0::/\n",
        Service("limpet.service", False),
    ),
    "a part of the service": ("0::/system.slice/limpet.service/main/a.b", Service("limpet.service", False)),
    "a name that is escaped": ("0::/system.slice/_cpu.service\n", Service("cpu.service", False)),
    "a name with a colon": ("0::/system.slice/a:b.service\n", Service("a:b.service", False)),
    "a user's service": (
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/limpet.service\n",
        Service("limpet.service", True),
    ),
    "a terminal": (
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope\n",
        None,
    ),
    "a session": ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
    "a container": ("0::/\n", None),
    "a container, version 1": ("9:name=systemd:/docker/0123abcd\n8:pids:/docker/0123abcd\n0::/\n", None),
    "a container within a scope": ("0::/system.slice/docker-0123abcd.scope\n", None),
    "nothing": ("", None),
    "nonsense": ("limpet.service\n::\n0:/limpet.service", None),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CGROUPS.values(), ids=list(CGROUPS))
def test_the_service_is_the_innermost_unit_of_the_cgroup(text: str, expected: Service | None) -> None:
    assert service_in(text) == expected


RESTART = "1234 limpet.service restart running\n"
JOBS = {
    "a restart": (RESTART, True),
    "with its head and foot": (
        "JOB  UNIT           TYPE    STATE  \n1234 limpet.service restart running\n\n1 jobs listed.\n",
        True,
    ),
    "among others": ("7 a.service start waiting\n8 limpet.service restart waiting\n9 b.timer stop running", True),
    "if it runs": ("8 limpet.service try-restart running\n", True),
    "a stop": ("1234 limpet.service stop running\n", False),
    "a reload": ("1234 limpet.service reload running\n", False),
    "somebody else's": ("1234 other.service restart running\n5 my-limpet.service restart running\n", False),
    "both": ("1 other.service restart running\n2 limpet.service stop waiting\n", False),
    "no job": ("", False),
    "no job, in words": ("No jobs running.\n", False),
    "nonsense": ("restart\nlimpet.service restart\n", False),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), JOBS.values(), ids=list(JOBS))
def test_only_a_restart_of_our_own_service_is_one(text: str, expected: bool) -> None:
    assert is_restarted("limpet.service", text) is expected


@pytest.fixture
def cgroup(tmp_path: Path) -> str:
    path = tmp_path / "cgroup"
    path.write_text(CGROUPS["version 2"][0])
    return str(path)


def put_systemctl(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program of this name first on the PATH."""
    program = folder / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho \"$@\" > '{folder}/asked'\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


UNDER_SYSTEMD = {"INVOCATION_ID": "0" * 32}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f"printf '{RESTART}'", False),
        ("printf '1234 limpet.service stop running\n'", True),
        ("true", True),
        ("printf '1234 limpet.service stop running\n'; exit 1", False),
        ("printf '\\377\\376 limpet.service'", True),
        ("kill -9 $$", False),
    ],
    ids=["restart", "stop", "no job", "fails", "nonsense", "killed"],
)
def test_systemctl_is_run(
    tmp_path: Path, cgroup: str, monkeypatch: pytest.MonkeyPatch, script: str, expected: bool
) -> None:
    put_systemctl(tmp_path, monkeypatch, script)
    assert stop(UNDER_SYSTEMD, cgroup).series_end is expected
    assert (tmp_path / "asked").read_text() == "list-jobs --no-legend --full\n"


def test_for_a_user_s_service_the_user_s_manager_is_queried(
    tmp_path: Path, cgroup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(cgroup).write_text(CGROUPS["a user's service"][0])
    put_systemctl(tmp_path, monkeypatch, f"printf '{RESTART}'")
    assert stop(UNDER_SYSTEMD, cgroup).series_end is False
    assert (tmp_path / "asked").read_text() == "--user list-jobs --no-legend --full\n"


def test_one_that_does_not_answer_is_not_waited_for_and_nothing_ends(
    tmp_path: Path, cgroup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_systemctl(tmp_path, monkeypatch, "exec sleep 60")
    began = time.monotonic()
    assert stop(UNDER_SYSTEMD, cgroup).series_end is False
    assert JOBS_WITHIN <= time.monotonic() - began < JOBS_WITHIN + 20  # it sleeps for 60


def test_where_there_is_none_nothing_ends(
    tmp_path: Path, cgroup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert stop(UNDER_SYSTEMD, cgroup).series_end is False


@pytest.mark.parametrize("where", ["a terminal", "a container", "nothing"])
def test_outside_of_a_service_a_stop_is_a_stop_and_systemctl_is_not_run(
    tmp_path: Path, cgroup: str, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    put_systemctl(tmp_path, monkeypatch, f"printf '{RESTART}'")
    assert stop({}, cgroup).series_end
    assert stop({"INVOCATION_ID": ""}, cgroup).series_end
    Path(cgroup).write_text(CGROUPS[where][0])
    assert stop(UNDER_SYSTEMD, cgroup).series_end
    assert stop(UNDER_SYSTEMD, str(tmp_path / "no file")).series_end
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("printf '1 shutdown.target start waiting\n2 limpet.service stop running\n'", True),
        ("printf '1 limpet.service stop running\n'", False),
        ("printf '1 shutdown.target stop waiting\n'", False),
        ("exit 1", False),
    ],
)
def test_a_system_that_shuts_down_is_not_taken_for_a_stop(
    tmp_path: Path, cgroup: str, monkeypatch: pytest.MonkeyPatch, script: str, expected: bool
) -> None:
    nologin = str(tmp_path / "nologin")
    put_systemctl(tmp_path, monkeypatch, script)
    assert stop(UNDER_SYSTEMD, cgroup, nologin).shuts_down is expected
    Path(nologin).touch()  # which decides where systemd does not answer any more
    assert stop(UNDER_SYSTEMD, cgroup, nologin).shuts_down is (expected or script == "exit 1")
    Path(cgroup).write_text(CGROUPS["a user's service"][0])  # that user logs out
    Path(nologin).unlink()
    assert stop(UNDER_SYSTEMD, cgroup, nologin).shuts_down is False
