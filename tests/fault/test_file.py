"""Files on media that come and go: the lane, and the real agent with real file systems that are missing, full or read-only."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import File
from agent.config.urls import public_url
from agent.destinations.base import Request
from agent.destinations.file.medium import MARKER
from agent.destinations.file.wire import FileWire
from agent.http.failures import Failure
from agent.ops.replay.selection import FIRST_MS, LAST_MS
from agent.ops.replay.source import SegmentHistory
from agent.send.state import State
from buffer.model import Labels, Tick
from tests.fault.test_mount_hangs import Mounts
from tests.support.agent import Agent
from tests.support.folders import OFTEN, by_labels, folder, manifests, samples_of, ticks_of
from tests.support.limpet import limpet
from tests.support.namespaces import entering, inside
from tests.support.net import wait_for
from tests.support.sending import host
from tests.support.server import tied
from tests.support.ticks import ends, values

DEADLINE = 60.0


def once(path: Path) -> dict[Labels, dict[int, float]]:
    """What is in the files, where no sample is twice."""
    found = samples_of(path)
    assert all(len({at for at, _ in of}) == len(of) for of in found.values())
    return {labels: dict(of) for labels, of in found.items()}


def kept(agent: Agent) -> Iterator[Tick]:
    """Everything that the agent has ever appended."""
    for piece in SegmentHistory(str(agent.data_dir), FIRST_MS, LAST_MS).pieces(0):
        yield from piece.ticks


def test_a_folder_without_a_medium_is_held_and_stays_empty(tmp_path: Path) -> None:
    there = tmp_path / "stick"
    there.mkdir()
    to = File(path=str(there / "limpet"), mount_point=str(there), name="there", queue_config=OFTEN)
    with host(tmp_path, to) as one:
        one.collect(15)
        assert one.held().startswith(f"nothing is mounted at {there}: mount the medium")
        assert list(there.iterdir()) == []
        (there / "limpet").mkdir()
        (there / "limpet" / MARKER).touch()
        one.settled()
        assert once(there) == one.expected


@pytest.mark.parametrize("form", ["jsonl", "segments"])
def test_agents_that_restart_write_each_sample_once(tmp_path: Path, form: str) -> None:
    to = folder(tmp_path / "stick", format=form)
    for _ in range(3):
        with host(tmp_path, to) as one:
            one.collect(25)
            one.settled()
            assert once(tmp_path / "stick") == one.expected
    assert len(manifests(tmp_path / "stick")) >= 3
    assert public_url(to.where) == f"file://{tmp_path}/stick"


def test_what_cannot_be_written_waits_or_is_held(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    with host(tmp_path, folder(stick)) as one:
        one.settled()
        (stick / "host").rename(stick / "aside")
        (stick / "host").symlink_to("/tmp")
        one.collect(5)
        wait_for(lambda: one.lane.state in (State.HELD, State.WAITING), DEADLINE, "trouble")
        assert "cannot be written" in str(one.lane.error)
        (stick / "host").unlink()
        (stick / "aside").rename(stick / "host")
        one.settled()
        assert once(stick) == one.expected


def test_an_agent_that_is_killed_again_and_again(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    folder(stick)
    queue = {"max_samples_per_send": 300, "batch_send_deadline": "50ms"}
    to = [{"path": str(stick), "name": "stick", "queue_config": queue}]
    agent = Agent(
        tmp_path / "agent",
        [],
        file=to,
        collect={"interval": "200ms", "collectors": {"sensors": {"enabled": False}}},
    )
    for number in range(4):
        agent.start()
        wait_for(lambda: len(list(stick.rglob("*.json"))) > 5 * (number + 1), DEADLINE, "files")  # noqa: B023
        agent.kill()
    with agent:
        wait_for(lambda: agent.destination("stick").get("pending_samples") == 0, DEADLINE, "the rest")
        assert agent.stop() == 0
    found = samples_of(stick)
    assert values(found) == values(by_labels(kept(agent)))
    assert ends(found) == ends(by_labels(kept(agent)))
    (ledger,) = [one["ledger"] for one in agent.status()["destinations"]]
    assert sum(map(len, found.values())) == ledger["delivered"]
    manifests(stick)


def test_doctor_and_check_config_look_at_the_medium(tmp_path: Path) -> None:
    stick, config = tmp_path / "stick", tmp_path / "limpet.yaml"
    config.write_text(
        f"data_dir: {tmp_path / 'data'}\nfile: [{{path: {stick}}}]\ncollect: {{collectors: {{}}}}\n"
    )
    checked = limpet(tmp_path, "check-config", config)
    assert (checked.status, f"nothing is mounted at {stick}" in checked.out + checked.err) == (0, True), (
        checked
    )
    done = limpet(tmp_path, "doctor", "--config", config, "--json")
    steps = {step["step"]: step for step in done.json if step["part"] == "stick"}
    assert [step["ok"] for step in steps.values()] == [False, None, None]
    assert MARKER in steps["medium"]["do"]

    stick.mkdir()
    (stick / MARKER).touch()
    checked = limpet(tmp_path, "check-config", config)
    assert "on the same volume as data_dir" in checked.out + checked.err
    done = limpet(tmp_path, "doctor", "--config", config, "--json")
    steps = {step["step"]: step for step in done.json if step["part"] == "stick"}
    assert list(steps) == ["medium", "room", "write"]
    assert all(step["ok"] for step in steps.values())
    assert [path.name for path in stick.iterdir()] == [MARKER]


def test_a_link_on_a_medium_is_not_followed(tmp_path: Path) -> None:
    """It would lead to the disk of the host."""
    mounted = Path("/dev/shm")
    if not mounted.is_mount():
        pytest.skip("nothing is mounted there")
    with tempfile.TemporaryDirectory(dir=mounted) as there:
        (Path(there) / "limpet").symlink_to(tmp_path)
        wire = FileWire(File(path=f"{there}/limpet", mount_point=str(mounted)), "a")
        answer = wire.exchange(Request(b"", 0, ""))
        wire.close()
    assert isinstance(answer, Failure)
    assert (answer.holds, "cannot be written" in answer.text) == (True, True)
    assert list(tmp_path.iterdir()) == []


class Namespace:
    """Mounts that nobody else sees, and commands among them."""

    def __init__(self, point: Path) -> None:
        self.point = point
        point.mkdir()
        command, environment = inside("echo ready\n", command=["sleep", "600"])
        self._holder = subprocess.Popen(tied(command), env=environment, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        self.entering = entering(self._holder.pid)

    def run(self, script: str) -> None:
        done = subprocess.run(
            [*self.entering, "sh", "-ec", script], capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode:
            pytest.skip(f"it cannot be mounted here: {done.stderr.strip()[-200:]}")

    @property
    def stick(self) -> Path:
        """The mount point as it is seen in there."""
        return Path(f"/proc/{self._holder.pid}/root{self.point}")

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate(timeout=DEADLINE)


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    one = Namespace(tmp_path / "stick")
    try:
        yield one
    finally:
        one.close()


@pytest.mark.parametrize("medium", ["tmpfs", "ext4"])
def test_a_medium_that_comes_goes_is_full_and_read_only(
    namespace: Namespace, tmp_path: Path, medium: str
) -> None:
    point = namespace.point
    mount = f"mount -t tmpfs -o size=4m tmpfs {point}"
    if medium == "ext4":
        if os.geteuid() != 0:
            pytest.skip("a loop device needs root")
        namespace.run(f"truncate -s 8M {tmp_path}/image && mkfs.ext4 -q -m 0 {tmp_path}/image")
        mount = f"mount -o loop {tmp_path}/image {point}"
    to = [{"path": f"{point}/limpet", "mount_point": str(point), "name": "stick", "queue_config": QUICK}]
    agent = Agent(tmp_path / "agent", [], file=to)
    agent.inside = namespace.entering

    def state(wanted: str, words: str = "") -> None:
        def look() -> bool:
            there = agent.destination("stick")
            return there.get("state") == wanted and words in (there.get("last_error") or "")

        wait_for(look, DEADLINE, f"{wanted}: {words}")

    def delivers() -> None:
        before = agent.destination("stick")["ledger"]["delivered"]
        wait_for(lambda: agent.destination("stick")["ledger"]["delivered"] > before, DEADLINE, "a file")

    with agent:
        state("held", "nothing is mounted")
        assert list(point.iterdir()) == []
        namespace.run(mount)
        delivers()
        assert list(point.iterdir()) == []  # of what is below the mount

        namespace.run(f"dd if=/dev/zero of={point}/fill bs=4k 2>/dev/null || true")
        state("waiting", "is full")
        namespace.run(f"rm {point}/fill")
        delivers()

        namespace.run(f"mount -o remount,ro {point}")
        state("held", "is read-only")
        namespace.run(f"mount -o remount,rw {point}")
        delivers()

        kept = samples_of(namespace.stick)
        if medium == "ext4":
            namespace.run(f"umount {point}")
            state("held", "nothing is mounted")
            namespace.run(mount)
            delivers()
        assert agent.stop() == 0
    found = samples_of(namespace.stick)
    assert all(found[labels][: len(of)] == of for labels, of in kept.items())
    (ledger,) = [one["ledger"] for one in agent.status()["destinations"]]
    assert sum(map(len, found.values())) == ledger["delivered"]
    once(namespace.stick)
    assert not any(ledger["dropped"].values())
    assert ticks_of(namespace.stick)


QUICK = {"min_backoff": "50ms", "max_backoff": "500ms", "batch_send_deadline": "200ms"}


def test_a_medium_that_hangs_delays_nobody(tmp_path: Path) -> None:
    with Mounts(tmp_path) as mounts:
        to = [{"path": str(mounts.dead), "name": "stick", "remote_timeout": "1s", "queue_config": QUICK}]
        agent = Agent(tmp_path / "agent", [], file=to)
        agent.inside = [*mounts.entering, "env", f"--chdir={os.getcwd()}"]

        def failing(words: str) -> None:
            wait_for(lambda: words in (agent.destination("stick").get("last_error") or ""), DEADLINE, words)

        with agent:
            mounts.hang()
            failing("has not answered")
            before = agent.status()["samples"]
            wait_for(lambda: agent.status()["samples"] > before + 100, DEADLINE, "samples that are collected")
            assert threads(agent.pid) < 20
            mounts.answer()
            failing("cannot be written")
            mounts.hang()
            failing("has not answered")
            assert agent.stop() == 0


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))
