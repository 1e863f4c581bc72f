"""The container image: built by its Dockerfile's own steps, and run as an engine runs it: its user, a read-only root, no rights."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

import agent
from tests.support.buildah import Buildah, Image, wheels
from tests.support.installed import locked
from tests.support.namespaces import inside
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.run import run
from tests.support.server import tied
from tools import sbom

PROJECT = Path(__file__).resolve().parents[2]
DOCKERFILE = PROJECT / "packaging" / "container" / "Dockerfile"
DATA = "/var/lib/limpet"

# The first time on a machine a Debian is made, and an image of it.
pytestmark = pytest.mark.timeout(900)

# Into the image's root, as its user, with its environment and nothing else.
ENTER = """
import ctypes, json, os, sys
root, user, environment, words = json.loads(sys.argv[1])
os.chroot(root)
os.chdir("/")
os.setgroups([])
os.setresgid(user[1], user[1], user[1])
os.setresuid(user[0], user[0], user[0])
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0  # no new privileges
os.environ["PATH"] = environment["PATH"]
os.execvpe(words[0], words, environment)
"""

# As `docker run --read-only --network host --volume /:/host:ro,rslave ...` has it: docs/install.md.
CONTAINER = f"""
mount --bind "$IMAGE" "$IMAGE"
mount -o remount,bind,ro "$IMAGE"
mount -t proc proc "$IMAGE/proc"
mount --rbind / "$IMAGE/host"
mount -t tmpfs -o mode=755 dev "$IMAGE/dev"
: > "$IMAGE/dev/null"; mount --bind /dev/null "$IMAGE/dev/null"
: > "$IMAGE/dev/urandom"; mount --bind /dev/urandom "$IMAGE/dev/urandom"
mount --bind "$DATA" "$IMAGE{DATA}"
mount --bind "$CONFIG" "$IMAGE/etc/limpet"
"""


class Container:
    """The image's own command, or another one, in its root."""

    def __init__(self, image: Image, folder: Path, destinations: list[dict[str, Any]]) -> None:
        self.image, self.data, self.log = image, folder / "data", folder / "container.log"
        config = folder / "config"
        config.mkdir(parents=True)
        self.data.mkdir()
        user, group = map(int, image.config["User"].split(":"))
        os.chown(self.data, user, group)
        settings = {
            "hostname": "web-01",
            "collect": {"interval": "1s", "host_root": "/host"},
            "buffer": {"sync_interval": "500ms"},
            "remote_write": destinations,
        }
        (config / "limpet.yaml").write_text(yaml.safe_dump(settings))
        self._paths = {"IMAGE": str(image.root), "DATA": str(self.data), "CONFIG": str(config)}
        self._process: subprocess.Popen[bytes] | None = None

    def command(self, words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        own = self.image.config
        user = [int(number) for number in own["User"].split(":")]
        environment = dict(line.split("=", 1) for line in own["Env"])
        told = json.dumps([str(self.image.root), user, environment, list(words)])
        options = ["--pid", "--fork", "--kill-child", "--uts"]
        command, outside = inside(CONTAINER, more=options, command=[sys.executable, "-c", ENTER, told])
        return command, {**outside, **self._paths}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command, environment = self.command(words)
        return run(*command, env=environment, timeout=60)

    def healthy(self) -> subprocess.CompletedProcess[str]:
        kind, *test = self.image.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.run(*test)

    def __enter__(self) -> Self:
        words = [*self.image.config["Entrypoint"], *self.image.config["Cmd"]]
        command, environment = self.command(words)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(tied(command), env=environment, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()  # and with it what is inside
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """The container's first process, as this machine numbers it."""
        assert self._process is not None
        own = self._process.pid
        return int(Path(f"/proc/{own}/task/{own}/children").read_text())

    def stop(self) -> int:
        """Stop it as an engine does, and return its exit status."""
        assert self._process is not None
        os.kill(self.pid, signal.SIGTERM)
        return self._process.wait(10)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("image")
    found = wheels(PROJECT / "requirements" / "run.txt", PROJECT / "requirements" / "build.txt")
    base = re.search(r"^ARG DEBIAN=(.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert base is not None
    yield Buildah(folder).build(DOCKERFILE, PROJECT, f"docker.io/library/debian:{base[1]}", found)
    shutil.rmtree(folder)


def lint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    return run(Path(sys.executable).with_name("hadolint"), "--no-color", dockerfile)


def test_the_dockerfile_is_linted(tmp_path: Path) -> None:
    assert lint(DOCKERFILE).stdout == ""
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text().replace(":${DEBIAN}${DIGEST}", "").replace("--yes ", ""))
    found = lint(worse)
    assert found.returncode and "DL3006" in found.stdout and "DL3014" in found.stdout


def test_samples_reach_prometheus_and_the_health_check_distinguishes_the_living_from_the_dead(
    image: Image, prometheus_program: Path, tmp_path: Path
) -> None:
    with Prometheus(prometheus_program, tmp_path / "prometheus") as prometheus:
        quick = {"batch_send_deadline": "1s", "min_backoff": "100ms", "max_backoff": "500ms"}
        to = {"url": prometheus.write_url, "name": "central", "queue_config": quick}
        container = Container(image, tmp_path / "container", [to])
        never = container.healthy()
        assert (never.returncode, never.stderr) == (1, f"{DATA}: no agent writes to it\n")
        with container:
            wait_for(lambda: prometheus.query('load_average_1m{hostname="web-01"}'), 30, "samples to arrive")
            # The host's own root, although the container has none of its file systems.
            sizes = prometheus.query('disk_total_bytes{mountpoint="/"}')
            stat = os.statvfs("/")
            assert [float(stat.f_blocks * stat.f_frsize)] == list(sizes.values())
            assert (container.healthy().returncode, container.healthy().stderr) == (0, "")
            status = Path(f"/proc/{container.pid}/status").read_text()
            assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.MULTILINE)
            assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
            assert container.stop() == 0
        assert container.healthy().returncode == 1
        stopped = [json.loads(line) for line in container.log.read_text().splitlines()]
        assert stopped[-1]["event"] == "agent.stopped"
        assert [event for event in stopped if event["level"] in ("error", "critical")] == []


def test_every_module_of_limpet_finds_what_it_needs(image: Image, tmp_path: Path) -> None:
    """What the root was thinned of is needed by nothing: all modules, all extensions, all commands' help."""
    code = (
        "import glob, importlib, os, pkgutil, sys, sysconfig, agent, buffer, limpet\n"
        "def away(name): raise ImportError(name)\n"
        "for top in (agent, buffer, limpet):\n"
        "    for one in pkgutil.walk_packages(top.__path__, top.__name__ + '.', onerror=away):\n"
        "        if one.name not in ('agent.__main__', 'agent.collectors.portable'): importlib.import_module(one.name)\n"
        "folder = sysconfig.get_path('stdlib') + '/lib-dynload'\n"
        "for name in sorted(os.listdir(folder)):\n"
        "    name = name.split('.')[0]\n"
        "    if 'test' not in name and not name.startswith('xx'): importlib.import_module(name)\n"
        "from importlib.metadata import distributions\n"
        "import json, ssl\n"
        "assert len(ssl.create_default_context().get_ca_certs()) > 50\n"
        "print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in distributions()}))\n"
    )
    container = Container(image, tmp_path / "container", [])
    done = container.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("limpet") == agent.__version__
    assert found == {name: version for name, version in locked().items() if name in found}
    assert set(locked()) - set(found) <= {"colorama", "tzdata"}  # of the lock, for other systems
    assert container.run("limpet", "buffer", "status", "--data-dir", DATA).returncode == 0  # a table


def test_it_is_small_and_holds_nothing_to_break_out_with(image: Image) -> None:
    size = 0
    for path in image.root.rglob("*"):
        if path.is_symlink():
            continue
        stat = path.stat()
        size += stat.st_size if path.is_file() else 0
        assert not stat.st_mode & 0o6000, f"{path} takes on rights"
        named = f"/{path.relative_to(image.root)}"
        assert not stat.st_mode & 0o002 or named == "/tmp", f"{path} may be written by everybody"
        assert stat.st_uid == 0 or named == DATA, path
    assert size < 75 << 20, f"{size >> 20} MiB"
    programs = {path.name for folder in ("usr/bin", "usr/sbin") for path in (image.root / folder).iterdir()}
    assert not programs & {"sh", "bash", "dash", "apt-get", "dpkg", "pip"}
    assert not list((image.root / "opt").rglob("pip"))
    compiled = image.root / "opt/limpet/lib/python3.11/site-packages/agent/__pycache__"
    assert (compiled / "process.cpython-311.pyc").exists()


def test_it_says_what_is_in_it(image: Image) -> None:
    """Python's packages in the bill of materials, Debian's where scanners look, Limpet's version as a label."""
    assert (image.root / "usr/share/doc/limpet/run.cdx.json").read_text() == sbom.document()
    described = {path.name for path in (image.root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6", "libssl3", "python3.11-minimal"} <= described
    for name in described:
        assert (image.root / "usr/share/doc" / name).exists(), f"{name} lost its copyright"
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.version"] == agent.__version__
    assert labels["org.opencontainers.image.base.name"].endswith("debian:12.12-slim")
