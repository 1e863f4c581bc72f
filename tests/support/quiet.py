"""The machine for one test alone, where a suite runs in several processes.

A test that is marked `quiet` measures what other work on the machine would spoil. It waits for the tests that run, and none
begins before it has ended. Every other test shares the machine.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def share(folder: Path, *, alone: bool) -> Iterator[None]:
    """Have the machine together with others, or `alone`. `folder` is the same for all processes of a suite."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "gate").open("w") as gate, (folder / "machine").open("w") as machine:
        # The one that wants to be alone keeps the gate locked, or others would come in without end.
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield
