"""The agent under a service manager: ready, alive, reloading, stopping, by a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.config import load
from agent.process import Agent as Inside
from agent.system.events import Event
from agent.system.systemd import Notify
from tests.support.agent import Agent
from tests.support.collecting import Log
from tests.support.net import wait_for
from tests.support.receiver import Answer, Receiver
from tests.support.stops import stopped


class Manager:
    """Listens as systemd does."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder / "notify")
        self.heard: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.name)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while (said := self._socket.recv(1 << 16)) != b"over":
            self.heard.append(dict(line.split("=", 1) for line in said.decode().split("\n")))

    def of(self, what: str) -> list[dict[str, str]]:
        return [each for each in self.heard if what in each]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"over", self.name)
        self._thread.join(5)
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    manager.close()


def test_a_service_from_its_start_to_its_end(tmp_path: Path, manager: Manager) -> None:
    """A receiver and a target that hang are no agent that hangs."""
    with Receiver() as hanging, Receiver() as good:
        hanging.default = Answer(hang=True)
        target = {"url": hanging.url, "job": "hangs", "timeout": "1s"}
        collect = {"interval": "1s", "collectors": {"scrape": {"targets": [target]}}}
        to = [{"url": one.url, "name": name} for one, name in ((hanging, "hanging"), (good, "good"))]
        agent = Agent(tmp_path / "agent", to, collect=collect)
        agent.environment |= {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "1000000"}
        with agent:
            wait_for(lambda: manager.of("READY"), 10, "it to be ready")
            assert agent.appended() > 0
            assert manager.heard[0]["READY"] == "1"
            wait_for(lambda: len(manager.of("WATCHDOG")) > 6, 10, "signs of life")
            wait_for(lambda: hanging.requests, 10, "a request that hangs")
            status = manager.heard[-1]["STATUS"]
            assert status.startswith("hanging sending, ")
            assert "; good " in status
            agent.reload(labels={"role": "x"})
            wait_for(lambda: len(manager.of("READY")) == 2, 10, "the reload to be over")
            (reloading,) = manager.of("RELOADING")
            assert reloading["MONOTONIC_USEC"].isdigit()
            assert manager.heard.index(reloading) < manager.heard.index(manager.of("READY")[1])
            agent.reload("agent.reload_refused", log={"level": "loud"})
            wait_for(lambda: len(manager.of("READY")) == 3, 10, "the other one to be over")
            assert "not reloaded: " in manager.of("READY")[2]["STATUS"]
            alive = len(manager.of("WATCHDOG"))
            wait_for(lambda: len(manager.of("WATCHDOG")) > alive + 2, 10, "signs of life")
            assert agent.stop() == 0
            wait_for(lambda: manager.of("STOPPING"), 5, "the word that it stops")
    assert not agent.events("agent.thread_stuck")


def test_a_process_that_was_stopped_for_longer_than_the_watchdog_waits_is_alive(
    tmp_path: Path, manager: Manager
) -> None:
    agent = Agent(tmp_path / "agent", [])
    agent.environment |= {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "500000"}
    with agent:
        for _ in range(3):
            wait_for(lambda: manager.of("READY"), 10, "it to be ready")
            stopped(agent, 1.5)
            alive = len(manager.of("WATCHDOG"))
            wait_for(lambda: len(manager.of("WATCHDOG")) > alive + 2, 10, "signs of life")  # noqa: B023
        assert agent.stop() == 0
    assert not agent.events("agent.thread_stuck")


def test_a_schedule_that_hangs_is_not_reported_as_alive(tmp_path: Path, manager: Manager) -> None:
    text = f"{{data_dir: '{tmp_path}/data', collect: {{interval: 100ms}}}}"
    log, hanging = Log(), threading.Event()
    notify = Notify({"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "300000"})
    inside = Inside(load(text, "f.yaml"), "f.yaml", log, notify)
    append = inside.buffer.append
    hang: Callable[..., int] = lambda *tick: append(*tick) if hanging.wait(20) else 0  # noqa: E731
    inside.buffer.append = hang  # type: ignore[method-assign]
    inside.schedule.start()
    wait_for(lambda: inside.schedule.overdue() > 0.3, 10, "it to hang")
    inside._report_alive()
    assert log.of(Event.THREAD_STUCK, "error")
    hanging.set()
    wait_for(lambda: inside.schedule.is_ready and not inside.schedule.overdue(), 10, "it to be back")
    inside._report_alive()
    wait_for(lambda: manager.of("WATCHDOG"), 5, "a sign of life")
    assert len(manager.heard) == 1
    inside.schedule.stop(5)
    inside.buffer.close()
    notify.close()
