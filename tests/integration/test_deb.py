"""The Debian package: what is in it, clean to lintian, and lived through in a Debian with systemd.

That two builds are the same bytes is test_release.py's to show.
"""

from __future__ import annotations

import gzip
import io
import itertools
import os
import re
import shutil
import struct
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

import agent as limpet
from tests.support.agent import QUICK, Agent
from tests.support.machine import Machine, base, unpacked
from tests.support.net import free_port, wait_for
from tests.support.packages import built
from tests.support.prometheus import Prometheus
from tests.support.run import output, run
from tests.support.server import tied
from tools import deb, manpages

ROOT = Path(__file__).resolve().parents[2]
URL = "https://prometheus.example.com/api/v1/write"
OLDER = "0.0.9"
ELF_MACHINES = {"amd64": 62, "arm64": 183}  # e_machine of elf.h: EM_X86_64, EM_AARCH64
HOST = "edge-7"

pytestmark = pytest.mark.timeout(900)


class Packages(NamedTuple):
    """The package of this version, of the one before, and of this one for the other 64-bit architecture."""

    this: Path
    older: Path
    other: Path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    if not shutil.which("dpkg-deb"):
        pytest.skip("there is no dpkg-deb")
    if deb.native() not in ("amd64", "arm64"):
        pytest.skip(f"no package is made for {deb.native()}")
    folder = tmp_path_factory.mktemp("packages")
    [other] = {"amd64", "arm64"} - {deb.native()}  # test_release.py has armhf
    return Packages(
        built(folder / "this"), built(folder / "older", "--version", OLDER), built(folder, "--arch", other)
    )


def contents(package: Path) -> dict[str, tarfile.TarInfo]:
    """What is in a package, by path."""
    with tar(package) as archive:
        return {member.name.removeprefix("./"): member for member in archive}


def read(package: Path, path: str) -> bytes:
    with tar(package) as archive:
        file = archive.extractfile(f"./{path}")
        assert file is not None
        return file.read()


def tar(package: Path) -> tarfile.TarFile:
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True)
    return tarfile.open(fileobj=io.BytesIO(done.stdout))


def field(package: Path, name: str) -> str:
    return output("dpkg-deb", "-f", package, name).strip()


def test_what_is_in_it(packages: Packages) -> None:
    found = contents(packages.this)
    assert {member.mtime for member in found.values()} == {deb.source_date()}
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}
    assert {oct(member.mode) for member in found.values() if not member.issym()} == {"0o755", "0o644"}
    names = set(found)
    assert not [name for name in names if name.endswith((".pyc", "/RECORD", "/tests")) or "/pip/" in name]
    assert found["usr/bin/limpet"].linkname == "/opt/limpet/bin/limpet"
    sources = [path for top in ("agent", "buffer", "limpet") for path in (ROOT / top).rglob("*.py")]
    sources += (ROOT / "agent/serve/page").iterdir()
    assert {f"{deb.SITE}/{path.relative_to(ROOT)}" for path in sources} <= names
    for python in deb.pythons():
        tag = f"cpython-{python.replace('.', '')}-"
        # msgspec, cramjam, yaml, re2; psutil has one for all
        assert len([name for name in names if tag in name]) == 4
    for unit in ("limpet.service", "limpet-serve.service"):
        shipped = (ROOT / "packaging/systemd" / unit).read_bytes()
        assert read(packages.this, f"usr/lib/systemd/system/{unit}") == shipped
    assert f"{deb.SITE}/agent/serve/page/index.html" in names
    licenses = read(packages.this, "usr/share/doc/limpet/copyright").decode()
    for name in names:
        if match := re.fullmatch(rf"{deb.SITE}/([^/]+)", name):
            assert match[1].startswith(("agent", "buffer", "limpet")) or f"/{deb.SITE}/{match[1]}" in licenses
    assert f"Files: /{deb.SITE}/agent/serve/page/uplot.*\nCopyright: 2022 Leon Sorokin\n" in licenses
    told = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    told |= {Path("examples") / path.name for path in (ROOT / "packaging/systemd/examples").iterdir()}
    told |= {Path("examples") / path.name for path in (ROOT / "packaging/recipes").iterdir()}
    told = {path for path in told if path.parts[0] != "decisions"} | {Path("sbom.cdx.json")}
    assert {f"{deb.DOC}/{path}" for path in told} <= names


@pytest.mark.parametrize("which", ["this", "other"])
def test_each_architecture_has_its_own_modules(packages: Packages, which: str) -> None:
    package: Path = getattr(packages, which)
    arch = field(package, "Architecture")
    assert package.name == f"limpet_{limpet.__version__}-1_{arch}.deb"
    with tar(package) as archive:
        machines = {
            struct.unpack_from("<H", file.read(20), 18)[0]
            for member in archive
            if member.name.endswith(".so") and (file := archive.extractfile(member))
        }
    assert machines == {ELF_MACHINES[arch]}


# What extension modules load of the system, and the package that has it.
LIBRARIES = dict.fromkeys(("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0"), "libc6")
LIBRARIES |= {"libgcc_s.so.1": "libgcc-s1", "libstdc++.so.6": "libstdc++6"}


@pytest.mark.parametrize("which", ["this", "other"])
def test_what_modules_load_is_in_the_dependencies_and_in_the_image(packages: Packages, which: str) -> None:
    package: Path = getattr(packages, which)
    depends = set(re.findall(r"[\w+-]+", field(package, "Depends")))
    image = (ROOT / "packaging/container/make-root.sh").read_text().split()
    with tar(package) as archive:
        modules = [archive.extractfile(one) for one in archive.getmembers() if one.name.endswith(".so")]
        loaded = {
            name.decode()
            for module in modules
            if module is not None
            for name in re.findall(rb"(?<=\0)lib[\w+-]+\.so\.\d+(?=\0)", module.read())
        }
    assert "libstdc++.so.6" in loaded
    for name in loaded:
        assert LIBRARIES[name] in depends, name
        assert LIBRARIES[name] in image, name


def test_lintian_has_nothing_to_say(packages: Packages) -> None:
    if not shutil.which("lintian"):
        pytest.skip("there is no lintian")
    assert output("lintian", "--allow-root", "--fail-on", "warning,error", packages.this) == ""


@pytest.mark.parametrize("name", ["limpet.1", "limpet-silent.7", "limpet.yaml.5"])
def test_manual_pages_are_there_whole_and_without_a_warning(packages: Packages, name: str) -> None:
    page = gzip.decompress(read(packages.this, f"usr/share/man/man{name[-1]}/{name}.gz"))
    assert page.decode() == manpages.pages(deb.source_date())[name]
    if not shutil.which("man"):
        pytest.skip("there is no man")
    wide = os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "100"}
    done = run("man", "--warnings", "-E", "UTF-8", "-l", "-", input=page.decode(), env=wide)
    assert (done.returncode, done.stderr) == (0, "")
    words = {"limpet.1": ("buffer quarantine", "--give-up-after"), "limpet.yaml.5": ("max_backoff",)}
    words["limpet-silent.7"] = ("limpet doctor", "6.")
    assert all(word in done.stdout for word in words[name])


@pytest.fixture(scope="module")
def booted(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine(base("bookworm"), tmp_path_factory.mktemp("machines") / "bookworm") as machine:
        for package in packages:
            shutil.copy(package, machine.path("/srv"))
        yield machine


@pytest.fixture
def machine(booted: Machine) -> Iterator[Machine]:
    """A machine that never had Limpet, but for its user."""
    yield booted
    booted.run("dpkg", "--purge", "limpet")


def test_from_the_file_to_samples_in_less_than_five_commands(
    machine: Machine, prometheus_program: Path, tmp_path: Path
) -> None:
    """README's own commands, as they are written but for the receiver's address."""
    text = (ROOT / "README.md").read_text()
    section = re.search(r"^## Install\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    commands = [line.strip() for line in section[1].splitlines() if line.startswith("    ")]
    assert len(commands) < 5
    machine.shell(f"cp /srv/limpet_{limpet.__version__}-*.deb .")  # of both architectures
    with Prometheus(prometheus_program, tmp_path) as prometheus:
        for command in commands:
            machine.shell(command.replace(URL, prometheus.write_url))
            if command == commands[0]:
                check_installed(machine)
        found = wait_for(lambda: prometheus.query("limpet_build_info"), 60, "samples")
        assert dict(next(iter(found)))["version"] == limpet.__version__
        assert machine.property("limpet", "User") == "limpet"


def check_installed(machine: Machine) -> None:
    """It starts nothing unconfigured; each thing has its owner; nothing differs from what the package says."""
    assert machine.run("systemctl", "is-enabled", "limpet", check=False).stdout.strip() == "disabled"
    assert machine.property("limpet", "ActiveState") == "inactive"
    assert machine.shell("limpet version").startswith(f"limpet {limpet.__version__} ")
    modes = machine.shell("stat -c '%U:%G %a' /etc/limpet /var/lib/limpet")
    assert modes == "root:limpet 750\nlimpet:limpet 700\n"
    assert machine.shell("dpkg --verify limpet") == ""
    assert machine.shell("dpkg-query -W -f '${Conffiles}' limpet").split()[0] == "/etc/limpet/limpet.yaml"
    assert "fine" in machine.shell("limpet check-config /etc/limpet/limpet.yaml")
    compiled = machine.shell("find /opt/limpet -name 'main.cpython-311.pyc' -path '*agent/cli*'")
    assert compiled, "each start would compile all modules again"
    plain = "import agent.collectors.options as o, agent.regex as r; print([p for p in o.DEVICES if not r.is_plain(p)])"
    assert machine.run("/opt/limpet/bin/python3", "-c", plain).stdout == "[]\n", (
        "the defaults load google-re2"
    )


def test_an_upgrade_in_an_outage_loses_nothing_then_down_then_away(
    machine: Machine, prometheus_program: Path, tmp_path: Path
) -> None:
    prometheus = Prometheus(prometheus_program, tmp_path)
    config: dict[str, Any] = {
        "hostname": HOST,
        "collect": {"interval": "1s", "own_interval": "1s"},
        "buffer": {"sync_interval": "500ms"},
        "remote_write": [
            {"name": "central", "url": prometheus.write_url, "queue_config": QUICK},
            # It takes nothing, so the log keeps everything to compare with.
            {"name": "nobody", "url": f"http://127.0.0.1:{free_port()}/api/v1/write", "queue_config": QUICK},
        ],
    }
    install(machine, OLDER)
    own_text = yaml.safe_dump(config)
    machine.path("/etc/limpet/limpet.yaml").write_text(own_text)
    with prometheus:
        began = time.time()
        machine.run("systemctl", "enable", "--now", "limpet")
        on_disk = Agent(tmp_path / "unused", [])  # looks at the buffer from outside; it is never started
        on_disk.data_dir = machine.path("/var/lib/limpet")
        wait_for(lambda: versions(prometheus) == {OLDER}, 120, "samples of the older version")

        prometheus.stop()
        grows(on_disk)
        first = machine.property("limpet", "MainPID")
        upgrading = time.time()
        install(machine, limpet.__version__)
        upgraded = time.time()
        assert machine.property("limpet", "ActiveState") == "active"
        assert machine.property("limpet", "MainPID") != first
        assert machine.path("/etc/limpet/limpet.yaml").read_text() == own_text
        grows(on_disk)
        assert on_disk.ended() == {}, "a restart is no end"

        backlog = on_disk.appended()
        prometheus.start()
        wait_for(
            lambda: on_disk.destination("central")["ledger"]["delivered"] >= backlog,
            120,
            "the backlog to drain",
        )
        wait_for(lambda: limpet.__version__ in versions(prometheus), 120, "samples of this version")

        install(machine, OLDER)
        downgraded = time.time()
        wait_for(lambda: OLDER in newest(prometheus), 120, "samples of the older version again")
        assert on_disk.ended() == {}

        machine.run("apt-get", "remove", "-y", "limpet")
        of_it = f'{{hostname="{HOST}"}}'
        stored = prometheus.raw_samples(of_it, int(began * 1000) - 60_000, int(time.time() * 1000))
        assert stored == on_disk.buffered()
        assert on_disk.ended(), "a removal is an end"
        labels = next(labels for labels in stored if ("__name__", "memory_total_bytes") in labels)
        check_holes([at / 1000 for at, _ in stored[labels]], (upgrading, upgraded), (upgraded, downgraded))
        ledger = on_disk.destination("central")["ledger"]
        assert ledger["appended"] == on_disk.appended() == ledger["delivered"] + ledger["pending"]
        assert ledger["dropped"] == dict.fromkeys(ledger["dropped"], 0)

    assert machine.path("/etc/limpet/limpet.yaml").read_text() == own_text
    assert not machine.path("/opt/limpet").exists()
    assert not os.path.lexists(machine.path("/usr/bin/limpet"))

    machine.run("apt-get", "purge", "-y", "limpet")
    elsewhere = " ".join(
        f"-not -path '/{path}/*'" for path in ("proc", "root", "srv", "var/log", "var/cache")
    )
    assert machine.shell(f"find / -xdev -name '*limpet*' {elsewhere}") == ""
    assert machine.shell("id -un limpet").strip() == "limpet"  # nobody else gets its number


def install(machine: Machine, version: str) -> None:
    machine.shell(
        f"apt-get install -y --allow-downgrades /srv/limpet_{version}-*_$(dpkg --print-architecture).deb"
    )
    assert machine.shell("limpet version").startswith(f"limpet {version} ")


def grows(on_disk: Agent) -> None:
    """Wait for a backlog of some ticks more."""
    before = on_disk.destination("central")["pending_samples"]
    wait_for(lambda: on_disk.destination("central")["pending_samples"] >= before + 300, 120, "a backlog")


def versions(prometheus: Prometheus) -> set[str]:
    """The versions of which Prometheus has ever had a sample."""
    return {one["version"] for one in prometheus.series(f'limpet_build_info{{hostname="{HOST}"}}')}


def newest(prometheus: Prometheus) -> set[str]:
    """The versions of which Prometheus had a sample in the last three seconds."""
    found = prometheus.query(f'count_over_time(limpet_build_info{{hostname="{HOST}"}}[3s])')
    return {dict(labels)["version"] for labels in found}


def check_holes(times: list[float], *restarts: tuple[float, float]) -> None:
    """A tick each second, but for those while the service was being restarted."""
    assert times == sorted(set(times))
    for before, after in itertools.pairwise(times):
        if after - before > 1.5:
            assert any(start - 1 < before and after < end + 3 for start, end in restarts), (before, after)


def test_on_debian_13(packages: Packages, tmp_path: Path) -> None:
    """The same file serves Debian 13, whose Python is another one."""
    with Machine(base("trixie"), tmp_path / "trixie") as machine:
        shutil.copy(packages.this, machine.path("/root"))
        machine.run("apt-get", "install", "-y", f"./{packages.this.name}")
        assert "(Python 3.13." in machine.shell("limpet version")
        machine.run("systemctl", "enable", "--now", "limpet")
        on_disk = Agent(tmp_path / "unused", [])
        on_disk.data_dir = machine.path("/var/lib/limpet")
        wait_for(lambda: on_disk.data_dir.joinpath("segments").exists() and on_disk.buffered(), 120, "a tick")


def test_on_the_newest_python_that_it_is_for(packages: Packages, tmp_path: Path) -> None:
    """The same file serves the Python of Debian's next release, with all libraries, without a warning."""
    root = tmp_path / "root"
    unpacked("sid", root, "python3", "libstdc++6", "coreutils", "libc-bin")
    output("dpkg-deb", "-x", packages.this, root)
    config = root / "etc/limpet/limpet.yaml"
    relabel = {"source_labels": ["mode"], "regex": "(us|i)+e?r|idle", "action": "drop"}  # it needs google-re2
    config.write_text(yaml.safe_dump({"remote_write": [{"url": URL, "write_relabel_configs": [relabel]}]}))

    (root / "proc").mkdir(exist_ok=True)
    within = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={root}/proc"]
    within += ["chroot", str(root), "/opt/limpet/bin/python3", "-Werror", "/opt/limpet/bin/limpet"]
    assert f"(Python {deb.pythons()[-1]}." in output(*within, "version")
    assert "fine" in output(*within, "check-config")
    on_disk = Agent(tmp_path / "unused", [])
    on_disk.data_dir = root / "var/lib/limpet"
    with subprocess.Popen(tied([*within, "run"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as agent:
        try:
            wait_for(
                lambda: on_disk.data_dir.joinpath("segments").exists() and on_disk.buffered(), 120, "a tick"
            )
        finally:
            agent.kill()
        said = agent.communicate()
    assert b"Traceback" not in said[1] and b"Deprecat" not in said[0] + said[1]
