"""The hours of a host that was cut off are missing in the tiers, and are computed again as docs/capacity.md says.

The page's own commands run against real servers; only paths and addresses are the test's.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml

from tests.conftest import program
from tests.support.net import wait_for
from tests.support.prometheus import CONFIG, Prometheus
from tests.support.receiver import HEADERS
from tests.support.wire import TimeSeries, encode

PAGE = Path(__file__).resolve().parents[2] / "docs" / "capacity.md"
SETUP = PAGE.parents[1] / "packaging" / "compose" / "setup.sh"
HOUR = 3600


def push(server: Prometheus, *series: TimeSeries) -> None:
    answer = httpx.post(server.write_url, content=encode(list(series)), headers=HEADERS["1.0"], timeout=30)
    assert answer.status_code == 204, answer.text


def cpu(host: str, samples: dict[int, float]) -> TimeSeries:
    labels = (("__name__", "cpu_usage_percent"), ("core", "all"), ("hostname", host))
    return TimeSeries(labels, tuple((at * 1000, value) for at, value in samples.items()))


def test_hours_that_came_late_are_computed_again(prometheus_program: Path, tmp_path: Path) -> None:
    promtool = program("promtool")
    config = yaml.safe_load(CONFIG.read_text())
    plain = tmp_path / "plain.yml"
    plain.write_text(yaml.safe_dump({"storage": config["storage"]}))
    hour = int(time.time()) // HOUR * HOUR
    first, last = hour - 5 * HOUR, hour - 2 * HOUR
    values = {at: (at - first) / 36 for at in range(first, last, 10)}  # a hundred more each hour

    commands = re.findall(r"exec (\w+) (promtool tsdb .*)", PAGE.read_text())
    assert [service for service, _ in commands] == ["prometheus", "year"]
    (hourly,) = re.findall(r"sed -n '(.*)' \"\$tiers\"", SETUP.read_text())
    all_tiers = CONFIG.parent / "rules" / "tiers.rules.yml"
    all_hours = subprocess.run(
        ["sed", "-n", hourly, all_tiers], capture_output=True, text=True, check=True
    ).stdout
    assert {group["name"][:8] for group in yaml.safe_load(all_hours)["groups"]} == {"tier-1h-"}
    tiers, hours = tmp_path / "tiers.rules.yml", tmp_path / "hours.rules.yml"
    for path, text in ((tiers, all_tiers.read_text()), (hours, all_hours)):
        groups = [group for group in yaml.safe_load(text)["groups"] if group["name"].endswith("-cpu")]
        path.write_text(yaml.safe_dump({"groups": groups}))  # the others have nothing to work on here

    with (
        Prometheus(prometheus_program, tmp_path / "prometheus", config=plain) as prometheus,
        Prometheus(prometheus_program, tmp_path / "year", config=plain) as year,
    ):
        now = int(time.time())
        for server in (prometheus, year):
            push(server, cpu("in-time", {now: 1.0}))
        push(prometheus, cpu("late", values))  # hours old, behind what others have: the tiers passed it by
        servers = {"prometheus": prometheus, "year": year}
        wait_for(
            lambda: prometheus.query('cpu_usage_percent{hostname="late"}', at=last - 1),
            10,
            "the late samples",
        )
        for service, command in commands:
            here = {
                "promtool": str(promtool),
                "https://prometheus:9090": prometheus.url,
                "/etc/prometheus/rules/tiers.rules.yml": str(tiers),
                "/secrets/hours.rules.yml": str(hours),
                "=/prometheus": f"={servers[service].folder / 'data'}",
                "2026-11-24T00:00:00Z": str(first),
                "2026-11-24T07:00:00Z": str(last),
            }
            for told, mine in here.items():
                command = command.replace(told, mine, 1)
            words = [word for word in shlex.split(command) if "--http.config.file" not in word]
            subprocess.run(words, capture_output=True, check=True, timeout=60)
            servers[service].stop()
            servers[service].start()

        found = year.raw_samples('cpu_usage_percent:avg_1h{hostname="late"}', first * 1000, last * 1000)
        ((_, samples),) = found.items()
        whole = [(at // 1000, value) for at, value in samples if first + HOUR <= at // 1000 < last]
        assert len(whole) == 2
        for end, value in whole:  # each at its rule group's own second of the hour, from minutes at theirs
            mean = sum(v for at, v in values.items() if end - HOUR < at <= end) / 360
            assert value == pytest.approx(mean, abs=4)
        names = {dict(labels)["__name__"] for labels in year.raw_samples('{hostname="late"}', 0, now * 1000)}
        assert names == {"cpu_usage_percent:avg_1h", "cpu_usage_percent:max_1h"}
