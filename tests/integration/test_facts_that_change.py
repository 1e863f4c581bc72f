"""What changes while the agent runs is noticed: the host's name, its authorities, its name servers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import QUICK, Agent
from tests.support.namespaces import entering, inside
from tests.support.net import wait_for
from tests.support.receiver import Receiver


class Box(Agent):
    """An agent on a host whose name is its own, and can be changed."""

    def __init__(self, folder: Path, receiver: Receiver, name: bytes, **config: object) -> None:
        to = {"url": receiver.url, "name": "p", "queue_config": QUICK}
        super().__init__(folder, [to], hostname=None, **config)
        # What lives in the namespaces until the test is over; the agent enters them.
        command, environment = inside("", more=["--uts"], command=["sleep", "120"])
        self._host = subprocess.Popen(command, env=environment)
        wait_for(self._is_ready, 10, "the namespaces")
        self.inside = entering(self._host.pid, "--uts")
        self.rename(name)

    def _is_ready(self) -> bool:
        """Whether it has become the last command of the script."""
        return Path(f"/proc/{self._host.pid}/cmdline").read_bytes().startswith(b"sleep")

    def rename(self, name: bytes) -> None:
        """Give the host another name."""
        program = f"import ctypes; ctypes.CDLL(None).sethostname({name!r}, {len(name)})"
        subprocess.run([*self.inside, sys.executable, "-c", program], check=True)

    def close(self) -> None:
        self._host.kill()
        self._host.wait()


def named(receiver: Receiver, name: str) -> list[int]:
    """When a host of this name sent one of its series."""
    found = (times for labels, times in receiver.received().items() if ("hostname", name) in labels)
    return sorted({at for times in found for at, _ in times})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_a_host_that_gets_its_name_after_the_start_of_the_agent_is_called_by_it(
    tmp_path: Path, receiver: Receiver
) -> None:
    box = Box(tmp_path, receiver, b"localhost")
    try:
        with box:
            wait_for(lambda: len(named(receiver, "localhost")) > 2, 20, "ticks by the first name")
            box.rename(b"pump-17")
            wait_for(lambda: len(named(receiver, "pump-17")) > 2, 20, "ticks by the new one")
            assert box.reload()["changed"] == []
            (renamed,) = box.events("agent.renamed")
            assert (renamed["was"], renamed["hostname"]) == ("localhost", "pump-17")
            assert box.stop() == 0
    finally:
        box.close()
    received, ended = receiver.received(), receiver.ended()
    old = {labels: samples for labels, samples in received.items() if ("hostname", "localhost") in labels}
    for labels, samples in old.items():
        ((at, *more),) = [ended[labels]]
        assert not more
        assert at > samples[-1][0]
    assert box.lost(received) == {}
    assert max(named(receiver, "localhost")) < min(named(receiver, "pump-17"))
    assert box.destination("p")["ledger"]["missed"] == 0


def test_a_reload_says_that_the_name_of_the_host_changed(tmp_path: Path, receiver: Receiver) -> None:
    box = Box(tmp_path, receiver, b"localhost", buffer={"sync_interval": "5m"})
    try:
        with box:
            wait_for(lambda: named(receiver, "localhost"), 20, "a tick")
            box.rename(b"pump-17")
            assert box.reload()["changed"] == ["hostname"]
            assert box.reload()["changed"] == []
            wait_for(lambda: named(receiver, "pump-17"), 20, "a tick by the new name")
            box.rename(b"pump-18")
            box.reload(hostname="fixed")
            wait_for(lambda: named(receiver, "fixed"), 20, "a tick by the configured name")
            assert not box.events("agent.renamed")
            assert box.stop() == 0
    finally:
        box.close()


@pytest.mark.parametrize(("name", "shown"), [(b"p\xfcmp", "p?mp"), (b"", "localhost")])
def test_a_name_that_is_none_ends_nothing(
    tmp_path: Path, receiver: Receiver, name: bytes, shown: str
) -> None:
    """The kernel takes any bytes for a name."""
    box = Box(tmp_path, receiver, b"pump-17")
    try:
        with box:
            wait_for(lambda: named(receiver, "pump-17"), 20, "a tick")
            box.rename(name)
            wait_for(lambda: named(receiver, shown), 20, "a tick by what is left of the name")
            assert box.stop() == 0
        with box:  # it starts with such a name
            seen = len(named(receiver, shown))
            wait_for(lambda: len(named(receiver, shown)) > seen, 20, "a tick")
            assert box.stop() == 0
    finally:
        box.close()
