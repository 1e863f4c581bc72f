"""Whether a stop by a signal means that the host's series end, or is the first half of a restart.

Under systemd its queue of jobs tells: for as long as `systemctl restart`, an upgrade, or the restart of a unit
that ours requires is stopping our service, there is a job of type `restart` for it.  Ours is the service in
whose cgroup we are, and systemd is asked only where it started us (INVOCATION_ID).  Everywhere else (a
terminal, a container, another init) nothing tells a restart from a stop, and a stop is taken for one.

Promise: an answer within `PATIENCE` seconds.  Where systemd gives none, nothing ends: a marker too many makes
every series of the host blink and every alert start anew, one too few costs a receiver's five minutes.

Sources: systemd.exec(5) on INVOCATION_ID, cgroups(7) on /proc/PID/cgroup, "List jobs" in systemctl(1), and of
systemd's source job_type_table in job.c, and cg_escape() in cgroup-util.c.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

CGROUP = "/proc/self/cgroup"
PATIENCE = 0.5
_UNITS = (".service", ".scope")


class Service(NamedTuple):
    """A unit that can be restarted: its name, and whether a user's manager runs it instead of the system's."""

    name: str
    of_user: bool


def series_end(environ: Mapping[str, str] = os.environ, cgroup: str = CGROUP) -> bool:
    """Whether series end with a stop that SIGTERM or SIGINT asked for."""
    service = service_in(_read(cgroup)) if environ.get("INVOCATION_ID") else None
    if service is None:
        return True
    jobs = _jobs(service)
    return jobs is not None and not is_restarted(service.name, jobs)


def service_in(cgroup: str) -> Service | None:
    """Return the service that a process with this /proc/PID/cgroup belongs to; None where it is of none.

    A scope within a service, as a terminal has, is somebody else's: nothing restarts what runs in it.
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
    """Whether `systemctl list-jobs` tells of a restart of this service."""
    rows = [line.split() for line in jobs.splitlines()]  # number, unit, type, state
    return any(row[1:2] == [service] and row[2:3] in (["restart"], ["try-restart"]) for row in rows)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _jobs(service: Service) -> str | None:
    """Return what `systemctl list-jobs` prints; None where it fails or takes too long."""
    import subprocess  # at a stop only: it costs memory

    command = ["systemctl", *(["--user"] if service.of_user else []), "list-jobs", "--no-legend", "--full"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
