"""A Debian that has booted with its own systemd, in namespaces: units run there as they run on a host.

Sandboxes, users, notifications, the watchdog, the journal and the cgroups are systemd's and the kernel's own. The
network is this machine's, so that what runs inside reaches servers on loopback. It needs root and a cgroup of version 2.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.support.debian_root import debian_root, lower
from tests.support.namespaces import inside
from tests.support.net import wait_for

BOOT = """
cd "$OVER/root"
rm -f etc/machine-id usr/sbin/policy-rc.d
echo 00000000000000000000000000000001 > etc/machine-id
echo "127.0.0.1 localhost" > etc/hosts
for unit in getty.target systemd-logind.service systemd-update-utmp.service systemd-udevd.service tmp.mount \
    systemd-journal-flush.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
    sys-kernel-tracing.mount sys-fs-fuse-connections.mount systemd-modules-load.service e2scrub_reap.service; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
rm -f etc/systemd/system/timers.target.wants/*
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for device in null zero full random urandom tty; do : > "dev/$device"; mount --bind "/dev/$device" "dev/$device"; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
"""


@cache
def _cgroups() -> Path | None:
    """Our own folder in the cgroups of version 2; None where there are none that we may divide."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            own = next(
                (row for row in Path("/proc/self/cgroup").read_text().splitlines() if row.startswith("0::")),
                "",
            )
            folder = Path(before.split()[4] + own.removeprefix("0::"))
            return folder if os.access(folder, os.W_OK) else None
    return None


class Booted:
    """A Debian with systemd as its first process, above the root that all tests share. Skips the test without one.

    `prepare` are lines of sh that are run before it boots; their folder is its root.
    """

    def __init__(self, prepare: str = "") -> None:
        base, groups = debian_root(), _cgroups()
        if groups is None:
            pytest.skip("there is no cgroup of version 2 for a systemd of its own")
        self._over = Path(tempfile.mkdtemp(prefix="limpet-systemd-"))
        self._group = groups / self._over.name
        root = shlex.quote(str(self._over / "root"))
        script = f"OVER={shlex.quote(str(self._over))}\n{lower(base, self._over)}{BOOT}{prepare}\n"
        # A new root by pivot_root: who is in another one by chroot may not make user namespaces (PrivateUsers=).
        script += f"cd {root}\nmkdir .old\npivot_root . .old\numount -l /.old\nrmdir /.old\nmount --make-rshared /\n"
        init = ["/usr/bin/env", "-i", "container=test", "PATH=/usr/sbin:/usr/bin"]
        self._command, self._environment = inside(
            script,
            more=["--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup"],
            command=[*init, "/lib/systemd/systemd", "--show-status=0", "--log-target=console"],
        )
        self._log = self._over.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        self._group.mkdir()
        join = 'echo 0 > "$GROUP/cgroup.procs"; exec "$@"'
        command = ["setpriv", "--pdeathsig", "KILL", "sh", "-ec", join, "sh", *self._command]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self._environment, "GROUP": str(self._group)},
            )
        try:
            self._pid = wait_for(self._first, 20, "systemd to start")
            wait_for(self._is_up, 60, "systemd to have booted")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            said = self.run("journalctl", "--no-pager", "--lines=60", check=False).stdout
            print(f"The end of its journal:\n{said}", file=sys.stderr)
        self._end()

    def path(self, path: str) -> Path:
        """What is at an absolute path inside, for reading and writing from outside."""
        return Path(f"/proc/{self._pid}/root{path}")

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root, to its end. Raises AssertionError where it fails, unless `check` is False."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--uts", "--ipc", "--root", "--wd=/"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [*enter, *words], capture_output=True, text=True, env=environment, timeout=60, check=False
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self, unit: str) -> str:
        """What a unit has said."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    def _first(self) -> int | None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"systemd did not start:\n{self._log.read_text(errors='replace')}")
        pid = self._process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        return None

    def _is_up(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()  # and with it the first process, and with that everything inside
            self._process.wait()
        wait_for(self._is_gone, 20, "the end of everything inside")
        shutil.rmtree(self._over, ignore_errors=True)
        self._log.unlink(missing_ok=True)

    def _is_gone(self) -> bool:
        try:
            for folder, _, _ in os.walk(self._group, topdown=False):
                os.rmdir(folder)
        except OSError:
            return False
        return True
