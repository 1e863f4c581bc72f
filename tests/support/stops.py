"""A real agent that is stopped and continued, or frozen and thawed, at random moments; and what has to hold then.

The promise: it lives; every time of the grid at which it was awake has its ticks; the others are counted as missed, to
the sample; the receiver has each sample once; and nothing is said to have failed, for nothing has.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

from agent.collect import grid
from buffer.fs import RealFs
from buffer.model import ENDED
from buffer.reader import Reader
from tests.support.agent import QUICK, Agent
from tests.support.exporter import Exporter, Page
from tests.support.net import wait_for
from tests.support.receiver import Answer, Receiver

INTERVAL_MS, SCRAPE_MS = 1000, 4000
BEGUN_WITHIN = 0.7
"""Seconds behind a grid time in which its round has begun, also on a machine with much to do."""
EVERY = ("cpu", "memory", "disk_io", "network", "disk_usage", "host", "sensors")
FALSE = {
    "agent.thread_died", "agent.thread_stuck", "collector.failed", "collector.timed_out", "collector.stuck",
    "collector.unreadable", "sender.failed", "scrape.failed", "sender.retry", "buffer.append_failed", "buffer.sync_failed", "schedule.clock_stepped",
}  # fmt: skip

_STARTS = threading.Lock()
"""One at a time: twenty at once would take too long."""

Pause = Callable[[Agent, float], None]


def stopped(agent: Agent, seconds: float) -> None:
    """Stop it for so long, and continue it."""
    os.kill(agent.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(agent.pid, signal.SIGCONT)


@contextmanager
def freezer(name: str) -> Iterator[Pause | None]:
    """Yield what freezes an agent in a cgroup of its own, which is removed at the end; None where that may not be done."""
    for mount, control, frozen, thawed in (
        ("/sys/fs/cgroup", "cgroup.freeze", "1", "0"),
        ("/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0"),
        ("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"),
    ):
        folder = Path(mount) / name
        try:
            folder.mkdir()
        except OSError:
            continue
        if not (folder / control).exists():
            folder.rmdir()
            continue

        def freeze(agent: Agent, seconds: float, at: Path = folder / control) -> None:
            (at.parent / "cgroup.procs").write_text(str(agent.pid))
            at.write_text(frozen)  # noqa: B023  called before the next turn of the loop
            time.sleep(seconds)
            at.write_text(thawed)  # noqa: B023

        try:
            yield freeze
        finally:
            (folder / control).write_text(thawed)
            wait_for(partial(_removed, folder), 10, "the cgroup to be empty")
        return
    yield None


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def endure(folder: Path, seed: int, stops: int, longest: float) -> tuple[int, int]:
    """Stop an agent that often, each time up to `longest` seconds; return how many grid times it was awake for and missed."""
    chance = random.Random(seed)
    away: list[tuple[float, float]] = []
    # So slow that many a stop comes in the middle of a request, and for longer than its timeout.
    page, answer = Page(b"app_requests_total 1.0\n", drip_s=0.02), Answer(delay_s=0.3)
    name = f"limpet-test-{os.getpid()}-{seed}"  # each has its own place on the grid
    with Receiver() as receiver, Exporter({"/metrics": page}) as exporter, freezer(name) as freeze:
        receiver.default = answer
        to = {"url": receiver.url, "name": "p", "remote_timeout": "5s", "queue_config": QUICK}
        # More than the page takes on a machine with much to do, and less than many a stop.
        target = {"url": f"{exporter.url}/metrics", "job": "app", "timeout": "3s"}
        collectors = {name: {"interval": "1s"} for name in EVERY} | {
            "scrape": {"interval": f"{SCRAPE_MS}ms", "targets": [target]}
        }
        agent = Agent(folder, [to], hostname=name, collect={"interval": "1s", "collectors": collectors})
        with ExitStack() as stack:
            with _STARTS:
                stack.enter_context(agent)
            begun = time.time()
            for n in range(stops):
                time.sleep(chance.uniform(0.05, 4.0))
                from_, pause = time.time(), (freeze if freeze is not None and n % 2 else stopped)
                pause(agent, chance.uniform(0.1, longest))
                away.append((from_, time.time()))
            seen = receiver.samples
            wait_for(lambda: receiver.samples > seen, 30, "samples after the last stop")
            ended = time.time()
            wait_for(lambda: agent.destination("p").get("lag_seconds", 99) < 5, 30, "the drain")
            assert agent.stop() == 0
        false = [event for event in agent.events() if event["event"] in FALSE]
        assert not false, false
        ticks = _ticks(agent)
        missed = 0
        for group, times in ticks.items():
            interval = SCRAPE_MS if group.startswith("scrape/") else INTERVAL_MS
            # The late run right behind a stop, or behind the start, still takes its time when the next one is due.
            busy = 1.0 if group.startswith("scrape/") else 0.0
            wanted = _awake(name, begun + busy, ended - 3, interval, [(at, to + busy) for at, to in away])
            missing = [at for at in wanted if at not in times]
            assert not missing, f"{group} has no ticks at {missing}; it was stopped at {away}"
            missed += sum(
                (after - before - 1) // interval * times[before] for before, after in pairwise(sorted(times))
            )
        found = agent.destination("p")
        assert found["ledger"]["missed"] == missed
        assert not any(found["ledger"]["dropped"].values())
        assert agent.lost(receiver.received()) == {}
        assert not receiver.broken
        up = {
            value
            for key, samples in agent.buffered().items()
            if ("__name__", "up") in key
            for _, value in samples
        }
        assert up == {1.0}
    return len(_awake(name, begun, ended, INTERVAL_MS, away)), missed


def _awake(
    name: str, begun: float, ended: float, interval: int, stops: list[tuple[float, float]]
) -> list[int]:
    """Return the grid times at which the agent was awake."""
    offset = grid.offset(name, interval)
    first, last = (grid.slot(int(at * 1000), interval, offset) for at in (begun, ended))
    return [
        at
        for at in range(first + interval, last + 1, interval)
        if not any(from_ - BEGUN_WITHIN <= at / 1000 <= to for from_, to in stops)
    ]


def _ticks(agent: Agent) -> dict[str, dict[int, int]]:
    """Return for each group when it has ticks, and how many samples each."""
    found: dict[str, dict[int, int]] = {}
    reader = Reader(RealFs(), str(agent.data_dir / "segments"))
    while (entry := reader.next()) is not None:
        for tick in entry.ticks:
            if not tick.group.endswith(ENDED):
                assert tick.at.wall_ms not in found.setdefault(tick.group, {})
                found[tick.group][tick.at.wall_ms] = len(tick.values)
    reader.close()
    return found
