"""A clean Debian: a root folder made once by mmdebstrap or debootstrap, and kept in `.cache` for every test after it.

The folder is for reading only. `lower` gives the lines of a script that lays a root of one's own over it, in memory,
in a mount namespace (`tests.support.namespaces`): what a test does to it goes with the namespace.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "debian"
SUITE = "bookworm"
PACKAGES = ("ca-certificates", "dbus", "python3-venv", "systemd", "systemd-sysv")
"""Beyond what is essential: what an ordinary server has, and what makes a virtual environment."""


@cache
def debian_root() -> Path:
    """The root; skips the test, with the reason, where none can be made."""
    if os.geteuid() != 0:
        pytest.skip("making a Debian root needs root")
    CACHE.mkdir(parents=True, exist_ok=True)
    root = CACHE / SUITE
    with (CACHE / f".{SUITE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            _make(root)
    return root


def _make(root: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".new-", dir=CACHE) as temporary:
        new = Path(temporary) / "root"
        wanted = f"--include={','.join(PACKAGES)}"
        if shutil.which("mmdebstrap"):
            command = ["mmdebstrap", "--mode=root", "--variant=minbase", wanted, SUITE, str(new)]
        elif shutil.which("debootstrap"):
            command = ["debootstrap", "--variant=minbase", wanted, SUITE, str(new)]
        else:
            pytest.skip("there is neither mmdebstrap nor debootstrap")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()[-3:]
            pytest.skip(f"no Debian root: {' '.join(said)}")
        new.rename(root)


def lower(root: Path, over: Path) -> str:
    """The script that makes `over` a writable root above `root`, in memory; `over` must be there."""
    base, up = shlex.quote(str(root)), shlex.quote(str(over))
    return f"""
mount -t tmpfs -o mode=755 over {up}
mkdir {up}/upper {up}/work {up}/root
mount -t overlay -o lowerdir={base},upperdir={up}/upper,workdir={up}/work overlay {up}/root
"""
