"""Real servers without root: Debian's packages, downloaded, checked and unpacked into a cache.

`ensure(name, cache)` returns a program that has just printed its version. It looks, in this order:

1. in `cache/<name>-<version>/`, where an earlier call unpacked it (the network is not used then);
2. in Debian's unstable suite, which has the newest version, but for a server that is wanted as the machine has it;
3. in the suites of this machine's own apt sources, whose packages fit its libraries;
4. on the PATH.

apt is used with sources, lists and cache of its own in a temporary folder, so the machine's state is neither
needed nor touched. The sources are those entries of the machine that point to a Debian archive: its mirror,
its options and its keyrings. apt checks the archive's signature and the package's hash against them, as
always. An unpacked folder appears complete or not at all, and a lock lets one caller at a time fetch.

Needs the standard library only: it runs before the environment is there, as
`python -m tools.servers [--try] prometheus [alertmanager ...]`, prints a path for each, and reports what it does
on stderr. With `--try` a server that is not available is no failure: the tests that need it are skipped.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from buffer.errors import LimpetError

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "servers"
NEWEST_SUITE = "sid"
_ONE_LINE = re.compile(r"\s*deb\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)")


class Package(NamedTuple):
    """Where Debian has a server: the package's name, and what is in it."""

    package: str
    program: str
    folder: str = "bin"
    """Where the program is, below usr."""
    asked: str = "--version"
    """The option that prints the program's version; its status is 0, and it may print nothing."""
    suites: tuple[str | None, ...] = (NEWEST_SUITE, None)
    """Where to look, in this order; None: the machine's own."""
    also: tuple[str, ...] = ()
    """Packages with libraries that it needs and that few machines have; they are unpacked next to it."""
    is_whole: bool = False
    """Whether it comes with every package that it depends on and that this machine lacks, as apt finds them."""

    def below(self, root: Path) -> Path:
        """The program, in a package that is unpacked there."""
        return root / "usr" / self.folder / self.program

    def libraries(self, program: Path) -> list[Path]:
        """The folders with the libraries that were unpacked with a program."""
        if not self.also and not self.is_whole:
            return []
        lib = program.parents[len(Path(self.folder).parts)] / "lib"
        return sorted({path.parent for path in lib.glob("*-linux-gnu*/**/*.so*")})

    def environment(self, program: Path) -> dict[str, str]:
        """The environment in which a program that was unpacked finds its libraries."""
        folders = self.libraries(program)
        return dict(os.environ) | ({"LD_LIBRARY_PATH": ":".join(map(str, folders))} if folders else {})


# A name is the beginning of a folder in the cache, where a digit of the version follows: no name may be the
# beginning of another one (so it is stable-prometheus, not prometheus-stable).
PACKAGES = {
    "prometheus": Package("prometheus", "prometheus"),
    "stable-prometheus": Package("prometheus", "prometheus", suites=(None,)),
    "promtool": Package("promtool", "promtool"),
    "alertmanager": Package("prometheus-alertmanager", "prometheus-alertmanager"),
    "amtool": Package("prometheus-alertmanager", "amtool"),
    "node-exporter": Package("prometheus-node-exporter", "prometheus-node-exporter"),
    "victoria-metrics": Package("victoria-metrics", "victoria-metrics"),
    "influxdb": Package("influxdb", "influxd", asked="version"),
    "tinyproxy": Package("tinyproxy-bin", "tinyproxy", asked="-v", suites=(None,)),
    "nginx": Package("nginx", "nginx", folder="sbin", asked="-v", suites=(None,)),
    "faketime": Package("faketime", "faketime", suites=(None,), also=("libfaketime",)),
    "iostat": Package("sysstat", "iostat", asked="-V", suites=(None,)),
    "chromium": Package(
        "chromium-headless-shell",
        "chromium-headless-shell",
        folder="lib/chromium",
        suites=(None,),
        is_whole=True,
    ),
    "buildah": Package(
        "buildah", "buildah", suites=(None,), also=("libgpgme11", "libassuan0", "libdevmapper1.02.1")
    ),
}


class Server(NamedTuple):
    """A program that ran: its path, and what it says its version is, or the package's where it says nothing."""

    path: Path
    version: str


class ServerError(LimpetError):
    """A server is not available."""


def find(name: str) -> Path | None:
    """Return the program of the server `name` on the PATH, or None when there is none that runs."""
    package = PACKAGES[name]
    path = shutil.which(package.program) or shutil.which(name)
    return Path(path) if path and _version(Path(path), package) is not None else None


def ensure(name: str, cache: Path = CACHE) -> Server:
    """Return the server `name`, fetched into `cache` if need be. Raises ServerError when it is not available."""
    if name not in PACKAGES:
        raise ServerError("servers", f"unknown server {name!r}", f"Choose of: {', '.join(PACKAGES)}.")
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / ".lock"):
        return _cached(name, cache) or _fetched(name, cache)


def debian_sources(text: str, one_line: bool, suite: str | None) -> list[str]:
    """Return the entries of an apt source file that lead to a Debian archive's `main`, of `suite` if given.

    `one_line`: the text is a `.list` file, and not a deb822 `.sources` file; the entries come back in the same form.
    Entries that are disabled, for source packages only, or for another archive (security included) are left out.
    """
    entries = _one_line(text, suite) if one_line else _stanzas(text, suite)
    return list(entries)


def _is_debian(uri: str) -> bool:
    # A mirror list is a file of URIs; Debian's own images name it debian.list.
    return urlsplit(uri).path.rstrip("/").rsplit("/", 1)[-1] in ("debian", "debian.list")


def _one_line(text: str, suite: str | None) -> Iterator[str]:
    for line in text.splitlines():
        if match := _ONE_LINE.match(line.partition("#")[0]):
            options, uri, own, components = match.groups(default="")
            if _is_debian(uri) and "main" in components.split():
                yield f"deb {options}{uri} {suite or own} main"


def _stanzas(text: str, suite: str | None) -> Iterator[str]:
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", lines):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t"):
                fields[name] += "\n" + line  # a key can be embedded, over many lines
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        uris = [uri for uri in fields.get("uris", "").split() if _is_debian(uri)]
        wanted = (
            "deb" in fields.get("types", "").split()
            and "main" in fields.get("components", "").split()
            and fields.get("enabled", "yes").lower() not in ("no", "false", "off", "0")
        )
        if uris and wanted:
            fields |= {"types": "deb", "uris": " ".join(uris), "components": "main"}
            if suite:
                fields["suites"] = suite
            yield "\n".join(f"{key.title()}: {value}".replace(": \n", ":\n") for key, value in fields.items())


def _say(text: str) -> None:
    print(f"servers: {text}", file=sys.stderr, flush=True)


def _version(program: Path, package: Package) -> str | None:
    """Return what the program says its version is, which may be nothing; None when it does not run here.

    Debian's victoria-metrics was built without one: it prints an empty line, and ends well.
    """
    try:
        done = subprocess.run(
            [program, package.asked],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env=package.environment(program),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return next((line for line in (done.stdout + done.stderr).splitlines() if line.strip()), "")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cached(name: str, cache: Path) -> Server | None:
    package = PACKAGES[name]
    for folder in sorted(cache.glob(f"{name}-[0-9]*"), reverse=True):
        program = package.below(folder)
        if (version := _version(program, package)) is not None:
            return Server(program, version or f"{name} {folder.name.removeprefix(f'{name}-')}")
    return None


def _fetched(name: str, cache: Path) -> Server:
    failures: list[str] = []
    for suite in PACKAGES[name].suites if shutil.which("apt-get") else ():
        try:
            return _unpacked(name, cache, suite)
        except ServerError as error:
            _say(str(error))
            failures.append(error.what)
    if path := find(name):
        _say(f"taking {path}, which is on the PATH")
        return Server(path, _version(path, PACKAGES[name]) or name)
    reason = "; ".join(failures) or "this system has no apt-get"
    raise ServerError(name, f"is not available: {reason}", f"Install {name} so that it is on the PATH.")


def _unpacked(name: str, cache: Path, suite: str | None) -> Server:
    wanted = PACKAGES[name]
    package = wanted.package
    where = f"Debian's {suite}" if suite else "this machine's suite"
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as temporary:
        folder = Path(temporary)
        apt = private_apt(folder, suite)
        _say(f"fetching {package} from {where}")
        # Hooks of the machine's configuration may fail without root; what counts is whether the download works.
        updated = subprocess.run([*apt, "update"], capture_output=True, text=True, check=False)
        names = [package, *wanted.also, *(_lacking(apt, package) if wanted.is_whole else ())]
        done = subprocess.run(
            [*apt, "download", *names], capture_output=True, text=True, check=False, cwd=folder
        )
        packages = sorted(folder.glob("*.deb"), key=lambda path: not path.name.startswith(f"{package}_"))
        if done.returncode or not packages:
            said = [line for line in (updated.stderr + done.stderr).splitlines() if line.startswith("E:")]
            raise ServerError(
                name,
                f"no {package} in {where} ({' '.join(said) or 'no word from apt'})",
                "Look at apt's sources.",
            )
        root = folder / "root"
        for one in packages:
            subprocess.run(["dpkg-deb", "-x", one, root], check=True)
        version = subprocess.run(
            ["dpkg-deb", "-f", packages[0], "Version"], capture_output=True, text=True, check=True
        ).stdout.strip()
        if _version(wanted.below(root), wanted) is None:
            raise ServerError(
                name, f"{package} {version} of {where} does not run here", "Another suite is tried."
            )
        final = cache / f"{name}-{version}"
        shutil.rmtree(final, ignore_errors=True)  # it is there only if it does not run
        root.rename(final)
    ready = wanted.below(final)
    _say(f"{name} {version} is in {os.path.relpath(final)}")
    return Server(ready, _version(ready, wanted) or f"{name} {version}")


def _lacking(apt: list[str], package: str) -> list[str]:
    """Return the packages that this machine would have to install for one: nothing is installed here."""
    status = Path("/var/lib/dpkg/status")
    command = [
        *apt,
        "-o",
        f"Dir::State::status={status}",
        "-s",
        "--no-install-recommends",
        "install",
        package,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    names = re.findall(r"(?m)^Inst (\S+)", done.stdout)
    return [name for name in names if name != package]


def private_apt(folder: Path, suite: str | None) -> list[str]:
    """Write apt's sources for `suite` (None: as they are) below `folder`; return the command to use them with."""
    parts = folder / "sources.list.d"
    for needed in (parts, folder / "state/lists/partial", folder / "cache/archives/partial"):
        needed.mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    write_sources(parts, suite)
    options = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": parts,
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Sandbox::User": "root",  # the folder is the caller's own: apt's user may not write there
    }
    return ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]


def write_sources(folder: Path, suite: str | None) -> list[Path]:
    """Write this machine's sources that are a Debian archive, of `suite` if given, into a folder of apt's.

    Return what was written: a `.list`, a `.sources` file, or both. Raises ServerError where there is none.
    """
    lists = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*.list")]
    stanzas = Path("/etc/apt/sources.list.d").glob("*.sources")
    found = {
        folder / "debian.list": "".join(f"{line}\n" for line in _entries(lists, True, suite)),
        folder / "debian.sources": "\n\n".join([*_entries(stanzas, False, suite), ""]),
    }
    written = [path for path, text in found.items() if text]
    if not written:
        raise ServerError(
            "apt", "none of this machine's sources is a Debian archive", "Put the server on the PATH instead."
        )
    for path in written:
        path.write_text(found[path])
    return written


def _entries(files: Iterable[Path], one_line: bool, suite: str | None) -> list[str]:
    found: dict[str, None] = {}  # a dict keeps the order, and an entry that occurs twice only once
    for file in files:
        if file.is_file():
            found |= dict.fromkeys(debian_sources(file.read_text(), one_line, suite))
    return list(found)


def main(words: list[str]) -> int:
    """Make sure that each server is there, and print its path. Exit status 1 when one is not available."""
    names = [word for word in words if word != "--try"]
    for name in names:
        try:
            print(ensure(name).path)
        except ServerError as error:
            _say(str(error))
            if names == words:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
