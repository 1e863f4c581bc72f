"""The agent's own series: all that are documented, and counts that agree with what happened."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
import structlog

from agent import __version__, health, running
from agent.collect.local import LocalCollector
from agent.collect.mask import Mask
from agent.collect.plan import Plan
from agent.collect.schedule import Schedule, SystemClock
from agent.collect.series import Columns
from agent.collect.timekeeper import Timekeeper
from agent.collectors import Collect, HostPaths, Metric, Sample, Trouble
from agent.config import DataBudget, QueueConfig, RemoteWrite
from agent.config.schema import ClockSection
from agent.destinations.remote_write.formats import remote_write
from agent.send.client import Client
from agent.send.lane import Lane
from agent.system.timesync import HostClock
from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick
from buffer.quarantine import Quarantine
from buffer.usage import DAY_MS, Usage
from tests.support.collecting import World, a_plan
from tests.support.net import wait_for
from tests.support.receiver import Answer, Receiver

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
SERIES = tuple(Series(f"metric_{i}", (("hostname", "web-01"),)) for i in range(4))
MAX_SIZE = 64 << 20
NOW = 1_800_000_000.0
DEADLINE = 10.0
QUICK = QueueConfig(max_samples_per_send=8, batch_send_deadline=0.01, min_backoff=0.01, max_backoff=0.02)

Read = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Rig:
    """A buffer, a lane to a receiver, a schedule that is not started, and the collector that reports on them."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.receiver = receiver
        self.buffer = Buffer(str(folder), Limits(max_size=MAX_SIZE), ["central"])
        budget = DataBudget(per_month=100_000_000)
        to = RemoteWrite(url=receiver.url, name="central", queue_config=QUICK, data_budget=budget)
        log = structlog.get_logger()
        kept = Quarantine(str(folder))
        self.lane = Lane(to, remote_write(to), Client(to, __version__), self.buffer, kept, log)
        self.plan = a_plan("cpu")
        self.watched = LocalCollector("disk_usage", self._hanging, 5.0, HostPaths(), Mask())
        self.watched(-60.0)
        other = Plan("disk_usage", self.watched, Columns((), {}), 10, 5, "web-01")
        alive = Plan("limpet/presence", health.Presence(), Columns((), {}), 10, 5, "web-01")
        keeper = Timekeeper(ClockSection(), HostClock(), self.buffer, log, dict)
        keeper.guard.look(int(NOW * 1000), 0, 0)
        parts = [self.plan, other, alive], self.buffer, "0" * 32, log, SystemClock()
        self.schedule = Schedule(*parts, timekeeper=keeper)
        self.world = World(NOW)
        self.keeper = running.Keeper(
            str(folder), "1" * 32, "limpet.yaml", "a", kept_ms=1_700_000_000_000, root=str(folder)
        )
        self._collect = health.Health(
            self.buffer,
            lambda: {"central": self.lane.stats},
            lambda: self.schedule,
            self.keeper,
            self.world,
        )
        self._presence = health.Presence(self.world)
        self.lane.stats.clock_skew, self.lane.stats.certificate_expires = 0.0, 2e9
        self.lane.stats.outages.failed("tcp")
        self.lane.stats.outages.delivered(0)
        self.ticks = 0

    def _hanging(self, paths: HostPaths) -> Collect:
        """A collector over a mount that hangs."""

        def collect(now: float) -> list[Sample]:
            paths.report(Trouble("mountpoint", "/net", "it does not answer", stuck=True))
            paths.report(Trouble("mountpoint", "/media/anna", "permission denied", denied=True))
            return []

        return collect

    def samples(self) -> list[Sample]:
        return [*self._presence(0.0), *self._collect(0.0)]

    def read(self) -> Read:
        return {(sample.name, sample.labels): sample.value for sample in self.samples()}

    def value(self, name: str, **labels: str) -> float:
        return self.read()[name, tuple(sorted(labels.items()))]

    def of_central(self, name: str) -> float:
        return self.value(f"limpet_destination_{name}", destination="central")

    def append(self, missed: int = 0, age: float = 0.0) -> None:
        """Append a tick of four samples, so many seconds ago."""
        self.ticks += 1
        at = Instant(int((NOW - age) * 1000) + self.ticks, self.ticks, "0" * 32)
        self.buffer.append([Tick(at, "group", SERIES, [float(self.ticks)] * len(SERIES))], missed)

    def deliver(self) -> None:
        """Send until nothing waits."""
        self.lane.start()
        cursor = self.buffer.cursors["central"]
        wait_for(lambda: cursor.pending() == 0, DEADLINE, "everything to be sent")
        self.lane.stop(DEADLINE)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Receiver() as receiver:
        rig = Rig(tmp_path, receiver)
        yield rig
        if not rig.lane.has_ended:
            rig.lane.stop(DEADLINE)
        rig.buffer.close()


def test_a_reload_that_was_refused_shows(rig: Rig) -> None:
    assert rig.value("limpet_config_reload_successful") == 1
    rig.keeper.refused("wrong")
    assert rig.value("limpet_config_reload_successful") == 0


def by_name() -> dict[str, Metric]:
    return {metric.name: metric for metric in health.METRICS}


def test_every_series_is_in_the_table_and_every_row_is_collected(rig: Rig) -> None:
    assert {sample.name for sample in rig.samples()} == set(by_name())
    assert len(by_name()) == len(health.METRICS)


def test_no_series_is_reported_twice_and_labels_are_sorted(rig: Rig) -> None:
    samples = rig.samples()
    assert len(rig.read()) == len(samples)
    for sample in samples:
        assert isinstance(sample.value, float)
        assert list(sample.labels) == sorted(sample.labels)


def test_names_say_what_they_are() -> None:
    for name, kind, unit, help_text in health.METRICS:
        assert name.startswith("limpet_")
        assert (kind == "counter") == name.endswith("_total")
        for suffix in ("bytes", "seconds"):
            assert (unit == suffix) == name.removesuffix("_total").endswith(f"_{suffix}")
        assert help_text.endswith(".")


def test_the_series_stay_the_same_from_one_run_to_the_next(rig: Rig) -> None:
    # They are one table in the buffer; a set that changes costs a definition each time.
    before = [(sample.name, sample.labels) for sample in rig.samples()]
    rig.append(missed=3)
    rig.deliver()
    rig.buffer.cursors["central"].skip(rig.buffer.log.end, "evicted")
    assert [(sample.name, sample.labels) for sample in rig.samples()] == before


def test_the_process(rig: Rig) -> None:
    import platform

    info = (("python", platform.python_version()), ("version", __version__))
    assert rig.read()["limpet_build_info", info] == 1
    assert rig.value("limpet_start_time_seconds") == NOW
    rig.world.now += 100
    assert rig.value("limpet_start_time_seconds") == NOW
    rig.world.step(0.5)  # drift
    assert rig.value("limpet_start_time_seconds") == NOW
    rig.world.step(86400)  # the box got its time
    assert rig.value("limpet_start_time_seconds") == NOW + 86400.5
    assert rig.value("limpet_cpu_seconds_total") == pytest.approx(time.process_time(), abs=5)
    status = Path("/proc/self/status").read_text()
    resident = 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert rig.value("limpet_resident_memory_bytes") == pytest.approx(resident, rel=0.05)


def test_the_buffer(rig: Rig) -> None:
    rig.append(missed=3)
    rig.append(missed=4)
    size = sum(file.stat().st_size for file in (Path(rig.buffer._dir) / "segments").iterdir())
    assert rig.value("limpet_buffer_bytes") == size > 0
    assert rig.value("limpet_buffer_max_bytes") == MAX_SIZE
    assert rig.value("limpet_buffer_appended_samples_total") == 8
    assert rig.value("limpet_buffer_missed_samples_total") == 7
    rig.schedule._recorder.append_failures = 2
    assert rig.value("limpet_buffer_append_failures_total") == 2
    before = rig.value("limpet_buffer_written_bytes_total")
    assert before >= size
    rig.append()
    assert rig.value("limpet_buffer_written_bytes_total") > before


def test_the_collectors(rig: Rig) -> None:
    rig.plan.seconds, rig.plan.failures, rig.plan.timeouts = 0.12345, 3, 2
    assert rig.value("limpet_collector_duration_seconds", collector="cpu") == 0.123
    assert rig.value("limpet_collector_failures_total", collector="cpu") == 3
    assert rig.value("limpet_collector_timeouts_total", collector="cpu") == 2


def test_a_collector_that_never_returns(rig: Rig) -> None:
    rig.plan.running, rig.plan.timed_out = (Instant(0, -90_000, "0" * 32), 0.0), True
    assert rig.value("limpet_collector_stuck_seconds", collector="cpu") == 90
    rig.plan.running, rig.plan.timed_out = None, False
    assert {"cpu"}.isdisjoint(
        value
        for name, labels in rig.read()
        if name == "limpet_collector_stuck_seconds"
        for _, value in labels
    )


def test_what_a_collector_cannot_read(rig: Rig) -> None:
    def unreadable() -> float:
        return rig.value("limpet_collector_unreadable_total", collector="disk_usage")

    stuck = {"collector": "disk_usage", "mountpoint": "/net"}
    assert unreadable() == 1
    assert rig.value("limpet_collector_denied", collector="disk_usage") == 1
    assert rig.value("limpet_collector_stuck_seconds", **stuck) == 60
    rig.watched(-10.0)
    assert unreadable() == 2
    assert rig.value("limpet_collector_stuck_seconds", **stuck) == 60  # since it began
    rig.watched._collect = lambda now: []
    rig.watched(-5.0)
    assert unreadable() == 2
    gone = {"limpet_collector_stuck_seconds", "limpet_collector_denied"}
    assert not gone & {sample.name for sample in rig.samples()}


def test_what_was_delivered(rig: Rig) -> None:
    for _ in range(5):
        rig.append()
    assert rig.of_central("appended_samples_total") == rig.of_central("pending_samples") == 20
    assert rig.of_central("delivered_samples_total") == rig.of_central("requests_total") == 0
    rig.deliver()
    assert rig.of_central("appended_samples_total") == rig.of_central("delivered_samples_total") == 20
    assert rig.of_central("pending_samples") == rig.of_central("retries_total") == 0
    assert rig.of_central("requests_total") == len(rig.receiver.requests) == 3
    assert rig.of_central("sent_bytes_total") == sum(len(each.body) for each in rig.receiver.requests)
    assert rig.receiver.samples == 20


def test_what_had_to_be_repeated(rig: Rig) -> None:
    rig.receiver.answers.extend([Answer(503), Answer(503), Answer(204, delay_s=0.05)])
    rig.append()
    rig.deliver()
    assert (rig.of_central("requests_total"), rig.of_central("retries_total")) == (3, 2)
    assert rig.of_central("delivered_samples_total") == 4
    assert 0.05 <= rig.of_central("send_seconds_total") < DEADLINE


def test_how_old_the_newest_sample_may_become(rig: Rig) -> None:
    """The alerts look for a sample that is younger than that."""
    assert (
        rig.of_central("interval_seconds") == 10.01
    )  # of the presence, not of other collectors, and the deadline
    rig.lane.stats.deadline = 180.0  # as with another configuration
    assert rig.of_central("interval_seconds") == 190.0
    rig.lane.stats.unchanged_every = 60.0
    assert rig.of_central("interval_seconds") == 240.0


def test_what_was_dropped_and_why(rig: Rig) -> None:
    def dropped() -> dict[str, float]:
        name = "limpet_destination_dropped_samples_total"
        return {
            dict(sample.labels)["reason"]: sample.value for sample in rig.samples() if sample.name == name
        }

    assert set(dropped()) == set(health.REASONS)
    assert set(dropped().values()) == {0}
    rig.append()
    rig.append()
    rig.buffer.cursors["central"].skip(3, "evicted")
    assert dropped()["evicted"] == 3
    assert rig.of_central("pending_samples") == 5
    assert rig.of_central("appended_samples_total") == 8


def test_what_was_settled_ahead_of_its_turn_is_not_pending(rig: Rig) -> None:
    for age in (300, 200, 100):
        rig.append(age=age)
    cursor = rig.buffer.cursors["central"]
    assert cursor.go_ahead(1)
    chunk = cursor.read_ahead(100)
    assert rig.of_central("oldest_pending_age_seconds") == 300  # of all that waits, not of the request
    cursor.commit(chunk.start, chunk.end, chunk.samples, {})
    assert (rig.of_central("pending_samples"), rig.of_central("delivered_samples_total")) == (8, 4)
    assert rig.of_central("appended_samples_total") == 12


def test_the_boot(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rig.value("limpet_boots_total", reason="unknown") == 0
    assert rig.value("limpet_boots_total", reason="unknown") == 1
    assert rig.value("limpet_boot_info", reason="unknown") == 1
    booted = NOW - rig.world.monotonic()
    assert rig.value("limpet_boot_down_seconds") == pytest.approx(booted - 1_700_000_000, abs=1)
    rig.world.step(0.7)
    assert rig.value("limpet_boot_down_seconds") == pytest.approx(booted - 1_700_000_000, abs=1)
    keeper = rig.schedule.timekeeper
    assert keeper is not None
    monkeypatch.setattr(keeper.guard, "trust", keeper.guard.trust._replace(is_good=False))
    assert "limpet_boot_down_seconds" not in {sample.name for sample in rig.samples()}


def test_an_outage(rig: Rig) -> None:
    assert rig.value("limpet_outage_seconds_total", destination="central", cause="tcp") == 0
    rig.receiver.default = Answer(503)
    rig.append()
    rig.append()
    rig.lane.start()
    wait_for(lambda: len(rig.receiver.requests) > 1, DEADLINE, "tries")

    def value(name: str) -> float:
        return rig.value(f"limpet_outage_{name}", destination="central")

    labels = (("cause", "server"), ("destination", "central"))
    wait_for(lambda: ("limpet_outage_seconds_total", labels) in rig.read(), DEADLINE, "an outage")
    wait_for(lambda: rig.read()["limpet_outage_seconds_total", labels] >= 1, DEADLINE, "a second of it")
    rig.receiver.default = Answer(204)
    wait_for(lambda: rig.of_central("pending_samples") == 0, DEADLINE, "delivery")
    rig.lane.stop(DEADLINE)
    assert value("start_time_seconds") <= value("end_time_seconds") <= round(time.time())
    assert value("backfilled_samples") == 8


def test_samples_that_wait_for_the_clock_are_an_outage(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(rig.buffer.log), "provisional", 4)
    rig.read()
    seconds = {labels for name, labels in rig.read() if name == "limpet_outage_seconds_total"}
    assert (("cause", "clock"), ("destination", "central")) in seconds


def test_a_destination_that_is_held(rig: Rig) -> None:
    assert rig.of_central("held") == 0
    rig.receiver.default = Answer(401)
    rig.append()
    rig.lane.start()
    wait_for(lambda: rig.of_central("held"), DEADLINE, "the destination to be held")
    assert rig.of_central("held") == 1
    rig.lane.stop(DEADLINE)


def test_the_age_of_what_waits(rig: Rig) -> None:
    assert rig.of_central("oldest_pending_age_seconds") == 0
    rig.receiver.default = Answer(503)
    rig.append(age=120)
    rig.append(age=60)
    rig.lane.start()
    wait_for(lambda: rig.receiver.requests, DEADLINE, "a try")
    assert rig.of_central("oldest_pending_age_seconds") == 120
    rig.receiver.default = Answer(204)
    wait_for(lambda: rig.of_central("pending_samples") == 0, DEADLINE, "delivery")
    assert rig.of_central("oldest_pending_age_seconds") == 0
    rig.lane.stop(DEADLINE)


def test_the_clocks(rig: Rig) -> None:
    name = "limpet_destination_clock_skew_seconds"
    rig.lane.stats.clock_skew = None
    assert name not in {sample.name for sample in rig.samples()}
    headers = {"Date": formatdate(time.time() - 100, usegmt=True)}
    rig.receiver.default = Answer(204, headers)
    rig.receiver.answers.append(Answer(503, {"Date": formatdate(time.time() + 5000, usegmt=True)}))
    rig.append()
    rig.deliver()
    assert rig.of_central("clock_skew_seconds") == pytest.approx(100, abs=2)


def test_memory_is_reported_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise FileNotFoundError

    before = health.resident_bytes()
    monkeypatch.setattr("builtins.open", missing)
    assert health.resident_bytes() >= before // 2


def test_the_page_has_every_series_as_the_table_says_it(rig: Rig) -> None:
    labels = {sample.name: ", ".join(f"`{name}`" for name, _ in sample.labels) for sample in rig.samples()}
    rows = {name: f"| `{name}` | {labels[name]} | {help_text} |" for name, _, _, help_text in health.METRICS}
    shown = [
        line for line in PAGE.read_text().splitlines() if line.partition("` |")[0].removeprefix("| `") in rows
    ]
    assert shown == list(rows.values())


def test_the_page_has_every_reason() -> None:
    assert all(f"`{reason}`" in PAGE.read_text() for reason in health.REASONS)


def test_a_budget_is_shown_with_what_it_comes_to(rig: Rig) -> None:
    now_ms = round(NOW * 1000)
    rig.lane.stats.used = Usage(now_ms, now_ms - 30 * DAY_MS, 5_000_000, 60_000_000, 0, 100_000_000)
    shown = [sample for sample in rig.samples() if "_budget_" in sample.name]
    assert {dict(sample.labels)["period"] for sample in shown} == {"month"}
    budget, used, forecast = (sample.value for sample in shown)
    assert (budget, used) == (100_000_000, 60_000_000)
    assert forecast > used
    rig.lane.stats.used = Usage(now_ms, now_ms, 5, 5)
    assert not [sample for sample in rig.samples() if "_budget_" in sample.name]
