"""A real agent that is stopped and continued, or frozen and thawed, at random moments; and what has to hold then.

The promise: it lives; every time of the grid at which it was awake has its ticks; the others are counted as missed, to
the sample; the receiver has each sample once; and nothing is said to have failed, for nothing has.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

from agent.collect import grid
from buffer.fs import RealFs
from buffer.model import ENDED
from buffer.reader import Reader
from tests.support.agent import HOSTNAME, QUICK, Agent
from tests.support.net import wait_for
from tests.support.receiver import Answer, Receiver

INTERVAL_MS = 1000
BEGUN_WITHIN = 0.7
"""Seconds behind a grid time in which its round has begun, also on a machine with much to do."""
EVERY = ("cpu", "memory", "disk_io", "network", "disk_usage", "host")
FALSE = {
    "agent.thread_died", "agent.thread_stuck", "collector.failed", "collector.timed_out", "collector.stuck",
    "collector.unreadable", "sender.failed", "buffer.append_failed", "buffer.sync_failed", "schedule.clock_stepped",
}  # fmt: skip

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
    with Receiver() as receiver, freezer(f"limpet-test-{os.getpid()}-{seed}") as freeze:
        receiver.default = Answer(delay_s=0.1)  # so that many a stop comes in the middle of a request
        agent = Agent(
            folder,
            [{"url": receiver.url, "name": "p", "queue_config": QUICK | {"batch_send_deadline": "500ms"}}],
            collect={"interval": "1s", "collectors": {name: {"interval": "1s"} for name in EVERY}},
        )
        with agent:
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
        assert {event["event"] for event in agent.events()} & FALSE == set()
        ticks = _ticks(agent)
        first, last = (grid.slot(int(at * 1000), INTERVAL_MS, _OFFSET) for at in (begun, ended - 1))
        wanted = [at for at in range(first, last + 1, INTERVAL_MS) if not _is_away(at / 1000, away)]
        for group, times in ticks.items():
            missing = [at for at in wanted if at not in times]
            assert not missing, f"{group} has no ticks at {missing}; it was stopped at {away}"
        missed = sum(
            (after - before - 1) // INTERVAL_MS * times[before]
            for times in ticks.values()
            for before, after in pairwise(sorted(times))
        )
        found = agent.destination("p")
        assert found["ledger"]["missed"] == missed
        assert found["pending_samples"] == sum(found["ledger"]["dropped"].values()) == 0
        assert {key: sorted(values) for key, values in receiver.received().items()} == agent.buffered()
        assert not receiver.broken
    return len(wanted), missed


_OFFSET = grid.offset(HOSTNAME, INTERVAL_MS)


def _is_away(at: float, stops: list[tuple[float, float]]) -> bool:
    return any(from_ - BEGUN_WITHIN <= at <= to for from_, to in stops)


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
