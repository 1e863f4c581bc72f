"""`limpet retry` with the real agent: a wait of ten minutes ends at once; where nothing can be tried, the reason is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from buffer.buffer import Buffer
from buffer.limits import Limits
from tests.support.agent import Agent
from tests.support.limpet import as_user, called, limpet
from tests.support.net import wait_for
from tests.support.receiver import Answer, Receiver
from tests.support.server import tied

SECONDS = 60
LONG_MS = 300_000
NOBODY = 65534


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


@pytest.fixture
def agent(tmp_path: Path, receiver: Receiver) -> Iterator[Agent]:
    """It waits for ten minutes, since the receiver asks for that."""
    receiver.default = Answer(503, headers={"Retry-After": "600"})
    with Agent(tmp_path, [{"url": receiver.url, "name": "central"}]) as one:

        def waits_long() -> bool:
            found = one.destination("central")
            return (found.get("next_try_timestamp_ms") or 0) - (
                one.status()["newest_timestamp_ms"] or 0
            ) > LONG_MS

        wait_for(waits_long, SECONDS, "a long wait")
        yield one


def test_a_long_wait_ends_at_once(agent: Agent, receiver: Receiver, tmp_path: Path) -> None:
    file = agent.config_file
    receiver.default = Answer(204)
    done = limpet(tmp_path, "retry --wait 30s --json --config", file)
    assert (done.status, done.err) == (0, "")
    found = done.json
    assert found["pid"] == agent.pid
    [central] = found["destinations"]
    assert (central["name"], central["before"]) == ("central", "waiting")
    assert central["state"] in ("sending", "idle")
    assert receiver.samples
    # Then there is nothing to try.
    done = called(tmp_path, "retry", "--data-dir", str(agent.data_dir))
    assert (done.status, done.out.splitlines()[-1]) == (0, "no destination was in trouble")


def test_one_that_is_still_in_trouble_is_named(agent: Agent, receiver: Receiver, tmp_path: Path) -> None:
    receiver.default = Answer(401)
    done = called(tmp_path, "retry", "--wait", "3s", "--config", str(agent.config_file))
    assert done.status == 1
    assert "central: still " in done.out
    wait_for(lambda: agent.destination("central").get("state") == "held", SECONDS, "held")
    done = called(tmp_path, "retry", "--wait", "100ms", "--config", str(agent.config_file))
    assert (done.status, "central: still held: HTTP 401" in done.out) == (1, True)


def test_a_configuration_with_errors_is_not_asked_for(agent: Agent, tmp_path: Path) -> None:
    before = agent.config_file.read_text()
    agent.config_file.write_text(before + "colect: {}\n")
    done = called(tmp_path, "retry", "--config", str(agent.config_file))
    assert done.status == 1
    assert "colect" in done.err
    assert "check-config" in done.err
    assert agent.events("agent.reload_refused") == []
    # A corrected one is applied with the try.
    agent.config_file.write_text(yaml.safe_dump(yaml.safe_load(before) | {"labels": {"role": "gateway"}}))
    done = called(tmp_path, "retry", "--wait", "100ms", "--config", str(agent.config_file))
    assert "has changed since the agent read it" in done.out
    wait_for(lambda: agent.events("agent.reloaded"), SECONDS, "the reload")


def test_without_an_agent_it_says_how_to_start_one(agent: Agent, tmp_path: Path) -> None:
    agent.stop()
    done = called(tmp_path, "retry", "--config", str(agent.config_file))
    assert (done.status, done.out) == (1, "")
    assert "none runs: it was stopped" in done.err
    assert "Start it: limpet run --config" in done.err


def test_no_other_program_is_sent_a_signal(tmp_path: Path) -> None:
    """The lock names a process that is no agent, and that SIGHUP would end."""
    folder = tmp_path / "data"
    Buffer(str(folder), Limits(1 << 20), ["central"]).close()
    text = "import sys, signal; from buffer.lock import Lock; held = Lock(sys.argv[1]); print(flush=True); signal.pause()"
    other = subprocess.Popen(tied([sys.executable, "-c", text, str(folder / "lock")]), stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"\n"
        done = called(tmp_path, "retry", "--data-dir", str(folder))
        assert done.status == 1
        assert "cannot be seen to be an agent" in done.err
        other.send_signal(signal.SIGTERM)  # which ends it, unless it was ended
        assert other.wait(SECONDS) == -signal.SIGTERM
    finally:
        other.kill()
        other.wait()
        assert other.stdout is not None
        other.stdout.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_stranger_learns_who_may_ask(receiver: Receiver) -> None:
    """He may read the folder and the configuration, but is neither root nor the owner."""
    with tempfile.TemporaryDirectory() as name:  # not below tmp_path, into which only root may look
        folder = Path(name)
        folder.chmod(0o755)
        with Agent(folder, [{"url": receiver.url, "name": "central"}]) as agent:
            wait_for(lambda: receiver.samples, SECONDS, "a delivery")
            for path in (agent.data_dir, *agent.data_dir.rglob("*")):
                path.chmod(0o755)
            done = as_user(NOBODY, folder, "retry --config", agent.config_file)
            assert (done.status, done.out) == (1, "")
            assert "Run this as root." in done.err
            assert agent.events("agent.reloaded") == []
