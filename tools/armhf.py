"""The libraries for 32-bit ARM with hard floats (Debian's armhf: ARMv7), as wheels: `wheels()` for tools/deb.py.

Promises:

- What has a wheel for armv7l in requirements/run.txt is taken as it was published. msgspec and psutil have none: their
  C is compiled here from the sources that the lock has the hashes of, with Debian's cross compiler and the headers of
  Debian's Python for armhf; their Python is that of the published wheel. PyYAML is taken without its C. google-re2 is
  left out (docs/decisions/0062-armhf.md).
- Nothing of the target runs. apt checks what comes from Debian, pip what comes from the lock.
- The same commit gives the same bytes with the same version of the compiler: no path, time or debugging data is in them.

DebError where the compiler, Debian's packages or a wheel is missing.
Sources: psutil's and msgspec's setup.py, for what is compiled how; PEP 3149 and PEP 384 on names of modules.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tools import sbom, servers
from tools.packing import DebError, pip, run, write

HEADERS = {"3.11": "bookworm", "3.13": "trixie"}
"""Which Pythons there are for armhf in Debian's releases, and where."""
TRIPLET = "arm-linux-gnueabihf"
COMPILER = f"{TRIPLET}-gcc"
FLAGS = ("-shared", "-fPIC", "-O2", "-DNDEBUG", "-g0", "-s", "-ffile-prefix-map=/=/")
HARDENING = ("-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-Wl,-z,relro,-z,now")
BUILD = sbom.LOCK.with_name("armhf.txt")  # what pip needs to read msgspec's sources
PLAIN = "pyyaml"
LEFT_OUT = "google-re2"


class Recipe(NamedTuple):
    """How a library's extension module is compiled from its sources, which are below its own folder."""

    module: str
    """The module in the wheel, without what follows its first dot."""
    sources: tuple[str, ...]
    flags: tuple[str, ...]
    limited: bool
    """Whether one module serves all Pythons."""


RECIPES = {
    "msgspec": Recipe("msgspec/_core", ("src/msgspec/_core.c",), ("-lm",), limited=False),
    "psutil": Recipe(
        "psutil/_psutil_linux",
        (
            "psutil/_psutil_linux.c",
            "psutil/arch/all/*.c",
            "psutil/arch/posix/*.c",
            "psutil/arch/linux/*.c",
        ),
        (
            *("-DPSUTIL_POSIX=1", "-DPSUTIL_LINUX=1", "-DPSUTIL_SIZEOF_PID_T=4"),
            "-DPy_LIMITED_API=0x03060000",
        ),
        limited=True,
    ),
}


def wheels(folder: Path, work: Path) -> None:
    """Fill a new folder with the wheels of the lock for armhf. Raises DebError."""
    if not shutil.which(COMPILER):
        raise DebError(COMPILER, "is not on the PATH", f"Install the package gcc-{TRIPLET}.")
    locked = sbom.LOCK.read_text(encoding="utf-8")
    built = {*RECIPES, PLAIN}
    write(work / "as-published.txt", select(locked, without={*built, LEFT_OUT}))
    write(work / "python-only.txt", select(locked, only=built))
    write(work / "sources.txt", select(locked, only=set(RECIPES)))
    for python in HEADERS:
        fetch(
            python, [f"manylinux_2_{minor}_armv7l" for minor in (31, 17)], work / "as-published.txt", folder
        )
        # Any machine's: only what is not compiled is taken from them.
        fetch(
            python,
            ["manylinux2014_x86_64", "manylinux2010_x86_64"],
            work / "python-only.txt",
            work / "donors",
        )
    sources(work)
    headers(work)
    for donor in sorted((work / "donors").glob("*.whl")):
        name, version, python, *_ = donor.stem.split("-")
        modules = compiled(name, version, python, work) if name in RECIPES else {}
        rebuild(donor, modules, folder / f"{name}-{version}-{python}-{python}-linux_armv7l.whl")


def select(lock: str, only: set[str] | None = None, without: Iterable[str] = ()) -> str:
    """Return the entries of a lock with these names, or without these."""
    entries = re.findall(r"^([\w-]+)(==(?:.*\\\n)*.*\n?)", lock, re.MULTILINE)
    return "".join(
        name + rest for name, rest in entries if (only is None or name in only) and name not in without
    )


def fetch(python: str, platforms: Iterable[str], lock: Path, folder: Path) -> None:
    """Download the wheels of these entries of the lock."""
    command = [*download(lock, folder), "--only-binary=:all:", "--implementation=cp"]
    run([*command, f"--python-version={python}", *(f"--platform={one}" for one in platforms)])


def sources(work: Path) -> None:
    """Download and unpack the sources of what is compiled here; pip wants to read their metadata by their build system."""
    tools = work / "tools"
    run([*pip("install"), "--no-deps", "--require-hashes", f"--target={tools}", f"--requirement={BUILD}"])
    command = [*download(work / "sources.txt", work), "--no-binary=:all:", "--no-build-isolation"]
    run(command, {"PYTHONPATH": str(tools)})
    for archive in sorted(work.glob("*.tar.gz")):
        with tarfile.open(archive) as members:
            members.extractall(work, filter="data")


def headers(work: Path) -> None:
    """Download and unpack the headers of Debian's Pythons for armhf, from the archive that this machine's apt knows."""
    for python, suite in HEADERS.items():
        place = work / f"apt-{python}"
        apt = [
            *servers.private_apt(place, suite),
            "-o",
            "APT::Architecture=armhf",
            "-o",
            "APT::Architectures=armhf",
        ]
        run([*apt, "update"])
        run([*apt, "download", f"libpython{python}-dev"], folder=place)
        [package] = place.glob("*.deb")
        run(["dpkg-deb", "-x", package, work / f"python-{python}"])


def compiled(name: str, version: str, tag: str, work: Path) -> dict[str, bytes]:
    """Return the extension module of a library for the Python of a wheel's tag, by its path in the wheel."""
    recipe = RECIPES[name]
    python = next(iter(HEADERS)) if recipe.limited else f"3.{tag.removeprefix('cp3')}"
    suffix = "abi3.so" if recipe.limited else f"cpython-{python.replace('.', '')}-{TRIPLET}.so"
    tree, include = work / f"{name}-{version}", work / f"python-{python}" / "usr" / "include"
    code = [path.relative_to(tree) for pattern in recipe.sources for path in sorted(tree.glob(pattern))]
    output = tree / f"{python}.so"
    command = [COMPILER, *FLAGS, *HARDENING, f"-I{include}/python{python}", f"-I{include}"]
    command += [f"-DPSUTIL_VERSION={version.replace('.', '')}"] if name == "psutil" else []
    run([*command, *map(str, code), *recipe.flags, "-o", str(output)], folder=tree)
    return {f"{recipe.module}.{suffix}": output.read_bytes()}


def rebuild(donor: Path, modules: dict[str, bytes], target: Path) -> None:
    """Write a wheel with another one's Python and these extension modules instead of its own."""
    with zipfile.ZipFile(donor) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if name.endswith("/WHEEL"):
                _, _, python, *_ = target.stem.split("-")
                text = re.sub(rb"(?m)^Tag: .*\n", b"", old.read(name)).rstrip()
                new.writestr(name, text + f"\nTag: {python}-{python}-linux_armv7l\n".encode())
            elif not name.endswith((".so", "/RECORD")):
                new.writestr(name, old.read(name))
        for name, content in modules.items():
            new.writestr(name, content)


def download(lock: Path, folder: Path) -> list[str]:
    """Return the command that downloads what a lock names, each file checked against its hashes."""
    return [*pip("download"), "--no-deps", "--require-hashes", f"--dest={folder}", f"--requirement={lock}"]
