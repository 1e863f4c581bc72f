"""The wire to a folder: a request becomes a file there, or a `Failure` says why not.

| what is wrong                                        | what comes of it                                              |
|------------------------------------------------------|---------------------------------------------------------------|
| no medium, read-only, no permission                  | held, until it is corrected: a mount is noticed in seconds    |
| full                                                 | repeated, when there is room for what failed                  |
| an I/O error, and every other                        | repeated                                                      |
| a call that does not come back in `remote_timeout`   | repeated when it has come back: one thread waits, nobody else |

Promises: an `Answer` means that the samples are in files that are whole and durable, each in one of them. After a start, after a
failure, and on a medium that somebody else has written to, ticks that are in the newest files there are left out of the next one
(`store`). Nothing is raised, and nothing is written where `medium` finds no medium.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence

from agent.config import File
from agent.crew import Crew, Job
from agent.destinations.base import Request
from agent.destinations.file import medium, store
from agent.destinations.file.destination import Contents
from agent.destinations.file.formats import ENDINGS
from agent.destinations.file.store import Parcel
from agent.destinations.file.ticks import digests
from agent.http.answer import Answer
from agent.http.failures import Cause, Failure
from buffer.fs import TEMPORARY, Fs, write_new
from buffer.model import Tick

DONE = Answer(200, {}, b"")
SPARE = 256 << 10
"""Bytes that have to be free besides those of a file: folders and manifests take some, in clusters of up to 64 KiB."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_HOLDS = (
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)
_PROBE = ".limpet-probe" + TEMPORARY

_turns: dict[str, threading.Lock] = {}
"""By folder: a call that hangs is over before another wire of the same process writes there, after a reload, say."""


class _GivenUpError(Exception):
    """Nobody waits for this any more."""


class Writer:
    """Writes requests of one host to a folder on a file system. `form` is a format of `formats`."""

    def __init__(self, form: str, hostname: str) -> None:
        self._form, self._hostname = form, hostname
        self._last: str | None = None
        """The file that was written last, below `root`; None: it is not known what was written."""
        self._wanted = 0

    def forget(self) -> None:
        """Look at the existing files before the next one is written."""
        self._last = None

    def probe(self, fs: Fs, root: str) -> None:
        """Write something, and remove it. Raises OSError."""
        fs.make_folder(root)
        self._require(fs, root, self._wanted or SPARE)
        path = f"{root}/{_PROBE}"
        if _PROBE in fs.list(root):
            fs.unlink(path)
        write_new(fs, path, b"limpet")
        fs.unlink(path)

    def write(self, fs: Fs, root: str, request: Request, check: Callable[[], None] = lambda: None) -> int:
        """Return when all samples of a request are durable, with the bytes that were written for that. Raises OSError."""
        assert isinstance(request.note, Contents)
        fs.make_folder(root)
        base = f"{root}/{store.safe(self._hostname)}"
        looked = store.look(fs, base)
        newest = looked.newest[0].removeprefix(root) if looked.newest else None
        body, samples, ticks = request.body, request.samples, request.note.ticks
        known = digests(ticks)
        if self._last is None or newest != self._last:
            self._last, there = None, store.written(fs, looked)
            left = [(tick, one) for tick, one in zip(ticks, known, strict=True) if not there.has(one)]
            if len(left) < len(ticks):
                ticks, known = [tick for tick, _ in left], [one for _, one in left]
                found = request.note.encode(ticks).request
                body, samples = found.body, found.samples
        if not samples:
            return 0
        self._require(fs, root, len(body) + SPARE)
        self._last = None
        parcel = self._parcel(body, samples, ticks, known)
        self._last = store.put(fs, base, looked.number, parcel, check).removeprefix(root)
        self._wanted = 0
        return len(body)

    def _require(self, fs: Fs, root: str, wanted: int) -> None:
        free, _ = fs.free(root)
        if free < wanted:
            self._wanted = wanted
            raise OSError(errno.ENOSPC, f"{free} bytes are free, {wanted} are needed")

    def _parcel(self, body: bytes, samples: int, ticks: Sequence[Tick], known: list[bytes]) -> Parcel:
        times = [tick.at.wall_ms for tick in ticks]
        series = len(set().union(*{id(tick.series): tick.series for tick in ticks}.values()))
        return Parcel(
            body,
            ENDINGS[self._form],
            self._form,
            self._hostname,
            samples,
            series,
            min(times),
            max(times),
            known,
        )


class FileWire:
    """A `Wire` (`agent.send.asking`) to the folder of a destination. One thread sends; `interrupt` may come from any."""

    def __init__(self, to: File, hostname: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._to, self._clock = to, clock
        self._writer = Writer(to.format, hostname)
        self._crew: Crew[Answer] = Crew(0, "file")
        self._turn = _turns.setdefault(to.path, threading.Lock())
        self._ended, self._is_sure = False, True
        self._bytes = 0
        self._mounts = b""

    def exchange(self, request: Request, attempt: int = 0, within: float | None = None) -> Answer | Failure:
        """Write a request; one without samples is a probe."""
        longest = self._to.remote_timeout if within is None else min(within, self._to.remote_timeout)
        self._mounts = medium.mounts()
        until = self._clock() + longest

        def check() -> None:
            if self._ended or self._clock() >= until:
                raise _GivenUpError

        for done in self._crew.run([Job("", lambda: self._act(request, check))], longest):
            if done.late:
                continue
            if done.result is None:
                return self._failure(done.error)
            self._is_sure |= request.samples > 0
            return done.result
        self._is_sure = False  # what hangs may still become a file
        since = max(self._crew.stuck().values(), default=longest)
        text = f"the file system at {self._to.mounted} has not answered for {since:.0f} s"
        return Failure(Cause.TIMEOUT, text)

    def _act(self, request: Request, check: Callable[[], None]) -> Answer:
        if not self._turn.acquire(blocking=False):
            raise OSError(errno.EBUSY, "an earlier write has not come back")
        try:
            with medium.opened(self._to) as (fs, root):
                if not self._is_sure:
                    self._writer.forget()
                if request.samples:
                    self._bytes += self._writer.write(fs, root, request, check)
                else:
                    self._writer.probe(fs, root)
        finally:
            self._turn.release()
        return DONE

    def _failure(self, error: BaseException | None) -> Failure:
        where = self._to.path
        if isinstance(error, medium.NotThereError):
            return Failure(Cause.FILE, str(error), holds=True)
        if isinstance(error, _GivenUpError):
            return Failure(Cause.TIMEOUT, f"the file system at {self._to.mounted} was too slow")
        if not isinstance(error, OSError):
            return Failure(Cause.FILE, f"{where}: {type(error).__name__}: {error}")
        reason = (error.strerror or str(error)).lower()
        if error.errno in _FULL:
            return Failure(
                Cause.FILE,
                f"{where} is full: {reason}: exchange the medium, or remove files that were played",
            )
        if error.errno == errno.EROFS:
            return Failure(
                Cause.FILE, f"{where} is read-only: mount it for writing, or exchange the medium", holds=True
            )
        return Failure(Cause.FILE, f"{where} cannot be written: {reason}", holds=error.errno in _HOLDS)

    def hidden(self, text: str) -> str:
        """Return the text: there are no secrets."""
        return text

    def wire_bytes(self) -> int:
        """Return the bytes of files so far."""
        return self._bytes

    def repeats(self) -> int:
        """Return 0: nothing is sent twice on its own."""
        return 0

    def renew(self) -> None:
        """Do nothing: every request opens the folder."""

    def changed(self) -> bool:
        """Return whether something was mounted or unmounted since the last request."""
        return medium.mounts() != self._mounts

    def expires(self) -> float | None:
        """Return None: there is no certificate."""
        return None

    def interrupt(self) -> None:
        """Let the file that is being written get no name any more."""
        self._ended = True

    def close(self) -> None:
        """Let the thread end."""
        self._crew.close()
