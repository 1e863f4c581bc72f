"""This host's side: the folder, the space, the lock, the backlog, the clock, and every collector, run once.

Read-only: nothing is created or changed, and it works while the agent runs. Each check is bounded, so
that a dead mount costs its own line only.
"""

from __future__ import annotations

import os
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
from agent.ops.doctor import folder
from agent.ops.doctor.step import HERE, Finding, Step, fine, step, unknown, warning, wrong
from agent.ops.seen import DEFAULT_CONFIG, Seen
from agent.system.log import Silent
from agent.system.timesync import HostClock
from agent.text import human
from buffer import lock
from buffer.errors import LimpetError, NewerFormat
from buffer.fs import RealFs
from buffer.inspect.status import Status, status
from buffer.versions import refuse_newer

OWNERS = ("data_dir", "permissions", "lock", "buffer", "backlog", "quarantine", "mask")
"""Steps that only the owner of data_dir, and root, can judge."""
FULL_SOON = 86400.0
"""A buffer that is full in fewer seconds is a warning."""


class System(NamedTuple):
    """Where this host's files are, and its clocks; a test hands in its own."""

    clock: Callable[[], HostClock] = HostClock
    paths: HostPaths | None = None
    free: Callable[[str], tuple[int, int]] = RealFs().free
    wall: Callable[[], float] = time.time


class Early(NamedTuple):
    """What root finds before it takes the rights of the agent's user, which see less of processes and of foreign files."""

    seen: Seen | None = None
    permissions: Finding | None = None


def early(config: Config, path: str) -> Early:
    """Look with the rights that this process has."""
    found, permissions = None, None
    with suppress(LimpetError):  # which the steps report
        found = seen.look(config.data_dir, path, DEFAULT_CONFIG, time.time(), running.boot_id())
    with suppress(OSError):
        permissions = folder.permissions(config.data_dir)
    return Early(found, permissions)


def look(
    config: Config,
    warnings: tuple[str, ...],
    known: set[str],
    timeout: float,
    system: System | None = None,
    path: str | None = None,
    first: Early | None = None,
    *,
    hide: bool = True,
) -> Iterator[Step]:
    """Yield every step as it is done. `warnings` are the configuration's, `path` its file, `known` its secrets.

    `first` is what was found before, with other rights. With `hide`, names are masked as in what is sent.
    """
    view = _View(config, system or System(), path, first or Early())
    hiding = view.hiding() if hide else mask.Mask((), b"")
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
        for plan in plans(config, host_labels(config), Silent(), hiding, view.system.paths)
    ]
    foreign = folder.stranger(config.data_dir)
    for title, patience, take in steps:
        is_owners = foreign is not None and title.split(" ")[0] in OWNERS
        found = foreign if is_owners and foreign else _found(take, patience)
        yield step(HERE, title, found, known)


def _found(take: Callable[[], Finding], patience: float) -> Finding:
    try:
        return crew.call(take, patience)
    except TimeoutError as error:
        return wrong(str(error), "Look for a mount that hangs, and for a disk that fails.")
    except OSError as error:
        at = f"{error.filename}: " if isinstance(error.filename, str) else ""
        said = f"{at}{human.reason(error)}"
        return wrong(
            said, "Give everything in data_dir to the user of the agent: chown -R; see the step permissions."
        )
    except NewerFormat as error:
        return wrong(f"{error.where}: {error.what}", error.do)


class _View:
    def __init__(self, config: Config, system: System, path: str | None, first: Early) -> None:
        self.config, self.system, self._dir, self._path = config, system, config.data_dir, path
        self._early = first
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
        judged = verdict.agent(found)
        if not verdict.has_run(found) and found.service is None:
            return unknown(judged.said, judged.do)
        return (
            judged._replace(said=f"{judged.said}; {human.count(waiting)} samples wait")
            if waiting and judged.do
            else judged
        )

    def _seen(self) -> Seen:
        return self._early.seen or seen.look(
            self._dir, self._path, DEFAULT_CONFIG, self.system.wall(), running.boot_id()
        )

    def folder(self) -> Finding:
        return folder.folder(self._dir)

    def permissions(self) -> Finding:
        return self._early.permissions or folder.permissions(self._dir)

    def space(self) -> Finding:
        limits = self.config.buffer
        free, volume = self.system.free(folder.existing(self._dir))
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

    def _size(self, below: str) -> int:
        return sum(found.st_size for _, found in folder.below(self._dir, below))

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
        cap, full = self.config.buffer.max_size, verdict.until_full(found)
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
        found = self._status()
        return fine("empty") if found is None else verdict.refused(found)

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
        """Ask the kernel whether something keeps the clock right, and look for what could."""
        clock = self.system.clock()
        if clock.is_synced():
            return fine("synchronized, says the system")
        if clock.has_service():
            do = "Let the time service reach its servers (UDP 123): timedatectl timesync-status; chronyc tracking"
            return warning("not synchronized: a time service is there, but has not set it", do)
        return unknown("not synchronized, and no time service was recognized", "See that one runs.")

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
