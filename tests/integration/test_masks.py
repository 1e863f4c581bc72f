"""Masked names, end to end: what the real agent stores, logs and shows holds none of them, and stays comparable."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from agent.collect.mask import KEY_FILE
from agent.collectors import HostPaths
from agent.serve.app import ROUTES
from tests.support.agent import Agent
from tests.support.hosts import READING
from tests.support.limpet import LIMPET
from tests.support.net import wait_for
from tests.support.serving import Serving

MASKED = ("mountpoint", "device", "interface")
DEADLINE = 30.0
DIGITS = re.compile("[0-9a-f]{12}")
# Tmpfs too, so that a host of containers has something to mask.
EVERY_TYPE = (".*",)


def real_names(mountpoints: tuple[str, ...] = ()) -> dict[str, set[str]]:
    """The names on this machine, by label; of these mount points alone, if there are any."""
    found: dict[str, set[str]] = {label: set() for label in MASKED}
    for name, kind in READING.items():
        wanted = {"include_fstypes": EVERY_TYPE, "include_mountpoints": mountpoints}
        options = kind.options(**wanted) if name == "disk_usage" else kind.options()
        for sample in kind.build(options, HostPaths())(0.0):
            for label, value in sample.labels:
                if label in found:
                    found[label].add(value)
    return found


def told(text: str, names: dict[str, set[str]]) -> list[str]:
    """Which of the names a text holds; what is as short as `/` is no name that could be distinguished from others."""
    words = {name for of_label in names.values() for name in of_label if len(name) > 3 or name.isalnum()}
    words -= {"tmpfs", "overlay", "rootfs"}  # sources that are called as their type is, which is shown
    return [name for name in words if re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w/.-])", text)]


@pytest.fixture
def mountpoints() -> tuple[str, ...]:
    """Mount points that stay: other tests mount and unmount below the temporary folder meanwhile."""
    passing = f"{tempfile.gettempdir()}/"
    return tuple(re.escape(one) for one in real_names()["mountpoint"] if not one.startswith(passing))


@pytest.fixture
def agent(tmp_path: Path, mountpoints: tuple[str, ...]) -> Agent:
    usage = {"interval": "1s", "include_fstypes": EVERY_TYPE, "include_mountpoints": mountpoints}
    collect = {"interval": "1s", "collectors": {"disk_usage": usage}}
    return Agent(tmp_path / "agent", [], collect=collect, mask=list(MASKED))


def labels_of(agent: Agent) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {label: set() for label in MASKED}
    for labels in agent.buffered():
        for label, value in labels:
            if label in found:
                found[label].add(value)
    return found


def limpet(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [LIMPET, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_nothing_that_leaves_the_agent_holds_a_name(agent: Agent, mountpoints: tuple[str, ...]) -> None:
    names = real_names(mountpoints)
    assert names["interface"] or names["device"]
    with agent:
        wait_for(lambda: len(labels_of(agent)["mountpoint"]) == len(names["mountpoint"]), DEADLINE, "ticks")
        shown = [
            limpet("collect", "--config", agent.config_file, *form)
            for form in ((), ("--json",), ("--format", "prometheus"))
        ]
        shown.append(limpet("doctor", "--config", agent.config_file))
        shown.append(limpet("buffer", "tail", "-n", "200", "--config", agent.config_file))
        shown.append(limpet("buffer", "status", "--json", "--config", agent.config_file))
        shown.append(limpet("query", "--series", '{hostname!=""}', "--config", agent.config_file))
        shown.append(limpet("show", "disk", "--json", "--last", "1h", "--config", agent.config_file))
        collected = json.loads(shown[1].stdout)
        first = labels_of(agent)
        agent.stop()
    for label in MASKED:
        assert len(first[label]) == len(names[label])
        assert all(DIGITS.fullmatch(value) for value in first[label])
    for done in shown:
        assert told(done.stdout + done.stderr, names) == []
        assert done.stdout
    assert told(agent.log.read_text(), names) == []
    # `collect` reads the agent's key, so its values are the same.
    interfaces = {one["labels"]["interface"] for one in collected if "interface" in one["labels"]}
    assert interfaces == first["interface"]

    with agent:  # and they are the same after a restart
        count = len(agent.buffered())
        wait_for(lambda: agent.events("agent.started", 0)[1:], DEADLINE, "the second start")
        wait_for(lambda: len(agent.buffered()) >= count, DEADLINE, "ticks")
        agent.stop()
    assert labels_of(agent) == first
    key = agent.data_dir / KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.stat().st_uid == os.geteuid()


def test_no_answer_over_http_holds_a_name(agent: Agent, mountpoints: tuple[str, ...], tmp_path: Path) -> None:
    names = real_names(mountpoints)
    everything = {"query": '{hostname!=""}', "match[]": '{hostname!=""}'}
    paths = [*ROUTES, *(f"/api/v1/label/{label}/values" for label in MASKED)]
    paths.remove("/api/v1/query_range")
    with agent, Serving(tmp_path / "served", agent.data_dir) as server:
        wait_for(lambda: len(labels_of(agent)["mountpoint"]) == len(names["mountpoint"]), DEADLINE, "ticks")
        answers = {path: server.ask(path, everything) for path in paths}
        stored, log = labels_of(agent), server.log.read_text()
        agent.stop()
    for path, answered in answers.items():
        assert answered.status == 200, path
        assert told(answered.body.decode(), names) == [], path
    for label in MASKED:
        listed = set(answers[f"/api/v1/label/{label}/values"].json["data"])
        assert listed <= stored[label]
        assert listed or not names[label]
    for path in ("/metrics", "/api/v1/query", "/api/v1/series", "/api/v1/forecast"):
        assert any(one in answers[path].body.decode() for one in stored["mountpoint"]), path
    assert told(log, names) == []


def test_collecting_without_the_key_masks_all_the_same_and_says_so(
    agent: Agent, mountpoints: tuple[str, ...]
) -> None:
    names = real_names(mountpoints)
    agent.config_file.write_text(json.dumps(agent.config))
    done = limpet("collect", "--json", "--config", agent.config_file)
    assert done.returncode == 0
    assert told(done.stdout, names) == []
    assert (
        done.stderr
        == "mask: there is no key yet; masked names are hashed with a temporary key and differ from the agent's\n"
    )
    assert not agent.data_dir.exists()


def test_a_key_that_is_damaged_stops_the_start_and_says_what_to_do(agent: Agent) -> None:
    agent.config_file.write_text(json.dumps(agent.config))
    agent.data_dir.mkdir(parents=True)
    (agent.data_dir / KEY_FILE).write_text("spoiled")
    for command in ("run", "collect"):
        done = limpet(command, "--config", agent.config_file)
        assert done.returncode == 2
        assert (
            f"mask: {agent.data_dir / KEY_FILE} cannot be used: it does not hold 64 hex digits."
            in done.stderr
        )
        assert "Traceback" not in done.stderr
    assert (agent.data_dir / KEY_FILE).read_text() == "spoiled"
