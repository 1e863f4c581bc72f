"""A real Alertmanager, with what ships in config/alertmanager, and the rules and Prometheus in front of it.

What ships is not for a test's patience: here a minute passes in a second. `shipped` and `rules` write copies in which
durations are divided by `FASTER` (waits of Alertmanager; `for`, `keep_firing_for` and `interval` of rules), addresses
and secret files are the test's, and the test decides whether it is within quiet hours. Everything else is as it ships; the
rules even byte by byte. Ranges in expressions stay: a test that needs an hour of data backdates it.
"""

from __future__ import annotations

import json
import re
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.support import prometheus
from tests.support.certs import Certs
from tests.support.channels import LOGIN, Channels
from tests.support.durations import milliseconds
from tests.support.server import Server

FOLDER = prometheus.CONFIG.parents[1] / "alertmanager"
CONFIG = FOLDER / "alertmanager.yml"
EXTERNAL_URL = "https://alerts.example.com"
RUNBOOKS = "https://docs.example.com/runbooks"
FASTER = 60

INSTALLED = b"/usr/share/prometheus/alertmanager"
"""Where Debian's program looks for Alertmanager's own templates, which it has in it elsewhere."""

_WAITS = ("group_wait", "group_interval", "repeat_interval")


class Alertmanager(Server):
    """An Alertmanager below `folder` with this configuration; it says that it is at `EXTERNAL_URL`."""

    name = "Alertmanager"

    def __init__(
        self,
        program: Path,
        folder: Path,
        config: Path,
        *,
        certs: Certs | None = None,
        flags: tuple[str, ...] = (),
    ) -> None:
        super().__init__(program, folder, certs=certs)
        self.config, self._flags = config, flags

    def command(self) -> list[str]:
        """Return the command, with a web configuration that was just written."""
        web = self.folder / "web.yml"
        tls = {}
        if self.certs:
            tls = {"cert_file": str(self.certs.server_cert), "key_file": str(self.certs.server_key)}
        web.write_text(yaml.safe_dump({"tls_server_config": tls} if tls else {}))
        own = self.program.with_name("share")
        return [
            *(["env", "-C", str(own)] if own.exists() else []),
            str(self.program),
            f"--config.file={self.config}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--web.config.file={web}",
            f"--web.external-url={EXTERNAL_URL}",
            "--web.route-prefix=/",
            "--cluster.listen-address=",
            "--log.level=debug",
            *self._flags,
        ]

    def is_ready(self) -> bool:
        """Whether it says so itself."""
        self.get("/-/ready")
        return True

    def alerts(self) -> list[dict[str, Any]]:
        """Return all alerts it knows, with `status`, which says what mutes each."""
        return [one for group in json.loads(self.get("/api/v2/alerts/groups")) for one in group["alerts"]]

    def fire(self, *alerts: dict[str, Any]) -> None:
        """Hand in alerts, as Prometheus does: labels, annotations, and endsAt for one that is over."""
        self._send("POST", "alerts", alerts)

    def silence(self, matching: dict[str, str]) -> str:
        """Silence what matches these regular expressions, for a day; return what `unsilence` takes."""
        now = datetime.now(UTC)
        matchers = [{"name": name, "value": value, "isRegex": True} for name, value in matching.items()]
        times = {"startsAt": now.isoformat(), "endsAt": (now + timedelta(days=1)).isoformat()}
        body = {"matchers": matchers, "createdBy": "test", "comment": "planned work"} | times
        return str(json.loads(self._send("POST", "silences", body))["silenceID"])

    def unsilence(self, silence: str) -> None:
        """End a silence."""
        self._send("DELETE", f"silence/{silence}", None)

    def _send(self, method: str, what: str, body: object) -> bytes:
        request = urllib.request.Request(
            f"{self.url}/api/v2/{what}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:
            found: bytes = answer.read()
            return found


def ready(program: Path, folder: Path) -> Path:
    """Return an Alertmanager that runs: Debian's, where it is unpacked but not installed, as a copy in `folder`.

    In the copy, the path of its own templates leads to the folder that it is started in, which is theirs (`share`).
    """
    unpacked = program.parents[1] / "share" / "prometheus" / "alertmanager"
    if Path(INSTALLED.decode()).exists() or not unpacked.exists():
        return program
    copy = folder / program.name
    copy.write_bytes(program.read_bytes().replace(INSTALLED, b"./" * (len(INSTALLED) // 2)))
    copy.chmod(0o755)
    copy.with_name("share").symlink_to(unpacked)
    return copy


def faster(duration: str, by: int = FASTER) -> str:
    """Return a duration of Prometheus's, divided."""
    return f"{milliseconds(duration) // by}ms"


def shipped(folder: Path, channels: Channels, certs: Certs, *, night: bool = False, by: int = FASTER) -> Path:
    """Write the configuration that ships, with this test's addresses and waits that are shorter by `by`; return the file."""
    config = yaml.safe_load(CONFIG.read_text())
    there = {
        "smtp_password": LOGIN.password,
        "slack_url": channels.url("slack"),
        "pagerduty_key": "a-routing-key",
        "webhook_url": channels.url("webhook"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, secret in there.items():
        (folder / name).write_text(f"{secret}\n")  # as editors and echo write it
    config = _replaced(config, folder, by)
    config["global"] |= {
        "smtp_smarthost": channels.smarthost,
        "smtp_tls_config": {"ca_file": str(certs.ca)},
        "pagerduty_url": channels.url("pagerduty"),
    }
    config["templates"] = [str(FOLDER / glob) for glob in config["templates"]]
    assert [interval["name"] for interval in config["time_intervals"]] == ["night"]
    hour = (datetime.now(UTC) + timedelta(hours=12)).hour
    times = ("00:00", "24:00") if night else (f"{hour:02}:00", f"{hour:02}:59")
    config["time_intervals"][0]["time_intervals"] = [
        {"location": "UTC", "times": [{"start_time": times[0], "end_time": times[1]}]}
    ]
    file = folder / "alertmanager.yml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


def _replaced(node: Any, folder: Path, by: int) -> Any:
    """Return the configuration with shorter waits, and secret files that are in `folder`."""
    if isinstance(node, list):
        return [_replaced(one, folder, by) for one in node]
    if not isinstance(node, dict):
        return node
    found = {}
    for key, value in node.items():
        if key in _WAITS:
            value = faster(value, by)
        elif key.endswith("_file"):
            value = str(folder / Path(value).name)
            assert Path(value).exists(), f"{key} is a secret that the test does not know"
        found[key] = _replaced(value, folder, by)
    return found


def rules(folder: Path) -> Path:
    """Write the configuration of Prometheus and the rules that ship, with shorter durations; return the file.

    The file has no Alertmanager yet: see `alerting`.
    """
    config = yaml.safe_load(prometheus.CONFIG.read_text())
    here = prometheus.CONFIG.parent
    files = [file for glob in config["rule_files"] for file in sorted(here.glob(glob))]
    assert files, "no rules ship"
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        durations = r"(?m)^(\s*(?:- )?(?:for|keep_firing_for|interval): )(\w+)$"
        text = re.sub(durations, lambda found: found[1] + faster(found[2]), file.read_text())
        text = text.replace("[1m]", f"[{faster('1m')}]")  # a level is judged by the samples of a minute
        (folder / file.name).write_text(text)
    config["rule_files"] = [file.name for file in files]
    config["global"]["evaluation_interval"] = faster(config["global"]["evaluation_interval"])
    config["global"]["external_labels"]["runbooks"] = RUNBOOKS
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(config, sort_keys=False))
    return written


def alerting(file: Path, alertmanager: Alertmanager) -> None:
    """Add an Alertmanager, over TLS, to a configuration of Prometheus that `rules` wrote."""
    config = yaml.safe_load(file.read_text())
    assert alertmanager.certs
    there = {"scheme": "https", "tls_config": {"ca_file": str(alertmanager.certs.ca)}}
    targets = {"static_configs": [{"targets": [f"127.0.0.1:{alertmanager.port}"]}]}
    config["alerting"]["alertmanagers"] = [there | targets]
    file.write_text(yaml.safe_dump(config, sort_keys=False))
