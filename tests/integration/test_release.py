"""A release: the same commit gives the same bytes elsewhere and at another time, and what is no release is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import agent
from tests.support.run import output, run
from tools import deb

ROOT = Path(__file__).resolve().parents[2]
NAME = f"limpet-{agent.__version__}"

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


def build(tree: Path, out: Path, mask: int, **environment: str) -> Path:
    """Build a draft in a hurry: the compression is lzma's or gzip's all the same."""
    command = [sys.executable, "-m", "tools.release", "--draft", "--level", "0", "--out", str(out)]
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
        one = both.submit(build, commit, first / "out", 0o022)
        two = both.submit(build, other, second / "out", 0o077, **elsewhere)
        yield one.result(), two.result()


def test_the_same_commit_gives_the_same_bytes(releases: tuple[Path, Path]) -> None:
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in releases)
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
    for folder in releases:
        assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o644"}


def test_everything_that_ships_is_in_it(releases: tuple[Path, Path]) -> None:
    folder, _ = releases
    version = agent.__version__
    packages = {f"limpet_{version}-1_{arch}.deb" for arch in deb.MACHINES}
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
