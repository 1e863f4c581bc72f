"""Images built without an engine: buildah runs the steps of a Dockerfile in roots of its own (isolation `chroot`).

A base image that no registry gives here is made of the Debian root that all tests share, once, under the name that the
Dockerfile asks for. Packages of Python come from a folder of wheels, which pip fills beforehand by the locks' hashes.
It needs root.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.machine import ROOTS, base
from tests.support.namespaces import inside
from tests.support.run import run
from tools.servers import PACKAGES, ServerError, ensure

PROJECT = Path(__file__).resolve().parents[2]
POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


class Image(NamedTuple):
    """What was built: its root, and its configuration as Docker names the keys."""

    root: Path
    config: dict[str, Any]


class Buildah:
    """buildah with a storage below `folder`. Skips the test, with the reason, where it is not available."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("buildah runs here as root only")
        try:
            self._program = ensure("buildah").path
        except ServerError as error:
            pytest.skip(str(error))
        self.folder = folder
        self._write("policy.json", json.dumps(POLICY))
        self._write("registries.conf", "unqualified-search-registries = []\n")
        self._storage = self._write("storage.conf", self._stores(folder / "store"))

    def build(self, dockerfile: Path, context: Path, origin: str, wheels: Path) -> Image:
        """Build an image whose first stage is FROM `origin`, and copy its root out of the storage. Raises AssertionError."""
        self._base(origin)
        pip = self._write("pip.conf", "[global]\nno-index = true\nfind-links = /locked\n")
        volumes = [f"--volume={wheels}:/locked:ro", f"--volume={pip}:/etc/pip.conf:ro"]
        options = ["--pull-never", "--format=docker", "--quiet", *volumes, f"--file={dockerfile}"]
        self.run("bud", *options, "--tag=built", context)
        config = json.loads(self.run("inspect", "--type=image", "built"))["Docker"]["config"]
        root = self.folder / "root"
        copy = f'cp -a "$({shlex.quote(str(self._program))} mount work)/." {shlex.quote(str(root))}'
        self.run("from", "--pull-never", "--name=work", "built")
        root.mkdir()
        self._inside(copy)
        self.run("rm", "work")
        return Image(root, config)

    def run(self, command: str, *words: object) -> str:
        """Run one of its commands, and return what it prints. Raises AssertionError with what it says."""
        signature = f"--signature-policy={self.folder / 'policy.json'}"
        more = [signature] if command in ("bud", "from", "commit") else []
        return self._inside(f"exec {shlex.join(map(str, [self._program, command, *more, *words]))}")

    def _inside(self, script: str) -> str:
        # Libraries that this machine lacks are laid below those that it has, for this process alone: buildah starts
        # itself a second time, without LD_LIBRARY_PATH.
        lay = ""
        for beside in PACKAGES["buildah"].libraries(self._program):
            here = Path("/") / beside.relative_to(self._program.parents[2])
            if here.is_dir():
                both = f"lowerdir={here}:{shlex.quote(str(beside))}"
                lay += f"mount -t overlay -o {both} overlay {here}\n"
        command, environment = inside(lay + script)
        own = {
            "CONTAINERS_STORAGE_CONF": str(self._storage),
            "CONTAINERS_REGISTRIES_CONF": str(self.folder / "registries.conf"),
            "BUILDAH_ISOLATION": "chroot",
            "TMPDIR": str(self.folder),
        }
        done = run(*command, env={**environment, **own}, timeout=300)
        assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def _stores(self, graph: Path, *others: Path) -> str:
        more = f"[storage.options]\nadditionalimagestores = {json.dumps(list(map(str, others)))}\n"
        own = f'[storage]\ndriver = "overlay"\nrunroot = "{self.folder}/run"\ngraphroot = "{graph}"\n'
        return own + (more if others else "")

    def _base(self, name: str) -> None:
        store = ROOTS / "images"
        root = base("bookworm", "ca-certificates", "python3-venv")
        ready = store / ".ready"
        with (ROOTS / ".images.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            made_of = f"{name} {root.name}\n"
            if not ready.exists() or ready.read_text() != made_of:
                shutil.rmtree(store, ignore_errors=True)
                self._storage = self._write("storage.conf", self._stores(store))
                self.run("from", "--name=base", "scratch")
                mounted = f'"$({shlex.quote(str(self._program))} mount base)"'
                self._inside(f"cp -a {shlex.quote(str(root))}/. {mounted}")
                self.run("commit", "--rm", "--quiet", "base", name)
                ready.write_text(made_of)
        self._storage = self._write("storage.conf", self._stores(self.folder / "store", store))

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path


def wheels(*locks: Path) -> Path:
    """A folder with the wheels that these locks name, for this Python; fetched by pip if they are not there yet."""
    folder = ROOTS.parent / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", f"--find-links={folder}", f"--dest={folder}"]
    command += [f"--requirement={lock}" for lock in locks]
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if run(*command, "--no-index").returncode and (done := run(*command)).returncode:
            pytest.skip(f"the wheels are not available: {done.stderr.strip().splitlines()[-1]}")
    return folder
