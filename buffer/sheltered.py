"""A buffer that works while its disk does not: the agent's.

Promises:
- It opens whatever state the disk is in; only another process that uses the data directory, and a newer format, raise.
- While the disk is full, read-only or failing, the log continues in memory, with the same numbering and the same cursors,
  in at most MEMORY bytes: beyond that the oldest of it is evicted.  What was appended there counts as `unbuffered`.
- Each sync tries the disk again.  When it is well, what is in memory is written to it, and the log continues there.
- `state` says what is wrong, and the listener is called when that changes: "sheltered" and "unsheltered".
- Where the directory cannot even be read, it is left alone (`buffer.shelter`).  If it turns out later that a log is in
  it, `must_restart` is set, because that log has a numbering of its own.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from time import monotonic, time

from buffer import segment
from buffer.buffer import Buffer, ignore
from buffer.cursors import Listener
from buffer.errors import BufferFull, BufferInUse
from buffer.fs import Fs, RealFs, names
from buffer.ledger import SUFFIX, Ledger
from buffer.limits import DEFAULTS, Limits
from buffer.log import Log
from buffer.model import Tick
from buffer.shelter import Shelter

MEMORY = 8 << 20
SEGMENTS = 16
"""So many segments share the memory, so that evicting one is a small loss."""
OK, FULL, READONLY, FAILING = STATES = ("ok", "full", "readonly", "failing")
_STATE = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EROFS: READONLY,
    errno.EACCES: READONLY,
    errno.EPERM: READONLY,
}


class ShelteredBuffer(Buffer):
    """See above.  Raises BufferInUse and NewerFormat when it is opened."""

    def __init__(
        self,
        data_dir: str,
        limits: Limits = DEFAULTS,
        destinations: Iterable[str] | None = (),
        *,
        start_now: Collection[str] = (),
        report: Listener = ignore,
        fs: Fs | None = None,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
        memory: int = MEMORY,
    ) -> None:
        self._shelter = Shelter(fs or RealFs(data_dir), memory)
        self._report, self._ill = report, False
        self.state, self.error = OK, ""
        self.unbuffered = 0
        """Samples that were appended in memory, since the start."""
        self.must_restart = False
        super().__init__(
            data_dir,
            limits,
            destinations,
            start_now=start_now,
            report=report,
            fs=self._shelter,
            clock=clock,
            wall=wall,
        )
        if self._shelter.active:
            self._settle_in()

    # Opening.

    def _take(self) -> None:
        try:
            super()._take()
        except OSError as error:
            self._begin(error)

    def _known(self) -> dict[str, Ledger | None]:
        try:
            return super()._known()
        except OSError as error:
            return self._be_blind(error)

    def _open_log(self, segment_size: int, numbered_from: int) -> Log:
        try:
            self._shelter.real.list(f"{self._dir}/segments")
        except FileNotFoundError:
            pass
        except OSError as error:
            self._be_blind(error)
        if not self._shelter.blind:
            try:
                return super()._open_log(segment_size, numbered_from)
            except OSError as error:
                self._be_blind(error)
        return super()._open_log(segment_size, 0)

    def _be_blind(self, error: OSError) -> dict[str, Ledger | None]:
        self._begin(error)
        self._shelter.blind = True
        return {}

    # Going to memory, and back.

    def append(self, ticks: Sequence[Tick], missed: int = 0) -> int:
        """Append as `Buffer.append` does, in memory where the disk does not take it.

        Raises BufferFull where `on_full` forbids more, OSError where there is no room in memory either.
        """
        if not self._shelter.active:
            try:
                return super().append(ticks, missed)
            except OSError as error:
                self._begin(error)
            except BufferFull:
                with suppress(OSError):
                    if self._room.is_above_floor():
                        raise
                self._begin(OSError(errno.ENOSPC, "less than buffer.min_free_space is free"))
            self._settle_in()
        self._make_room_in_memory()
        end = self._append(ticks, missed)
        self.unbuffered += sum(len(tick.values) for tick in ticks)
        return end

    def sync(self) -> None:
        """Sync as `Buffer.sync` does, and take up the disk again if it is well.  Raises OSError."""
        if self._lock is not None and not self._lock.is_there:  # another process could take the same lock
            self._release()
            self._lock = None
            self._begin(OSError(errno.ENOENT, "the data directory was removed", self._dir))
            self._settle_in()
        if self._shelter.active:
            self._try_disk()
        super().sync()

    def _begin(self, error: OSError) -> None:
        """Have new segments in memory from now on."""
        self._shelter.active = True
        state = _STATE.get(error.errno or 0, FAILING)
        self.error = (error.strerror or str(error)).lower()
        if state != self.state:
            self.state = state
            self._report("sheltered", state=state, error=str(error))

    def _settle_in(self) -> None:
        self.log.segment_size = min(self.limits.sealed_at, self._shelter.memory.capacity // SEGMENTS)
        self.log.leave(lambda: setattr(self._shelter, "active", True), in_memory=True)

    def _try_disk(self) -> None:
        """Continue on the disk, if it is well."""
        try:
            self._take_again()
            if self._shelter.blind:
                return
            if not self._room.is_above_floor():
                raise OSError(errno.ENOSPC, "less than buffer.min_free_space is free")
            self._shelter.probe(f"{self._dir}/segments")
            self.log.segment_size = self.limits.sealed_at
            self.log.leave(lambda: setattr(self._shelter, "active", False), in_memory=False)
            self._shelter.settle_down()
        except (OSError, BufferInUse) as error:
            self._begin(error if isinstance(error, OSError) else OSError(errno.EBUSY, str(error)))
            self._settle_in()
        else:
            self.state, self.error = OK, ""
            self._report("unsheltered", samples=self.unbuffered)

    def _take_again(self) -> None:
        """Have the folders and the lock, and see whether the directory is one that may be used."""
        was_blind, self._shelter.blind = self._shelter.blind, False
        try:
            super()._take()
            if was_blind:
                found = segment.listing(self._shelter.real, f"{self._dir}/segments")
                cursors = [n for n in names(self._shelter.real, f"{self._dir}/cursors") if n.endswith(SUFFIX)]
                self.must_restart = was_blind = bool(found or cursors)
        finally:
            self._shelter.blind = was_blind

    def _make_room_in_memory(self) -> None:
        """Evict the oldest segments in memory, except the newest one, until the next record fits."""
        memory = self._shelter.memory
        while memory.used > memory.capacity - 2 * self.log.segment_size and len(memory.files) > 1:
            with self._room.lock:
                first = int(min(memory.files).rpartition("/")[2].removesuffix(segment.SUFFIX))
                end = min(each for each in self.log.sizes if each > first)
                for cursor in self.cursors.values():
                    cursor.skip(end, "evicted", first)
                self.log.drop(first)
            self._report("evicted", upto=end)
