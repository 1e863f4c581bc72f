"""`limpet buffer status --fresh`: the health check of a container, on a real agent that works, hangs, is killed, or is new."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from agent.cli.status import not_fresh
from buffer.inspect.status import status as buffer_status
from tests.support.agent import Agent
from tests.support.limpet import Done, limpet
from tests.support.net import wait_for


def status(agent: Agent, within: str) -> Done:
    return limpet(agent.folder, "buffer status --data-dir", agent.data_dir, "--fresh", within, "--json")


def test_it_distinguishes_an_agent_that_works_from_one_that_does_not(tmp_path: Path) -> None:
    """No destination can be reached here, which is no illness."""
    away = {"url": "http://127.0.0.1:9/api/v1/write", "name": "away"}
    with Agent(tmp_path, [away]) as agent:
        wait_for(lambda: agent.status()["samples"], 15, "samples")
        well = status(agent, "10s")
        assert (well.status, well.err, well.json["writer_pid"]) == (0, "", agent.pid)

        os.kill(agent.pid, signal.SIGSTOP)
        wait_for(lambda: status(agent, "1s").status, 15, "the newest sample to age")
        stale = status(agent, "1s")
        assert (stale.status, stale.json["writer_pid"]) == (1, agent.pid)
        assert stale.err.startswith(f"{agent.data_dir}: the newest sample is ")

        agent.kill()
        dead = status(agent, "1h")
        assert (dead.status, dead.err) == (1, f"{agent.data_dir}: no agent writes to it\n")
        assert dead.json["samples"] == agent.status()["samples"]


def test_a_clock_that_was_set_back_is_no_illness(tmp_path: Path) -> None:
    found = buffer_status(str(tmp_path))._replace(writer_pid=812, newest_timestamp_ms=2_000_000)
    assert not_fresh(found, 60, now=1_000) is None
    assert not_fresh(found, 60, now=2_060) is None
    assert not_fresh(found, 60, now=2_061) == "the newest sample is 61 s old"
    assert not_fresh(found._replace(newest_timestamp_ms=None), 60, 0) == "it has no samples"


def test_a_folder_that_is_not_there_is_no_answer(tmp_path: Path) -> None:
    done = limpet(tmp_path, "buffer status --data-dir", tmp_path / "none", "--fresh", "1m", "--json")
    assert done.status == 2
