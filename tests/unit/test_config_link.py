"""`link: metered`: what the word sets, which keys win over it, and how a person sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import main as cli
from agent.config import DestinationConfig, load

WRITE = "{url: 'https://a.example.com/api/v1/write', name: central, %s}"
INFLUX = "{url: 'https://a.example.com/', name: central, db: x, %s}"


def loaded(keys: str, section: str = "remote_write", text: str = WRITE) -> DestinationConfig:
    return load(f"{section}: [{text % keys}]", "f.yaml").config.destinations[0]


@pytest.mark.parametrize(
    ("keys", "deadline", "bandwidth"),
    [
        ("", 30.0, None),
        ("link: usual", 30.0, None),
        ("link: metered", 180.0, 32 << 10),
        ("link: metered, queue_config: {max_backoff: 2m}", 180.0, 32 << 10),
        ("link: metered, queue_config: {batch_send_deadline: 30s}", 30.0, 32 << 10),
        ("link: metered, queue_config: {batch_send_deadline: null}", 180.0, 32 << 10),
        ("link: metered, max_bandwidth: 1MiB", 180.0, 1 << 20),
        ("queue_config: {batch_send_deadline: 10s}, max_bandwidth: 1KiB, link: metered", 10.0, 1 << 10),
    ],
)
@pytest.mark.parametrize(("section", "text"), [("remote_write", WRITE), ("influxdb", INFLUX)])
def test_a_key_that_is_written_wins_over_the_word(
    keys: str, deadline: float, bandwidth: int | None, section: str, text: str
) -> None:
    to = loaded(keys, section, text)
    assert (to.queue_config.batch_send_deadline, to.max_bandwidth) == (deadline, bandwidth)
    assert to.send_unchanged_every == 0.0


def test_other_keys_of_the_section_stay() -> None:
    assert loaded("link: metered, queue_config: {max_backoff: 2m}").queue_config.max_backoff == 120.0


def test_check_config_shows_what_it_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "limpet.yaml"
    keys = "link: metered, queue_config: {batch_send_deadline: 1m}"
    file.write_text(f"hostname: web-01\nremote_write: [{WRITE % keys}]\n")
    assert cli.main(["check-config", str(file)]) == 0
    said = "central: link: metered: queue_config.batch_send_deadline: 1m (as written), max_bandwidth: 32KiB"
    assert capsys.readouterr().out.splitlines() == [f"{file}: fine", said]
    assert cli.main(["check-config", "--json", str(file)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["by_link"] == {
        "central": {"queue_config.batch_send_deadline": "1m (as written)", "max_bandwidth": "32KiB"}
    }
