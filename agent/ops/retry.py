"""Ask the agent of a data_dir to try now what waits and what is held, and see what comes of it.

The agent listens on nothing, so the command sends SIGHUP, as does `systemctl reload`: it reads its configuration again, and each
destination in trouble is tried at once. Promises:

1. Only an agent gets the signal. A lock file may name any process, so the process is held by a descriptor of the
   kernel's first, and asked for its command line then: a number that was given to another program meanwhile gets nothing.
2. No signal goes to an agent that would refuse it: where its configuration has errors, it would not try.
3. A user without the right to signal it learns which user has that right.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from agent import running
from agent.ops import processes, verdict
from agent.ops.seen import Seen
from buffer.errors import LimpetError
from buffer.fs import RealFs
from buffer.ledger import load_all

TROUBLED = ("waiting", "held")
"""The states of a destination that does not take samples."""
LOOK_EVERY = 0.2


class NotAsked(LimpetError):
    """The agent does not try: there is none, or no right to ask it, or it refuses its configuration."""

    exit_code = 1


class Tried(NamedTuple):
    """A destination, its state before and after the try, and what is still wrong with it."""

    name: str
    before: str
    state: str
    last_error: str | None

    @property
    def is_well(self) -> bool:
        """Whether it is in no trouble now."""
        return self.state not in TROUBLED


def troubled(seen: Seen) -> dict[str, str]:
    """Return the destinations in trouble, and the state of each."""
    here = seen.status.destinations if seen.status else []
    return {one.name: one.state for one in here if one.removed_timestamp_ms is None and one.state in TROUBLED}


def ask(seen: Seen) -> int:
    """Ask the agent to try now; return its pid. Raises NotAsked."""
    if seen.status is None or seen.status.writer_pid is None:
        found = verdict.agent(seen)
        raise _error(seen, found.said, found.do or "Start it.")
    if seen.file is not None and seen.file.problem is not None and not seen.file.is_denied:
        raise _error(seen, *_refused(seen.file.path, seen.file.problem))
    pid, whose = seen.status.writer_pid, seen.owner or "the user of the agent"
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        raise _error(
            seen, f"process {pid}, which holds the lock, is none of this system's", _ELSEWHERE
        ) from None
    try:
        if not processes.is_agent(pid):
            raise _error(seen, f"process {pid} cannot be seen to be an agent", f"{_as(whose)} {_ELSEWHERE}")
        signal.pidfd_send_signal(handle, signal.SIGHUP)
    except ProcessLookupError:
        raise _error(seen, f"process {pid} has just ended", "See why: limpet status") from None
    except PermissionError:
        raise _error(seen, f"process {pid} is another user's", _as(whose)) from None
    finally:
        os.close(handle)
    return pid


_ELSEWHERE = "If it runs in a container, run this in there."


def _as(whose: str) -> str:
    return "Run this as root." if whose == "root" else f"Run this as root, or as {whose}."


def _refused(path: str, problem: str) -> tuple[str, str]:
    do = f"Correct it, see all of it: limpet check-config {path}"
    return f"{path} has errors, so the agent would not try: {problem.removesuffix('.')}", do


def _error(seen: Seen, what: str, do: str) -> NotAsked:
    return NotAsked(seen.data_dir, what, do)


def follow(
    data_dir: str,
    before: Mapping[str, str],
    asked_ms: int,
    within: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Tried]:
    """Return what came of the try, as soon as all are well, or after `within` seconds.

    `before` is what `troubled` returned, `asked_ms` the UTC time of the signal. Raises NotAsked where the agent has refused its
    configuration since, and OSError where the buffer cannot be read.
    """
    end = clock() + within
    while True:
        note = running.read(data_dir)
        if note is not None and (note.refused_ms or 0) >= asked_ms:
            raise NotAsked(data_dir, *_refused(note.config, note.problem or "it is not known which"))
        ledgers = load_all(RealFs(data_dir), data_dir)
        found = [
            Tried(name, was, ledgers[name].state, ledgers[name].error)
            for name, was in before.items()
            if name in ledgers
        ]
        if all(one.is_well for one in found) or clock() >= end:
            return found
        sleep(LOOK_EVERY)
