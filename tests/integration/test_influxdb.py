"""A real InfluxDB 1.x, and VictoriaMetrics' endpoint for line protocol: what was collected is there, bit for bit."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.config import BasicAuth, InfluxDB, QueueConfig, TlsConfig
from buffer.model import Instant, Series, Tick
from tests.bench import replay
from tests.support import influxdb
from tests.support.certs import Certs
from tests.support.limpet import limpet
from tests.support.net import wait_for
from tests.support.sending import BOOT, FIRST_MS, STEP_MS, Host, host, labels_of
from tests.support.server import Login
from tests.support.victoria import VictoriaMetrics

TEXTS = {
    "plain": "a",
    "space": "a b  c",
    "comma": "a,b,",
    "equals": "a=b=",
    "quote": "\"a\" 'b'",
    "backslashes": "C:\\Program Files\\x",
    "backslash_comma": "a\\,b\\ c\\=d\\\\,e",
    "unicode": "Größe 温度 🌡",
    "number": "17",
    "hash": "#a",
    "lines": "a\nb\r\nc\td",
    "braces": '{a="b"}',
}
NAMES = (
    "temperature",
    "a b",
    "x,y",
    "p=q",
    "#comment",
    "größe",
    "back\\slash",
    'quo"te',
    "node:rate5m",
    "1st",
)
VALUES = (
    *(0.0, -0.0, 1.0, -1.0, 0.1, 1 / 3, math.pi, 1e22, 1e-7, 123456789.123456789, 2.0**53 + 2, 1e300),
    *(5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -1.7976931348623157e308),
    *(100.0, 5.0, 0.0, 3.0),  # a counter that is reset
)
Read = dict[tuple[tuple[str, str], ...], list[tuple[int, bytes]]]


def settings(url: str, **more: Any) -> InfluxDB:
    queue = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=200)
    return InfluxDB(**{"url": url, "name": "there", "db": "limpet", "queue_config": queue, **more})


def everything() -> tuple[Series, ...]:
    hostile = [Series("texts", (("hostname", "a"), (key, text))) for key, text in TEXTS.items()]
    odd = [Series("keys", (("hostname", "a"), (key, "x"))) for key in ("a b", "a,b", "a=b", "größe", "a\\b")]
    return (*hostile, *odd, *[Series(name, (("hostname", "a"),)) for name in NAMES])


def collect(one: Host, series: tuple[Series, ...], first: int) -> None:
    """Append a tick for each of VALUES, and after each a series without a number that can be stored."""
    for n, value in enumerate(VALUES, first):
        at = Instant(FIRST_MS + n * STEP_MS + 7, n * STEP_MS, BOOT)
        values = [value] * len(series)
        values[n % len(series)] = (math.nan, math.inf, -math.inf)[n % 3]
        one.buffer.append([Tick(at, "all", series, values)])


def wanted(series: tuple[Series, ...], rounds: int) -> Read:
    found: Read = {}
    for n in range(1, rounds * len(VALUES) + 1):
        for i, one in enumerate(series):
            if i != n % len(series):
                value = struct.pack("<d", VALUES[(n - 1) % len(VALUES)])
                found.setdefault(stored_as(one), []).append((FIRST_MS + n * STEP_MS + 7, value))
    return found


def stored_as(series: Series) -> tuple[tuple[str, str], ...]:
    """Return the labels of a series at InfluxDB."""
    name = series.name.replace("#comment", "\\#comment")
    lines = str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t"})
    labels = tuple((key, text.translate(lines)) for key, text in series.labels)
    return labels_of(series._replace(name=name, labels=labels))


def bits(samples: Mapping[Any, list[tuple[int, float]]]) -> Read:
    return {
        labels: [(at, struct.pack("<d", value)) for at, value in found] for labels, found in samples.items()
    }


@pytest.fixture
def server(influxdb_program: Path, tmp_path: Path) -> Iterator[influxdb.InfluxDB]:
    with influxdb.InfluxDB(influxdb_program, tmp_path / "influxdb") as running:
        yield running


def test_what_was_collected_is_there_bit_for_bit_over_a_kill(
    server: influxdb.InfluxDB, tmp_path: Path
) -> None:
    series = everything()
    with host(tmp_path, settings(server.url), series=series, ticks=0) as one:
        collect(one, series, 1)
        one.settled()
        server.kill()
        collect(one, series, 1 + len(VALUES))
        one.failed(1)
        server.start()
        one.settled()
        ledger = one.cursor.ledger
        assert ledger.dropped == {"unstorable": 2 * len(VALUES)}
    assert bits(server.samples()) == wanted(series, 2)


@pytest.mark.parametrize(("naming", "measurement"), [("telegraf", "prometheus"), ("table", "all")])
def test_metrics_as_fields(server: influxdb.InfluxDB, tmp_path: Path, naming: str, measurement: str) -> None:
    series = everything()
    with host(tmp_path, settings(server.url, naming=naming), series=series, ticks=0) as one:
        collect(one, series, 1)
        one.settled()
        assert one.cursor.ledger.dropped == {"unstorable": len(VALUES)}
    expected = wanted(series, 1)
    for field in ("temperature", "a b", "texts", "größe"):
        found = bits(server.samples(field=field))
        renamed = {
            tuple(
                sorted([*(pair for pair in labels if pair[0] != "__name__"), ("__name__", measurement)])
            ): one
            for labels, one in expected.items()
            if dict(labels)["__name__"] == field
        }
        assert found == renamed


def test_what_it_refuses_is_kept_and_the_rest_arrives(server: influxdb.InfluxDB, tmp_path: Path) -> None:
    """A field that is an integer there, a tag of a name that it has itself, and samples older than its retention."""
    old = Series("memory", (("hostname", "a"),))
    series = (*(Series(f"m{i}", (("hostname", "a"),)) for i in range(6)), old, Series("up", (("time", "x"),)))
    server.ask('CREATE RETENTION POLICY "r" ON limpet DURATION 1h REPLICATION 1 DEFAULT')
    with host(tmp_path, settings(server.url, rp="r"), series=series, ticks=2) as one:
        one.settled()
        # FIRST_MS is in the future: nothing of it is too old.
        assert one.cursor.ledger.dropped == {"rejected": 2}
        server.post(f"integers,hostname=a value=1i {FIRST_MS}\n")
        integers = Series("integers", (("hostname", "a"),))
        for n in range(3):
            at = Instant(FIRST_MS + n, n, BOOT)
            one.buffer.append([Tick(at, "more", (integers, series[0]), [1.5, 2.5])])
        one.settled()
        past = Instant(1_600_000_000_000, 0, BOOT)
        one.buffer.append([Tick(past, "past", series[:3], [1.0, 2.0, 3.0])])
        one.settled()
        assert one.cursor.ledger.dropped == {"rejected": 2 + 3, "aged": 3}
        kept = {dict(labels)["__name__"] for labels in one.kept()}
        assert kept == {"up", "integers", "m0", "m1", "m2"}
    stored = server.samples(rp="r")
    assert {dict(labels)["__name__"]: len(found) for labels, found in stored.items()} == {
        **{f"m{i}": 2 for i in range(1, 6)},
        "m0": 4,  # one of the three has a time that was there already
        "memory": 2,
        "integers": 1,
    }


def test_with_tls_and_a_password_that_is_corrected(
    influxdb_program: Path, certs: Certs, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("wrong")
    login = Login("limpet", "correct horse")
    with influxdb.InfluxDB(influxdb_program, tmp_path / "influxdb", certs=certs, login=login) as server:
        auth = BasicAuth(username=login.user, password_file=str(password))
        to = settings(server.url, basic_auth=auth, tls_config=TlsConfig(ca_file=str(certs.ca)))
        with host(tmp_path, to, ticks=10) as one:
            assert one.held().startswith("HTTP 401: check basic_auth (v1)")
            password.write_text(login.password)
            one.settled()
            assert not one.cursor.ledger.dropped
        assert sum(map(len, server.samples().values())) == 20


def test_a_database_that_is_made_later(server: influxdb.InfluxDB, tmp_path: Path) -> None:
    with host(tmp_path, settings(server.url, db="later"), ticks=10) as one:
        assert "database not found" in one.held()
        server.ask("CREATE DATABASE later")
        one.settled()
        assert not one.cursor.ledger.dropped


def test_doctor_walks_to_it(server: influxdb.InfluxDB, tmp_path: Path) -> None:
    config = tmp_path / "limpet.yaml"
    to = {"url": server.url, "db": "limpet", "name": "there"}
    config.write_text(f"data_dir: {tmp_path / 'data'}\ninfluxdb: [{to}]\ncollect: {{collectors: {{}}}}\n")
    done = limpet(tmp_path, "doctor", "--config", config, "--json")
    steps = {step["step"]: step for step in done.json if step["part"] == "there"}
    assert list(steps) == ["name", "connection", "TLS", "authentication", "empty write", "clock", "sample"]
    assert {step["ok"] for step in steps.values()} == {True}
    assert steps["empty write"]["said"].startswith("HTTP 204")
    [written] = [labels for labels in server.samples() if dict(labels)["__name__"] == "limpet_doctor_sample"]
    assert dict(written)["hostname"]

    config.write_text(config.read_text().replace("'db': 'limpet'", "'db': 'missing'"))
    done = limpet(tmp_path, "doctor", "--config", config, "--json")
    [wrong] = [step for step in done.json if step["part"] == "there" and step["ok"] is False]
    assert "database not found" in wrong["said"]
    assert "db" in wrong["do"]


def test_victoria_metrics_takes_it_too(victoria_program: Path, tmp_path: Path) -> None:
    """It keeps decimals of about 15 digits, and adds a label of its own for the database."""
    series = everything()
    with VictoriaMetrics(
        victoria_program, tmp_path / "victoria", flags=("-influxSkipSingleField",)
    ) as server:
        with host(tmp_path, settings(server.url), series=series, ticks=0) as one:
            collect(one, series, 1)
            one.settled()
            # It reads two backslashes as one, so the comma behind them ends the value there.
            [refused] = one.kept()
            assert dict(refused)["backslash_comma"]
            expected = wanted(series, 1)
            lost = len(expected.pop(refused))
            assert one.cursor.ledger.dropped == {"unstorable": len(VALUES), "rejected": lost}
        end = FIRST_MS + 1000 * STEP_MS
        wait_for(
            lambda: len(server.raw_samples('{db="limpet"}', FIRST_MS, end)) == len(expected), 20, "all series"
        )
        found = server.raw_samples('{db="limpet"}', FIRST_MS, end)
        for labels, samples in found.items():
            own = tuple(pair for pair in labels if pair[0] != "db")
            times = [at for at, _ in expected[own]]
            assert [at for at, _ in samples] == times


def test_a_recorded_hour_is_there_bit_for_bit(server: influxdb.InfluxDB, tmp_path: Path) -> None:
    """The newest samples first, and the rest behind them."""
    queue = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=5000)
    to = settings(server.url, queue_config=queue, drain_order="fresh_first")
    expected: dict[Any, list[tuple[int, float]]] = {}
    with host(tmp_path, to, ticks=0) as one:
        one.collect(1)  # what the lane starts with
        for ticks in replay.load().rounds:
            one.buffer.append(ticks)
            for tick in ticks:
                for series, value in zip(tick.series, tick.values, strict=True):
                    expected.setdefault(labels_of(series), []).append((tick.at.wall_ms, value))
        one.settled(60.0)
        assert not one.cursor.ledger.dropped
        expected |= {labels: list(samples.items()) for labels, samples in one.expected.items()}
    assert sum(map(len, expected.values())) > 40_000
    assert bits(server.samples()) == bits(expected)


def test_what_was_refused_is_replayed_when_its_cause_is_gone(
    server: influxdb.InfluxDB, tmp_path: Path
) -> None:
    server.post(f"memory,hostname=a value=1i {FIRST_MS}\n")
    with host(tmp_path, settings(server.url), ticks=10) as one:
        one.settled()
        assert one.cursor.ledger.dropped == {"rejected": 10}
    config = tmp_path / "limpet.yaml"
    config.write_text(
        f"data_dir: {tmp_path / 'data'}\ninfluxdb: [{{url: {server.url}, db: limpet, name: there}}]\n"
    )
    refused = limpet(tmp_path, "buffer", "quarantine", "replay", "--all", "--config", config)
    assert (refused.status, "field type conflict" in refused.out) == (1, True)
    server.ask("DROP MEASUREMENT memory")
    done = limpet(tmp_path, "buffer", "quarantine", "replay", "--all", "--config", config)
    assert (done.status, "10 of 10 samples delivered to there, removed" in done.out) == (0, True)
    assert [len(samples) for samples in server.samples().values()] == [10, 10]
