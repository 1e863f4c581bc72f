"""The walk to a destination that is a folder: the medium, its room, and a write. The first that fails ends it.

The write is the agent's own probe: a file of some bytes is synced, and removed. No step takes longer than the timeout.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from agent import crew
from agent.config import File
from agent.destinations.base import Request
from agent.destinations.file import medium
from agent.destinations.file.wire import SPARE, FileWire
from agent.http.failures import Failure
from agent.ops.doctor.step import NOT_TRIED, Finding, Step, fine, step, unknown, warning, wrong
from agent.text import human

LOW = 64 << 20
"""Bytes free, below which the medium is soon full."""


def walk(to: File, timeout: float) -> Iterator[Step]:
    """Yield every step as it is done, the ones that were not tried as well. Nothing is raised."""
    going = True
    steps: tuple[tuple[str, Callable[[], Finding]], ...]
    steps = (
        ("medium", lambda: _medium(to)),
        ("room", lambda: _room(to)),
        ("write", lambda: _write(to, timeout)),
    )
    for title, take in steps:
        found = unknown(NOT_TRIED)
        if going:
            found = _found(to, take, timeout)
            going = found.ok is not False
        yield step(to.name, title, found, ())


def _found(to: File, take: Callable[[], Finding], timeout: float) -> Finding:
    try:
        return crew.call(take, timeout + 1)
    except medium.NotThereError as error:
        said, _, do = str(error).partition(": ")
        return wrong(said, f"{do[:1].upper()}{do[1:]}. Until then samples wait in the buffer.")
    except TimeoutError:
        do = "See what it hangs on: dmesg; findmnt. A network share needs its server."
        return wrong(f"the file system at {to.mounted} does not answer", do)
    except OSError as error:
        return wrong(f"{to.path}: {human.reason(error)}", "Look at the medium: dmesg; findmnt.")


def _medium(to: File) -> Finding:
    with medium.opened(to):
        is_here = medium.volume(to) == os.stat("/").st_dev
    if is_here:
        return warning(
            f"{to.path} is on the disk of this host",
            "Fine if something fetches the files; else mount a medium.",
        )
    return fine(f"something is mounted at {to.mounted}")


def _room(to: File) -> Finding:
    found = os.statvfs(to.mounted)
    free = found.f_bavail * found.f_frsize
    said = f"{human.size(free)} free of {human.size(found.f_blocks * found.f_frsize)}"
    if free < SPARE:
        return wrong(
            f"full: {said}",
            "Exchange the medium, or remove files that were played. Samples wait in the buffer.",
        )
    return (
        warning(said, "Exchange the medium soon, or remove files that were played.")
        if free < LOW
        else fine(said)
    )


def _write(to: File, timeout: float) -> Finding:
    wire = FileWire(to, "")
    answer = wire.exchange(Request(b"", 0, ""), within=timeout)
    wire.close()
    if isinstance(answer, Failure):
        return wrong(answer.text, "Correct that. Samples wait in the buffer.")
    return fine("a file was written, synced and removed")
