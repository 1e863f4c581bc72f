"""`limpet doctor --bundle`: everything that helps is in it, and of secrets that are everywhere, none."""

from __future__ import annotations

import stat
import tarfile
from pathlib import Path

import pytest
import yaml

from agent.collectors.options import Options
from agent.config import Collector, CollectSection, Config
from agent.ops.shown import shown
from tests.support.agent import Agent
from tests.support.limpet import Done, limpet
from tests.support.net import free_port, wait_for
from tests.support.receiver import Answer, Receiver

SECONDS = 60
CANARY = "canary"
NAMES = {
    "system.txt",
    "config.yaml",
    "status.json",
    "check-config.json",
    "doctor.json",
    "buffer-status.json",
    "verify.json",
    "log.txt",
}


def read(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {one.name: archive.extractfile(one) for one in archive.getmembers()}
        return {name.removeprefix("limpet/"): file.read().decode() for name, file in found.items() if file}


def bundled(folder: Path, file: Path, *more: str) -> Done:
    return limpet(folder, "doctor --bundle", folder / "box.tar.gz", "--config", file, *more)


def secret(folder: Path, name: str) -> str:
    path = folder / name
    path.write_text(f"{CANARY}-{name}-of-a-file\n")
    return str(path)


def test_no_secret_is_in_it_and_what_helps_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver repeats what it was sent, so that it is in the status and in what doctor says too."""
    monkeypatch.setenv("RECEIVER_PASSWORD", f"{CANARY} of the environment")
    monkeypatch.setenv("HARMLESS", f"{CANARY}-of-no-interest")
    with Receiver() as receiver:
        receiver.default = Answer(401, body=f"no: {CANARY}-password-of-a-file {CANARY}-header".encode())
        to = {
            "url": f"{receiver.url}?token={CANARY}-query",
            "name": "central",
            "basic_auth": {"username": f"{CANARY}-user", "password_file": secret(tmp_path, "password")},
            "headers": {"X-Scope-OrgID": f"{CANARY}-header"},
            "http_headers": {
                "X-A": {
                    "values": [f"{CANARY}-value"],
                    "secrets": [f"{CANARY}-secret"],
                    "files": [secret(tmp_path, "h")],
                }
            },
        }
        oauth2 = {
            "url": receiver.url,
            "name": "second",
            "proxy_url": f"http://{CANARY}-me:{CANARY}-proxy@127.0.0.1:{free_port()}",
            "oauth2": {
                "client_id": "limpet",
                "client_secret_file": secret(tmp_path, "client"),
                "token_url": f"http://127.0.0.1:{free_port()}/token?k={CANARY}-token-query",
                "endpoint_params": {"audience": f"{CANARY}-parameter"},
            },
        }
        target = {
            "url": f"http://127.0.0.1:{free_port()}/metrics?key={CANARY}-target-query",
            "job": "plc",
            "headers": {"X-Key": f"{CANARY}-target-header"},
            "authorization": {"credentials": f"{CANARY}-target-credentials"},
        }
        pasted = {
            "job": "pasted",
            "static_configs": [{"targets": [f"127.0.0.1:{free_port()}"]}],
            "params": {"auth": [f"{CANARY}-params"]},
        }
        collect = {"interval": "1s", "collectors": {"scrape": {"targets": [target, pasted]}}}
        agent = Agent(tmp_path, [to, oauth2], collect=collect, labels={"site": "north"})
        with agent:
            wait_for(lambda: agent.destination("central").get("state") == "held", SECONDS, "held")
            with agent.config_file.open("a") as file:
                file.write(f"# {CANARY} in a comment\n")
            done = bundled(tmp_path, agent.config_file, "--yes")
    assert (done.status, done.err) == (0, "")
    found = read(tmp_path / "box.tar.gz")
    assert found.keys() == NAMES
    for name, text in (*found.items(), ("what is shown", done.out)):
        assert CANARY not in text, name
    assert stat.S_IMODE((tmp_path / "box.tar.gz").stat().st_mode) == 0o600
    assert all(name in done.out for name in NAMES)
    # What helps: where it sends, by which rules, what is wrong there.
    config = yaml.safe_load(found["config.yaml"])
    assert config["labels"] == {"site": "north"}
    assert config["remote_write"][0]["url"] == receiver.url
    assert config["remote_write"][0]["basic_auth"]["password_file"].endswith("/password")
    assert config["remote_write"][0]["queue_config"]["max_backoff"] == 0.5
    assert config["remote_write"][1]["oauth2"]["client_id"] == "limpet"
    assert config["collect"]["collectors"]["scrape"]["options"]["targets"][0]["job"] == "plc"
    assert "HTTP 401" in found["status.json"]
    assert '"writer_pid"' in found["buffer-status.json"]
    assert '"authentication"' in found["doctor.json"]
    assert "MemTotal" in found["system.txt"]


def test_a_configuration_with_errors_is_not_in_it(tmp_path: Path) -> None:
    file = tmp_path / "limpet.yaml"
    file.write_text(f"remote_write: [{{url: 'https://{CANARY}-u:{CANARY}-p@a/w', passwort: {CANARY}-x}}]\n")
    done = bundled(tmp_path, file, "--yes")
    assert done.status == 0
    found = read(tmp_path / "box.tar.gz")
    assert "passwort" in found["check-config.json"]
    assert CANARY not in "".join([*found.values(), done.out, done.err])
    # It is there now, and is not written over.
    done = bundled(tmp_path, file, "--yes")
    assert (done.status, "it is there already" in done.err) == (2, True)


def test_nothing_is_written_without_a_yes(tmp_path: Path) -> None:
    file = tmp_path / "limpet.yaml"
    file.write_text("data_dir: data\n")
    done = bundled(tmp_path, file)
    assert (done.status, "Add --yes" in done.err) == (2, True)
    assert "config.yaml" in done.out
    assert not (tmp_path / "box.tar.gz").exists()


class Own(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of somebody else's collector."""

    token: str
    most: int = 5


def test_what_belongs_to_somebody_elses_collector_is_not_shown() -> None:
    own = Collector(options=Own(token=CANARY, most=7))
    config = Config(collect=CollectSection(collectors={"queue": own}))
    assert shown(config)["collect"]["collectors"]["queue"]["options"] == {"token": "<secret>", "most": 7}
