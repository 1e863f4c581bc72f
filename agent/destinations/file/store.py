"""The files of one host in a folder: how one gets there, and which exist already.

    <host>/<number // 1000>/<number>-<time of the oldest sample>-<hash>.jsonl.gz        the samples
    <host>/<number // 1000>/<number>-<time of the oldest sample>-<hash>.jsonl.gz.json   its manifest

Numbers are in the order of writing, whatever the clock says. Every name is one for FAT: letters, digits, `.`, `_` and `-`.

Promises:

1. A file of samples has its name when it is whole and synced, and its manifest was there, synced, before it. A kill or a power
   cut at any call leaves the whole file or none; what it leaves besides is removed by the next `look`.  Another agent that
   writes to the same folder takes what is being written for that: the write fails then, and is to be repeated.
2. A manifest has the digest of each tick in its file (`ticks.digests`): so what was written, and is not known to have been,
   is known again. `written` counts a file only if it has the size that its manifest says, and returns when its name is durable.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from agent.destinations.file.ticks import DIGEST
from buffer.fs import TEMPORARY, Fs, names, read_all, write_atomic, write_new

MANIFEST = ".json"
VERSION = 1
IN_FOLDER = 1000
"""Numbers in a folder: FAT has 65,536 entries in one, and a long name takes several."""
LARGEST_MANIFEST = 4 << 20
MOST_FILES, MOST_TICKS = 64, 100_000
"""So far back is looked for what was written: the cursor of a killed agent is some seconds behind."""
_NAME = re.compile(r"([0-9]{8})-[0-9A-Za-z]+-[0-9a-f]{8}(?:\.[a-z]+)+")
_FOLDER = re.compile("[0-9]{5}")


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """What a manifest says. Times are UTC in ms; `ticks` are the digests of the ticks, one behind the other, as base64."""

    version: int
    hostname: str
    file: str
    format: str
    bytes: int
    sha256: str
    samples: int
    series: int
    oldest_timestamp_ms: int
    newest_timestamp_ms: int
    ticks: str = ""


class Looked(NamedTuple):
    """What is in a host's folder: the newest files, newest first, as paths; and the number of the next one."""

    newest: list[str]
    number: int


class Written:
    """The digests of ticks that were written."""

    def __init__(self, digests: Iterable[bytes]) -> None:
        self._sorted = sorted(digests)

    def has(self, digest: bytes) -> bool:
        """Return whether a tick was written."""
        at = bisect_left(self._sorted, digest)
        return at < len(self._sorted) and self._sorted[at] == digest


def safe(host: str) -> str:
    """Return the name of a host as that of a folder, on any file system."""
    found = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in host)
    return found.strip("-.")[:64] or "host"


def look(fs: Fs, base: str) -> Looked:
    """Return the files that exist, and remove what a kill has left. Raises OSError."""
    found: list[str] = []
    number = 0
    for name in sorted((one for one in names(fs, base) if _FOLDER.fullmatch(one)), reverse=True):
        folder = f"{base}/{name}"
        files = _tidied(fs, folder)
        if files and not number:
            number = _number(files[-1]) + 1
        found += [f"{folder}/{one}" for one in reversed(files)]
        if len(found) >= MOST_FILES:
            break
    return Looked(found[:MOST_FILES], number or 1)


def _tidied(fs: Fs, folder: str) -> list[str]:
    """Return the names of the files with samples, oldest first; remove what is not whole."""
    there = set(fs.list(folder))
    whole = sorted(name for name in there if _NAME.fullmatch(name) and name + MANIFEST in there)
    ours = {name for name in there if _NAME.match(name)}
    for name in ours:
        if name.endswith(TEMPORARY) or (
            name.endswith(MANIFEST)
            and name.removesuffix(MANIFEST) not in there
            and name.removesuffix(MANIFEST) not in fs.list(folder)  # another agent may be writing here
        ):
            with suppress(FileNotFoundError):
                fs.unlink(f"{folder}/{name}")
    return [name for name in whole if not name.endswith((TEMPORARY, MANIFEST))]


def _number(name: str) -> int:
    return int(name[:8])


def written(fs: Fs, looked: Looked) -> Written:
    """Return what the newest files hold. Raises OSError."""
    digests: list[bytes] = []
    for path in looked.newest:
        if len(digests) >= MOST_TICKS:
            break
        manifest = manifest_of(fs, path)
        if manifest is not None and fs.size(path) == manifest.bytes:
            data = base64.b64decode(manifest.ticks)
            digests += [data[at : at + DIGEST] for at in range(0, len(data), DIGEST)]
    for folder in {path.rpartition("/")[0] for path in looked.newest}:
        fs.sync_folder(folder)
    return Written(digests)


def manifest_of(fs: Fs, path: str) -> Manifest | None:
    """Return the manifest of a file; None where it has none that can be read. Raises OSError."""
    try:
        return decode(read_all(fs, path + MANIFEST, LARGEST_MANIFEST))
    except FileNotFoundError:
        return None


def decode(data: bytes) -> Manifest | None:
    """Return what the bytes of a manifest say; None where they are none."""
    with suppress(ValueError, RecursionError, msgspec.MsgspecError):
        found = msgspec.json.decode(data, type=Manifest)
        return found if found.version == VERSION else None
    return None


class Parcel(NamedTuple):
    """A file to be written: its bytes, and what goes into its manifest."""

    body: bytes
    ending: str
    format: str
    hostname: str
    samples: int
    series: int
    oldest_ms: int
    newest_ms: int
    digests: list[bytes]


def put(fs: Fs, base: str, number: int, parcel: Parcel, check: Callable[[], None] = lambda: None) -> str:
    """Write a file, and return its path when it is durable. `check` may raise before it gets its name. Raises OSError."""
    sha256 = hashlib.sha256(parcel.body).hexdigest()
    name = f"{number:08d}-{_stamp(parcel.oldest_ms)}-{sha256[:8]}{parcel.ending}"
    folder = f"{base}/{number // IN_FOLDER:05d}"
    path = f"{folder}/{name}"
    _prepare(fs, base, folder)
    try:
        write_new(fs, path + TEMPORARY, parcel.body)
        write_atomic(fs, path + MANIFEST, msgspec.json.encode(_manifest(parcel, name, sha256)))
        fs.sync_folder(folder)
        check()
        fs.rename(path + TEMPORARY, path)
    except Exception:
        for left in (path + TEMPORARY, path + MANIFEST + TEMPORARY):  # which takes room that may be scarce
            with suppress(OSError):
                fs.unlink(left)
        raise
    fs.sync_folder(folder)
    if name + MANIFEST not in fs.list(folder):
        raise OSError(
            errno.ENOENT, "another agent of this hostname, which writes here too, removed a manifest"
        )
    return path


def _prepare(fs: Fs, base: str, folder: str) -> None:
    """Make the folders, and their entries durable."""
    if folder.rpartition("/")[2] not in names(fs, base):
        fs.make_folder(folder)
        fs.sync_folder(base.rpartition("/")[0])
        fs.sync_folder(base)


def _manifest(parcel: Parcel, name: str, sha256: str) -> Manifest:
    return Manifest(
        version=VERSION,
        hostname=parcel.hostname,
        file=name,
        format=parcel.format,
        bytes=len(parcel.body),
        sha256=sha256,
        samples=parcel.samples,
        series=parcel.series,
        oldest_timestamp_ms=parcel.oldest_ms,
        newest_timestamp_ms=parcel.newest_ms,
        ticks=base64.b64encode(b"".join(parcel.digests)).decode(),
    )


def _stamp(ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y%m%dT%H%M%SZ}"
    except (ValueError, OverflowError, OSError):
        return "unknown"
