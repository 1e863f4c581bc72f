"""A release: the same commit gives the same bytes elsewhere and at another time, and what is no release is refused."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import agent
from tests.support.machine import unpacked
from tests.support.run import output, run
from tools import armhf, deb

ROOT = Path(__file__).resolve().parents[2]
NAME = f"limpet-{agent.__version__}"
ARCHS = [arch for arch in deb.MACHINES if arch != "armhf" or shutil.which(armhf.COMPILER)]
"""For which a package can be built here."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def commit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone of what is committed."""
    if not shutil.which("git") or run("git", "-C", ROOT, "rev-parse", "HEAD").returncode:
        pytest.skip("this is no git repository")
    return clone(ROOT, tmp_path_factory.mktemp("release") / "clone")


def clone(source: Path, place: Path) -> Path:
    output("git", "clone", "--quiet", "--no-tags", source, place)
    for key, value in {"user.name": "A", "user.email": "a@example.org", "tag.gpgSign": "false"}.items():
        output("git", "-C", place, "config", key, value)
    return place


def build(tree: Path, out: Path, mask: int, *more: str, **environment: str) -> Path:
    """Build a draft in a hurry: the compression is lzma's or gzip's all the same."""
    command = [sys.executable, "-m", "tools.release", "--draft", "--level", "0", "--out", str(out), *more]
    done = subprocess.run(
        command,
        cwd=tree,
        env=os.environ | environment,
        umask=mask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out / NAME


@pytest.fixture(scope="module")
def releases(commit: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Return two releases of one commit, by two persons on two systems, an hour apart by what their files say."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("there is no dpkg-deb")
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))
    other = clone(commit, second / "a tree elsewhere")
    for path in other.rglob("*"):
        os.utime(path, (10**9, 10**9), follow_symlinks=False)
    (other / "agent" / "stray.py").write_text("left by somebody\n")
    elsewhere = {
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "7",
        "TMPDIR": str(second),
        "SOURCE_DATE_EPOCH": "5",
    }
    with ThreadPoolExecutor() as both:
        some = (
            () if set(ARCHS) == set(deb.MACHINES) else [word for arch in ARCHS for word in ("--arch", arch)]
        )
        one = both.submit(build, commit, first / "out", 0o022, *some)
        two = both.submit(build, other, second / "out", 0o077, "--arch", "amd64", **elsewhere)
        yield one.result(), two.result()


def test_the_same_commit_gives_the_same_bytes(releases: tuple[Path, Path]) -> None:
    """The second one has one package of several, because of the time that it takes."""
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in releases)
    assert one.keys() - two.keys() == {
        f"limpet_{agent.__version__}-1_{arch}.deb" for arch in ARCHS if arch != "amd64"
    }
    assert [name for name in two if one[name] != two[name]] == ["SHA256SUMS"]
    lines = [(folder / "SHA256SUMS").read_text().splitlines() for folder in releases]
    assert set(lines[1]) <= set(lines[0])
    for folder in releases:
        assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o644"}


def test_everything_that_ships_is_in_it(releases: tuple[Path, Path]) -> None:
    folder, _ = releases
    version = agent.__version__
    packages = {f"limpet_{version}-1_{arch}.deb" for arch in ARCHS}
    files = {f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl", f"{NAME}.cdx.json", f"{NAME}.md"} | packages
    assert {path.name for path in folder.iterdir()} == files | {"SHA256SUMS"}
    checked = output("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=folder)
    assert checked.splitlines() == [f"{name}: OK" for name in sorted(files)]
    with tarfile.open(folder / f"{NAME}.tar.gz") as archive:
        names = archive.getnames()
    assert f"{NAME}/tools/release.py" in names
    assert not [name for name in names if "stray" in name or "/.cache" in name]
    bill = json.loads((folder / f"{NAME}.cdx.json").read_text())
    assert bill["metadata"]["component"]["version"] == version
    assert (folder / f"{NAME}.md").read_text().startswith(f"# Limpet {version} (draft)\n\n")


ARM = 40  # EM_ARM of elf.h
QEMU = "qemu-arm-static"


@pytest.fixture(scope="module")
def arm_root(releases: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return Debian 12 for 32-bit ARM with the package in it; none of it is set up."""
    if "armhf" not in ARCHS:
        pytest.skip(f"there is no {armhf.COMPILER}")
    root = tmp_path_factory.mktemp("arm") / "root"
    unpacked("bookworm", root, "python3", "libgcc-s1", arch="armhf")
    output("dpkg-deb", "-x", releases[0] / f"limpet_{agent.__version__}-1_armhf.deb", root)
    return root


def test_the_package_for_32_bit_arm_is_for_nothing_else(releases: tuple[Path, Path], arm_root: Path) -> None:
    package = releases[0] / f"limpet_{agent.__version__}-1_armhf.deb"
    assert output("dpkg-deb", "-f", package, "Architecture") == "armhf\n"
    assert "python3.11 | python3.13," in output("dpkg-deb", "-f", package, "Depends")
    modules = list(arm_root.glob("opt/limpet/**/*.so"))
    assert {struct.unpack_from("<H", path.read_bytes(), 18)[0] for path in modules} == {ARM}
    site = arm_root / deb.SITE
    names = sorted(str(path.relative_to(site)).split("-")[0] for path in modules)
    both = [f"{name}.cpython" for name in ("cramjam/cramjam", "msgspec/_core") for _ in armhf.HEADERS]
    assert names == [*both, "psutil/_psutil_linux.abi3.so"]
    if shutil.which("lintian"):
        assert output("lintian", "--allow-root", "--fail-on", "warning,error", package) == ""


def test_the_package_for_32_bit_arm_collects(arm_root: Path) -> None:
    """All its modules are loaded and work, as far as an emulator shows."""
    if not (emulator := shutil.which(QEMU)):
        pytest.skip(f"there is no {QEMU}")
    shutil.copy(emulator, arm_root)
    (arm_root / "proc").mkdir(exist_ok=True)
    config = arm_root / "etc/limpet/limpet.yaml"
    config.write_text(
        'hostname: gauge-3\nremote_write: [{url: "https://metrics.example.com/api/v1/write"}]\n'
    )
    within = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={arm_root}/proc"]
    within += ["chroot", str(arm_root), f"/{QEMU}", "/usr/bin/python3", "-I"]
    code = "import cramjam, msgspec, psutil, snappy; print(snappy.uncompress(snappy.compress(b'x' * 99)))"
    site = f"import sys; sys.path.insert(0, '/{deb.SITE}'); "
    assert output(*within, "-c", site + code) == f"{b'x' * 99!r}\n"
    limpet = f"{site}sys.argv[0] = 'limpet'; from agent.cli.main import main; sys.exit(main())"
    assert "fine" in output(*within, "-c", limpet, "check-config")
    assert "memory_total_bytes" in output(*within, "-c", limpet, "collect", "--format", "prometheus")


def refused(tree: Path) -> str:
    done = run(sys.executable, "-m", "tools.release", "--out", tree / "out", cwd=tree)
    assert done.returncode == 1
    assert not (tree / "out").exists(), "nothing was built"
    return done.stderr


def test_what_is_no_release_is_refused(commit: Path, tmp_path: Path) -> None:
    tree = clone(commit, tmp_path / "tree")
    changelog = tree / "CHANGELOG.md"
    done = "## [Unreleased]\n\n## [{}] - 2027-01-15\n\n### Fixed\n\n- A fault.\n".format
    changelog.write_text(done(agent.__version__))
    assert "1 files differ from the commit" in refused(tree)
    output("git", "-C", tree, "commit", "--quiet", "--all", "--message", "Release")
    assert f"the tag v{agent.__version__} is not on this commit" in refused(tree)

    changelog.write_text(done("9.9.9"))
    output("git", "-C", tree, "commit", "--quiet", "--all", "--message", "Another version")
    assert f"has no section [{agent.__version__}] with a date" in refused(tree)

    changelog.write_text(done(agent.__version__).replace("Unreleased]\n", "Unreleased]\n\n- Something.\n"))
    output("git", "-C", tree, "commit", "--quiet", "--all", "--message", "Too early")
    assert "has changes under [Unreleased]" in refused(tree)
