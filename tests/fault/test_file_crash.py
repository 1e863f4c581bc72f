"""Any call to the medium may fail, and at any call the process or the machine may die: each tick is in one file, once."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from agent.config import File
from agent.destinations.file.destination import file
from agent.destinations.file.store import MANIFEST, Manifest
from agent.destinations.file.wire import SPARE, Writer
from buffer.fs import Fs
from buffer.whole import ticks_of
from tests.support.faults import (
    Failing,
    Fault,
    MemoryFs,
    PowerLost,
    broken_write,
    died,
    died_in_write,
    disk_full,
    eio,
    short_write,
)
from tests.support.ticks import exactly, tick

pytestmark = pytest.mark.no_cover  # counting lines makes it three times as slow
TICKS = [tick(number) for number in range(40)]
ENCODE = file(File(path="/m", format="segments"))().encode
ROOT = "/m"


class Medium(MemoryFs):
    """In which folders are listed, too."""

    def list(self, folder: str) -> list[str]:
        below = [path[len(folder) + 1 :] for path in self.entries if path.startswith(f"{folder}/")]
        return sorted({one.partition("/")[0] for one in below})


class Host:
    """Writes the ticks in their order. The cursor that a kill leaves is some requests behind what was acknowledged."""

    def __init__(self, choose: random.Random) -> None:
        self.settled, self.acknowledged, self._choose = [0], 0, choose

    def run(self, fs: Fs, tries: int = 1 << 30) -> None:
        """Write until everything is acknowledged, or so many requests have failed."""
        writer = Writer("segments", "rock")
        at = self._choose.choice(self.settled[-3:])
        while at < len(TICKS):
            end = min(len(TICKS), at + self._choose.choice((1, 3, 7)))
            try:
                writer.write(fs, ROOT, ENCODE(TICKS[at:end], False).request)
            except OSError:
                tries -= 1
                if not tries:
                    return
                continue
            at = end
            self.settled.append(at)
            self.acknowledged = max(self.acknowledged, at)


def check(fs: Medium, acknowledged: int) -> None:
    """Every file is whole and what its manifest says; each acknowledged tick is in one of them, none in two."""
    found = []
    names = sorted(path for path in fs.entries if path.endswith(".seg"))
    for path in names:
        data = bytes(fs.entries[path].data)
        manifest = msgspec.json.decode(bytes(fs.entries[path + MANIFEST].data), type=Manifest)
        assert (manifest.bytes, manifest.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        found += [one for run in ticks_of(data) for one in run]
    found.sort(key=lambda one: one.at)
    assert exactly(found) == exactly(TICKS[: len(found)])
    assert len(found) >= acknowledged


def calls(seed: int) -> int:
    counting = Failing(Medium(), 0, died)
    Host(random.Random(seed)).run(counting)
    return counting.calls


def crash(fs: Medium, choose: random.Random, *, power: bool) -> None:
    if power:
        fs.cut(choose)
    else:
        fs.kill()


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power cut"])
@pytest.mark.parametrize("fault", [died, died_in_write])
def test_a_kill_at_any_call_leaves_each_tick_once(fault: Fault, power: bool) -> None:
    for seed in range(3):
        for number in range(1, calls(seed) + 1, 2 if power else 1):
            fs, choose = Medium(), random.Random(seed)
            host = Host(choose)
            for fail_at in (number, 1 + number % 17):  # the one that comes back dies, too
                with suppress(PowerLost):
                    host.run(Failing(fs, fail_at, fault))
                crash(fs, choose, power=power)
                check(fs, host.acknowledged)
            host.run(fs)
            check(fs, len(TICKS))
            assert not [path for path in fs.entries if path.endswith(".tmp")]


@pytest.mark.parametrize("fault", [eio, disk_full, short_write, broken_write])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for a while"])
def test_a_call_that_fails_is_repeated_and_leaves_each_tick_once(fault: Fault, lasting: bool) -> None:
    for number in range(1, calls(1) + 1):
        fs, choose = Medium(), random.Random(1)
        host = Host(choose)
        host.run(Failing(fs, number, fault, lasting=lasting), 3 if lasting else 1 << 30)
        check(fs, host.acknowledged)
        host.run(fs)
        check(fs, len(TICKS))


def test_a_full_medium_takes_the_rest_when_there_is_room() -> None:
    fs = Medium(capacity=SPARE + 4000)
    host = Host(random.Random(2))
    host.run(fs, 3)
    assert 0 < host.acknowledged < len(TICKS)
    check(fs, host.acknowledged)
    fs.capacity = 1 << 30
    host.run(fs)
    check(fs, len(TICKS))


def test_a_medium_that_was_exchanged_gets_what_follows() -> None:
    one, other = Medium(), Medium()
    writer = Writer("segments", "rock")

    def put(fs: Any, *numbers: int) -> None:
        writer.write(fs, ROOT, ENCODE([TICKS[n] for n in numbers], False).request)

    put(one, 0, 1)
    put(other, 2)
    put(other, 3)
    put(one, 4)
    read: Callable[[Medium], list[Any]] = lambda fs: [  # noqa: E731
        tick.at.mono_ms // 10_000
        for path in sorted(fs.entries)
        if path.endswith(".seg")
        for run in ticks_of(bytes(fs.entries[path].data))
        for tick in run
    ]
    assert (read(one), read(other)) == ([0, 1, 4], [2, 3])
