"""The Ansible role: from nothing to samples at a receiver, the same again, a change, a wrong change, and dry runs.

Ansible itself reaches a Debian with systemd as it reaches a host by SSH; only the program `ssh` is another one.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import agent as limpet
from tests.support.machine import Machine, base
from tests.support.net import wait_for
from tests.support.packages import built
from tests.support.receiver import Receiver
from tests.support.run import run
from tools import deb

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
SECRET = "canary-of-ansible"
SECONDS = 120
CONFIG, PASSWORD = "/etc/limpet/limpet.yaml", "/etc/limpet/password"

pytestmark = pytest.mark.timeout(900)


class Result(NamedTuple):
    """How a run of the playbook ended: its exit status, what it printed, and its count of tasks by outcome."""

    status: int
    out: str
    counts: dict[str, int]


class Host:
    """A machine, and the playbook that is run for it."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine, self._folder = machine, folder
        ssh = folder / "ssh"
        inside = shlex.join(machine.inside("sh", "-c"))
        # The last word is the command for the host; the words before it are for SSH.
        ssh.write_text(f'#!/bin/sh\nfor command; do :; done\nexec {inside} "$command"\n')
        ssh.chmod(0o755)
        self._settings = os.environ | {
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_SSH_ARGS": "",
            "ANSIBLE_SSH_EXECUTABLE": str(ssh),
            "ANSIBLE_SSH_TRANSFER_METHOD": "piped",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_ROLES_PATH": str(ROOT / "packaging/ansible/roles"),
            "LC_ALL": "C.UTF-8",
        }

    def play(self, config: dict[str, Any], *options: str) -> Result:
        """Run a playbook with the role alone; the secret is this host's password."""
        variables = {
            "limpet_version": limpet.__version__,
            "limpet_secrets": {"password": SECRET},
            "limpet_config": config,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        playbook = self._folder / "play.yml"
        play = {"hosts": "edge-7", "gather_facts": False, "roles": [{"role": "limpet"}], "vars": variables}
        playbook.write_text(json.dumps([play]))
        done = run(
            *(ANSIBLE, "--inventory", "edge-7,", "--user", "root", "--diff", *options, playbook),
            env=self._settings,
            stdin=subprocess.DEVNULL,
            timeout=300,
        )
        out = done.stdout + done.stderr
        recap = [line for line in out.splitlines() if line.startswith("edge-7 ")]
        assert len(recap) == 1, out
        counts = dict(word.split("=") for word in recap[0].split(":", 1)[1].split())
        return Result(done.returncode, out, {name: int(count) for name, count in counts.items()})

    @property
    def pid(self) -> str:
        """The agent's process; a restart changes it, a reload does not."""
        return self.machine.property("limpet", "MainPID")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if not ANSIBLE.exists():
        pytest.skip("there is no ansible-playbook in this environment")
    if not shutil.which("dpkg-deb") or deb.native() not in ("amd64", "arm64"):
        pytest.skip("no package can be made here")
    with Machine(base("bookworm"), tmp_path / "edge-7") as machine:
        # As most installations have it; the role's own task would fetch it from an archive.
        machine.run("apt-get", "install", "-y", "python3-apt")
        built(tmp_path / "files")
        yield Host(machine, tmp_path)


def configuration(receiver: Receiver, **labels: str) -> dict[str, Any]:
    central = {"name": "central", "url": receiver.url, "queue_config": {"batch_send_deadline": "1s"}}
    central["basic_auth"] = {"username": "edge-7", "password_file": PASSWORD}
    return {
        "hostname": "edge-7",
        "labels": labels,
        "collect": {"interval": "1s"},
        "remote_write": [central],
    }


def arrived(receiver: Receiver, **labels: str) -> bool:
    return any(set(labels.items()) <= set(series) for series in receiver.received())


def test_the_role_is_tried_on_a_host(host: Host) -> None:
    machine = host.machine
    with Receiver() as receiver:
        config = configuration(receiver, site="north")

        # A dry run of a new host says that it would install, and leaves nothing.
        dry = host.play(config, "--check")
        assert (dry.status, dry.counts["failed"], dry.counts["changed"]) == (0, 0, 1), dry.out
        assert machine.run("dpkg", "-s", "limpet", check=False).returncode == 1
        assert not machine.path("/etc/limpet").exists()
        assert not machine.path("/var/tmp/limpet.deb").exists()

        first = host.play(config)
        assert (first.status, first.counts["failed"]) == (0, 0), first.out
        wait_for(lambda: arrived(receiver, hostname="edge-7", site="north"), SECONDS, "samples")
        credentials = base64.b64encode(f"edge-7:{SECRET}".encode()).decode()
        assert receiver.requests[-1].headers["authorization"] == f"Basic {credentials}"
        assert machine.run("systemctl", "is-enabled", "limpet").stdout.strip() == "enabled"
        modes = machine.shell(f"stat -c '%U:%G %a' /etc/limpet {CONFIG} {PASSWORD}").splitlines()
        assert modes == ["root:limpet 750", "root:limpet 640", "root:limpet 640"]
        assert machine.path(PASSWORD).read_text() == SECRET
        assert not machine.path("/var/tmp/limpet.deb").exists()

        pid, text = host.pid, machine.path(CONFIG).read_text()
        again = host.play(config)
        assert (again.status, again.counts["changed"]) == (0, 0), again.out
        assert host.pid == pid

        # A dry run of a change shows it; the change is taken by a reload.
        south = configuration(receiver, site="south")
        dry = host.play(south, "--check")
        assert (dry.status, dry.counts["changed"]) == (0, 2), dry.out  # the file, and the reload
        assert "+  site: south" in dry.out
        assert machine.path(CONFIG).read_text() == text
        change = host.play(south)
        assert (change.status, change.counts["changed"]) == (0, 2), change.out
        wait_for(lambda: arrived(receiver, site="south"), SECONDS, "samples with the new label")
        assert host.pid == pid

        # What root can read and the service's user cannot is refused before the file is replaced.
        text = machine.path(CONFIG).read_text()
        machine.shell("install -m 0600 /dev/stdin /srv/password < /dev/null; echo x > /srv/password")
        south["remote_write"][0]["basic_auth"]["password_file"] = "/srv/password"
        wrong = host.play(south)
        assert wrong.status != 0
        assert "/srv/password cannot be read by user limpet: permission denied" in wrong.out
        assert machine.path(CONFIG).read_text() == text
        assert host.pid == pid
    for result in (dry, first, again, change, wrong):
        assert SECRET not in result.out


def test_the_example_has_only_what_the_role_and_the_agent_know(tmp_path: Path) -> None:
    """Ansible reads it, and the role's options are those that the example sets."""
    if not ANSIBLE.exists():
        pytest.skip("there is no ansible-playbook in this environment")
    done = run(
        *(ANSIBLE, "--syntax-check", "--inventory", "edge-7,", ROOT / "packaging/ansible/site.yml"),
        env=os.environ | {"LC_ALL": "C.UTF-8", "ANSIBLE_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
