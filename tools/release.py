"""A release: `python -m tools.release [--draft] [--out FOLDER]`, or `make release`.

Promises:

- One folder has all that ships: sdist, wheel, a Debian package for each architecture, the bill of materials, the
  notes (the version's section of CHANGELOG.md), and SHA256SUMS over all of these.
- Only what is committed gets in: everything is built from an export of HEAD.
- The same commit gives the same bytes, in whatever folder, at whatever time and by whomever it is built, on a system
  with the same versions of tar, gzip and dpkg. Python's packages are those of requirements/dev.txt.
- The folder appears whole or not at all, and an older one is replaced whole.
- Without --draft it is refused for a commit that is no release: files differ from the commit, the tag is elsewhere,
  the changelog has no dated section for the version, or changes that are in none.

ReleaseError for each of these, and where a part cannot be built.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import agent
from buffer.errors import LimpetError
from tools import deb
from tools.packing import write

ROOT = Path(__file__).resolve().parents[1]
SUMS = "SHA256SUMS"


class ReleaseError(LimpetError):
    """The release cannot be made."""


def release(
    out: Path, level: int = deb.LEVEL, draft: bool = False, archs: Sequence[str] = tuple(deb.MACHINES)
) -> Path:
    """Build the release of HEAD into a folder of its own below `out`; return that. Raises ReleaseError."""
    version = agent.__version__
    refuse_changes()
    if not draft:
        refuse_unreleased(version)
    notes = section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), "Unreleased" if draft else version)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".release-", dir=out) as temporary:
        tree, files = Path(temporary) / "tree", Path(temporary) / "files"
        files.mkdir()
        export(tree)
        build(tree, files, version, level, archs)
        title = f"Limpet {version}" + (" (draft)" if draft else "")
        write(files / f"limpet-{version}.md", f"# {title}\n\n{notes}\n")
        write(files / SUMS, sums(files))
        for path in (files, *files.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
        place = out / f"limpet-{version}"
        shutil.rmtree(place, ignore_errors=True)
        files.rename(place)
    return place


def build(tree: Path, files: Path, version: str, level: int, archs: Sequence[str]) -> None:
    """Build each part from the exported tree."""
    environment = {"SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct").strip()}
    run(["sh", "tools/dist.sh", sys.executable, str(files)], tree, environment)
    for arch in archs:
        building = [sys.executable, "-m", "tools.deb", "--arch", arch, "--level", str(level)]
        run([*building, "--out", files], tree, environment)
    bill = run([sys.executable, "-m", "tools.sbom"], tree, environment)
    write(files / f"limpet-{version}.cdx.json", bill)


def refuse_changes() -> None:
    """Raise ReleaseError where a file that git knows differs from the commit: what is built is the commit."""
    if changed := git("status", "--porcelain", "--untracked-files=no").splitlines():
        raise ReleaseError(str(ROOT), f"{len(changed)} files differ from the commit", "Commit them first.")


def refuse_unreleased(version: str) -> None:
    """Raise ReleaseError where HEAD is not the commit of a release (docs/releasing.md, steps 2 and 6)."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if section(text, "Unreleased"):
        raise ReleaseError(
            "CHANGELOG.md",
            "has changes under [Unreleased]",
            f"Move them under [{version}], or build with --draft.",
        )
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", text, re.MULTILINE):
        raise ReleaseError("CHANGELOG.md", f"has no section [{version}] with a date", "Write its heading.")
    if f"v{version}" not in git("tag", "--points-at", "HEAD").split():
        raise ReleaseError(
            "git", f"the tag v{version} is not on this commit", "Check it out, or build with --draft."
        )


def section(changelog: str, name: str) -> str:
    """Return what is below the heading of a version. Raises ReleaseError where there is no such heading."""
    found = re.search(rf"^## \[{re.escape(name)}\].*\n((?:(?!## \[).*\n?)*)", changelog, re.MULTILINE)
    if found is None:
        raise ReleaseError("CHANGELOG.md", f"has no section [{name}]", "Write it.")
    return found[1].strip()


def export(tree: Path) -> None:
    """Write the files of HEAD, and nothing else, into a new folder."""
    tree.mkdir()
    archive = tree.with_suffix(".tar")
    git("archive", "--format=tar", f"--output={archive}", "HEAD")
    run(["tar", "-xf", archive, "-C", tree], tree)


def sums(folder: Path) -> str:
    """Return the lines that `sha256sum --check` reads, one for each file."""
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())
    )


def git(*words: str) -> str:
    """Return what git prints about the repository. Raises ReleaseError."""
    return run(["git", "-C", ROOT, *words], ROOT)


def run(command: Sequence[str | Path], folder: Path, more: dict[str, str] | None = None) -> str:
    """Return what a program printed. Raises ReleaseError with what it said where it failed or is missing."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={**os.environ, **(more or {})},
        )
    except FileNotFoundError:
        raise ReleaseError(str(command[0]), "is not on the PATH", "Install it.") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise ReleaseError(" ".join(map(str, command)), f"ended with {done.returncode}: {said}", "See there.")
    return done.stdout


def main(words: list[str]) -> int:
    """Build, and print each file with its size."""
    arguments = argparse.ArgumentParser("release", description="Build everything that ships.")
    arguments.add_argument("--draft", action="store_true", help="of a commit that is no release")
    arguments.add_argument("--level", type=int, default=deb.LEVEL, help="of the compression, 0 to 9")
    arguments.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder it goes to")
    arguments.add_argument(
        "--arch",
        action="append",
        choices=tuple(deb.MACHINES),
        help="the package for this one only, as a draft; may be repeated",
    )
    given = arguments.parse_args(words)
    archs = tuple(given.arch or deb.MACHINES)
    try:
        place = release(given.out.absolute(), given.level, given.draft or bool(given.arch), archs)
    except LimpetError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    for path in sorted(place.iterdir()):
        print(f"{os.path.relpath(path)}  {path.stat().st_size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
