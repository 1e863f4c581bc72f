"""A Debian machine of its own: a fresh root, a systemd that runs it, and commands in it.

The root is made once by mmdebstrap (debootstrap's minbase, systemd and dbus) from the archive that this machine's apt
knows, and kept in .cache/roots. A machine is an overlay over it in namespaces of its own (mounts, processes, host
name, cgroup); it shares the network, so that a server on loopback is reached,
and the kernel, whose settings it cannot change. All that is written is in memory, and goes with all that runs when it ends.

It needs root, mmdebstrap, overlayfs and a cgroup2 hierarchy; the test is skipped, with the reason, where one of them
is missing. Source: https://systemd.io/CONTAINER_INTERFACE, on what systemd wants to find as process 1.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest

from tests.support.net import wait_for
from tests.support.server import tied
from tools.servers import ServerError, write_sources

ROOTS = Path(__file__).resolve().parents[2] / ".cache" / "roots"
PREPARED = ("python3", "adduser", "python3-apt")
"""Packages that are downloaded but not installed, so that apt can install them without a network."""

BOOT = r"""
echo $$ > "$CGROUP/cgroup.procs"
exec unshare --mount --propagation private --cgroup --pid --fork --kill-child --uts --ipc sh -ec '
mount -t tmpfs tmpfs "$FOLDER"
mkdir "$FOLDER/upper" "$FOLDER/work" "$FOLDER/root"
mount -t overlay -o "lowerdir=$BASE,upperdir=$FOLDER/upper,workdir=$FOLDER/work" overlay "$FOLDER/root"
cd "$FOLDER/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    : > dev/$node
    mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
# By pivot_root, since who is in another root by chroot may not make user namespaces (PrivateUsers=); and with mounts
# that reach the units which run already, as on a host.
mkdir .old
pivot_root . .old
umount -l /.old
rmdir /.old
mount --make-rshared /
exec /usr/bin/env -i container=limpet-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
'
"""


def base(suite: str, *more: str) -> Path:
    """Return a fresh root of this suite (it is shared: do not write to it), with `more` packages in it.

    Skips where it cannot be made.
    """
    if os.geteuid() != 0:
        pytest.skip("a Debian root is made by root only")
    if not shutil.which("mmdebstrap"):
        pytest.skip("there is no mmdebstrap")
    ROOTS.mkdir(parents=True, exist_ok=True)
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]
    command += [f"--include={','.join(('systemd', 'dbus', *more))}"]
    command += ["--skip=cleanup/apt"]
    command += ["--dpkgopt=force-unsafe-io", '--aptopt=APT::Install-Recommends "false"']
    command += [f'--customize-hook=chroot "$1" apt-get -qq -y --download-only install {" ".join(PREPARED)}']
    recipe = hashlib.sha256("\0".join(command).encode()).hexdigest()[:8]
    root = ROOTS / f"{suite}-{recipe}"
    with (ROOTS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _make(command, suite, root)
    return root


def _make(command: Sequence[str], suite: str, root: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".making-", dir=ROOTS) as temporary:
        folder = Path(temporary)
        try:
            sources = write_sources(folder, suite)
        except ServerError as error:
            pytest.skip(str(error))
        made = folder / "root"
        done = subprocess.run(
            [*command, suite, made, *sources], capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode:
            pytest.skip(f"no Debian root: {done.stderr.strip()[-500:]}")
        made.rename(root)


def unpacked(suite: str, root: Path, *packages: str, arch: str | None = None) -> None:
    """Unpack these packages of this suite (for another architecture, if it is given), and what they need, as a root to run a program in; none of it is set up.

    Skips where it cannot be made.
    """
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        pytest.skip("a Debian root is made by root and mmdebstrap")
    sources = root.with_suffix(".apt")
    sources.mkdir()
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--include={','.join(packages)}"]
    # What has ended is as good here, such as a suite of the mirror that is no longer brought up to date.
    command += [f"--architectures={arch}"] if arch else []
    command += ['--aptopt=Acquire::Check-Valid-Until "false"', suite, str(root)]
    done = subprocess.run(
        [*command, *write_sources(sources, suite)], capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        pytest.skip(f"no Debian root: {done.stderr.strip()[-500:]}")
    for name in ("bin", "lib", "lib64", "sbin"):
        if (root / "usr" / name).is_dir() and not os.path.lexists(root / name):
            (root / name).symlink_to(f"usr/{name}")


class Machine:
    """A machine with this base below `folder`; as a context manager it is booted, and ends at the end."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.base, self.folder = base, folder
        self._log = folder.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0
        self._cgroup = _cgroups() / f"limpet-{os.getpid()}-{folder.name}"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self._cgroup.mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "BASE": str(self.base),
            "FOLDER": str(self.folder),
            "CGROUP": str(self._cgroup),
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                tied(["sh", "-ec", BOOT]), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        try:
            wait_for(self._is_up, 30, "systemd to be up")
        except AssertionError as error:
            self._end()
            pytest.skip(f"no systemd can be booted here: {error}: {self._log.read_text()}")
        return self

    def __exit__(self, *failure: object) -> None:
        if failure[0] is not None:
            print(self.run("journalctl", "--no-pager", "-n", "60", check=False).stdout)
        self._end()

    def run(
        self, *command: str | Path, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine as root. Raises AssertionError with what it said when it fails."""
        done = subprocess.run(
            self.inside(*command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def inside(self, *command: str | Path) -> list[str]:
        """Return the command, for this machine's kernel, that runs one in the machine as root."""
        return [
            *("nsenter", f"--target={self._init}", "--mount", "--pid", "--uts", "--ipc", "--cgroup"),
            *(f"--root=/proc/{self._init}/root", f"--wd=/proc/{self._init}/root/root"),
            *("env", "-i", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            *map(str, command),
        ]

    def shell(self, line: str) -> str:
        """Run a line as it would be typed; return what it prints."""
        return self.run("sh", "-ec", line).stdout

    def path(self, inside: str) -> Path:
        """Return where a path of the machine is, seen from here, while it runs."""
        return Path(f"/proc/{self._init}/root") / inside.lstrip("/")

    def property(self, unit: str, name: str) -> str:
        """Return a property of a unit, such as ActiveState."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError("it ended at once")
        if not self._init:
            # setpriv and sh become unshare, whose child is process 1 of the machine.
            children = (
                Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            )
            if not children or os.readlink(f"/proc/{children[0]}/exe").rsplit("/", 1)[-1] != "systemd":
                return False
            self._init = int(children[0])
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in (
            "running",
            "degraded",
        )

    def _end(self) -> None:
        assert self._process is not None
        if self._init:
            os.kill(self._init, signal.SIGKILL)  # and with it everything in its namespace
        else:
            self._process.kill()
        self._process.wait(30)
        self._process = None
        wait_for(self._is_gone, 10, "the machine's processes to be gone")

    def _is_gone(self) -> bool:
        try:
            for folder, _, _ in os.walk(self._cgroup, topdown=False):
                os.rmdir(folder)
        except OSError:
            return False
        return True


def _cgroups() -> Path:
    """Return where the cgroup2 hierarchy is; skips where there is none that can be written."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if match := re.match(r"\S+ \S+ \S+ \S+ (\S+) rw\S* .*- cgroup2 ", line):
            return Path(match[1])
    pytest.skip("there is no cgroup2 hierarchy to write to")
