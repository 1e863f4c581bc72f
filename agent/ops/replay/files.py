"""Files as one history: those of destinations of the type `file`, and what `limpet buffer export` writes.

`plays` finds the files and looks at them before anything is sent: a file with a manifest has to have its checksum. `Files` puts
them behind one another, so that a request may hold samples of several.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agent.destinations.file.store import LARGEST_MANIFEST, MANIFEST, Manifest, decode
from agent.ops.replay.played import ALL
from agent.ops.replay.source import FileHistory, Piece
from agent.text import human
from buffer.errors import LimpetError
from buffer.segment import MAGIC
from buffer.whole import ticks_of

LARGEST_SEGMENT = 64 << 20
_GZIP = b"\x1f\x8b"
_OPENMETRICS = "it is OpenMetrics, which has not all that a sample needs"
_DO_DAMAGED = "Copy it again from the medium; what cannot be read is not sent."


class Play(NamedTuple):
    """A file to be played: its path, the SHA-256 of its content as hex digits, and its size in bytes."""

    path: str
    sha256: str
    size: int


def paths(given: Iterable[str]) -> list[str]:
    """Return the files that are given or, of a folder, all below it that have a manifest; in the order of their numbers.

    Of a folder no links, pipes and devices: the person who wrote the medium could have this wait, or read, without an end.
    """
    found: list[str] = []
    for path in given:
        if os.path.isdir(path):
            entries = (os.path.join(at, name) for at, _, names in os.walk(path) for name in names)
            below = [one for one in entries if _is_plain(one)]
            manifests = {one for one in below if one.endswith(MANIFEST)}
            found += sorted(one for one in below if one + MANIFEST in manifests)
        elif not (path.endswith(MANIFEST) and os.path.exists(path.removesuffix(MANIFEST))):
            found.append(path)
    return list(dict.fromkeys(map(os.path.abspath, found)))


def _is_plain(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:  # who opens it says why
        return True


def look(path: str) -> Play:
    """Return the file, which is what its manifest says. Raises LimpetError where it is not, or cannot be played."""
    try:
        with open(path, "rb") as file:
            beginning = file.read(len(MAGIC))
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        manifest = _manifest(path)
    except OSError as error:
        raise LimpetError(path, f"it cannot be read: {human.reason(error)}", "Check its name.") from None
    if manifest is not None and (manifest.sha256, manifest.bytes) != (sha256, size):
        raise LimpetError(path, "it is damaged: it has not the checksum of its manifest", _DO_DAMAGED)
    is_openmetrics = manifest.format == "openmetrics" if manifest else _begins_as_openmetrics(path, beginning)
    if is_openmetrics:
        do = (
            "Read it with promtool tsdb create-blocks-from openmetrics; for a replay write jsonl or segments."
        )
        raise LimpetError(path, _OPENMETRICS, do)
    return Play(path, sha256, size)


def _manifest(path: str) -> Manifest | None:
    try:
        with open(path + MANIFEST, "rb") as file:
            return decode(file.read(LARGEST_MANIFEST))
    except FileNotFoundError:
        return None


def _begins_as_openmetrics(path: str, beginning: bytes) -> bool:
    try:
        with gzip.open(path) if beginning[:2] == _GZIP else open(path, "rb") as file:
            return file.read(2) == b"# "
    except (OSError, EOFError, zlib.error):
        return False


class SegmentFile:
    """A file in the format `segments`. Its pieces raise LimpetError and OSError."""

    def __init__(self, path: str) -> None:
        self._path, self.total, self.damaged = path, os.stat(path).st_size, 0

    def pieces(self, position: int) -> Iterator[Piece]:
        """Yield the records from a position on."""
        with open(self._path, "rb") as file:
            data = file.read(LARGEST_SEGMENT)
        end = 0
        try:
            for ticks in ticks_of(data):
                samples = sum(len(tick.values) for tick in ticks)
                end += samples
                if end > position:
                    yield Piece(ticks, end, samples, 0)
        except ValueError as error:
            raise LimpetError(self._path, f"it is damaged: {error}", _DO_DAMAGED) from None


class _Start(NamedTuple):
    """A file that was begun: the position that its first sample has or would have, and where what can be read of it ends, if known."""

    sha256: str
    start: int
    end: int | None
    is_whole: bool = True


class Files:
    """Files as one history. `begun` says by the SHA-256 how many samples of one are not sent again.

    What cannot be read of a file costs no other one: what is wrong with the first such file is raised behind them all.
    """

    def __init__(self, plays: Iterable[Play], begun: dict[str, int]) -> None:
        self._plays, self._begun = list(plays), begun
        self.total, self.damaged = sum(one.size for one in self._plays), 0
        self._starts: list[_Start] = []

    def pieces(self, position: int) -> Iterator[Piece]:
        """Yield everything from a position on. Raises LimpetError, OSError."""
        at, done = 0, 0
        wrong: LimpetError | None = None
        for path, sha256, size in self._plays:
            skipped = self._begun.get(sha256, 0)
            start = at - skipped
            self._starts.append(_Start(sha256, start, None))
            is_whole = True
            try:
                for piece in _history(path).pieces(skipped):
                    at = start + piece.end
                    if at > position:
                        yield piece._replace(end=at, done=done + min(piece.done, size))
            except LimpetError as error:
                wrong, is_whole = wrong or error, False
                self.damaged += 1
            done += size
            self._starts[-1] = _Start(sha256, start, at, is_whole)
        if wrong is not None:
            raise wrong

    def settled(self, position: int) -> dict[str, int]:
        """Return by the SHA-256 how far files are settled where everything before `position` is."""
        found = {}
        for sha256, start, end, is_whole in self._starts:
            if end is not None and position >= end and is_whole:
                found[sha256] = ALL
            elif position > start:
                found[sha256] = min(position, position if end is None else end) - start
        return found


def _history(path: str) -> FileHistory | SegmentFile:
    with open(path, "rb") as file:
        return SegmentFile(path) if file.read(len(MAGIC)) == MAGIC else FileHistory(path)
