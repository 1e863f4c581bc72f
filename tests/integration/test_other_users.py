"""doctor, check-config, status as root next to an agent of another user, and as a stranger: real users, real rights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.support.limpet import as_user, started_by_root
from tests.support.net import wait_for
from tests.support.receiver import Receiver

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
SECONDS = 60
NOBODY, STRANGER = 65534, 60123
SECRET = "canary-of-root"


class Box(NamedTuple):
    """A folder that everybody may enter, with a data_dir of nobody's, for the agent."""

    folder: Path
    file: Path
    data_dir: Path
    receiver: Receiver

    def write(self, **to: object) -> None:
        central = {"url": self.receiver.url, "name": "central", **to}
        config = {"data_dir": str(self.data_dir), "collect": {"interval": "1s"}, "remote_write": [central]}
        self.file.write_text(yaml.safe_dump(config | {"buffer": {"min_free_space": "0%"}}))
        self.file.chmod(0o644)


@pytest.fixture
def box() -> Iterator[Box]:
    with tempfile.TemporaryDirectory() as name, Receiver() as receiver:
        folder = Path(name)
        folder.chmod(0o755)
        data_dir = folder / "data"
        data_dir.mkdir(0o700)
        os.chown(data_dir, NOBODY, NOBODY)
        found = Box(folder, folder / "limpet.yaml", data_dir, receiver)
        found.write()
        yield found


def secret(box: Box, mode: int) -> Path:
    path = box.folder / "password"
    path.write_text(SECRET)
    path.chmod(mode)
    box.write(basic_auth={"username": "a", "password_file": str(path)})
    return path


def test_root_finds_what_would_kill_the_agent(box: Box) -> None:
    """The password is for root alone: root can read it, and the agent cannot start."""
    path = secret(box, 0o600)
    for command in ("check-config", "doctor --config"):
        done = as_user(0, box.folder, command, box.file)
        assert done.status == 2
        assert f"{path} cannot be read by user nobody: permission denied" in done.err
        assert "The user of the agent has to be able to read it" in done.err
        assert SECRET not in done.out + done.err
    done = as_user(0, box.folder, "status --json --config", box.file)
    assert done.json["first"]["part"] == "configuration"
    assert "cannot be read by user nobody" in done.json["first"]["said"]

    path.chmod(0o644)
    assert as_user(0, box.folder, "check-config", box.file).status == 0
    assert "by user nobody" not in as_user(0, box.folder, "doctor --config", box.file).out


def test_root_sees_the_agent_and_judges_as_its_user(box: Box) -> None:
    agent = started_by_root(box.folder, box.file)
    try:
        wait_for(lambda: box.receiver.samples, SECONDS, "a delivery")
        done = as_user(0, box.folder, "doctor --json --config", box.file)
        steps = {(one["part"], one["step"]): one for one in done.json}
        assert f"process {agent.pid} runs" in steps["this host", "agent"]["said"]
        assert steps["this host", "data_dir"]["said"] == f"{box.data_dir}, nobody may write there"
        assert steps["this host", "permissions"]["ok"] is True
        assert steps["central", "empty write"]["ok"] is True
        # A file that root left there, and a folder that only root may enter.
        (box.data_dir / "segments" / "left").write_bytes(b"")
        (box.data_dir / "more").mkdir(0o700)
        done = as_user(0, box.folder, "doctor --config", box.file)
        assert "does not belong to nobody" in done.out
        assert done.out.splitlines()[-1].endswith(
            f"permissions: Give it back: chown -R nobody {box.data_dir}"
        )

        # A stranger hears whose it is, and neither that no agent runs, nor to give it to himself.
        done = as_user(STRANGER, box.folder, "doctor --json --config", box.file)
        assert done.status == 1
        steps = {(one["part"], one["step"]): one for one in done.json}
        for step in ("data_dir", "permissions", "lock", "buffer", "quarantine", "backlog of central"):
            found = steps["this host", step]
            assert (found["ok"], found["do"]) == (None, "Run this as root, or as nobody."), step
            assert f"{box.data_dir} belongs to nobody" in found["said"]
        assert "unknown" in steps["this host", "agent"]["said"]
        everything = as_user(STRANGER, box.folder, "doctor --config", box.file).out
        assert "none runs" not in everything
        assert "chown" not in everything
        assert everything.splitlines()[-1] == "Do first: this host, agent: Run this as root, or as nobody."
        # A data_dir that he may read, with a lock that he may not: still he cannot know.
        box.data_dir.chmod(0o755)
        found = as_user(STRANGER, box.folder, "status --json --config", box.file).json
        assert found["word"] == "unknown"
        assert "none runs" not in str(found)
    finally:
        agent.kill()
        agent.communicate()


def test_a_stranger_who_may_not_read_the_configuration(box: Box) -> None:
    box.file.chmod(0o600)
    for command in ("check-config", "doctor --config"):
        done = as_user(STRANGER, box.folder, command, box.file)
        assert done.status == 2
        assert f"cannot be read by user {STRANGER}: permission denied" in done.err
