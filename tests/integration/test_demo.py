"""`make run`, as a person runs it, but without a terminal: samples arrive, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.net import wait_for

ROOT = Path(__file__).resolve().parents[2]
COUNTS = re.compile(r"delivered: ([\d,]+) samples .* arrived: ([\d,]+) samples of \S+, ([\d,]+) series")


@pytest.fixture(autouse=True)
def server_in_the_cache(prometheus_program: Path) -> Path:
    return prometheus_program


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(tmp_path)
    yield process
    process.kill()
    process.communicate()


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tools.demo", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def children(process: subprocess.Popen[str]) -> list[psutil.Process] | None:
    """Return the agent and Prometheus once both are there."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error):  # gone, or just about to be
            if {"run", "--web.enable-remote-write-receiver"} & set(child.cmdline()):
                found.append(child)
    return found if len(found) == 2 else None


def test_samples_arrive_and_the_time_is_kept(tmp_path: Path) -> None:
    process = start(tmp_path, "--for", "25")
    said, _ = process.communicate(timeout=90)
    assert process.returncode == 0, said
    counts = [[int(number.replace(",", "")) for number in found] for found in COUNTS.findall(said)]
    _, samples, series = counts[-1]
    assert samples >= series >= 47, said
    assert any(delivered == arrived for delivered, arrived, _ in counts), said
    assert re.search(r"this host: CPU [\d.]+ %, memory [\d.]+ %", said), said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_it_ends_what_it_started_however_it_ends(demo: subprocess.Popen[str], number: signal.Signals) -> None:
    started = wait_for(lambda: children(demo), 60, "the agent and Prometheus")
    demo.send_signal(number)
    status = demo.wait(30)
    assert status == (-number if number is signal.SIGKILL else 0)
    gone, alive = psutil.wait_procs(started, timeout=20)
    assert (len(gone), alive) == (2, [])


def test_an_agent_that_dies_is_reported_with_the_end_of_its_log(demo: subprocess.Popen[str]) -> None:
    started = wait_for(lambda: children(demo), 60, "the agent and Prometheus")
    (agent,) = (child for child in started if "run" in child.cmdline())
    agent.kill()
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "The agent ended (status -9). The end of var/limpet.log:" in said
    assert not any(child.is_running() for child in started)
