"""A real VictoriaMetrics that takes OTLP. Debian builds its Prometheus without the endpoint, and has no OpenTelemetry Collector.

VictoriaMetrics keeps decimals of about 15 digits: `tests/fault/test_otlp.py` and `tests/unit/test_otlp.py` compare bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config import OTLP, BasicAuth, QueueConfig, TlsConfig
from agent.scrape.families import Family
from agent.scrape.table import Table
from buffer.model import STALE, Instant, Labels, Series, Tick
from tests.bench import replay
from tests.support.certs import Certs
from tests.support.exporter import recorded as recorded_exposition
from tests.support.limpet import limpet
from tests.support.net import wait_for
from tests.support.sending import BOOT, STEP_MS, host, labels_of
from tests.support.server import Login, Samples
from tests.support.victoria import VictoriaMetrics

PATH = "/opentelemetry/v1/metrics"
TEXTS = ("a b  c", "a,b", 'a="b"', "C:\\x\\", "Größe 温度 🌡", "a\nb\r\nc\td", "17")
OWN = frozenset(("host.name", "service.name", "service.instance.id", "scope.name", "scope.version"))
"""What VictoriaMetrics makes labels of besides those of a series: the resource and the scope."""


def settings(url: str, **more: Any) -> OTLP:
    queue = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=2000)
    return OTLP(**{"url": url + PATH, "name": "there", "queue_config": queue, **more})


def everything() -> tuple[Series, ...]:
    texts = [Series("texts", (("hostname", "a"), ("text", text))) for text in TEXTS]
    target = Series("scraped", (("hostname", "a"), ("instance", "a:9100"), ("job", "node")))
    return (*texts, Series("work_total", (("hostname", "a"),), "counter", "ops"), target)


def recorded() -> list[list[Tick]]:
    """Return the recorded hour of a host, which ends now."""
    recording = replay.load()
    return list(replay.repeated(recording, recording.samples, int(time.time() * 1000)))


def expected(rounds: list[list[Tick]]) -> Samples:
    found = Samples()
    for tick in (tick for ticks in rounds for tick in ticks):
        for series, value in zip(tick.series, tick.values, strict=True):
            found.setdefault(labels_of(series), []).append((tick.at.wall_ms, value))
    return found


def stored(server: VictoriaMetrics, samples: int) -> Samples:
    """Return what is stored of the series with a hostname, once there are so many samples; each once."""
    now = int(time.time() * 1000)

    def look() -> dict[Labels, list[tuple[int, float]]] | None:
        found = server.raw_samples('{hostname=~".+"}', now - 7_200_000, now)
        plain = {
            tuple(pair for pair in labels if pair[0] not in OWN): sorted(set(of))
            for labels, of in found.items()
        }
        return plain if sum(map(len, plain.values())) >= samples else None

    return wait_for(look, 30, f"{samples} samples")


@pytest.fixture
def server(victoria_program: Path, tmp_path: Path) -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics(victoria_program, tmp_path / "victoria") as running:
        yield running


def test_a_recorded_hour_is_there_over_a_restart_of_the_receiver(
    server: VictoriaMetrics, tmp_path: Path
) -> None:
    rounds = recorded()
    half = len(rounds) // 2
    with host(tmp_path, settings(server.url), ticks=0) as one:
        for ticks in rounds[:half]:
            one.buffer.append(ticks)
        one.settled()
        server.stop()
        for ticks in rounds[half:]:
            one.buffer.append(ticks)
        one.failed(1)
        server.start()
        one.settled()
        assert not one.cursor.ledger.dropped
    wanted = expected(rounds)
    found = stored(server, sum(map(len, wanted.values())))
    assert found.keys() == wanted.keys()
    for labels, samples in wanted.items():
        assert [at for at, _ in found[labels]] == [at for at, _ in samples]
        assert [v for _, v in found[labels]] == pytest.approx([v for _, v in samples], rel=1e-12)


def test_labels_are_as_they_were_and_a_series_that_ended_has_ended(
    server: VictoriaMetrics, tmp_path: Path
) -> None:
    series, first = everything(), int(time.time()) * 1000 - 3 * STEP_MS
    with host(tmp_path, settings(server.url), series=series, ticks=0) as one:
        for n, value in enumerate((1.0, 2.0, STALE)):
            at = Instant(first + n * STEP_MS, 60_000 + n * STEP_MS, BOOT)
            one.buffer.append([Tick(at, "all", series, [value] * len(series))])
        one.settled()
        assert not one.cursor.ledger.dropped
    found = stored(server, 2 * len(series))
    assert found == {labels_of(one): [(first, 1.0), (first + STEP_MS, 2.0)] for one in series}


@pytest.mark.parametrize("name", ["node", "prometheus"])
def test_histograms_and_summaries_of_real_programs_are_stored_as_their_series(
    server: VictoriaMetrics, tmp_path: Path, name: str
) -> None:
    """Bounds come as numbers, so VictoriaMetrics writes `le` and `quantile` in its own way."""

    def named(metric: str, labels: Labels, family: Family) -> Series | None:
        of = tuple(sorted((*labels, ("hostname", "a"))))
        is_one = family.type in ("histogram", "summary")
        return Series(metric, of, family.type, family.unit, family.help) if is_one else None

    read = Table(named, 100_000).read(recorded_exposition(name), openmetrics=False)
    assert {one.type for one in read.series} <= {"histogram", "summary"}
    at = Instant(int(time.time()) * 1000, 60_000, BOOT)
    one_tick = Tick(at, "all", read.series, read.values)
    with host(tmp_path, settings(server.url), series=read.series, ticks=0) as one:
        one.buffer.append([one_tick])
        one.settled()
        assert not one.cursor.ledger.dropped

    def number_of(labels: Labels) -> tuple[tuple[str, str | float], ...]:
        return tuple((key, float(text) if key in ("le", "quantile") else text) for key, text in labels)

    wanted = {
        number_of(labels): value for labels, [(_, value)] in expected([[one_tick]]).items() if value == value
    }
    found = {number_of(labels): value for labels, [(_, value)] in stored(server, len(wanted)).items()}
    assert found.keys() == wanted.keys()
    assert found == {labels: pytest.approx(value, rel=1e-12) for labels, value in wanted.items()}


def test_zstd_and_names_by_the_semantic_conventions(server: VictoriaMetrics, tmp_path: Path) -> None:
    own = ("hostname", "a")
    series = (
        Series("memory_free_bytes", (own,), "gauge", "bytes"),
        Series("network_sent_bytes_total", (own, ("interface", "eth0")), "counter", "bytes"),
        Series("cpu_usage_percent", (("core", "all"), own), "gauge", "percent"),
    )
    to = settings(server.url, compression="zstd", names="semantic")
    first = int(time.time()) * 1000
    with host(tmp_path, to, series=series, ticks=0) as one:
        at = Instant(first, 60_000, BOOT)
        one.buffer.append([Tick(at, "all", series, [4096.0, 17.0, 25.0])])
        one.settled()
        assert not one.cursor.ledger.dropped
    assert stored(server, 3) == {
        (("__name__", "system.memory.usage"), own, ("system.memory.state", "free")): [(first, 4096.0)],
        (
            ("__name__", "system.network.io"),
            own,
            ("network.interface.name", "eth0"),
            ("network.io.direction", "transmit"),
        ): [(first, 17.0)],
        (("__name__", "system.cpu.utilization"), own): [(first, 0.25)],
    }


def test_with_tls_and_a_password_that_is_corrected(
    victoria_program: Path, certs: Certs, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("wrong")
    login, rounds = Login("limpet", "correct horse"), recorded()[:3]
    with VictoriaMetrics(victoria_program, tmp_path / "victoria", certs=certs, login=login) as server:
        auth = BasicAuth(username=login.user, password_file=str(password))
        to = settings(server.url, basic_auth=auth, tls_config=TlsConfig(ca_file=str(certs.ca)))
        with host(tmp_path, to, ticks=0) as one:
            for ticks in rounds:
                one.buffer.append(ticks)
            assert one.held().startswith("HTTP 401: ")
            password.write_text(login.password)
            one.settled()
            assert not one.cursor.ledger.dropped
        wanted = expected(rounds)
        assert stored(server, sum(map(len, wanted.values()))).keys() == wanted.keys()


def test_doctor_walks_to_it_and_says_what_is_wrong_with_the_url(
    server: VictoriaMetrics, tmp_path: Path
) -> None:
    config = tmp_path / "limpet.yaml"
    url = server.url + PATH
    text = (
        f"data_dir: {tmp_path / 'data'}\notlp: [{{name: there, url: {url}}}]\ncollect: {{collectors: {{}}}}\n"
    )
    config.write_text(text)
    done = limpet(tmp_path, "doctor", "--config", config, "--json")
    steps = {step["step"]: step for step in done.json if step["part"] == "there"}
    assert list(steps) == ["name", "connection", "TLS", "authentication", "empty write", "clock", "sample"]
    assert {step["ok"] for step in steps.values()} == {True}, steps

    config.write_text(text.replace(PATH, "/v1/metrics"))
    done = limpet(tmp_path, "doctor", "--config", config, "--json")
    wrong = [step for step in done.json if step["part"] == "there" and step["ok"] is False]
    assert wrong
    assert "url" in wrong[0]["do"] + wrong[0]["said"]
