"""`limpet collect` in this process: collectors that hang, fail and come back, and what is printed of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.cli import collect
from agent.cli import main as cli
from agent.collectors import Collect, CollectorKind, HostPaths, Metric, Options, Sample
from agent.config import Config, load
from agent.ops.collect import Collectors
from tests.support.net import free_port

METRICS = (Metric("probe_bytes", "gauge", "bytes", "A probe."),)


class Probe:
    """A collector that hangs while its gate is closed, and raises while it is broken."""

    def __init__(self) -> None:
        self.gate, self.broken, self.runs = threading.Event(), False, 0
        self.gate.set()

    def build(self, options: Options, paths: HostPaths) -> Collect:
        def run(now: float) -> list[Sample]:
            self.runs += 1
            assert self.gate.wait(30)
            if self.broken:
                raise OSError(5, "Input/output error")
            return [Sample("probe_bytes", 2048.0, (("device", "a"),))]

        return run


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Probe]]:
    found = {"one": Probe(), "two": Probe()}
    kinds = {name: CollectorKind(METRICS, Options, probe.build) for name, probe in found.items()}
    monkeypatch.setattr("agent.collect.plans.COLLECTORS", kinds)
    monkeypatch.setattr("agent.config.schema.OPTIONS", dict.fromkeys(kinds, Options))
    monkeypatch.setattr(collect, "ONCE_SECONDS", 0.01)
    yield found
    for probe in found.values():
        probe.gate.set()


def test_the_labels_of_the_configuration(probes: dict[str, Probe]) -> None:
    config = load("{hostname: web-01, labels: {role: gateway}, remote_write: []}", "x.yaml").config
    with closing(Collectors(config)) as collectors:
        groups = collectors.read()
    assert [group.name for group in groups] == ["one", "two"]
    [(series, value)] = groups[0].readings
    assert series.labels == (("device", "a"), ("hostname", "web-01"), ("role", "gateway"))
    assert (series.name, series.type, series.unit, series.help) == (
        "probe_bytes",
        "gauge",
        "bytes",
        "A probe.",
    )
    assert value == 2048.0


def test_a_collector_that_hangs_is_left_behind_and_comes_back(probes: dict[str, Probe]) -> None:
    probes["one"].gate.clear()
    collectors = Collectors(Config())
    collectors._patience = 0.05
    for _ in range(3):
        one, two = collectors.read()
        assert one.problem == "it takes longer than 0.05 s, and was left behind"
        assert (two.problem, len(two.readings)) == (None, 1)
    assert (probes["one"].runs, probes["two"].runs) == (1, 3)  # it is not started again while it hangs
    probes["one"].gate.set()
    collectors._patience = 30
    while (one := collectors.read()[0]).problem:
        pass
    assert len(one.readings) == 1
    collectors.close()


def test_it_runs_twice_and_says_what_failed(
    probes: dict[str, Probe], capsys: pytest.CaptureFixture[str]
) -> None:
    probes["two"].broken = True
    assert cli.main(["collect", "--json"]) == 1
    said = capsys.readouterr()
    assert [one["name"] for one in json.loads(said.out)] == ["probe_bytes"]
    assert (
        said.err == "two: it cannot be read: OSError: [Errno 5] Input/output error (test_cli_collect.py:35)\n"
    )
    assert (probes["one"].runs, probes["two"].runs) == (2, 2)
    probes["two"].broken = False
    assert cli.main(["collect", "--format", "table"]) == 0
    assert capsys.readouterr().out.count("2 KiB") == 2


def test_what_is_wrong_with_one_that_was_read_is_reported_next_to_its_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(collect, "ONCE_SECONDS", 0.01)
    (tmp_path / "a.prom").write_text("bad\n")
    port = free_port()
    config = tmp_path / "limpet.yaml"
    target = f"{{url: 'http://127.0.0.1:{port}', job: app}}"
    config.write_text(
        f"collect: {{collectors: {{scrape: {{targets: [{target}]}}, textfile: {{directory: .}}}}}}\n"
    )
    for form in ("prometheus", "table"):
        assert cli.main(["collect", "--config", str(config), "--format", form]) == 1
        said = capsys.readouterr()
        assert f"scrape/app/127.0.0.1:{port}: no connection with 127.0.0.1: connection refused\n" in said.err
        assert f"textfile: {tmp_path}/a.prom: 1 line left out; not a sample: 'bad'\n" in said.err
        assert "node_textfile_scrape_error" in said.out
        assert "scrape_samples_scraped" in said.out


def test_a_wrong_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["collect", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: the file cannot be read: no such file" in capsys.readouterr().err
