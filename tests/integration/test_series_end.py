"""Series that end are gone from a real Prometheus at once, not after its five minutes; others are not."""

from __future__ import annotations

import resource
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support import ticks
from tests.support.agent import HOSTNAME, Agent
from tests.support.hosts import Host
from tests.support.limpet import limpet
from tests.support.net import free_port, wait_for
from tests.support.prometheus import Prometheus
from tests.support.receiver import Receiver

ALL = f'{{hostname="{HOSTNAME}"}}'
RATES = f"disk_queue_length{ALL}"  # there from the second round on, and then all of them are
SERVICE = "0::/system.slice/limpet.service\n"


def staged(folder: Path, url: str, cgroup: str = "0::/\n", **config: Any) -> tuple[Agent, Host]:
    """An agent on a recorded host, and that host. A second destination takes nothing: all stays in the log."""
    host = Host("server", folder / "host")
    (folder / "cgroup").write_text(cgroup)
    nobody = {"url": f"http://127.0.0.1:{free_port()}/", "name": "nobody"}
    agent = Agent(folder / "agent", [{"url": url, "name": "p"}, nobody], **config)
    agent.config["collect"] |= {"procfs": host.paths.proc, "sysfs": host.paths.sys}
    agent.program = [sys.executable, "-m", "tests.support.staged", folder / "cgroup"]
    return agent, host


def take_away(file: Path, name: str) -> None:
    """Rewrite one of the kernel's tables without what has this name."""
    lines = file.read_text().splitlines(keepends=True)
    kept = [line for line in lines if name not in line.replace(":", " ").split()]
    assert len(kept) < len(lines)
    whole = file.with_suffix(".new")
    whole.write_text("".join(kept))
    whole.rename(file)


def systemctl(folder: Path, agent: Agent, jobs: str) -> None:
    """Have the agent run as a service of a systemd with these jobs. There is no systemd here."""
    program = folder / "bin" / "systemctl"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\nprintf '{jobs}'\n")
    program.chmod(0o755)
    path = f"{program.parent}:{agent.environment['PATH']}"
    agent.environment |= {"PATH": path, "INVOCATION_ID": "0123456789abcdef0123456789abcdef"}


def settled(agent: Agent) -> dict[str, Any]:
    """The ledger of the destination that takes everything, with all settled."""
    found = agent.destination("p")
    ledger: dict[str, Any] = found["ledger"]
    assert found["pending_samples"] == 0
    assert ledger["appended"] == ledger["delivered"] == agent.appended()
    assert sum(ledger["dropped"].values()) == 0
    return ledger


def test_what_is_unplugged_is_gone_at_once_and_the_others_stay(
    tmp_path: Path, prometheus_program: Path
) -> None:
    prometheus = Prometheus(prometheus_program, tmp_path / "prometheus")
    agent, host = staged(tmp_path, prometheus.write_url, SERVICE)
    systemctl(tmp_path, agent, "17 limpet.service restart running\\n")
    unplugged = [f'{ALL[:-1]},interface="wlan0"}}', f'{ALL[:-1]},device="nvme0n1"}}']
    with prometheus, agent:
        wait_for(lambda: all(len(prometheus.query(one)) > 8 for one in unplugged), 20, "their series")
        before = set(prometheus.query(ALL))
        gone = set[Any]().union(*(prometheus.query(one) for one in unplugged))
        take_away(host.file("proc/net/dev"), "wlan0")
        take_away(host.file("proc/diskstats"), "nvme0n1")
        wait_for(
            lambda: not any(prometheus.query(one) for one in unplugged), 60, "them to be gone"
        )  # and not 300
        left = set(prometheus.query(ALL))
        assert left >= before - gone
        assert not left & gone
        assert set(agent.ended()) == gone
        # Plugged in again, they are simply there again.
        host.show("first")
        wait_for(lambda: set(prometheus.query(ALL)) >= before, 15, "them to be back")
        assert agent.stop() == 0  # for a restart, which ends nothing
        stored = prometheus.raw_samples(ALL, 0, int(time.time() * 1000))
    assert stored == agent.buffered()
    assert {len(of) for of in agent.ended().values()} == {1}
    assert settled(agent)["missed"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_after_a_clean_stop_no_series_of_the_host_is_there(
    tmp_path: Path, prometheus_program: Path, number: signal.Signals
) -> None:
    prometheus = Prometheus(prometheus_program, tmp_path / "prometheus")
    agent, _ = staged(tmp_path, prometheus.write_url)
    with prometheus, agent:
        wait_for(lambda: prometheus.query(RATES), 20, "all its series")
        # Some of the agent's own come with a later report; without them the next run would have more for good.
        wait_for(lambda: max(map(len, agent.buffered().values())) > 4, 20, "its series of later reports")
        wait_for(lambda: agent.destination("p")["state"] == "idle", 10, "a pause")
        assert agent.stop(number) == 0
        assert prometheus.query(ALL) == {}
        assert agent.events("agent.stopping")[-1]["series_end"] is True
        assert agent.events("agent.stopped")[-1]["seconds"] < 5
        stored = prometheus.raw_samples(ALL, 0, int(time.time() * 1000))
        assert stored == agent.buffered()
        assert set(agent.ended()) == set(stored)  # each of them, those of `limpet` too
        (ended,) = {at for of in agent.ended().values() for at in of}
        assert max(at for of in stored.values() for at, _ in of) < ended
        settled(agent)
        agent.start()
        wait_for(lambda: set(prometheus.query(ALL)) == set(stored), 20, "them to be back")


@pytest.mark.parametrize(("jobs", "ends"), [("restart running", False), ("stop running", True)])
def test_a_stop_by_systemd_ends_them_if_it_is_no_restart(
    tmp_path: Path, prometheus_program: Path, jobs: str, ends: bool
) -> None:
    prometheus = Prometheus(prometheus_program, tmp_path / "prometheus")
    agent, _ = staged(tmp_path, prometheus.write_url, SERVICE)
    systemctl(tmp_path, agent, f"17 limpet.service {jobs}\\n")
    with prometheus, agent:
        wait_for(lambda: prometheus.query(RATES), 20, "all its series")
        wait_for(lambda: agent.destination("p")["state"] == "idle", 10, "a pause")
        before = set(prometheus.query(ALL))
        assert agent.stop() == 0
        after = set(prometheus.query(ALL))  # some, such as the clock's, may have begun meanwhile
        assert after == set() if ends else after >= before
        assert agent.events("agent.stopping")[-1]["series_end"] is ends
        ended = set(agent.ended())
        assert ended >= before if ends else ended == set()
        settled(agent)


def test_a_kill_ends_nothing(tmp_path: Path) -> None:
    with Receiver() as receiver:
        agent, _ = staged(tmp_path, receiver.url)
        with agent:
            wait_for(lambda: receiver.samples, 20, "a delivery")
            agent.kill()
        assert agent.ended() == receiver.ended() == {}


def test_a_disk_that_takes_nothing_more_costs_neither_the_markers_nor_the_stop(tmp_path: Path) -> None:
    with Receiver() as receiver:
        agent, _ = staged(tmp_path, receiver.url)
        with agent:
            wait_for(lambda: receiver.samples, 20, "a delivery")
            resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (1, 1))  # every write fails, the log's too
            assert agent.stop() == 0
        assert agent.ended() == {}  # the markers are in memory, and the last try sends them
        assert receiver.ended().keys() == receiver.received().keys()
        assert agent.buffered()


def test_stops_and_starts_within_an_interval_leave_everything_in_order(
    tmp_path: Path, prometheus_program: Path
) -> None:
    """A Prometheus that takes nothing out of order refuses nothing: each start begins behind the markers."""
    settings = tmp_path / "prometheus.yml"
    settings.write_text("global: {scrape_interval: 1m}\n")
    prometheus = Prometheus(prometheus_program, tmp_path / "prometheus", config=settings)
    # Longer than a restart takes; and one collector that would not be due again for long.
    collect = {"interval": "3s", "collectors": {"disk_usage": {"interval": "10m"}}}
    agent, _ = staged(tmp_path, prometheus.write_url, collect=collect)
    mount = 'disk_total_bytes{mountpoint="/"}'
    with prometheus, agent:
        for stop in range(1, 4):
            wait_for(lambda: len(prometheus.query(mount)) == 1, 15, "the slow collector to be back soon")
            last = newest(agent)
            wait_for(lambda: newest(agent) > last, 10, "a round without it")  # noqa: B023
            assert agent.stop() == 0
            assert prometheus.query(ALL) == {}
            assert {len(of) for of in agent.ended().values()} <= set(range(1, stop + 1))
            agent.start()
        wait_for(lambda: len(prometheus.query(mount)) == 1, 15, "the slow collector to be back soon")
        assert agent.stop() == 0
        assert prometheus.raw_samples(ALL, 0, int(time.time() * 1000)) == agent.buffered()
    settled(agent)
    assert not agent.events("sender.aged")


def newest(agent: Agent) -> int:
    return max(at for of in agent.buffered().values() for at, _ in of)


def test_an_export_and_a_replay_bring_markers_through_in_their_place(tmp_path: Path) -> None:
    with Receiver() as direct, Receiver() as replayed:
        agent, host = staged(tmp_path, direct.url)
        with agent:
            for start in range(2):
                if start:
                    agent.start()
                seen = direct.samples
                wait_for(lambda: direct.samples > seen + 300, 20, "some deliveries")  # noqa: B023
                known = sum(map(len, agent.ended().values()))
                take_away(host.file("proc/net/dev"), "wlan0")
                wait_for(lambda: sum(map(len, agent.ended().values())) > known, 20, "an end")  # noqa: B023
                host.show("first")
                seen = direct.samples
                wait_for(lambda: direct.samples > seen + 300, 20, "some deliveries")  # noqa: B023
                assert agent.stop() == 0
        settled(agent)
        place = ("--data-dir", agent.data_dir)
        assert limpet(tmp_path, "buffer verify", *place).status == 0
        shown = limpet(tmp_path, "buffer tail", *place, "-n", "1")
        assert ".ended " in shown.out
        file = tmp_path / "all.jsonl"
        assert limpet(tmp_path, "buffer export", *place, "--output", file).status == 0
        # Requests of a few hundred samples, so that the order of the file is that of arrival.
        config = tmp_path / "to.yaml"
        config.write_text(
            f"remote_write: [{{url: '{replayed.url}', name: to, queue_config: {{max_samples_per_send: 100}}}}]\n"
        )
        done = limpet(tmp_path, "buffer replay --from", file, "--config", config, "--to", "to", "--json")
        assert done.status == 0, done
        assert done.json["delivered"] == agent.appended()
        for receiver in (direct, replayed):
            assert receiver.received() == agent.buffered()
            assert receiver.ended() == agent.ended()
            for samples in receiver.everything().values():
                assert all(a < b for (a, _), (b, _) in pairwise(samples))
        stale = next(v for of in replayed.everything().values() for _, v in of if v != v)
        assert ticks.bits([stale]).hex() == "020000000000f07f"
        found = limpet(tmp_path, "buffer export", *place, "--format", "openmetrics", "--output", "-")
        assert found.status == 0
        assert "NaN" not in found.out
