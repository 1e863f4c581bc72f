"""This host's side: the folder, the space, the lock, the backlog, the clock, and every collector, run once.

Read-only: nothing is created or changed, and it works while the agent runs. Each check is bounded, so
that a dead mount costs its own line only.
"""

from __future__ import annotations

import os
import pwd
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from agent import crew, running
from agent.collect import mask
from agent.collect.plan import Plan
from agent.collect.plans import plans
from agent.collect.series import host_labels
from agent.collectors import HostPaths
from agent.config import Config
from agent.ops import seen, verdict
from agent.ops.doctor.step import Finding, Step, fine, step, unknown, warning, wrong
from agent.ops.seen import DEFAULT_CONFIG, Seen
from agent.system.log import Silent
from agent.text import human
from buffer import lock
from buffer.errors import LimpetError, NewerFormat
from buffer.fs import RealFs
from buffer.inspect.status import Status, status
from buffer.quarantine import Quarantine
from buffer.versions import refuse_newer

HERE = "this host"
FULL_SOON = 86400.0
"""A buffer that is full in fewer seconds is a warning."""
DEEPEST = 8
"""Folders below each other in data_dir that are looked at; the agent makes two."""


class System(NamedTuple):
    """Where this host's files are, and its clocks; a test hands in its own."""

    run: str = "/run"
    paths: HostPaths | None = None
    free: Callable[[str], tuple[int, int]] = RealFs().free
    wall: Callable[[], float] = time.time


def look(
    config: Config,
    warnings: tuple[str, ...],
    known: set[str],
    timeout: float,
    system: System | None = None,
    path: str | None = None,
) -> Iterator[Step]:
    """Yield every step as it is done. `warnings` are the configuration's, `path` its file, `known` its secrets."""
    view = _View(config, system or System(), path)
    steps: list[tuple[str, float, Callable[[], Finding]]] = [
        ("configuration", timeout, lambda: view.configuration(warnings)),
        ("agent", timeout, view.agent),
        ("data_dir", timeout, view.folder),
        ("permissions", timeout, view.permissions),
        ("space", timeout, view.space),
        ("lock", timeout, view.lock),
        ("buffer", timeout, view.buffer),
        *((f"backlog of {to.name}", timeout, partial(view.backlog, to.name)) for to in config.destinations),
        ("quarantine", timeout, view.quarantine),
        ("clock", timeout, view.synchronized),
        *((("mask", timeout, view.masked),) if config.mask else ()),
    ]
    steps += [
        (f"collector {plan.name}", min(timeout, plan.timeout), partial(_collector, plan))
        for plan in plans(config, host_labels(config), Silent(), view.hiding(), view.system.paths)
    ]
    for title, patience, take in steps:
        yield step(HERE, title, _found(take, patience), known)


def _found(take: Callable[[], Finding], patience: float) -> Finding:
    try:
        return crew.call(take, patience)
    except TimeoutError as error:
        return wrong(str(error), "Look for a mount that hangs, and for a disk that fails.")
    except OSError as error:
        at = f"{error.filename}: " if isinstance(error.filename, str) else ""
        said = f"{at}{human.reason(error)}"
        return wrong(said, "Run it as the agent's user or as root; then fix the permissions.")
    except NewerFormat as error:
        return wrong(f"{error.where}: {error.what}", error.do)


class _View:
    def __init__(self, config: Config, system: System, path: str | None) -> None:
        self.config, self.system, self._dir, self._path = config, system, config.data_dir, path
        self._read: Status | None = None

    def configuration(self, warnings: tuple[str, ...]) -> Finding:
        """Check that an agent which runs does so with this file as it is now."""
        found = self._seen()
        if found.file is not None and (found.is_running or found.homeless is not None):
            loaded = verdict.configuration(found)
            if loaded.ok is not None and loaded.do is not None:
                return loaded
        return fine("; ".join(("fine", *warnings)))

    def agent(self) -> Finding:
        """Check that an agent runs, if samples wait for one, and that its folder was not removed under it."""
        found = self._seen()
        waiting = sum(one.pending_samples for one in found.status.destinations) if found.status else 0
        if found.is_running or found.homeless is not None:
            return verdict.agent(found)
        if not waiting:
            return fine("none runs, and nothing waits to be sent")
        stopped = verdict.agent(found)
        return stopped._replace(said=f"{stopped.said}; {human.count(waiting)} samples wait to be sent")

    def _seen(self) -> Seen:
        return seen.look(self._dir, self._path, DEFAULT_CONFIG, self.system.wall(), running.boot_id())

    def folder(self) -> Finding:
        me = _user(os.geteuid())
        if os.path.isdir(self._dir):
            if os.access(self._dir, os.W_OK | os.X_OK, effective_ids=True):
                return fine(f"{self._dir}, {me} may write there")
            do = f"Mount it for writing, run as the agent's user, or give it to {me}: chown {me} {self._dir}"
            return wrong(f"{self._dir}: {me} may not write there", do)
        above = _existing(self._dir)
        if os.access(above, os.W_OK | os.X_OK, effective_ids=True):
            return fine(f"{self._dir} is not there yet; the agent makes it when it starts")
        do = f"Make it for the agent's user: install -d -m 0700 -o {me} {self._dir}"
        return wrong(f"{self._dir} is not there, and {me} may not make it in {above}", do)

    def permissions(self) -> Finding:
        """Check that the folder is for its owner only, and that everything in it is the owner's."""
        if not os.path.isdir(self._dir):
            return unknown("nothing is there yet")
        top = os.stat(self._dir)
        owner = _user(top.st_uid)
        foreign = [path for path, found in _below(self._dir) if found.st_uid != top.st_uid]
        if foreign:
            said = f"{foreign[0]} does not belong to {owner}, as the folder does ({len(foreign)} in all)"
            return wrong(said, f"Give it back: chown -R {owner} {self._dir}")
        mode = stat.S_IMODE(top.st_mode)
        said = f"{mode:04o}, all of it belongs to {owner}"
        if mode & 0o077:
            return warning(f"{said}: others may look into it", f"Close it: chmod 0700 {self._dir}")
        return fine(said)

    def space(self) -> Finding:
        limits = self.config.buffer
        free, volume = self.system.free(_existing(self._dir))
        floor = limits.min_free_space.on(volume)
        said = f"{human.size(free)} of {human.size(volume)} are free"
        if free + self._size("history") < floor:  # that goes first
            said += f", less than buffer.min_free_space ({human.size(floor)}): nothing is kept"
            return wrong(said, "Free space on this volume, or move data_dir.")
        growth = max(0, limits.max_size - self._size("segments") - self._size("history"))
        if free - floor < growth:
            said += f", but the buffer may have to grow by {human.size(growth)} above a floor of {human.size(floor)}"
            return warning(said, "Free space on this volume, or lower buffer.max_size.")
        return fine(f"{said}, the buffer may grow by {human.size(growth)}")

    def _size(self, folder: str) -> int:
        return sum(found.st_size for _, found in _below(self._dir, folder))

    def lock(self) -> Finding:
        path = f"{self._dir}/lock"
        if not os.path.lexists(path):
            return fine("free: no agent has been here yet")
        RealFs(self._dir).close(RealFs(self._dir).open(path))  # raises where this user may not read it
        pid = lock.holder(path)
        return fine("free: no agent runs here" if pid is None else f"held by process {pid}: the agent runs")

    def buffer(self) -> Finding:
        if (found := self._status()) is None:
            return fine("empty: nothing is there yet")
        cap, full = self.config.buffer.max_size, found.time_until_full_seconds
        said = f"{human.size(found.bytes)} of {human.size(cap)}, {human.count(found.samples)} samples"
        if full is not None:
            said += f", full in {human.duration(full)} at the present pace"
        if found.damaged_records:
            said += f", damage met at {human.plural(found.damaged_records, 'place')}"
            return warning(said, "See what it cost: limpet buffer verify. The agent continues by itself.")
        if full is not None and full < FULL_SOON:
            return warning(said, "Fix the destinations that take nothing, or raise buffer.max_size.")
        return fine(said)

    def backlog(self, name: str) -> Finding:
        found = self._status()
        one = next((one for one in found.destinations if one.name == name), None) if found else None
        if one is None:
            return fine("nothing has been kept for it yet")
        said = f"{one.state}, {human.count(one.pending_samples)} samples pending"
        if one.pending_samples:
            said += f", the oldest {human.duration(one.lag_seconds)} old"
        if one.last_error:
            said += f"; {one.last_error}"
        if one.state == "held":
            return wrong(said, "Fix what the steps to it show; it continues by itself.")
        if one.state == "waiting":
            return warning(said, "See the steps to it; it continues by itself.")
        return fine(said)

    def quarantine(self) -> Finding:
        items = Quarantine(self._dir).items()
        if not items:
            return fine("empty")
        samples = human.count(sum(item.samples for item in items))
        return warning(
            f"{human.plural(len(items), 'refused batch', 'refused batches')}, {samples} samples",
            "See the receivers' messages: limpet buffer quarantine list. Fix the cause, then replay or drop them.",
        )

    def masked(self) -> Finding:
        """Check the key with which names are masked."""
        try:
            _, note = mask.look(self._dir, self.config.mask)
        except LimpetError as error:
            return wrong(error.what, error.do)
        said = ", ".join(self.config.mask)
        if note is None:
            return fine(f"{said}, by the key in {self._dir}")
        return unknown(
            f"{said}: {note}", "The agent makes its key when it starts; run this as its user or as root."
        )

    def hiding(self) -> mask.Mask:
        """Return what hides names in this report; a key that cannot be used has a step of its own."""
        try:
            return mask.look(self._dir, self.config.mask)[0]
        except LimpetError:
            return mask.Mask(self.config.mask, os.urandom(mask.KEY_BYTES))

    def synchronized(self) -> Finding:
        """Look for the traces of a time service; there is no portable way to ask the kernel."""
        run = self.system.run
        if os.path.exists(f"{run}/systemd/timesync/synchronized"):
            return fine("synchronized by systemd-timesyncd")
        if os.path.isdir(f"{run}/systemd/timesync"):
            said = "systemd-timesyncd has not synchronized since the boot"
            return warning(said, "Let it reach its servers (UDP 123): timedatectl timesync-status")
        if os.path.isdir(f"{run}/chrony"):
            return unknown("unknown: chronyd does not show it", "Ask it: chronyc tracking")
        return unknown("unknown: no time service was recognized", "See that one runs.")

    def _status(self) -> Status | None:
        if self._read is None and os.path.isdir(self._dir):
            os.listdir(self._dir)  # what may not be read must not pass for an empty one
            refuse_newer(RealFs(self._dir), self._dir)
            self._read = status(self._dir, self.config.buffer.max_size, self.system.wall())
        return self._read


def _collector(plan: Plan) -> Finding:
    begun = time.monotonic()
    off = f"Fix it, or switch it off: collect.collectors.{plan.name.partition('/')[0]}.enabled: false"
    if plan.crew == "remote":
        off = "See that the program runs and exposes metrics there, or correct or remove the target."
    try:
        _, values = plan.run(begun)
    except Exception as error:
        return wrong(f"it cannot be read: {error}", off)
    took = time.monotonic() - begun
    if (problem := plan.collect.error) is not None:
        return wrong(problem, off)
    said = f"{len(values)} samples in {took * 1000:.1f} ms"
    unread = "; ".join(plan.unread())
    if any(not one.denied for one in plan.collect.troubles.values()):
        return warning(f"{said}, but not all: {unread}", "Fix it, or leave it out (exclude_*).")
    return fine(f"{said}, without what its user may not read: {unread}" if unread else said)


def _existing(path: str) -> str:
    """Return the path, or the nearest existing folder above it."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _below(data_dir: str, folder: str = "") -> list[tuple[str, os.stat_result]]:
    """Return everything in a folder of data_dir, at any depth. Raises OSError where it cannot be listed.

    No link below data_dir is followed, even if folders are exchanged for links meanwhile. A missing folder is empty, and what
    is removed meanwhile is left out. What is deeper than DEEPEST is none of ours.
    """

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    top = os.path.join(os.path.realpath(data_dir), folder)
    if not os.path.lexists(top):
        return []
    found = []
    for at, folders, files, fd in os.fwalk(top, onerror=fail, follow_symlinks=False):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                found.append((os.path.join(at, name), os.stat(name, dir_fd=fd, follow_symlinks=False)))
        if at.count("/") - top.count("/") >= DEEPEST:
            folders.clear()
    return found


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
