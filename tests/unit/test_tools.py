"""The tools that run before anything else is there: which sources apt gets, what the cache gives, which Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.run import run
from tools import servers

ROOT = Path(__file__).resolve().parents[2]

DEB822 = """\
Types: deb
# a comment in the middle
URIs: http://deb.example.org/debian/ http://mirror.example.org/other
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
URIs: http://deb.example.org/debian-security
Suites: bookworm-security
Components: main

Types: deb-src
URIs: http://deb.example.org/debian
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://deb.example.org/debian
Suites: trixie
Components: main

Types: deb
URIs: https://vendor.example.org/apt/debian
Suites: stable
Components: vendor
"""

KEPT = """\
Types: deb
Uris: http://deb.example.org/debian/
Suites: {}
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc"""


@pytest.mark.parametrize(("suite", "suites"), [("sid", "sid"), (None, "bookworm bookworm-updates")])
def test_of_deb822_sources_only_debian_itself_is_kept(suite: str | None, suites: str) -> None:
    assert servers.debian_sources(DEB822, one_line=False, suite=suite) == [KEPT.format(suites)]


ONE_LINE = {  # a line of sources.list: what is kept of it for sid
    "deb http://deb.example.org/debian bookworm main contrib": "deb http://deb.example.org/debian sid main",
    "  deb\t[signed-by=/k.gpg arch=amd64] http://m.example.org/x/debian/ stable main # the mirror": (
        "deb [signed-by=/k.gpg arch=amd64] http://m.example.org/x/debian/ sid main"
    ),
    "deb mirror+file:/etc/apt/mirrors/debian.list bookworm main": (
        "deb mirror+file:/etc/apt/mirrors/debian.list sid main"
    ),
    "# deb http://deb.example.org/debian bookworm main": None,
    "deb-src http://deb.example.org/debian bookworm main": None,
    "deb http://deb.example.org/debian bookworm contrib non-free": None,
    "deb http://deb.example.org/debian-security bookworm-security main": None,
    "deb http://archive.example.org/ubuntu noble main": None,
    "": None,
}


@pytest.mark.parametrize(("line", "kept"), ONE_LINE.items(), ids=range(len(ONE_LINE)))
def test_of_one_line_sources_only_debian_itself_is_kept(line: str, kept: str | None) -> None:
    assert servers.debian_sources(f"{line}\n", one_line=True, suite="sid") == ([kept] if kept else [])


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def cached(cache: Path, folder: str, script: str) -> Path:
    return program(cache / folder / "usr/bin/prometheus", script)


@pytest.fixture
def without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program(tmp_path / "bin/apt-get", "exit 100").parent))


@pytest.mark.usefixtures("without_apt")
def test_what_is_in_the_cache_is_not_fetched_again(tmp_path: Path) -> None:
    there = cached(tmp_path, "prometheus-3.0", "echo version 3.0")
    cached(tmp_path, "prometheus-4.0", "exit 127")  # fetched for other libraries: it does not run
    assert servers.ensure("prometheus", tmp_path) == servers.Server(there, "version 3.0")


@pytest.mark.usefixtures("without_apt")
def test_a_program_without_a_version_has_its_packages(tmp_path: Path) -> None:
    there = program(tmp_path / "victoria-metrics-1.2+ds1-3/usr/bin/victoria-metrics", "echo; exit 0")
    assert servers.ensure("victoria-metrics", tmp_path) == servers.Server(there, "victoria-metrics 1.2+ds1-3")


def test_a_program_has_the_folder_and_the_version_option_of_its_package(tmp_path: Path) -> None:
    script = '[ "$*" = -v ] && echo nginx 1.0 >&2'
    there = program(tmp_path / "nginx-1.0/usr/sbin/nginx", script)
    assert servers.ensure("nginx", tmp_path) == servers.Server(there, "nginx 1.0")


def test_a_whole_program_finds_the_libraries_that_were_unpacked_next_to_it(tmp_path: Path) -> None:
    lib = tmp_path / "chromium-1.0/usr/lib"
    there = program(
        lib / "chromium/chromium-headless-shell", '[ "$*" = --version ] && echo "$LD_LIBRARY_PATH"'
    )
    for library in ("x86_64-linux-gnu/libogg.so.0", "x86_64-linux-gnu/pulseaudio/libpulsecommon-16.1.so"):
        (lib / library).parent.mkdir(parents=True, exist_ok=True)
        (lib / library).touch()
    folders = f"{lib}/x86_64-linux-gnu:{lib}/x86_64-linux-gnu/pulseaudio"
    assert servers.ensure("chromium", tmp_path) == servers.Server(there, folders)


def test_a_whole_program_comes_with_the_packages_that_this_machine_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What apt would install is downloaded, and nothing is installed."""
    asked = tmp_path / "asked"
    script = f"""echo "$*" >> {asked}
case "$*" in
*" -s "*) echo "Inst libogg0 (1.3.5-3 Debian:12 [amd64])"; echo "Inst chromium-headless-shell (1.0)"; echo "Conf libogg0" ;;
*) exit 100 ;;
esac"""
    monkeypatch.setenv("PATH", f"{program(tmp_path / 'bin/apt-get', script).parent}:/bin:/usr/bin")
    with pytest.raises(servers.ServerError, match="chromium"):
        servers.ensure("chromium", tmp_path / "cache")
    commands = asked.read_text().splitlines()
    assert commands[-1].endswith(" download chromium-headless-shell libogg0")
    assert [line for line in commands if " install " in f"{line} " and " -s " not in line] == []


def test_no_folder_in_the_cache_can_be_of_two_servers() -> None:
    names = list(servers.PACKAGES)
    assert [(a, b) for a in names for b in names if b.startswith(f"{a}-")] == []


@pytest.mark.usefixtures("without_apt")
def test_what_is_not_available_is_a_failure_unless_it_is_only_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = cached(tmp_path, "prometheus-3.0", "echo version 3.0")
    monkeypatch.setattr(servers.ensure, "__defaults__", (tmp_path,))
    assert servers.main(["nginx", "prometheus"]) == 1
    assert servers.main(["--try", "nginx", "prometheus"]) == 0
    assert capsys.readouterr().out == f"{there}\n"


def test_without_a_package_the_path_is_searched_and_then_the_operator_learns_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = program(tmp_path / "bin/apt-get", "echo 'E: no network' >&2; exit 100").parent
    monkeypatch.setenv("PATH", f"{path}:/bin:/usr/bin")
    on_path = program(path / "prometheus", "echo version 2.0")
    assert servers.ensure("prometheus", tmp_path / "cache") == servers.Server(on_path, "version 2.0")
    assert "E: no network" in capsys.readouterr().err
    on_path.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(servers.ServerError, match=r"is not available: .*E: no network.* Install prometheus"):
        servers.ensure("prometheus", tmp_path / "cache")
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [".lock"]


def test_one_caller_at_a_time_uses_the_cache(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    cached(tmp_path / "cache", "prometheus-3.0", "echo version 3.0")
    with servers._locked(tmp_path / "cache/.lock"):
        waiting = threading.Thread(target=servers.ensure, args=("prometheus", tmp_path / "cache"))
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()


def test_an_unknown_server_is_named() -> None:
    with pytest.raises(servers.ServerError, match=r"unknown server 'promethoos'.*alertmanager"):
        servers.ensure("promethoos")


def venv(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run tools/venv.sh in an empty folder, with nothing but `path` and the shell's own tools on the PATH."""
    for tool in ("id", "sh", "rm"):
        found = shutil.which(tool)
        assert found is not None
        (path / tool).symlink_to(found)
    words = ("/bin/sh", ROOT / "tools/venv.sh", ".venv", "lock.txt")
    return run(*words, cwd=folder, env=os.environ | {"PATH": str(path)})


def test_without_a_python_that_works_the_environment_says_so(tmp_path: Path) -> None:
    stubs = program(tmp_path / "bin/python3.13", "exit 127").parent
    program(stubs / "python3", "exit 1")  # too old
    done = venv(stubs, tmp_path)
    assert done.returncode == 1
    assert "no working Python of 3.11 or later" in done.stderr


def test_a_stub_that_does_not_work_is_passed_over(tmp_path: Path) -> None:
    stubs = program(tmp_path / "bin/python3.13", "exit 127").parent
    # It passes every check, says its version, and then makes no environment, which ends the script.
    program(stubs / "python3.11", '[ "$2" = venv ] && exit 42; echo Python 3.11.99')
    done = venv(stubs, tmp_path)
    assert done.returncode == 42
    assert "making .venv with Python 3.11.99" in done.stderr
