"""A mount that really hangs in the kernel: the agent runs with a file system of FUSE whose server does not answer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Self

import pytest

from agent.system import answering
from tests.support import fuse
from tests.support.agent import Agent
from tests.support.limpet import command, environment
from tests.support.namespaces import entering, inside
from tests.support.net import wait_for

DEADLINE = 30.0
ROUNDS = 6


class Mounts:
    """A mount namespace with two file systems of FUSE, `fine` and `dead`, of which one can be made to hang."""

    def __init__(self, folder: Path) -> None:
        self.fine, self.dead = folder / "fine", folder / "dead"
        self._servers: dict[Path, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        module = [sys.executable, "-m", "tests.support.fuse"]
        self.fine.mkdir()
        command, environment = inside("", command=[*module, self.fine])
        self._serve(self.fine, command, environment)
        self.entering = entering(self._servers[self.fine].pid)
        self.dead.mkdir()
        there = ["env", f"--chdir={os.getcwd()}", *module, str(self.dead)]
        self._serve(self.dead, [*self.entering, *there], environment)
        return self

    def _serve(self, folder: Path, command: list[str], environment: Mapping[str, str]) -> None:
        pipe = subprocess.PIPE
        server = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
        self._servers[folder] = server
        assert server.stdout and server.stderr
        if server.stdout.readline() != "mounted\n":
            said = server.stderr.read().strip()
            self.__exit__()
            pytest.skip(f"FUSE cannot be mounted here: {said[-200:]}")

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.kill()
            server.communicate(timeout=DEADLINE)

    def hang(self) -> None:
        self._servers[self.dead].send_signal(fuse.HANG)

    def answer(self) -> None:
        self._servers[self.dead].send_signal(fuse.ANSWER)


@contextmanager
def running(folder: Path, mounts: Mounts, **config: object) -> Iterator[Agent]:
    others = {name: {"enabled": False} for name in ("memory", "network", "disk_io", "host")}
    disk_usage = {
        "interval": "1s",
        "include_mountpoints": [str(mounts.fine), str(mounts.dead), "/"],
        "include_fstypes": [".*"],
    }
    collect = {"interval": "1s", "collectors": {**others, "disk_usage": disk_usage}}
    agent = Agent(folder, [], collect=collect, **config)
    agent.inside = mounts.entering
    with agent:
        yield agent


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    with Mounts(tmp_path) as made:
        yield made


def series(agent: Agent, name: str, **labels: str) -> list[tuple[int, float]]:
    wanted = {("__name__", name), *labels.items()}
    return [sample for has, samples in agent.buffered().items() if wanted <= set(has) for sample in samples]


def threads(agent: Agent) -> int:
    """The fewest of some looks, because a thread that asks lives for a moment in each round."""
    looks = []
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        looks.append(len(os.listdir(f"/proc/{agent.pid}/task")))
        time.sleep(0.01)
    return min(looks)


def later(agent: Agent, name: str, rounds: int, **labels: str) -> Callable[[], bool]:
    """Whether the series has so many samples more than now."""
    before = len(series(agent, name, **labels))
    return lambda: len(series(agent, name, **labels)) >= before + rounds


def no_gaps(samples: list[tuple[int, float]]) -> bool:
    times = [at for at, _ in samples]
    return all(after - before == 1000 for before, after in pairwise(times))


def test_it_costs_one_thread_is_named_once_and_comes_back_by_itself(tmp_path: Path, mounts: Mounts) -> None:
    fine, dead = {"mountpoint": str(mounts.fine)}, {"mountpoint": str(mounts.dead)}
    with running(tmp_path / "agent", mounts) as agent:
        wait_for(later(agent, "disk_total_bytes", 2, **dead), DEADLINE, "the mount while it answers")
        usual = threads(agent)

        mounts.hang()
        wait_for(lambda: agent.events("collector.stuck"), DEADLINE, "the log to name it")
        answered = len(series(agent, "disk_total_bytes", **dead))
        wait_for(
            later(agent, "disk_total_bytes", ROUNDS, **fine), DEADLINE, "more samples of the other mount"
        )
        assert threads(agent) == usual + 1  # however many rounds it hangs
        assert len(series(agent, "disk_total_bytes", **dead)) == answered
        stuck = series(agent, "limpet_collector_stuck_seconds", collector="disk_usage", **dead)
        assert len(stuck) >= ROUNDS - 1
        assert [value for _, value in stuck] == sorted(value for _, value in stuck)
        assert stuck[-1][1] >= ROUNDS - 2
        unreadable = series(agent, "limpet_collector_unreadable_total", collector="disk_usage")
        assert unreadable[-1][1] >= ROUNDS - 1

        mounts.answer()
        wait_for(lambda: agent.events("collector.readable"), DEADLINE, "the log to say that it is back")
        wait_for(
            lambda: len(series(agent, "disk_total_bytes", **dead)) > answered + 1, DEADLINE, "its series"
        )
        assert threads(agent) == usual

        (said,) = agent.events("collector.stuck")
        assert (said["collector"], said["mountpoint"], said["level"]) == (
            "disk_usage",
            str(mounts.dead),
            "warning",
        )
        (over,) = agent.events("collector.readable")
        assert over["mountpoint"] == str(mounts.dead)
        assert agent.events("collector.timed_out") == agent.events("collector.failed") == []
        assert {value for _, value in series(agent, "disk_used_bytes", **dead)} == {600 * 4096}
        # The other mounts and collectors were in every round, the one in which it began to hang included.
        assert no_gaps(series(agent, "disk_total_bytes", **fine))
        assert no_gaps(series(agent, "load_average_1m"))
        assert no_gaps(unreadable)
        assert agent.stop() == 0


def test_the_agent_stops_in_time_while_a_mount_hangs(tmp_path: Path, mounts: Mounts) -> None:
    with running(tmp_path / "agent", mounts) as agent:
        mounts.hang()
        wait_for(lambda: agent.events("collector.stuck"), DEADLINE, "the log to name it")
        assert agent.stop() == 0


def test_its_name_is_masked_like_any_other(tmp_path: Path, mounts: Mounts) -> None:
    with running(tmp_path / "agent", mounts, mask=["mountpoint", "device"]) as agent:
        mounts.hang()
        (said, *_) = wait_for(lambda: agent.events("collector.stuck"), DEADLINE, "the log to name it")
        name = said["mountpoint"]
        wait_for(
            lambda: series(agent, "limpet_collector_stuck_seconds", mountpoint=name), DEADLINE, "the series"
        )
        assert agent.stop() == 0
    hidden = (str(mounts.dead), str(mounts.fine), "example:/acme")
    assert not [word for word in hidden if word in agent.log.read_text()]
    labels = " ".join(value for has in agent.buffered() for _, value in has)
    assert name in labels
    assert not [word for word in hidden if word in labels]
    for file in agent.data_dir.rglob("*"):
        if file.is_file():
            assert not [word for word in hidden if word.encode() in file.read_bytes()], file


COMMANDS = (
    "status",
    "status --json",
    "doctor",
    "check-config",
    "buffer status",
    "buffer tail",
    "retry",
    "buffer replay --to central",
)


def test_commands_on_a_data_dir_that_hangs_say_so_and_end(tmp_path: Path, mounts: Mounts) -> None:
    """A person who looks for the fault does not hang in it, too."""
    config = tmp_path / "limpet.yaml"
    config.write_text(f"data_dir: {mounts.dead}\n")
    mounts.hang()
    started = [
        subprocess.Popen(
            [*mounts.entering, *command(words, "--config", config)],
            env=environment(tmp_path) | {"COLUMNS": "80"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words in COMMANDS
    ]
    for words, process in zip(COMMANDS, started, strict=True):
        out, err = process.communicate(timeout=DEADLINE)
        said = " ".join((out + err).split())
        assert process.returncode == 1, f"{words}: {said}"
        assert "does not answer" in said, f"{words}: {said}"
        assert "Look for a mount that hangs (findmnt), and for a disk that fails (dmesg)." in said, words
    mounts.answer()


def test_a_folder_that_answers_late_is_looked_at_by_one_thread(tmp_path: Path) -> None:
    go, ended = threading.Event(), threading.Event()

    def touch(_: str) -> None:
        go.wait(DEADLINE)
        ended.set()

    before = threading.active_count()
    for _ in range(3):
        assert not answering.answers(str(tmp_path), 0.1, touch)
    assert threading.active_count() == before + 1
    go.set()
    assert ended.wait(DEADLINE)
    wait_for(lambda: answering.answers(str(tmp_path), DEADLINE), DEADLINE, "the folder")
    assert answering.answers(str(tmp_path / "missing"), DEADLINE)  # an error is an answer
