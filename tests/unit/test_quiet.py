"""A test that is to be alone is alone, and is not kept out by others that keep coming."""

from __future__ import annotations

import fcntl
import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path

from tests.support.net import wait_for
from tests.support.quiet import share

DEADLINE = 30


def hold(folder: Path, alone: bool, inside: Event, go: Event) -> None:
    with share(folder, alone=alone):
        inside.set()
        assert go.wait(DEADLINE)


def is_shut(folder: Path) -> bool:
    with (folder / "gate").open("w") as gate:
        try:
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_one_is_alone_and_the_others_are_together(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    inside, go = [spawn.Event() for _ in range(4)], [spawn.Event() for _ in range(4)]
    processes = [
        spawn.Process(target=hold, args=(tmp_path, n == 2, inside[n], go[n]), daemon=True) for n in range(4)
    ]
    first, second, alone, later = processes
    first.start()
    second.start()
    assert inside[0].wait(DEADLINE)
    assert inside[1].wait(DEADLINE)
    alone.start()
    go[0].set()
    first.join(DEADLINE)
    wait_for(lambda: is_shut(tmp_path), DEADLINE, "the one that is to be alone")
    assert not inside[2].wait(0.2)  # the second one is still there
    later.start()
    assert not inside[3].wait(0.5)  # and nobody comes in before the one that waits
    go[1].set()
    assert inside[2].wait(DEADLINE)
    assert not inside[3].is_set()
    go[2].set()
    assert inside[3].wait(DEADLINE)
    go[3].set()
    for process in processes:
        process.join(DEADLINE)
        assert process.exitcode == 0
