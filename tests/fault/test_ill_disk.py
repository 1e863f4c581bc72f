"""The real agent on real volumes that are full or without inodes: it is heard all the same."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.agent import Agent
from tests.support.net import wait_for
from tests.support.receiver import Receiver


def mount(*words: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no volume can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A small volume of its own."""
    where = tmp_path / "volume"
    where.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m,nr_inodes=200", "tmpfs", where)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


class Ill:
    """What can be wrong with a volume, and how it is put right."""

    def __init__(self, kind: str, volume: Path) -> None:
        self.kind, self.volume = kind, volume

    def strike(self) -> None:
        if self.kind == "full":
            with open(self.volume / "other", "wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(4096)):
                    pass
        else:
            with suppress(OSError):
                for n in range(1000):
                    (self.volume / f"file{n}").touch()

    def cure(self) -> None:
        for path in self.volume.glob("[of][ti][hl]e*"):
            path.unlink()


def newest(receiver: Receiver) -> float:
    """Return the time of the newest sample that arrived."""
    return max((at for at, _ in tuple(receiver.latest.values())), default=0) / 1000


def is_fresh(receiver: Receiver) -> bool:
    return time.time() - newest(receiver) <= 2.5


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        ("full", "running"),
        ("full", "at_start"),
        ("full", "new"),
        ("no_inodes", "running"),
        ("no_inodes", "at_start"),
    ],
)
def test_an_ill_volume_silences_nobody_and_is_taken_up_again(
    volume: Path, tmp_path: Path, kind: str, when: str
) -> None:
    with Receiver() as receiver:
        to = [{"url": receiver.url, "name": "central"}]
        agent = Agent(tmp_path / "agent", to, data_dir=str(volume / "data"))
        agent.data_dir = volume / "data"
        try:
            check(agent, receiver, Ill(kind, volume), when)
        finally:
            agent.__exit__()


def check(agent: Agent, receiver: Receiver, ill: Ill, when: str) -> None:
    if when != "new":
        agent.start()
        wait_for(lambda: is_fresh(receiver), 10, "a sample")
    if when == "at_start":
        agent.stop()
    ill.strike()
    if when != "running":
        agent.start()
    began = time.time()
    if ill.kind != "no_inodes" or when == "new":  # the active segment needs no inode
        wait_for(lambda: agent.events("buffer.sheltered"), 10, "the report")
    wait_for(lambda: newest(receiver) > began + 1, 10, "a sample that was collected since")
    for _ in range(6):
        time.sleep(0.5)
        assert is_fresh(receiver)
    ill.cure()
    if agent.events("buffer.sheltered"):
        wait_for(lambda: agent.events("buffer.unsheltered"), 10, "the return")
    cured = time.time()
    wait_for(lambda: newest(receiver) > cured + 1, 10, "a sample from the disk")
    assert agent.stop() == 0
    ledger = agent.destination("central")["ledger"]
    assert ledger["dropped"] == {"evicted": 0, "rejected": 0}
    assert ledger["appended"] == ledger["delivered"] + ledger["pending"]
    if when != "at_start":
        assert ledger["missed"] == 0
