"""The process and its signals, as a real process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.support.agent import Agent


def test_a_process_that_was_stopped_and_continued_works_and_obeys(tmp_path: Path) -> None:
    """Python's sigtimedwait returns garbage where it is interrupted after its time is up."""
    agent = Agent(tmp_path, [], buffer={"sync_interval": "100ms"})
    with agent:
        for _ in range(5):
            os.kill(agent.pid, signal.SIGSTOP)
            time.sleep(0.3)  # longer than any wait of the process
            os.kill(agent.pid, signal.SIGCONT)
            time.sleep(0.1)
        agent.reload(labels={"role": "gateway"})
        assert agent.stop() == 0
    assert [event["event"] for event in agent.events() if event["level"] in ("error", "critical")] == []
    assert len(agent.events("agent.reloaded")) == 1
