"""A process that is stopped and continued, or frozen and thawed, at random moments continues as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.agent import QUICK, Agent
from tests.support.exporter import Exporter, Page
from tests.support.net import wait_for
from tests.support.receiver import Answer, Receiver
from tests.support.stops import FALSE, endure, stopped


def test_agents_that_are_stopped_and_frozen_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    """The short form of tests/load/test_stops.py."""
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(endure, tmp_path / str(seed), seed, 5, 3.0) for seed in range(4)]
        found = [run.result() for run in runs]
    # Of one of them few grid times may be outside of the stops, or none within.
    assert sum(awake for awake, _ in found) > 8
    assert sum(missed for _, missed in found) > 0


def test_what_was_answered_while_it_was_stopped_is_read(tmp_path: Path) -> None:
    """By a receiver and by a target that were slow; the stop is longer than both timeouts."""
    large = b"# in many pieces\n" * 20_000 + b"app_requests_total 1.0\n"
    page, answer = Page(large, delay_s=0.7), Answer(delay_s=0.7)
    with Receiver() as receiver, Exporter({"/metrics": page}) as exporter:
        receiver.default = answer
        to = {"url": receiver.url, "name": "p", "remote_timeout": "2s", "queue_config": QUICK}
        target = {"url": f"{exporter.url}/metrics", "job": "app"}
        collect = {"interval": "2s", "collectors": {"scrape": {"targets": [target]}}}
        agent = Agent(tmp_path, [to], collect=collect)
        with agent:
            for heard in (receiver.requests, exporter.requests) * 2:
                before = len(heard)
                wait_for(lambda: len(heard) > before, 10, "a request")  # noqa: B023
                time.sleep(0.3)  # in the middle of it
                stopped(agent, 3.0)
            seen = receiver.samples
            wait_for(lambda: receiver.samples > seen, 20, "samples after the last stop")
            assert agent.stop() == 0
    assert not agent.events("scrape.failed")
    assert not agent.events("sender.retry")
    assert agent.lost(receiver.received()) == {}


def test_a_storm_of_signals_ends_and_loses_nothing(tmp_path: Path) -> None:
    """All that a process may get without an end being meant: reloads, stops, a window's size, a child's end."""
    storm = [signal.SIGHUP, signal.SIGSTOP, signal.SIGTSTP, signal.SIGWINCH, signal.SIGCHLD, signal.SIGURG]
    chance = random.Random(20261129)
    with Receiver() as receiver:
        agent = Agent(tmp_path, [{"url": receiver.url, "name": "p", "queue_config": QUICK}])
        with agent:
            for _ in range(400):
                os.kill(agent.pid, chance.choice(storm))
                time.sleep(chance.uniform(0, 0.01))
                os.kill(agent.pid, signal.SIGCONT)
                time.sleep(chance.uniform(0, 0.01))
            seen = receiver.samples
            wait_for(lambda: receiver.samples > seen, 20, "samples after the storm")
            agent.reload(labels={"role": "gateway"})
            assert agent.stop() == 0
        assert {event["event"] for event in agent.events()} & FALSE == set()
        assert agent.lost(receiver.received()) == {}
    assert agent.destination("p")["ledger"]["missed"] == 0
