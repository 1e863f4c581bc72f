"""What `limpet collect` prints, read by those it is printed for: a real Prometheus, and a JSON parser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.collectors import COLLECTORS
from tests.support.limpet import LIMPET
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus

TABLE = {metric.name: metric for kind in COLLECTORS.values() for metric in kind.metrics}
EVIL = 'back\\slash "quoted"\nline → end'


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "limpet.yaml"
    file.write_text(yaml.safe_dump({"hostname": "web-01", "labels": {"role": EVIL}, "data_dir": "data"}))
    return file


def collect(*arguments: str | Path) -> str:
    command = [LIMPET, "collect", *map(str, arguments)]
    # Not inherited: readline, which pytest loads, sets COLUMNS behind Python's back.
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    done = subprocess.run(command, capture_output=True, timeout=60, check=True, env=environment)
    assert done.stderr == b""
    return done.stdout.decode()


@pytest.fixture(scope="module")
def exposition(config: Path) -> str:
    return collect("--format", "prometheus", "--config", config)


@pytest.fixture
def target(exposition: str) -> Iterator[str]:
    """An address at which the text can be scraped."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(exposition.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_prometheus_reads_all_of_it(
    exposition: str, target: str, tmp_path: Path, prometheus_program: Path
) -> None:
    job = {"job_name": "limpet", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump({"scrape_configs": [job]}))
    samples = [line for line in exposition.splitlines() if not line.startswith("#")]
    with Prometheus(prometheus_program, tmp_path / "prometheus", config=file) as server:
        wait_for(lambda: server.query("scrape_samples_scraped").values(), 30, "a scrape")
        assert list(server.query("up").values()) == [1.0]
        assert list(server.query("scrape_samples_scraped").values()) == [len(samples)]
        found = server.query('{hostname="web-01"}')
        assert len(found) == len(samples)
        assert all(dict(labels)["role"] == EVIL for labels in found)
        metadata = server._api("metadata", {})
    names = {line.partition("{")[0] for line in samples}
    for name in names:
        [known] = metadata[name]
        assert (known["type"], known["help"]) == (TABLE[name].type, TABLE[name].help)


def test_help_and_type_come_once_before_their_samples(exposition: str) -> None:
    told = re.findall(r"^# (HELP|TYPE) (\S+)", exposition, re.MULTILINE)
    assert len(told) == len(set(told))
    current = None
    for line in exposition.splitlines():
        if line.startswith("# TYPE"):
            current = line.split()[2]
        elif not line.startswith("#"):
            assert line.startswith(f"{current}{{")


def test_json(config: Path) -> None:
    found = json.loads(collect("--json", "--config", config))
    names = {one["name"] for one in found}
    # Rates are there, because there were two readings.
    assert {"cpu_usage_percent", "memory_total_bytes", "host_boot_time_seconds"} <= names
    for one in found:
        assert sorted(one) == ["help", "labels", "name", "type", "unit", "value"]
        assert one["labels"]["hostname"] == "web-01"
        assert one["labels"]["role"] == EVIL
        assert isinstance(one["value"], int | float)
    [total] = [one["value"] for one in found if one["name"] == "memory_total_bytes"]
    kib = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert kib
    assert total == int(kib[1]) * 1024
    assert not (config.parent / "data").exists()


def test_the_table_has_every_series(config: Path) -> None:
    rows = collect("--config", config).splitlines()
    names = {one["name"] for one in json.loads(collect("--json", "--config", config))}
    assert names <= {row.split()[0] for row in rows if row}
    assert rows[0] == r'web-01  role=back\\slash "quoted"\nline → end'.replace("\\\\", "\\")


def test_watch_prints_again_and_again(config: Path) -> None:
    command = [LIMPET, "collect", "--watch", "--interval", "200ms", "--json", "--config", str(config)]
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        found = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert time.monotonic() - begun >= 0.6
        process.terminate()
    assert found[0] != found[2]
