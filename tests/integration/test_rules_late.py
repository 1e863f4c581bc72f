"""A backlog of six hours in which everything was wrong raises no alert, in whatever order it arrives.

A real Prometheus evaluates the rules that ship each second, and without any `for`: an alert that is pending for one
evaluation would be seen. Then the same is wrong at the present, and every alert on a host is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from buffer.model import STALE
from tests.support import rules
from tests.support.net import wait_for
from tests.support.prometheus import CONFIG, Prometheus
from tests.support.receiver import HEADERS
from tests.support.wire import TimeSeries, encode

HOUR, STEP = 3600, 30
ENDED = 20 * 60
"""How many seconds ago all was well again: later than any alert looks back for an event (15 minutes)."""
DISK = {"device": "/dev/sda1", "fstype": "ext4", "mountpoint": "/"}
CARD_DISK = {"device": "/dev/mmcblk0p2", "fstype": "ext4", "mountpoint": "/data"}
LINK, CARD, ALL = {"destination": "central"}, {"interface": "eth0"}, {"core": "all"}

# name: labels, what a well host has, what it has in trouble; a list: per second. A mount that answers has no series.
SERIES: list[tuple[str, dict[str, str], float | list[float], float | list[float]]] = [
    ("limpet_start_time_seconds", {}, 1.0, 1.0),
    ("cpu_usage_percent", ALL, 10.0, 99.0),
    ("memory_usage_percent", {}, 30.0, 99.0),
    ("memory_oom_kills_total", {}, [0.0], [0.1]),
    ("disk_io_util_percent", {"device": "sda"}, 5.0, 99.0),
    ("disk_await_time_ms", {"device": "sda"}, 2.0, 900.0),
    ("network_bandwidth_usage_percent", CARD, 5.0, 99.0),
    ("network_received_packets_total", CARD, [100.0], [100.0]),
    ("network_sent_packets_total", CARD, [100.0], [100.0]),
    ("network_missed_in_total", CARD, [0.0], [50.0]),
    ("network_drops_out_total", CARD, [0.0], [0.0]),
    ("disk_usage_percent", DISK, 40.0, 95.0),
    ("inode_usage_percent", DISK, 10.0, 95.0),
    ("disk_readonly", CARD_DISK, 0.0, 1.0),
    ("sensor_temperature_celsius", {"sensor": "cpu-thermal/thermal_zone0"}, 48.0, 95.0),
    ("sensor_undervoltage", {"sensor": "raspberrypi"}, 0.0, 1.0),
    ("pressure_memory_some_ratio", {}, 0.02, 0.9),
    ("limpet_destination_held", LINK, 0.0, 1.0),
    ("limpet_config_reload_successful", {}, 1.0, 0.0),
    ("limpet_destination_certificate_end_time_seconds", LINK, time.time() + 100 * 86400, time.time() + 86400),
    ("limpet_buffer_state", {"state": "readonly"}, 0.0, 1.0),
    ("limpet_destination_clock_skew_seconds", LINK, 0.0, -100.0),
    ("limpet_destination_appended_samples_total", LINK, [10.0], [10.0]),
    ("limpet_buffer_max_bytes", {}, 256e6, 256e6),
    ("limpet_buffer_appended_samples_total", {}, [10.0], [10.0]),
    ("limpet_buffer_missed_samples_total", {}, [0.0], [0.0]),
    ("limpet_destination_budget_bytes", {**LINK, "period": "day"}, 5e6, 5e6),
    ("limpet_destination_budget_used_bytes", {**LINK, "period": "day"}, 1e6, 4.9e6),
    ("limpet_outage_start_time_seconds", LINK, time.time() - 7000, time.time() - 7000),
    ("limpet_outage_end_time_seconds", LINK, time.time() - 5000, time.time() - 5000),
    ("limpet_boot_down_seconds", {}, 900.0, 900.0),
    ("host_boot_time_seconds", {}, time.time() - 9000, time.time() - 9000),
    ("limpet_collector_failures_total", {"collector": "cpu"}, [0.0], [0.1]),
    ("limpet_collector_timeouts_total", {"collector": "cpu"}, [0.0], [0.1]),
    ("limpet_collector_unreadable_total", {"collector": "cpu"}, [0.0], [0.1]),
    ("limpet_collector_stuck_seconds", {"collector": "disk_usage", "mountpoint": "/mnt"}, STALE, 4000.0),
]
FILLING = [  # what grows or shrinks steadily in trouble, and is as before at once when it is over: from, to
    ("disk_free_bytes", DISK, 60e9, 1e9),
    ("limpet_destination_pending_samples", LINK, 0.0, 200e3),
    ("limpet_buffer_bytes", {}, 5e6, 250e6),
]


EVERYTHING = {name for name, *_ in (*SERIES, *FILLING)}
LEVELS = {name for name, _, _, ill in SERIES if not isinstance(ill, list)}
LEVELS -= {"limpet_destination_clock_skew_seconds"}  # it is what says how old a sample really is
LEVELS -= {"sensor_undervoltage"}  # its present is the last quarter of an hour


class Host:
    """A host that was in trouble from `begin` to `end`, Unix seconds, by these series."""

    def __init__(self, name: str, begin: float, end: float, by: set[str] = EVERYTHING) -> None:
        self.name, self.begin, self.end, self.by = name, begin, end, by

    def series(self, times: Iterable[int]) -> Iterator[TimeSeries]:
        """What it sends of these times."""
        at = list(times)
        for name, labels, well, ill in SERIES:
            values = {t: self._value(t, well, ill if name in self.by else well) for t in at}
            yield from self._series(name, labels, values)
        for name, labels, first, last in FILLING:
            step = (last - first) / (self.end - self.begin)
            values = {t: first + step * (t - self.begin) * self._ill(t, name) for t in at}
            yield from self._series(name, labels, values)

    def _ill(self, at: float, name: str) -> bool:
        return self.begin <= at < self.end and name in self.by

    def _value(self, at: int, well: float | list[float], ill: float | list[float]) -> float:
        if isinstance(well, list) and isinstance(ill, list):
            in_trouble = min(max(at, self.begin), self.end) - self.begin
            since = at - self.begin + HOUR
            return well[0] * (since - in_trouble) + ill[0] * in_trouble
        assert not isinstance(well, list)
        assert not isinstance(ill, list)
        return ill if self.begin <= at < self.end else well

    def _series(self, name: str, labels: dict[str, str], values: dict[int, float]) -> Iterator[TimeSeries]:
        all_labels = tuple(sorted({"__name__": name, "hostname": self.name, **labels}.items()))
        yield TimeSeries(all_labels, tuple((at * 1000, value) for at, value in values.items()))


def at_once(rule: dict[str, Any]) -> None:
    """Let an alert fire at its first evaluation, and be over at the first without it."""
    rule.pop("for", None)
    rule.pop("keep_firing_for", None)


@pytest.fixture
def server(prometheus_program: Path, tmp_path: Path) -> Iterator[Prometheus]:
    tests = rules.changed(tmp_path, at_once)
    for path in (tests.parent / "rules").iterdir():
        file = yaml.safe_load(path.read_text())
        for group in file["groups"]:
            group["interval"] = "1s"
        path.write_text(yaml.safe_dump(file, sort_keys=False))
    config = tests.parent / "prometheus.yml"
    config.write_text(CONFIG.read_text())
    with Prometheus(prometheus_program, tmp_path / "prometheus", config=config) as started:
        yield started


def push(server: Prometheus, host: Host, times: Iterable[int]) -> None:
    content = encode(list(host.series(times)))
    answer = httpx.post(server.write_url, content=content, headers=HEADERS["1.0"], timeout=30)
    assert answer.status_code == 204, answer.text


def evaluated(server: Prometheus, times: int = 2) -> None:
    """Wait until every group was evaluated so many times more."""

    def iterations() -> float:
        lines = server.get("/metrics").decode().splitlines()
        name = "prometheus_rule_group_iterations_total{"
        return min(float(line.split()[-1]) for line in lines if line.startswith(name))

    wanted = iterations() + times
    wait_for(lambda: iterations() >= wanted, 30, "evaluations")


def alerts(server: Prometheus) -> set[tuple[str, str]]:
    """Every alert that was pending or firing at any evaluation: name and host."""
    found = server.query("last_over_time(ALERTS[1h])")
    return {(dict(labels)["alertname"], dict(labels).get("hostname", "")) for labels in found}


def test_a_backlog_in_which_everything_was_wrong_raises_nothing(server: Prometheus) -> None:
    now = int(time.time())
    begin, end = now - 6 * HOUR, now - ENDED
    oldest_first, fresh_first = (Host(name, begin, end) for name in ("oldest-first", "fresh-first"))
    # Its levels were wrong up to within the five minutes in which an instant value still counts.
    just_now = Host("just-now", begin, now - 150, LEVELS)
    push(server, Host("well", 0, 1), range(now - HOUR, now, STEP))
    push(server, fresh_first, range(now - 60, now, STEP))
    evaluated(server)
    # An hour at a time, then some minutes, then one: evaluations see every state on the way.
    edges = [*range(begin - HOUR, now - 600, HOUR), now - 600, now - 300, now - 160, now - 60]
    for first, last in zip(edges, [*edges[1:], int(time.time())], strict=True):
        for host in (oldest_first, fresh_first, just_now):
            push(server, host, range(first, last, STEP))
        evaluated(server)
    evaluated(server, 3)
    live = {dict(labels)["hostname"] for labels in server.query("limpet:live:bool")}
    assert live == {"well", "oldest-first", "fresh-first", "just-now"}
    assert alerts(server) == set()

    # What would have raised them, had it been now: a host that is in trouble still.
    ill = Host("ill", int(time.time()) - 7 * HOUR, time.time() + HOUR)
    push(server, ill, range(int(ill.begin) - HOUR, int(time.time()), STEP))
    turned = Host("turned", int(time.time()) - HOUR // 4, time.time() + HOUR, {"disk_readonly"})
    push(server, turned, range(int(turned.begin) - HOUR, int(time.time()), STEP))
    evaluated(server, 3)
    expected = {rule["alert"] for rule in rules.alerts().values()}
    never = {"LimpetHostSilent", "LimpetFleetSilent", "LimpetLossBudgetSpent"}
    never |= {"LimpetManyHosts", "LimpetAgentRestarting"}
    never |= {"LimpetLinkWasDown", "HostWasDown"}  # of what is over
    never.add("LimpetHostTwice")  # each has its name
    never |= {"HostTargetDown", "HostTextFileError"}  # off by default
    never.add("HostDiskFilling")  # of which days have to be known
    never.add("HostDiskReadOnly")  # that of "ill" was read-only for most of the day
    found = alerts(server) - {("LimpetManyHosts", "")}  # ten new alerts in an hour, whose ever they are
    assert found == {*((name, "ill") for name in expected - never), ("HostDiskReadOnly", "turned")}
    told = json.loads(server.get("/api/v1/alerts"))["data"]["alerts"]
    texts = [text for one in told for text in one["annotations"].values()]
    assert len(texts) > 100
    assert [text for text in texts if "<error" in text or "<no value>" in text or "%!" in text] == []
    of_cpu = next(one for one in told if one["labels"]["alertname"] == "HostCpuHigh")["annotations"]
    assert of_cpu["value"] == "99.0 %"
    assert of_cpu["trend"] == "99.0 % an hour ago, unknown a day ago"
    assert of_cpu["runbook_url"] == "docs/runbooks/HostCpuHigh.md"
