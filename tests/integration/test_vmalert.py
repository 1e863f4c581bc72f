"""The rules that ship say the same in vmalert, with VictoriaMetrics, as in Prometheus: each alert, with its labels and texts.

Both are real, evaluate the same files, get the same samples in the same requests, and send to one Alertmanager. Every alert
that ships is among them, several on one host: a host in every trouble, one that is silent while its namesake lives, a region
that is silent, a crowd, losses, a disk that fills, two boxes of one name, a host that falls silent while its alerts fire.

A minute is half a second in `for`, and three in `keep_firing_for`; a host is live for 20 seconds after a sample, not for two minutes.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.integration.test_rules_late import STEP, Host
from tests.support import rules
from tests.support.alertmanager import Alertmanager, faster
from tests.support.net import wait_for
from tests.support.prometheus import CONFIG, Prometheus
from tests.support.receiver import HEADERS
from tests.support.server import Server
from tests.support.victoria import VictoriaMetrics
from tests.support.vmalert import LATENCY, VmAlert
from tests.support.wire import TimeSeries, encode

pytestmark = pytest.mark.timeout(300)
MINUTE, HOUR, DAY = 60, 3600, 86400
EVERY_S, LIVE_S = 2, 20
PLACES = {name: {"environment": "production", "region": name} for name in ("north", "south", "west")}
LAB = {"environment": "lab", "region": "north"}
NORTH = PLACES["north"]
NUMBERS = re.compile(r"[\d.]+[a-zA-Zµ]*(?: [\d.]+[hms])*")
"""Those of a text, with their units: both evaluate at moments of their own."""
OF_VMALERT = "alertgroup"
"""The label that vmalert adds to alerts."""

Key = tuple[tuple[str, str], ...]
Of = Callable[[int], float]


def series(name: str, labels: Mapping[str, str], value: Of, times: Iterable[int]) -> TimeSeries:
    all_labels = tuple(sorted({"__name__": name, **labels}.items()))
    return TimeSeries(all_labels, tuple((t * 1000, float(value(t))) for t in times))


class Fleet:
    """What the hosts of the play send: `past`, and at any moment `now`."""

    def __init__(self, began: int) -> None:
        self.began = began
        self.gone: set[str] = set()
        self._hosts: list[tuple[Host, Mapping[str, str], Mapping[str, Of | None], float]] = []
        self._own: list[tuple[str, Mapping[str, str], Of]] = []
        self.recorded: list[TimeSeries] = []
        self._everything()

    def host(
        self,
        name: str,
        place: Mapping[str, str] = NORTH,
        by: set[str] | None = None,
        but: Mapping[str, Of | None] | None = None,
        until: float = float("inf"),
        since: int = 7 * HOUR,
    ) -> dict[str, str]:
        """Add a host, in trouble `by` these series if any since so long; `but` these are other values, or absent."""
        ill = Host(name, self.began - since, self.began + HOUR, *([] if by is None else [by]))
        self._hosts.append((ill, place, but or {}, until))
        return {"hostname": name, **place}

    def past(self) -> list[TimeSeries]:
        """Return what came before the play, in the order it is to be known in: what the rules had recorded, then eight hours of hosts."""
        times = range(self.began - 8 * HOUR, self.began, STEP)
        own = [series(name, labels, value, times[-240:]) for name, labels, value in self._own]
        return [*self.recorded, *self._of(times), *own]

    def now(self, at: int) -> list[TimeSeries]:
        """Return a sample of each series of each host that is not gone."""
        own = [one for one in self._own if one[1]["hostname"] not in self.gone]
        return [*self._of([at]), *(series(*one, [at]) for one in own)]

    def _of(self, times: Iterable[int]) -> Iterator[TimeSeries]:
        for host, place, but, until in self._hosts:
            if host.name in self.gone:
                continue
            for one in host.series([t for t in times if t < until]):
                labels = {**dict(one.labels), **place}
                name = labels.pop("__name__")
                if name not in but:
                    yield TimeSeries(tuple(sorted({"__name__": name, **labels}.items())), one.samples)
                elif value := but[name]:
                    yield series(name, labels, value, [at // 1000 for at, _ in one.samples])

    def record(self, name: str, labels: Mapping[str, str], value: Of, *since: int) -> None:
        """Add what a rule has recorded, for 20 minutes from each of these times ago."""
        for ago in since:
            first = self.began - ago
            times = range(first, min(first + 20 * MINUTE, self.began), STEP)
            self.recorded.append(series(name, labels, value, times))

    def seen(self, labels: Mapping[str, str], last: Of) -> None:
        """Have known a host for three hours, with its newest sample as `last` says."""
        ago = range(20 * MINUTE, 3 * HOUR + 1, 20 * MINUTE)
        self.record("limpet:last_seen:timestamp_seconds", labels, last, *ago)
        self.record("limpet:first_seen:timestamp_seconds", labels, lambda _: self.began - DAY, *ago)

    def _everything(self) -> None:
        now = self.began
        self.host("well", by=set())
        self.host("ill")
        self.host("turned", by={"disk_readonly"}, since=HOUR // 4)
        self.host("gap", by={"memory_usage_percent", "disk_usage_percent"}, since=2 * HOUR)
        for n in range(5):
            self.host(f"crowd-{n}", PLACES["west"], {"cpu_usage_percent"}, since=5 * MINUTE)
        silent = now - 20 * MINUTE
        self.seen(self.host("gw-01", by=set(), until=silent), lambda t: min(t, silent - STEP))
        self.seen(self.host("gw-01", LAB, by=set()), lambda t: t)
        for n in range(4):
            of = self.host(f"south-{n}", PLACES["south"], by=set(), until=silent)
            self.seen(of, lambda t: min(t, silent - STEP))
        twice = self.host("twice", by=set())
        for machine in "ab":
            self._own.append(("limpet_identity_info", {**twice, "machine": machine}, lambda _: 1))
        restarts = {"limpet_start_time_seconds": lambda t: t // MINUTE * MINUTE}
        self.host("restarts", by=set(), but=restarts)
        of = self.host("scrapes", by=set())
        self._own.append(("up", {**of, "job": "nginx", "instance": "127.0.0.1:9113"}, lambda _: 0))
        self._own.append(("node_textfile_scrape_error", of, lambda _: 1))
        self._was_down(now)
        self._loses(now)
        self._fills(now)

    def _was_down(self, now: int) -> None:
        outage: dict[str, Of | None] = {
            "limpet_outage_start_time_seconds": lambda _: now - 3000,
            "limpet_outage_end_time_seconds": lambda _: now - 600,
            "host_boot_time_seconds": None,
        }
        away: Of = lambda t: t if not now - 3000 < t < now - 600 else now - 3000  # noqa: E731
        self.seen(self.host("link", by=set(), but=outage), away)
        self.seen(self.host("boot", by=set(), but={"host_boot_time_seconds": lambda _: now - 700}), away)

    def _loses(self, now: int) -> None:
        due: Of = lambda t: 10 * (t - now + 40 * HOUR)  # noqa: E731
        lost: Of = lambda t: max(0, t - now + 10 * HOUR)  # noqa: E731
        counted: dict[str, Of | None] = {
            "limpet_destination_appended_samples_total": due,
            "limpet_buffer_appended_samples_total": due,
        }
        of = self.host("lossy", by=set(), but=counted)
        link = {**of, "destination": "central"}
        for reason, value in (("evicted", lost), ("relabeled", lambda _: 0)):
            self._own.append(("limpet_destination_dropped_samples_total", {**link, "reason": reason}, value))
        ago = (25 * HOUR, DAY + 10 * MINUTE, 6 * HOUR + 10 * MINUTE, 20 * MINUTE)
        self.record("limpet:due_samples:total", link, due, *ago)
        self.record("limpet:lost_samples:total", link, lost, *ago)
        self.record("limpet:expected_samples:total", of, due, *ago)
        self.record("limpet:missed_samples:total", of, lambda _: 0, *ago)

    def _fills(self, now: int) -> None:
        free: Of = lambda t: 6e9 - 1.1e9 * (t - now) / DAY  # noqa: E731
        of = self.host("fills", by=set(), but={"disk_free_bytes": free})
        disk = {**of, "device": "/dev/sda1", "fstype": "ext4", "mountpoint": "/"}
        for days in (8, 7, 3, 2, 1):
            self.record("disk_free_bytes:min_1d", disk, free, days * DAY + 10 * MINUTE)
        self.record("disk_free_bytes", disk, free, 7 * DAY + 10 * MINUTE)


def quicker(folder: Path) -> Path:
    """Copy the rules, but for the tiers, with shorter times; return their folder."""

    def change(rule: dict[str, Any]) -> None:
        rule |= {
            key: faster(rule[key], by) for key, by in (("for", 120), ("keep_firing_for", 20)) if key in rule
        }

    copied = rules.changed(folder, change).parent / "rules"
    (copied / "tiers.rules.yml").unlink()
    for path in copied.iterdir():
        file = yaml.safe_load(path.read_text())
        for group in file["groups"]:
            group["interval"] = f"{EVERY_S}s"
            for rule in group["rules"]:
                if rule.get("record") == "limpet:live:bool":
                    assert "< 120\n" in rule["expr"]
                    rule["expr"] = rule["expr"].replace("< 120\n", f"< {LIVE_S}\n")
        path.write_text(yaml.safe_dump(file, sort_keys=False))
    return copied


class Both:
    """Prometheus, and VictoriaMetrics with vmalert: what is pushed reaches both, and `differences` compares their alerts."""

    def __init__(self, stack: ExitStack, folder: Path, programs: Mapping[str, Path]) -> None:
        copied = quicker(folder)
        silent = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(silent))
        self.told = stack.enter_context(
            Alertmanager(programs["alertmanager"], folder / "alertmanager", folder / "alertmanager.yml")
        )
        config = yaml.safe_load(CONFIG.read_text()) | {"rule_files": ["rules/*.rules.yml"]}
        target = {"static_configs": [{"targets": [f"127.0.0.1:{self.told.port}"]}]}
        config["alerting"]["alertmanagers"] = [target]
        (copied.parent / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.prometheus = Prometheus(
            programs["prometheus"], folder / "prometheus", config=copied.parent / "prometheus.yml"
        )
        self.store = VictoriaMetrics(programs["victoria"], folder / "victoria", flags=(LATENCY,))
        vmalert = programs["victoria"].with_name("vmalert")
        self.vmalert = VmAlert(vmalert, folder / "vmalert", copied, self.store, self.told.url)
        self._client = stack.enter_context(httpx.Client(timeout=60))
        for server in (self.prometheus, self.store):
            stack.enter_context(server)

    def push(self, what: list[TimeSeries]) -> None:
        for first in range(0, len(what), 100):
            content = encode(what[first : first + 100])
            for server in (self.prometheus, self.store):
                answer = self._client.post(server.write_url, content=content, headers=HEADERS["1.0"])
                assert answer.is_success, answer.text

    def differences(self) -> list[str]:
        """Name the alerts of one that the other has not, and those whose texts are not alike."""
        one, other = firing(self.prometheus), firing(self.vmalert)
        found = [f"only in Prometheus: {shown(key)}" for key in one.keys() - other.keys()]
        found += [f"only in vmalert: {shown(key)}" for key in other.keys() - one.keys()]
        return found + [
            f"{shown(key)}: {name}: {one[key].get(name)!r}, {other[key].get(name)!r}"
            for key in sorted(one.keys() & other.keys())
            for name in one[key].keys() | other[key].keys()
            if alike(one[key].get(name, "")) != alike(other[key].get(name, ""))
        ]

    def not_told(self) -> list[str]:
        """Name the alerts that Alertmanager does not know from both, with the same texts."""
        known: tuple[dict[Key, Any], dict[Key, Any]] = ({}, {})
        for alert in self.told.alerts():
            labels = dict(alert["labels"])
            is_of_vmalert = labels.pop(OF_VMALERT, None) is not None
            texts = {name: alike(text) for name, text in alert["annotations"].items()}
            known[is_of_vmalert][tuple(sorted(labels.items()))] = texts
        keys = firing(self.prometheus).keys() | known[0].keys() | known[1].keys()
        return [shown(key) for key in keys if known[0].get(key, 0) != known[1].get(key)]


def firing(server: Server) -> dict[Key, dict[str, str]]:
    """Return the texts of each alert that fires, by its labels."""
    alerts = json.loads(server.get("/api/v1/alerts"))["data"]["alerts"]
    return {
        tuple(sorted((name, value) for name, value in one["labels"].items() if name != OF_VMALERT)): one[
            "annotations"
        ]
        for one in alerts
        if one["state"] == "firing"
    }


def alike(text: str) -> str:
    return NUMBERS.sub("#", text)


def shown(key: Key) -> str:
    labels = dict(key)
    return " ".join(
        labels[name] for name in ("alertname", "severity", "hostname", "region") if name in labels
    )


def on(server: Server, alertname: str, hostname: str) -> list[dict[str, str]]:
    return [
        texts
        for key, texts in firing(server).items()
        if {("alertname", alertname), ("hostname", hostname)} <= {*key}
    ]


@pytest.fixture
def both(
    tmp_path: Path, prometheus_program: Path, victoria_program: Path, alertmanager_program: Path
) -> Iterator[Both]:
    programs = {
        "prometheus": prometheus_program,
        "victoria": victoria_program,
        "alertmanager": alertmanager_program,
    }
    with ExitStack() as stack:
        yield Both(stack, tmp_path, programs)


@pytest.fixture
def fleet(both: Both) -> Iterator[Fleet]:
    """The hosts, which send on while the test runs; what they have sent before is known to both, and both evaluate."""
    made, ended = Fleet(int(time.time()) // STEP * STEP), threading.Event()
    both.push(made.past())
    both.store.get("/internal/force_flush")

    def send() -> None:
        while not ended.wait(EVERY_S):
            both.push(made.now(int(time.time())))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        with both.vmalert:
            yield made
    finally:
        ended.set()
        thread.join()


def test_vmalert_fires_what_prometheus_fires(both: Both, fleet: Fleet) -> None:
    servers: tuple[Server, ...] = (both.prometheus, both.vmalert)
    every = {rule["alert"] for rule in rules.alerts().values()}
    full = ("HostDiskFull", "HostMemoryHigh")

    def texts_of_gap() -> list[str]:
        return [texts["value"] for server in servers for name in full for texts in on(server, name, "gap")]

    wait_for(lambda: len(texts_of_gap()) == 8, 90, "two levels of two alerts in both")
    fleet.gone.add("gap")

    def missing() -> set[str]:
        return every - {dict(key)["alertname"] for key in firing(both.prometheus)}

    try:
        wait_for(lambda: not missing() and not both.differences(), 120, "every alert in both")
    except AssertionError:
        assert (missing(), both.differences()) == (set(), [])
        raise

    # a host that is silent has not recovered
    unknown = ["unknown, the host is silent"] * 8
    wait_for(lambda: texts_of_gap() == unknown, 90, "alerts of a silent host to continue")

    for server in servers:
        silent = {
            labels["environment"] for labels in map(dict, firing(server)) if labels.get("hostname") == "gw-01"
        }
        assert silent == {"production"}
    wait_for(lambda: not both.not_told(), 60, "Alertmanager to know all of them from both")
    assert both.differences() == []
