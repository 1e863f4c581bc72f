"""The note that an agent leaves in data_dir about itself, for people and `limpet doctor`.

The file, `agent.json`, says which version runs as which process since when, with which configuration, and when a reload
was refused last. It is replaced as a whole at the start, at each reload, and at the end. On a disk that cannot be written
it is missing or of an earlier run, so it counts for a running agent only if the lock is held by the process that it
names. It has no secret: of the configuration only the path and a hash, of a refusal what `check-config` prints.

It may be read while somebody else writes to data_dir: only a regular file of that owner's counts, read up to LARGEST bytes.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Annotated, Any

import msgspec

from agent import __version__
from agent.system.boot import Before, Reason, found
from agent.system.identity import machine
from buffer.fs import Fs, RealFs, read_all, write_atomic

NAME = "agent.json"
LARGEST = 16 << 10
"""Bytes; a longer file is none of ours."""
LONGEST_PROBLEM = 1000
"""Characters of what was wrong with a configuration."""


Time = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
"""UTC in ms. A note may say anything, and times are computed with."""


Word = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{0,12}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an agent. Times are UTC in ms."""

    version: str
    pid: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]
    boot_id: str
    started_ms: Time
    config: Annotated[str, msgspec.Meta(pattern=r"\A[^\x00]*\Z")]
    """The absolute path of the configuration."""
    digest: str
    """Of the configuration that is applied (`agent.config.Loaded`)."""
    loaded_ms: Time
    """When it was applied."""
    refused_ms: Time | None = None
    """When a reload was refused, if none was applied since."""
    problem: str | None = None
    """What was wrong then, first of all."""
    ended_ms: Time | None = None
    """When it ended of its own accord. None while it runs, and if it was killed."""
    shut_down: bool = False
    """Whether the system was shutting down when it ended."""
    boots: dict[str, Count] = {}
    """How often the host was booted since there is a note, by reason."""
    reason: str = Reason.UNKNOWN
    """Why it was booted last."""
    before_ms: Time = 0
    """The time of the newest sample of the boot before; 0: there is none."""
    machine: Word = ""
    """Which machine it runs on (`agent.system.identity`); empty: nothing says so."""
    home: Word = ""
    """The data_dir's own: it stays when the folder is copied."""
    copied_ms: Time | None = None
    """When an agent began on a machine which is not that of the note before."""
    records: list[Count] = []
    """Marks of the kernel's records of crashes that were there after the boot."""


class Keeper:
    """Keeps the note of this process, which begins with a configuration. It is not yet written: see `write`.

    What an earlier note says about boots continues. `kept_ms` is the time of the newest sample that there is; the system's files are
    below `root`.
    """

    def __init__(
        self, data_dir: str, boot_id: str, config: str, digest: str, *, kept_ms: int = 0, root: str = ""
    ) -> None:
        now_ms = _now_ms()
        self._data_dir, self._is_written = data_dir, False
        self.note = Note(
            version=__version__,
            pid=os.getpid(),
            boot_id=boot_id,
            started_ms=now_ms,
            config=config,
            digest=digest,
            loaded_ms=now_ms,
        )
        before = read(data_dir)
        self._is_first = before is None or before.boot_id != boot_id  # the first process in this boot
        self.note = placed(booted(self.note, before, kept_ms, root), before, machine(root))

    def write(self, **changes: Any) -> None:
        """Change the note, and leave it in data_dir if its disk takes it."""
        self.note = msgspec.structs.replace(self.note, **changes)
        self._is_written = False
        with suppress(OSError):
            write(self._data_dir, self.note)
            self._is_written = True

    def boots(self) -> dict[str, int]:
        """Return how often the host was booted, by reason; at first without this boot, so that the rise is seen."""
        counts, is_first = dict(self.note.boots), self._is_first
        self._is_first = False
        if is_first and self.note.reason in counts:
            counts[self.note.reason] -= 1
        return counts

    def keep(self) -> None:
        """Write the note again if that failed, or somebody has removed it."""
        if not self._is_written or not os.path.lexists(f"{self._data_dir}/{NAME}"):
            self.write()

    def is_applied(self) -> bool:
        """Return whether no reload was refused since one was applied."""
        return self.note.refused_ms is None

    def applied(self, digest: str) -> None:
        """Note that a reload was applied."""
        self.write(digest=digest, loaded_ms=_now_ms(), refused_ms=None, problem=None)

    def refused(self, problem: str) -> None:
        """Note that a reload was refused."""
        self.write(refused_ms=_now_ms(), problem=problem[:LONGEST_PROBLEM])

    def ended(self, *, shut_down: bool = False) -> None:
        """Note that the agent ends, and whether the system is shutting down. The lock is still to be held."""
        self.write(ended_ms=_now_ms(), shut_down=shut_down)


def booted(note: Note, before: Note | None, kept_ms: int = 0, root: str = "") -> Note:
    """Return a note with what is known of boots, by an earlier note and what is below `root`."""
    if before is not None and before.boot_id == note.boot_id:
        return msgspec.structs.replace(
            note,
            boots=before.boots,
            reason=before.reason,
            before_ms=before.before_ms,
            records=before.records,
        )
    was = None
    if before is not None:
        was = Before(before.shut_down, before.ended_ms is not None, frozenset(before.records))
    reason, records = found(was, root)
    boots = {each.value: before.boots.get(each, 0) if before else 0 for each in Reason}
    boots[reason] += 1
    return msgspec.structs.replace(
        note,
        boots={name: count for name, count in boots.items() if count},
        reason=str(reason),
        before_ms=kept_ms,
        records=records,
    )


def placed(note: Note, before: Note | None, machine: str) -> Note:
    """Return a note with where it is, by an earlier one of the same data_dir."""
    home, copied_ms = (before.home, before.copied_ms) if before is not None else ("", None)
    if before is not None and before.machine and machine and before.machine != machine:
        copied_ms = note.started_ms
    return msgspec.structs.replace(
        note, machine=machine, home=home or os.urandom(6).hex(), copied_ms=copied_ms
    )


def write(data_dir: str, note: Note, fs: Fs | None = None) -> None:
    """Replace the note. Raises OSError."""
    write_atomic(fs or RealFs(data_dir), f"{data_dir}/{NAME}", msgspec.json.encode(note))


def read(data_dir: str, fs: Fs | None = None) -> Note | None:
    """Return the note; None where there is none that can be read."""
    try:
        data = read_all(fs or RealFs(data_dir), f"{data_dir}/{NAME}", LARGEST + 1)
        return msgspec.json.decode(data, type=Note) if len(data) <= LARGEST else None
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        return None


def _now_ms() -> int:
    return int(time.time() * 1000)


def boot_id() -> str:
    """Return 32 hex digits that change with every boot: the kernel's, or made of the boot time."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().decode().strip().replace("-", "")
    except OSError:
        import psutil

        return f"{int(psutil.boot_time()):032x}"
