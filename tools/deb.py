"""The Debian package: `python -m tools.deb [--arch amd64|arm64|armhf] [--version V] [--out FOLDER]`, or `make deb`.

Promises:

- One recipe for every architecture. Nothing of the target runs here: what is not Python comes as wheels.
- Only the versions and hashes of requirements/run.txt go in, byte for byte as they were published.
- The same commit gives the same bytes: its time is the only time in the package (or SOURCE_DATE_EPOCH), files are
  sorted, owned by root, and have fixed modes; no compiled modules are in it (they are made where it is installed).
- One package for every Python that pyproject.toml names: the extension modules of each are in the same folders, under
  different names (docs/decisions/0025-debian-package.md).

It needs dpkg-deb, and says so where that is missing. Sources: deb(5), deb-control(5); PEP 427 on what a wheel is.
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
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from pathlib import Path

import agent
from agent.cli.completion import SHELLS
from buffer.errors import LimpetError
from tools import armhf, manpages, sbom
from tools.debian_copyright import copyright_file
from tools.packing import DebError, link, packed, pip, run, write

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "packaging" / "debian"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7l"}
GLIBC = ((2, 28), (2, 17), (2, 12), (2, 5))
"""Which wheels are taken: those for a C library that every system with Python 3.11 has."""
HOME = Path("opt/limpet")
SITE = HOME / "lib" / "site-packages"
DOC = Path("usr/share/doc/limpet")
UNITS = ("limpet.service", "limpet-serve.service")
LEVEL = 6  # of the compression
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = [name for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"] if "." not in name]
SOURCES = (*PACKAGES, "pyproject.toml", "README.md", "LICENSE")


def build(arch: str, out: Path, version: str = agent.__version__, level: int = LEVEL) -> Path:
    """Build the package of this version for `arch` into the folder `out`; return its path. Raises DebError."""
    if not shutil.which("dpkg-deb"):
        raise DebError("dpkg-deb", "is not on the PATH", "Install the package dpkg.")
    epoch = source_date()
    with tempfile.TemporaryDirectory(prefix="limpet-deb-") as temporary:
        work = Path(temporary)
        stage = work / "stage"
        (stage / SITE).mkdir(parents=True)
        if arch == "armhf":
            armhf.wheels(work / "wheels", work / "armhf")
        else:
            download(arch, work / "wheels")
        own_wheel(version, work, epoch)
        for wheel in sorted((work / "wheels").glob("*.whl")):
            unpack(wheel, stage / SITE)
        environment(stage, arch)
        system_files(stage, version, epoch)
        tops = tops_of((work / "wheels").glob("*.whl"))
        write(stage / DOC / "copyright", copyright_file(stage, SITE, tops))
        control_files(stage, arch, version)
        settle(stage, epoch)
        out.mkdir(parents=True, exist_ok=True)
        package = out / f"limpet_{version}-1_{arch}.deb"
        # One thread, because what several of them write depends on their number.
        packing = ["dpkg-deb", "--root-owner-group", "-Zxz", f"-z{level}", "--threads-max=1", "--build"]
        run([*packing, stage, package], {"SOURCE_DATE_EPOCH": str(epoch)})
    return package


def pythons(arch: str = "amd64") -> list[str]:
    """Return the versions of Python that the package is for, oldest first: ["3.11", ...]."""
    found = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["project"]["classifiers"]), re.MULTILINE)
    return [python for python in found if arch != "armhf" or python in armhf.HEADERS]


def source_date() -> int:
    """Return the time of the sources: SOURCE_DATE_EPOCH, the last commit's, or (no git) the changelog's."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    done = (
        subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("git") else None
    )
    if done is not None and done.returncode == 0:
        return int(done.stdout)
    return int((ROOT / "CHANGELOG.md").stat().st_mtime)


def download(arch: str, folder: Path) -> None:
    """Fetch the wheels of the lock for every version of Python; pip checks each against its hash."""
    platforms = [f"--platform=manylinux_{major}_{minor}_{MACHINES[arch]}" for major, minor in GLIBC]
    platforms += [f"--platform=manylinux{year}_{MACHINES[arch]}" for year in (2014, 2010, 1)]
    for python in pythons(arch):
        command = [
            *pip("download"),
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--implementation=cp",
        ]
        command += [
            f"--python-version={python}",
            *platforms,
            f"--dest={folder}",
            f"--requirement={sbom.LOCK}",
        ]
        run(command)


def own_wheel(version: str, work: Path, epoch: int) -> None:
    """Build Limpet's own wheel from a copy of the sources, so that nothing of an earlier build gets into it."""
    sources = work / "sources"
    ignore = shutil.ignore_patterns("__pycache__", "*.py[cod]")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, sources / name)
    init = sources / "agent" / "__init__.py"
    init.write_text(init.read_text(encoding="utf-8").replace(agent.__version__, version), encoding="utf-8")
    building = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    run([*building, work / "wheels", sources], {"SOURCE_DATE_EPOCH": str(epoch)})


def unpack(wheel: Path, site: Path) -> None:
    """Unpack a wheel, without tests and without the list for pip, which is not to change what dpkg owns.

    Wheels of one package for several Pythons share their files but for the extension modules. Raises DebError
    where another file differs; the wheel's own metadata of the first one stays.
    """
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = Path(name)
            if name.endswith("/") or path.name == "RECORD" or path.parts[1:2] == ("tests",):
                continue
            if ".data" in path.parts[0]:
                raise DebError(wheel.name, f"has {name}", "Say in tools/deb.py where it goes.")
            target, content = site / path, archive.read(name)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            elif target.read_bytes() != content and not path.parts[0].endswith(".dist-info"):
                raise DebError(
                    wheel.name, f"{name} differs between Pythons", "They need folders of their own."
                )


def tops_of(wheels: Iterable[Path]) -> dict[str, set[str]]:
    """Return what of each library is directly in site-packages, by the name of its metadata's folder."""
    found: dict[str, set[str]] = {}
    for wheel in wheels:
        tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
        [info] = (top for top in tops if top.endswith(".dist-info"))
        found.setdefault(info, set()).update(tops)
    return found


def environment(stage: Path, arch: str) -> None:
    """Make it a virtual environment for each Python: `pyvenv.cfg`, an interpreter, and the way to the modules."""
    write(stage / HOME / "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    write(stage / HOME / "bin" / "limpet", recipe("launcher"))
    link(stage / HOME / "bin" / "python3", "/usr/bin/python3")
    link(stage / "usr" / "bin" / "limpet", "/opt/limpet/bin/limpet")
    for python in pythons(arch):
        link(stage / HOME / "lib" / f"python{python}" / "site-packages", "../site-packages")


def system_files(stage: Path, version: str, epoch: int) -> None:
    """Put what the system looks for where it looks: unit, configuration, manual, completions, documents."""
    for name in UNITS:
        unit = (ROOT / "packaging" / "systemd" / name).read_text(encoding="utf-8")
        write(stage / "usr/lib/systemd/system" / name, unit)
    write(stage / "etc/limpet/limpet.yaml", recipe("limpet.yaml"))
    write(stage / "etc/limpet-serve/limpet.yaml", recipe("limpet-serve.yaml"))
    write(stage / "usr/share/python3/runtime.d/limpet.rtupdate", recipe("rtupdate"))
    write(stage / "usr/share/lintian/overrides/limpet", recipe("lintian-overrides"))
    for name, page in manpages.pages(epoch, version).items():
        packed(stage / "usr/share/man" / f"man{name[-1]}" / f"{name}.gz", page)
    completions = {
        "bash": "usr/share/bash-completion/completions/limpet",
        "zsh": "usr/share/zsh/vendor-completions/_limpet",
    }
    for shell in set(SHELLS) & set(completions):
        source = ROOT / "agent" / "completions" / f"limpet.{shell}"
        write(stage / completions[shell], source.read_text(encoding="utf-8"))
    packed(stage / DOC / "changelog.gz", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    packed(stage / DOC / "changelog.Debian.gz", debian_changelog(version, epoch))
    write(
        stage / DOC / "sbom.cdx.json", sbom.document(version, os.environ | {"SOURCE_DATE_EPOCH": str(epoch)})
    )
    write(stage / DOC / "examples" / "limpet.yaml", manpages.EXAMPLE.read_text(encoding="utf-8"))
    for where, names in (("systemd/examples", "*.conf"), ("recipes", "*.sh")):
        for example in (ROOT / "packaging" / where).glob(names):
            write(stage / DOC / "examples" / example.name, example.read_text(encoding="utf-8"))
    write(stage / DOC / "SECURITY.md", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    for folder in (ROOT / "docs", ROOT / "docs" / "runbooks"):
        for document in folder.glob("*.md"):
            write(stage / DOC / document.relative_to(ROOT / "docs"), document.read_text(encoding="utf-8"))


def control_files(stage: Path, arch: str, version: str) -> None:
    """Write what dpkg reads: control, scripts, the list of conffiles and the checksums."""
    versions = pythons(arch)
    major, minor = versions[-1].split(".")
    python = f"python3 (>= {versions[0]}), python3 (<< {major}.{int(minor) + 1})"
    if versions != pythons():  # some are left out between the first and the last
        python += f", {' | '.join(f'python{one}' for one in versions)}"
    values = {
        "VERSION": f"{version}-1",
        "ARCHITECTURE": arch,
        "PYTHON": python,
        "SIZE": str(sum(-(-path.lstat().st_size // 1024) for path in stage.rglob("*"))),
    }
    control = re.sub(r"@(\w+)@", lambda match: values[match[1]], recipe("control"))
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(stage)}\n"
        for path in files(stage)
    ]
    write(stage / "DEBIAN" / "control", control)
    write(stage / "DEBIAN" / "conffiles", "/etc/limpet/limpet.yaml\n/etc/limpet-serve/limpet.yaml\n")
    write(stage / "DEBIAN" / "md5sums", "".join(sums))
    for script in ("postinst", "prerm", "postrm"):
        write(stage / "DEBIAN" / script, recipe(script))


def debian_changelog(version: str, epoch: int) -> str:
    """Return the package's own changelog: one entry, since the project's changelog lists the changes."""
    maintainer = re.search(r"^Maintainer: (.+)$", recipe("control"), re.MULTILINE)
    assert maintainer is not None
    return (
        f"limpet ({version}-1) unstable; urgency=medium\n\n"
        f"  * Release {version}; see changelog.gz.\n\n"
        f" -- {maintainer[1]}  {formatdate(epoch)}\n"
    )


def settle(stage: Path, epoch: int) -> None:
    """Give every file its mode, and all the time of the sources."""
    for path in (stage, *stage.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or is_program(path) else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def is_program(path: Path) -> bool:
    """Whether it is one of the scripts of the recipe."""
    return path.name in ("limpet.rtupdate", "postinst", "prerm", "postrm") or path.parts[-2:] == (
        "bin",
        "limpet",
    )


def files(stage: Path) -> Iterator[Path]:
    """Yield every file but links, sorted."""
    return (path for path in sorted(stage.rglob("*")) if path.is_file() and not path.is_symlink())


def recipe(name: str) -> str:
    """Return a file of packaging/debian."""
    return (RECIPE / name).read_text(encoding="utf-8")


def native() -> str:
    """Return Debian's name of this machine's architecture."""
    machine = os.uname().machine
    return next((arch for arch, name in MACHINES.items() if name == machine), machine)


def main(words: list[str]) -> int:
    """Build, and print the path."""
    arguments = argparse.ArgumentParser("deb", description="Build the Debian package.")
    arguments.add_argument("--arch", choices=tuple(MACHINES), default=native(), help="for which machines")
    arguments.add_argument("--version", default=agent.__version__, help="the version it is to have")
    arguments.add_argument("--level", type=int, default=LEVEL, help="of the compression, 0 to 9")
    arguments.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder it goes to")
    given = arguments.parse_args(words)
    try:
        package = build(given.arch, given.out, given.version, given.level)
    except LimpetError as error:
        print(f"deb: {error}", file=sys.stderr)
        return 1
    print(f"{os.path.relpath(package)}  {package.stat().st_size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
