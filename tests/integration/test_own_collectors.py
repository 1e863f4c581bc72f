"""The page about own collectors, run as it is written, and collectors that do what none should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml

from buffer.model import is_stale
from tests.support.agent import Agent
from tests.support.limpet import LIMPET
from tests.support.net import wait_for
from tests.support.package import install
from tests.support.server import Samples

PAGE = (Path(__file__).parents[2] / "docs" / "own-collectors.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def values(samples: Samples, name: str) -> list[float]:
    found = [of for labels, of in samples.items() if ("__name__", name) in labels]
    return [value for of in found for _, value in of if not is_stale(value)]


def test_the_example_is_as_short_as_it_says() -> None:
    code = [line for line in block("python").splitlines() if line.strip()]
    assert len(code) <= 22
    compile(block("python"), "limpet_spool.py", "exec")


def test_the_example_builds_into_a_wheel_and_runs_in_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, site, spool = tmp_path / "limpet-spool", tmp_path / "site", tmp_path / "spool"
    for folder in (source, spool):
        folder.mkdir()
    (source / "limpet_spool.py").write_text(block("python"))
    (source / "pyproject.toml").write_text(block("toml"))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-build-isolation",
        "--no-deps",
    ]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True)
    for name in ("a", "b"):
        (spool / name).touch()
    os.utime(spool / "b", (time.time() - 90, time.time() - 90))

    monkeypatch.setenv("PYTHONPATH", str(site))
    collect = yaml.safe_load(block("yaml").replace("/var/spool/app", str(spool)))["collect"]
    collect["collectors"]["spool"]["interval"] = "1s"
    agent = Agent(tmp_path / "agent", [], collect={"interval": "1s", **collect})
    with agent:
        wait_for(lambda: len(values(agent.buffered(), "spool_files")) >= 3, 20, "some runs")
        subprocess.run([LIMPET, "check-config", str(agent.config_file)], check=True, capture_output=True)
        command = [LIMPET, "collect", "--format", "prometheus", "--config", str(agent.config_file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert f'spool_files{{folder="{spool}",hostname="test-host"}} 2.0\n' in done.stdout
        (spool / "a").unlink()
        (spool / "b").unlink()
        wait_for(lambda: values(agent.buffered(), "spool_files")[-1:] == [0.0], 20, "the folder to be empty")
        assert agent.stop() == 0
    assert {2.0, 0.0} <= set(values(agent.buffered(), "spool_files")) <= {2.0, 1.0, 0.0}
    assert all(90 <= value < 180 for value in values(agent.buffered(), "spool_oldest_age_seconds"))
    assert not any(
        event["level"] in ("warning", "error", "critical") for event in agent.events("collector.failed")
    )


def test_the_page_says_the_entry_point_s_group() -> None:
    assert tomllib.loads(block("toml"))["project"]["entry-points"]["limpet.collectors"] == {
        "spool": "limpet_spool:SPOOL"
    }


BAD = """
import sys, threading, time
from limpet.collectors import CollectorKind, Metric, Options, Sample

TABLE = (Metric("fine", "gauge", "", "Fine."),)
runs = {"turns": 0}

def raises(options, paths):
    def collect(now):
        raise ZeroDivisionError("of its own")
    return collect

def exits(options, paths):
    def collect(now):
        sys.exit("bye")
    return collect

def hangs(options, paths):
    return lambda now: threading.Event().wait()

def nonsense(options, paths):
    return lambda now: [Sample("unheard_of", 1.0)]

def unbuilt(options, paths):
    raise OSError("cannot be built")

def fine(options, paths):
    return lambda now: [Sample("fine", 1.0)]

def kind(build):
    return CollectorKind(TABLE, Options, build)

RAISES, EXITS, HANGS, NONSENSE, UNBUILT, FINE = map(kind, (raises, exits, hangs, nonsense, unbuilt, fine))
"""


def line_of(words: str) -> int:
    return 1 + next(number for number, line in enumerate(BAD.splitlines()) if words in line)


def test_collect_shows_where_an_own_collector_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "limpet_bad", BAD, {"raises": "limpet_bad:RAISES"})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    config = tmp_path / "limpet.yaml"
    config.write_text("mask: [mountpoint]\ndata_dir: data\ncollect: {collectors: {raises: {}}}\n")
    command = [LIMPET, "collect", "--json", "--interval", "100ms", "--config", str(config)]
    for options, is_shown in ([], False), (["--traceback"], True):
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"(limpet_bad.py:{line_of('ZeroDivisionError')})" in done.stderr
        assert ('raise ZeroDivisionError("of its own")' in done.stderr) == is_shown


NAMES = ("raises", "exits", "hangs", "nonsense", "unbuilt", "fine")


def test_nothing_that_an_own_collector_does_ends_or_delays_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    install(site, "limpet_bad", BAD, {name: f"limpet_bad:{name.upper()}" for name in NAMES})
    monkeypatch.setenv("PYTHONPATH", str(site))
    agent = Agent(tmp_path / "agent", [], collect={"interval": "1s", "collectors": dict.fromkeys(NAMES)})
    with agent:
        wait_for(lambda: len(values(agent.buffered(), "fine")) >= 5, 30, "some runs")
        wait_for(lambda: values(agent.buffered(), "limpet_collector_stuck_seconds"), 60, "one that hangs")
        assert agent.stop() == 0
    found = agent.buffered()
    ((labels, _),) = [
        one for one in found.items() if ("__name__", "limpet_collector_stuck_seconds") in one[0]
    ]
    assert dict(labels).items() >= {"collector": "hangs"}.items()
    for name in ("fine", "load_average_1m"):
        (of,) = [of for labels, of in found.items() if ("__name__", name) in labels]
        times = [at for at, value in of if not is_stale(value)]
        assert times == list(range(times[0], times[-1] + 1, 1000))
    assert len(values(found, "unheard_of")) == 0

    def told(event: str) -> dict[str, str]:
        loud = [one for one in agent.events(event) if one["level"] == "warning"]
        assert len({one["collector"] for one in loud}) == len(loud), "each is said once"
        return {one["collector"]: one.get("error", "") for one in loud}

    assert told("collector.failed") == {
        "raises": f"ZeroDivisionError: of its own (limpet_bad.py:{line_of('ZeroDivisionError')})",
        "exits": f"RuntimeError: it raised SystemExit: bye (limpet_bad.py:{line_of('sys.exit')})",
        "nonsense": "ValueError: it returned 'unheard_of', which is not in its table",
        "unbuilt": f"OSError: cannot be built (limpet_bad.py:{line_of('cannot be built')})",
    }
    [trace, *_] = [
        one["exception"]
        for one in agent.events("collector.failed")
        if one["level"] == "debug" and one["collector"] == "raises"
    ]
    assert 'raise ZeroDivisionError("of its own")' in trace
    assert told("collector.timed_out").keys() == {"hangs"}
    failures = {
        dict(labels)["collector"]: of[-2][1]
        for labels, of in found.items()
        if ("__name__", "limpet_collector_failures_total") in labels
    }
    assert all(failures[name] >= 3 for name in ("raises", "exits", "nonsense", "unbuilt"))
    assert failures["fine"] == 0
