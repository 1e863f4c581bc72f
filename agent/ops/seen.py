"""What can be seen of an agent from outside: its lock, its note, its buffer, and its configuration. All the reading is here.

Read-only, and quick: no network, no lock, and of the log only its end. A folder that does not answer is left alone. It works with the agent running, stopped or dead,
and with a configuration that has errors; then `data_dir` is what that file says all the same, or the default.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import NamedTuple

from agent import running
from agent.config import LARGEST, Config, ConfigErrors, at_once, data_dir_of, digest, load_file
from agent.ops import processes, service, tail
from agent.ops.doctor import folder
from agent.running import Note
from agent.system import answering
from buffer.errors import LimpetError
from buffer.fs import RealFs
from buffer.inspect.status import Status, status
from buffer.model import Tick
from buffer.owner import User, acting_as
from buffer.versions import refuse_newer

DEFAULT_CONFIG = service.CONFIG
"""The configuration of an agent that names none."""
MISSING = "missing"
"""The reason where there is no such folder."""
HEALTH = "limpet"
"""The collector of the agent's own series."""
LOOK_BACK = 64
"""Ticks from the end of the log in which the agent's own series are looked for."""


class File(NamedTuple):
    """A configuration file as it is now. `digest` is None where it cannot be read, which `problem` explains."""

    path: str
    digest: str | None
    problem: str | None = None
    """What is wrong with it, first of all."""
    is_denied: bool = False
    """This user may not read it, so nobody knows whether anything is wrong."""
    config: Config | None = None


class Seen(NamedTuple):
    """Everything at one time, `now` in UTC seconds."""

    now: float
    data_dir: str
    file: File | None
    """None: no configuration is named, and the agent's is not known."""
    status: Status | None
    """None: `data_dir` cannot be read, for `reason`."""
    reason: str | None
    owner: str | None
    note: Note | None
    boot_id: str
    failing: tuple[str, ...] = ()
    """Collectors that failed lately, each with what is known of it."""
    homeless: int | None = None
    """The process of an agent with this configuration that holds no lock in `data_dir`."""
    reachable: int | None = None
    """The process that holds the lock, if that is an agent by this number here: a lock file may name any."""
    foreign: str | None = None
    """A file or folder below data_dir that does not belong to the owner of data_dir."""
    service: str | None = None
    """`there` where systemd has a unit for the agent, `masked` where that is masked."""

    @property
    def is_running(self) -> bool:
        """Whether an agent holds the lock."""
        return self.status is not None and self.status.writer_pid is not None


def look(data_dir: str | None, path: str | None, default: str, now: float, boot_id: str) -> Seen:
    """Look at the agent of a data_dir or of a configuration; `default` is the path of one that nobody named.

    Raises LimpetError where the buffer is of a later version of Limpet.
    """
    place = data_dir or data_dir_of(path)
    if not answering.answers(place):  # nor would the check of its path in the configuration
        return Seen(now, place, None, None, answering.SILENT, None, None, boot_id)
    file = read_file(path) if path is not None else None
    if data_dir is None:
        data_dir = file.config.data_dir if file and file.config else place
    note, found, reason = running.read(data_dir), None, None
    if file is None and note is not None and _is_followed(note.config, default):
        file = read_file(note.config)
    unit = service.unit()
    if file is not None and (user := service.user(data_dir, file.path, unit)) is not None:
        file = read_file(file.path, user)
    config = file.config if file else None
    try:
        os.listdir(data_dir)
        _see_lock(data_dir)
        refuse_newer(RealFs(data_dir), data_dir)
        buffer = config.buffer if config else None
        limits = (buffer.max_size, now, buffer.min_free_space.on) if buffer else (None, now)
        found = status(data_dir, *limits)
    except OSError as error:
        reason = (
            MISSING
            if error.errno in (errno.ENOENT, errno.ENOTDIR)
            else (error.strerror or str(error)).lower()
        )
    state = unit and ("masked" if unit.is_masked else "there")
    whose = service.owner(data_dir)
    foreign = _foreign(data_dir) if found is not None else None
    seen = Seen(now, data_dir, file, found, reason, whose, note, boot_id, service=state, foreign=foreign)
    if found is not None and found.writer_pid is not None:
        pid = found.writer_pid if processes.is_agent(found.writer_pid) else None
        return seen._replace(failing=tuple(failing(data_dir)), reachable=pid)
    # By name: the paths of a note and of a stranger's process may lead to where root has to wait.
    wanted = {os.path.realpath(path), os.path.abspath(path)} if path else {note.config if note else None}
    same = (
        one.pid
        for one in processes.agents(default)
        if os.path.normpath(one.config) in wanted and processes.has_begun(one.pid)
    )
    return seen._replace(homeless=next(same, None))


def _is_followed(path: str, default: str) -> bool:
    """Return whether the configuration that a note names is read, though nobody else has named it.

    A user who may write to data_dir can write the note. Root can read what that user cannot, and the errors of a configuration
    show what is in it. So root follows a note to the default path alone.
    """
    return path == default or os.geteuid() != 0


def _foreign(data_dir: str) -> str | None:
    with suppress(OSError):
        return next(iter(folder.foreign(data_dir)), None)
    return None


def _see_lock(data_dir: str) -> None:
    """Raise PermissionError where this user may not see who holds the lock: then nobody knows whether an agent runs."""
    path = f"{data_dir}/lock"
    if os.path.lexists(path) and not os.access(path, os.R_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def read_file(path: str, user: User | None = None) -> File:
    """Read a configuration file, and find what is wrong with it: with the rights of a user, where one is given."""
    path = os.path.abspath(path)
    if user is not None:
        with acting_as(user):
            return read_file(path)._replace(is_denied=False)
    try:
        loaded = load_file(path, again=True)
    except ConfigErrors as error:
        problem = error.problems[0].text(error.where)
        try:
            with open(path, "rb", opener=at_once) as file:
                return File(path, digest(file.read(LARGEST)), problem)
        except PermissionError:
            return File(path, None, problem, is_denied=True)
        except OSError:
            return File(path, None, problem)
    return File(path, loaded.digest, config=loaded.config)


def failing(data_dir: str) -> Iterator[str]:
    """Yield the collectors that failed, or did not end in time, between the last two reports of the agent itself.

    And those with a mount point that does not answer, and scrape targets that are down. Nothing where the log cannot be
    read.
    """
    with suppress(OSError, LimpetError):
        reader, ticks = tail.last(f"{data_dir}/segments", LOOK_BACK)
        with closing(reader):
            ticks = list(ticks)
        yield from _failing([tick for tick in ticks if tick.group == HEALTH][-2:])
        yield from _down(ticks)


def _down(ticks: list[Tick]) -> Iterator[str]:
    """Yield the scrape targets that were down in their last tick."""
    last = {tick.group: tick for tick in ticks if tick.group.startswith("scrape")}
    for tick in last.values():
        for series, value in zip(tick.series, tick.values, strict=True):
            if series.name == "up" and value == 0:
                labels = dict(series.labels)
                yield f"scrape target {labels.get('job', '')} ({labels.get('instance', tick.group)} is down)"


def _failing(reports: list[Tick]) -> Iterator[str]:
    """The same of reports, the oldest first."""
    before: dict[tuple[str, str], float] = {}
    found: dict[str, str] = {}
    for report in reports:
        found = {}
        for series, value in zip(report.series, report.values, strict=True):
            labels = dict(series.labels)
            name = labels.get("collector", "")
            if series.name == "limpet_collector_stuck_seconds":
                at = next(
                    (text for key, text in labels.items() if key in ("mountpoint", "device", "sensor")),
                    "a mount point",
                )
                found[name] = f"{name} ({at} does not answer)"
            elif series.name in ("limpet_collector_failures_total", "limpet_collector_timeouts_total"):
                if value > before.get((series.name, name), value if len(reports) > 1 else 0.0):
                    found.setdefault(name, name)
                before[series.name, name] = value
    yield from found.values()
