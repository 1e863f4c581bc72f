"""What the agent reports to systemd, and whether a stop is the end or the first half of a restart.

Promises:
- `Notify` (sd_notify(3)) says ready, reloading, stopping, alive, and one line of status. If nobody listens (no
  NOTIFY_SOCKET), or the listener is gone or slow, nothing is said and nothing waits. A `READY=1` that was not taken is
  said again with the next sign of life. A status is one line, whatever it repeats, and short enough for a datagram.
- `stop` answers within JOBS_WITHIN seconds. If systemd gives no answer, nothing ends: a marker too many makes
  every series of the host blink and every alert start again, one too few costs a receiver's five minutes.

Under systemd its queue of jobs shows a restart: for as long as `systemctl restart`, an upgrade, or the restart of a unit
that ours requires is stopping our service, there is a job of type `restart` for it.  Ours is the service in
whose cgroup we are, and the agent asks systemd only if it started us (INVOCATION_ID).  Everywhere else (a
terminal, a container, another init) nothing distinguishes a restart from a stop, and a stop is taken for one.

Sources: sd_notify(3), sd_watchdog_enabled(3); "Type=" and "WatchdogSec=" in systemd.service(5): a datagram of
`NAME=value` lines goes to an AF_UNIX socket; one whose name begins with @ is of the abstract name space.
systemd.exec(5) on INVOCATION_ID, cgroups(7) on /proc/PID/cgroup, "List jobs" in systemctl(1), and of
systemd's source job_type_table in job.c, and cg_escape() in cgroup-util.c.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

CGROUP = "/proc/self/cgroup"
NOLOGIN = "/run/nologin"
"""The file by which systemd lets nobody log in: while it boots, and from the begin of a shutdown on."""
JOBS_WITHIN = 0.5
"""Seconds that systemd has for its list of jobs."""
LONGEST_STATUS = 1000
"""Characters of a status."""
STATUS_EVERY = 30.0
"""Seconds between two lines of status where no watchdog asks for more."""
_UNITS = (".service", ".scope")


class Notify:
    """The way to the process that started the agent."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self._socket: socket.socket | None = None
        if self._address.startswith(("/", "\0")):
            with suppress(OSError):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
        self._is_ready = True
        """False: the last `ready` was not taken."""
        self.watchdog = _watchdog(environ) if self._socket is not None else None
        """Seconds after which the agent is restarted if it does not call `alive`; None: nobody watches."""

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens."""
        return self._socket is not None

    @property
    def every(self) -> float:
        """Seconds between two calls of `alive`: two of them for each time that the watchdog would wait."""
        if self._socket is None:
            return float("inf")
        return min(STATUS_EVERY, self.watchdog / 2) if self.watchdog else STATUS_EVERY

    def ready(self, status: str) -> None:
        """Say that the agent has begun, or that the reload is over."""
        self._is_ready = self._say("READY=1", _status(status))

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Say that the agent has begun to stop."""
        self._say("STOPPING=1", _status("stopping"))

    def alive(self, status: str) -> None:
        """Say that the agent works as it should."""
        if not self._is_ready:
            self.ready(status)
        self._say("WATCHDOG=1", _status(status))

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, *lines: str) -> bool:
        """Return False where it was not taken."""
        if self._socket is not None:
            try:
                self._socket.sendto("\n".join(lines).encode(errors="backslashreplace"), self._address)
            except OSError:
                return False
        return True


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.splitlines())[:LONGEST_STATUS]}"


def _watchdog(environ: Mapping[str, str]) -> float | None:
    asked, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID")
    if not (asked.isascii() and asked.isdigit() and int(asked)) or pid not in (None, "", str(os.getpid())):
        return None
    return int(asked) / 1_000_000


class Service(NamedTuple):
    """A unit that can be restarted: its name, and whether a user's manager runs it instead of the system's."""

    name: str
    of_user: bool


class Stop(NamedTuple):
    """What is known of a stop that SIGTERM or SIGINT asked for."""

    series_end: bool
    """Whether series end with it."""
    shuts_down: bool
    """Whether the system is shutting down."""


def stop(environ: Mapping[str, str] = os.environ, cgroup: str = CGROUP, nologin: str = NOLOGIN) -> Stop:
    """Return what systemd says about a stop."""
    service = service_in(_read(cgroup)) if environ.get("INVOCATION_ID") else None
    if service is None:
        return Stop(series_end=True, shuts_down=False)
    jobs = _jobs(service)
    if jobs is None:  # the bus may have been stopped before
        return Stop(series_end=False, shuts_down=os.path.lexists(nologin))
    return Stop(not is_restarted(service.name, jobs), not service.of_user and is_shut_down(jobs))


def service_in(cgroup: str) -> Service | None:
    """Return the service that a process with this /proc/PID/cgroup belongs to; None if it belongs to none.

    A scope within a service, such as a terminal's, does not count: nothing restarts what runs in it.
    """
    for line in cgroup.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers in ("", "name=systemd"):  # version 2, or systemd's own hierarchy of version 1
            units = [part.removeprefix("_") for part in path.split("/") if part.endswith(_UNITS)]
            if units and units[-1].endswith(".service"):
                return Service(units[-1], any(unit.startswith("user@") for unit in units[:-1]))
    return None


def is_restarted(service: str, jobs: str) -> bool:
    """Return whether `systemctl list-jobs` lists a restart of this service."""
    rows = [line.split() for line in jobs.splitlines()]  # number, unit, type, state
    return any(row[1:2] == [service] and row[2:3] in (["restart"], ["try-restart"]) for row in rows)


def is_shut_down(jobs: str) -> bool:
    """Return whether `systemctl list-jobs` lists the end of the system."""
    rows = [line.split() for line in jobs.splitlines()]
    return any(row[1:2] == ["shutdown.target"] and row[2:3] == ["start"] for row in rows)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _jobs(service: Service) -> str | None:
    """Return what `systemctl list-jobs` prints; None if it fails or takes too long."""
    import subprocess  # at a stop only: it costs memory

    command = ["systemctl", *(["--user"] if service.of_user else []), "list-jobs", "--no-legend", "--full"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=JOBS_WITHIN,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
