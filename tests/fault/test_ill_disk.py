"""The real agent on real volumes that are full, read-only or without inodes: it is heard all the same.

LIMPET_ILL_DISKS=1 tries each kind at each time; without it those that differ in what the agent has to do are tried.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

from buffer.model import is_stale
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
        if self.kind == "readonly":
            mount("-o", "remount,ro", self.volume)
        elif self.kind == "full":
            with open(self.volume / "other", "wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(4096)):
                    pass
        else:
            with suppress(OSError):
                for n in range(1000):
                    (self.volume / f"file{n}").touch()

    def cure(self) -> None:
        if self.kind == "readonly":
            mount("-o", "remount,rw", self.volume)
        for path in self.volume.glob("[of][ti][hl]e*"):
            path.unlink()


def own(receiver: Receiver) -> list[int]:
    """Return the times in ms of the agent's own samples that arrived, in order."""
    return sorted(
        at
        for write in tuple(receiver.accepted)
        for series in write.series
        if ("__name__", "limpet_start_time_seconds") in series.labels
        for at, value in series.samples
        if not is_stale(value)
    )


def wait_for_samples_after(receiver: Receiver, at: float, count: int = 1) -> None:
    """Wait for so many samples that were collected after this time."""
    wait_for(lambda: sum(each > at * 1000 for each in own(receiver)) >= count, 30, "a sample")


KINDS, WHEN = ("full", "no_inodes", "readonly"), ("running", "at_start", "new")
TRIED = [("full", "at_start"), ("no_inodes", "running"), ("no_inodes", "new"), ("readonly", "at_start")]
if os.environ.get("LIMPET_ILL_DISKS"):
    TRIED = list(product(KINDS, WHEN))
    TRIED.remove(("readonly", "running"))  # a volume in use cannot be made so: see test_buffer_sheltered.py


@pytest.mark.parametrize(("kind", "when"), TRIED)
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
        wait_for_samples_after(receiver, 0)
    if when == "at_start":
        agent.stop()
    ill.strike()
    if when != "running":
        agent.start()
    began = time.time()
    if ill.kind != "no_inodes" or when == "new":  # the active segment needs no inode
        wait_for(lambda: agent.events("buffer.sheltered"), 30, "the report")
    wait_for_samples_after(receiver, began, 4)
    if agent.events("buffer.sheltered") and (agent.data_dir / "lock").exists():
        shown = agent.status()
        assert (shown["disk_state"], shown["writer_pid"]) == (ill.kind, agent.pid)
        assert shown["unbuffered_samples"] > 100
    ill.cure()
    if agent.events("buffer.sheltered"):
        wait_for(lambda: agent.events("buffer.unsheltered"), 30, "the return")
    wait_for_samples_after(receiver, time.time())
    assert agent.stop() == 0
    ledger = agent.destination("central")["ledger"]
    assert ledger["dropped"] == {"evicted": 0, "rejected": 0}
    assert ledger["appended"] == ledger["delivered"] + ledger["pending"]
    times = own(receiver)
    assert len(set(times)) == len(times)
    if when != "at_start":
        held_up = times[-1] - times[0] > 1000 * (len(times) - 1) or agent.events("collector.timed_out")
        assert ledger["missed"] == 0 or held_up  # on a busy machine


def test_what_was_sent_while_nobody_could_read_or_write_is_not_missed(volume: Path, tmp_path: Path) -> None:
    """After a kill on a full volume, and after a start without a readable data_dir."""
    above = volume / "above"
    with Receiver() as receiver:
        to = [{"url": receiver.url, "name": "central"}]
        agent = Agent(tmp_path / "agent", to, data_dir=str(above / "data"))
        agent.data_dir = above / "data"
        try:
            agent.start()
            wait_for_samples_after(receiver, 0)
            ill = Ill("full", volume)
            ill.strike()
            wait_for(lambda: agent.events("buffer.sheltered"), 30, "the report")
            wait_for_samples_after(receiver, time.time(), 6)
            agent.kill()
            ill.cure()
            above.rename(volume / "aside")
            above.write_text("no folder")
            agent.start()
            wait_for_samples_after(receiver, time.time(), 6)
            above.unlink()
            (volume / "aside").rename(above)
            wait_for(lambda: agent.events("buffer.restarting"), 30, "the restart")
            wait_for(lambda: len(agent.events("agent.started")) == 3, 30, "the agent")
            wait_for_samples_after(receiver, time.time(), 2)
            assert agent.stop() == 0
        finally:
            agent.__exit__()
        times = own(receiver)
        absent = (times[-1] - times[0]) // 1000 + 1 - len(set(times))
        series = {series.labels for write in receiver.accepted for series in write.series}
        # A tick that was delivered after the last sync before the kill is not known, nor one in between.
        assert agent.destination("central")["ledger"]["missed"] <= (absent + 2) * len(series)
