"""A real agent on a host that boots in 1970, and a real Prometheus: every tick arrives, at its true time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.agent import HOSTNAME, Agent
from tests.support.certs import Certs
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.receiver import Receiver

NAME = "prometheus"
DEADLINE = 60.0


Give = Callable[[Agent, Path, pytest.FixtureRequest], Callable[[float], None]]
"""Gives the agent a clock that the function it returns sets: so many seconds behind the right one."""


def by_python(agent: Agent, folder: Path, _: pytest.FixtureRequest | None) -> Callable[[float], None]:
    file = folder / "behind"
    agent.program = [sys.executable, "-m", "tests.support.shifted", file]

    def behind(seconds: float) -> None:
        new = folder / "behind.new"
        new.write_text(f"{seconds}")
        new.rename(file)  # no reader finds it empty

    return behind


def by_library(agent: Agent, folder: Path, request: pytest.FixtureRequest) -> Callable[[float], None]:
    """Give the agent the same by libfaketime, so that every call of the process has that clock."""
    library = request.getfixturevalue("faketime_library")
    file = folder / "faketime"
    agent.environment |= {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }

    def behind(seconds: float) -> None:
        new = folder / "faketime.new"
        new.write_text(f"{-seconds:+.3f}\n")
        new.rename(file)

    return behind


@pytest.mark.parametrize("by", [by_python, by_library])
def test_a_boot_in_1970_and_a_kill_cost_nothing(
    tmp_path: Path, prometheus_program: Path, request: pytest.FixtureRequest, by: Give
) -> None:
    prometheus = Prometheus(prometheus_program, tmp_path / "prometheus")
    agent = Agent(tmp_path / "agent", [{"url": prometheus.write_url, "name": NAME}])
    behind = by(agent, tmp_path, request)

    def pending() -> int:
        return int(agent.destination(NAME).get("pending_samples", 0))

    begun = time.time()
    behind(begun - 1000)
    with prometheus, agent:
        wait_for(lambda: pending() > 200, DEADLINE, "samples that wait")
        assert agent.events("clock.doubted")[0]["source"] == "ancient"
        agent.kill()
        behind(begun - 5000)
        agent.start()
        kept = pending()
        wait_for(lambda: pending() > kept + 100, DEADLINE, "more of them")
        assert agent.destination(NAME)["ledger"]["delivered"] == 0
        behind(0)
        wait_for(lambda: agent.events("clock.placed"), DEADLINE, "the clock to be believed")
        placed = agent.events("clock.placed")[0]
        wait_for(lambda: pending() == 0, DEADLINE, "everything to be sent")
        ended = time.time()
        agent.stop()
        ledger = agent.destination(NAME)["ledger"]
        match = f'memory_total_bytes{{hostname="{HOSTNAME}"}}'
        ((_, samples),) = prometheus.raw_samples(match, 0, int((ended + 3600) * 1000)).items()
    assert placed["samples"] >= kept + 100
    assert placed["estimated"] == 0
    assert set(ledger["dropped"].values()) <= {0}
    assert ledger["appended"] == ledger["delivered"] + ledger["pending"]
    times = [at / 1000 for at, _ in samples]
    assert begun - 2 <= times[0] <= begun + DEADLINE / 2
    assert times[-1] <= ended + 5
    assert all(after - before >= 1 for before, after in pairwise(times)), (
        times
    )  # none twice, none out of order
    appended = [
        one for labels, one in agent.buffered().items() if ("__name__", "memory_total_bytes") in labels
    ]
    assert [at for at, _ in appended[0]][: len(samples)] == [at for at, _ in samples]


def test_a_receiver_that_proves_itself_holds_up_what_a_wrong_clock_collects(
    tmp_path: Path, certs: Certs
) -> None:
    """A host that nothing vouches for, two hours behind: its clock is believed until the first answer, and again when it is right."""
    with Receiver(certs=certs) as receiver:
        to = {"url": receiver.url, "name": NAME, "tls_config": {"ca_file": str(certs.ca)}}
        agent = Agent(tmp_path / "agent", [to])
        agent.environment["HOST_ROOT"] = str(tmp_path)
        behind = by_python(agent, tmp_path, None)
        begun = time.time()
        behind(7200)
        with agent:
            wait_for(lambda: agent.events("clock.doubted"), DEADLINE, "the receiver's word")
            doubted = time.time()
            wait_for(lambda: agent.status()["provisional_samples"] > 100, DEADLINE, "samples that wait")
            behind(0)
            wait_for(lambda: agent.events("clock.placed"), DEADLINE, "the clock to be believed")
            placed = time.time()
            wait_for(lambda: max(times(receiver)) > placed, DEADLINE, "what is newer")
    assert [one["source"] for one in agent.events("clock.doubted")] == ["contradicted"]
    assert agent.events("clock.believed")[-1]["source"] == "receivers"
    assert agent.events("clock.placed")[0]["estimated"] == 0
    found = times(receiver)
    assert found == sorted(set(found))
    early = [at for at in found if at < begun - 3600]
    assert 1 <= len(early) <= doubted - begun + 2  # one each second until the first answer
    late = found[len(early) :]
    assert doubted - 3 <= late[0] <= doubted + 5
    assert all(1 <= after - before <= 3 for before, after in pairwise(late)), late


def times(receiver: Receiver) -> list[float]:
    """Return the times of one series, as they came."""
    return [
        at / 1000
        for write in receiver.accepted
        for series in write.series
        if ("__name__", "memory_total_bytes") in series.labels
        for at, _ in series.samples
    ]
