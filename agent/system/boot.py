"""Why the host was booted, as far as the system left anything that says so.

| reason       | what says so                                                                                    |
|--------------|-------------------------------------------------------------------------------------------------|
| `clean`      | the agent was stopped while the system was shutting down                                        |
| `oom`        | a new record of pstore has a kernel panic for want of memory                                    |
| `panic`      | a new record of pstore has another kernel panic, or cannot be read                              |
| `watchdog`   | the first watchdog says that it has reset the host                                              |
| `power_loss` | nothing of that, and the agent ran to the end: power loss, or a host that hung and was switched off |
| `unknown`    | the agent had been stopped before, or has no note of the boot before                            |

The rows are tried in order. What is read may be anybody's: regular files alone, so many of them, and so many bytes of each.
Nothing is raised. Sources: pstore(8) and systemd-pstore(8), the kernel's watchdog-api.rst (bootstatus).
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Collection, Iterator
from enum import StrEnum
from typing import NamedTuple

RECORDS = ("/sys/fs/pstore", "/var/lib/systemd/pstore")
"""Where records are, and where systemd moves them to, into a folder for each."""
WATCHDOG = "/sys/class/watchdog/watchdog0/bootstatus"
_RESET_BY_WATCHDOG = 0x20  # WDIOF_CARDRESET, linux/watchdog.h
MOST, LARGEST = 64, 256 << 10
"""Records that are looked at, and bytes of each that are read."""


class Reason(StrEnum):
    """Why the host was booted."""

    CLEAN = "clean"
    OOM = "oom"
    PANIC = "panic"
    WATCHDOG = "watchdog"
    POWER_LOSS = "power_loss"
    UNKNOWN = "unknown"


class Before(NamedTuple):
    """What the agent's note says about the boot before."""

    shut_down: bool
    """The agent was stopped while the system was shutting down."""
    ended: bool
    """The agent was stopped."""
    records: Collection[int]
    """Marks of the records that there were."""


class Found(NamedTuple):
    """Why the host was booted, and the marks of all records that there are."""

    reason: Reason
    records: list[int]


def found(before: Before | None, root: str = "") -> Found:
    """Return why this boot is, by what is below `root`."""
    records = dict(list(_records(root))[:MOST])
    return Found(_reason(before, records, root), sorted(records))


def _reason(before: Before | None, records: dict[int, str], root: str) -> Reason:
    if before is None:
        return Reason.UNKNOWN
    if before.shut_down:
        return Reason.CLEAN
    panics = [_panic(path) for mark, path in records.items() if mark not in before.records]
    if Reason.OOM in panics:
        return Reason.OOM
    if Reason.PANIC in panics:
        return Reason.PANIC
    if _was_reset(root + WATCHDOG):
        return Reason.WATCHDOG
    return Reason.UNKNOWN if before.ended else Reason.POWER_LOSS


def _records(root: str) -> Iterator[tuple[int, str]]:
    """Yield the records of the kernel's log with a mark each, which another record has not."""
    for folder in RECORDS:
        for path in _files(root + folder, 2):
            try:
                state = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(state.st_mode):
                named = f"{path.removeprefix(root)} {state.st_mtime_ns} {state.st_size}"
                yield zlib.crc32(named.encode(errors="replace")), path


def _files(folder: str, depth: int) -> Iterator[str]:
    try:
        names = sorted(os.listdir(folder), reverse=True)[: 4 * MOST]  # the newest first
    except OSError:
        return
    for name in names:
        if name.startswith("dmesg"):
            yield f"{folder}/{name}"
        elif depth > 0:
            yield from _files(f"{folder}/{name}", depth - 1)


def _panic(path: str) -> Reason | None:
    text = _read(path)
    if text is None:
        return Reason.PANIC
    if b"Panic#" not in text and b"Kernel panic" not in text:
        return None  # an oops, after which the host ran on
    is_oom = b"Out of memory" in text or b"out of memory" in text or b"deadlocked on memory" in text
    return Reason.OOM if is_oom and b"Kernel panic" in text else Reason.PANIC


def _was_reset(path: str) -> bool:
    text = (_read(path) or b"").strip()
    return text.isdigit() and len(text) < 12 and bool(int(text) & _RESET_BY_WATCHDOG)


def _read(path: str) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        return os.read(handle, LARGEST)
    except OSError:
        return None
    finally:
        os.close(handle)
