"""Files of a later version of Limpet: they are found before anything is read or changed, and left as they are.

| what                            | where its version is                 | known         |
|---------------------------------|--------------------------------------|---------------|
| segments (with the tick codec)  | the header, `buffer.segment`         | 1, 2          |
| cursors                         | "version" in a slot, `buffer.ledger` | 1, 2          |
| quarantined items               | their segments, and "version" in     | 1 (no field)  |
|                                 | about.json where it is not 1         |               |

Promise: where any file is of a later version, NewerFormat says which, and nothing has been changed, not even the lock.
One such file is enough, however many others could be read: the newest segment carries the numbering, and what is sent
without knowing what is settled is sent twice, or not at all.  What a program of that version leaves behind later can
be of a version that is known here, and is then read as before.

Files of history (`buffer.history`: segments, and packed files of version 1) are no reason to refuse: nothing depends on them.
One of a later version is left alone until room is needed, and is not read.

Other files have no version, or are no state: the key of masks is 32 bytes in hex forever, and a request to trim
(`buffer.requests`) of a later version is refused by being taken away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

from buffer import ledger, segment
from buffer.errors import NewerFormat
from buffer.fs import Fs, read_all
from buffer.quarantine import ABOUT, ABOUT_VERSION, MAX_ABOUT


def refuse_newer(fs: Fs, data_dir: str) -> None:
    """Raise NewerFormat where a file of a buffer is of a version that this program does not know."""
    for path, known, found in _found(fs, data_dir):
        if found is not None and found > known:
            raise NewerFormat(
                path,
                f"it is of format version {found}, and this program knows versions up to {known}",
                "Run the version of Limpet that wrote it, or a later one. Nothing has been changed.",
            )


def _found(fs: Fs, data_dir: str) -> Iterator[tuple[str, int, int | None]]:
    """Yield every file with the last version that is known of its kind, and its own, if it is known."""
    yield from _segments(fs, f"{data_dir}/segments")
    for name in _names(fs, f"{data_dir}/cursors"):
        if name.endswith(ledger.SUFFIX):
            path = f"{data_dir}/cursors/{name}"
            yield path, ledger.AHEAD_VERSION, ledger.version(_beginning(fs, path, 2 * ledger.SLOT))
    for name in _names(fs, f"{data_dir}/quarantine"):
        folder = f"{data_dir}/quarantine/{name}"
        yield from _segments(fs, folder)
        yield f"{folder}/{ABOUT}", ABOUT_VERSION, _about(_beginning(fs, f"{folder}/{ABOUT}", MAX_ABOUT))


def _segments(fs: Fs, folder: str) -> Iterator[tuple[str, int, int | None]]:
    for name in _names(fs, folder):
        if name.endswith(segment.SUFFIX):
            data = _beginning(fs, f"{folder}/{name}", segment.HEADER.size)
            yield f"{folder}/{name}", segment.VERSION, segment.version(data)


def _about(data: bytes) -> int | None:
    try:
        found = json.loads(data).get("version")
    except (ValueError, AttributeError, RecursionError):
        return None
    return found if type(found) is int else None


def _names(fs: Fs, folder: str) -> list[str]:
    with suppress(OSError):
        return sorted(fs.list(folder))
    return []


def _beginning(fs: Fs, path: str, size: int) -> bytes:
    """Return the beginning of a file; what cannot be read is not of a later version."""
    with suppress(OSError):
        return read_all(fs, path, size)
    return b""
