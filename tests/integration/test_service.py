"""The systemd unit under systemd itself: the strictest sandbox under which every collector still sees everything.

In this Debian a system call that the unit's filter does not let through kills the agent, so a filter that is too
narrow cannot pass for a good one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.support.agent import QUICK
from tests.support.certs import Certs
from tests.support.installed import install
from tests.support.machine import Machine, base
from tests.support.net import free_port, wait_for
from tests.support.prometheus import Prometheus
from tests.support.run import output, run
from tests.support.server import Login

SYSTEMD = Path(__file__).resolve().parents[2] / "packaging" / "systemd"
UNIT = SYSTEMD / "limpet.service"
CONFIG, DROP_INS = "/etc/limpet/limpet.yaml", "/etc/systemd/system/limpet.service.d"
TEXTFILES = "/var/lib/node_exporter"
LOGIN = Login("web-01", "tide-in-tide-out")

# File systems where a sandbox would hide them; and one at /tmp, on top of which PrivateTmp puts another.
MOUNTS = {
    "/home": 11, "/root": 12, "/run/user/1000": 13, "/srv": 14, "/mnt/usb": 15, "/boot": 16, "/var/spool": 17,
    "/tmp": 18, "/var/tmp": 19, "/opt/data": 20, "/usr/local": 21, "/etc/keys": 22,
}  # fmt: skip
LATER = "/media/later"

PREPARE = """
echo "127.0.0.1 localhost" > /etc/hosts
useradd --system --user-group --no-create-home limpet
"""
for path, size in MOUNTS.items():
    PREPARE += f"mkdir -p {path}; mount -t tmpfs -o size={size}m,mode=1777 tmpfs {path}\n"

# The first time on a machine a Debian is made.
pytestmark = pytest.mark.timeout(900)
IN_ORDER = True
analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")


class Host(NamedTuple):
    """A Debian with the service in it, and the Prometheus to which it pushes."""

    inside: Machine
    prometheus: Prometheus

    def configure(self, **changes: Any) -> None:
        text = yaml.safe_dump(config(self.prometheus) | changes)
        self.inside.path(CONFIG).write_text(text)

    def drop_in(self, name: str, *lines: str) -> None:
        folder = self.inside.path(DROP_INS)
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.conf").write_text("[Service]\n" + "".join(f"{line}\n" for line in lines))
        self.inside.run("systemctl", "daemon-reload")

    def systemctl(self, verb: str) -> None:
        self.inside.run("systemctl", verb, "limpet")

    def show(self, name: str) -> str:
        return self.inside.property("limpet", name)

    def pid(self) -> int:
        """The agent's process, as it is numbered inside."""
        return int(self.show("MainPID"))

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        lines = self.inside.shell("journalctl --no-pager --output=cat --unit=limpet").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in found if name in (None, event["event"])]

    def collected(self) -> dict[tuple[str, ...], float]:
        """What collectors see outside of the sandbox, as root: series that both have, by name and labels."""
        done = self.inside.run("limpet", "collect", "--json", "--config", CONFIG)
        return compared((one["name"], one["labels"], one["value"]) for one in json.loads(done.stdout))

    def arrived(self) -> dict[tuple[str, ...], float]:
        """The newest values in Prometheus."""
        found = self.prometheus.query('{hostname="web-01"}')
        named = ((dict(labels), value) for labels, value in found.items())
        return compared((labels.pop("__name__"), labels, value) for labels, value in named)


def compared(found: Iterable[tuple[str, dict[str, str], float]]) -> dict[tuple[str, ...], float]:
    """Of names, labels and values those that are compared: values by name and labels.

    The agent's own health is no collector's, and a program that is scraped adds series as it is scraped. The mounts of
    the sandbox itself (its /dev, its credentials) are the agent's alone.
    """
    return {
        (name, *(f"{key}={text}" for key, text in sorted(labels.items()))): value
        for name, labels, value in found
        if not name.startswith("limpet_") and "job" not in labels
        if labels.get("mountpoint", "/") in {"/", LATER, *MOUNTS}
    }


def config(prometheus: Prometheus) -> dict[str, Any]:
    tls = {"ca_file": "/etc/limpet/ca.pem"}
    login = {"username": LOGIN.user, "password_file": "/run/credentials/limpet.service/password"}
    target = {"url": f"{prometheus.url}/metrics", "job": "local", "basic_auth": login, "tls_config": tls}
    # Names are looked up inside the sandbox, too.
    to = {
        "url": prometheus.write_url.replace("127.0.0.1", "localhost"),
        "name": "central",
        "queue_config": QUICK,
    }
    collectors = {
        "disk_usage": {"interval": "1s", "exclude_fstypes": []},
        "disk_io": {"exclude_devices": []},
        "network": {"exclude_interfaces": []},
        "scrape": {"targets": [target]},
        "textfile": {"directory": TEXTFILES},
    }
    return {
        "hostname": "web-01",
        "collect": {"interval": "1s", "collectors": collectors},
        "buffer": {"sync_interval": "500ms"},
        "log": {"format": "json"},
        "remote_write": [to | {"basic_auth": login, "tls_config": tls}],
    }


@pytest.fixture(scope="module")
def host(prometheus_program: Path, certs: Certs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The service, running."""
    folder = tmp_path_factory.mktemp("service")
    with (
        Machine(base("bookworm", "ca-certificates", "python3-venv"), folder / "machine") as inside,
        Prometheus(prometheus_program, folder / "prometheus", certs=certs, login=LOGIN) as prometheus,
    ):
        inside.shell(PREPARE)
        install(inside.path("/"))
        etc = inside.path("/etc/limpet")
        etc.mkdir(mode=0o750)
        inside.run("chown", "root:limpet", "/etc/limpet")
        shutil.copyfile(certs.ca, etc / "ca.pem")
        secret = inside.path("/etc/limpet-password")
        secret.write_text(LOGIN.password)
        secret.chmod(0o600)
        inside.path(TEXTFILES).mkdir()
        (inside.path(TEXTFILES) / "backup.prom").write_text("backup_age_seconds 3600\n")
        shutil.copyfile(UNIT, inside.path("/etc/systemd/system/limpet.service"))
        found = Host(inside, prometheus)
        found.configure()
        found.drop_in("kill", "SystemCallErrorNumber=kill")
        shutil.copyfile(SYSTEMD / "examples" / "credential.conf", inside.path(f"{DROP_INS}/credential.conf"))
        inside.run("systemctl", "daemon-reload")
        found.systemctl("start")
        yield found


@analyze
def test_its_exposure_is_low() -> None:
    said = output("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=16", UNIT)
    found = re.search(r"exposure level for limpet.service: (\S+)", said)
    assert found is not None
    assert f"gives it {found[1]} " in (SYSTEMD.parents[1] / "docs" / "operating.md").read_text()


@analyze
def test_it_is_verified(tmp_path: Path) -> None:
    program = tmp_path / "limpet"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "limpet.service"
    unit.write_text(UNIT.read_text().replace("/usr/bin/limpet", str(program)))

    def verify() -> str:
        done = run("systemd-analyze", "verify", "--man=no", unit)
        return done.stderr + ("" if done.returncode == 0 else f"status {done.returncode}")

    assert verify() == ""
    unit.write_text(unit.read_text() + "[Service]\nRestartSecs=1\n")
    assert "RestartSecs" in verify()


def test_systemd_says_it_is_ready_and_it_has_no_rights(host: Host) -> None:
    """Started is after the first round, so there is a buffer that a command can look at."""
    assert (host.show("ActiveState"), host.show("Type")) == ("active", "notify")
    assert "central" in host.show("StatusText")
    assert (host.show("WatchdogUSec"), host.show("Restart")) == ("2min", "on-failure")
    folder = host.inside.path("/var/lib/limpet")
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode & 0o777
        assert mode == (0o700 if path.is_dir() else 0o600), path
    status = host.inside.path(f"/proc/{host.pid()}/status").read_text()
    found = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert found["CapBnd"] == found["CapEff"] == found["CapAmb"] == "0" * 16
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    owner = host.inside.run("id", "-u", "limpet").stdout.strip()
    assert found["Uid"].split() == [owner] * 4


def test_it_can_write_to_its_own_folder_alone(host: Host) -> None:
    """In its mounts, as its user, everything that a person may write to is read-only but for its own folder and /tmp."""
    script = (
        "for folder in / /etc /usr/local /home /srv /mnt/usb /run/user/1000 /dev/shm /var/lib/limpet; do"
        '  (: > "$folder/try") 2>/dev/null && echo "$folder" && rm "$folder/try"; done; true'
    )
    enter = ["nsenter", f"--target={host.pid()}", "--mount", "setpriv", "--reuid=limpet", "--regid=limpet"]
    done = host.inside.run(*enter, "--clear-groups", "sh", "-c", script)
    assert done.stdout.split() == ["/var/lib/limpet"]


def test_every_collector_sees_in_the_sandbox_what_root_sees_outside(host: Host) -> None:
    """The same series, and the same sizes of all file systems, of those too that are mounted while it runs."""
    host.inside.path(LATER).mkdir(parents=True, exist_ok=True)
    host.inside.run("mount", "-t", "tmpfs", "-o", "size=23m", "tmpfs", LATER)
    expected = host.collected()
    assert len({name for name, *_ in expected}) > 60
    wait_for(lambda: not set(expected) - set(host.arrived()), 20, "every series to arrive")
    found = host.arrived()
    assert set(found) == set(expected)
    sizes = {key: value for key, value in expected.items() if key[0] in ("disk_total_bytes", "inode_total")}
    assert {key: found[key] for key in sizes} == sizes
    sizes_mib = {value / (1 << 20) for key, value in sizes.items() if key[0] == "disk_total_bytes"}
    assert {float(size) for size in [*MOUNTS.values(), 23]} <= sizes_mib
    assert host.prometheus.query('up{job="local"}')
    assert host.prometheus.query("backup_age_seconds")
    warned = [event for event in host.events() if event["level"] in ("warning", "error", "critical")]
    assert warned == []


def test_reload_applies_a_new_configuration(host: Host) -> None:
    pid = host.pid()
    host.configure(labels={"region": "eu-west"})
    host.systemctl("reload")
    wait_for(lambda: host.prometheus.query('load_average_1m{region="eu-west"}'), 20, "the new label")
    host.configure(collect={"interval": "often"})
    host.systemctl("reload")
    wait_for(lambda: "not reloaded" in host.show("StatusText"), 10, "the refusal")
    host.configure()
    host.systemctl("reload")
    assert host.pid() == pid


def test_the_journal_has_words_with_priorities(host: Host) -> None:
    """As the log is by default: words without a time of their own, and what is urgent is found by its priority."""
    read = "journalctl --no-pager --output=cat --unit=limpet"
    known = len(host.inside.shell(read).splitlines())
    host.configure(log={})
    host.systemctl("reload")
    wait_for(
        lambda: any(
            not line.startswith("{") and "configuration" in line
            for line in host.inside.shell(read).splitlines()[known:]
        ),
        10,
        "the log in words",
    )
    host.configure(log={}, collect={"interval": "often"})
    host.systemctl("reload")
    wait_for(lambda: "not reloaded" in host.show("StatusText"), 10, "the refusal")
    words = "the new configuration was refused, the agent runs on as before: "

    def refusals() -> list[str]:
        return [line for line in host.inside.shell(f"{read} -p err").splitlines() if line.startswith(words)]

    wait_for(refusals, 20, "the line in the journal")
    (refused,) = refusals()
    assert "collect.interval" in refused
    assert refused in host.inside.shell(f"{read} -g reload_refused").splitlines()
    assert refused not in host.inside.shell(f"{read} -p crit").splitlines()
    host.configure()
    host.systemctl("reload")


def test_a_stop_ends_the_series_and_a_restart_does_not(host: Host) -> None:
    """The agent asks systemd which of both it is, from inside the sandbox."""
    before = len(host.events("agent.stopping"))
    host.systemctl("restart")
    host.systemctl("stop")
    host.systemctl("start")
    wait_for(lambda: len(host.events("agent.stopping")) == before + 2, 10, "both stops in the journal")
    stops = host.events("agent.stopping")[before:]
    assert [event["series_end"] for event in stops] == [False, True]


def test_an_agent_that_hangs_is_restarted(host: Host) -> None:
    host.drop_in("watchdog", "WatchdogSec=1s", "RestartSec=100ms")
    host.systemctl("restart")
    pid = host.pid()
    host.inside.run("sh", "-c", f"kill -STOP {pid}")
    wait_for(lambda: host.pid() not in (0, pid) and host.show("ActiveState") == "active", 20, "a new process")
    assert host.show("NRestarts") == "1"


def test_it_is_never_given_up(host: Host) -> None:
    """A configuration that is wrong for a while: more starts than systemd allows by itself, and then it runs again."""
    host.drop_in("watchdog", "RestartSec=10ms")
    host.configure(collect={"interval": "often"})
    host.inside.run("systemctl", "restart", "limpet", check=False)
    wait_for(lambda: int(host.show("NRestarts")) > 6, 30, "some starts in vain")
    assert host.show("ActiveState") == "activating"
    host.configure()
    wait_for(lambda: host.show("ActiveState") == "active", 20, "the agent to run again")


def test_nothing_is_started_without_a_configuration(host: Host) -> None:
    host.systemctl("stop")
    os.rename(host.inside.path(CONFIG), host.inside.path(f"{CONFIG}.old"))
    host.systemctl("start")
    found = host.show("ActiveState"), host.show("ConditionResult")
    os.rename(host.inside.path(f"{CONFIG}.old"), host.inside.path(CONFIG))
    host.systemctl("start")
    assert found == ("inactive", "no")


SERVE_CONFIG = """
data_dir: /var/lib/limpet
log: {{format: json}}
serve: {{listen: '127.0.0.1:{port}', access_log: /var/log/limpet-serve/access.log}}
"""


def test_what_answers_over_http_is_another_user_who_sees_the_buffer_alone(host: Host) -> None:
    inside, port = host.inside, free_port()
    inside.shell(
        "id limpet-serve >/dev/null 2>&1 || useradd --system --user-group --no-create-home limpet-serve"
    )
    inside.path("/etc/limpet-serve").mkdir(mode=0o750, exist_ok=True)
    inside.run("chown", "root:limpet-serve", "/etc/limpet-serve")
    inside.path("/etc/limpet-serve/limpet.yaml").write_text(SERVE_CONFIG.format(port=port))
    inside.path("/var/lib/limpet/mask.key").write_text("secret")
    shutil.copyfile(SYSTEMD / "limpet-serve.service", inside.path("/etc/systemd/system/limpet-serve.service"))
    inside.run("systemctl", "daemon-reload")
    assert inside.run("systemctl", "is-enabled", "limpet-serve", check=False).stdout.strip() == "disabled"
    inside.run("systemctl", "start", "limpet-serve")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/buffer", timeout=60) as answer:
        status = json.load(answer)["data"]
    assert status["writer_pid"] == host.pid()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        assert b"load_average_1m" in answer.read()
    log = inside.path("/var/log/limpet-serve/access.log")
    # An access is logged when its answer has gone, and the client may be quicker than the log.
    wait_for(lambda: "/metrics" in log.read_text(), 10, "the access in the log")
    pid = inside.property("limpet-serve", "MainPID")
    lines = inside.path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":\t") for line in lines if ":\t" in line)
    assert found["CapBnd"] == found["CapEff"] == "0" * 15 + "4"  # CAP_DAC_READ_SEARCH
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert found["Uid"].split() == [inside.run("id", "-u", "limpet-serve").stdout.strip()] * 4
    # As root in its mounts, which no right of a user bounds: what is not there is not there.
    script = (
        "for path in /etc/shadow /etc/limpet /etc/limpet-password /home/* /root/* /var/log/journal /srv/*; do"
        '  [ -e "$path" ] && echo "$path"; done; cat /var/lib/limpet/mask.key; ls /var/lib/limpet;'
        " touch /var/lib/limpet/try 2>/dev/null; true"
    )
    done = inside.run("nsenter", f"--target={pid}", "--mount", "sh", "-c", script)
    assert set(done.stdout.split()) >= {"segments", "cursors", "mask.key"}
    assert "/" not in done.stdout
    assert "secret" not in done.stdout
    assert not inside.path("/var/lib/limpet/try").exists()
    inside.run("systemctl", "stop", "limpet-serve")
    assert inside.property("limpet-serve", "Result") == "success"
    inside.path("/var/lib/limpet/mask.key").unlink()
