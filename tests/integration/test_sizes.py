"""Real servers that take requests up to some size only: everything arrives, and the size that goes is found once."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import QueueConfig, TlsConfig
from agent.system.events import Event
from buffer.model import Series
from tests.support import sending
from tests.support.certs import Certs
from tests.support.real_proxy import Nginx
from tests.support.sending import STEP_MS, Host, count, destination, host
from tests.support.victoria import VictoriaMetrics

SERIES = tuple(Series(f"m{i:04}", (("hostname", "a"), ("device", f"x{i * 7919:x}"))) for i in range(1500))
TICKS = 3
LATELY_MS = 1_780_000_000_000  # VictoriaMetrics takes nothing of the future


@pytest.fixture(autouse=True)
def lately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "FIRST_MS", LATELY_MS)


def has_arrived(one: Host, victoria: VictoriaMetrics) -> None:
    """Everything is there, each sample once."""
    found = victoria.raw_samples('{hostname="a"}', LATELY_MS, LATELY_MS + TICKS * STEP_MS)
    assert {labels: dict(samples) for labels, samples in found.items()} == one.expected
    assert sum(map(len, found.values())) == count(one.expected)
    assert (one.cursor.ledger.delivered, one.cursor.ledger.dropped) == (count(one.expected), {})
    assert not one.quarantine.items()


@pytest.mark.parametrize("largest", ["4k", "16k"])
def test_nginx_refuses_a_record_for_its_size(
    tmp_path: Path, victoria_program: Path, nginx_program: Path, certs: Certs, largest: str
) -> None:
    tls = TlsConfig(ca_file=str(certs.ca), cert_file=str(certs.client_cert), key_file=str(certs.client_key))
    with (
        VictoriaMetrics(victoria_program, tmp_path / "victoria") as victoria,
        Nginx(nginx_program, tmp_path / "nginx", victoria, certs=certs, largest=largest) as nginx,
    ):
        to = destination(nginx.write_url, tls_config=tls, queue_config=QueueConfig(batch_send_deadline=0.02))
        with host(tmp_path, to, series=SERIES, ticks=TICKS) as one:
            one.settled(60)
            assert 1 <= len(one.logged(Event.BATCH_HALVED)) <= 12
            assert {entry["error"][:8] for entry in one.logged(Event.BATCH_HALVED)} == {"HTTP 413"}
            has_arrived(one, victoria)


class Small(VictoriaMetrics):
    """It takes requests of 4 kB, and says with 400 that one is larger."""

    def command(self) -> list[str]:
        return [*super().command(), "-maxInsertRequestSize=4KB"]


def test_victoria_metrics_says_too_large_with_400(tmp_path: Path, victoria_program: Path) -> None:
    with Small(victoria_program, tmp_path / "victoria") as victoria:
        to = destination(victoria.write_url, queue_config=QueueConfig(batch_send_deadline=0.02))
        with host(tmp_path, to, series=SERIES, ticks=TICKS) as one:
            one.settled(60)
            assert one.logged(Event.BATCH_HALVED)
            assert not one.logged(Event.REFUSED)
            has_arrived(one, victoria)
