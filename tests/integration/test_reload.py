"""SIGHUP: the configuration changes while everything runs, and nothing is missed, lost, or waited for."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import __version__, running
from agent.config import load_file
from agent.running import Note
from tests.support.agent import QUICK, Agent
from tests.support.limpet import LIMPET
from tests.support.net import free_port, wait_for
from tests.support.prometheus import Prometheus
from tests.support.receiver import Answer, Receiver
from tests.support.server import tied

MEMORY = "memory_available_bytes"
RELOADED = "limpet_config_reload_successful"


def balanced(agent: Agent) -> dict[str, dict[str, Any]]:
    """The destinations of the buffer by name; each of their ledgers balances."""
    found = {one["name"]: one for one in agent.status()["destinations"]}
    for one in found.values():
        ledger = one["ledger"]
        assert ledger["appended"] == ledger["delivered"] + one["pending_samples"] + sum(
            ledger["dropped"].values()
        )
    return found


def times(receiver: Receiver, name: str) -> list[int]:
    """When a metric was collected, whatever its other labels, as often as it arrived."""
    return [
        at
        for labels, samples in receiver.received().items()
        if dict(labels)["__name__"] == name
        for at, _ in samples
    ]


def latest(receiver: Receiver, name: str) -> float | None:
    """The newest value of a metric that arrived, whatever its other labels."""
    found = [
        sample
        for labels, samples in receiver.received().items()
        if dict(labels)["__name__"] == name
        for sample in samples
    ]
    return max(found)[1] if found else None


def note(agent: Agent) -> Note:
    """What the agent has left about itself in data_dir."""
    found = running.read(str(agent.data_dir))
    assert found is not None
    return found


def roles(receiver: Receiver) -> set[str | None]:
    """The values of the label `role` that have arrived."""
    return {dict(labels).get("role") for labels in receiver.received()}


def destination(receiver: Receiver, **settings: Any) -> dict[str, Any]:
    return {"url": receiver.url, "queue_config": QUICK, **settings}


@pytest.fixture
def receivers() -> Iterator[tuple[Receiver, Receiver]]:
    with Receiver() as one, Receiver() as other:
        yield one, other


def test_twenty_reloads_miss_nothing_and_lose_nothing(
    tmp_path: Path, prometheus_program: Path, receivers: tuple[Receiver, Receiver]
) -> None:
    """Everything changes but one label of `cpu`: on the grid each of its ticks arrived once, everywhere."""
    steady, other = receivers
    prometheus = Prometheus(prometheus_program, tmp_path / "prometheus")
    always = [{"url": prometheus.write_url, "name": "prometheus"}, destination(steady, name="steady")]
    changes: list[dict[str, Any]] = [
        {"collect": {"interval": "1s", "collectors": {"memory": {"enabled": False}}}},
        {"remote_write": [*always, destination(other, name="other")]},
        {"labels": {"role": "gateway"}},
        {"remote_write": [always[0], always[1] | {"protobuf_message": "prometheus.WriteRequest"}]},
        {
            "collect": {
                "interval": "1s",
                "collectors": {"disk_usage": {"interval": "2s"}, "textfile": {"directory": str(tmp_path)}},
            }
        },
        {
            "log": {"format": "json", "level": "info"},
            "buffer": {"sync_interval": "300ms", "max_size": "8MiB"},
        },
        {"labels": {}, "remote_write": [always[0] | {"remote_timeout": "7s"}, always[1]]},
        {"collect": {"interval": "1s", "collectors": {"network": {"exclude_interfaces": []}}}},
        {"remote_write": [*always, destination(other, name="other", start="now")]},
        {"collect": {"interval": "1s"}, "remote_write": always},
    ]
    agent = Agent(tmp_path / "agent", always)
    with prometheus, agent:
        wait_for(lambda: steady.samples, 20, "a delivery")
        for n in range(20):
            agent.reload(**changes[n % len(changes)])
            if n % 3:  # some at once, and some with a tick in between
                before = agent.status()["newest_timestamp_ms"]
                wait_for(lambda: agent.status()["newest_timestamp_ms"] > before, 10, "a tick")  # noqa: B023
        wait_for(lambda: agent.destination("steady")["ledger"]["missed"] == 0, 5, "a status")
        assert agent.stop() == 0
        assert agent.events("agent.stopped")[-1]["seconds"] < 5
        stored = prometheus.raw_samples('{hostname!=""}', 0, int(time.time() * 1000))
    assert not agent.events("agent.reload_refused")
    assert [event for event in agent.events() if event["level"] in ("warning", "error", "critical")] == []
    found = balanced(agent)
    assert {name: one["ledger"]["missed"] for name, one in found.items()} == dict.fromkeys(found, 0)
    assert set(found) == {"prometheus", "steady", "other"}
    for name in ("prometheus", "steady"):
        assert found[name]["pending_samples"] == sum(found[name]["ledger"]["dropped"].values()) == 0
    buffered = agent.buffered()
    assert stored == buffered
    assert {labels: sorted(samples) for labels, samples in steady.received().items()} == buffered
    assert not steady.broken
    for metric in ("cpu_usage_percent", "limpet_start_time_seconds"):
        gaps = {after - before for before, after in pairwise(sorted(set(times(steady, metric))))}
        assert gaps == {1000}, metric
    one_core = times(steady, "limpet_start_time_seconds")
    assert len(one_core) == len(set(one_core))
    ended = agent.ended()
    assert any(dict(labels)["__name__"] == MEMORY for labels in ended)


def test_a_note_says_what_runs_and_which_reload_was_refused(tmp_path: Path) -> None:
    """It is gone with a clean end only in that it says so; a killed agent leaves it as it was."""
    with Receiver() as receiver:
        agent = Agent(tmp_path, [destination(receiver, name="p")])
        with agent:
            first = note(agent)
            assert (first.pid, first.config, first.version) == (
                agent.pid,
                str(agent.config_file),
                __version__,
            )
            assert first.digest == load_file(agent.config_file).digest
            assert (first.refused_ms, first.problem, first.ended_ms) == (None, None, None)
            (problem,) = agent.reload("agent.reload_refused", log={"level": "loud"})["problems"]
            refused = wait_for(lambda: note(agent) if note(agent).refused_ms else None, 10, "the refusal")
            assert (refused.problem, refused.digest) == (problem, first.digest)
            wait_for(lambda: latest(receiver, RELOADED) == 0, 20, "the series")
            agent.reload(log={"level": "debug", "format": "json"}, labels={"role": "x"})
            applied = wait_for(lambda: note(agent) if not note(agent).refused_ms else None, 10, "the reload")
            assert applied.digest == load_file(agent.config_file).digest != first.digest
            assert (applied.started_ms, applied.problem) == (first.started_ms, None)
            assert applied.loaded_ms >= refused.loaded_ms
            wait_for(lambda: latest(receiver, RELOADED) == 1, 20, "the series")
            agent.kill()
        assert note(agent) == applied
        agent.start()
        assert note(agent).pid == agent.pid
        assert agent.stop() == 0
        assert note(agent).ended_ms is not None


def test_every_error_is_reported_at_once_and_nothing_is_applied(tmp_path: Path) -> None:
    with Receiver() as receiver:
        agent = Agent(tmp_path, [destination(receiver, name="p")])
        with agent:
            wait_for(lambda: receiver.samples, 20, "a delivery")
            told = agent.reload(
                "agent.reload_refused",
                labels={"role": "x"},
                collect={"intervall": "1s"},
                log={"level": "loud"},
            )
            assert [problem.partition(": ")[2].partition(": ")[0] for problem in told["problems"]] == [
                "collect.intervall",
                "log.level",
            ]
            assert "Did you mean interval?" in told["problems"][0]
            agent.config |= {"collect": {"interval": "1s"}, "log": {"level": "debug", "format": "json"}}
            (told,) = agent.reload("agent.reload_refused", data_dir="elsewhere")["problems"]
            assert told.startswith("data_dir: the buffer cannot move while the agent runs. Restart the agent")
            agent.config_file.unlink()
            os.kill(agent.pid, signal.SIGHUP)
            wait_for(
                lambda: len(agent.events("agent.reload_refused")) == 3, 10, "the report of the missing file"
            )
            os.mkfifo(agent.config_file)  # as a shell's <(...), which nobody writes a second time
            os.kill(agent.pid, signal.SIGHUP)
            wait_for(lambda: len(agent.events("agent.reload_refused")) == 4, 10, "the report of the pipe")
            agent.config_file.unlink()
            before = receiver.samples
            wait_for(lambda: receiver.samples > before, 10, "another delivery")
            assert agent.reload(data_dir="data", labels={"role": "y"})["changed"] == ["labels"]
            wait_for(lambda: "y" in roles(receiver), 10, "the new label")
            assert agent.stop() == 0
    assert not (tmp_path / "elsewhere").exists()
    assert roles(receiver) == {None, "y"}


def test_a_reload_that_changes_nothing_tries_now(tmp_path: Path) -> None:
    receiver = Receiver()
    waits = {**QUICK, "min_backoff": "10m", "max_backoff": "10m"}
    agent = Agent(tmp_path, [destination(receiver, name="p", queue_config=waits)])
    with agent:
        wait_for(lambda: agent.destination("p").get("state") == "waiting", 20, "the destination to wait")
        with receiver:
            assert agent.reload()["changed"] == []
            wait_for(lambda: receiver.samples, 20, "a delivery")
        assert agent.stop() == 0


def test_what_is_switched_off_ends_and_other_labels_are_other_series(tmp_path: Path) -> None:
    with Receiver() as receiver:
        every = {"disk_usage": {"interval": "1s", "include_mountpoints": ["/"]}}  # others come and go
        every["sensors"] = {"interval": "1s"}
        agent = Agent(
            tmp_path, [destination(receiver, name="p")], collect={"interval": "1s", "collectors": every}
        )
        with agent:
            wait_for(lambda: times(receiver, "cpu_usage_percent"), 20, "rates")
            agent.reload(collect={"interval": "1s", "collectors": every | {"memory": {"enabled": False}}})
            off = {
                labels
                for labels in receiver.received()
                if dict(labels)["__name__"].startswith(("memory_", "swap_"))
            }
            wait_for(lambda: set(receiver.ended()) >= off, 10, "the markers of what is off")
            wait_for(lambda: set(receiver.ended()) > off, 10, "the markers of the series about the collector")
            others = set(receiver.ended()) - off
            assert {dict(labels).get("collector") for labels in others} == {"memory"}
            agent.reload(labels={"role": "gateway"})
            wait_for(lambda: "gateway" in roles(receiver), 10, "the new label")
            agent.reload(collect={"interval": "1s", "collectors": every})
            seen = len(set(times(receiver, MEMORY)))
            wait_for(lambda: len(set(times(receiver, MEMORY))) > seen, 10, "memory to be back")
            agent.kill()
    ended, received = receiver.ended(), receiver.received()
    for labels, samples in received.items():
        if "role" in dict(labels):
            assert labels not in ended
        else:  # at the time of the first tick that has the label, or when it was switched off
            assert len(ended[labels]) == 1
            assert samples[-1][0] < ended[labels][0]
    assert agent.destination("p")["ledger"]["missed"] == 0


def test_a_destination_that_is_added_begins_at_the_oldest_sample_and_one_that_is_back_where_it_was(
    tmp_path: Path, receivers: tuple[Receiver, Receiver]
) -> None:
    first, second = receivers
    agent = Agent(tmp_path, [destination(first, name="first")])
    both = [destination(first, name="first"), destination(second, name="second")]
    with agent:
        wait_for(lambda: first.samples, 20, "a delivery")
        agent.reload(remote_write=both)
        wait_for(lambda: second.samples, 10, "a delivery to the new one")
        agent.reload(remote_write=both[1:])
        there = len(times(second, MEMORY))
        wait_for(lambda: len(times(second, MEMORY)) > there + 1, 10, "two ticks")
        assert agent.destination("first")["removed_timestamp_ms"]
        assert agent.destination("first")["pending_samples"] > 0
        agent.reload(remote_write=both)
        wait_for(lambda: set(times(first, MEMORY)) >= set(times(second, MEMORY)), 10, "the rest")
        assert agent.stop() == 0
        assert agent.destination("first")["removed_timestamp_ms"] is None
    buffered = agent.buffered()
    for receiver in receivers:
        assert {labels: sorted(samples) for labels, samples in receiver.received().items()} == buffered
    found = balanced(agent)
    assert found["first"]["pending_samples"] == found["second"]["pending_samples"] == 0


def test_nobody_waits_for_a_receiver_that_hangs(tmp_path: Path) -> None:
    """Neither a reload, which waits for two seconds and then continues with the other url, nor a stop right after it."""
    with Receiver() as hanging, Receiver() as good:
        hanging.default = Answer(hang=True)
        agent = Agent(
            tmp_path,
            [
                destination(
                    hanging, name="p", remote_timeout="60s", protobuf_message="io.prometheus.write.v2.Request"
                )
            ],
        )
        with agent:
            wait_for(lambda: hanging.requests, 20, "a request that hangs")
            begun = time.monotonic()
            agent.reload(
                remote_write=[destination(good, name="p", protobuf_message="prometheus.WriteRequest")]
            )
            wait_for(lambda: good.samples, 30, "the samples at the other url")
            assert time.monotonic() - begun < 30  # the remote timeout is 60
            first = hanging.requests[0].write.series[0]
            wait_for(lambda: set(first.samples) <= set(good.received().get(first.labels, [])), 30, "the same")
            agent.reload(remote_write=[destination(hanging, name="p", remote_timeout="60s")])
            asked = len(hanging.requests)
            wait_for(lambda: len(hanging.requests) > asked, 10, "another one")
            agent.config["remote_write"] = [destination(good, name="p")]
            agent.config_file.write_text(yaml.safe_dump(agent.config))
            os.kill(agent.pid, signal.SIGHUP)
            begun = time.monotonic()
            assert agent.stop() == 0
            assert time.monotonic() - begun < 30
        assert balanced(agent)["p"]["ledger"]["missed"] == 0


def test_hangups_one_after_another_while_it_drains(tmp_path: Path) -> None:
    """Every request takes its time: it is waited for, so that nothing is sent twice."""
    with Receiver() as receiver:
        receiver.default = Answer(delay_s=0.3)
        to = destination(receiver, name="p")
        agent = Agent(tmp_path, [to | {"url": f"http://127.0.0.1:{free_port()}/"}])
        with agent:
            wait_for(
                lambda: len(set(agent.buffered().get(next(iter(agent.buffered()), ()), []))) > 4,
                20,
                "a backlog",
            )
            small = {**QUICK, "max_samples_per_send": 100}
            for n in range(15):
                agent.config["remote_write"] = [to | {"queue_config": small, "remote_timeout": f"{20 + n}s"}]
                agent.config_file.write_text(yaml.safe_dump(agent.config))
                before = len(receiver.requests)
                os.kill(agent.pid, signal.SIGHUP)
                wait_for(lambda: len(receiver.requests) > before, 20, "another request")  # noqa: B023
            agent.reload(remote_write=[to])
            wait_for(lambda: agent.destination("p")["pending_samples"] < 150, 20, "the backlog to be sent")
            assert agent.stop() == 0
        assert agent.lost(receiver.received()) == {}
    assert balanced(agent)["p"]["ledger"]["missed"] == 0


def test_a_stop_comes_first(tmp_path: Path) -> None:
    """The kernel delivers a hangup before a stop. Hangups without end must not delay the stop forever."""
    with Agent(tmp_path, []) as agent:
        for number in (signal.SIGSTOP, signal.SIGHUP, signal.SIGTERM):
            os.kill(agent.pid, number)
        assert agent.stop(signal.SIGCONT) == 0
        assert agent.events("agent.stopped")
        assert not agent.events("agent.reloaded")


def test_without_the_terminal_that_it_was_started_on_a_hangup_stops_it(tmp_path: Path) -> None:
    agent = Agent(tmp_path, [])
    agent.config_file.write_text(yaml.safe_dump(agent.config | {"log": {"format": "json"}}))
    ours, its = pty.openpty()
    command = [LIMPET, "run", "--config", str(agent.config_file)]
    process = subprocess.Popen(tied(command), stdin=its, stdout=its, stderr=its, start_new_session=True)
    try:
        os.close(its)
        told = b""
        while b"agent.started" not in told:
            told += os.read(ours, 4096)
        process.send_signal(signal.SIGHUP)
        while b"agent.reloaded" not in told:
            told += os.read(ours, 4096)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(10) in (0, 1)  # what is left for standard output can be written nowhere
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert agent.status()["writer_pid"] is None


def test_a_file_of_labels_is_read_again_with_each_reload(tmp_path: Path) -> None:
    labels = tmp_path / "labels.yaml"
    labels.write_text("role: pump\n")
    with Receiver() as receiver:
        agent = Agent(tmp_path / "agent", [destination(receiver, name="p")], labels_file=str(labels))
        with agent:
            wait_for(lambda: "pump" in roles(receiver), 20, "the first label")
            labels.write_text("role: valve\n")
            assert load_file(agent.config_file).digest != note(agent).digest  # `status` and `doctor` say so
            assert agent.reload()["changed"] == ["labels"]
            wait_for(lambda: "valve" in roles(receiver), 20, "the second label")
            labels.write_text("hostname: other\n")
            (told,) = agent.reload("agent.reload_refused")["problems"]
            assert f"labels_file: {labels}, line 1: hostname: every series has this label already." in told
            before = agent.status()["newest_timestamp_ms"]
            wait_for(lambda: agent.status()["newest_timestamp_ms"] > before, 10, "a tick")
            assert agent.stop() == 0
    assert roles(receiver) == {"pump", "valve"}
