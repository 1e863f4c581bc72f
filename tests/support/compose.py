"""A compose file's services as real processes, without a container engine.

`read` gives the services as an engine would see them: variables replaced, `extends` followed. `Stack` runs them as one
would, as far as Linux namespaces go; it needs root, and skips the test of anybody else:

- a network of their own, in which each service's name leads to it, so that the ports are those of the file;
- for each a root of its own, read-only where the file says so, in which the file's volumes are mounted at their places;
- the file's command, environment and user: what the user may not read, the service cannot read.

In the root is also what the programs here need: /usr, Python and Limpet. Programs of images are those of this machine
(`programs`). There are no limits and no capabilities to drop; named volumes are folders.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest
import yaml

from tests.support.namespaces import entering, inside
from tests.support.net import wait_for
from tests.support.run import output, run
from tests.support.server import Login, tied

PROJECT = Path(__file__).resolve().parents[2]
ENTRYPOINTS = {"prom/prometheus": "prometheus", "prom/alertmanager": "alertmanager", "grafana/mimir": "mimir"}
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")

# The loopback interface is up before anything else is; the network ends with the one who holds the other end of stdin.
HOLD = """
import fcntl, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    fcntl.ioctl(one, 0x8914, struct.pack("16sH22x", b"lo", 0x41))
print("up", flush=True)
sys.stdin.read()
"""

ROOT = """
for path in /bin /sbin /lib /lib32 /lib64 /usr /etc/ssl $NEEDED; do
    if [ -L "$ROOT$path" ] || [ -e "$ROOT$path" ]; then continue; fi
    if [ -L "$path" ]; then mkdir -p "$ROOT$(dirname "$path")"; ln -s "$(readlink "$path")" "$ROOT$path"; continue; fi
    [ -d "$path" ] || continue
    mkdir -p "$ROOT$path"
    mount --bind "$path" "$ROOT$path"
done
mkdir -p "$ROOT/proc" "$ROOT/dev" "$ROOT/etc"
mount --rbind /proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
cp /etc/hosts "$ROOT/etc/hosts"
"""

ASK = """
import base64, json, ssl, sys, urllib.error, urllib.request
url, ca, user, password = json.load(sys.stdin)
request = urllib.request.Request(url)
if user:
    request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
try:
    with urllib.request.urlopen(request, timeout=10, context=ssl.create_default_context(cafile=ca)) as answer:
        print(json.dumps([answer.status, answer.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read().decode()]))
except OSError as error:
    print(json.dumps([0, str(error)]))
"""


class Mount(NamedTuple):
    """An entry of `volumes`: a path below the compose file's folder, an absolute one, or a volume's name."""

    source: str
    target: str
    read_only: bool

    @property
    def named(self) -> bool:
        """Whether it is a volume, not a path."""
        return not self.source.startswith((".", "/"))


def _replaced(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return VARIABLE.sub(lambda m: variables.get(m["name"]) or m["default"] or "", value)
    if isinstance(value, list):
        return [_replaced(one, variables) for one in value]
    if isinstance(value, dict):
        return {key: _replaced(one, variables) for key, one in value.items()}
    return value


def _extended(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = base | over
    for key in ("environment", "depends_on"):
        if key in base and key in over:
            merged[key] = base[key] | over[key]
    if "volumes" in base and "volumes" in over:
        by_target = {mount.target: text for text, mount in zip(base["volumes"], mounts(base), strict=True)}
        by_target |= {mount.target: text for text, mount in zip(over["volumes"], mounts(over), strict=True)}
        merged["volumes"] = list(by_target.values())
    return merged


def mounts(service: Mapping[str, Any]) -> list[Mount]:
    """The volumes of a service that `read` returned."""
    found = []
    for text in service.get("volumes", []):
        source, target, *options = text.split(":")
        found.append(Mount(source, target, any("ro" in option.split(",") for option in options)))
    return found


def read(file: Path, variables: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """The services of a compose file by their names, with `variables` in the place of its `${...}`."""
    services: dict[str, dict[str, Any]] = {}
    for name, service in _replaced(yaml.safe_load(file.read_text()), variables or {})["services"].items():
        extends = service.pop("extends", None)
        if extends:
            base = read(file.parent / extends["file"], variables)[extends["service"]]
            service = _extended(base, service)
        services[name] = service
    return services


class Stack:
    """The services of a compose file, below `folder`, each started by `start`."""

    def __init__(
        self,
        file: Path,
        folder: Path,
        programs: Mapping[str, Sequence[str]],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.file, self.folder, self.programs = file, folder, dict(programs)
        self.services = read(file, variables)
        self._network: subprocess.Popen[bytes] | None = None
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            pytest.skip("the services have users of their own, which takes root")
        self.folder.mkdir(parents=True, exist_ok=True)
        hosts = self.folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {' '.join(self.services)}\n")
        script = f"mount --bind {shlex.quote(str(hosts))} /etc/hosts\n"
        command, environment = inside(script, more=["--net"], command=[sys.executable, "-c", HOLD])
        pipe = subprocess.PIPE
        self._network = subprocess.Popen(tied(command), env=environment, stdin=pipe, stdout=pipe)
        assert self._network.stdout is not None
        assert self._network.stdout.readline() == b"up\n"
        return self

    def __exit__(self, *failure: object) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()
        network = self._network
        assert network is not None
        assert network.stdin is not None
        assert network.stdout is not None
        network.stdin.close()
        network.stdout.close()
        network.wait()
        if failure[0] is not None:
            for name in self._running:
                print(f"The end of what {name} said:\n{self.said(name)[-3000:]}", file=sys.stderr)

    def volume(self, name: str) -> Path:
        """The folder that is used as a named volume."""
        path = self.folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, name: str) -> None:
        """Start a service."""
        root = self.folder / "roots" / name
        root.mkdir(parents=True)
        command, environment = self._command(name, root)
        with (self.folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                tied(command), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def finished(self, name: str) -> int:
        """Start a service that ends by itself, and return its exit status."""
        self.start(name)
        return self._running[name].wait(60)

    def said(self, name: str) -> str:
        """What a service has said so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def healthy(self, name: str) -> bool:
        """Whether a service runs and its health check, made inside its root by its user, is content."""
        process = self._running[name]
        assert process.poll() is None, f"{name} has ended:\n{self.said(name)[-3000:]}"
        kind, *test = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        options = ("--setuid", "--setgid")
        user = [f"{option}={number}" for option, number in zip(options, self._user(name), strict=False)]
        command = [*entering(process.pid, "--net", "--root", *user), *self._program(test)]
        done = run(*command, env=self._environment(name), timeout=30)
        (self.folder / f"{name}.health").write_text(done.stdout + done.stderr)
        return done.returncode == 0

    def wait(self, name: str, deadline_s: float = 30) -> None:
        """Wait until a service is healthy."""
        wait_for(lambda: self.healthy(name), deadline_s, f"the health check of {name}")

    def ask(self, url: str, ca: Path, login: Login | None = None) -> tuple[int, str]:
        """GET a URL in the stack's network; returns its status and body, or 0 and why there is no answer."""
        assert self._network is not None
        question = json.dumps([url, str(ca), *(login or (None, None))])
        command = [*entering(self._network.pid, "--net"), sys.executable, "-c", ASK]
        status, body = json.loads(output(*command, input=question, timeout=30))
        return int(status), str(body)

    def _user(self, name: str) -> list[str]:
        user = str(self.services[name].get("user", ""))
        return user.split(":") if user else []

    def _program(self, words: Iterable[str]) -> list[str]:
        first, *rest = words
        return [*self.programs.get(first, [first]), *rest]

    def _environment(self, name: str) -> dict[str, str]:
        own = {key: str(value) for key, value in self.services[name].get("environment", {}).items()}
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PYTHONPATH": str(PROJECT), **own}

    def _command(self, name: str, root: Path) -> tuple[list[str], dict[str, str]]:
        service = self.services[name]
        start = service.get("entrypoint") or [
            entry for image, entry in ENTRYPOINTS.items() if service["image"].startswith(image)
        ]
        command = self._program([*start, *service.get("command", [])])
        quoted = shlex.quote
        script = f"mount -t tmpfs -o mode=755 root {quoted(str(root))}\n"
        for path in service.get("tmpfs", []):
            script += f"mkdir -p {quoted(f'{root}{path}')}\nmount -t tmpfs -o mode=1777 tmp {quoted(f'{root}{path}')}\n"
        script += ROOT
        for mount in sorted(mounts(service), key=lambda mount: mount.target):
            source = self.volume(mount.source) if mount.named else (self.file.parent / mount.source).resolve()
            target = f"{root}{mount.target}"
            if not source.exists():  # as an engine does
                source.mkdir(parents=True)
            make = f"mkdir -p {quoted(target)}"
            if source.is_file():
                make = f"mkdir -p {quoted(str(Path(target).parent))}; : > {quoted(target)}"
            recursive = "--rbind" if str(source) == "/" else "--bind"
            script += f"{make}\nmount {recursive} {quoted(str(source))} {quoted(target)}\n"
            if mount.read_only:
                script += f"mount -o remount,bind,ro {quoted(target)}\n"
        if "hostname" in service:
            script += f"hostname {quoted(service['hostname'])}\n"
        if service.get("read_only"):
            script += f"mount -o remount,ro {quoted(str(root))}\n"
        user = [f"--userspec={service['user']}", "--groups="] if self._user(name) else []
        clean = ["env", "-i", *(f"{key}={value}" for key, value in self._environment(name).items())]
        last = ["chroot", *user, str(root), *clean, *tied(command)]
        assert self._network is not None
        made = f"exec {shlex.join(last)}\n"
        outside = [
            *entering(self._network.pid, "--net"),
            *("unshare", "--mount", "--uts", "--propagation", "private", "sh", "-ec", script + made),
        ]
        needed = {PROJECT, Path(sys.base_prefix), Path(sys.prefix), Path(sys.prefix).resolve()}
        words = [word for program in self.programs.values() for word in program]
        paths = [Path(word).resolve() for word in words if word.startswith("/")]
        needed |= {path if path.is_dir() else path.parent for path in paths}
        return outside, {**os.environ, "ROOT": str(root), "NEEDED": " ".join(map(str, sorted(needed)))}
