"""Everything that somebody needs who is to help, in one file without secrets: `limpet doctor --bundle FILE`.

Promises:

1. No secret is in it. The configuration is shown as `shown` does it. Every text, whatever it is, is then freed from each secret that the
   configuration has or names: passwords, tokens, values of headers, contents of its files, users and queries of URLs; and
   from the values of environment variables whose names speak of secrets. The environment itself is not in it.
2. Nothing is written before `Part`s were shown: `gather` returns them, `write` makes the file, which must not exist, for its
   owner alone.
3. What is not available is a part that says why. Each command of the parts has its own process, which ends within PATIENCE seconds.
"""

from __future__ import annotations

import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import yaml

from agent import __version__
from agent.config import Config, ConfigErrors, data_dir_of, load_file
from agent.http.secrets import hidden, secrets
from agent.ops import preflight, service
from agent.ops.shown import shown
from agent.system import answering
from agent.text import human

PATIENCE = 120.0
LOG_LINES = 500
LARGEST = 4 << 20
"""Characters of a part, of which the last are kept."""
_SPEAKS = re.compile(r"(?i)pass|secret|token|key|credential|proxy|auth")


class Part(NamedTuple):
    """A file of the bundle, what it is in one line, and its text."""

    name: str
    what: str
    text: str


Run = Callable[[Sequence[str]], str]


def gather(file: str, run: Run | None = None) -> list[Part]:
    """Return the parts, for the configuration in `file`, which may have errors."""
    run, config = run or _run, None
    with suppress(ConfigErrors):
        if answering.answers(data_dir_of(file)):  # else every command says that it does not
            config = load_file(file).config
    own = _own_command()
    data_dir = config.data_dir if config else None
    where = ["--config", file]
    asked = [
        ("status.json", "what limpet status shows", ["status", *where, "--json"]),
        ("check-config.json", "what is wrong with the configuration", ["check-config", *where, "--json"]),
        (
            "doctor.json",
            "every step of limpet doctor, names masked as configured",
            ["doctor", *where, "--json"],
        ),
        (
            "buffer-status.json",
            "the backlog, and what became of the rest",
            ["buffer", "status", *where, "--json"],
        ),
        ("verify.json", "whether what is on disk can be read", ["buffer", "verify", *where, "--json"]),
    ]
    parts = [Part("system.txt", "versions, memory, disks, time", _system(data_dir))]
    parts.append(
        Part("config.yaml", "the configuration without secrets and comments", _configuration(config))
    )
    parts += [Part(name, what, run([*own, *command])) for name, what, command in asked]
    parts.append(Part("log.txt", f"the last {LOG_LINES} lines of the service's journal", _journal(run)))
    known = _known(config)
    return [part._replace(text=_without(part.text, known)[-LARGEST:]) for part in parts]


def write(path: str, parts: Iterable[Part]) -> None:
    """Write the file, a tar archive compressed with gzip. Raises OSError, FileExistsError where there is one."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for part in parts:
            data = part.text.encode(errors="backslashreplace")
            about = tarfile.TarInfo(f"limpet/{part.name}")
            about.size, about.mode, about.mtime = len(data), 0o600, int(time.time())
            archive.addfile(about, io.BytesIO(data))


def _configuration(config: Config | None) -> str:
    if config is None:
        return "# It has errors: see check-config.json.\n"
    return yaml.safe_dump(shown(config), sort_keys=False, allow_unicode=True)


def _known(config: Config | None) -> set[str]:
    """Return every text that must not be in the bundle."""
    found = {text for name, text in os.environ.items() if _SPEAKS.search(name)}
    for text in list(found):
        with suppress(ValueError):
            parts = urlsplit(text)
            found |= {parts.password or "", unquote(parts.password or "")}
    for to in preflight.endpoints(config) if config else ():
        found |= secrets(to)
    return found - {""}


def _without(text: str, known: Iterable[str]) -> str:
    """Return a text without secrets, also where JSON has escaped them."""
    import json

    forms = {form for one in known for form in (one, json.dumps(one)[1:-1])}
    return hidden(text, forms)


def _own_command() -> list[str]:
    """Return how this command was started, without its arguments."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv[1:])]]


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it is not available: {error}\n"
    return done.stdout + done.stderr


def _journal(run: Run) -> str:
    if service.unit() is None or not shutil.which("journalctl"):
        return "no service of systemd: the log is where the agent's standard error goes\n"
    return run(
        ["journalctl", "--unit", "limpet", "--lines", str(LOG_LINES), "--no-pager", "--output", "short-iso"]
    )


def _system(data_dir: str | None) -> str:
    lines = [f"limpet {__version__}, Python {platform.python_version()}", " ".join(platform.uname())]
    lines += [
        _read("/etc/os-release"),
        f"up for {_read('/proc/uptime').split(' ')[0]} s, load {_read('/proc/loadavg')}",
    ]
    lines += [
        line
        for line in _read("/proc/meminfo").splitlines()
        if line.startswith(("MemTotal", "MemAvailable", "Swap"))
    ]
    lines.append(
        f"{os.cpu_count()} CPUs; user {os.geteuid()}; time {human.moment(time.time() * 1000)} {time.tzname}"
    )
    if data_dir is not None:
        with suppress(OSError):
            volume = os.statvfs(data_dir)
            free, size = volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize
            about = os.stat(data_dir)
            lines.append(
                f"{data_dir}: {human.size(free)} of {human.size(size)} free, {volume.f_favail} inodes free"
            )
            lines.append(f"  mode {about.st_mode:o}, user {about.st_uid}, group {about.st_gid}")
    return "".join(f"{line}\n" for line in lines)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(LARGEST).strip()
    except OSError as error:
        return human.reason(error)
