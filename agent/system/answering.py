"""Whether the folder of the data answers at all: on a dead mount every call waits in the kernel, and cannot be given up.

Commands look here before anything else of `data_dir`. What hangs is left to one thread that ends with the process, however
often it is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from agent.crew import Crew, Job
from buffer.errors import LimpetError

WITHIN = 5.0
"""Seconds. A disk that is slow has answered by then."""
SILENT = "it does not answer"
DO = "Look for a mount that hangs (findmnt), and for a disk that fails (dmesg)."
_CREW: Crew[None] = Crew(0, "answering")


class NoAnswer(LimpetError):
    """The folder does not answer."""

    exit_code = 1


def answers(data_dir: str, within: float = WITHIN, touch: Callable[[str], None] | None = None) -> bool:
    """Return whether a folder answers within so many seconds; an error is an answer."""
    ended = _CREW.run([Job(data_dir, partial(touch or _touch, data_dir))], within)
    _CREW.close()
    return any(done.key == data_dir for done in ended)


def require(data_dir: str) -> None:
    """Raise NoAnswer where a folder does not answer."""
    if not answers(data_dir):
        raise NoAnswer(data_dir, f"{SILENT} within {WITHIN:g} s", DO)


def _touch(data_dir: str) -> None:
    """Ask the file system for what no cache answers: its folders are opened and listed. A link in data_dir is not followed."""
    for folder, follow in ((data_dir, 0), (f"{data_dir}/segments", os.O_NOFOLLOW)):
        with suppress(OSError):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | follow)
            try:
                os.listdir(fd)
            finally:
                os.close(fd)
    with suppress(OSError):
        os.lstat(f"{data_dir}/lock")
