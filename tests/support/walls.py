"""A real limit on a process's memory: a control group of its own where root may make one, else RLIMIT_DATA."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_GROUPS = Path("/sys/fs/cgroup")
_FILES = (
    (_GROUPS, "memory.max", "memory.swap.max", "memory.peak"),
    (_GROUPS / "memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max_usage_in_bytes"),
)
"""Version 2 and version 1 of control groups."""
_STACK = 1 << 20
"""Bytes of a thread's stack below RLIMIT_DATA, which counts all that could be used."""


class Wall(NamedTuple):
    """A limit. A command that begins with `inside` cannot have more memory: the kernel kills it, or refuses more."""

    inside: list[str]
    kind: str
    used: Path | None = None

    def most(self) -> int | None:
        """Return the bytes that were used at most, page cache included; None where that is not counted."""
        return int(self.used.read_text()) if self.used is not None else None


@contextmanager
def memory(limit: int) -> Iterator[Wall]:
    """Yield a limit of so many bytes, without swap. It ends when nothing runs below it any more."""
    name = f"limpet-{secrets.token_hex(4)}"
    for above, *files in _FILES:
        if not (above / "cgroup.procs").exists() or not os.access(above, os.W_OK):
            continue
        most, swap, used = (above / name / file for file in files)
        (above / name).mkdir()
        try:
            if most.exists():  # else the group above has not the controller
                most.write_text(str(limit))
                with suppress(OSError):  # no swap at all
                    swap.write_text("0" if above is _GROUPS else str(limit))
                enter = f'echo $$ >{above / name}/cgroup.procs && exec "$@"'
                yield Wall(["/bin/sh", "-c", enter, "sh"], "cgroup", used if used.exists() else None)
                return
        finally:
            os.rmdir(above / name)
    enter = f'ulimit -s {_STACK >> 10} && ulimit -d {limit >> 10} && exec "$@"'
    yield Wall(["/bin/sh", "-c", enter, "sh"], "RLIMIT_DATA")
